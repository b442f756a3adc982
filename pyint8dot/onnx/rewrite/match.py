"""Questions that patterns ask about the graph around a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from pyint8dot.onnx.graph import Graph, Node, scalar


class Match:
    """Makers and readers of every tensor, kept up while nodes are replaced.

    Parameters
    ----------
    graph : Graph
        The graph that is rewritten.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._makers = graph.makers()
        self._readers = graph.readers()
        self._outputs = {o.name for o in graph.outputs}

    def is_output(self, name: str) -> bool:
        """Tell whether a tensor is an output of the graph."""
        return name in self._outputs

    def maker(self, name: str, *ops: str) -> Node | None:
        """Return the node that makes a tensor, if it is one of these operators; of any where none are named."""
        node = self._makers.get(name)
        return node if node is not None and (not ops or node.op in ops) else None

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read a tensor."""
        return self._readers.get(name, [])

    def private(self, name: str, readers: int = 1) -> bool:
        """Tell whether a tensor is read by so many nodes and is no output of the graph."""
        return name not in self._outputs and len({id(n) for n in self.readers(name)}) == readers

    def only(self, name: str, *ops: str) -> Node | None:
        """Return the maker of a tensor that has one reader only, if it is one of these operators."""
        return self.maker(name, *ops) if self.private(name) else None

    def same_rank(self, one: str, other: str) -> bool:
        """Tell whether two tensors have as many axes, for all that is known: a constant of one element may add some."""
        ranks = self.graph.rank(one), self.graph.rank(other)
        return None in ranks or ranks[0] == ranks[1]

    def split(self, node: Node) -> tuple[str | None, str]:
        """Split the inputs of a node with two into the constant one, if there is one, and the other."""
        first, second = node.inputs
        if second in self.graph.constants:
            return second, first
        if first in self.graph.constants:
            return first, second
        return None, first

    def factors(self, last: Node) -> tuple[float, list[str]] | None:
        """Take a product of a number and two tensors apart, in whatever order it is multiplied."""
        inner = next((m for m in (self.only(n, "Mul") for n in last.inputs) if m is not None), None)
        if last.op != "Mul" or inner is None:
            return None
        names = [n for n in last.inputs if n != inner.outputs[0]] + list(inner.inputs)
        numbers = [v for v in (scalar(self.graph.constants, n) for n in names) if v is not None]
        tensors = [n for n in names if scalar(self.graph.constants, n) is None]
        return (numbers[0], tensors) if len(numbers) == 1 else None

    def replace(self, old: Node, new: list[Node]) -> None:
        """Take note that some nodes stand in the place of another."""
        for name in old.inputs:
            if name:
                self._readers[name] = [n for n in self._readers.get(name, []) if n is not old]
        for node in new:
            for name in node.inputs:
                if name:
                    self._readers.setdefault(name, []).append(node)
            for name in node.outputs:
                if name:
                    self._makers[name] = node


# Returns what takes the place of a node, or None where the pattern is not there.
Rewrite: TypeAlias = "Callable[[Match, Node], Node | list[Node] | None]"
