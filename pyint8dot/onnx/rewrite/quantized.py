"""Patterns of quantised models: dynamic products with their scaling, and quantise-dequantise pairs around an operator."""

from __future__ import annotations

import numpy as np
import onnx

from pyint8dot import quantize
from pyint8dot.onnx.graph import FUSED, Graph, Node
from pyint8dot.onnx.registry import INT8
from pyint8dot.onnx.rewrite.codes import Codes, add_constant, clamped, codes, is_scalar, quantised_as, with_clamp
from pyint8dot.onnx.rewrite.match import Match, Rewrite
from pyint8dot.onnx.rewrite.recode import recode
from pyint8dot.onnx.rewrite.sinking import SINKING, average_apart, quantise_first, sink


def _dynamic(match: Match, last: Node) -> Node | None:
    """MatMulInteger or ConvInteger -> Cast to float -> Mul by the scale."""
    graph = match.graph
    for cast_name, scale in (last.inputs, last.inputs[::-1]):
        cast = match.only(cast_name, "Cast")
        if cast is None or cast.attrs.get("to") != onnx.TensorProto.FLOAT or graph.dtype(scale) != np.float32:
            continue
        product = match.only(cast.inputs[0], "MatMulInteger", "ConvInteger")
        if product is None:
            continue
        op = "MatMulFloat" if product.op == "MatMulInteger" else "ConvFloat"
        inputs = [*product.inputs, *[""] * (4 - len(product.inputs)), scale]
        if op == "ConvFloat" and not _one_a_channel(graph, scale, graph.rank(product.inputs[1])):
            continue
        attrs, covers = dict(product.attrs), [*product.covers, "Cast", "Mul"]
        factors = match.only(scale, "Mul")
        constant, live = match.split(factors) if factors is not None else (None, "")
        if op == "MatMulFloat" and constant is not None:
            # The scale of the weights: one step less, and the same float32 products.
            inputs[-1], attrs["unit"] = live, graph.constants[constant]
            covers.insert(0, "Mul")
        return Node(op, FUSED, product.name, inputs, list(last.outputs), attrs, covers=covers)
    return None


def _one_a_channel(graph: Graph, name: str, rank: int | None) -> bool:
    """Tell whether a scale has one element, or one per channel, and no more dimensions than the convolution."""
    value, info = graph.constants.get(name), graph.types.get(name)
    shape = list(value.shape) if value is not None else info.shape if info and info.ranked else None
    if shape is None or rank is None or len(shape) > rank:
        return False
    wide = [1] * (rank - len(shape)) + shape
    return wide[0] == 1 and all(d == 1 for d in wide[2:])


def _bias(match: Match, last: Node) -> Node | None:
    """Add of a constant row (or one value per channel) to a scaled product."""
    graph = match.graph
    bias, rest = match.split(last)
    product = match.only(rest, "MatMulFloat", "ConvFloat")
    if product is None or bias is None or len(product.inputs) > 5 or product.attrs.get("act"):
        return None
    value = graph.constants[bias]
    weights = graph.constants.get(product.inputs[1])
    if value.dtype != np.float32 or weights is None:
        return None
    if product.op == "MatMulFloat" and value.shape != weights.shape[-1:]:
        return None
    if product.op == "ConvFloat" and value.shape != (1, weights.shape[0], *[1] * (weights.ndim - 2)):
        return None
    return Node(
        product.op,
        FUSED,
        product.name,
        [*product.inputs, bias],
        list(last.outputs),
        product.attrs,
        covers=[*product.covers, "Add"],
    )


def _activation(match: Match, last: Node) -> Node | None:
    """Relu or GELU of a scaled product; of one of weights in blocks the exact GELU, which patterns make."""
    product = match.only(last.inputs[0], "MatMulFloat", "ConvFloat", "MatMulNBits")
    if product is None or product.attrs.get("act") or (last.op == "Gelu" and product.op == "ConvFloat"):
        return None
    if product.op == "MatMulNBits" and (last.domain != FUSED or match.graph.dtype(product.inputs[0]) != np.float32):
        return None
    if last.op == "Gelu" and last.attrs.get("approximate", "none") != "none":
        return None
    attrs = {**product.attrs, "act": last.op.lower()}
    covers = [*product.covers, *last.covers]
    return Node(product.op, FUSED, product.name, list(product.inputs), list(last.outputs), attrs, covers=covers)


def _blocks_bias(match: Match, last: Node) -> Node | None:
    """Add of a constant row to a product of weights in blocks that has no bias."""
    graph = match.graph
    bias, rest = match.split(last)
    product = match.only(rest, "MatMulNBits")
    if product is None or bias is None or any(product.inputs[5:]) or product.attrs.get("act"):
        return None
    value, scales = graph.constants[bias], graph.constants.get(product.inputs[2])
    # In float16 the sum would be rounded once and not twice.
    if value.dtype != np.float32 or value.shape != (product.attrs.get("N"),) or scales is None:
        return None
    if scales.dtype != np.float32 or graph.dtype(product.inputs[0]) != np.float32:
        return None
    inputs = [*product.inputs, *[""] * (5 - len(product.inputs))][:5]
    covers = [*product.covers, *last.covers]
    return Node(product.op, FUSED, product.name, [*inputs, bias], list(last.outputs), product.attrs, covers=covers)


def _quantised_here(match: Match, last: Node) -> Node | None:
    """DynamicQuantizeLinear whose results serve one scaled product alone."""
    a, b, zero, b_zero, scale, *bias = last.inputs
    maker = match.maker(a, "DynamicQuantizeLinear")
    if maker is None or maker.outputs != [a, scale, zero] or not all(map(match.private, maker.outputs)):
        return None
    [x] = maker.inputs
    if match.graph.dtype(x) != np.float32:
        return None
    inputs, covers = [x, b, "", b_zero, "", *bias], [*maker.covers, *last.covers]
    return Node("MatMulFloat", FUSED, last.name, inputs, list(last.outputs), last.attrs, covers=covers)


def _qdq_product(match: Match, last: Node) -> Node | list[Node] | None:
    """Dequantised operands -> MatMul, Gemm or Conv -> Relu, Clip or not -> QuantizeLinear: one QLinear operator."""
    result = quantised_as(match, last)
    if result is None:
        return None
    name, covers, clamp = clamped(match, last, result)
    node = match.only(name, "MatMul", "Gemm", "Conv", "ConvTranspose")
    if node is None:
        return None
    found = _operands(match, node)
    if found is None:
        return None
    a, b = found
    bias = ""
    if len(node.inputs) > 2 and node.inputs[2]:
        known = _int32_bias(match, node.inputs[2], a, b)
        if known is None:
            return None
        bias = known
    inputs = [a.name, a.scale, a.zero_point, b.name, b.scale, b.zero_point, *result, bias]
    op = f"QLinear{node.op}" if "Conv" in node.op else "QLinearMatMul"
    covers = ["DequantizeLinear", "DequantizeLinear", node.op, *covers]
    attrs = dict(node.attrs) if "Conv" in node.op else {}
    domain = FUSED if node.op == "ConvTranspose" else ""
    return with_clamp(match, Node(op, domain, node.name, inputs, list(last.outputs), attrs, covers=covers), clamp)


def _operands(match: Match, node: Node) -> tuple[Codes, Codes] | None:
    """Return the codes of a product's two operands, brought to the form of the quantised operators."""
    graph = match.graph
    a, b = codes(match, node.inputs[0]), codes(match, node.inputs[1])
    if a is None or b is None or not is_scalar(graph, a):
        return None
    if node.op == "Gemm":
        if node.attrs.get("transA", 0) or (len(node.inputs) > 2 and node.attrs.get("beta", 1.0) != 1.0):
            return None
        if node.attrs.get("transB", 0):
            if b.name not in graph.constants:
                return None
            turned = add_constant(graph, f"{b.name} turned", np.ascontiguousarray(graph.constants[b.name].T))
            b = b._replace(name=turned, axis=1 - b.axis % 2)
        alpha = np.float32(node.attrs.get("alpha", 1.0))
        if alpha != 1:
            a = a._replace(scale=add_constant(graph, f"{a.name} alpha", graph.constants[a.scale] * alpha))
    if node.op == "ConvTranspose":
        weights = graph.constants.get(b.name)
        if weights is None or weights.ndim < 3 or node.attrs.get("group", 1) != 1:
            return None
    if is_scalar(graph, b):
        return a, b
    rank = graph.rank(b.name)
    if rank is None or graph.constants[b.scale].ndim != 1:
        return None
    along = {"Conv": 0, "ConvTranspose": 1}.get(node.op, rank - 1)
    return (a, b) if b.axis % rank == along else None


def _int32_bias(match: Match, name: str, a: Codes, b: Codes) -> str | None:
    """Return the int32 bias whose unit is the product of the operands' scales."""
    graph = match.graph
    node = match.maker(name, "DequantizeLinear")
    if node is None or node.inputs[0] not in graph.constants or graph.dtype(node.inputs[0]) != np.int32:
        return None
    scale = graph.constants.get(node.inputs[1])
    zero = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    unit = graph.constants[a.scale].reshape(()) * graph.constants[b.scale]
    if scale is None or (zero is not None and zero.any()) or graph.constants[node.inputs[0]].ndim != 1:
        return None
    try:
        same = np.allclose(scale, unit, rtol=1e-5, atol=0)
    except ValueError:
        return None
    return node.inputs[0] if same else None


def _qdq_float(match: Match, last: Node) -> Node | None:
    """Dequantised operands -> MatMul, Gemm or Conv with a float result."""
    graph = match.graph
    found = _operands(match, last)
    if found is None:
        return None
    a, b = found
    weights = graph.constants.get(b.name)
    conv = last.op == "Conv"
    if weights is None or (weights.ndim < 3 if conv else weights.ndim != 2):
        return None
    scale = graph.constants[a.scale].reshape(()) * graph.constants[b.scale]
    each = (1, -1, *[1] * (weights.ndim - 2)) if conv and scale.size > 1 else scale.shape
    bias = []
    if len(last.inputs) > 2 and last.inputs[2]:
        value = _float_constant(match, last.inputs[2])
        if value is None or value.shape != (weights.shape[0 if conv else -1],):
            return None
        shape = (1, -1, *[1] * (weights.ndim - 2)) if conv else (-1,)
        bias.append(add_constant(graph, f"{last.outputs[0]} bias", value.reshape(shape)))
    unit = add_constant(graph, f"{last.outputs[0]} scale", np.asarray(scale, np.float32).reshape(each))
    covers = ["DequantizeLinear", "DequantizeLinear", last.op]
    inputs = [a.name, b.name, a.zero_point, b.zero_point, unit, *bias]
    attrs = dict(last.attrs) if conv else {}
    op = "ConvFloat" if conv else "MatMulFloat"
    return Node(op, FUSED, last.name, inputs, list(last.outputs), attrs, covers=covers)


def _float_constant(match: Match, name: str) -> np.ndarray | None:
    """Return a float32 constant, one that is dequantised included."""
    graph = match.graph
    node = match.maker(name, "DequantizeLinear")
    if node is None:
        value = graph.constants.get(name)
        return value if value is not None and value.dtype == np.float32 else None
    parts = [graph.constants[n] for n in node.inputs if n in graph.constants]
    if len(parts) != len([n for n in node.inputs if n]) or parts[1].dtype != np.float32:
        return None
    if node.attrs.get("block_size") or parts[0].dtype not in (*INT8, np.dtype(np.int32)):
        return None
    # Of one dimension there is but one axis.
    return np.asarray(quantize.dequantize_by(*parts, axis=0)) if parts[0].ndim == 1 else None


REWRITES: tuple[tuple[str | frozenset[str], Rewrite], ...] = (
    (SINKING, sink),
    ("QuantizeLinear", quantise_first),
    ("QuantizeLinear", average_apart),
    ("Mul", _dynamic),
    ("QuantizeLinear", _qdq_product),
    ("MatMul", _qdq_float),
    ("Gemm", _qdq_float),
    ("Conv", _qdq_float),
    ("QuantizeLinear", recode),
    ("Add", _bias),
    ("Add", _blocks_bias),
    ("Relu", _activation),
    ("Gelu", _activation),
    ("MatMulFloat", _quantised_here),
)
