"""The outer product that is added to an int32 block, against numpy, with guard pages and canaries around everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child, outer

pytestmark = pytest.mark.native


def int32(rng, *shape):
    """Values over the whole range, so that products and sums wrap."""
    return rng.integers(-(2**31), 2**31, shape, dtype=np.int32)


@pytest.mark.parametrize("upward", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("place", ["end", "start"])
def test_shapes(checker, rng, place, upward):
    """Every rest of columns with and without whole turns before it, rows next to each other and apart."""

    def body(note):
        paddings = itertools.cycle((0, 3, 1))
        for m, n in itertools.product((0, 1, 2, 5), (*range(27), 64, 71)):
            note(f"({m}, {n}) {place} upward={upward}")
            padding = next(paddings)
            outer.check(
                checker, int32(rng, m, n), int32(rng, m), int32(rng, n), place=place, padding=padding, upward=upward
            )

    child.check(body)


def test_extremes(checker):
    """The ends of int32 against each other, and what leaves a block as it was."""
    values = np.array([-(2**31), -(2**31) + 1, -1, 0, 1, 2**16, 2**31 - 1], np.int32)

    def body(note):
        for start in values:
            note(f"on {start}")
            outer.check(checker, np.full((len(values), len(values)), start), values, values)

    child.check(body)
