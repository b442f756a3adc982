"""The entry that lays images out on grids."""

from __future__ import annotations

import itertools

import pytest
from support import child
from support.copies import Copy

pytestmark = pytest.mark.native


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [0, 0x80])
def test_copy_planes(checker, rng, step, flip):
    """Rows of every length, the last of them at the end of memory and the first at its start."""

    def body(note):
        for n, place, apart in itertools.product(
            (*range(40), 63, 64, 65, 95, 96, 97, 127, 128, 129, 200), ("end", "start"), (0, 5)
        ):
            note(f"{n} {place} {apart}")
            Copy("copy_planes", rng, (2, 3, n), step, flip, apart=apart, place=place).check(checker)
        for planes, lines in ((0, 3), (3, 0), (1, 1)):
            note(f"{planes} planes of {lines} rows")
            Copy("copy_planes", rng, (planes, lines, 21), step, flip).check(checker)

    child.check(body)
