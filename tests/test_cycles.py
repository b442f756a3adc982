"""What models cycles: against known rates, against the goldens, and piece by piece."""

import subprocess

import numpy as np
import pytest
from cycles import calls, goldens, inorder, loop, mca, measure, models, products, tables, trace
from cycles.cores import CORES
from emulation import layout
from icount.measure import CannotCountError

pytestmark = pytest.mark.static

GOLDENS = goldens.read()


@pytest.fixture(scope="module")
def llvm():
    """LLVM's programs, which set-up fetches on Debian."""
    try:
        mca.program("llvm-mca")
    except mca.MissingError as why:
        pytest.skip(str(why))


# What is known.


@pytest.mark.optional
@pytest.mark.parametrize(
    ("instruction", "macs", "rates"),
    [
        ("sdot v0.4s, v1.16b, v2.4b[1]", 16, {"Neoverse N1": 32, "Neoverse N2": 32, "Neoverse V1": 64, "Neoverse V2": 64, "Apple M1 model": 48, "Cortex-A55": 16}),
        ("smmla v0.4s, v1.16b, v2.16b", 32, {"Neoverse N2": 64, "Neoverse V1": 128, "Neoverse V2": 128}),
        ("smlal v0.4s, v1.4h, v2.h[0]", 4, {"Cortex-A72": 4, "Cortex-A53": 4}),
    ],
)  # fmt: skip
def test_independent_products_take_what_guides_say(instruction, macs, rates, llvm):
    assert products.macs(instruction) == macs
    alone = products.independent([instruction] * 48)
    for core, rate in rates.items():
        [turn] = models.repeated([alone], CORES[core])
        assert len(alone) * macs / turn.cycles == pytest.approx(rate, rel=goldens.TOLERANCE), core


@pytest.mark.optional
def test_main_loops_take_what_the_goldens_say(llvm):
    assert goldens.compare({"loops": measure.loops()}, {"loops": GOLDENS["loops"]}) == []


@pytest.mark.optional
def test_products_that_wait_for_each_other_take_longer(llvm):
    chain = ["sdot v0.4s, v1.16b, v2.16b"] * 10
    alone = products.independent(chain)
    waiting, free = models.repeated([chain, alone], CORES["Neoverse N1"])
    assert (waiting.cycles / len(chain), free.cycles / len(alone)) == (pytest.approx(2), pytest.approx(0.5))


@pytest.mark.optional
def test_artefacts_are_put_right(llvm):
    """Calls that are no calls, and bases that do not wait for what is loaded."""
    for core in ("Cortex-A72", "Neoverse N2", "Apple M1 model"):
        called, *moved = models.repeated(
            [["bl #4"], ["ldr q0, [x0], #16"], ["ld1 { v0.16b, v1.16b }, [x0], #32"]], CORES[core]
        )
        assert called.cycles <= 2
        assert max(turn.cycles for turn in moved) <= 2


# The goldens.


def test_every_entry_and_every_call_has_its_goldens():
    assert list(GOLDENS["loops"]) == goldens.ENTRIES
    wanted = {f"{form} {goldens.chosen(core)} {shape}" for form, shape in goldens.FORMS for core in CORES.values()}
    assert set(GOLDENS["calls"]) == wanted


def test_the_page_shows_the_goldens():
    text = tables.PAGE.read_text(encoding="utf-8")
    for piece in tables.pieces(GOLDENS):
        assert f"\n{piece}\n" in text


def test_the_kernel_of_a_core_is_the_fastest_there():
    for name, core in CORES.items():
        rates = {
            entry: row["macs"] / row["cycles"][name] for entry, row in GOLDENS["loops"].items() if name in row["cycles"]
        }
        assert rates[goldens.chosen(core)] == max(rates.values()), name


def test_whole_calls_come_near_their_main_loops():
    for name, core in CORES.items():
        kernel = goldens.chosen(core)
        row = GOLDENS["loops"][kernel]
        call = 512**3 / GOLDENS["calls"][f"matmul {kernel} 512x512x512"]["cycles"][name]
        assert 0.85 * row["macs"] / row["cycles"][name] < call < row["macs"] / row["cycles"][name], name


def test_comparison_reports_what_differs():
    kept = {"loops": {"a": {"macs": 8, "cycles": {"X": 100.0, "Y": 5.0}}}}
    assert goldens.compare({"loops": {"a": {"macs": 8, "cycles": {"X": 101.9, "Y": 5.0}}}}, kept) == []
    lines = goldens.compare({"loops": {"a": {"macs": 8, "cycles": {"X": 103.0, "Z": 5.0}}}}, kept)
    assert [line.partition(": ")[0] for line in lines] == [f"loops, a, cycles, {core}" for core in "XYZ"]
    assert "+3.0% against the golden 100.0" in lines[0]


def test_new_goldens_keep_what_holds():
    kept = {"a": {"X": 100.0, "Y": 5.0}, "gone": {"X": 1.0}}
    assert goldens.renewed({"a": {"X": 101.9, "Y": 6.0}, "new": {"X": 2.0}}, kept) == {
        "a": {"X": 100.0, "Y": 6.0},
        "new": {"X": 2.0},
    }


# The main loop of an entry.


def code(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


LOOPS = code(
    """
    mov x1, #4
    sdot v16.4s, v0.16b, v4.16b
    sdot v17.4s, v0.16b, v5.16b
    subs x2, x2, #1
    b.gt #-12
    sdot v16.4s, v0.16b, v4.16b
    sdot v16.4s, v0.16b, v4.16b
    sdot v16.4s, v0.16b, v4.16b
    cbnz x3, #-12
    tbnz w4, #3, #-32
    ldr w5, [x6], #4
    cbz x5, #8
    b #-8
    """
)


def test_loops_are_those_that_hold_no_other():
    found = loop.loops(LOOPS)
    assert [(each.offset, len(each.instructions), each.macs, each.sums) for each in found] == [
        (4, 4, 32, 2),
        (20, 4, 48, 1),
        (40, 3, 0, 0),
    ]


@pytest.fixture
def object_file(llvm, tmp_path):
    """What an assembler makes of text."""

    def make(text: str) -> str:
        path = tmp_path / "entries.o"
        command = [mca.program("llvm-mc"), "-triple=aarch64", "-mattr=+all", "-filetype=obj", "-o", str(path)]
        subprocess.run(command, input=text, text=True, check=True)
        return str(path)

    return make


LABELS = ("first", "entry", "last")
ENTRY = "{0}:\n mov x9, #8\nloop_of_{0}: sdot v16.4s, v0.16b, v4.16b\n sdot v17.4s, v0.16b, v5.16b\n subs x9, x9, #1\n b.ne loop_of_{0}\n ret\n"


@pytest.mark.optional
@pytest.mark.parametrize("sized", [True, False])
def test_an_entry_is_found_in_any_object(sized, object_file):
    """With and without a size, which people forget; what follows the entry is none of its loops."""
    text = "".join(
        f".globl {label}\n{ENTRY.format(label)}" + sized * f".size {label}, . - {label}\n" for label in LABELS
    )
    path = object_file(text.replace("v17", "v16", 1))
    turn = loop.measure(path, "entry", {"N1": CORES["Neoverse N1"]})["N1"]
    assert (turn.instructions, turn.macs) == (4, 32)
    assert len(loop.words(path, "entry")) == 6
    # Two sums, each of which waits for two cycles, keep the two ports busy for half of the time.
    assert (turn.cycles, turn.limit, turn.share) == (pytest.approx(2), pytest.approx(32), pytest.approx(0.5))
    assert sorted(turn.ports.values())[-2:] == [pytest.approx(1), pytest.approx(1)]
    assert loop.main_loop(path, "first").sums == 1


@pytest.mark.optional
def test_what_has_no_main_loop_is_an_error(object_file):
    path = object_file(f".globl entry\n{ENTRY.format('entry')}.globl other\nother: mov x0, #1\n ret\n")
    with pytest.raises(LookupError, match="has no entry 'missing'"):
        loop.measure(path, "missing")
    with pytest.raises(LookupError, match=r"other of .* has no loop that makes products"):
        loop.measure(path, "other")


@pytest.mark.parametrize(
    ("instruction", "macs"),
    [
        ("usdot v0.4s, v1.16b, v2.4b[3]", 16),
        ("sdot v0.2s, v1.8b, v2.8b", 8),
        ("ummla v0.4s, v1.16b, v2.16b", 32),
        ("smull2 v0.8h, v1.16b, v2.16b", 8),
        ("smlsl v0.8h, v1.8b, v2.8b", 8),
        ("mla v0.8h, v1.8h, v2.8h", 8),
        ("sadalp v0.4s, v1.8h", 0),
        ("fmla v0.4s, v1.4s, v2.4s", 0),
        ("mul x0, x1, x2", 0),
    ],
)
def test_products_of_an_instruction(instruction, macs):
    assert products.macs(instruction) == macs


def test_independent_products_wait_for_nothing():
    kept = products.independent(["ldr q0, [x0]", "smull v0.8h, v17.8b, v2.8b", "sadalp v16.4s, v0.8h"])
    assert kept[:2] == ["smull v8.8h, v1.8b, v2.8b", "sadalp v9.4s, v0.8h"]
    assert [each.split(".")[0] for each in kept] == [("smull v", "sadalp v")[i % 2] + str(8 + i) for i in range(24)]


def test_what_the_models_see_of_an_instruction():
    assert mca.plain("ldr q0, [x1], #16") == ["ldr q0, [x1]", "add x1, x1, #16"]
    assert mca.plain("ld1 { v0.16b }, [x1], x2") == ["ld1 { v0.16b }, [x1]", "add x1, x1, x2"]
    assert mca.plain("stp x29, x30, [sp, #-32]!") == ["sub sp, sp, #32", "stp x29, x30, [sp]"]
    assert mca.plain("ldr q0, [x1, #16]") == ["ldr q0, [x1, #16]"]
    assert [mca.plain(each) for each in ("bl #8", "blr x3", "ret", "bti c", "")] == [
        ["b #8"],
        ["br x3"],
        ["br x30"],
        ["nop"],
        ["nop"],
    ]


# The rules for in-order cores.


@pytest.mark.parametrize(
    ("text", "a53", "a55"),
    [
        ("sdot v16.4s, v0.16b, v1.16b\n sdot v17.4s, v0.16b, v1.16b", 2, 2),  # one vector operation a cycle
        ("add x0, x0, #1\n add x1, x1, #1\n add x2, x2, #1\n add x3, x3, #1", 2, 2),  # two instructions a cycle
        ("ldr q0, [x0]\n smlal v16.4s, v2.4h, v1.4h", 3, 3),  # 128 bits: two cycles, and nothing beside them
        ("ldr d0, [x0]\n smlal v16.4s, v2.4h, v1.4h", 2, 1),  # 64 bits: beside a product on A55
        ("ldr x1, [x0]\n smlal v16.4s, v2.4h, v1.4h", 1, 1),
        ("mov v0.d[1], x1\n smlal v16.4s, v2.4h, v1.4h", 2, 1),
        ("ldr x1, [x0]\n ldr x2, [x0]", 2, 2),  # one access a cycle
        ("ldr d0, [x0]\n smlal v16.4s, v0.4h, v1.4h", 4, 4),  # a load takes three cycles to what waits for it
        ("smlal v16.4s, v0.4h, v1.4h\n smlal v16.4s, v0.4h, v1.4h", 2, 2),  # sums are passed on
        ("smull v16.4s, v0.4h, v1.4h\n sadalp v17.2d, v16.4s", 5, 5),  # anything else waits for four cycles
        ("subs x0, x0, #1\n b.ne #-4", 2, 2),
        ("ldr x0, [x1], #8\n add x1, x1, #8", 2, 2),  # a base is there in the next cycle
        ("prfm pldl1keep, [x0]\n ldr x1, [x0]", 2, 2),
    ],
)
def test_what_issues_beside_what(text, a53, a55):
    times = [inorder.times([code(text)], model, None, 1)[0].cycles for model in ("a53", "a55")]
    assert times == [a53, a55]


# Whole calls.


def test_stretches_repeat_as_tiles_do():
    """Tiles of a loop and an edge, after a beginning of any length, become one stretch that counts as often as there are tiles."""
    blocks = {0: (0,) * 100, 1: (1,) * 74, 2: (2,) * 80}
    for beginning in (0, 3, 11):
        order = [0] * beginning + ([1] * 12 + [2]) * 50
        ran = trace.Trace(blocks, np.array(order, np.uint32))
        found = trace.stretches(ran)
        count = {stretch: often for (_, stretch), often in found.items() if often > 2}
        assert sum(count.values()) >= 47
        assert len(count) == 1
        lengths = (often * sum(len(blocks[each]) for each in stretch) for (_, stretch), often in found.items())
        assert sum(lengths) == ran.instructions == 100 * beginning + 50 * (12 * 74 + 80)


def test_a_long_loop_is_cut_in_its_midst():
    ran = trace.Trace({5: (0,) * 64}, np.full(1000, 5, np.uint32))
    assert max(len(stretch) for _, stretch in trace.stretches(ran)) * 64 <= trace.MOST + 64


@pytest.mark.optional
def test_a_call_is_traced_from_marker_to_marker(llvm):
    """A program of a known loop; what it takes by the rules is what it must take at least."""
    program = "import os\nos.getppid()\nsum(range(10))\nos.getppid()\nos.getppid()\nsum(range(20000))\nos.getppid()\n"
    try:
        found = calls.measure(["-c", program], layout.MODELS[0].cpu, {"A53": CORES["Cortex-A53"]})
    except CannotCountError as why:
        pytest.skip(str(why))
    assert 20_000 * 20 < found.instructions < 20_000 * 400
    assert found.instructions / 2 <= found.cycles["A53"] < 3 * found.instructions
