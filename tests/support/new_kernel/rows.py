"""The rows that a new kernel takes: its layouts, what packs them, and itself.

It differs from the others in all that a row can say: tile, K group, a left layout of another family than the right one, a last
panel of the left operand that is filled up, a panel that is no power of two, a gatherer that takes two k at a time.
"""

from __future__ import annotations

from pyint8dot.engine import kernels, layouts
from pyint8dot.engine.kernels import Kernel
from pyint8dot.engine.layouts import Layout, Native


class RowsI8K2(Layout):
    """Panels of `r` rows with K in pairs."""

    kr = 2


class ColumnsI8K2(Layout):
    """Panels of `r` columns with K in pairs."""

    kr = 2


layouts.enter(RowsI8K2, {6: Native("pack_rows_i8k2")})
layouts.enter(ColumnsI8K2, {4: Native("pack_columns_i8k2", "gather_columns_i8k2", turn=2)})

# Preferred to every other, so that whatever names no kernel runs on this one.
kernels.enter(
    Kernel(
        "smull_6x4",
        6,
        4,
        RowsI8K2(6),
        ColumnsI8K2(4),
        frozenset({"asimd"}),
        "SMULL and SADALP over K in pairs, every AArch64",
    ),
    before=next(iter(kernels.KERNELS)),
)
