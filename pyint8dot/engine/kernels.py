"""The table of kernels, a row for each; `dispatch` chooses among them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyint8dot.engine import layouts, library

if TYPE_CHECKING:
    from pyint8dot.engine.layouts import Layout

__all__ = ["KERNELS", "PORTABLE", "Kernel", "enter"]

#: The kernel that needs nothing, which every machine runs.
PORTABLE = "portable"

#: 131072 products of -128 x -128 are 2**31, the first that int32 does not hold.
EXACT_K = 131071


# Rows are compared by identity: hashing every field would cost each call more than packing a small operand.
@dataclass(frozen=True, eq=False, repr=False)
class Kernel:
    """One row of the table: all there is to know about a kernel outside its assembly.

    Attributes
    ----------
    name : str
        Name of the kernel; for a native one also the stem of its file ``asm/<name>.S`` and of its
        entry.
    mr, nr : int
        Rows and columns of the tile of the product it computes at a time.
    left, right : Layout
        The packed layouts of its two operands. They name what packs them.
    features : frozenset of str
        The processor features it needs, none where it is not assembly.
    cores : frozenset of str
        The cores it is made for, by their names in `cpu`; none where it suits any. By default it is chosen only where all cores
        that the process may run on are among them; asked for by name it runs wherever its features allow.
    complement : bool
        Whether one of the operands, either, has its layout complemented: the one that comes with each call. To every sum the kernel then
        adds its surplus, the sum of the other operand's values over the upper halves of K groups.
    bound : int
        The largest K for which every int8 product is exact; beyond it sums wrap modulo 2**32.
    summary : str
        One line for people.
    few : tuple of Kernel
        Kernels that read the left operand as it lies and take the place of this one where a product has few columns.
    most_columns : int
        Of such a kernel: the most columns it is worth while for.
    least_rows : int
        Of such a kernel: the fewest rows it is worth while for.
    planes : str
        The entry that does the same where the right operand lies in planes, as an interleaved image does; empty where there is none.
    rate : int
        Multiply-accumulates a cycle on the widest cores: how fast packed operands have to come, and what is a short product.
    """

    name: str
    mr: int
    nr: int
    left: Layout
    right: Layout
    features: frozenset[str]
    summary: str
    complement: bool = False
    bound: int = EXACT_K
    cores: frozenset[str] = frozenset()
    few: tuple[Kernel, ...] = ()
    most_columns: int = 0
    least_rows: int = 0
    planes: str = ""
    rate: int = 0

    def each_call(self, layout: Layout) -> Layout:
        """The form of one of its layouts for an operand that comes with each call, where the other one is at hand before."""
        return complemented(layout) if self.complement else layout

    def __repr__(self) -> str:
        # All else follows from the name.
        return f"Kernel({self.name!r})"

    def for_columns(self, n: int) -> Kernel:
        """The kernel itself, or the one that takes its place where there are only so many columns, however many rows."""
        for kernel in self.few:
            if n <= kernel.most_columns and not kernel.least_rows:
                return kernel
        return self

    def for_many_rows(self, n: int) -> Kernel | None:
        """The kernel that takes the place of this one where there are so few columns and many rows."""
        for kernel in self.few:
            if n <= kernel.most_columns and kernel.least_rows:
                return kernel
        return None

    @functools.cached_property
    def packs_left(self) -> bool:
        """Whether the kernel wants its left operand packed, rather than rows of any stride with K contiguous."""
        return not isinstance(self.left, layouts.RowMajor)

    @functools.cached_property
    def native(self) -> bool:
        """Whether the kernel is assembly in the native library."""
        return bool(self.features)


@functools.cache
def complemented(layout: Layout) -> Layout:
    """The same layout with the upper halves of K groups complemented."""
    return replace(layout, complement=True)


#: The kernels by name, best first; `enter` adds to them.
KERNELS: dict[str, Kernel] = {}


def enter(kernel: Kernel, *, before: str | None = None) -> None:
    """Add a row to the table, preferred to the kernel called `before` and all that follow it; last where there is no such name."""
    rows = list(KERNELS.items())
    at = list(KERNELS).index(before) if before is not None else len(rows)
    KERNELS.clear()
    KERNELS.update([*rows[:at], (kernel.name, kernel), *rows[at:]])
    if kernel.native:
        library.require(kernel.name, *(few.name for few in kernel.few), *filter(None, [kernel.planes]))


def _eight_by_eight(
    name: str,
    family: type[Layout],
    features: set[str],
    summary: str,
    rate: int,
    few: tuple[Kernel, ...],
    planes: str = "",
) -> Kernel:
    """A kernel with tract's tile, whose operands are packed alike."""
    left, right = family(8, split=True), family(8)
    return Kernel(name, 8, 8, left, right, frozenset(features), summary, few=few, planes=planes, rate=rate)


def _few(name: str, feature: str, summary: str, rate: int) -> Kernel:
    """A kernel for fewer columns than the others pad to: its rows lie as they are, its columns one after the other."""
    layout = layouts.PackedI8K16(1)
    return Kernel(name, 4, 1, layouts.RowMajor(), layout, frozenset({feature}), summary, most_columns=7, rate=rate)


_SDOT_FEW = _few("sdot_4x1", "dotprod", "SDOT along K, for few columns", 64)
_SMULL_FEW = _few("smull_4x1", "asimd", "SMULL and SADALP along K, for few columns", 16)

enter(
    _eight_by_eight(
        "smmla_8x8",
        layouts.PackedI8K8,
        # SMMLA is i8mm; few columns go to SDOT, which every processor with i8mm has.
        {"i8mm", "dotprod"},
        "SMMLA: eight products a lane, Armv8.2 with FEAT_I8MM",
        128,
        # From eight columns on packing A costs less than the slower product of rows as they lie.
        (_SDOT_FEW,),
        "smmla_planes_8x8",
    )
)
enter(
    _eight_by_eight(
        "sdot_8x8",
        layouts.PackedI8K4,
        {"dotprod"},
        "SDOT: four products a lane, Armv8.2 with FEAT_DotProd",
        64,
        (
            _SDOT_FEW,
            Kernel(
                "sdot_rows_8x8",
                8,
                8,
                layouts.RowMajor(),
                layouts.PackedI8K4(8),
                frozenset({"dotprod"}),
                "SDOT on rows as they lie, where packing them would cost more than it saves",
                most_columns=48,
                least_rows=64,
                rate=64,
            ),
        ),
        "sdot_planes_8x8",
    )
)
# Cortex-A55 loads 64 bits beside a multiplication, but 128 bits alone and in twice the time. Of packed operands this kernel
# makes half as much again as others, so packing pays for itself from fewer columns on.
enter(
    replace(
        KERNELS["sdot_8x8"],
        name="sdot_8x8_a55",
        summary="SDOT paired with loads of 64 bits, for the in-order Cortex-A55",
        cores=frozenset({"cortex-a55"}),
        planes="",
        few=tuple(replace(few, most_columns=min(few.most_columns, 16)) for few in KERNELS["sdot_8x8"].few),
    ),
    before="sdot_8x8",
)
enter(
    Kernel(
        "smull_4x4",
        4,
        4,
        layouts.PackedI8K16(4, split=True),
        layouts.PackedI8K16(4),
        frozenset({"asimd"}),
        "SMULL, SMLSL and SADALP: exact pairs of products, every AArch64",
        complement=True,
        few=(_SMULL_FEW,),
        rate=16,
    )
)
enter(
    _eight_by_eight(
        "smlal_8x8", layouts.PackedFormat, {"asimd"}, "SMLAL: widening multiplies, every AArch64", 8, (_SMULL_FEW,)
    )
)
enter(
    Kernel(
        PORTABLE,
        1,
        1,
        layouts.RowMajor(),
        layouts.RowMajor(),
        frozenset(),
        "exact float32 BLAS in chunks of K, every machine",
    )
)
