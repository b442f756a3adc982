"""Patterns: chains of nodes that one function does better, found by walking from makers to readers.

Every rewrite keeps the values: a quantised product keeps ONNX's own float steps in their order, so what is fused differs
from what is written by no more than the float functions themselves (GELU, layer normalisation) do.
"""

from __future__ import annotations

import math

import numpy as np

from pyint8dot.onnx.errors import ModelError
from pyint8dot.onnx.graph import FUSED, Graph, Node, scalar
from pyint8dot.onnx.rewrite.fold import fold
from pyint8dot.onnx.rewrite.match import Match, Rewrite
from pyint8dot.onnx.rewrite.quantized import REWRITES


def fuse(graph: Graph, max_bytes: int) -> None:
    """Rewrite the graph in place: fold constants, fuse patterns, drop what nobody reads.

    Parameters
    ----------
    graph : Graph
        The graph as the model has it.
    max_bytes : int
        The session's bound on one result.
    """
    # Dequantised weights would hide the quantised ones from the patterns: they are folded last.
    fold(graph, max_bytes, keep=("DequantizeLinear",))
    graph.drop_unused()
    for op, rewrite in (*_FLOAT, *REWRITES):
        apply(graph, op, rewrite)
    _pass_by(graph)
    fold(graph, max_bytes)
    graph.drop_unused()


def _pass_by(graph: Graph) -> None:
    """Let the readers of an Identity read what it reads."""
    inner = {name for node in graph.nodes for name in node.captures}
    same: dict[str, str] = {}
    for node in graph.nodes:
        node.inputs = [same.get(name, name) for name in node.inputs]
        if node.key == ("", "Identity") and node.outputs[0] not in inner and graph.dtype(node.inputs[0]) is not None:
            same[node.outputs[0]] = node.inputs[0]
    graph.drop_unused()


def apply(graph: Graph, op: str | frozenset[str], rewrite: Rewrite) -> None:
    """Try one rewrite at every node of one operator or several.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    op : str or frozenset of str
        The operators at which the pattern ends.
    rewrite : callable
        Returns what takes the place of the last node, or None where the pattern is not there.
    """
    match, ends = Match(graph), {op} if isinstance(op, str) else op
    nodes: list[Node] = []
    for node in graph.nodes:
        try:
            fused = rewrite(match, node) if node.op in ends else None
        except Exception as error:
            raise ModelError(f"{node}: {type(error).__name__}: {error}") from error
        if fused is None:
            nodes.append(node)
            continue
        made = fused if isinstance(fused, list) else [fused]
        nodes.extend(made)
        match.replace(node, made)
    graph.nodes = nodes
    graph.drop_unused()


def _gelu(match: Match, last: Node) -> Node | None:
    """Find x / sqrt(2) -> Erf -> + 1 -> * x -> * 0.5, the two multiplications in any order."""
    graph = match.graph
    factors = match.factors(last)
    if factors is None:
        return None
    constant, rest = factors
    if constant != 0.5 or len(rest) != 2:
        return None
    for x, other in (rest, rest[::-1]):
        plus = match.only(other, "Add")
        if plus is None:
            continue
        erf_out = next((n for n in plus.inputs if scalar(graph.constants, n) is None), "")
        if not any(scalar(graph.constants, n) == 1.0 for n in plus.inputs):
            continue
        erf = match.only(erf_out, "Erf")
        if erf is None:
            continue
        inner = match.only(erf.inputs[0], "Div", "Mul")
        if inner is None or x not in inner.inputs or graph.dtype(x) != np.float32:
            continue
        value = next((v for v in (scalar(graph.constants, n) for n in inner.inputs) if v is not None), 0.0)
        wanted = math.sqrt(2.0) if inner.op == "Div" else math.sqrt(0.5)
        if math.isclose(value, wanted, rel_tol=1e-5) and (inner.op == "Mul" or inner.inputs[0] == x):
            covers = [inner.op, "Erf", "Add", "Mul", "Mul"]
            return Node("Gelu", FUSED, last.name, [x], list(last.outputs), covers=covers)
    return None


def _layer_norm(match: Match, last: Node) -> Node | None:
    """(x - mean) / sqrt(mean((x - mean)**2) + epsilon) * scale + bias over the last axis."""
    graph = match.graph
    bias, scaled = match.split(last)
    mul = match.only(scaled, "Mul")
    if mul is None or bias is None:
        return None
    scale, quotient = match.split(mul)
    div = match.only(quotient, "Div")
    if div is None or scale is None or graph.constants[scale].ndim != 1:
        return None
    root = match.only(div.inputs[1], "Sqrt")
    plus = match.only(root.inputs[0], "Add") if root else None
    if plus is None:
        return None
    epsilon_name, variance = match.split(plus)
    mean_square = match.only(variance, "ReduceMean")
    epsilon = scalar(graph.constants, epsilon_name or "")
    if mean_square is None or epsilon is None or not _over_last_axis(match, mean_square):
        return None
    square = match.only(mean_square.inputs[0], "Pow", "Mul")
    sub = match.maker(div.inputs[0], "Sub")
    if square is None or sub is None or square.inputs[0] != sub.outputs[0]:
        return None
    exponent = scalar(graph.constants, square.inputs[1])
    if not (exponent == 2.0 if square.op == "Pow" else square.inputs[1] == sub.outputs[0]):
        return None
    mean = match.only(sub.inputs[1], "ReduceMean")
    x = sub.inputs[0]
    if mean is None or mean.inputs[0] != x or not _over_last_axis(match, mean) or graph.dtype(x) != np.float32:
        return None
    return Node(
        "LayerNormalization",
        "",
        last.name,
        [x, scale, bias],
        list(last.outputs),
        {"axis": -1, "epsilon": epsilon},
        covers=["ReduceMean", "Sub", square.op, "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"],
    )


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


def _attention(match: Match, last: Node) -> Node | None:
    """Product of queries and keys -> scale or not -> mask or not -> Softmax -> product with the values."""
    graph = match.graph
    softmax = match.only(last.inputs[0], "Softmax")
    if softmax is None or not _along_last_axis(graph, softmax):
        return None
    mask, found = "", _scaled_product(match, softmax.inputs[0])
    masking = match.only(softmax.inputs[0], "Add")
    if masking is not None:
        ways = [(other, _scaled_product(match, name)) for name, other in (masking.inputs, masking.inputs[::-1])]
        mask, found = next((way for way in ways if way[1] is not None), ("", None))
    if found is None:
        return None
    product, scale, covers = found
    inputs = [*product.inputs, last.inputs[1], mask]
    if any(graph.dtype(n) != np.float32 for n in inputs if n) or any(graph.rank(n) not in (3, 4) for n in inputs[:3]):
        return None
    if mask and (graph.rank(mask) or 0) > 4:
        return None
    covers = [*covers, *(["Add"] if mask else []), "Softmax", "MatMul"]
    return Node("Attention", FUSED, last.name, inputs, list(last.outputs), {"scale": scale}, covers=covers)


def _scaled_product(match: Match, name: str) -> tuple[Node, float, list[str]] | None:
    """Return the product that a tensor is, the number that it is multiplied by, and the operators of both."""
    constants = match.graph.constants
    node = match.only(name, "MatMul", "Mul", "Div")
    if node is None or node.op == "MatMul":
        return None if node is None else (node, 1.0, ["MatMul"])
    for x, number in (node.inputs, node.inputs[::-1]) if node.op == "Mul" else (node.inputs,):
        product, value = match.only(x, "MatMul"), scalar(constants, number)
        if product is not None and value and constants[number].ndim < 3:
            return product, value if node.op == "Mul" else 1 / value, ["MatMul", node.op]
    return None


def _along_last_axis(graph: Graph, softmax: Node) -> bool:
    axis = softmax.attrs.get("axis", -1 if graph.opset >= 13 else 1)
    rank = graph.rank(softmax.inputs[0])
    return axis == -1 or (rank is not None and axis == rank - 1)


def _transposed(match: Match, last: Node) -> Node | None:
    """A product or attention, written straight into the order that the Transpose after it asks for."""
    perm = last.attrs.get("perm")
    product = match.only(last.inputs[0], "MatMul", "Attention")
    if product is None or perm is None or len(perm) < 3 or perm[-1] != len(perm) - 1:
        return None
    if match.graph.dtype(product.inputs[0]) != np.float32 or product.domain != (
        FUSED if product.op == "Attention" else ""
    ):
        return None
    return Node(
        "Attention" if product.op == "Attention" else "MatMulTranspose",
        FUSED,
        product.name,
        list(product.inputs),
        list(last.outputs),
        {**product.attrs, "perm": list(perm)},
        covers=[*product.covers, "Transpose"],
    )


_FLOAT: tuple[tuple[str, Rewrite], ...] = (
    ("Mul", _gelu),
    ("Add", _layer_norm),
    ("MatMul", _attention),
    ("Transpose", _transposed),
    ("LayerNormalization", _residual),
    ("Mul", _factor),
)
