"""The proof of a kernel on trial, and where it fails: the shape, the element, the lane that was stored there, and how its polynomial differs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from proof import image, mutants, products, prover, terms
from proof.claim import Call
from proof.claims import CLAIMS
from proof.image import Entry, Instruction
from proof.operands import V
from proof.products import Cell, Shape
from proof.terms import ProofError
from support import layouts

from pyint8dot.engine.kernels import Kernel


class Wrong(NamedTuple):
    """What a kernel made that it must not: an element of C, or what an instruction did."""

    kernel: str
    shape: Shape
    #: What is wrong in one sentence.
    what: str
    #: The element's row and column, or None where the call itself was refused.
    element: tuple[int, int] | None = None
    #: Which lane of which register was stored there, and by which instruction.
    lane: str = ""
    found: str = ""
    want: str = ""
    #: The terms that it has too much and those that it lacks.
    surplus: str = ""
    missing: str = ""
    #: Every wrong element of the shape.
    elements: tuple[tuple[int, int], ...] = ()


class Outcome(NamedTuple):
    """What came of all shapes."""

    proof: prover.Proof
    wrong: list[Wrong]
    #: Instructions that no shape takes, as text.
    untaken: list[str]
    #: Why its loops are not followed through any number of turns; nothing where they are.
    unfollowed: str = ""


class Watch:
    """Notes which instruction wrote each byte of memory."""

    def __call__(self, call: Call) -> None:
        self.state = call.state
        self.entry = call.entry
        self.writers: dict[int, tuple[int, int]] = {}
        self.last = (0, 0, 0)
        store = call.memory.store

        def noted(address: int, slots: Any) -> None:
            at, end, first = self.last
            # An instruction that stores two registers may do so in two steps.
            begin = first if (self.state.pc, address) == (at, end) else address
            self.last = (self.state.pc, address + len(slots), begin)
            self.writers.update(dict.fromkeys(range(address, address + len(slots)), (self.state.pc - 4, begin)))
            store(address, slots)

        call.memory.store = noted  # type: ignore[method-assign]

    def lane(self, address: int) -> str:
        """Which lane of which register was stored at an address, and by what."""
        if address not in self.writers:
            return "nothing was stored there"
        at, begin = self.writers[address]
        instruction = next(each for each in image.decode(self.entry) if each.address == at)
        where = f"`{instruction.mnemonic} {instruction.text}` at +{at - self.entry.address:#x}"
        registers = list(stored(instruction))
        offset = address - begin
        for register in registers:
            width = register.size * (1 if register.lane is not None else register.count)
            if offset < width:
                lane = register.lane if register.lane is not None else offset // 4
                return f"lane {lane} of v{register.number}, stored by {where}"
            offset -= width
        return f"stored by {where}"


def stored(instruction: Instruction) -> Iterator[V]:
    """The vector registers that an instruction stores, in their order."""
    for operand in instruction.operands:
        yield from (part for part in (operand if isinstance(operand, list) else [operand]) if isinstance(part, V))


def entry_of(path: Path, row: Kernel) -> Entry:
    """The entry of a kernel in a library; the prover is told its row and claim."""
    products.KERNELS[row.name] = row
    CLAIMS[row.name] = products
    image.entries.cache_clear()
    return image.entries(path)[row.name]


class Listed:
    """The claim about a kernel at the listed shapes alone, without those that stand for any size."""

    prove = staticmethod(products.prove)

    @staticmethod
    def shapes(name: str, *, full: bool) -> Iterator[Shape]:
        """The listed shapes."""
        return (shape for shape in products.shapes(name, full=full) if not shape.more)


def prove(entry: Entry, *, full: bool, most: int = 8) -> Outcome:
    """Prove a kernel shape by shape; where some are wrong go on until there are so many."""
    start = time.process_time()
    runs, wrong = [], []
    for shape in Listed.shapes(entry.name, full=full):
        watch = Watch()
        try:
            call, cells = products.called(entry, shape, watch)
        except ProofError as error:
            wrong.append(Wrong(entry.name, shape, str(error)))
        else:
            bad = [cell for cell in cells if not cell.right]
            if bad:
                wrong.append(differing(entry.name, shape, bad, watch))
            runs.append((call.state.steps, prover.spans(sorted(at - entry.address for at in call.state.seen))))
        if len(wrong) >= most:
            break
    CLAIMS[entry.name], unfollowed = Listed, ""
    if not wrong:
        # A loop that the prover cannot follow through any number of turns is no fault of the kernel.
        try:
            for shape in (shape for shape in products.shapes(entry.name, full=full) if shape.more):
                products.prove(entry, shape)
        except ProofError as error:
            unfollowed = str(error)
    proof = prover.Proof(round(time.process_time() - start, 1), runs)
    untaken = set(proof.untaken(entry)) if not wrong else set()
    return Outcome(
        proof,
        wrong,
        [f"+{i.address - entry.address:#x} {i.mnemonic} {i.text}" for i in image.decode(entry) if i.address - entry.address in untaken],
        unfollowed,
    )  # fmt: skip


def differing(name: str, shape: Shape, bad: list[Cell], watch: Watch) -> Wrong:
    """The first wrong element of a shape in words."""
    cell = bad[0]
    lane = watch.lane(cell.address)
    elements = tuple((each.row, each.column) for each in bad)
    want = terms.text(cell.want)
    if cell.found is None:
        return Wrong(
            name, shape, "an element was not written", (cell.row, cell.column), lane, "nothing", want, elements=elements
        )
    found, wanted = _terms(cell.found), _terms(cell.want)
    surplus, missing = ({key: value - other.get(key, 0) for key, value in one.items() if value != other.get(key, 0)}
                        for one, other in ((found, wanted), (wanted, found)))  # fmt: skip
    return Wrong(
        name, shape, f"{len(bad)} of {shape.m * shape.n} elements differ from the contract's polynomial", (cell.row, cell.column), lane,
        terms.text(cell.found), want, _said(surplus), _said(missing), elements,
    )  # fmt: skip


def _terms(lane: Any) -> dict[int, int]:
    """The terms of a lane by monomial, its constant by 0."""
    if not isinstance(lane, terms.Poly):
        return {0: lane}
    monomials = {key: value % 2**32 for key, value in lane.expand().items()}
    return {**monomials, 0: lane.const}


def _said(monomials: dict[int, int]) -> str:
    """Some terms in words."""
    const = monomials.pop(0, 0)
    return terms.text(terms.Poly(4, const, monomials)) if monomials or const else "none"


def smallest(wrong: list[Wrong]) -> Wrong:
    """Of what is wrong the smallest shape, which is the easiest to follow."""
    return min(wrong, key=lambda each: (each.element is None, each.shape.m * each.shape.n * max(each.shape.k, 1)))


def registers(entry: Entry, row: Kernel) -> list[list[str]]:
    """The lane that each element of a whole tile is stored from, such as v16.s[0]; nothing where the call is refused."""
    watch = Watch()
    try:
        _, cells = products.called(entry, Shape(row.mr, row.nr, row.right.kr), watch)
        found = {(cell.row, cell.column): watch.lane(cell.address) for cell in cells}
    except ProofError:
        return []
    lanes = {place: re.match(r"lane (\d+) of (v\d+)", said) for place, said in found.items()}
    return [[f"{lane[2]}.s[{lane[1]}]" if (lane := lanes[i, j]) else "" for j in range(row.nr)] for i in range(row.mr)]


def steps(entry: Entry, m: int, k: int, n: int) -> int:
    """The instructions that a small product takes, to the last one."""
    call, _ = products.called(entry, Shape(m, n, layouts.padded_k(k, products.KERNELS[entry.name].right.kr)))
    return call.state.steps


def survivors(
    entry: Entry, proof: prover.Proof, count: int, *, full: bool, seed: int = 0
) -> tuple[int, list[mutants.Mutant]]:
    """How many mutants of a proven kernel were tried, and those that meet every claim as it does."""
    judge = mutants.Judge(entry.name, full=full, proof=proof)
    chosen = mutants.sample(entry, count, seed)
    return len(chosen), [mutant for mutant in chosen if not judge.verdict(mutant)]
