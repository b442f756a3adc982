"""What sums start from and are multiplied by per column, for a zero point and a scale known only at the call: against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from support import child, columns

pytestmark = pytest.mark.native

LENGTHS = (*range(27), 64, 71)


@pytest.mark.parametrize("place", ["end", "start"])
def test_start(checker, rng, place):
    """Every rest of columns, with and without whole turns before it and something to start from; sums wrap."""

    def body(note):
        for n in LENGTHS:
            note(f"{n} {place}")
            base, v = (rng.integers(-(2**31), 2**31, n, dtype=np.int32) for _ in range(2))
            for given in (base, None):
                for kind in (np.int8, np.uint8):
                    zero_point = rng.integers(0, 256, 1).astype(np.uint8).view(kind)
                    columns.start(given, zero_point, v, place=place).check(checker)

    child.check(body)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_start_for_every_zero_point(checker, kind):
    v = np.array([-(2**31), -1, 0, 1, 3, 2**24, 2**31 - 1], np.int32)

    def body(note):
        for value in np.arange(256, dtype=np.uint8).view(kind):
            note(f"{value}")
            columns.start(None, np.array([value]), v).check(checker)

    child.check(body)


@pytest.mark.parametrize("place", ["end", "start"])
def test_scale(checker, rng, place):
    def body(note):
        for n in LENGTHS:
            note(f"{n} {place}")
            x = rng.standard_normal(n).astype(np.float32)
            columns.scale(x, np.float32(rng.standard_normal()), place=place).check(checker)

    child.check(body)


def test_scale_of_special_values(checker):
    x = np.float32([0, -0.0, 1e-40, -1e-40, 3e38, -3e38, np.inf, -np.inf, 1, 2**-126])

    def body(note):
        for factor in np.float32([1, -0.0, 2**-20, 2**20, 1e-40]):
            note(f"{factor}")
            with np.errstate(all="ignore"):
                call = columns.scale(x[np.isfinite(x * factor) | np.isinf(x * factor)], factor)
            call.check(checker)

    child.check(body)
