"""The packers that gather rows from anywhere: every width around the panels, guard pages at both ends of everything."""

from __future__ import annotations

import numpy as np
import pytest
from support import child, gather

pytestmark = pytest.mark.native

WIDTHS = [0, *range(8, 34), 40, 47, 100]
DEPTHS = [0, 4, 8, 12, 36, 100]


@pytest.mark.parametrize("place", ["end", "start"])
@pytest.mark.parametrize("stem", gather.GATHERERS)
def test_gather(checker, rng, stem, place):
    def body(note):
        for columns in WIDTHS:
            for k in DEPTHS if columns in (8, 15, 16, 23, 25) else DEPTHS[2:4]:
                note(f"{stem} k={k} columns={columns} {place}")
                gather.check(checker, stem, rng.integers(-128, 128, (k, columns), dtype=np.int8), place=place)

    child.check(body)


@pytest.mark.parametrize("stem", gather.GATHERERS)
def test_one_hot(checker, stem):
    """A single one shows where each byte goes."""

    def body(note):
        for position in range(8 * 21):
            x = np.zeros((8, 21), np.int8)
            x.flat[position] = -128
            note(f"{stem} one at {position}")
            gather.check(checker, stem, x)

    child.check(body)
