"""How many rows of the left operand make a block, and that a block of another size changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from support import rows, views

from pyint8dot import matmul, pack
from pyint8dot.engine import blocks, library

# Processors with caches of so many bytes.
SMALL, LARGE = (32 << 10, 512 << 10), (64 << 10, 1 << 20)

# A kernel whose packed rows have to come from the first-level cache, and one for which the second-level cache is near enough.
FAST = next(row for row in rows.NATIVE if row.rate > blocks.NEAR * row.nr)
SLOW = rows.NATIVE[-1]

PLENTY = 1 << 30


@pytest.fixture
def caches(monkeypatch):
    """A function that sets the sizes of the caches."""

    def are(sizes):
        monkeypatch.setattr(blocks.cpu, "caches", lambda: sizes)
        monkeypatch.setattr(blocks, "budget", lambda: sizes[1] // 2)

    return are


@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("row", rows.NATIVE, ids=lambda row: row.name)
def test_a_block_is_whole_tiles_and_fits(caches, row, sizes):
    caches(sizes)
    for k in (1, 30, 384, 1000, 5000, 1 << 22):
        count = blocks.block_rows(row, k + 40, k, PLENTY)
        assert count % row.mr == 0
        assert count == row.mr or count * (k + 40) <= sizes[1] // 2


@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])
def test_rows_of_a_fast_kernel_fit_half_the_first_level_cache(caches, sizes):
    caches(sizes)
    k = 256
    count = blocks.block_rows(FAST, k, k, PLENTY)
    assert count * k == sizes[0] // 2
    # The int32 sums of a row may lie further away.
    assert blocks.block_rows(FAST, 4 * k, k, PLENTY) == count
    assert blocks.block_rows(SLOW, k, k, PLENTY) * k == sizes[1] // 2


def test_what_makes_a_fast_kernel_take_the_second_level_cache(caches):
    caches(SMALL)
    far = SMALL[1] // 2
    least = FAST.rate // blocks.FAR
    fits = SMALL[0] // 2 // least
    # Rows so long that the right operand would have to come too fast.
    assert blocks.block_rows(FAST, fits, fits, PLENTY) == least
    longer = fits + 1
    assert blocks.block_rows(FAST, longer, longer, PLENTY) == far // longer // FAST.mr * FAST.mr
    # Little work in a block.
    assert blocks.block_rows(FAST, fits, fits, blocks.LEAST_BLOCK // least) == least
    assert blocks.block_rows(FAST, fits, fits, blocks.LEAST_BLOCK // least - 1) == far // fits
    # A right operand that would be packed anew for every block.
    assert blocks.block_rows(FAST, fits) == far // fits


@pytest.mark.parametrize("m", [0, 31, 33, 64, 100, 150])
def test_small_blocks_do_not_show(kernel, rng, monkeypatch, m):
    """Blocks of the first-level cache, the last of them cut, on operands of every type."""
    monkeypatch.setattr(blocks.cpu, "caches", lambda: (2560, 1 << 20))
    monkeypatch.setattr(blocks, "LEAST_BLOCK", 1)
    # As on an interpreter whose arrays are found by address alone.
    monkeypatch.setattr(library, "LAYOUT_KNOWN", m % 2 == 0 and m > 0)
    for a_type in (np.int8, np.uint8):
        for b_type in (np.int8, np.uint8):
            a, b = views.filled(rng, (m, 35), a_type), views.filled(rng, (35, 20), b_type)
            np.testing.assert_array_equal(matmul(a, pack(b), kernel=kernel), views.product(a, b))
