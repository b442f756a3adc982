"""The graph of a model file: its nodes in running order, every name made once and before it is read."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from pyint8dot.onnx.errors import ModelError

# A cycle may have as many nodes as the model: a message names this many.
_NAMED = 8


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in the attributes of a node (the branches of If, the body of Loop).

    Parameters
    ----------
    node : onnx.NodeProto
        Any node.

    Yields
    ------
    onnx.GraphProto
    """
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def describe(node: onnx.NodeProto) -> str:
    """Name a node for a message: its own name, or else what it makes.

    Parameters
    ----------
    node : onnx.NodeProto
        Any node.

    Returns
    -------
    str
    """
    name = node.name or next((o for o in node.output if o), "?")
    return f"node {name!r} ({node.op_type})"


def captured(graph: onnx.GraphProto) -> list[str]:
    """Return the names that an inner graph reads from the graph around it.

    Parameters
    ----------
    graph : onnx.GraphProto
        The branch or body.

    Returns
    -------
    list of str
        In the order in which they are read, each once.
    """
    known = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    free: dict[str, None] = {}
    for node in graph.node:
        names = list(node.input)
        for inner in graphs_of(node):
            names.extend(captured(inner))
        free.update({name: None for name in names if name and name not in known})
        known.update(node.output)
    free.update({o.name: None for o in graph.output if o.name not in known})
    return list(free)


def check_graph(graph: onnx.GraphProto, outer: frozenset[str] = frozenset(), where: str = "graph") -> None:
    """Put the nodes in running order; refuse names made twice, read but never made, or made in a circle.

    Parameters
    ----------
    graph : onnx.GraphProto
        Changed in place where its nodes are out of order.
    outer : frozenset of str
        Names that an inner graph may read from around it.
    where : str
        What to call the graph in messages.

    Raises
    ------
    ModelError
        If it is broken.
    """
    known = set(outer) | {i.name for i in graph.input} | {t.name for t in graph.initializer}
    reads = [[name for name in _reads(node) if name] for node in graph.node]
    maker: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in maker or name in known):
                raise ModelError(f"{describe(node)}: tensor {name!r} is made a second time")
            if name:
                maker[name] = i
    order = _running_order(reads, known, maker, graph)
    if order is not None:
        ordered = [_copy(graph.node[i]) for i in order]
        del graph.node[:]
        graph.node.extend(ordered)
    known |= maker.keys()
    for output in graph.output:
        if output.name not in known:
            raise ModelError(f"{where}: nothing makes the output {output.name!r}")
    around: frozenset[str] | None = None
    for node in graph.node:
        for inner in graphs_of(node):
            around = frozenset(known) if around is None else around
            check_graph(inner, around, f"{describe(node)}: inner graph {inner.name!r}")


def _running_order(
    reads: list[list[str]], known: set[str], maker: dict[str, int], graph: onnx.GraphProto
) -> list[int] | None:
    """Return an order in which every name is made before it is read, or None where the nodes stand in one."""
    makers = [{maker[name] for name in names if name in maker} for names in reads]
    for i, names in enumerate(reads):
        for name in names:
            if name not in known and name not in maker:
                raise ModelError(
                    f"{describe(graph.node[i])}: nothing makes its input {name!r}: it is no initialiser, graph input or "
                    "node output"
                )
    if all(max(made, default=-1) < i for i, made in enumerate(makers)):
        return None
    readers: dict[int, list[int]] = {}
    waiting = [len(made) for made in makers]
    for i, made in enumerate(makers):
        for j in made:
            readers.setdefault(j, []).append(i)
    order = [i for i, count in enumerate(waiting) if count == 0]
    for i in order:
        for reader in readers.get(i, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                order.append(reader)
    if len(order) < len(reads):
        _explain_cycle(waiting, makers, graph)
    return order


def _explain_cycle(waiting: list[int], makers: list[set[int]], graph: onnx.GraphProto) -> None:
    # Every node that waits reads what another waiting one makes: following the makers must come back.
    at = next(i for i, count in enumerate(waiting) if count)
    seen: dict[int, int] = {}
    while at not in seen:
        seen[at] = len(seen)
        at = next(i for i in sorted(makers[at]) if waiting[i])
    circle = [*list(seen)[seen[at] :], at]
    names = [describe(graph.node[i]) for i in circle[:_NAMED]]
    if len(circle) > _NAMED:
        names.append(f"... ({len(circle) - 1} nodes)")
    raise ModelError("the graph has a cycle: " + " <- ".join(names))


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _reads(node: onnx.NodeProto) -> list[str]:
    names = list(node.input)
    for inner in graphs_of(node):
        names.extend(captured(inner))
    return names
