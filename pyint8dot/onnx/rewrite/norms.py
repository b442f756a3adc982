"""Layer normalisation as exporters write it out, and those of its steps that quantisers keep apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pyint8dot.onnx.graph import FUSED, Node, scalar
from pyint8dot.onnx.rewrite.match import Match, Rewrite


class _Root(NamedTuple):
    """The square root of the variance of rows, and of an epsilon with it, or one over that."""

    rows: str
    epsilon: float
    #: The operators that lead to it.
    covers: list[str]


def _layer_norm(match: Match, last: Node) -> Node | None:
    """(x - mean) / sqrt(mean((x - mean)**2) + epsilon) * scale + bias over the last axis."""
    bias, rest = match.split(last)
    if bias is None:
        return _moved(match, last)
    mul = match.only(rest, "Mul")
    return None if mul is None else _scaled(match, mul, last, bias)


def _without_bias(match: Match, last: Node) -> Node | None:
    """The same where nothing is added."""
    return _scaled(match, last, last, "")


def _scaled(match: Match, mul: Node, last: Node, bias: str) -> Node | None:
    """What is normalised, times a constant row: divided by the root, or multiplied by one over it."""
    scale, rest = match.split(mul)
    node = match.only(rest, "Div", "Mul")
    if node is None or scale is None:
        return None
    find, ways = (_root, [node.inputs]) if node.op == "Div" else (_inverse, [node.inputs, node.inputs[::-1]])
    for away, name in ways:
        root = find(match, name)
        if root is not None and _centred(match, away) == root.rows:
            return _made(match, last, root, scale, bias, [node.op, "Mul"])
    return None


def _moved(match: Match, last: Node) -> Node | None:
    """Keras' layers as TensorFlow has them: x * s + (bias - mean * s) with s = scale / sqrt(variance + epsilon)."""
    for product, other in (last.inputs, last.inputs[::-1]):
        mul, sub = match.only(product, "Mul"), match.only(other, "Sub")
        rest = match.only(sub.inputs[1], "Mul") if sub is not None else None
        if mul is None or sub is None or rest is None or sub.inputs[0] not in match.graph.constants:
            continue
        for x, factor in (mul.inputs, mul.inputs[::-1]):
            by = match.maker(factor, "Mul")
            mean = next((n for n in rest.inputs if n != factor), "")
            if by is None or factor not in rest.inputs or not match.private(factor, 2) or not _is_mean(match, mean, x):
                continue
            scale, inverse = match.split(by)
            root = _inverse(match, inverse)
            if scale is not None and root is not None and root.rows == x:
                return _made(match, last, root, scale, sub.inputs[0], ["Mul", "Mul", "Mul", "Sub"])
    return None


def _made(match: Match, last: Node, root: _Root, scale: str, bias: str, more: list[str]) -> Node | None:
    """The operator, if the scale is a row, and nothing has more axes than what is normalised."""
    if match.graph.constants[scale].ndim != 1 or not match.same_rank(last.outputs[0], root.rows):
        return None
    covers = [*root.covers, *more, *(["Add"] if bias else [])]
    inputs, attrs = [root.rows, scale, *([bias] if bias else [])], {"axis": -1, "epsilon": root.epsilon}
    return Node("LayerNormalization", "", last.name, inputs, list(last.outputs), attrs, covers=covers)


def _inverse(match: Match, name: str) -> _Root | None:
    """Return what a tensor is one over."""
    node = match.only(name, "Reciprocal", "Div")
    if node is None or (node.op == "Div" and scalar(match.graph.constants, node.inputs[0]) != 1.0):
        return None
    found = _root(match, node.inputs[-1])
    return None if found is None else found._replace(covers=[*found.covers, node.op])


def _root(match: Match, name: str) -> _Root | None:
    """Return what a tensor is the root of."""
    root = match.only(name, "Sqrt")
    plus = match.only(root.inputs[0], "Add") if root else None
    if plus is None:
        return None
    number, variance = match.split(plus)
    epsilon, mean = scalar(match.graph.constants, number or ""), match.only(variance, "ReduceMean")
    found = None if mean is None else _variance(match, mean)
    if epsilon is None or found is None or match.graph.dtype(found[0]) != np.float32:
        return None
    x, _, square = found
    return _Root(x, epsilon, ["ReduceMean", "Sub", square, "ReduceMean", "Add", "Sqrt"])


def _variance(match: Match, last: Node) -> tuple[str, Node, str] | None:
    """Return the rows whose variance a mean is, the node that takes their mean away, and the operator that squares."""
    square = match.only(last.inputs[0], "Pow", "Mul")
    if square is None or not _over_last_axis(match, last):
        return None
    sub = match.maker(square.inputs[0], "Sub")
    x = _centred(match, square.inputs[0])
    exponent = scalar(match.graph.constants, square.inputs[1])
    if sub is None or x is None:
        return None
    if not (exponent == 2.0 if square.op == "Pow" else square.inputs[1] == sub.outputs[0]):
        return None
    return x, sub, square.op


def _centred(match: Match, name: str) -> str | None:
    """Return the rows whose distances to their mean a tensor is."""
    sub = match.maker(name, "Sub")
    return sub.inputs[0] if sub is not None and _is_mean(match, sub.inputs[1], sub.inputs[0]) else None


def _is_mean(match: Match, name: str, x: str) -> bool:
    """Tell whether a tensor is the mean of rows."""
    mean = match.maker(name, "ReduceMean")
    return mean is not None and mean.inputs[0] == x and _over_last_axis(match, mean)


def _over_last_axis(match: Match, node: Node) -> bool:
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] in match.graph.constants:
        axes = match.graph.constants[node.inputs[1]].reshape(-1).tolist()
    rank = match.graph.rank(node.inputs[0])
    return (
        bool(node.attrs.get("keepdims", 1))
        and axes is not None
        and axes in ([-1], [None if rank is None else rank - 1])
    )


def _residual(match: Match, last: Node) -> Node | None:
    """Layer normalisation over the last axis of a sum that nobody else reads."""
    graph = match.graph
    rank = graph.rank(last.inputs[0])
    total = match.only(last.inputs[0], "Add")
    if total is None or rank is None or last.attrs.get("axis", -1) not in (-1, rank - 1) or len(last.outputs) > 1:
        return None
    if last.attrs.get("stash_type", 1) != 1 or any(graph.dtype(n) != np.float32 for n in total.inputs):
        return None
    if any(graph.rank(n) != 1 for n in last.inputs[1:] if n):
        return None
    inputs = [total.inputs[0], *last.inputs[1:], *[""] * (3 - len(last.inputs)), total.inputs[1]]
    attrs = {"axis": -1, "epsilon": last.attrs.get("epsilon", 1e-5)}
    return Node("AddNormalization", FUSED, last.name, inputs, list(last.outputs), attrs, covers=["Add", *last.covers])


def _factor(match: Match, last: Node) -> list[Node] | None:
    """Such a normalisation times a constant row: its second output."""
    graph = match.graph
    factor, rest = match.split(last)
    norm = match.maker(rest, "AddNormalization")
    if norm is None or factor is None or len(norm.outputs) > 1 or graph.constants[factor].dtype != np.float32:
        return None
    if graph.constants[factor].ndim != 1 or graph.rank(rest) is None:
        return None
    norm.inputs.append(factor)
    norm.outputs.append(last.outputs[0])
    norm.covers.append("Mul")
    return []


def _deviations(match: Match, last: Node) -> list[Node] | None:
    """The variance of rows, whose distances to the mean are read as well: one node with two outputs, in the place of these."""
    found = _variance(match, last)
    if found is None or match.graph.dtype(found[0]) != np.float32 or not match.same_rank(last.outputs[0], found[0]):
        return None
    x, sub, square = found
    sub.op, sub.domain, sub.inputs = "Deviations", FUSED, [x]
    sub.outputs.append(last.outputs[0])
    sub.covers = ["ReduceMean", *sub.covers, square, "ReduceMean"]
    return []


def _by_root(match: Match, last: Node) -> Node | None:
    """Division by a square root."""
    root = match.only(last.inputs[1], "Sqrt")
    if root is None or any(match.graph.dtype(n) != np.float32 for n in (last.inputs[0], root.inputs[0])):
        return None
    inputs, covers = [last.inputs[0], root.inputs[0]], [*root.covers, *last.covers]
    return Node("DivideByRoot", FUSED, last.name, inputs, list(last.outputs), covers=covers)


#: Whole normalisations.
WHOLE: tuple[tuple[str, Rewrite], ...] = (("Add", _layer_norm), ("Mul", _without_bias))
#: What stands before and behind them.
AROUND: tuple[tuple[str, Rewrite], ...] = (("LayerNormalization", _residual), ("Mul", _factor))
#: What is left of them between what quantises.
STEPS: tuple[tuple[str, Rewrite], ...] = (("ReduceMean", _deviations), ("Div", _by_root))
