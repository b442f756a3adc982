"""The packers that gather rows from anywhere: every width around the panels, guard pages at both ends of everything."""

from __future__ import annotations

import numpy as np
import pytest
from support import child, gather, rows

pytestmark = pytest.mark.native


@pytest.mark.parametrize("place", ["end", "start"])
@pytest.mark.parametrize("stem", rows.GATHERERS)
def test_gather(checker, rng, stem, place):
    """At least a panel of columns, or none, and whole turns of K."""
    r = rows.GATHERERS[stem].r
    depths = [turns * rows.GATHERERS[stem].native.turn for turns in (0, 1, 2, 3, 9, 25)]

    def body(note):
        for columns in [0, *range(r, 4 * r + 2), 5 * r, 6 * r - 1, 100]:
            for k in depths if columns in (r, 2 * r - 1, 2 * r, 3 * r - 1, 3 * r + 1) else depths[2:4]:
                note(f"{stem} k={k} columns={columns} {place}")
                gather.check(checker, stem, rng.integers(-128, 128, (k, columns), dtype=np.int8), place=place)

    child.check(body)


@pytest.mark.parametrize("stem", rows.GATHERERS)
def test_one_hot(checker, stem):
    """A single one shows where each byte goes."""
    shape = 2 * rows.GATHERERS[stem].native.turn, 3 * rows.GATHERERS[stem].r - 3

    def body(note):
        for position in range(shape[0] * shape[1]):
            x = np.zeros(shape, np.int8)
            x.flat[position] = -128
            note(f"{stem} one at {position}")
            gather.check(checker, stem, x)

    child.check(body)
