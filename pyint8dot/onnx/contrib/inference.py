"""Types and shapes of a model with operators of com.microsoft, by onnx's inference with stand-ins for those."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from pyint8dot.onnx.contrib.fused import FUSED_NODES
from pyint8dot.onnx.contrib.guarded import infer_shapes
from pyint8dot.onnx.contrib.quantised import QUANTISED
from pyint8dot.onnx.contrib.writer import MICROSOFT, Rule, Scope, Writer, all_graphs, replace, rule

# Operators that onnxruntime knows in ONNX's own domain before ONNX itself does, or whose first version ONNX no longer lets pass,
# with the version from which on they are ONNX's.
_EARLY = {"LayerNormalization": 17, "SimplifiedLayerNormalization": 1 << 62, "Gelu": 20, "GroupNormalization": 21}

_WRITTEN: dict[str, Rule] = {**QUANTISED, **FUSED_NODES}
_STAND_INS: dict[str, Rule] = {}


def write_out(model: onnx.ModelProto) -> None:
    """Write out the nodes of com.microsoft that are groups of ONNX's own, in place.

    Parameters
    ----------
    model : onnx.ModelProto
        A model whose graph is known to be one.
    """
    opset = next((o.version for o in model.opset_import if not o.domain), 1)
    for graph in all_graphs(model.graph):
        for node in graph.node:
            if not node.domain and opset < _EARLY.get(node.op_type, 0):
                node.domain = MICROSOFT
    found = {node.domain for graph in all_graphs(model.graph) for node in graph.node}
    if MICROSOFT not in found:
        return
    scope = Scope(model)
    for graph in all_graphs(model.graph):
        replace(graph, scope, _WRITTEN)
    if all(o.domain != MICROSOFT for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def infer(model: onnx.ModelProto, *, strict: bool = True) -> onnx.ModelProto:
    """Return a model with the types of its tensors, as `onnx.shape_inference.infer_shapes` does.

    Parameters
    ----------
    model : onnx.ModelProto
        Any model.
    strict : bool
        Whether what does not fit is an error.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    onnx.shape_inference.InferenceError
        If types or shapes do not fit.
    """
    if not any(n.domain == MICROSOFT for graph in all_graphs(model.graph) for n in graph.node):
        return infer_shapes(model, check_type=True, strict_mode=strict)
    shadow = onnx.ModelProto()
    shadow.CopyFrom(model)
    scope = Scope(shadow)
    for graph in all_graphs(shadow.graph):
        replace(graph, scope, _STAND_INS)
    try:
        known = infer_shapes(shadow, check_type=True, strict_mode=strict)
    except onnx.shape_inference.InferenceError:
        # It may be a stand-in that does not fit; what is wrong with the model itself shows when its nodes run.
        known = infer_shapes(shadow)
    values = {v.name: v for graph in all_graphs(known.graph) for v in graph.value_info}
    for graph in all_graphs(model.graph):
        del graph.value_info[:]
        graph.value_info.extend(values[n] for node in graph.node for n in node.output if n in values)
    shapes = {v.name: v for v in known.graph.output}
    for value in model.graph.output:
        if not value.type.tensor_type.HasField("shape"):
            value.CopyFrom(shapes[value.name])
    return model


@rule(
    _STAND_INS,
    "Gelu",
    "FastGelu",
    "QuickGelu",
    "LayerNormalization",
    "SimplifiedLayerNormalization",
    "QLinearSoftmax",
    "GroupNormalization",
    "RotaryEmbedding",
)
def _like_first(w: Writer) -> None:
    w.add("Identity", w.input(0), into=w.output(0))
    for index in (1, 2):
        if w.output(index):
            w.on_axes("ReduceMean", w.input(0), [-1], into=w.output(index))


@rule(_STAND_INS, "QuantizeLinear")
def _quantize(w: Writer) -> None:
    kind = w.type(2)
    element = TensorProto.UINT8 if kind is None else helper.np_dtype_to_tensor_dtype(kind)
    w.add("Cast", w.input(0), into=w.output(0), to=element)


@rule(_STAND_INS, "DequantizeLinear")
def _dequantize(w: Writer) -> None:
    kind = w.type(1)
    element = TensorProto.FLOAT if kind is None else helper.np_dtype_to_tensor_dtype(kind)
    w.add("Cast", w.input(0), into=w.output(0), to=element)


@rule(_STAND_INS, "FusedMatMul")
def _fused_matmul(w: Writer) -> bool | None:
    if w.attr("transBatchA", 0) or w.attr("transBatchB", 0):
        return False
    a = "...ki" if w.attr("transA", 0) else "...ik"
    b = "...jk" if w.attr("transB", 0) else "...kj"
    w.add("Einsum", w.input(0), w.input(1), into=w.output(0), equation=f"{a},{b}->...ij")
    return None


@rule(_STAND_INS, "MatMulNBits")
def _matmul_nbits(w: Writer) -> None:
    shape = w.constant([w.attr("K"), w.attr("N")])
    zero = w.type(0) or np.dtype(np.float32)
    weights = w.add("ConstantOfShape", shape, value=onnx.numpy_helper.from_array(np.zeros(1, zero)))
    w.add("MatMul", w.input(0), weights, into=w.output(0))


@rule(_STAND_INS, "PackedQkvAttention")
def _packed_attention(w: Writer) -> None:
    sizes = w.attr("qkv_hidden_sizes")
    if sizes:
        piece = w.add("Slice", w.input(0), w.constant([sizes[0] + sizes[1]]), w.constant([sum(sizes)]), w.constant([2]))
        w.add("Identity", piece, into=w.output(0))
        return
    third = w.scope.fresh(f"{w.output(0)}/third")
    rest = [w.scope.fresh(f"{w.output(0)}/rest") for _ in range(2)]
    count: dict[str, Any] = {"num_outputs": 3} if w.opset >= 18 else {}
    w.add("Split", w.input(0), into=[third, *rest], axis=-1, **count)
    w.add("Identity", third, into=w.output(0))


@rule(_STAND_INS, "MultiHeadAttention")
def _multi_head(w: Writer) -> bool | None:
    if not (w.has(1) and w.has(2)):
        return False
    # Queries set the length of the result, values its width.
    scores = w.add("Einsum", w.input(0), w.input(2), equation="bsh,btv->bsv")
    w.add("Identity", scores, into=w.output(0))
    return None


@rule(_STAND_INS, "GroupQueryAttention")
def _group_query(w: Writer) -> None:
    if w.has(1):
        w.add("Identity", w.input(0), into=w.output(0))
    for index in range(1 if w.has(1) else 0, 3):
        # Lengths that depend on values: the type alone is known.
        if w.output(index):
            w.add("Reshape", w.input(0), w.add("Shape", w.input(0)), into=w.output(index))


@rule(_STAND_INS, "DynamicQuantizeLSTM")
def _lstm(w: Writer) -> None:
    floats = [w.add("Transpose", w.add("Cast", w.input(i), to=TensorProto.FLOAT), perm=[0, 2, 1]) for i in (1, 2)]
    attrs = w.attrs("hidden_size", "direction", "clip", "input_forget")
    w.add("LSTM", w.input(0), *floats, *(w.input(i) for i in range(3, 8)), into=list(w.node.output), **attrs)
