"""The entry `run`: every kind of argument in every place, and programs that pack and multiply."""

from __future__ import annotations

import numpy as np
import pytest
from support import child, gemm, layouts, packer, program
from support.entry import Entry
from support.guard import Guarded, guarded_input
from support.program import Program, Record

from pyint8dot.engine import kernels, library

pytestmark = pytest.mark.native


def run(checker, prepared):
    """Run a program in this process: nothing in it may break a promise."""
    problems = Entry("run").call(checker, prepared.argument)
    assert not problems, "\n".join(problems)


def test_no_record(checker):
    """A head and the end: nothing behind the end is read, and there is nothing to return."""

    def body(_):
        run(checker, Program([]))
        assert checker.returned == 0

    child.check(body)


def test_returns_the_first_word_of_the_scratch(checker):
    """An entry that writes its arguments there leaves the first of them, which is where it wrote."""
    record = Record(checker.address("echo"), [0, 77], [program.SCRATCH])

    def body(_):
        run(checker, Program([record]))
        assert checker.stack_pointer - Entry("run").stack <= checker.returned < checker.stack_pointer
        # The next program begins with a scratch that returns 0 again.
        run(checker, Program([Record(checker.address("saboteur_none"), [])]))
        assert checker.returned == 0

    child.check(body)


class Head:
    """Six words, each of them the address of eight words of memory, so that every kind can refer to every one."""

    def __init__(self, rng):
        self.memory = [guarded_input(rng.integers(-(2**62), 2**62, 8)) for _ in range(program.HEAD)]
        self.words = [buffer.address for buffer in self.memory]

    def found(self, j, offset):
        return self.memory[j].data.view(np.int64)[offset // 8]


class Echo:
    """A record of the test library's `echo`, and what it has to find in its arguments."""

    def __init__(self, checker, kinds, head, rng):
        self.head = head
        self.seen = Guarded(8 * program.ARGUMENTS)
        self.kinds = [program.PLAIN, *kinds]
        self.fields = [self.seen.address, *(int(self._field(kind, rng)) for kind in kinds)]
        self.record = Record(checker.address("echo"), [field % 2**64 for field in self.fields], self.kinds)

    @staticmethod
    def _field(kind, rng):
        if kind == program.SCRATCH:
            return rng.integers(0, program.SCRATCH_BYTES)
        # A field of a pointer is where in the buffer of the head's word it is found.
        return 8 * rng.integers(0, 8) if kind >= program.pointer(0) else rng.integers(-(2**40), 2**40)

    def check(self, checker):
        """Compare the arguments that arrived with what their kinds mean."""
        seen = [int(value) for value in self.seen.data.view(np.int64)]
        scratch = {
            got - field
            for got, field, kind in zip(seen, self.fields, self.kinds, strict=True)
            if kind == program.SCRATCH
        }
        for got, field, kind in zip(seen, self.fields, self.kinds, strict=True):
            if kind == program.PLAIN:
                assert got == field
            elif kind >= program.pointer(0):
                assert got == self.head.found(kind - program.pointer(0), field)
            elif kind != program.SCRATCH:
                assert got == self.head.words[kind - program.word(0)] + field
        # All scratch is one piece of the stack, below the caller's and within what the contract says.
        assert len(scratch) <= 1
        for base in scratch:
            assert base % 16 == 0
            assert checker.stack_pointer - Entry("run").stack <= base <= checker.stack_pointer - program.SCRATCH_BYTES


KINDS = [program.PLAIN, program.SCRATCH, *(program.word(j) for j in range(6)), *(program.pointer(j) for j in range(6))]


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_in_one_place(checker, rng, kind):
    """Each kind at each argument alone, the others plain."""

    head = Head(rng)

    def body(note):
        for place in range(program.ARGUMENTS - 1):
            note(f"kind {kind} at argument {place + 1}")
            kinds = [program.PLAIN] * (program.ARGUMENTS - 1)
            kinds[place] = kind
            echo = Echo(checker, kinds, head, rng)
            run(checker, Program([echo.record], head.words))
            echo.check(checker)

    child.check(body)


def test_kinds_together(checker, rng):
    """All arguments of random kinds."""

    head = Head(rng)

    def body(note):
        for _ in range(40):
            kinds = [int(kind) for kind in rng.choice(KINDS, program.ARGUMENTS - 1)]
            note(f"kinds {kinds}")
            echo = Echo(checker, kinds, head, rng)
            run(checker, Program([echo.record], head.words))
            echo.check(checker)

    child.check(body)


def test_many_records(checker, rng):
    """Records run in order, each with the same head; the arguments of one do not leak into the next."""
    head = Head(rng)
    kinds = [[int(kind) for kind in rng.choice(KINDS, program.ARGUMENTS - 1)] for _ in range(9)]

    def body(_):
        echoes = [Echo(checker, each, head, rng) for each in kinds]
        run(checker, Program([echo.record for echo in echoes], head.words))
        for echo in echoes:
            echo.check(checker)

    child.check(body)


@pytest.mark.parametrize("in_scratch", [False, True], ids=["workspace", "scratch"])
def test_pack_and_multiply(checker, rng, native_kernel, in_scratch):
    """A packed by the first record is what the second one multiplies: in memory of the caller's, or on the stack."""
    row = kernels.KERNELS[native_kernel]
    stem = next(stem for stem, group in packer.GROUPS.items() if group == row.kr)
    shapes = [(1, 9, 4), (8, 8, 8), (13, 21, 50), (16, 9, 256)]

    def body(note):
        for m, n, k in shapes:
            note(f"({m}, {n}, {k})")
            a = rng.integers(-128, 128, (m, k), dtype=np.int8)
            b = rng.integers(-128, 128, (k, n), dtype=np.int8)
            call = gemm.Call(row, a, b, padding=1)
            source = guarded_input(a)
            packed = Guarded(m * layouts.padded_k(k, row.kr))
            kind, at = (program.SCRATCH, 0) if in_scratch else (program.PLAIN, packed.address)
            first = Record(library.load().addresses[stem], [source.address, at, k, m, 1, k, 1, 0], [0, kind])
            second = Record(library.load().addresses[native_kernel], [at, *map(int, call.fields[1:])], [kind])
            run(checker, Program([first, second]))
            assert call.c.damage() == []
            np.testing.assert_array_equal(call.result, gemm.expected(a, b))

    child.check(body)
