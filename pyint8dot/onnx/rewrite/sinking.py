"""Operators that only move numbers, or pick among them by order, do the same to their codes: they come first.

What dequantises in front of such an operator is moved behind it, where the next pattern finds it, or fewer bytes have been
moved. What quantises behind another shape, or an average of joined tensors, is moved in front likewise.
"""

from __future__ import annotations

import numpy as np

from pyint8dot.onnx.graph import Graph, Node
from pyint8dot.onnx.rewrite.codes import Codes, add_tensor, codes, is_scalar, one_scale, quantised_as
from pyint8dot.onnx.rewrite.match import Match

_MOVING = {
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Gather", "GatherElements", "GatherND", "Slice",
    "Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin",
    "Resize", "Concat", "Max", "Min", "Where", "Compress",
}  # fmt: skip
SINKING = frozenset(_MOVING)
_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
# The inputs that hold the numbers, where it is not the first alone.
_MANY = {"Concat", "Max", "Min", "Where"}


def numbers(node: Node) -> range:
    """Return which inputs hold the numbers that an operator moves."""
    if node.op in _MANY:
        return range(1 if node.op == "Where" else 0, len(node.inputs))
    return range(1)


def moves(graph: Graph, node: Node) -> bool:
    """Tell whether an operator moves numbers only, of any type."""
    if node.domain or node.op not in _MOVING:
        return False
    if node.op == "Resize":
        # The area outside, where it is cut, is a number of its own.
        return node.attrs.get("mode", "nearest") == "nearest" and "crop" not in node.attrs.get(
            "coordinate_transformation_mode", ""
        )
    if node.op in ("Max", "Min", "ReduceMax", "ReduceMin") and graph.opset < 12:
        return False  # 8 bits are not among their types there
    return not (node.op == "MaxPool" and len([o for o in node.outputs if o]) > 1)


def sink(match: Match, node: Node) -> list[Node] | None:
    """DequantizeLinear -> an operator that moves numbers: the other way round."""
    graph = match.graph
    if not moves(graph, node):
        return None
    sources = [codes(match, node.inputs[i]) for i in numbers(node)]
    first = sources[0] if sources else None
    if first is None or any(s is None or not _alike(graph, s, first) for s in sources):
        return None
    axis = _moved_axis(graph, node, first)
    if axis is None:
        return None
    inputs = list(node.inputs)
    for i, source in zip(numbers(node), sources, strict=True):
        assert source is not None  # noqa: S101 - seen above
        inputs[i] = source.name
    kind = graph.dtype(first.name)
    inner = [o and add_tensor(graph, f"{o} codes", o, kind) for o in node.outputs]
    moved = Node(node.op, node.domain, node.name, inputs, inner, dict(node.attrs), node.proto, list(node.covers))
    return [
        moved,
        *(
            Node(
                "DequantizeLinear", "", node.name, [name, first.scale, first.zero_point], [output], {"axis": axis},
                covers=["DequantizeLinear"],
            )
            for name, output in zip(inner, node.outputs, strict=True) if output
        ),
    ]  # fmt: skip


def quantise_first(match: Match, last: Node) -> list[Node] | None:
    """Reshape or its like -> QuantizeLinear: the other way round, where no codes have been reshaped."""
    graph = match.graph
    node = match.only(last.inputs[0], *_RESHAPING)
    if node is None or quantised_as(match, last) is None:
        return None
    if graph.dtype(node.inputs[0]) != np.float32 or codes(match, node.inputs[0]) is not None:
        return None
    made = _quantised(graph, last, node.inputs[0])
    return [made, _like(node, [*made.outputs, *node.inputs[1:]], last.outputs)]


def average_apart(match: Match, last: Node) -> list[Node] | None:
    """Concat of codes along the channels -> AveragePool -> QuantizeLinear: each part is averaged and quantised, and joined then.

    Parts that have scales of their own are codes in this way, else it is the whole that would be floats.
    """
    graph = match.graph
    node = match.only(last.inputs[0], "AveragePool", "GlobalAveragePool")
    joined = match.only(node.inputs[0], "Concat") if node is not None else None
    if node is None or joined is None or quantised_as(match, last) is None:
        return None
    rank = graph.rank(node.inputs[0])
    if not rank or joined.attrs.get("axis", 1) % rank != 1:
        return None
    if any(one_scale(match, name) is None for name in joined.inputs):
        return None
    nodes, parts = list[Node](), list[str]()
    for name in joined.inputs:
        average = add_tensor(graph, f"{node.outputs[0]} of {name}", node.outputs[0], np.dtype(np.float32))
        # A part has channels of its own.
        part = graph.types.get(name)
        graph.types[average].shape[1:2] = (part.shape[1:2] if part else []) or [None]
        made = _quantised(graph, last, average)
        nodes += [_like(node, [name], [average]), made]
        parts += made.outputs
    return [*nodes, _like(joined, parts, last.outputs)]


def _like(node: Node, inputs: list[str], outputs: list[str]) -> Node:
    """Return the same operator on other tensors."""
    return Node(node.op, node.domain, node.name, inputs, list(outputs), dict(node.attrs), node.proto, list(node.covers))


def _quantised(graph: Graph, last: Node, name: str) -> Node:
    """Return a node that quantises a tensor as another is."""
    zero = graph.constants[last.inputs[2]]
    made = add_tensor(graph, f"{name} codes", name, zero.dtype)
    return _like(last, [name, *last.inputs[1:]], [made])


def _alike(graph: Graph, one: Codes, other: Codes) -> bool:
    """Tell whether the codes of two tensors stand for the same numbers."""
    if one == other._replace(name=one.name):
        return True
    return (
        is_scalar(graph, one)
        and is_scalar(graph, other)
        and graph.constants[one.zero_point].dtype == graph.constants[other.zero_point].dtype
        and bool(graph.constants[one.scale].reshape(()) == graph.constants[other.scale].reshape(()))
        and bool(graph.constants[one.zero_point].reshape(()) == graph.constants[other.zero_point].reshape(()))
    )


def _moved_axis(graph: Graph, node: Node, found: Codes) -> int | None:
    """Return the axis that scales run along behind the operator; any where there is but one scale, None where none is."""
    if is_scalar(graph, found):
        # A negative or zero scale turns the order round, or has none.
        ordered = node.op in ("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Max", "Min")
        return None if ordered and not bool(graph.constants[found.scale].reshape(()) > 0) else 1
    rank = graph.rank(found.name)
    perm = node.attrs.get("perm")
    if node.op != "Transpose" or rank is None or perm is None or np.ndim(graph.constants[found.scale]) != 1:
        return None
    return int(list(perm).index(found.axis % rank))
