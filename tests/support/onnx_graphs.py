"""Small ONNX models for the tests, written in one line each, and what onnx's reference makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET = 21


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; names are separated by blanks, `-` stands for one left out."""
    names = [[name if name != "-" else "" for name in text.split()] for text in (inputs, outputs)]
    domain = attributes.pop("domain", "")
    return helper.make_node(op, *names, name=f"the {op}", domain=domain, **attributes)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray | tuple[Any, list[Any]]],
    outputs: dict[str, Any],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = OPSET,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    """A model; an input is an example array, or a pair of type and shape; an output is a type, or such a pair."""
    described = []
    for name, value in inputs.items():
        dtype, shape = (value.dtype, list(value.shape)) if isinstance(value, np.ndarray) else value
        described.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape))
    results = []
    for name, value in outputs.items():
        if isinstance(value, tuple):
            results.append(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(value[0])), value[1])
            )
            continue
        dtype, result = value, onnx.ValueInfoProto(name=name)
        result.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        results.append(result)
    graph = helper.make_graph(
        nodes, "test", described, results, [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    )
    domains = {n.domain for n in nodes} | {f.domain for f in functions or []}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in sorted(domains - {""}))]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions or [])
    # A result needs some shape for the checker; inference fills it in.
    return onnx.shape_inference.infer_shapes(made)


def data(made: onnx.ModelProto) -> bytes:
    """The bytes of a model."""
    return made.SerializeToString()


def reference(made: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What onnx's reference implementation returns."""
    return ReferenceEvaluator(made).run(None, feed)


def ops_of(session):
    """The operators of a session's nodes."""
    return [row.op for row in session.report().rows]


def covered(session):
    """How many nodes of the model these stand for."""
    return sum(len(row.covers) for row in session.report().rows)


def replaceable() -> onnx.ModelProto:
    """x + w and its negative, where a feed may replace w; it says of itself whatever a model can."""
    made = model(
        [node("Add", "x w", "y"), node("Neg", "y", "z")],
        {"x": (np.float32, ["n", 3]), "w": (np.float32, [3])},
        {"y": np.float32, "z": np.float32},
        {"w": np.float32([1, 2, 3])},
    )
    made.producer_name, made.model_version, made.doc_string, made.domain = "a test", 7, "what it does", "org.example"
    made.graph.doc_string = "how"
    made.metadata_props.add(key="labels", value="a,b")
    return made
