"""The prover: the claims of `tests/proof` about the linked library, after it is shown to refuse what is wrong."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from emulation import layout
from proof import (
    cosimulation,
    elementwise,
    expressions,
    keeping,
    model,
    mutants,
    numbers,
    products,
    programs,
    prover,
    report,
    terms,
)
from proof.claim import Call
from proof.claims import CLAIMS, UNPROVEN, UNTAKEN
from proof.evaluate import Values
from proof.image import Entry, decode, entries
from proof.terms import ProofError
from support.fused import rounded

import build
from pyint8dot.engine import library
from pyint8dot.fuse import RoundingPolicy

pytestmark = pytest.mark.static


@pytest.fixture(autouse=True, scope="module")
def _library():
    """The ELF library, brought up to date where this host has a toolchain for it."""
    if build.build(build.PRODUCT, "linux-aarch64") is None:
        pytest.skip(build.no_toolchain("linux-aarch64"))


#: Mutants of an entry that `make test` tries; `make prove` tries more of them on more shapes.
SOME = 8

SHAPE = products.Shape(5, 9, 32)


def test_every_entry_is_claimed_or_said_not_to_be():
    assert sorted([*CLAIMS, *UNPROVEN]) == sorted(library.ENTRIES)
    assert all(UNPROVEN.values())


@pytest.mark.parametrize("name", CLAIMS)
def test_entry_is_proven(name):
    """For the shapes of a quick run; they take every instruction of the entry."""
    untaken = prover.kept(name, full=False).untaken(entries()[name])
    assert len(untaken) == UNTAKEN.get(name, (0, ""))[0], untaken


@pytest.mark.parametrize("name", CLAIMS)
def test_mutants_are_refused(name):
    """Some mutants of each entry; those that are not refused meet every claim at every shape, which `make prove` looks at."""
    judge = mutants.Judge(name, full=False)
    chosen = mutants.sample(entries()[name], SOME, seed=1)
    refused = [mutant for mutant in chosen if judge.verdict(mutant)]
    assert len(chosen) == SOME
    assert len(refused) >= SOME - 2


@pytest.mark.parametrize("name", [*CLAIMS, *UNPROVEN])
def test_status_is_known_without_proving(name):
    status = report.status(name)
    assert bool(status.unproven) == (name in UNPROVEN)
    assert status.unproven or status.shapes >= sum(status.beyond.values()) + 12
    assert (status.unproven or f"{status.shapes:,} shapes") in status.words


def test_kinds_of_arguments_are_looked_at():
    """A kind that is not taken off is looked at for ever."""
    shape = programs.Shape((programs.one_kind(1, 4),))
    programs.prove(entries()["run"], shape)
    wrong = changed("run", "bic", 0, mutants.NOP)
    with pytest.raises(ProofError):
        programs.prove(wrong, shape)


def test_a_score_that_is_kept_elsewhere_is_refused():
    """Each score where the row has kept none yet: right for the first one, and for none if any may have been kept."""
    entry = entries()["keep_above"]
    wrong = [each for each in mutants.mutants(entry) if each.was.startswith("add x15, x15, #1") and each.now == "nop"]
    with pytest.raises(ProofError, match="what a row has kept"):
        keeping.prove(wrong[0].entry, keeping.Shape(1, 17))


def changed(name, mnemonic, number, word):
    """An entry whose instruction of that mnemonic and number is another one."""
    entry = entries()[name]
    at = [i.address - entry.address for i in decode(entry) if i.mnemonic == mnemonic][number]
    return entry._replace(code=entry.code[:at] + word.to_bytes(4, "little") + entry.code[at + 4 :])


#: Words for AArch64: what a kernel may do wrong with a stack and a register that are not its own, and what the prover says to it.
TRESPASSES = {
    "x18 is not given back": (0xAA0003F2,),  # mov x18, x0
    "a stack pointer that is no multiple of 16": (0xF81F8FE1, 0xF84087E1),  # str x1, [sp, #-8]! and ldr x1, [sp], #8
    "below the stack pointer is reached, by 16": (0xA93F0BE1, 0xA97F0BE1),  # stp x1, x2, [sp, #-16] and ldp from there
    "below the stack pointer is reached, by 32": (0xD10083F0, 0xA9000A01),  # sub x16, sp, #32 and stp x1, x2, [x16]
}


@pytest.mark.parametrize("said", TRESPASSES)
def test_what_is_not_its_own_is_refused(said):
    entry = entries()["sdot_8x8"]
    words = b"".join(word.to_bytes(4, "little") for word in TRESPASSES[said])
    # A whole call after them, so that nothing else is wrong.
    wrong = entry._replace(code=words + entry.code, address=entry.address - len(words))
    with pytest.raises(ProofError, match=said):
        products.prove(wrong, products.Shape(1, 1, 4))
    products.prove(entry, products.Shape(1, 1, 4))


def test_a_lane_of_a_product_that_is_another_is_named():
    entry = entries()["sdot_8x8"]
    wrong = next(mutant for mutant in mutants.mutants(entry) if mutant.kind == "lane")
    judge = mutants.Judge("sdot_8x8", full=False)
    assert "C[" in judge.verdict(wrong)
    assert "A[" in judge.verdict(wrong)


def test_sums_of_two_products_without_the_complement_leave_their_range():
    """The same kernel on operands neither of which is complemented, multiplied by SMLAL: 2^15 does not fit 16 bits."""
    entry = entries()["smull_4x4"]
    code = bytearray(entry.code)
    for at in range(0, len(code), 4):
        word = int.from_bytes(code[at : at + 4], "little")
        # SMLSL and SMLSL2 with 16-bit lanes become SMLAL and SMLAL2.
        if word & 0xBFE0FC00 == 0x0E20A000:
            code[at : at + 4] = (word ^ 1 << 13).to_bytes(4, "little")
    assert bytes(code) != entry.code
    with pytest.raises(terms.RangeError, match=r"-32512 and 32768, beyond -32768 \.\. 32767") as refused:
        products.prove(entry._replace(code=bytes(code)), products.Shape(4, 4, 16))
    assert "it is 32768 where A[0, 0] = -128" in str(refused.value)


@pytest.mark.parametrize("name", products.KERNELS)
def test_what_goes_wrong_beyond_the_listed_depths_is_refused(name):
    """Turns counted by some of their lowest bits: right until there are hundreds, and no less a number that no branch is decided by."""
    entry = entries()[name]
    wrapping = [mutant for mutant in mutants.mutants(entry) if mutant.was.startswith("lsr") and "ubfx" in mutant.now]
    assert wrapping
    shapes = list(products.shapes(name, full=False))
    for mutant in wrapping:
        reach = prover.kept(name, full=False).reach(mutant.at)
        for shape in [shapes[i] for i in reach if not shapes[i].more][:5]:
            products.prove(mutant.entry, shape)
        beyond = next(shapes[i] for i in reach if "k" in shapes[i].more)
        with pytest.raises(ProofError):
            products.prove(mutant.entry, beyond)


#: ldp x1, x2, [x0]; ldr x3, [x0, #16]; movi v0.8h, #0; then for each of x2 turns ldr d1, [x1], #8; smlal v0.8h, v1.8b, v1.8b;
#: subs x2, x2, #1; b.ne; at last saddlp v0.4s, v0.8h; str q0, [x3]; ret.
SUMS = (
    0xA9400801, 0xF9400803, 0x4F008400, 0xFC408421, 0x0E218020, 0xF1000442, 0x54FFFFA1, 0x4E602800, 0x3D800060, 0xD65F03C0
)  # fmt: skip


def test_sums_in_16_bits_that_no_turn_empties_are_refused():
    """With the bound that they reach after all turns, and operands that reach it."""
    call = Call(Entry("sums", 0x1000, struct.pack("<10I", *SUMS), ()))
    turns = 1 + numbers.parameter("n", 0, 1000)
    x = call.plane("x", (1, 8 * turns), 1, lambda _, j: terms.signed_input("x", 1, j))
    with pytest.raises(
        terms.RangeError, match=r"may lie between 0 and 16400384, beyond -32768 \.\. 32767.*it is"
    ) as refused:
        call.run([x.address, turns, call.region("y").takes(16).address])
    assert "saddlp" in str(refused.value)


class TestNumbers:
    """Sizes that are any, and what is known of them."""

    @pytest.fixture(autouse=True)
    def _forget(self):
        numbers.forget()

    def test_what_holds_for_all_is_known(self):
        n = numbers.parameter("n", 0, 99)
        t = numbers.parameter("t", 0, n - 1)
        assert numbers.sign(n - t) == 1
        assert numbers.sign(3 * t - 3 * n + 2) == -1
        assert (8 * n + 13 >> 3, 8 * n + 13 & 7, ~(8 * n) & 7) == (n + 1, 5, 7)
        assert numbers.most(n * 2 + t) == 99 * 2 + 98

    def test_what_depends_on_them_is_said_to(self):
        n = numbers.parameter("n", 0, 99)
        free = numbers.parameter("distance")
        for unknown in (n, n - 1, n - free):
            with pytest.raises(numbers.UndecidedError):
                numbers.sign(unknown)
        with pytest.raises(numbers.UndecidedError):
            n >> 1


def test_a_read_outside_an_operand_is_refused(monkeypatch):
    """C of a shape that its operands are too short for."""
    panels = products._panels
    monkeypatch.setattr(products, "_panels", lambda *arguments: panels(*arguments)[:-1])
    with pytest.raises(ProofError, match="outside what may be read"):
        products.prove(entries()["sdot_8x8"], SHAPE)


def test_a_register_that_is_not_given_back_is_refused():
    with pytest.raises(ProofError, match="d14 is not given back"):
        products.prove(changed("smull_4x4", "ldp", -4, mutants.NOP), products.Shape(5, 5, 16))


def test_an_address_that_depends_on_data_is_refused():
    """Without the load of an address its register holds what no number is known of."""
    with pytest.raises(ProofError, match="depends on data"):
        products.prove(changed("sdot_8x8", "ldp", 3, mutants.NOP), SHAPE)


def test_what_is_proven_is_kept_until_something_changes(tmp_path):
    first = prover.kept("sdot_4x1", full=False, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    assert prover.kept("sdot_4x1", full=False, folder=tmp_path).seconds == first.seconds
    file.write_text(file.read_text().replace('"digest": "', '"digest": "-'))
    assert prover.kept("sdot_4x1", full=False, folder=tmp_path).shapes == first.shapes
    assert '"digest": "-' not in file.read_text()


@pytest.mark.parametrize("policy", RoundingPolicy)
def test_what_settles_ties_rounds_to_nearest(policy):
    """The term that the claim about `q_scale` has, evaluated for every remainder and sign, both parities of the quotient."""
    for shift in (1, 2, 5):
        for number in range(-(5 << shift), 5 << shift):
            terms.forget()
            product = terms.signed_input("product", 8)
            term = terms.operation("srshl", 8, elementwise.settled(product, shift, policy.value), -shift % 256)
            found = Values({("product", ()): number}).lane(term, 8)
            assert found == rounded(Fraction(number, 1 << shift), policy) % 2**64


@pytest.mark.parametrize(("unsigned", "dtype"), [(0, np.int8), (1, np.uint8)])
def test_what_rounds_by_a_sum_rounds_to_nearest(unsigned, dtype):
    """The term that the claim about `requantize` has is a code as it should be for every float32.

    Both do not fall as x rises, so they are equal everywhere if they are around each x where the definition rises, and at the ends.
    """
    steps = np.arange(-400, 400, dtype=np.float32) + np.float32(0.5)
    ends = np.float32([-np.inf, -3e38, -(2**31), -(2**24), -expressions.MAGIC, -(2**23), -1, 0])
    x = np.concatenate(
        [np.nextafter(steps, np.float32(-np.inf)), steps, np.nextafter(steps, np.float32(np.inf)), ends, -ends]
    )
    x.sort()
    for zero_point in elementwise.ZERO_POINTS[unsigned]:
        terms.forget()
        term = expressions.code_by_sum(terms.signed_input("x", 4), zero_point, unsigned)
        found = [Values({("x", ()): int(value)}).lane(term, 1) for value in x.view(np.int32)]
        limits = np.iinfo(dtype)
        want = np.clip(np.rint(x.astype(np.float64)) + zero_point, limits.min, limits.max).astype(dtype)
        np.testing.assert_array_equal(np.uint8(found).view(dtype), want)
        assert (np.diff(want.astype(int)) >= 0).all()


@pytest.mark.skipif(not layout.PYTHON.exists(), reason="there is no AArch64 Python: `make setup` leaves one")
class TestModel:
    """The model of the instructions against the machine that the suite runs on."""

    def test_every_form_does_what_the_machine_does(self, request):
        compared, problems = cosimulation.compare(count=4, seed=request.config.option.seed, most=2)
        assert problems == []
        modelled = {
            instruction.mnemonic
            for entry in entries().values()
            for instruction in decode(entry)
            if model.function(instruction.mnemonic, instruction.operands) is not model.unknown
        }
        assert modelled - {sample.mnemonic for sample in compared} == set(cosimulation.LEFT_OUT) - {"nop"}

    def test_a_wrong_model_differs(self, monkeypatch):
        """A lane more or less, where the sums of an SDOT go."""
        right = model.VECTOR["sdot"]
        monkeypatch.setitem(
            model.VECTOR, "sdot", lambda s, d, n, m: right(s, d, n, m._replace(lane=m.lane and m.lane - 1))
        )
        _, problems = cosimulation.compare(count=8, seed=1, only="sdot")
        assert problems
