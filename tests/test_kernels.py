"""Every native kernel on every class of shapes and values, bit for bit, with guard pages and canaries around everything."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import child, gemm, packer, rows, shapes
from support.shapes import Shape

from pyint8dot.engine import kernels

pytestmark = pytest.mark.native

# Start values by name, and whether the rows and the columns have some.
STARTS = {"no": (False, False), "row": (True, False), "column": (False, True), "both": (True, True)}


class Runner:
    """Runs products of one kernel in a child, noting each before it starts, so that a fault names its product."""

    def __init__(self, checker: Any, row: kernels.Kernel, rng: np.random.Generator) -> None:
        self.checker, self.row, self.rng = checker, row, rng
        self.products = 0

    def product(
        self, shape: Shape, values: str = "random", *, a_values: str = "", starts: str = "both", **options: Any
    ) -> None:
        """One product of ``shape``; ``values`` fill B, and A too unless ``a_values`` says otherwise."""
        self.note(f"{self.row.name} {shape} {values} {a_values} start values: {starts} {options}")
        a = shapes.VALUES[a_values or values](self.rng, shape.m, shape.k)
        b = shapes.VALUES[values](self.rng, shape.n, shape.k).T
        rows, columns = STARTS[starts]
        if rows:
            options["row_start"] = self._start(shape.m)
        if columns:
            options["col_start"] = self._start(shape.n)
        for side in gemm.sides(self.row):
            gemm.check(self.checker, self.row, a, b, complemented=side, **options)
            self.products += 1

    def _start(self, length: int) -> gemm.Int32:
        """Start values over the whole range of int32, so that sums wrap."""
        return self.rng.integers(-(2**31), 2**31, length, dtype=np.int32)

    def run(self, body: Callable[[], None]) -> None:
        def in_child(note: Callable[[str], None]) -> None:
            self.note = note
            body()
            assert self.products, "no product was run"

        child.check(in_child)


@pytest.fixture
def runner(checker, native_kernel, rng):
    return Runner(checker, kernels.KERNELS[native_kernel], rng)


@pytest.mark.parametrize("place", ["end", "start"])
@pytest.mark.parametrize("shape_class", shapes.CLASSES)
def test_shapes(runner, shape_class, place):
    def body():
        paddings = itertools.cycle((0, *shapes.PRIME_PADDING))
        starts = itertools.cycle(STARTS)
        for shape in shapes.CLASSES[shape_class](runner.row):
            runner.product(shape, starts=next(starts), padding=next(paddings), place=place)

    runner.run(body)


@pytest.mark.parametrize("values", shapes.VALUES)
def test_values(runner, values):
    """Extreme operands against each other and against random ones."""

    def body():
        mr, nr = runner.row.mr, runner.row.nr
        for shape in (Shape(mr, nr, 64), Shape(2 * mr - 1, nr + 3, 37), Shape(mr - 1, nr + 1, 33), Shape(1, 13, 19)):
            for a_values in dict.fromkeys((values, "random", "lowest")):
                runner.product(shape, values, a_values=a_values, starts="no", padding=1)

    runner.run(body)


@pytest.mark.parametrize("starts", STARTS)
def test_starts(runner, starts):
    """Start values of rows and columns on every kind of panel, with and without products to add to them."""

    def body():
        mr = runner.row.mr
        for m, k in itertools.product((*range(1, mr + 1), 2 * mr - 1), (0, 5, 32)):
            runner.product(Shape(m, runner.row.nr + 3, k), starts=starts)

    runner.run(body)


@pytest.mark.parametrize("place", ["end", "start"])
def test_upward_rows(runner, place):
    """A negative row stride stores C from its last row to its first."""

    def body():
        mr, nr = runner.row.mr, runner.row.nr
        for shape in (Shape(1, 3, 4), Shape(mr - 1, nr + 1, 5), Shape(2 * mr + 1, 2 * nr, 8)):
            runner.product(shape, upward=True, padding=3, place=place)

    runner.run(body)


@pytest.mark.parametrize("beyond", [0, 1, 34])
def test_longest_k(runner, beyond):
    """The longest K whose sum is exact whatever the values, and longer ones whose sum of -128 x -128 wraps."""
    k = runner.row.bound + beyond

    def body():
        for m in sorted({1, 2, 4, runner.row.mr}):
            runner.product(Shape(m, 3, k), "lowest", starts="no")
        runner.product(Shape(1, 1, k), "alternating", starts="no")
        runner.product(Shape(3, runner.row.nr + 1, k), "random", starts="both")

    runner.run(body)


def test_many_rows_and_columns(runner):
    """More of either than 16 bits count: a kernel that the prover cannot follow to any size may lose some."""

    def body():
        many = 2**16 + runner.row.mr * runner.row.nr
        for shape in (Shape(many + 3, 1, 5), Shape(1, many + 3, 5)):
            runner.product(shape, starts="both")

    runner.run(body)


@pytest.mark.parametrize("place", ["end", "start"])
@pytest.mark.parametrize("stem", rows.PACKERS)
def test_packers(checker, rng, stem, place):
    """A native packer on views of every kind of stride, in the panel forms of its layout, int8 and uint8."""
    layout = rows.PACKERS[stem]
    r = layout.r

    def body(note):
        for mn, k in itertools.product((0, 1, 2, 3, r - 1, r, r + 1, 3 * r - 1), packer.DEPTHS):
            for number, view in enumerate(views(rng, mn, k)):
                split, dtype = bool((number + mn) % 2), (np.int8, np.uint8)[(number + k) % 2]
                split = split and rows.splits(layout)
                for complement in {False, rows.complements(layout)}:
                    note(f"{stem} ({mn}, {k}) strides {view.strides} {dtype.__name__} split={split} {complement=}")
                    packer.check(checker, stem, view.view(dtype), split=split, complement=complement, place=place)

    child.check(body)


def views(rng, mn, k):
    """The same matrix in memory as a packer may meet it: K or MN contiguous, sliced, reversed, broadcast."""
    whole = rng.integers(-128, 128, (2 * mn + 1, 2 * k + 1), dtype=np.int8)
    yield np.ascontiguousarray(whole[:mn, :k])
    yield np.asfortranarray(whole[:mn, :k])
    yield whole[:mn, :k]
    yield whole.T[:k, :mn].T[::-1, :]
    yield whole[: 2 * mn : 2, : 2 * k : 2]
    yield whole[:mn, :k][::-1, ::-1]
    yield np.broadcast_to(whole[0, :k], (mn, k))
    yield np.broadcast_to(whole[:mn, :1], (mn, k))
