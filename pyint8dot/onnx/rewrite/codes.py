"""What patterns of quantised models ask: which codes a float tensor stands for, and what a tensor is quantised to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pyint8dot import quantize
from pyint8dot.onnx.compile import lower
from pyint8dot.onnx.graph import FUSED, Graph, Node, TensorInfo, scalar
from pyint8dot.onnx.registry import INT8, Site
from pyint8dot.onnx.rewrite.match import Match


class Codes(NamedTuple):
    """An 8-bit tensor and what its codes stand for: names of tensors, scale and zero point constants."""

    name: str
    scale: str
    zero_point: str
    axis: int


class Target(NamedTuple):
    """The names of the scale and zero point that a tensor is quantised to."""

    scale: str
    zero_point: str


def codes(match: Match, name: str) -> Codes | None:
    """Return the 8-bit tensor that a float32 tensor is dequantised from, scale and zero point being constants."""
    node = match.maker(name, "DequantizeLinear")
    if node is None or node.attrs.get("block_size") or node.attrs.get("output_dtype"):
        return None
    graph = match.graph
    zero = node.inputs[2] if len(node.inputs) > 2 else ""
    if graph.dtype(node.inputs[0]) not in INT8 or node.inputs[1] not in graph.constants:
        return None
    if (zero and zero not in graph.constants) or graph.constants[node.inputs[1]].dtype != np.float32:
        return None
    if not zero:
        kind = graph.dtype(node.inputs[0])
        zero = add_constant(graph, f"{name} zero point", np.zeros(graph.constants[node.inputs[1]].shape, kind))
    return Codes(node.inputs[0], node.inputs[1], zero, node.attrs.get("axis", 1))


def is_scalar(graph: Graph, found: Codes) -> bool:
    """Tell whether codes have one scale and one zero point."""
    return graph.constants[found.scale].size == 1 and graph.constants[found.zero_point].size == 1


def one_scale(match: Match, name: str) -> Codes | None:
    """Return the 8-bit tensor that a tensor is dequantised from by a single scale."""
    found = codes(match, name)
    return found if found is not None and is_scalar(match.graph, found) else None


def quantised_as(match: Match, node: Node) -> Target | None:
    """Return scale and zero point of a QuantizeLinear to one scalar 8-bit scale."""
    graph = match.graph
    if node.op != "QuantizeLinear" or len(node.inputs) < 3 or node.attrs.get("block_size"):
        return None
    _, scale, zero = node.inputs
    if scalar(graph.constants, scale) is None or zero not in graph.constants or graph.constants[zero].size != 1:
        return None
    if graph.constants[zero].dtype not in INT8 or graph.constants[scale].dtype != np.float32:
        return None
    return Target(scale, zero)


def add_constant(graph: Graph, name: str, value: np.ndarray) -> str:
    """Add a constant under a name of its own, and return that name."""
    while name in graph.constants or name in graph.types:
        name += "'"
    graph.constants[name] = value
    return name


def add_tensor(graph: Graph, name: str, like: str, kind: np.dtype[np.generic] | None) -> str:
    """Add the name of a tensor with the shape of another, and return it."""
    while name in graph.constants or name in graph.types:
        name += "'"
    info = graph.types.get(like)
    shape, ranked = (info.shape, info.ranked) if info else ([], False)
    graph.types[name] = TensorInfo(name, "", list(shape), kind, ranked)
    return name


def quantise(graph: Graph, values: np.ndarray, target: Target) -> np.ndarray:
    """Quantise values as a QuantizeLinear with these parameters does."""
    return np.asarray(quantize.quantize_by(values, *(graph.constants[n].reshape(()) for n in target)))


def dequantise(graph: Graph, values: np.ndarray, found: Codes) -> np.ndarray:
    """Dequantise codes of one scale."""
    scale, zero = (graph.constants[n].reshape(()) for n in (found.scale, found.zero_point))
    return np.asarray(quantize.dequantize_by(values, scale, zero))


def clamped(match: Match, last: Node, target: Target) -> tuple[str, list[str], np.ndarray | None]:
    """Take Relu and Clip in front of a QuantizeLinear apart.

    They keep the order of numbers, so the codes may be clamped in the place of what they stand for.

    Returns
    -------
    name : str
        What is clamped.
    covers : list of str
        The operators from there on.
    table : ndarray or None
        What becomes of each code, None where the quantisation itself goes no further than the bounds.
    """
    graph = match.graph
    name, chain = last.inputs[0], list[Node]()
    while (node := match.only(name, "Relu", "Clip")) is not None and all(
        n in graph.constants for n in node.inputs[1:] if n
    ):
        chain.append(node)
        name = node.inputs[0]
    covers = [*(n.op for n in reversed(chain)), "QuantizeLinear"]
    ends = np.array([-np.inf, np.inf], np.float32)
    for node in reversed(chain):
        ends = evaluate(graph, node, [ends])
    kind = graph.constants[target.zero_point].dtype
    low, high = quantise(graph, ends, target).tolist()
    bounds = np.iinfo(kind)
    if low <= bounds.min and high >= bounds.max:
        return name, covers, None
    return name, covers, np.clip(every_code(kind), low, high)


def with_clamp(match: Match, node: Node, table: np.ndarray | None) -> Node | list[Node]:
    """Let a look-up follow a node of codes where they have to be clamped."""
    if table is None:
        return node
    kind = match.graph.dtype(node.outputs[0])
    inner = add_tensor(match.graph, f"{node.outputs[0]} unclamped", node.outputs[0], kind)
    outputs, node.outputs = node.outputs, [inner]
    return [node, Node("Lookup", FUSED, node.name, [inner], outputs, {"table": table})]


def every_code(kind: np.dtype[np.generic]) -> np.ndarray:
    """Return the 256 codes of an 8-bit type in the order of their bits."""
    return np.arange(256, dtype=np.uint8).view(kind)


def evaluate(graph: Graph, node: Node, values: list[np.ndarray]) -> np.ndarray:
    """Run a node whose first inputs are given and whose others are constants."""
    function, _ = lower(Site(node, graph, None, None, 1 << 20))
    rest = [graph.constants.get(n) for n in node.inputs[len(values) :]]
    with np.errstate(all="ignore"):
        found = function(*values, *rest)
    return np.asarray(found[0] if isinstance(found, tuple) else found)
