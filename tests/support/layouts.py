"""The packed layouts, written from their definition and not from the package: a second opinion for the tests.

An operand is given as (rows, k), the side that has K as its second axis. A panel of ``r`` rows holds, for every k, its r
values; with K in groups of ``group`` the members of a group stay together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int8 = npt.NDArray[np.int8]


def panel(rows: Int8, group: int) -> Int8:
    """Pack one panel: element (k, row) lies at ``(k // group) * r * group + row * group + k % group``."""
    r, k = rows.shape
    groups = -(-k // group)
    padded = np.zeros((r, groups * group), np.int8)
    padded[:, :k] = rows
    return np.ascontiguousarray(padded.reshape(r, groups, group).transpose(1, 0, 2)).reshape(-1)


def panel_rows(m: int, mr: int) -> list[int]:
    """The heights of A's panels: as many full ones as fit, then one for each bit of the rest, the largest first."""
    rest = m % mr
    return [mr] * (m // mr) + [1 << bit for bit in reversed(range(mr.bit_length())) if rest >> bit & 1]


def pack_a(a: Int8, mr: int, group: int) -> Int8:
    """Pack A (m, k): no panel has a row that A does not have."""
    panels, start = [], 0
    for height in panel_rows(a.shape[0], mr):
        panels.append(panel(a[start : start + height], group))
        start += height
    return np.concatenate(panels) if panels else np.empty(0, np.int8)


def pack_b(b: Int8, nr: int, group: int) -> Int8:
    """Pack B, given transposed as (n, k): panels of ``nr`` columns, the last one filled up with zero columns."""
    n, k = b.shape
    full = np.zeros((-(-n // nr) * nr, k), np.int8)
    full[:n] = b
    panels = [panel(full[start : start + nr], group) for start in range(0, full.shape[0], nr)]
    return np.concatenate(panels) if panels else np.empty(0, np.int8)


def padded_k(k: int, group: int) -> int:
    """K as the kernel sees it: a multiple of its group."""
    return -(-k // group) * group
