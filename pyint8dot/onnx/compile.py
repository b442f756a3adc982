"""From the fused graph to a program: one function a node, one slot a tensor, and when each slot falls free."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pyint8dot.onnx import ops
from pyint8dot.onnx.errors import ModelError
from pyint8dot.onnx.graph import Graph, Node
from pyint8dot.onnx.program import Program, Step, owning
from pyint8dot.onnx.reference import lower_by_reference
from pyint8dot.onnx.registry import CONTAINERS, FRESH, OPERATORS, VIEWS, Function, Site

__all__ = ["compile_graph", "lower"]

# Modules of operators enter them into the table when they are imported.
for _room in pkgutil.iter_modules(ops.__path__):
    importlib.import_module(f"{ops.__name__}.{_room.name}")


def lower(site: Site) -> tuple[Function, str]:
    """Find the function of a node.

    Parameters
    ----------
    site : Site
        The node at its place.

    Returns
    -------
    function : callable
        What runs.
    by : str
        What does the work: the kernel, `"native"` for other native code, `"numpy"`, or `"onnx reference"`.

    Raises
    ------
    ModelError
        If nothing knows the operator.
    """
    own = OPERATORS.get(site.node.key)
    try:
        function = own(site) if own is not None else None
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{site.node}: {type(error).__name__}: {error}") from error
    if function is None:
        return owning(lower_by_reference(site)), "onnx reference"
    known = site.node.key in VIEWS or site.node.key in CONTAINERS or site.node.key in FRESH
    return function if known else owning(function), site.by


def compile_graph(
    graph: Graph,
    kernel: str,
    num_threads: int | None,
    max_bytes: int,
    compiler: Callable[[Graph], Program] | None = None,
) -> Program:
    """Lower every node and plan the life of every tensor.

    Parameters
    ----------
    graph : Graph
        The graph after all rewriting.
    kernel : str
        Name of the kernel for integer products.
    num_threads : int or None
        How many threads they use.
    max_bytes : int
        The most that one result may take.
    compiler : callable, optional
        Makes the programs of inner graphs.

    Returns
    -------
    Program

    Raises
    ------
    ModelError
        If nothing knows an operator.
    """
    slots: dict[str, int] = {"": 0}
    for name in (*graph.constants, *(i.name for i in graph.inputs), *(n for node in graph.nodes for n in node.outputs)):
        slots.setdefault(name, len(slots))
    outputs = [o.name for o in graph.outputs]
    memory = _memory(graph)
    pinned = {memory[name] for name in (*graph.constants, *(i.name for i in graph.inputs))}
    kept = pinned | {memory[name] for name in outputs}
    last_name, last_memory = _last_uses(graph, memory)
    fixed = {*outputs, *graph.constants}

    steps = []
    # A slot written twice would need a life of its own: an unused result goes to a slot nobody reads.
    unread = len(slots)
    for index, node in enumerate(graph.nodes):
        names = [*node.inputs, *node.captures]
        read = [memory[name] for name in names if name]
        overwrite = frozenset(
            i
            for i, name in enumerate(names)
            if name
            and memory[name] not in kept
            and last_memory[memory[name]] == index
            and read.count(memory[name]) == 1
        )
        site = Site(node, graph, kernel, num_threads, max_bytes, overwrite, compiler=compiler)
        function, by = lower(site)
        # The message would keep the whole model in memory.
        node.proto = None
        frees = {slots[n] for n in names if n and n not in fixed and last_name[n] == index}
        frees |= {slots[n] if n else unread for n in node.outputs if n not in fixed and n not in last_name}
        steps.append(
            Step(
                node=node,
                function=function,
                by=by,
                inputs=tuple(0 if i in site.absorbed else slots[n] for i, n in enumerate(names)),
                outputs=tuple(slots[n] if n else unread for n in node.outputs),
                frees=tuple(sorted(frees)),
                programs=site.programs,
                steady=site.steady,
            )
        )
    values: list[Any] = [None] * (len(slots) + 2)
    # Constants that every reader has absorbed are let go.
    wanted = {slot for step in steps for slot in step.inputs} | {slots[name] for name in outputs}
    for name, array in graph.constants.items():
        if slots[name] in wanted:
            values[slots[name]] = array
    return Program(
        steps,
        values,
        [slots[i.name] for i in graph.inputs],
        [(name, slots[name]) for name in outputs],
        {slots[name]: memory[name] for name in outputs},
        pinned,
        {memory[name] for name in graph.constants},
        sorted({slot for step in steps for slot in step.outputs}),
    )


def _memory(graph: Graph) -> dict[str, int]:
    """Number the pieces of memory: tensors that may be views of one another have the same number."""
    parents: list[int] = []
    own: dict[str, int] = {}

    def enter(name: str) -> None:
        own[name] = len(parents)
        parents.append(len(parents))

    def root(name: str) -> int:
        at = own[name]
        while parents[at] != at:
            parents[at] = at = parents[parents[at]]
        return at

    def join(names: Iterable[str]) -> None:
        first, *rest = [root(name) for name in names if name] or [0]
        for other in rest:
            parents[other] = first

    for name in (*graph.constants, *(i.name for i in graph.inputs)):
        enter(name)
    for node in graph.nodes:
        for name in node.outputs:
            if name:
                enter(name)
        if node.key in VIEWS:
            join([*node.inputs[:1], *node.outputs])
        elif node.key in CONTAINERS:
            join([*node.inputs, *node.outputs])
    return {name: root(name) for name in own}


def _last_uses(graph: Graph, memory: dict[str, int]) -> tuple[dict[str, int], dict[int, int]]:
    by_name: dict[str, int] = {}
    by_memory: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        for name in (*node.inputs, *node.captures):
            if name:
                by_name[name] = index
                by_memory[memory[name]] = index
    return by_name, by_memory


def constant_results(node: Node, graph: Graph, max_bytes: int) -> list[np.ndarray] | None:
    """Run a node whose inputs are all constants.

    Parameters
    ----------
    node : Node
        Any node.
    graph : Graph
        The graph around it.
    max_bytes : int
        The most that one result may take.

    Returns
    -------
    list of ndarray or None
        The outputs, none where one of them is no array.
    """
    function, _ = lower(Site(node, graph, None, None, max_bytes))
    result = function(*[graph.constants.get(n) for n in (*node.inputs, *node.captures)])
    found = list(result) if isinstance(result, tuple) else [result]
    return found if all(isinstance(f, np.ndarray) for n, f in zip(node.outputs, found, strict=False) if n) else None
