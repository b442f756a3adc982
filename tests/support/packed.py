"""The packed form of an operand element by element, from the definition, with nothing shared with the package."""

from __future__ import annotations

import numpy as np

from pyint8dot.engine.packing import RowMajor


def defined(layout, x):
    """The packed form of x (k, mn), element by element from the definition, with nothing shared with the package."""
    k, mn = x.shape
    if isinstance(layout, RowMajor):
        return np.array([x[i, j] for i in range(k) for j in range(mn)], np.int8)
    r = layout.r
    group = layout.kr
    padded = (k + group - 1) // group * group
    out = np.zeros((mn + r - 1) // r * padded * r, np.int8)
    for i in range(k):
        for j in range(mn):
            panel = j // r * padded * r
            out[panel + i // group * r * group + j % r * group + i % group] = x[i, j]
    if layout.complement:
        # Padding as well.
        for i in range(out.size):
            if i % group >= group // 2:
                out[i] = -1 - out[i]
    return out


def some(k, mn, seed=0):
    """Random int8 values without a zero, so that padding cannot pass for a value."""
    x = np.random.default_rng([seed, k, mn]).integers(-128, 127, (k, mn), dtype=np.int8)
    return np.where(x >= 0, x + 1, x).astype(np.int8)
