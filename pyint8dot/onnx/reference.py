"""Both directions between the session and onnx's reference implementation.

A node the session has no function for runs there, one node a model; and the session's functions can be plugged into a
`ReferenceEvaluator` in the place of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from pyint8dot.engine import dispatch, threads
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.errors import ModelError
from pyint8dot.onnx.graph import Graph, Node, TensorInfo
from pyint8dot.onnx.registry import OPERATORS, Function, Site
from pyint8dot.onnx.structure import graphs_of

# The operators that are plugged into a ReferenceEvaluator: those whose own implementation there is slow.
PLUGGED = (
    "MatMulInteger", "QLinearMatMul", "ConvInteger", "QLinearConv",
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
    "Erf", "Gelu", "Softmax", "LayerNormalization", "MaxPool", "AveragePool", "LRN", "Conv",
)  # fmt: skip

# Shapes are worked out from the values of inputs no longer than this: shapes, axes, repeats, pads.
_SHAPE_VALUES = 64
# What one sample of a RoiAlign takes there.
_SAMPLE = 256
# Skips that a TfIdfVectorizer may try at least, whatever the length of its rows.
_SKIPS = 1000
# A plugged operator leaves sizes to its evaluator.
_NO_LIMIT = 1 << 62


def lower_by_reference(site: Site) -> Function:
    """Return a function that runs the node by onnx's reference implementation.

    Parameters
    ----------
    site : Site
        The node.

    Returns
    -------
    callable
        Takes the node's inputs.

    Raises
    ------
    ModelError
        If the reference does not know the operator either.
    """
    node, graph = site.node, site.graph
    if node.proto is None:
        raise ModelError(f"{node}: a fused node must have a function of its own")
    if any(True for _ in graphs_of(node.proto)):
        raise ModelError(f"{node}: operator {node.op!r} with inner graphs is not known")
    model, names = _one_node_model(node, node.proto, graph)
    if not (node.domain in ("", "ai.onnx.ml") or node.domain.startswith("ai.onnx.preview")):
        raise ModelError(f"{node}: operator {node.op!r} of domain {node.domain!r} is not known")
    try:
        evaluator = ReferenceEvaluator(model)
    except Exception as error:  # noqa: BLE001 - the reference raises many kinds
        raise ModelError(
            f"{node}: operator {node.op!r} of domain {node.domain or 'ai.onnx'!r}, version {site.opset}, is not known "
            f"here nor to onnx's reference implementation ({_short(error)})"
        ) from None
    outputs = [name for name in node.outputs if name]
    limit = site.max_bytes

    def run(*values: Any) -> Any:
        feed = {name: value for name, value in zip(names, values, strict=True) if name}
        _check_results(model, feed, limit)
        _check_inside(node, feed, limit)
        found = dict(zip(outputs, map(_text_as_objects, evaluator.run(None, feed)), strict=True))
        return tuple(found.get(name) for name in node.outputs)

    return run


def _text_as_objects(value: Any) -> Any:
    """Return text as everywhere else, and as onnxruntime does: in objects, not cut to the longest item."""
    return value.astype(object) if isinstance(value, np.ndarray) and value.dtype.kind == "U" else value


def _one_node_model(node: Node, proto: onnx.NodeProto, graph: Graph) -> tuple[onnx.ModelProto, list[str]]:
    names = list(node.inputs)
    # Patterns may have given its tensors other names.
    named = onnx.NodeProto()
    named.CopyFrom(proto)
    del named.input[:]
    named.input.extend(node.inputs)
    for place, name in enumerate(node.outputs):
        if name:
            named.output[place] = name
    for attribute in named.attribute:
        # The reference knows the modes of GridSample by their names from opset 20 on alone.
        if node.op == "GridSample" and attribute.s in (b"bilinear", b"bicubic"):
            attribute.s = attribute.s.removeprefix(b"bi")
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    inner = onnx.helper.make_graph(
        [named],
        "one_node",
        [graph.protos.get(name) or _value(graph, name) for name in dict.fromkeys(names) if name],
        [onnx.helper.make_empty_tensor_value_info(name) for name in node.outputs if name],
    )
    return onnx.helper.make_model(inner, opset_imports=opsets), names


def _value(graph: Graph, name: str) -> onnx.ValueInfoProto:
    """Describe a tensor that the model's own types do not cover, such as an initialiser."""
    try:
        kind = graph.dtype(name)
        element = onnx.helper.np_dtype_to_tensor_dtype(kind) if kind is not None else 0
    except (KeyError, ValueError, TypeError):
        element = 0
    if not element:
        return onnx.helper.make_empty_tensor_value_info(name)
    return onnx.helper.make_tensor_value_info(name, element, None)


def _check_results(model: onnx.ModelProto, feed: dict[str, Any], limit: int) -> None:
    """Work out the results' shapes from the values of the inputs, and refuse what is too large."""
    node = model.graph.node[0]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.input[:]
    for name, value in feed.items():
        if not isinstance(value, np.ndarray):
            return
        try:
            element = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        except (KeyError, ValueError, TypeError):
            return
        probe.graph.input.append(onnx.helper.make_tensor_value_info(name, element, value.shape))
        if value.size <= _SHAPE_VALUES and value.dtype.kind in "fiu":
            probe.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    inferred = onnx.shape_inference.infer_shapes(probe)
    for output in inferred.graph.output:
        dims = output.type.tensor_type.shape.dim
        if dims and all(d.HasField("dim_value") for d in dims):
            what = f"node {node.name or output.name!r} ({node.op_type}): output {output.name!r}"
            check_shape([d.dim_value for d in dims], 8, limit, what)


def _check_inside(node: Node, feed: dict[str, Any], limit: int) -> None:
    """Refuse what the reference would make on the way to a result, where that may be larger than the result."""
    what = f"{node}: on the way to output {node.outputs[0]!r}"
    if node.op == "RoiAlign":
        # It makes a list of all samples of a region.
        ratio = max(int(node.attrs.get("sampling_ratio", 0)), 1)
        size = [int(node.attrs.get(name, 1)) for name in ("output_height", "output_width")]
        check_shape([len(feed[node.inputs[1]]), *size, ratio, ratio], _SAMPLE, limit, what)
    if node.op == "MaxUnpool":
        # It makes what would come out without the last input first.
        x, kernel = feed[node.inputs[0]], node.attrs["kernel_shape"]
        strides = node.attrs.get("strides") or [1] * len(kernel)
        spatial = [(d - 1) * s + k for d, s, k in zip(x.shape[2:], strides, kernel, strict=False)]
        check_shape([*x.shape[:2], *map(abs, spatial)], 8, limit, what)

    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        # It repeats every scale to the length of its block before it looks at x.
        check_shape([*feed[node.inputs[1]].shape, max(int(node.attrs.get("block_size", 0)), 1)], 8, limit, what)
    if node.op == "TfIdfVectorizer":
        # It tries every skip up to the largest, even those that no row is long enough for.
        length = feed[node.inputs[0]].shape[-1] if feed[node.inputs[0]].ndim else 1
        if int(node.attrs.get("max_skip_count", 0)) > max(length, _SKIPS):
            raise ModelError(f"{node}: max_skip_count is {node.attrs['max_skip_count']}, with rows of {length}")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 200 else text[:200] + "..."


def onnx_ops(kernel: str | None = None, num_threads: int | None = None) -> list[type[OpRun]]:
    """Return this package's operators for `onnx.reference.ReferenceEvaluator(model, new_ops=...)`.

    Parameters
    ----------
    kernel : str, optional
        Name of the kernel that integer products run on; by default the best one of this machine.
    num_threads : int, optional
        How many threads they use.

    Returns
    -------
    list of type
        Subclasses of `onnx.reference.op_run.OpRun`.

    Raises
    ------
    KernelError
        If there is no such kernel here.
    TypeError, ValueError
        If `kernel` is not a str, or `num_threads` not an int from 1 to 1024.

    Examples
    --------
    >>> evaluator = ReferenceEvaluator(model, new_ops=onnx_ops())  # doctest: +SKIP
    """
    if kernel is not None:
        kernel = dispatch.select(kernel).name
    count = None if num_threads is None else threads.checked(num_threads)
    return [_plug(name, kernel, count, _NO_LIMIT) for name in PLUGGED]


def _plug(name: str, kernel: str | None, num_threads: int | None, max_bytes: int) -> type[OpRun]:
    def _run(self: Any, *inputs: Any, **attributes: Any) -> Any:
        graph = Graph(onnx.ModelProto(graph=onnx.GraphProto()))
        graph.opsets = dict(self.run_params["opsets"])
        return _run_one(graph, self.onnx_node, inputs, attributes, (kernel, num_threads, max_bytes))

    return type(name, (OpRun,), {"op_domain": "", "_run": _run})


def _run_one(
    graph: Graph,
    proto: onnx.NodeProto,
    inputs: tuple[Any, ...],
    attributes: dict[str, Any],
    settings: tuple[str | None, int | None, int],
) -> tuple[Any, ...]:
    names = list(proto.input)[: len(inputs)]
    for name, value in zip(names, inputs, strict=True):
        if isinstance(value, np.ndarray | np.generic):
            graph.types[name] = TensorInfo(name, "", list(value.shape), value.dtype)
    given = {name: value for name, value in attributes.items() if value is not None}
    node = Node(proto.op_type, "", proto.name, names, list(proto.output), given, proto)
    site = Site(node, graph, *settings)
    lower = OPERATORS.get(node.key)
    function = lower(site) if lower is not None else None
    if function is None:
        function = lower_by_reference(site)
    result = function(*inputs)
    return result if isinstance(result, tuple) else (result,)
