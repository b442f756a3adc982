"""The entry `run`: every kind of argument in every place, and programs that pack and multiply."""

from __future__ import annotations

import numpy as np
import pytest
from support import child, gemm, program
from support.entry import Entry
from support.guard import Guarded, guarded_input
from support.program import Program, Record

from pyint8dot.engine import kernels, library

pytestmark = [pytest.mark.native, pytest.mark.each_processor]


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


def stack_below(checker):
    """Where an entry may find the frame of `run`."""
    return range(checker.stack_pointer - Entry("run").stack, checker.stack_pointer)


def test_returns_the_status(checker):
    """An entry that writes to the status leaves what it wrote, and nothing after it is called."""
    status = Record(checker.address("echo"), [0, 77], [program.word(program.STATUS)])
    seen = Guarded(8 * program.ARGUMENTS)
    later = Record(checker.address("echo"), [seen.address, 78])

    def body(_):
        before = bytes(seen.data)
        run(checker, Program([status, later]))
        # `echo` writes its arguments, the first of which is where it writes.
        assert checker.returned in stack_below(checker)
        assert bytes(seen.data) == before
        # The next program begins with a status of 0 again.
        run(checker, Program([Record(checker.address("saboteur_none"), []), later]))
        assert checker.returned == 0
        assert seen.data.view(np.int64)[1] == 78

    child.check(body)


class Head:
    """Words that are numbers, or objects with a pointer in them: each kind of argument can refer to every one."""

    OFFSET = 24

    def __init__(self, rng, objects=()):
        self.numbers = [int(value) for value in rng.integers(1, 2**62, program.FREE)]
        self.objects = list(objects)
        self.memory = [guarded_input(np.full(8, value, np.int64)) for value in self.numbers]
        self.words = [self.memory[j].address if j in self.objects else value for j, value in enumerate(self.numbers)]

    def program(self, records, **more):
        return Program(records, self.words, objects=self.objects, offset=self.OFFSET, **more)


class Echo:
    """A record of the test library's `echo`, and what it has to find in its arguments."""

    def __init__(self, checker, kinds, head, rng):
        self.head = head
        self.seen = Guarded(8 * program.ARGUMENTS)
        self.kinds = [program.PLAIN, *kinds]
        self.fields = [self.seen.address, *(int(rng.integers(-(2**40), 2**40)) for _ in kinds)]
        self.record = Record(checker.address("echo"), [field % 2**64 for field in self.fields], self.kinds)

    def check(self):
        """Compare the arguments that arrived with what their kinds mean."""
        seen = [int(value) for value in self.seen.data.view(np.int64)]
        for got, field, kind in zip(seen, self.fields, self.kinds, strict=True):
            base = 0 if kind == program.PLAIN else self.head.numbers[kind - program.word(0)]
            assert got == base + field


KINDS = [program.PLAIN, *(program.word(j) for j in range(program.FREE))]


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
            run(checker, head.program([echo.record]))
            echo.check()

    child.check(body)


@pytest.mark.parametrize("apart", [False, True])
def test_kinds_together(checker, rng, apart):
    """All arguments of random kinds, words of the head numbers or objects, records behind the head or apart from it."""

    def body(note):
        for _ in range(40):
            head = Head(rng, [j for j in range(program.FREE) if rng.random() < 0.4])
            kinds = [int(kind) for kind in rng.choice(KINDS, program.ARGUMENTS - 1)]
            note(f"kinds {kinds}, objects {head.objects}")
            echo = Echo(checker, kinds, head, rng)
            run(checker, head.program([echo.record], apart=apart))
            echo.check()

    child.check(body)


def test_many_records(checker, rng):
    """Records run in order, each with the same head; the arguments of one do not leak into the next."""
    head = Head(rng, [0, 3])
    kinds = [[int(kind) for kind in rng.choice(KINDS, program.ARGUMENTS - 1)] for _ in range(9)]

    def body(_):
        echoes = [Echo(checker, each, head, rng) for each in kinds]
        run(checker, head.program([echo.record for echo in echoes]))
        for echo in echoes:
            echo.check()

    child.check(body)


def test_scratch_is_on_the_stack_where_none_is_given(checker):
    """All of it is one piece of the stack, below the caller's and within what the contract says."""
    seen = Guarded(8 * program.ARGUMENTS)
    record = Record(checker.address("echo"), [seen.address, 16], [program.PLAIN, program.word(program.SCRATCH)])

    def body(_):
        run(checker, Program([record]))
        base = int(seen.data.view(np.int64)[1]) - 16
        assert base % 16 == 0
        assert base in stack_below(checker)
        assert base + program.SCRATCH_BYTES in stack_below(checker)

    child.check(body)


@pytest.mark.parametrize("in_scratch", [False, True], ids=["workspace", "scratch"])
def test_pack_and_multiply(checker, rng, native_kernel, in_scratch):
    """A packed by the first record is what the second one multiplies: in memory of the caller's, or on the stack."""
    row = kernels.KERNELS[native_kernel]
    left = row.each_call(row.left)
    # The last fills the scratch of the stack as far as whole tiles and K groups do.
    deepest = program.SCRATCH_BYTES // (2 * row.mr) // row.right.kr * row.right.kr
    shapes = [(1, 9, 4), (row.mr, row.nr, 8), (13, 21, 50), (2 * row.mr, 9, deepest)]

    def body(note):
        for m, n, k in shapes:
            note(f"({m}, {n}, {k})")
            a = rng.integers(-128, 128, (m, k), dtype=np.int8)
            b = rng.integers(-128, 128, (k, n), dtype=np.int8)
            call = gemm.Call(row, a, b, padding=1)
            source = guarded_input(a)
            packed = Guarded(row.left.size(k, m))
            kind, at = (program.word(program.SCRATCH), 0) if in_scratch else (program.PLAIN, packed.address)
            fields = [source.address, at, k, m, 1, k, int(left.split), left.flip(a.dtype) % 2**64]
            first = Record(library.load().addresses[left.packer], fields, [0, kind])
            second = Record(library.load().addresses[native_kernel], [at, *map(int, call.fields[1:])], [kind])
            run(checker, Program([first, second]))
            assert call.c.damage() == []
            np.testing.assert_array_equal(call.result, call.want)

    child.check(body)
