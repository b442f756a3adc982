"""keep_above: the scores that exceed what their row asks for, bit for bit those of numpy, in the order of their columns."""

from __future__ import annotations

import numpy as np
import pytest
from support import child, kept

pytestmark = pytest.mark.native

WIDTHS = (0, 1, 2, 15, 16, 17, 31, 32, 33, 64, 77)


def case(rng, m, n, share, *, special=False, **options):
    """Sums of which about so great a share is to be kept, each row with something kept before."""
    acc = rng.integers(-(2**22), 2**22, (m, n), dtype=np.int32)
    columns = rng.uniform(0.1, 2, n).astype(np.float32)
    if special:
        # Removed columns, sums beyond 24 bits, and the scales of vectors of zeros.
        columns[rng.random(n) < 0.4] = np.nan
        columns[rng.random(n) < 0.2] = 0
        acc[rng.random((m, n)) < 0.2] = -(2**31)
        acc[rng.random((m, n)) < 0.2] = 2**31 - 1
    rows = rng.uniform(0.1, 2, m).astype(np.float32)
    scores = (acc.astype(np.float32) * columns) * rows[:, None]
    least = np.full(m, -np.inf, np.float32)
    if n and share < 1:
        # A score that is there: equal ones are not kept.
        clean = np.sort(np.where(np.isnan(scores), -np.inf, scores), axis=1)
        least = clean[:, min(n - 1, int(n * (1 - share)))]
    counts = rng.integers(0, 4, m)
    return kept.Call(acc, columns, rows, least, counts, n + 5, **options)


@pytest.mark.parametrize("place", ["end", "start"])
@pytest.mark.parametrize("share", [1, 0.2, 0.02])
def test_scores_and_columns(checker, rng, place, share):
    def body(note):
        for n in WIDTHS:
            for m in (0, 1, 3):
                note(f"{m} x {n}, {share}")
                case(rng, m, n, share, place=place, padding=n % 3, position=1000).check(checker)

    child.check(body)


@pytest.mark.parametrize("share", [1, 0.3])
def test_special_values(checker, rng, share):
    def body(note):
        for n in WIDTHS:
            note(f"{n}")
            case(rng, 4, n, share, special=True).check(checker)

    child.check(body)


def test_every_place_of_one_score_in_a_turn(checker):
    """Each lane has code of its own."""

    def body(note):
        for column in range(37):
            note(f"{column}")
            acc = np.zeros((1, 37), np.int32)
            acc[0, column] = 7
            ones = np.ones(37, np.float32)
            call = kept.Call(acc, ones, ones[:1], np.zeros(1, np.float32), np.zeros(1, np.int64), 37, position=2**40)
            assert call.want[2][0, 0] == 2**40 + column
            call.check(checker)

    child.check(body)


@pytest.mark.parametrize("full", [0, 1, 2])
def test_nothing_is_written_where_a_row_is_full(checker, rng, full):
    """Which is said by the status; one place less in the row would be enough."""

    def body(_):
        acc = rng.integers(-100, 100, (3, 40), dtype=np.int32)
        ones = np.ones(40, np.float32)
        for count, fits in ((10, True), (11, False)):
            counts = np.zeros(3, np.int64)
            counts[full] = count
            least = np.full(3, -np.inf, np.float32)
            call = kept.Call(acc, ones, ones[:3], least, counts, 50, position=5)
            assert call.fits is fits
            call.check(checker)

    child.check(body)
