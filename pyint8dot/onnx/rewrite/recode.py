"""Patterns between 8-bit tensors.

A function of one number becomes a table, an operator that moves numbers moves codes, and what has to be computed in floats is
one node from codes to codes.
"""

from __future__ import annotations

import numpy as np

from pyint8dot.onnx.graph import FUSED, Graph, Node
from pyint8dot.onnx.ops import activations
from pyint8dot.onnx.ops.quantised import COMPUTED
from pyint8dot.onnx.rewrite.codes import (
    Target,
    add_constant,
    add_tensor,
    clamped,
    dequantise,
    evaluate,
    every_code,
    one_scale,
    quantise,
    quantised_as,
    with_clamp,
)
from pyint8dot.onnx.rewrite.match import Match
from pyint8dot.onnx.rewrite.sinking import moves, numbers

# Functions of one number, and of several that all follow from one.
_POINTWISE = {
    "Relu", "LeakyRelu", "Tanh", "Abs", "Neg", "Exp", "Log", "Sqrt", "Clip", "Identity", "Floor", "Ceil", "Round", "Sin", "Cos",
    "Reciprocal", "Sign", "PRelu", "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", *activations.NAMES,
}  # fmt: skip
# A table is worth no more nodes than this; chains as long are not found in models.
_MOST_NODES = 64


def recode(match: Match, last: Node) -> Node | list[Node] | None:
    """Replace a QuantizeLinear, and what leads to it from codes, by fewer nodes."""
    target = quantised_as(match, last)
    if target is None:
        return None
    return _table(match, last, target) or _move(match, last, target) or _compute(match, last, target)


class _Chain:
    """The nodes between codes and a tensor, and the tensor's value for each of the 256 codes."""

    def __init__(self, match: Match) -> None:
        self.match = match
        self.graph = match.graph
        self.root = ""
        self.covers: list[str] = []
        self.nodes: dict[int, Node] = {}
        self._values: dict[str, np.ndarray | None] = {}
        self._seen = 0

    def values(self, name: str) -> np.ndarray | None:
        """Return the values of a tensor that is a function of one tensor of codes, None where it is not."""
        if name not in self._values:
            self._values[name] = self._find(name)
        return self._values[name]

    def _find(self, name: str) -> np.ndarray | None:
        constant = self._constant(name)
        if constant is not None:
            # More dimensions than the codes have would be dimensions of the result.
            rank = self.graph.rank(self.root) if self.root else None
            fits = constant.ndim == 0 or (rank is not None and constant.ndim <= rank)
            return constant.reshape(()) if constant.size == 1 and constant.dtype == np.float32 and fits else None
        found = one_scale(self.match, name)
        if found is not None:
            root, table = self._through_tables(found.name)
            if self.root not in ("", root):
                return None
            self.root = root
            self.covers.append("DequantizeLinear")
            return dequantise(self.graph, table, found)
        node = self.match.maker(name, *_POINTWISE)
        if node is None or len(node.outputs) > 1 or self._seen >= _MOST_NODES:
            return None
        self._seen += 1
        # What is computed first says how many dimensions there are.
        names = sorted((n for n in node.inputs if n), key=lambda n: _is_constant(self.match, n))
        if any(self.values(n) is None for n in names):
            return None
        self.nodes[id(node)] = node
        self.covers.extend(node.covers)
        given = [self._values[n] if n else None for n in node.inputs]
        result = evaluate(self.graph, node, given)  # type: ignore[arg-type]
        return result if result.shape == (256,) and result.dtype == np.float32 else None

    def _constant(self, name: str) -> np.ndarray | None:
        """Return a constant, be it a single number that is still to be dequantised."""
        found = one_scale(self.match, name)
        value = None if found is None else self.graph.constants.get(found.name)
        if found is None or value is None or value.size != 1:
            return self.graph.constants.get(name)
        self.covers.append("DequantizeLinear")
        return dequantise(self.graph, value, found)

    def _through_tables(self, name: str) -> tuple[str, np.ndarray]:
        """Follow look-ups back to where the codes come from, with what has become of each code."""
        node = self.match.maker(name, "Lookup")
        if node is not None:
            root, before = self._through_tables(node.inputs[0])
            return root, node.attrs["table"][before.view(np.uint8)]
        kind = self.graph.dtype(name)
        assert kind is not None  # noqa: S101 - codes have a known type
        return name, every_code(kind)

    def is_closed(self, last: Node) -> bool:
        """Tell whether nobody else reads what the nodes compute."""
        inside = {*self.nodes, id(last)}
        names = [n for node in self.nodes.values() for n in node.outputs]
        return not any(
            self.match.is_output(n) or any(id(r) not in inside for r in self.match.readers(n)) for n in names
        )


def _table(match: Match, last: Node, target: Target) -> Node | None:
    chain = _Chain(match)
    values = chain.values(last.inputs[0])
    if values is None or values.shape != (256,) or not chain.is_closed(last):
        return None
    table = quantise(match.graph, values, target)
    covers = [*chain.covers, "QuantizeLinear"]
    return _lookup(match.graph, chain.root, table, last.name, list(last.outputs), covers)


def _lookup(graph: Graph, source: str, table: np.ndarray, name: str, outputs: list[str], covers: list[str]) -> Node:
    table.setflags(write=False)
    if table.dtype == graph.dtype(source) and np.array_equal(table, every_code(table.dtype)):
        return Node("Identity", "", name, [source], outputs, covers=covers)
    return Node("Lookup", FUSED, name, [source], outputs, {"table": table}, covers=covers)


def _move(match: Match, last: Node, target: Target) -> list[Node] | None:
    """An operator that picks among several tensors, whose codes are first brought to the scale of the result."""
    graph = match.graph
    move = match.only(last.inputs[0])
    if move is None or not moves(graph, move) or not graph.constants[target.scale].reshape(()) > 0:
        return None
    nodes, inputs = [], list(move.inputs)
    for index in numbers(move):
        name = move.inputs[index]
        constant = graph.constants.get(name)
        if constant is not None and constant.dtype == np.float32:
            inputs[index] = add_constant(graph, f"{name} codes", quantise(graph, constant, target))
            continue
        found = one_scale(match, name)
        if found is None:
            return None
        kind = graph.dtype(found.name)
        assert kind is not None  # noqa: S101 - codes have a known type
        table = quantise(graph, dequantise(graph, every_code(kind), found), target)
        made = add_tensor(graph, f"{last.outputs[0]} from {found.name} {index}", found.name, table.dtype)
        recoded = _lookup(
            graph, found.name, table, f"{move.name}/{index}", [made], ["DequantizeLinear", "QuantizeLinear"]
        )
        if recoded.op == "Identity":
            inputs[index] = found.name
        else:
            nodes.append(recoded)
            inputs[index] = made
    moved = Node(move.op, "", move.name, inputs, list(last.outputs), dict(move.attrs), move.proto, [move.op])
    return [*nodes, moved]


def _is_constant(match: Match, name: str) -> bool:
    """Tell whether an input is left out, or a constant, be it one that is still to be dequantised."""
    graph = match.graph
    maker = match.maker(name, "DequantizeLinear")
    return (
        not name
        or name in graph.constants
        or (maker is not None and all(n in graph.constants for n in maker.inputs if n))
    )


def _compute(match: Match, last: Node, target: Target) -> Node | list[Node] | None:
    """An operator in floats whose numbers are all codes or constants: one node, which is given codes and returns them."""
    graph = match.graph
    name, covers, clamp = clamped(match, last, target)
    node = match.only(name)
    if node is None or node.op not in COMPUTED or node.domain or node.captures or len(node.outputs) > 1:
        return None
    inputs, scales = list(node.inputs), {}
    for index, source in enumerate(node.inputs):
        if _is_constant(match, source):
            continue
        found = one_scale(match, source)
        if found is not None:
            inputs[index] = found.name
            scales[index] = tuple(graph.constants[n].reshape(()) for n in (found.scale, found.zero_point))
        elif graph.dtype(source) in (np.float32, None):
            return None
    if not scales or graph.dtype(name) != np.float32:
        return None
    result = tuple(graph.constants[n].reshape(()) for n in target)
    attrs = {"inner": node, "scales": scales, "result": result}
    covers = [*["DequantizeLinear"] * len(scales), *node.covers, *covers]
    made = Node(f"QLinear{node.op}", FUSED, node.name, inputs, list(last.outputs), attrs, covers=covers)
    return with_clamp(match, made, clamp)
