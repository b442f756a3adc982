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
    nodes = list(graph.node)
    reads: list[list[str]] = []
    maker: dict[str, int] = {}
    for i, node in enumerate(nodes):
        names = [name for name in node.input if name]
        if node.attribute:
            names += [name for inner in graphs_of(node) for name in captured(inner) if name]
        reads.append(names)
        for name in node.output:
            if name and (name in maker or name in known):
                raise ModelError(f"{describe(node)}: tensor {name!r} is made a second time")
            if name:
                maker[name] = i
    order = _running_order(reads, known, maker, nodes)
    if order is not None:
        nodes = [_copy(nodes[i]) for i in order]
        del graph.node[:]
        graph.node.extend(nodes)
    known |= maker.keys()
    for output in graph.output:
        if output.name not in known:
            raise ModelError(f"{where}: nothing makes the output {output.name!r}")
    around: frozenset[str] | None = None
    for node in graph.node:
        for inner in graphs_of(node) if node.attribute else ():
            around = frozenset(known) if around is None else around
            check_graph(inner, around, f"{describe(node)}: inner graph {inner.name!r}")


def _running_order(
    reads: list[list[str]], known: set[str], maker: dict[str, int], nodes: list[onnx.NodeProto]
) -> list[int] | None:
    """Return an order in which every name is made before it is read, or None where the nodes stand in one."""
    makers: list[list[int]] = []
    in_order = True
    for i, names in enumerate(reads):
        made = []
        for name in names:
            at = maker.get(name)
            if at is not None:
                made.append(at)
                in_order = in_order and at < i
            elif name not in known:
                raise ModelError(
                    f"{describe(nodes[i])}: nothing makes its input {name!r}: it is no initialiser, graph input or node output"
                )
        makers.append(made)
    if in_order:
        return None
    # A node that reads two results of another waits for it twice, and is told twice.
    readers: list[list[int]] = [[] for _ in nodes]
    for i, made in enumerate(makers):
        for j in made:
            readers[j].append(i)
    waiting = [len(made) for made in makers]
    order = [i for i, count in enumerate(waiting) if count == 0]
    for i in order:
        for reader in readers[i]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                order.append(reader)
    if len(order) < len(reads):
        _explain_cycle(waiting, makers, nodes)
    return order


def _explain_cycle(waiting: list[int], makers: list[list[int]], nodes: list[onnx.NodeProto]) -> None:
    # Every node that waits reads what another waiting one makes: following the makers must come back.
    at = next(i for i, count in enumerate(waiting) if count)
    seen: dict[int, int] = {}
    while at not in seen:
        seen[at] = len(seen)
        at = next(i for i in makers[at] if waiting[i])
    circle = [*list(seen)[seen[at] :], at]
    names = [describe(nodes[i]) for i in circle[:_NAMED]]
    if len(circle) > _NAMED:
        names.append(f"... ({len(circle) - 1} nodes)")
    raise ModelError("the graph has a cycle: " + " <- ".join(names))


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
