"""Which claim there is about which entry of the library, and which entries have none."""

from __future__ import annotations

from types import ModuleType

from proof import packers, products

#: The module of the claim about each entry: its ``shapes(name, full=...)`` and ``prove(entry, shape)``.
CLAIMS: dict[str, ModuleType] = {
    **dict.fromkeys(products.KERNELS, products),
    **dict.fromkeys([*packers.PACKERS, *packers.GATHERERS], packers),
}

_NOT_YET = "nobody has written the claim yet"
_CALLS = "it calls other entries and follows addresses that it reads from memory"

#: Entries without a claim, and why.
UNPROVEN: dict[str, str] = {
    **dict.fromkeys(
        "add_outer column_scale column_start copy_planes depthwise depthwise_sdot dequantize".split(), _NOT_YET
    ),
    **dict.fromkeys("dequantize_linear dynamic_quantize exp2_terms".split(), _NOT_YET),
    **dict.fromkeys("keep_above layer_norm lookup lrn max_pool_f32 max_pool_i8 max_pool_u8".split(), _NOT_YET),
    **dict.fromkeys("q_scale quantize_linear quantize_rows requantize".split(), _NOT_YET),
    "run": _CALLS,
    "run_builtin": _CALLS,
}
