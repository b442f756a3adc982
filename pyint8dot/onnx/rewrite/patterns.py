"""Patterns: chains of nodes that one function does better, found by walking from makers to readers.

Every rewrite keeps the values: a quantised product keeps ONNX's own float steps in their order, so what is fused differs
from what is written by no more than the float functions themselves (GELU, layer normalisation) do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pyint8dot.onnx.errors import ModelError
from pyint8dot.onnx.graph import FUSED, Graph, Node, scalar
from pyint8dot.onnx.rewrite import norms
from pyint8dot.onnx.rewrite.codes import add_constant, add_tensor
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
    _dequantised_once(graph)
    for op, rewrite in (*_FLOAT, *REWRITES, ("Transpose", _transposed_codes), *norms.STEPS):
        apply(graph, op, rewrite)
    _pass_by(graph)
    _masks_first(graph)
    fold(graph, max_bytes)
    graph.drop_unused()


def _pass_by(graph: Graph) -> None:
    """Let the readers of an Identity read what it reads."""

    def instead(node: Node) -> str | None:
        return node.inputs[0] if node.key == ("", "Identity") and graph.dtype(node.inputs[0]) is not None else None

    _read_instead(graph, instead)


def _dequantised_once(graph: Graph) -> None:
    """Let all readers of the same codes in floats read one tensor: onnxruntime's optimiser makes one for each of them."""
    first: dict[tuple[str, ...], str] = {}

    def instead(node: Node) -> str | None:
        if node.op != "DequantizeLinear":
            return None
        return first.setdefault((node.domain, *node.inputs, str(sorted(node.attrs.items()))), node.outputs[0])

    _read_instead(graph, instead)


def _read_instead(graph: Graph, instead: Callable[[Node], str | None]) -> None:
    """Let the readers of a node's result read another tensor, where there is one."""
    inner = {name for node in graph.nodes for name in node.captures}
    same: dict[str, str] = {}
    for node in graph.nodes:
        node.inputs = [same.get(name, name) for name in node.inputs]
        other = instead(node)
        if other is not None and node.outputs[0] not in inner:
            same[node.outputs[0]] = other
    graph.drop_unused()


def _masks_first(graph: Graph) -> None:
    """Let what numpy does with a mask stand behind what makes it, and not between native nodes."""
    for node in [node for node in graph.nodes if node.key == (FUSED, "MaskToBase2")]:
        graph.nodes.remove(node)
        made = (i for i, other in enumerate(graph.nodes) if node.inputs[0] in other.outputs)
        graph.nodes.insert(1 + next(made, -1), node)


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
        if not match.same_rank(x, last.outputs[0]):
            continue
        value = next((v for v in (scalar(graph.constants, n) for n in inner.inputs) if v is not None), 0.0)
        wanted = math.sqrt(2.0) if inner.op == "Div" else math.sqrt(0.5)
        if math.isclose(value, wanted, rel_tol=1e-5) and (inner.op == "Mul" or inner.inputs[0] == x):
            covers = [inner.op, "Erf", "Add", "Mul", "Mul"]
            return Node("Gelu", FUSED, last.name, [x], list(last.outputs), covers=covers)
    return None


def _unfused(match: Match, last: Node) -> list[Node] | None:
    """Take a FusedMatMul of onnxruntime's apart again: turned operands are views, and attention knows its scale."""
    graph = match.graph
    rank, alpha = graph.rank(last.outputs[0]), last.attrs.get("alpha", 1.0)
    kind = graph.dtype(last.outputs[0])
    if kind != np.float32 or rank is None or any(graph.rank(n) != rank for n in last.inputs):
        return None
    if last.attrs.get("transBatchA", 0) or last.attrs.get("transBatchB", 0):
        return None
    nodes, names = [], list(last.inputs)
    for i, side in enumerate("AB"):
        if last.attrs.get(f"trans{side}", 0):
            turned = add_tensor(graph, f"{last.outputs[0]} {side} turned", names[i], kind)
            perm = [*range(rank - 2), rank - 1, rank - 2]
            nodes.append(Node("Transpose", "", last.name, [names[i]], [turned], {"perm": perm}))
            names[i] = turned
    made = last.outputs[0]
    if alpha != 1.0:
        made = add_tensor(graph, f"{last.outputs[0]} product", last.outputs[0], kind)
        factor = add_constant(graph, f"{last.outputs[0]} alpha", np.asarray(alpha, np.float32))
        scaled = Node("Mul", "", last.name, [made, factor], list(last.outputs))
    nodes.append(Node("MatMul", "", last.name, names, [made], covers=list(last.covers)))
    return [*nodes, scaled] if alpha != 1.0 else nodes


def _turned_twice(match: Match, last: Node) -> Node | None:
    """Two transpositions, one after the other: one."""
    first = match.only(last.inputs[0], "Transpose")
    if first is None or "perm" not in first.attrs or "perm" not in last.attrs:
        return None
    covers = [*first.covers, *last.covers]
    attrs = {"perm": [first.attrs["perm"][axis] for axis in last.attrs["perm"]]}
    return Node("Transpose", "", last.name, list(first.inputs), list(last.outputs), attrs, covers=covers)


def _attention(match: Match, last: Node) -> list[Node] | None:
    """Product of queries and keys -> scale or not -> mask or not -> Softmax -> product with the values.

    A mask is brought to the base 2 by a node of its own, once for all layers.
    """
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
    covers, nodes = [*covers, *(["Add"] if mask else []), "Softmax", "MatMul"], []
    if mask:
        known = next((n for n in match.readers(mask) if n.op == "MaskToBase2"), None)
        if known is None:
            scaled = add_tensor(graph, f"{mask} to the base 2", mask, np.dtype(np.float32))
            known = Node("MaskToBase2", FUSED, last.name, [mask], [scaled])
            nodes.append(known)
        inputs[-1] = known.outputs[0]
    return [*nodes, Node("Attention", FUSED, last.name, inputs, list(last.outputs), {"scale": scale}, covers=covers)]


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


def _transposed_codes(match: Match, last: Node) -> Node | None:
    """A quantised product of two tensors, likewise."""
    perm, product = last.attrs.get("perm"), match.only(last.inputs[0], "QLinearMatMul")
    if product is None or product.domain or perm is None or len(perm) < 3 or perm[-1] != len(perm) - 1:
        return None
    if product.inputs[3] in match.graph.constants or any(product.inputs[8:]):
        return None
    covers = [*product.covers, "Transpose"]
    inputs, outputs = list(product.inputs), list(last.outputs)
    return Node("QLinearMatMul", FUSED, product.name, inputs, outputs, {"perm": list(perm)}, covers=covers)


def _split(match: Match, name: str, perm: list[int]) -> tuple[str, tuple[int, int]] | None:
    """Return the projection (batch, length, heads * size) that a tensor is by heads, in the order of `perm`, and heads and size."""
    turned = match.only(name, "Transpose")
    wide = match.only(turned.inputs[0], "Reshape") if turned is not None and turned.attrs.get("perm") == perm else None
    if wide is None or wide.attrs.get("allowzero", 0) or match.graph.rank(wide.inputs[0]) != 3:
        return None
    shape = match.graph.constants.get(wide.inputs[1])
    if shape is None or shape.shape != (4,) or shape[:2].any() or (shape[2:] < 1).any():
        return None
    return wide.inputs[0], (int(shape[2]), int(shape[3]))


def _split_heads(match: Match, last: Node) -> Node | None:
    """Attention of projections that hold all heads side by side: views are made faster inside than by nodes."""
    if last.domain != FUSED or "split" in last.attrs:
        return None
    q, k, v, mask = last.inputs
    found = [_split(match, n, perm) for n, perm in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))]
    names, sizes = zip(*(each or ("", None) for each in found), strict=True)
    if not all(names) or len(set(sizes)) > 1:
        return None
    attrs = {**last.attrs, "split": sizes[0]}
    covers = [*["Reshape", "Transpose"] * 3, *last.covers]
    return Node("Attention", FUSED, last.name, [*names, mask], list(last.outputs), attrs, covers=covers)


def _join_heads(match: Match, last: Node) -> Node | None:
    """Such an attention whose result has all heads side by side again."""
    whole = match.only(last.inputs[0], "Attention")
    shape = match.graph.constants.get(last.inputs[1]) if len(last.inputs) > 1 else None
    if whole is None or shape is None or last.attrs.get("allowzero", 0) or whole.attrs.get("perm") != [0, 2, 1, 3]:
        return None
    split = whole.attrs.get("split")
    if whole.domain != FUSED or split is None or shape.tolist() not in ([0, 0, split[0] * split[1]], [0, 0, -1]):
        return None
    attrs, covers = {**whole.attrs, "join": True}, [*whole.covers, "Reshape"]
    return Node("Attention", FUSED, whole.name, list(whole.inputs), list(last.outputs), attrs, covers=covers)


_FLOAT: tuple[tuple[str, Rewrite], ...] = (
    ("FusedMatMul", _unfused),
    ("Mul", _gelu),
    *norms.WHOLE,
    ("Transpose", _turned_twice),
    ("MatMul", _attention),
    ("Transpose", _transposed),
    ("Attention", _split_heads),
    ("Reshape", _join_heads),
    *norms.AROUND,
)
