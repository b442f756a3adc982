"""What onnxruntime's optimiser fuses, written out as the operators it was fused from."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from pyint8dot.onnx.contrib.writer import MICROSOFT, Rule, Writer, rule

FUSED_NODES: dict[str, Rule] = {}

_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _activate(w: Writer, x: str, name: str, params: list[float]) -> None:
    """Write the activation of a fused node, its parameters in the order in which onnxruntime keeps them."""
    if not name:
        w.add("Identity", x, into=w.output(0))
    elif name == "Clip" and w.opset < 11:
        w.add("Clip", x, into=w.output(0), min=params[0], max=params[1])
    elif name == "Clip":
        w.add("Clip", x, *(w.constant(np.float32(v)) for v in params[:2]), into=w.output(0))
    else:
        attrs: dict[str, Any] = dict(zip(("alpha", "beta"), params, strict=False))
        w.add(name, x, into=w.output(0), **attrs)


@rule(FUSED_NODES, "FusedConv")
def _conv(w: Writer) -> None:
    y = w.add("Conv", w.input(0), w.input(1), w.input(2), **w.attrs(*_CONV))
    if w.has(3):
        y = w.add("Add", y, w.input(3))
    _activate(w, y, w.attr("activation", ""), w.attr("activation_params", []))


@rule(FUSED_NODES, "FusedGemm")
def _gemm(w: Writer) -> None:
    y = w.add("Gemm", w.input(0), w.input(1), w.input(2), **w.attrs("alpha", "beta", "transA", "transB"))
    name = w.attr("activation", "")
    wanted = {"LeakyRelu": 1, "Elu": 1, "HardSigmoid": 2, "Clip": 2}.get(name, 0)
    _activate(w, y, name, [w.attr(f"activation_{p}", 0.0) for p in ("alpha", "beta")][:wanted])


@rule(FUSED_NODES, "TransposeMatMul")
def _transposed(w: Writer) -> None:
    """As it was called before it was FusedMatMul."""
    attrs = w.attrs("alpha", "transA", "transB")
    w.add("FusedMatMul", w.input(0), w.input(1), into=w.output(0), domain=MICROSOFT, **attrs)


@rule(FUSED_NODES, "BiasGelu")
def _bias_gelu(w: Writer) -> None:
    w.add("Gelu", w.add("Add", w.input(0), w.input(1)), into=w.output(0), domain=MICROSOFT)


@rule(FUSED_NODES, "FastGelu")
def _fast_gelu(w: Writer) -> bool | None:
    if not w.has(1):
        return False
    w.add("FastGelu", w.add("Add", w.input(0), w.input(1)), into=w.output(0), domain=MICROSOFT)
    return None


@rule(FUSED_NODES, "SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _skip_layer_norm(w: Writer) -> None:
    simplified = "Simplified" in w.node.op_type
    bias = 3 if simplified else 4
    total = w.output(3) or w.scope.fresh(f"{w.output(0)}/sum")
    if w.has(bias):
        w.add("Add", w.add("Add", w.input(0), w.input(1)), w.input(bias), into=total)
    else:
        w.add("Add", w.input(0), w.input(1), into=total)
    _normalise(w, total, [w.input(2)] if simplified else [w.input(2), w.input(3)])


def _normalise(w: Writer, x: str, parameters: list[str], epsilon: float = 1e-12) -> None:
    outputs = [w.output(0)]
    if w.node.op_type != "EmbedLayerNormalization":
        outputs += [w.output(1), w.output(2)]
    while not outputs[-1]:
        outputs.pop()
    op = "SimplifiedLayerNormalization" if "Simplified" in w.node.op_type else "LayerNormalization"
    w.add(op, x, *parameters, into=outputs, domain=MICROSOFT, axis=-1, epsilon=w.attr("epsilon", epsilon))


@rule(FUSED_NODES, "EmbedLayerNormalization")
def _embed(w: Writer) -> None:
    total = w.output(2) or w.scope.fresh(f"{w.output(0)}/sum")
    word = w.add("Gather", w.input(2), w.input(0))
    place = w.add("Gather", w.input(3), w.input(8)) if w.has(8) else _first_rows(w, w.input(3))
    if w.has(1) and w.has(4):
        both = w.add("Add", word, place)
        w.add("Add", both, w.add("Gather", w.input(4), w.input(1)), into=total)
    else:
        w.add("Add", word, place, into=total)
    _normalise(w, total, [w.input(5), w.input(6)])
    if w.output(1):
        _mask_index(w, 7)


@rule(FUSED_NODES, "QEmbedLayerNormalization")
def _quantised_embed(w: Writer) -> None:
    tables = {i: w.add("Gather", w.input(i), w.input(ids)) for i, ids in ((2, 0), (4, 1)) if w.has(i)}
    tables[3] = _first_rows(w, w.input(3))
    tables |= {5: w.input(5), 6: w.input(6)}
    floats = {
        i: w.add("DequantizeLinear", name, w.input(scale), w.input(zero))
        for (i, name), scale, zero in (
            ((i, tables[i]), 8 + place, 13 + place) for place, i in enumerate((2, 3, 4, 5, 6)) if i in tables
        )
    }
    total = w.add("Add", floats[2], floats[3])
    if 4 in floats:
        total = w.add("Add", total, floats[4])
    epsilon = w.attr("epsilon", 1e-12)
    w.add(
        "LayerNormalization", total, floats[5], floats[6], into=w.output(0), domain=MICROSOFT, axis=-1, epsilon=epsilon
    )
    if w.output(1):
        _mask_index(w, 7)


def _first_rows(w: Writer, table: str) -> str:
    """Take as many rows of the position table as a sequence has tokens."""
    length = w.add("Gather", w.add("Shape", w.input(0)), w.constant([1]))
    return w.add("Slice", table, w.constant([0]), length, w.constant([0]))


def _mask_index(w: Writer, mask: int) -> None:
    """Count the tokens of each sequence, 0 where there is no mask."""
    if w.has(mask):
        floats = w.add("Cast", w.input(mask), to=TensorProto.FLOAT)
        count = w.on_axes("ReduceSum", floats, [1], keepdims=0)
        w.add("Cast", count, into=w.output(1), to=TensorProto.INT32)
        return
    batch = w.add("Gather", w.add("Shape", w.input(0)), w.constant([0]))
    zeros = w.add("Expand", w.constant(np.zeros(1, np.int32)), batch)
    w.add("Identity", zeros, into=w.output(1))


@rule(FUSED_NODES, "Attention")
def _attention(w: Writer) -> bool | None:
    projected = w.add("MatMul", w.input(0), w.input(1))
    if w.has(2):
        projected = w.add("Add", projected, w.input(2))
    _attend(w, projected, [w.input(i) for i in range(3, 7)])
    return None


@rule(FUSED_NODES, "QAttention")
def _quantised_attention(w: Writer) -> None:
    # input, weight, bias, input_scale, weight_scale, mask_index, input_zero_point, weight_zero_point, past
    names = [w.input(i) for i in (0, 1, 3, 4, 6, 7, 2)]
    projected = w.add("MatMulIntegerToFloat", *names, domain=MICROSOFT)
    _attend(w, projected, [w.input(5), w.input(8)])


def _attend(w: Writer, projected: str, rest: list[str]) -> None:
    attrs = w.attrs(
        "num_heads", "scale", "mask_filter_value", "unidirectional", "qkv_hidden_sizes", "do_rotary",
        "past_present_share_buffer",
    )  # fmt: skip
    w.add("PackedQkvAttention", projected, *rest, into=list(w.node.output), domain=MICROSOFT, **attrs)
