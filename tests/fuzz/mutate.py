"""Changing a model at random, as bytes and as what the bytes mean."""

from __future__ import annotations

import random
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError

NUMBERS = (-1, 0, 1, 2, 3, 7, 64, 255, 65536, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 62), -(1 << 31), -2, -5)
OPS = (
    "Add Mul Neg Identity Reshape Transpose Concat Split Slice Gather Expand Tile Pad MatMul MatMulInteger QLinearMatMul "
    "Conv ConvInteger QLinearConv Softmax LayerNormalization Cast If Loop Scan TopK OneHot Range ConstantOfShape Resize LRN "
    "MaxPool AveragePool GlobalAveragePool SequenceAt SequenceConstruct Where CumSum GatherElements ScatterND Einsum LSTM "
    "ReduceSum ReduceMean QuantizeLinear DequantizeLinear DynamicQuantizeLinear NonZero Unique Compress Size Shape Squeeze "
    "Unsqueeze Flatten Gemm Erf Gelu Pow Clip Dropout Optional HannWindow DFT Col2Im GridSample ConvTranspose Nonsense"
).split()


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """Return a model with one to three changes.

    Parameters
    ----------
    whole : bytes
        The model.
    rng : random.Random
        Decides what is changed.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        whole = (_bytes if rng.random() < 0.3 else _meaning)(whole, rng)
    return whole


def _bytes(whole: bytes, rng: random.Random) -> bytes:
    made = bytearray(whole)
    at = rng.randrange(len(made)) if made else 0
    kind = rng.randrange(5)
    if kind == 0:
        made[at : at + rng.choice((1, 2, 9, 100))] = b""
    elif kind == 1:
        made[at:at] = rng.randbytes(rng.choice((1, 2, 9)))
    elif kind == 2:
        end = rng.randrange(at, min(len(made), at + 64) + 1)
        made[at:at] = made[at:end]
    else:
        for _ in range(rng.choice((1, 1, 4))):
            if made:
                made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _meaning(whole: bytes, rng: random.Random) -> bytes:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(whole)
    except DecodeError:
        return whole
    graphs = [*_graphs(model.graph), *model.functions]
    graph = rng.choice(graphs)
    try:
        _change(model, graph, rng)
    except UnicodeDecodeError:
        # A name that an earlier change has made no text.
        return whole
    return model.SerializeToString()


def _change(model: onnx.ModelProto, graph: onnx.GraphProto | onnx.FunctionProto, rng: random.Random) -> None:
    if rng.random() < 0.05:
        rng.choice(list(model.opset_import) or [onnx.OperatorSetIdProto()]).version = rng.randrange(28)
    elif graph.node and (isinstance(graph, onnx.FunctionProto) or rng.random() < 0.6):
        _node(graph, rng)
    else:
        _tensor(graph, rng)


def _names(graph: onnx.GraphProto | onnx.FunctionProto) -> list[str]:
    return ["", *(name for node in graph.node for name in (*node.input, *node.output))]


def _node(graph: onnx.GraphProto | onnx.FunctionProto, rng: random.Random) -> None:
    node = rng.choice(graph.node)
    kind = rng.randrange(9)
    if kind == 0:
        node.op_type = rng.choice(OPS)
    elif kind == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(_names(graph))
    elif kind == 2 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif kind == 3:
        node.input.append(rng.choice(_names(graph)))
    elif kind == 4 and node.output:
        node.output[rng.randrange(len(node.output))] = rng.choice([*_names(graph), "new"])
    elif kind == 5:
        other = rng.choice(graph.node)
        kept = onnx.NodeProto.FromString(other.SerializeToString())
        other.CopyFrom(node)
        node.CopyFrom(kept)
    elif kind == 6 and node.attribute:
        del node.attribute[rng.randrange(len(node.attribute))]
    elif node.attribute:
        _attribute(rng.choice(node.attribute), rng)
    else:
        name = rng.choice(
            ("axis", "axes", "keepdims", "to", "perm", "group", "pads", "strides", "kernel_shape", "size")
        )
        value = rng.choice(NUMBERS[:12])
        node.attribute.append(onnx.helper.make_attribute(name, [value] if name.endswith("s") else value))


def _attribute(attribute: onnx.AttributeProto, rng: random.Random) -> None:
    number = rng.choice(NUMBERS)
    kind = rng.randrange(5)
    if kind == 0:
        attribute.type = rng.randrange(15)
    elif attribute.type == onnx.AttributeProto.INTS and attribute.ints:
        if kind == 1:
            del attribute.ints[rng.randrange(len(attribute.ints))]
        else:
            attribute.ints[rng.randrange(len(attribute.ints))] = number
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = rng.choice((b"", b"SAME_UPPER", b"linear", b"\xff\xfe", b"ij,jk->ik"))
    else:
        attribute.i = number


def _tensor(graph: onnx.GraphProto, rng: random.Random) -> None:
    values = [*graph.input, *graph.output, *graph.value_info]
    kind = rng.randrange(6)
    if kind < 3 and graph.initializer:
        tensor = rng.choice(graph.initializer)
        if kind == 0 and tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
        elif kind == 1:
            tensor.data_type = rng.randrange(25)
        elif tensor.data_type == onnx.TensorProto.INT64 and len(tensor.raw_data) >= 8:
            raw, at = bytearray(tensor.raw_data), 8 * rng.randrange(len(tensor.raw_data) // 8)
            raw[at : at + 8] = rng.choice(NUMBERS).to_bytes(8, "little", signed=True)
            tensor.raw_data = bytes(raw)
        elif tensor.raw_data:
            raw = bytearray(tensor.raw_data)
            raw[rng.randrange(len(raw))] = rng.randrange(256)
            tensor.raw_data = bytes(raw)
    elif kind == 3 and values:
        rng.choice(values).type.tensor_type.elem_type = rng.randrange(25)
    elif kind == 4 and values:
        dims = rng.choice(values).type.tensor_type.shape.dim
        if dims and rng.random() < 0.7:
            rng.choice(dims).dim_value = rng.choice(NUMBERS[:9])
        else:
            dims.add().dim_value = rng.choice(NUMBERS[:5])
    elif graph.initializer:
        graph.input.append(onnx.helper.make_tensor_value_info(rng.choice(graph.initializer).name, 1, None))
