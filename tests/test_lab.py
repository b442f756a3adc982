"""The laboratory: rows inferred from contracts, the worked example, and what is said of a kernel that is wrong."""

from __future__ import annotations

import ctypes
import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from cycles import mca
from emulation import layout
from icount import calls
from lab import contract, counted, model, plots, room, trial
from lab import page as pages
from support import banner, child, entry, gemm, rows, shapes

import build
from pyint8dot.engine import library
from pyint8dot.engine.layouts import RowMajor

EXAMPLE = layout.CHECKOUT / "tests" / "lab" / "example_sdot_4x8.S"
NEW_KERNEL = layout.CHECKOUT / "tests" / "support" / "new_kernel" / "smull_6x4.S"
#: What the example needs is what this kernel needs: where the one runs, the other does.
LIKE = "sdot_8x8"


# Rows from contracts.


@pytest.mark.static
@pytest.mark.parametrize("name", [row.name for row in (*rows.NATIVE, *rows.FEW)])
def test_the_row_of_a_contract_is_that_of_the_table(name):
    found = contract.read(entry.sources()[name])
    assert contract.differences(found.row) == []
    assert entry.feature(name) in found.row.features


@pytest.mark.static
def test_a_row_that_is_another_is_told():
    row = contract.read(entry.sources()["sdot_8x8"]).row
    wrong = type(row)("sdot_8x8", 8, 4, row.left, RowMajor(), frozenset({"i8mm"}), "")
    assert contract.differences(wrong) == [
        "nr is 4 by the contract, 8 in the table",
        "right layout is RowMajor by the contract, PackedI8K4(8) in the table",
        "the contract needs ['i8mm'], the table has ['dotprod']",
    ]


@pytest.mark.static
def test_the_row_of_the_example():
    found = contract.read(EXAMPLE)
    row = found.row
    assert (row.mr, row.nr, row.features, row.packs_left) == (4, 8, {"dotprod"}, True)
    assert (row.left.name, row.left.split, row.right.name) == ("PackedI8K4(4)", True, "PackedI8K4(8)")
    assert [panel.name for panel in found.unmade] == ["PackedI8K4(4)"]
    assert "layouts.PackedI8K4(4, split=True)," in contract.proposed(found)


WRONG = {
    "Tile:       4 x 8": ("Tile:       4 by 8", "Tile is '4 by 8': it must be rows x columns"),
    "FEAT_DotProd": ("FEAT_Dot", "Requires is 'FEAT_Dot': it must be one of"),
    "PackedI8K4(4) and": ("PackedI8K4(2) and", r"panels of A must be as high"),
    "and PackedI8K4(8), K group 4": ("and PackedI8K8(8), K group 4", "PackedI8K8 has K groups of 8"),
    "then of 2, 1 as m % 4 has bits": ("as many as there are", "the argument a is .* it must say"),
    "exact for k <= 131071": ("exact", "Bound is .* it must say"),
    " * Over-read:  none\n": ("", "the keys are .* they must be"),
    "Kernel:     example_sdot_4x8": ("Kernel:     sdot_4x8", "it must have the file's name"),
}


@pytest.mark.static
@pytest.mark.parametrize("right", WRONG)
def test_a_contract_without_a_row_says_what_is_wanted(tmp_path, right):
    wrong, said = WRONG[right]
    with pytest.raises(contract.ContractError, match=said):
        contract.read(changed(tmp_path, right, wrong))


def changed(folder: Path, right: str, wrong: str, times: int = 1) -> Path:
    """The example with one thing that is another."""
    text = EXAMPLE.read_text()
    assert text.count(right) == times
    path = folder / EXAMPLE.name
    path.write_text(text.replace(right, wrong))
    return path


# The laboratory as a program, which enters rows that no other test may see.


def lab(folder: Path, kernel: Path, *steps: str) -> tuple[int, str, str]:
    """Run steps of the laboratory on a kernel: exit status, what it printed, its page."""
    written = folder / "page.html"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(layout.CHECKOUT), str(layout.CHECKOUT / "tests")])}
    done = subprocess.run(
        [sys.executable, "-m", "lab", str(kernel), "--quick", "--room", str(folder), "--page", str(written), "--steps", *steps],
        capture_output=True, text=True, check=False, cwd=layout.CHECKOUT, env=environment, timeout=600,
    )  # fmt: skip
    assert written.is_file(), done.stdout + done.stderr
    return done.returncode, done.stdout, written.read_text(encoding="utf-8")


def pictures(page: str) -> list[ET.Element]:
    """The pictures of a page, which are well-formed."""
    return [ET.fromstring(found) for found in re.findall(r"<svg .*?</svg>", page, re.DOTALL)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder for trials of the example itself, so that all entries are built once."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture
def toolchain():
    """The prover, and what assembles for it."""
    for package in ("capstone", "elftools"):
        pytest.importorskip(package, reason=f"the built library is read with {package}")
    if build.find_compiler("linux-aarch64") is None:
        pytest.skip(build.no_toolchain("linux-aarch64"))


@pytest.mark.static
@pytest.mark.usefixtures("toolchain")
def test_the_example_holds(shared):
    """Contract, assembler, the suite's rules, proof and mutants; its page needs nothing beside it."""
    status, said, page = lab(shared, EXAMPLE, "contract", "assembler", "rules", "proof", "mutants")
    assert status == 0, said
    assert re.findall(r"^(\w+) +passed ", said, re.MULTILINE) == ["contract", "assembler", "rules", "proof", "mutants"]
    assert not re.search(r"<(script|link|img|iframe)|(src|href)=|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    (tile,) = pictures(page)
    assert [text.text for text in tile.iter() if text.text and re.fullmatch(r"v\d+", text.text)] == [
        f"v{number}" for number in range(16, 24)
    ]


@pytest.mark.static
@pytest.mark.usefixtures("toolchain")
def test_a_flipped_lane_is_found_where_it_is(tmp_path):
    """The fourth row takes the third one's lane of A: the page has kernel, shape, element, lane and both polynomials."""
    path = changed(tmp_path, "dot     22, 23, \\a, 3,", "dot     22, 23, \\a, 2,")
    status, said, page = lab(tmp_path, path, "contract", "assembler", "proof", "mutants")
    assert status == 1
    assert re.search(r"^proof +FAILED ", said, re.MULTILINE)
    assert re.search(r"^mutants +not run ", said, re.MULTILINE)
    text = html.unescape(re.sub(r"<[^>]+>", "", page.replace("</dt>", ": ").replace("</dd>", "\n")))
    fields = dict(re.findall(r"^\s*([a-z ]+): (.*)$", text[text.index("kernel: ") :], re.MULTILINE))
    assert fields["kernel"] == "example_sdot_4x8"
    m, n, k = map(int, re.match(r"m=(\d+), n=(\d+), k=(\d+), start values of ", fields["shape"]).groups())
    assert (m & 4, n, k) == (4, 1, 4)
    assert fields["element"] == "C[3][0]"
    assert re.fullmatch(r"lane 0 of v22, stored by str s22, \[x16\] at \+0x[0-9a-f]+", fields["lane"])
    assert "B[0, 0] * A[2, 0]" in fields["polynomial found"]
    assert "B[0, 0] * A[3, 0]" in fields["polynomial wanted"]
    assert fields["it has too much"] == " + ".join(f"B[{k}, 0] * A[2, {k}]" for k in range(4))
    assert fields["it lacks"] == " + ".join(f"B[{k}, 0] * A[3, {k}]" for k in range(4))
    assert fields["kernel"] in said
    assert any(f"1 wrong elements of {m} x 1" in picture.get("aria-label", "") for picture in pictures(page))


@pytest.mark.static
@pytest.mark.usefixtures("toolchain")
def test_a_read_too_far_is_found_where_it_is(tmp_path):
    """A row of one K group more than there are bytes."""
    path = changed(tmp_path, "ldr     s0, [a_ptr], #4", "ldr     d0, [a_ptr], #4")
    status, said, page = lab(tmp_path, path, "contract", "assembler", "proof")
    assert status == 1
    assert re.search(r"example_sdot_4x8 \+ 0x[0-9a-f]+, ldr d0, \[x10\], #4: a read of 8 bytes at a", said)
    assert "a read of 8 bytes at a" in page


@pytest.mark.static
@pytest.mark.usefixtures("toolchain")
def test_an_instruction_that_nobody_knows_is_no_crash(tmp_path):
    path = changed(
        tmp_path,
        "        lsr     groups, groups, #2\n",
        "        lsr     groups, groups, #2\n        prfm    pldl1keep, [a_base]\n",
    )
    status, said, _ = lab(tmp_path, path, "contract", "assembler", "proof", "mutants")
    assert status == 1
    assert "the prover cannot read an instruction: not an operand: 'pldl1keep'" in said
    assert re.search(r"^mutants +not run ", said, re.MULTILINE)


@pytest.mark.static
def test_a_suite_that_says_nothing_of_the_kernel_is_no_pass(monkeypatch):
    """The checker's tests alone passed, as where the processor lacks what the kernel needs."""

    def without(command, environment):
        outcomes = {"tests/test_abi.py::test_checker": {"outcome": "passed", "text": ""}}
        Path(environment["LAB_RECORD"]).write_text(json.dumps(outcomes))
        return ""

    on = trial.Trial(EXAMPLE, Path("nowhere"))
    on.found = contract.read(EXAMPLE)
    on.row = on.found.row
    monkeypatch.setattr(trial, "finished", without)
    with pytest.raises(trial.NotHereError, match="no test of the suite about it ran here"):
        trial.suite(on, trial.CALLS, Path(sys.executable))


@pytest.mark.static
def test_what_does_not_end_is_stopped(monkeypatch):
    """With the processes that it has started."""
    monkeypatch.setattr(trial, "PATIENCE", 0.5)
    with pytest.raises(trial.FailedError, match="does the kernel return"):
        trial.finished(["/bin/sh", "-c", "sleep 60 & sleep 60"], dict(os.environ))


@pytest.mark.static
@pytest.mark.usefixtures("toolchain")
def test_what_does_not_assemble_is_told_of_the_file_itself(tmp_path):
    path = changed(tmp_path, "ldr     s0, [a_ptr], #4", "ldr     t0, [a_ptr], #4")
    status, said, _ = lab(tmp_path, path, "contract", "assembler", "proof")
    assert status == 1
    assert re.search(rf"{re.escape(str(path))}:\d+: Error", said)
    assert re.search(r"^proof +not run .* the step assembler failed$", said, re.MULTILINE)


@pytest.mark.static
@pytest.mark.usefixtures("toolchain")
def test_packers_beside_a_kernel_are_part_of_the_trial(tmp_path):
    """Families of layouts that nobody knows, a last panel that is filled up, a tile that is no power of two."""
    status, said, _ = lab(tmp_path, NEW_KERNEL, "contract", "assembler", "proof")
    assert status == 0, said
    assert "6 x 4, RowsI8K2(6) by ColumnsI8K2(4), asimd" in said


@pytest.mark.static
@pytest.mark.usefixtures("toolchain")
@pytest.mark.skipif(not layout.PYTHON.exists(), reason="there is no AArch64 Python: `make setup` leaves one")
def test_a_count_is_that_of_the_proof(shared):
    """The emulator counts the instructions that the prover has walked over, and a few of what makes the call."""
    code = (
        "import sys; from pathlib import Path; from lab import contract, counted, proofs, room, trial; import build\n"
        "found, folder = contract.read(Path(sys.argv[1])), Path(sys.argv[2])\n"
        "room.furnish(found, folder); row = room.settle(found, folder); build.build(build.PRODUCT, trial.TARGET)\n"
        "entry = proofs.entry_of(build.build(room.alone(folder, row.name), trial.TARGET), row)\n"
        "print(proofs.steps(entry, 8, 8, 8), round(512 * counted.counted(found, row, folder, {}, ((8, 8, 8),)).entries[row.name][8, 8, 8]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(layout.CHECKOUT), str(layout.CHECKOUT / "tests")])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLE), str(shared / EXAMPLE.stem)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    steps, count = map(int, done.stdout.split())
    assert steps > 100
    assert abs(count - steps) <= 24


@pytest.mark.static
def test_a_machine_that_cannot_call_says_so(monkeypatch):
    on = trial.Trial(EXAMPLE, Path("nowhere"))
    on.found = contract.read(EXAMPLE)
    on.row = on.found.row
    monkeypatch.setattr(layout, "kind", lambda: "portable")
    (step,) = trial.run(on, {"calls": trial.watched})
    assert (step.verdict, on.failed) == ("not run", [])
    assert "there is no AArch64 Python" in step.said


@pytest.mark.static
@pytest.mark.usefixtures("toolchain")
def test_without_the_simulator_there_are_no_cycles_and_it_says_so(monkeypatch, tmp_path):
    """Neither of the loop nor of a call; the kernel is none the worse for it."""

    def missing(name):
        raise mca.MissingError(f"no {name}")

    monkeypatch.setattr(mca, "program", missing)
    found = contract.read(EXAMPLE)
    room.furnish(found, tmp_path)
    path = build.build(room.alone(tmp_path, found.row.name), trial.TARGET)
    with pytest.raises(model.CannotModelError, match="no llvm-mc"):
        model.loops(path, found.row)


@pytest.mark.static
@pytest.mark.parametrize(
    ("instruction", "size"),
    [
        ("ld1 { v0.16b, v1.16b, v2.16b, v3.16b }, [x10], #64", 64), ("ldp q0, q1, [x10], #32", 32), ("ldr s0, [x10], #4", 4),
        ("ld1r { v0.4s }, [x10], #4", 4), ("sdot v16.4s, v4.16b, v0.4b[0]", 0), ("stp q0, q1, [x13]", 0),
    ],
)  # fmt: skip
def test_bytes_of_a_load(instruction, size):
    assert model.loaded(instruction) == size


@pytest.mark.static
def test_rivals_are_of_the_same_feature():
    row = contract.read(EXAMPLE).row
    assert {entry.feature(each.name) for each in counted.rivals(row)} == {"dotprod"}
    assert LIKE in {each.name for each in counted.rivals(row)}


@pytest.mark.static
def test_points_are_where_their_numbers_are():
    """The shapes' lines have their points in order of their values, whatever the scale."""
    names = [str(shape) for shape in calls.SHAPES[:2]]
    drawn = ET.fromstring(plots.dots(names, {"one": [0.05, 0.1], "other": [0.2, None]}, "instructions"))
    spots = {each[0].text: float(each.get("cx")) for each in drawn.iter() if each.tag.endswith("circle")}
    assert sorted(spots, key=spots.get) == [
        f"one, {names[0]}: 0.05 instructions", f"one, {names[1]}: 0.1 instructions", f"other, {names[0]}: 0.2 instructions",
    ]  # fmt: skip


def circles(drawn: ET.Element) -> dict[str, tuple[float, float]]:
    """Where the points of a picture are, by their kernels."""
    return {
        each[0].text.partition(":")[0]: (float(each.get("cx")), float(each.get("cy")))
        for each in drawn.iter()
        if each.tag.endswith("circle")
    }


@pytest.mark.static
def test_a_roofline_has_what_reaches_the_limit_on_its_roof():
    """And what the loads hold back on its slope."""
    points = [plots.Dot("best", 4.0, 32.0), plots.Dot("held back", 0.5, 16.0), plots.Dot("slow", 4.0, 8.0)]
    drawn = ET.fromstring(plots.roofline("core", 32.0, 32.0, points))
    [roof] = [
        [tuple(map(float, point.split(","))) for point in each.get("points").split()]
        for each in drawn.iter()
        if each.get("stroke-width") == "2" and each.tag.endswith("polyline")
    ]
    found = circles(drawn)
    (x0, y0), (x1, y1), (_, y2) = roof
    assert y1 == y2 == found["best"][1] < found["slow"][1]
    x, y = found["held back"]
    assert x0 < x < x1
    assert y == pytest.approx(y0 + (y1 - y0) * (x - x0) / (x1 - x0), abs=0.1)


@pytest.mark.static
def test_a_page_has_the_figures_of_its_trial():
    on = trial.Trial(EXAMPLE, Path("nowhere"))
    on.found = contract.read(EXAMPLE)
    on.row = on.found.row
    values = {shape: 0.1 * (1 + number) for number, shape in enumerate(calls.SHAPES)}
    on.counts = counted.Counts({on.name: values, LIKE: values}, {})
    loop = model.Loop("Core <1>", 16.0, 44, 1024, 64.0, 48.0, 192, {"CoreUnitV0": 16.0, "CoreUnitL": 4.0})
    on.loops = {on.name: [loop], LIKE: [loop._replace(cycles=32.0)]}
    on.cycles = {on.name: [model.Whole(loop.core, counted.ALONE, model.SHAPE, 123456.0)]}
    written = pages.html(on)
    says = [picture.get("aria-label") for picture in pictures(written)]
    assert says == [
        "instructions a MAC by shape",
        "roofline of Core <1>: 64.0 of 64 multiply-accumulates a cycle",
        "port pressure on Core <1>",
    ]
    assert "<td>64.0 (100%)</td>" in written
    assert "<td>32.0 (50%)</td>" in written
    assert "cycles of the entry alone, 128x384x384" in written
    assert "<td>123,456</td>" in written
    assert ">V0</text>" in written
    assert ">25%</text>" in written
    assert "Whole calls wait for a packer of PackedI8K4(4)" in written


# The example on a processor.


@pytest.mark.native
@pytest.mark.parametrize("stem", [LIKE])
def test_the_example_computes_what_its_contract_says(checker, stem, rng, tmp_path):
    """With its registers, guard pages and canaries watched: every tile up to a whole one, and more of them."""
    found = contract.read(EXAMPLE)
    room.furnish(found, tmp_path)
    path = build.build(room.alone(tmp_path, found.row.name))
    if path is None:
        pytest.skip(build.no_toolchain(build.default_target()))
    function = getattr(ctypes.CDLL(str(path)), library.PREFIX + found.row.name)
    address = ctypes.cast(function, ctypes.c_void_p).value
    unused = sorted(banner.registers(found.contract["Unused"]) - {"x16", "x18", "x30"})
    assert contract.known(stem).features >= found.row.features

    def body(note):
        for shape in (*shapes.subtile(found.row), *shapes.edge(found.row)):
            note(f"{found.row.name} {shape}")
            a, b = (rng.integers(-128, 128, size, dtype="int8") for size in ((shape.m, shape.k), (shape.k, shape.n)))
            call = gemm.Call(found.row, a, b, padding=1)
            problems = checker.call(address, call.argument, unused=unused)
            problems += call.c.damage() + gemm.wrong_cells(call.result, call.want)
            assert not problems, f"{shape}: {problems}"

    child.check(body)
