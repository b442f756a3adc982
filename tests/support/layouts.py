"""The packed layouts, written from their definition and not from the package: a second opinion for the tests.

An operand is given as (rows, k), the side that has K as its second axis. A panel of ``r`` rows holds, for every k, its r
values; with K in groups of ``group`` the members of a group stay together. In a complemented operand all bytes of the upper half
of each group are complemented.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyint8dot.engine.layouts import Layout

Int8 = npt.NDArray[np.int8]


def upper(k: int, group: int) -> npt.NDArray[np.bool_]:
    """Which of k values lie in the upper half of their group."""
    return np.array([i % group >= group // 2 for i in range(k)], bool)


def panel(rows: Int8, group: int, *, complement: bool = False) -> Int8:
    """Pack one panel: element (k, row) lies at ``(k // group) * r * group + row * group + k % group``."""
    r, k = rows.shape
    groups = -(-k // group)
    padded = np.zeros((r, groups * group), np.int8)
    padded[:, :k] = rows
    if complement:
        padded[:, upper(groups * group, group)] ^= -1
    return np.ascontiguousarray(padded.reshape(r, groups, group).transpose(1, 0, 2)).reshape(-1)


def panel_rows(m: int, mr: int) -> list[int]:
    """The heights of A's panels: as many full ones as fit, then one for each bit of the rest, the largest first."""
    rest = m % mr
    return [mr] * (m // mr) + [1 << bit for bit in reversed(range(mr.bit_length())) if rest >> bit & 1]


def packed(rows: Int8, layout: Layout, *, split: bool | None = None, complement: bool | None = None) -> Int8:
    """Pack an operand in panels and K groups as wide as a layout's.

    Where the layout is split, or ``split`` says so, no panel has a row that the operand does not have; else the last one is
    filled up with rows of zeros. Likewise it is complemented where the layout or ``complement`` says so.
    """
    if layout.split if split is None else split:
        heights = panel_rows(len(rows), layout.r)
    else:
        heights = [layout.r] * -(-len(rows) // layout.r)
    full = np.zeros((sum(heights), rows.shape[1]), np.int8)
    full[: len(rows)] = rows
    ends = np.cumsum(heights)
    flipped = layout.complement if complement is None else complement
    panels = [
        panel(full[end - height : end], layout.kr, complement=flipped)
        for height, end in zip(heights, ends, strict=True)
    ]
    return np.concatenate(panels) if panels else np.empty(0, np.int8)


def transposed(b: Int8) -> Int8:
    """B (k, n) as an operand is packed: (n, k)."""
    return np.ascontiguousarray(b.T)


def padded_k(k: int, group: int) -> int:
    """K as the kernel sees it: a multiple of its group."""
    return -(-k // group) * group
