"""Folding: what depends on constants alone is worked out once, within bounds."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from pyint8dot.onnx.compile import constant_results
from pyint8dot.onnx.graph import Graph

# One folded result, and all of them together, take no more than this; larger ones are made when they are needed.
_ONE = 256 << 20
_ALL = 1 << 30
_RANDOM = {
    "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout",
}  # fmt: skip


def fold(graph: Graph, max_bytes: int, keep: Collection[str] = ()) -> None:
    """Replace nodes whose inputs are all constants by their results.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    max_bytes : int
        The session's bound on one result.
    keep : collection of str
        Operators that stay as they are.
    """
    total = 0
    kept = []
    for node in graph.nodes:
        names = [n for n in node.inputs if n]
        fixed = all(n in graph.constants for n in names) and not node.captures
        inner = node.proto is not None and any(a.HasField("g") or a.graphs for a in node.proto.attribute)
        if not fixed or inner or node.op in keep or node.op in _RANDOM or total > _ALL:
            kept.append(node)
            continue
        try:
            found = constant_results(node, graph, min(max_bytes, _ONE))
        except Exception:  # noqa: BLE001 - whatever is wrong with it is told when the node runs
            found = None
        if found is None:
            kept.append(node)
            continue
        for name, array in zip(node.outputs, found, strict=False):
            if name:
                value = np.asarray(array)
                total += value.nbytes
                value = value.view()
                value.setflags(write=False)
                graph.constants[name] = value
    graph.nodes = kept
