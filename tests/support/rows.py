"""The rows of the tables of kernels and layouts, as the tests go through them: no test keeps a list of its own."""

from __future__ import annotations

from pyint8dot.engine import kernels, layouts
from pyint8dot.engine.kernels import Kernel
from pyint8dot.engine.layouts import Layout

# The kernels in assembly, best first, and those that take the place of one where there are few columns.
NATIVE: list[Kernel] = [row for row in kernels.KERNELS.values() if row.native]
FEW: list[Kernel] = list({few.name: few for row in NATIVE for few in row.few}.values())

# The kernel that every machine runs.
PORTABLE: Kernel = next(row for row in kernels.KERNELS.values() if not row.native)

# The families of packed layouts, and the layouts that the library packs.
FAMILIES: list[type[Layout]] = list(layouts.LAYOUTS.values())
PACKED: list[Layout] = [layouts.LAYOUTS[family](r, complement=flipped) for family, r, flipped in layouts.NATIVE]

# The layouts that an entry makes, by the entry; none of them split, and those of packers not complemented.
PACKERS: dict[str, Layout] = {
    layout.native.packer: layout for layout in PACKED if layout.native and not layout.complement
}
GATHERERS: dict[str, Layout] = {
    layout.native.gatherer: layout for layout in PACKED if layout.native and layout.native.gatherer
}


# Those that lay the channels of images out by K groups, and the kernels whose products read them there, by the entries.
INTERLEAVERS: dict[str, Layout] = {
    layout.native.interleaver: layout for layout in PACKED if layout.native and layout.native.interleaver
}
PLANES: dict[str, Kernel] = {row.planes: row for row in NATIVE if row.planes}


def best(features: frozenset[str]) -> Kernel:
    """The kernel for a machine with these features and cores of no particular kind: the first whose needs they meet."""
    return next(row for row in kernels.KERNELS.values() if row.features <= features and not row.cores)


def complements(layout: Layout) -> bool:
    """Whether the packer of a layout makes its complemented form as well."""
    return (type(layout).__name__, layout.r, True) in layouts.NATIVE


def splits(layout: Layout) -> bool:
    """Whether a layout has a form whose last panels are split."""
    return layout.r & (layout.r - 1) == 0
