"""The native maxima of windows against their definition in numpy, and the operator that uses them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child
from support.pool import Call, maxima, pixels, random_axis
from support.quantized import many

from pyint8dot.engine import library, pool
from pyint8dot.engine.pool import Axis
from pyint8dot.engine.program import MAX_POOLS

KINDS = list(MAX_POOLS)


def case(rng, dtype, longest):
    """Planes and the windows over them, every window holding a pixel."""
    while True:
        rows, columns = random_axis(rng, 9), random_axis(rng, longest)
        if rows and columns and pool._all_hold_pixels(rows) and pool._all_hold_pixels(columns):
            return pixels(rng, dtype, int(rng.integers(1, 4)), rows.size, columns.size), rows, columns


@pytest.mark.native
@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_random_windows(checker, rng, dtype):
    def body(note):
        for number in range(many(200)):
            x, rows, columns = case(rng, dtype, (8, 20, 70)[number % 3])
            note(f"{x.shape} {rows} {columns}")
            Call(x, rows, columns, place=("end", "start")[number % 2]).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_width(checker, rng, dtype, stride):
    """Rows of the image and of the result end in every place of a register; the last ones lie at the end of memory."""

    def body(note):
        for width in range(1, 36):
            note(f"{width}")
            columns = Axis(width, (width - 1) // stride + 1, 3, stride, 1, 1)
            Call(pixels(rng, dtype, 2, 3, width), Axis(3, 3, 3, 1, 1, 1), columns).check(checker)

    child.check(body)


@pytest.mark.native
def test_nan_is_greater_than_all(checker):
    """Wherever it stands in a window, as in numpy."""

    def body(note):
        for at, stride in itertools.product(range(9), (1, 2, 3)):
            note(f"{at} {stride}")
            x = np.full((1, 3, 3), np.inf, np.float32)
            x.flat[at] = np.nan
            axis = Axis(3, 1, 3, stride, 1, 0)
            call = Call(x, axis, axis)
            assert np.isnan(call.want).all()
            call.check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_max_pool(rng, dtype):
    """One and two spatial dimensions, planes that lie anywhere, and results that are empty."""
    for _ in range(many(100)):
        x, rows, columns = case(rng, dtype, 40)
        for image in (x[None], np.asfortranarray(x)[None], x[None, :, ::-1], x[None, :0]):
            np.testing.assert_array_equal(pool.max_pool(image, (rows, columns)), maxima(image, (rows, columns)))
        line = x[None, :, 0]
        np.testing.assert_array_equal(pool.max_pool(line, (columns,)), maxima(line, (columns,)))


def test_what_is_not_native(rng, monkeypatch):
    """None: other types, more dimensions, windows in the padding alone, no library."""
    axis = Axis(5, 5, 3, 1, 1, 1)
    x = pixels(rng, np.dtype(np.int8), 1, 1, 5, 5)
    assert pool.max_pool(x.astype(np.float64), (axis, axis)) is None
    assert pool.max_pool(x[..., None], (axis, axis, Axis(1, 1, 1, 1, 1, 0))) is None
    outside = Axis(5, 8, 2, 1, 1, 2)
    assert pool.max_pool(x, (axis, outside)) is None
    assert pool.max_pool(x, (outside, axis)) is None
    pool._written.cache_clear()
    monkeypatch.setattr(library, "status", lambda: "there is none")
    assert pool.max_pool(x, (axis, axis)) is None
    pool._written.cache_clear()
