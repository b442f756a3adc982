"""Which claim there is about which entry of the library, and which entries have none."""

from __future__ import annotations

from types import ModuleType

from proof import elementwise, packers, products

#: The module of the claim about each entry: its ``shapes(name, full=...)`` and ``prove(entry, shape)``.
CLAIMS: dict[str, ModuleType] = {
    **dict.fromkeys(products.KERNELS, products),
    **dict.fromkeys([*packers.PACKERS, *packers.GATHERERS], packers),
    **dict.fromkeys(elementwise.DEFINITIONS, elementwise),
}

_NOT_YET = "nobody has written the claim yet"
_CALLS = "it calls other entries and follows addresses that it reads from memory"

#: Entries without a claim, and why.
UNPROVEN: dict[str, str] = {
    **dict.fromkeys("depthwise depthwise_sdot dynamic_quantize exp2_terms keep_above layer_norm lrn".split(), _NOT_YET),
    **dict.fromkeys("max_pool_f32 max_pool_i8 max_pool_u8 q_scale quantize_rows".split(), _NOT_YET),
    "run": _CALLS,
    "run_builtin": _CALLS,
}
