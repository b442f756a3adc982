"""The entries that lay the channels of images out by K groups."""

from __future__ import annotations

import itertools

import pytest
from support import child, copies, rows

pytestmark = pytest.mark.native


@pytest.mark.parametrize("stem", rows.INTERLEAVERS)
@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("flip", [0, 0x80])
def test_interleave(checker, rng, stem, step, flip):
    """Rows of every length, the last of them at the end of memory and the first at its start."""
    group = copies.GROUPS[stem]

    def body(note):
        for n, (place, apart) in itertools.product((*range(41), 63, 64, 65), (("end", 0), ("start", 5))):
            note(f"{n} {place} {apart}")
            copies.Copy(stem, rng, (2, 3, n), step, flip, group=group, apart=apart, place=place).check(checker)
        for groups, lines in ((0, 3), (3, 0), (1, 1), (5, 1)):
            note(f"{groups} groups of {lines} rows")
            copies.Copy(stem, rng, (groups, lines, 21), step, flip, group=group).check(checker)

    child.check(body)
