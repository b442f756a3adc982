"""The products over A as it lies, bit for bit, with guard pages and canaries around everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child, narrow, shapes

pytestmark = pytest.mark.native

STARTS = list(itertools.product((False, True), repeat=2))


@pytest.fixture(params=narrow.KERNELS)
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
    """Two tiles of rows and one more, and all that are less, for every depth up to two turns and all pieces, each at the
    end of its pages; one to two tiles of columns and one more, so that any number of them meets any end of K.
    """
    mr, nr = narrow.KERNELS[stem].mr, narrow.KERNELS[stem].nr
    most, several = 2 * mr + 1, 8 if nr == 1 else 2 * nr + 1

    def body(note):
        for k in range(71):
            columns = several - (k + k // nr) % nr
            a = rng.integers(-128, 128, (most, k), dtype=np.int8).view(dtype)
            b = rng.integers(-128, 128, (k, columns), dtype=np.int8)
            row_start, col_start = (rng.integers(-(2**31), 2**31, length, dtype=np.int32) for length in (most, columns))
            call = narrow.Call(stem, a, b, row_start=row_start, col_start=col_start)
            for m, without in itertools.product(range(most + 1), (*range(0, columns, nr), columns)):
                note(f"{stem} ({m}, {columns - without}, {k}) {dtype.__name__}")
                call.check(checker, without_rows=most - m, without_columns=without)

    child.check(body)


@pytest.mark.parametrize("place", ["end", "start"])
def test_rows_apart(runner, place):
    """Rows of A and C that lie apart, in either direction, or are one and the same; all forms of start values."""

    def body():
        ways = itertools.cycle(({"padding": 3}, {"upward": True}, {"padding": 1, "upward": True}, {"same": True}))
        starts, dtypes = itertools.cycle(STARTS), itertools.cycle((np.int8, np.int8, np.int8, np.uint8, np.uint8))
        mr, nr = narrow.KERNELS[runner.stem].mr, narrow.KERNELS[runner.stem].nr
        depths = (0, 1, 2, 4, 7, 8, 15, 16, 17, 31, 48, 63, 64, 65, 127, 128, 200)
        for k, m in itertools.product(depths, (mr // 4, mr - 1, mr, 2 * mr + 1)):
            shape = shapes.Shape(m, 1 + (m + k) % (2 * nr + 1), k)
            runner.product(shape, dtype=next(dtypes), starts=next(starts), place=place, **next(ways))

    runner.run(body)


@pytest.mark.parametrize("starts", STARTS, ids=["no", "column", "row", "both"])
def test_starts(runner, starts):
    """With and without products to add to them, wherever the page ends."""

    def body():
        for m, n, k, place in itertools.product((1, 3, 4, 11), (1, 2, 7, 9), (0, 5, 64), ("end", "start")):
            runner.product(shapes.Shape(m, n, k), starts=starts, place=place)

    runner.run(body)


@pytest.mark.parametrize("values", shapes.VALUES)
def test_values(runner, values):
    """Extreme operands against each other and against random ones; several turns and every piece."""

    def body():
        for shape in map(shapes.Shape, (4, 5, 7, 3, 9), (1, 3, 2, 1, 8), (64, 384, 255, 31, 99)):
            for a_values, dtype in itertools.product(dict.fromkeys((values, "random", "lowest")), (np.int8, np.uint8)):
                runner.product(shape, values, a_values=a_values, dtype=dtype, starts=(False, False))

    runner.run(body)


@pytest.mark.parametrize("beyond", [0, 1, 34])
def test_longest_k(runner, stem, beyond):
    """The longest K whose sum is exact whatever the values, and longer ones whose sum of -128 x -128 wraps."""
    k = narrow.KERNELS[stem].bound + beyond

    def body():
        m = narrow.KERNELS[runner.stem].mr + 1
        runner.product(shapes.Shape(m, 1, k), "lowest", starts=(False, False))
        runner.product(shapes.Shape(m, 1, k), "lowest", dtype=np.uint8, starts=(False, False))
        runner.product(shapes.Shape(m, 1, k), "alternating", starts=(False, False))
        runner.product(shapes.Shape(m + 1, 2, k), "random")

    runner.run(body)
