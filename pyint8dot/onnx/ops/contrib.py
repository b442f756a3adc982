"""The operators of com.microsoft that are none of ONNX's own: normalisations and products."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyint8dot.onnx.contrib.writer import MICROSOFT
from pyint8dot.onnx.ops import neural, qdq
from pyint8dot.onnx.ops.neural import check_matmul
from pyint8dot.onnx.registry import OPERATORS, Function, Site, operator

# Older models have these in ONNX's own domain, at versions where ONNX does not know them.
OPERATORS[MICROSOFT, "LayerNormalization"] = neural.layer_normalization
OPERATORS[MICROSOFT, "QuantizeLinear"] = qdq.quantize_linear
OPERATORS[MICROSOFT, "DequantizeLinear"] = qdq.dequantize_linear


@operator("SimplifiedLayerNormalization", domain=MICROSOFT)
@operator("RMSNormalization")
def _simplified(site: Site) -> Function | None:
    axis, epsilon = site.attr("axis", -1), np.float32(site.attr("epsilon", 1e-5))
    outputs = len(site.node.outputs)

    def run(x: np.ndarray, scale: np.ndarray) -> Any:
        wide = np.asarray(x, np.promote_types(x.dtype, np.float32))
        axes = tuple(range(axis % x.ndim, x.ndim))
        inverse = 1 / np.sqrt(np.mean(np.square(wide), axis=axes, keepdims=True) + epsilon)
        y = (wide * inverse).astype(x.dtype, copy=False) * scale
        # The mean, which onnxruntime declares as well, is not part of this normalisation.
        return y if outputs == 1 else (y, np.zeros_like(inverse), inverse)[:outputs]

    return run


@operator("FusedMatMul", domain=MICROSOFT)
def _fused_matmul(site: Site) -> Function | None:
    alpha = site.attr("alpha", 1.0)
    turn = [(bool(site.attr(f"trans{s}", 0)), bool(site.attr(f"transBatch{s}", 0))) for s in "AB"]
    limit, what = site.max_bytes, site.what

    def turned(x: np.ndarray, rows: bool, batch: bool) -> np.ndarray:
        # The batch form swaps the first axis with those between it and the last.
        if batch and x.ndim > 2:
            x = np.moveaxis(x, 0, -2)
        return x.swapaxes(-1, -2) if rows and x.ndim > 1 else x

    def run(a: np.ndarray, b: np.ndarray) -> Any:
        a, b = turned(a, *turn[0]), turned(b, *turn[1])
        check_matmul(a, b, a.itemsize, limit, what)
        y = np.asarray(neural.product(a, b))
        if alpha != 1.0:
            y *= y.dtype.type(alpha)
        return y

    return run
