"""The quantised operators of com.microsoft, written out: dequantise, compute, quantise.

The session turns such groups into one node again, as it does with those of a model that has them itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from pyint8dot.onnx.contrib.writer import Rule, Writer, rule

QUANTISED: dict[str, Rule] = {}

_POOLING = ("kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "count_include_pad", "dilations")


def _floats(w: Writer, x: int, scale: int, zero: int) -> str:
    return w.add("DequantizeLinear", w.input(x), w.input(scale), w.input(zero))


def _quantised(w: Writer, y: str, scale: int, zero: int, like: int) -> None:
    """Quantise the result; without a zero point it has the type of the input at `like`."""
    point = w.input(zero)
    if not point and w.type(like) == np.int8:
        point = w.constant(np.int8(0))
    w.add("QuantizeLinear", y, w.input(scale), point, into=w.output(0))


@rule(QUANTISED, "QLinearAdd", "QLinearMul")
def _binary(w: Writer) -> None:
    a, b = _floats(w, 0, 1, 2), _floats(w, 3, 4, 5)
    _quantised(w, w.add(w.node.op_type.removeprefix("QLinear"), a, b), 6, 7, 0)


@rule(QUANTISED, "QLinearSigmoid", "QLinearLeakyRelu")
def _function(w: Writer) -> None:
    x = _floats(w, 0, 1, 2)
    _quantised(w, w.add(w.node.op_type.removeprefix("QLinear"), x, **w.attrs("alpha")), 3, 4, 0)


@rule(QUANTISED, "QLinearConcat")
def _concat(w: Writer) -> None:
    parts = [_floats(w, i, i + 1, i + 2) for i in range(2, len(w.node.input), 3)]
    _quantised(w, w.add("Concat", *parts, **w.attrs("axis")), 0, 1, 2)


@rule(QUANTISED, "QLinearWhere")
def _where(w: Writer) -> None:
    x, y = _floats(w, 1, 2, 3), _floats(w, 4, 5, 6)
    _quantised(w, w.add("Where", w.input(0), x, y), 7, 8, 1)


@rule(QUANTISED, "QLinearReduceMean")
def _reduce_mean(w: Writer) -> None:
    x = _floats(w, 0, 1, 2)
    y = w.on_axes("ReduceMean", x, w.attr("axes"), keepdims=w.attr("keepdims", 1))
    _quantised(w, y, 3, 4, 0)


@rule(QUANTISED, "QLinearSoftmax")
def _softmax(w: Writer) -> bool | None:
    axis, old = w.attr("axis", -1), w.attr("opset", 13) < 13
    x = _floats(w, 0, 1, 2)
    if axis == -1 or old == (w.opset < 13):
        y = w.add("Softmax", x, axis=axis)
    elif old:
        # Before opset 13 the axes from `axis` on are one.
        rows = w.add("Softmax", w.add("Flatten", x, axis=axis), axis=-1)
        y = w.add("Reshape", rows, w.add("Shape", x))
    else:
        return False
    _quantised(w, y, 3, 4, 0)
    return None


@rule(QUANTISED, "QLinearAveragePool", "QLinearGlobalAveragePool")
def _average_pool(w: Writer) -> None:
    op = w.node.op_type.removeprefix("QLinear")
    last = bool(w.attr("channels_last", 0))
    rank = len(w.attr("kernel_shape", [1, 1]))
    x = _floats(w, 0, 1, 2)
    y = w.add(op, _channels(w, x, rank, last=False) if last else x, **w.attrs(*_POOLING))
    _quantised(w, _channels(w, y, rank, last=True) if last else y, 3, 4, 0)


def _channels(w: Writer, x: str, rank: int, *, last: bool, into: str | None = None) -> str:
    """Move the channels of a tensor of `rank` spatial dimensions to the end or back behind the first axis."""
    perm = [0, *range(2, rank + 2), 1] if last else [0, rank + 1, *range(1, rank + 1)]
    return w.add("Transpose", x, into=into, perm=perm)


@rule(QUANTISED, "NhwcMaxPool")
def _nhwc_max_pool(w: Writer) -> None:
    rank = len(w.attr("kernel_shape"))
    y = w.add("MaxPool", _channels(w, w.input(0), rank, last=False), **w.attrs(*_POOLING))
    _channels(w, y, rank, last=True, into=w.output(0))


@rule(QUANTISED, "QLinearConv")
def _conv(w: Writer) -> None:
    names = [w.input(i) for i in range(9)]
    attrs = w.attrs("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    if not w.attr("channels_last", 0):
        w.add("QLinearConv", *names, into=w.output(0), **attrs)
        return
    weights = w.scope.constants.get(w.input(3))
    rank = len(w.attr("kernel_shape") or (weights.dims[2:] if weights is not None else [1, 1]))
    names[0] = _channels(w, names[0], rank, last=False)
    _channels(w, w.add("QLinearConv", *names, **attrs), rank, last=True, into=w.output(0))


@rule(QUANTISED, "QGemm")
def _gemm(w: Writer) -> None:
    alpha, trans_b = w.attr("alpha", 1.0), w.attr("transB", 0)
    bias = ""
    if w.has(6):
        # The unit of C is that of the product.
        unit = w.add("Mul", w.input(1), w.input(4))
        if alpha != 1.0:
            unit = w.add("Mul", unit, w.constant(np.float32(alpha)))
        row, weights = w.value(6), w.value(3)
        n = 0 if weights is None else weights.shape[trans_b - 1]
        if row is not None and n and (row.size == 1 or row.shape in ((n,), (1, n))):
            # One number for each column, which products have within them.
            bias = w.add("DequantizeLinear", w.constant(np.resize(row, n)), unit, **_along(w, 0))
        else:
            bias = w.add("Mul", w.add("Cast", w.input(6), to=TensorProto.FLOAT), unit)
    a = _floats(w, 0, 1, 2)
    b = w.add("DequantizeLinear", w.input(3), w.input(4), w.input(5), **_along(w, 0 if trans_b else 1))
    attrs = {"alpha": alpha, "transA": w.attr("transA", 0), "transB": trans_b}
    if not w.has(7):
        w.add("Gemm", a, b, bias, into=w.output(0), **attrs)
        return
    _quantised(w, w.add("Gemm", a, b, bias, **attrs), 7, 8, 0)


def _along(w: Writer, axis: int) -> dict[str, Any]:
    """Return the attribute that says where scales run, at versions that know more than one for all."""
    return {} if w.opset < 13 else {"axis": axis}


@rule(QUANTISED, "MatMulIntegerToFloat")
def _integer_to_float(w: Writer) -> None:
    product = w.add("MatMulInteger", w.input(0), w.input(1), w.input(4), w.input(5))
    _scaled(w, product, w.input(2), w.input(3), w.input(6))


@rule(QUANTISED, "DynamicQuantizeMatMul")
def _dynamic(w: Writer) -> None:
    codes, scale, zero = (w.scope.fresh(f"{w.output(0)}/{name}") for name in ("codes", "scale", "zero_point"))
    w.add("DynamicQuantizeLinear", w.input(0), into=[codes, scale, zero])
    _scaled(w, w.add("MatMulInteger", codes, w.input(1), zero, w.input(3)), scale, w.input(2), w.input(4))


def _scaled(w: Writer, product: str, a_scale: str, b_scale: str, bias: str) -> None:
    floats = w.add("Cast", product, to=TensorProto.FLOAT)
    y = w.add("Mul", floats, w.add("Mul", a_scale, b_scale), into=None if bias else w.output(0))
    if bias:
        w.add("Add", y, bias, into=w.output(0))


@rule(QUANTISED, "QuantizeLinear", "DequantizeLinear")
def _convert(w: Writer) -> bool | None:
    scale, zero = w.value(1), w.type(2)
    plain = zero in (np.int8, np.uint8) or (not w.has(2) and w.node.op_type == "QuantizeLinear")
    wide = zero in (np.int16, np.uint16) and w.opset >= 21
    if scale is None or w.opset < 13 or not (plain or wide) or (scale.dtype != np.float32 and w.opset < 19):
        return False
    w.add(w.node.op_type, *w.node.input, into=w.output(0), **w.attrs("axis"))
    return None
