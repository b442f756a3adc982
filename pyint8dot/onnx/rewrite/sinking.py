"""Operators that only move numbers, or pick among them by order, do the same to their codes: they come first.

What dequantises in front of such an operator is moved behind it, where the next pattern finds it, or fewer bytes have been
moved.
"""

from __future__ import annotations

import numpy as np

from pyint8dot.onnx.graph import Graph, Node
from pyint8dot.onnx.rewrite.codes import Codes, add_tensor, codes, is_scalar
from pyint8dot.onnx.rewrite.match import Match

_MOVING = {
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Gather", "GatherElements", "GatherND", "Slice",
    "Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin",
    "Resize", "Concat", "Max", "Min", "Where", "Compress",
}  # fmt: skip
SINKING = frozenset(_MOVING)
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
