"""Quantising a float32 model, in the forms that onnxruntime's own tools write.

`dynamic` quantises activations while the model runs; `static` uses ranges measured beforehand. Both work on models that
`Builder` wrote: constants as initialisers, one output a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from pyint8dot.onnx.zoo.builder import Builder

Int8 = npt.NDArray[np.int8] | npt.NDArray[np.uint8]


def quantise_weights(w: np.ndarray, axis: int | None, dtype: npt.DTypeLike = np.int8) -> tuple[Int8, np.ndarray, Int8]:
    """Quantise weights, int8 symmetrically, uint8 over their whole range.

    Parameters
    ----------
    w : ndarray of float32
        The weights.
    axis : int or None
        One scale for each index along this axis, or one for all.
    dtype : dtype
        int8 or uint8.

    Returns
    -------
    codes : ndarray
        Shape of `w`.
    scale : ndarray of float32
        0-d, or one along `axis`.
    zero_point : ndarray
        Like `scale`, of `dtype`.
    """
    others = None if axis is None else tuple(i for i in range(w.ndim) if i != axis % w.ndim)
    low = np.minimum(w.min(axis=others, keepdims=True), 0)
    high = np.maximum(w.max(axis=others, keepdims=True), 0)
    kind = np.dtype(dtype)
    if kind == np.int8:
        scale = (np.maximum(high, -low) / np.float32(127)).astype(np.float32)
        scale[scale == 0] = 1
        zero = np.zeros(scale.shape, np.int8)
    else:
        scale = ((high - low) / np.float32(255)).astype(np.float32)
        scale[scale == 0] = 1
        zero = np.rint(-low / scale).astype(np.uint8)
    bounds = np.iinfo(kind)
    codes = np.clip(np.rint(w / scale) + zero, bounds.min, bounds.max).astype(kind)
    shape = (-1,) if axis is not None else ()
    return codes, scale.reshape(shape), zero.reshape(shape)


class _Rewriter:
    """A copy of a model in the making, node by node."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.old = model.graph
        self.floats = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.g = Builder(model.graph.name)
        self.g.inputs.extend(model.graph.input)
        self.g.outputs.extend(model.graph.output)
        self.done: dict[str, tuple[str, str, str]] = {}

    def keep(self, node: onnx.NodeProto) -> None:
        """Copy a node as it is."""
        self.g.nodes.append(node)
        for name in node.input:
            if name in self.floats:
                self.g.constants[name] = self.floats[name]

    def weights(self, name: str, axis: int | None, dtype: npt.DTypeLike) -> tuple[str, str, str]:
        """Add quantised weights; return the names of codes, scale and zero point."""
        codes, scale, zero = quantise_weights(self.floats[name], axis, dtype)
        g = self.g
        return (
            g.constant(f"{name}_quantized", codes),
            g.constant(f"{name}_scale", scale),
            g.constant(f"{name}_zero_point", zero),
        )


def dynamic(model: onnx.ModelProto, *, per_channel: bool, weight_dtype: npt.DTypeLike = np.int8) -> onnx.ModelProto:
    """Quantise MatMul, Conv and Gather with constant weights; activations are quantised by DynamicQuantizeLinear.

    Parameters
    ----------
    model : onnx.ModelProto
        A model of `Builder`.
    per_channel : bool
        One weight scale for each output channel rather than one for all.
    weight_dtype : dtype
        int8 or uint8.

    Returns
    -------
    onnx.ModelProto
    """
    r = _Rewriter(model)
    for node in r.old.node:
        if node.op_type in ("MatMul", "Conv") and node.input[1] in r.floats:
            _dynamic_product(r, node, per_channel, weight_dtype)
        elif node.op_type == "Gather" and node.input[0] in r.floats and r.floats[node.input[0]].dtype == np.float32:
            codes, scale, zero = r.weights(node.input[0], None, weight_dtype)
            picked = r.g.add("Gather", [codes, node.input[1]], f"{node.output[0]}_quantized")
            r.g.add("DequantizeLinear", [picked, scale, zero], node.output[0])
        else:
            r.keep(node)
    return r.g.model()


def _dynamic_product(r: _Rewriter, node: onnx.NodeProto, per_channel: bool, dtype: npt.DTypeLike) -> None:
    g, x, out = r.g, node.input[0], node.output[0]
    if x not in r.done:
        names = (f"{x}_quantized", f"{x}_scale", f"{x}_zero_point")
        g.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], list(names), name=f"{x} DynamicQuantizeLinear"))
        r.done[x] = names
    codes, scale, zero = r.done[x]
    convolution = node.op_type == "Conv"
    # ConvInteger takes one zero point for all channels where it is unsigned: per tensor is what tools write.
    axis = (0 if convolution else -1) if per_channel else None
    w_codes, w_scale, w_zero = r.weights(node.input[1], axis, dtype)
    op = "ConvInteger" if convolution else "MatMulInteger"
    product = g.add(op, [codes, w_codes, zero, w_zero], f"{out}_int32", **_attributes(node))
    product = g.add("Cast", [product], f"{out}_cast", to=onnx.TensorProto.FLOAT)
    if convolution and per_channel:
        w_scale = g.constant(f"{w_scale}, wide", g.constants[w_scale].reshape(-1, 1, 1))
    factor = g.add("Mul", [scale, w_scale], f"{out}_scales")
    if not convolution or len(node.input) < 3:
        g.add("Mul", [product, factor], out)
        return
    scaled = g.add("Mul", [product, factor], f"{out}_scaled")
    bias = g.constant(node.input[2], r.floats[node.input[2]])
    shape = g.constant(f"{out}_bias_shape", [1, -1, *[1] * (r.floats[node.input[1]].ndim - 2)], np.int64)
    g.add("Add", [scaled, g.add("Reshape", [bias, shape], f"{out}_bias")], out)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def activation_codes(low: float, high: float, dtype: npt.DTypeLike) -> tuple[np.float32, Int8]:
    """Return scale and zero point that cover a measured range.

    Parameters
    ----------
    low, high : float
        The range; it is widened to hold 0.
    dtype : dtype
        int8 or uint8.

    Returns
    -------
    scale : float32
    zero_point : ndarray, 0-d, of `dtype`
    """
    bounds = np.iinfo(np.dtype(dtype))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255) if high > low else np.float32(1)
    zero = np.clip(np.rint(bounds.min - low / float(scale)), bounds.min, bounds.max)
    return scale, np.asarray(zero, dtype)


def static(
    model: onnx.ModelProto,
    ranges: Mapping[str, tuple[float, float]],
    *,
    act_dtype: npt.DTypeLike,
    form: str = "QOperator",
) -> onnx.ModelProto:
    """Quantise Conv, MatMul, MaxPool and the Relu behind a Conv with measured ranges; weights int8, one scale per channel.

    Parameters
    ----------
    model : onnx.ModelProto
        A model of `Builder`.
    ranges : mapping
        Lowest and highest value of every activation.
    act_dtype : dtype
        int8 or uint8, of the activations.
    form : {"QOperator", "QDQ"}
        Quantised operators, or float operators between pairs of QuantizeLinear and DequantizeLinear.

    Returns
    -------
    onnx.ModelProto
    """
    return _Static(model, ranges, act_dtype, form).run()


class _Static(_Rewriter):
    def __init__(
        self, model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]], dtype: npt.DTypeLike, form: str
    ) -> None:
        super().__init__(model)
        self.ranges, self.dtype, self.qdq = ranges, np.dtype(dtype), form == "QDQ"
        # Float tensors that exist as codes only, until someone wants them as floats.
        self.readers = {name for node in self.old.node for name in node.input}
        self.relu_of = {n.input[0]: n for n in self.old.node if n.op_type == "Relu"}

    def run(self) -> onnx.ModelProto:
        folded = set()
        for node in self.old.node:
            if node.op_type == "Conv":
                relu = self.relu_of.get(node.output[0])
                self.product(node, node.output[0] if relu is None else relu.output[0])
                if relu is not None:
                    folded.add(relu.name)
            elif node.op_type == "MatMul" and node.input[1] in self.floats:
                self.product(node, node.output[0])
            elif node.op_type == "MaxPool":
                self.pool(node)
            elif node.name not in folded:
                for name in node.input:
                    self.as_float(name)
                self.keep(node)
        for output in self.old.output:
            self.as_float(output.name)
        return self.g.model()

    def codes(self, name: str) -> tuple[str, str, str]:
        """Return the codes of a float tensor, quantising it where it has none yet."""
        if name not in self.done:
            scale, zero = self.parameters(name)
            self.done[name] = (self.g.add("QuantizeLinear", [name, scale, zero], f"{name}_quantized"), scale, zero)
        return self.done[name]

    def parameters(self, name: str) -> tuple[str, str]:
        if f"{name}_scale" not in self.g.constants:
            scale, zero = activation_codes(*self.ranges[name], self.dtype)
            self.g.constant(f"{name}_scale", scale)
            self.g.constant(f"{name}_zero_point", zero)
        return f"{name}_scale", f"{name}_zero_point"

    def as_float(self, name: str) -> str:
        """Make sure that a tensor exists as floats."""
        if name in self.done and not any(name in node.output for node in self.g.nodes):
            self.g.add("DequantizeLinear", list(self.done[name]), name)
        return name

    def product(self, node: onnx.NodeProto, result: str) -> None:
        """Write a quantised Conv or MatMul whose result, after Relu or not, is the tensor `result`."""
        g, convolution = self.g, node.op_type == "Conv"
        x = self.codes(node.input[0])
        w = self.weights(node.input[1], 0 if convolution else -1, np.int8)
        y = self.parameters(result)
        bias = []
        if len(node.input) > 2:
            unit = g.constants[x[1]] * g.constants[w[1]]
            values = np.rint(self.floats[node.input[2]] / unit)
            bias = [g.constant(f"{node.input[2]}_quantized", values.astype(np.int32))]
        if not self.qdq:
            op = "QLinearConv" if convolution else "QLinearMatMul"
            g.add(op, [*x, *w, *y, *bias], f"{result}_quantized", **_attributes(node))
        else:
            axis = 0 if convolution else -1
            inputs = [
                g.add("DequantizeLinear", list(x), f"{node.output[0]} x"),
                g.add("DequantizeLinear", list(w), f"{node.output[0]} w", axis=axis),
            ]
            if bias:
                scale = g.constant(f"{bias[0]}_scale", g.constants[x[1]] * g.constants[w[1]])
                inputs.append(g.add("DequantizeLinear", [bias[0], scale], f"{node.output[0]} bias", axis=0))
            raw = g.add(node.op_type, inputs, f"{result} float", **_attributes(node))
            g.add("QuantizeLinear", [raw, *y], f"{result}_quantized")
        self.done[result] = (f"{result}_quantized", *y)

    def pool(self, node: onnx.NodeProto) -> None:
        """Write a MaxPool on codes: the greatest code stands for the greatest number."""
        x, scale, zero = self.codes(node.input[0])
        result = node.output[0]
        if not self.qdq:
            picked = self.g.add("MaxPool", [x], f"{result}_quantized", **_attributes(node))
        else:
            value = self.g.add("DequantizeLinear", [x, scale, zero], f"{result} x")
            value = self.g.add("MaxPool", [value], f"{result} float", **_attributes(node))
            picked = self.g.add("QuantizeLinear", [value, scale, zero], f"{result}_quantized")
        self.done[result] = (picked, scale, zero)
