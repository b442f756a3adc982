"""A program: one call a node, one slot a tensor, and how both are run within a bound on memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from pyint8dot.onnx.errors import ModelError, NodeError
from pyint8dot.onnx.graph import Node

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


@dataclass(frozen=True)
class Room:
    """What a run may still use.

    Attributes
    ----------
    left : int
        The most bytes that all its results alive at a time may take.
    options : RunOptions or None
        Its `terminate` ends the run.
    """

    left: int
    options: Any = None

    def less(self, used: int) -> Room:
        """Return what is left beside so many bytes."""
        return Room(self.left - used, self.options)


@dataclass
class Step:
    """One call of a run.

    Attributes
    ----------
    node : Node
        What it stands for.
    function : callable
        Takes the inputs, returns the output, or a tuple where there are several. Where there are inner programs it takes
        before them the room that these have.
    by : str
        What does the work.
    inputs, outputs : tuple of int
        Slots of the values.
    frees : tuple of int
        Slots nobody reads after this step.
    programs : list of (str, Program)
        The programs of its inner graphs, by attribute.
    steady : bool
        Whether it does the same for all arrays of the same types, shapes and strides; see `pyint8dot.onnx.registry.Site`.
    arguments : callable
        Takes what `function` is given from the values of all slots.
    """

    node: Node
    function: Callable[..., Any]
    by: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    frees: tuple[int, ...]
    programs: list[tuple[str, Program]] = field(default_factory=list)
    steady: bool = False
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
        The slots as a run finds them: constants in place, the rest None. The last slot takes the room of the run.
    inputs : list of int
        Slots of the graph's inputs.
    outputs : list of (str, int)
        The graph's outputs and their slots.
    memory : dict of int to int
        For each slot of an output the number of its piece of memory; outputs that may share have the same.
    pinned : set of int
        The pieces that constants and inputs may be part of.
    fixed : set of int
        Those of them that constants may be part of.
    results : list of int
        Slots that steps write to.
    times : list of float
        Seconds that each step has taken so far.
    """

    steps: list[Step]
    values: list[Any]
    inputs: list[int]
    outputs: list[tuple[str, int]]
    memory: dict[int, int]
    pinned: set[int]
    fixed: set[int]
    results: list[int]
    times: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.times = [0.0] * len(self.steps)
        self._outputs = taking([slot for _, slot in self.outputs])
        for step in self.steps:
            if step.programs:
                step.arguments = self._with_room(step.arguments)

    def _with_room(self, take: Take) -> Take:
        """Put before the arguments what is left of the room."""
        return lambda values: (values[-1].less(self._alive(values)), *take(values))

    def _alive(self, values: Sequence[Any]) -> int:
        """Return the bytes of all results that are alive; views count like arrays of their own."""
        return sum([size_of(values[slot]) for slot in self.results if values[slot] is not None])

    def call(self, arguments: Iterable[Any], room: Room) -> Sequence[Any]:
        """Run on these inputs and return the outputs as they are: they may be inputs, constants, or views of one another.

        Parameters
        ----------
        arguments : iterable
            A value for each input.
        room : Room
            What the run may use.

        Returns
        -------
        sequence
        """
        values = self.values.copy()
        for slot, value in zip(self.inputs, arguments, strict=True):
            values[slot] = value
        self.run(values, room)
        return self._outputs(values)

    def run(self, values: list[Any], room: Room, steps: range | None = None, made: int = 0) -> int:
        """Run all steps, or some.

        Parameters
        ----------
        values : list
            A copy of `self.values` with the inputs in their slots; the outputs are in theirs afterwards.
        room : Room
            What the run may use.
        steps : range, optional
            Which steps.
        made : int
            Bytes that the run has made before them.

        Returns
        -------
        int
            Bytes that it has made, never less than what is alive.

        Raises
        ------
        NodeError
            If a node cannot work on the values it is given, or the run is ended.
        ModelError
            If results would be larger than the bound.
        """
        values[-1], limit, options = room, room.left, room.options
        times, clock = self.times, time.perf_counter
        # `made` is of the last exact count and since, nothing taken off for what is freed.
        before = clock()
        for index in range(len(self.steps)) if steps is None else steps:
            step = self.steps[index]
            if options is not None and options.terminate:
                raise NodeError(f"{step.node}: the run was ended because terminate was set in its options")
            try:
                result = step.function(*step.arguments(values))
            except (ModelError, NodeError):
                raise
            except Exception as error:
                given = [values[i] for i in step.inputs]
                names = [*step.node.inputs, *step.node.captures]
                raise NodeError(f"{step.node}: {_first_line(error)}; {_describe(names, given)}") from error
            if type(result) is tuple:
                for place, slot in enumerate(step.outputs):
                    values[slot] = array = result[place]
                    made += array.nbytes if type(array) is np.ndarray else size_of(array)
            else:
                values[step.outputs[0]] = result
                made += result.nbytes if type(result) is np.ndarray else size_of(result)
            if made > limit:
                made = self._alive(values)
                if made > limit:
                    raise ModelError(
                        f"{step.node}: intermediate results take {made} bytes, more than max_bytes={limit}"
                    )
            for slot in step.frees:
                values[slot] = None
            now = clock()
            times[index] += now - before
            before = now
        return made

    def reset(self) -> None:
        """Forget the times of the runs so far."""
        self.times[:] = [0.0] * len(self.times)
        for step in self.steps:
            for _, program in step.programs:
                program.reset()


def size_of(value: Any) -> int:
    """Return the bytes of a value's arrays.

    Parameters
    ----------
    value : Any
        An array, a list of values, or anything else, which counts nothing.

    Returns
    -------
    int
    """
    if type(value) is np.ndarray:
        return int(value.nbytes)
    if isinstance(value, list):
        return sum(map(size_of, value))
    return int(getattr(value, "nbytes", 0))


def copied(value: Any) -> Any:
    """Return a copy of a value, of every array in it.

    Parameters
    ----------
    value : Any
        An array, a list of values, or anything else, which is returned as it is.

    Returns
    -------
    Any
    """
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def owning(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose results are its own: what shares memory with an input or an earlier result is copied.

    Parameters
    ----------
    function : callable
        Takes values and returns a value or a tuple of them.

    Returns
    -------
    callable
    """

    def run(*given: Any) -> Any:
        result = function(*given)
        if type(result) is np.ndarray:
            return _own(result, given)
        if not isinstance(result, tuple):
            return copied(result) if isinstance(result, list) else result
        others, found = list(given), []
        for item in result:
            found.append(_own(item, others))
            others.append(found[-1])
        return tuple(found)

    return run


def _own(value: Any, others: Sequence[Any]) -> Any:
    if isinstance(value, list):
        return copied(value)
    if not isinstance(value, np.ndarray):
        return value
    if value.base is None and value.flags.writeable:
        return value.copy() if any(value is other for other in others) else value
    if not value.flags.writeable or any(_shares(value, other) for other in others):
        return value.copy()
    return value


def _shares(array: np.ndarray, other: Any) -> bool:
    if isinstance(other, list):
        return any(_shares(array, item) for item in other)
    return isinstance(other, np.ndarray) and np.may_share_memory(array, other)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _describe(names: Sequence[str], values: Sequence[Any]) -> str:
    parts = []
    for name, value in zip(names, values, strict=False):
        if isinstance(value, np.ndarray):
            parts.append(f"{name!r} is {value.dtype} {list(value.shape)}")
        elif name and value is not None:
            parts.append(f"{name!r} is {type(value).__name__}")
    return "inputs: " + (", ".join(parts) or "none")
