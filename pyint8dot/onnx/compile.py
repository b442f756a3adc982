"""From the fused graph to a program: one function a node, one slot a tensor, and when each slot falls free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from pyint8dot.onnx.graph import Graph, Node

# The modules below enter their operators into the table when they are imported.
from pyint8dot.onnx.ops import convolutions, elementwise, neural, products, qdq, shapes, transformer, windows
from pyint8dot.onnx.reference import lower_by_reference
from pyint8dot.onnx.registry import OPERATORS, VIEWS, Function, Site

__all__ = ["Program", "Step", "Take", "compile_graph", "lower", "taking"]
_ROOMS = (convolutions, elementwise, neural, products, qdq, shapes, transformer, windows)

# Takes some items of a list, in an order of its own.
Take: TypeAlias = "Callable[[list[Any]], Sequence[Any]]"


def taking(slots: Sequence[int]) -> Take:
    """Return what takes the values of some slots from a list of all.

    Parameters
    ----------
    slots : sequence of int
        Any number of them.

    Returns
    -------
    callable
        It takes a list and returns a tuple or a list.

    Examples
    --------
    >>> taking([2, 0])(["a", "b", "c"]), list(taking([1])(["a", "b", "c"]))
    (('c', 'a'), ['b'])
    """
    if len(slots) > 1:
        return itemgetter(*slots)
    # Of one item itemgetter makes no sequence, but it does of a slice.
    return itemgetter(slice(slots[0], slots[0] + 1) if slots else slice(0))


@dataclass
class Step:
    """One call of a run.

    Attributes
    ----------
    node : Node
        What it stands for.
    function : callable
        Takes the inputs, returns the output, or a tuple where there are several.
    by : str
        What does the work.
    inputs, outputs : tuple of int
        Slots of the values.
    frees : tuple of int
        Slots nobody reads after this step.
    arguments : callable
        Takes what `function` is given from the values of all slots.
    """

    node: Node
    function: Function
    by: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    frees: tuple[int, ...]
    arguments: Take = field(init=False)

    def __post_init__(self) -> None:
        self.arguments = taking(self.inputs)


@dataclass
class Program:
    """Everything a run needs.

    Attributes
    ----------
    steps : list of Step
        In running order.
    values : list
        The slots as a run finds them: constants in place, the rest None.
    inputs : list of int
        Slots of the graph's inputs.
    outputs : list of (str, int)
        The graph's outputs and their slots.
    shared : set of int
        Slots of outputs that may share memory with a constant or an input.
    results : list of int
        Slots that steps write to.
    """

    steps: list[Step]
    values: list[Any]
    inputs: list[int]
    outputs: list[tuple[str, int]]
    shared: set[int]
    results: list[int]


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
    function = None
    if own is not None and not site.node.captures:
        function = own(site)
    if function is not None:
        return function, site.by
    return lower_by_reference(site), "onnx reference"


def compile_graph(graph: Graph, kernel: str, num_threads: int | None, max_bytes: int) -> Program:
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
    last_name, last_memory = _last_uses(graph, memory)
    fixed = {*outputs, *graph.constants}

    steps = []
    # A slot written twice would need a life of its own: an unused result goes to a slot nobody reads.
    unread = len(slots)
    for index, node in enumerate(graph.nodes):
        names = [*node.inputs, *node.captures]
        overwrite = frozenset(
            i
            for i, name in enumerate(names)
            if name
            and memory[name] not in pinned
            and last_memory[memory[name]] == index
            and not any(memory[o] == memory[name] for o in outputs)
            and sum(bool(n) and memory[n] == memory[name] for n in names) == 1
        )
        site = Site(node, graph, kernel, num_threads, max_bytes, overwrite)
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
            )
        )
    values: list[Any] = [None] * (len(slots) + 1)
    # Constants that every reader has absorbed are let go.
    read = {slot for step in steps for slot in step.inputs} | {slots[name] for name in outputs}
    for name, array in graph.constants.items():
        if slots[name] in read:
            values[slots[name]] = array
    return Program(
        steps,
        values,
        [slots[i.name] for i in graph.inputs],
        [(name, slots[name]) for name in outputs],
        {slots[name] for name in outputs if memory[name] in pinned},
        sorted({slot for step in steps for slot in step.outputs}),
    )


def _memory(graph: Graph) -> dict[str, int]:
    """Number the pieces of memory: tensors that may be views of one another have the same number."""
    memory: dict[str, int] = {}
    for name in (*graph.constants, *(i.name for i in graph.inputs)):
        memory[name] = len(memory)
    fresh = len(memory)
    for node in graph.nodes:
        sources = [n for n in node.inputs[:1] if n]
        shares = sources and node.key in VIEWS
        for name in node.outputs:
            if name:
                memory[name] = memory[sources[0]] if shares else fresh
                fresh += 1
    return memory


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
    found = list(result) if isinstance(result, (tuple, list)) else [result]
    return found if all(isinstance(f, np.ndarray) for n, f in zip(node.outputs, found, strict=False) if n) else None
