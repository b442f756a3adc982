"""The products of few columns, over A as it lies, bit for bit, with guard pages and canaries around everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child, narrow, shapes

pytestmark = pytest.mark.native

STARTS = list(itertools.product((False, True), repeat=2))


@pytest.fixture(params=narrow.STEMS)
def stem(request):
    return request.param


class Runner:
    """Runs products of one entry in a child, noting each before it starts, so that a fault names its product."""

    def __init__(self, checker, rng, stem):
        self.checker, self.rng, self.stem = checker, rng, stem
        self.products = 0

    def product(self, shape, values="random", *, a_values="", dtype=np.int8, starts=(True, True), **options):
        """One product of ``shape``; ``values`` fill B, and A too unless ``a_values`` says otherwise."""
        self.note(f"{self.stem} {shape} {values} {a_values} {dtype.__name__} start values: {starts} {options}")
        m, n, k = shape
        a = shapes.VALUES[a_values or values](self.rng, m, k)
        # uint8 of the same order: the lowest is 0.
        a = a.view(np.uint8) ^ 0x80 if dtype == np.uint8 else a
        b = shapes.VALUES[values](self.rng, n, k).T
        for name, length, given in zip(("row_start", "col_start"), (m, n), starts, strict=True):
            # Over the whole range of int32, so that sums wrap.
            options[name] = self.rng.integers(-(2**31), 2**31, length, dtype=np.int32) if given else None
        narrow.Call(self.stem, a, b, **options).check(self.checker)
        self.products += 1

    def run(self, body):
        def in_child(note):
            self.note = note
            body()
            assert self.products, "no product was run"

        child.check(in_child)


@pytest.fixture
def runner(checker, rng, stem):
    return Runner(checker, rng, stem)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8], ids=lambda dtype: dtype.__name__)
def test_every_shape(checker, rng, stem, dtype):
    """All of 0 to 9 rows, 0 to 8 columns and depths from 0 to one turn and all its pieces, each at the end of its pages."""

    def body(note):
        for k in range(71):
            a = rng.integers(-128, 128, (9, k), dtype=np.int8).view(dtype)
            b = rng.integers(-128, 128, (k, 8), dtype=np.int8)
            row_start, col_start = (rng.integers(-(2**31), 2**31, length, dtype=np.int32) for length in (9, 8))
            call = narrow.Call(stem, a, b, row_start=row_start, col_start=col_start)
            for m, n in itertools.product(range(10), range(9)):
                note(f"{stem} ({m}, {n}, {k}) {dtype.__name__}")
                call.check(checker, without_rows=9 - m, without_columns=8 - n)

    child.check(body)


@pytest.mark.parametrize("place", ["end", "start"])
def test_rows_apart(runner, place):
    """Rows of A and C that lie apart, in either direction, or are one and the same; all forms of start values."""

    def body():
        ways = itertools.cycle(({"padding": 3}, {"upward": True}, {"padding": 1, "upward": True}, {"same": True}))
        starts, dtypes = itertools.cycle(STARTS), itertools.cycle((np.int8, np.int8, np.int8, np.uint8, np.uint8))
        for k, m in itertools.product((0, 1, 2, 4, 7, 8, 15, 16, 17, 31, 48, 63, 64, 65, 127, 128, 200), (1, 3, 4, 9)):
            shape = shapes.Shape(m, 1 + (m + k) % 3, k)
            runner.product(shape, dtype=next(dtypes), starts=next(starts), place=place, **next(ways))

    runner.run(body)


@pytest.mark.parametrize("starts", STARTS, ids=["no", "column", "row", "both"])
def test_starts(runner, starts):
    """With and without products to add to them, wherever the page ends."""

    def body():
        for m, n, k, place in itertools.product((1, 3, 4, 11), (1, 2, 7), (0, 5, 64), ("end", "start")):
            runner.product(shapes.Shape(m, n, k), starts=starts, place=place)

    runner.run(body)


@pytest.mark.parametrize("values", shapes.VALUES)
def test_values(runner, values):
    """Extreme operands against each other and against random ones; several turns and every piece."""

    def body():
        for shape in (shapes.Shape(4, 1, 64), shapes.Shape(5, 3, 384), shapes.Shape(7, 2, 255), shapes.Shape(3, 1, 31)):
            for a_values, dtype in itertools.product(dict.fromkeys((values, "random", "lowest")), (np.int8, np.uint8)):
                runner.product(shape, values, a_values=a_values, dtype=dtype, starts=(False, False))

    runner.run(body)


# The longest K whose sum is exact whatever the values, and others whose sum of -128 x -128 wraps.
LAST_EXACT = 131071


@pytest.mark.parametrize("k", [LAST_EXACT, LAST_EXACT + 1, LAST_EXACT + 34])
def test_longest_k(runner, k):
    def body():
        runner.product(shapes.Shape(5, 1, k), "lowest", starts=(False, False))
        runner.product(shapes.Shape(5, 1, k), "lowest", dtype=np.uint8, starts=(False, False))
        runner.product(shapes.Shape(5, 1, k), "alternating", starts=(False, False))
        runner.product(shapes.Shape(6, 2, k), "random")

    runner.run(body)
