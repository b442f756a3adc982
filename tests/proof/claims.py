"""Which claim there is about which entry of the library, and which entries have none."""

from __future__ import annotations

from types import ModuleType

from proof import (
    attention,
    depthwise,
    depthwise_floats,
    elementwise,
    keeping,
    packers,
    planes,
    pools,
    products,
    programs,
    recurrent,
    rowwise,
)

#: The module of the claim about each entry: its ``shapes(name, full=...)`` and ``prove(entry, shape)``.
CLAIMS: dict[str, ModuleType] = {
    **dict.fromkeys(products.KERNELS, products),
    **dict.fromkeys(planes.KERNELS, planes),
    **dict.fromkeys([*packers.PACKERS, *packers.GATHERERS], packers),
    **dict.fromkeys(elementwise.DEFINITIONS, elementwise),
    **dict.fromkeys(rowwise.DEFINITIONS, rowwise),
    "attention": attention,
    "keep_above": keeping,
    "product_f32": recurrent,
    "lstm": recurrent,
    **dict.fromkeys(depthwise.TOGETHER, depthwise),
    "depthwise_f32": depthwise_floats,
    **dict.fromkeys(pools.KINDS, pools),
    **dict.fromkeys(programs.STACK, programs),
}

#: Entries without a claim, and why.
UNPROVEN: dict[str, str] = {}

#: Instructions that nothing takes, how many and why.
UNTAKEN: dict[str, tuple[int, str]] = {
    "max_pool_f32": (
        3,
        "the walk that it shares stores ends of rows of two bytes and of one, which float32 do not have",
    ),
}
