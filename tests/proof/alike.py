"""Mutants that are no others: what is changed makes no difference to any caller, and why. `make prove` meets them by its sample."""

from __future__ import annotations

_UPPER = "it is of columns beside the one that is stored"
_FLOAT32 = "it is of ends of rows that float32 do not have, see `UNTAKEN`"
_BYTES = "it sends narrow panels to the way byte by byte, which packs the same"

#: By entry, place, and what stood there and stands there now.
ALIKE: dict[str, str] = {
    "smull_4x4 +0x4b0 movi v26.4s, #0 -> movi v26.4s, #1": "of the sums of a row the first is stored where there is no k",
    "smull_4x1 +0x700 sadalp v20.4s, v28.8h -> sadalp v21.4s, v28.8h": "both are sums of the same row",
    "smull_4x1 +0xa94 ldr b4, [x11], #1 -> ldr b4, [x11], #0": "it is the last byte of the row",
    "pack_i8k4 +0x5c cmp x5, #1 -> cmp x5, #0": _BYTES,
    "pack_i8k4 +0x43c b.hs -> nop": "what no turn takes is taken K group by K group",
    "interleave_i8k8 +0x4c cmp x4, #0x10 -> cmp x4, #0x11": "sixteen pixels are then taken as twice eight",
    "combine +0x20 add x9, x9, #0 -> nop": "the linker put the constant at the beginning of a page, so that nothing is left to add",
    "copy_planes +0xb4 cmp x13, #8 -> cmp x13, #9": "eight bytes are both ends of four as well",
    "copy_planes +0x190 b.hs -> nop": "what is left is then filled byte by byte",
    "q_scale +0x484 srshl v4.2d, v4.2d, v17.2d -> srshl v5.2d, v4.2d, v17.2d": _UPPER,
    "q_scale +0x280 srshl v5.2d, v5.2d, v17.2d -> nop": _UPPER,
    "q_scale +0x478 add v5.2d, v5.2d, v22.2d -> add v5.2d, v5.2d, v23.2d": _UPPER,
    "dequantize +0x324 fmul v1.4s, v1.4s, v20.4s -> nop": _UPPER,
    "dequantize +0x324 fmul v1.4s, v1.4s, v20.4s -> fmul v1.4s, v0.4s, v20.4s": _UPPER,
    "dequantize +0x364 fmul v7.4s, v7.4s, v5.4s -> fmul v7.4s, v7.4s, v4.4s": _UPPER,
    "keep_above +0x1c4 tbz w17, #0 -> tbz w17, #1": "all bits of a lane of the mask are the same",
    "max_pool_f32 +0x238 tbz w13, #1 -> tbz w13, #0": _FLOAT32,
    "max_pool_f32 +0x240 ext v0.16b, v0.16b, v0.16b, #2 -> ext v0.16b, v0.16b, v0.16b, #3": _FLOAT32,
    "run +0x2c str xzr, [sp] -> str xzr, [sp, #0x20]": "the page is touched all the same, elsewhere",
}
