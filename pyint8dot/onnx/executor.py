"""The executor: how a program of nodes runs where it has run before on inputs of the same types and shapes.

The first run is an ordinary one, node by node. The second is ordinary too, but a tape (`pyint8dot.engine.tape`) has all that
native code does meanwhile. Neighbouring nodes whose work is all on the tape, and those between them that only look at a result
in another shape, become one segment: a single native program, which later runs call once, with no Python between its nodes.

In a segment every record stands as it was recorded; only where its operands lie is said otherwise:

- results that nobody outside the segment sees lie in an arena, a single array in which those that are not alive at the same time
  share their places. A run takes an arena for itself and gives it back, so runs in several threads have one each. No array of the
  arena is ever handed to Python;
- results that somebody else reads, a node that is not native or the caller, are new arrays at every run;
- what comes from outside is the array that the run has, and must have the type, shape and strides that it had when it was recorded,
  or the nodes run one by one;
- constants lie where they lay, and the segment keeps them.

Which nodes may: those that are said to be `steady` (`pyint8dot.onnx.registry.Site`). What a node was seen to do is checked all the
same: its results are what programs wrote, and what programs read is an input, a result, or something that is still there after the
node has run. Everything else, such as nodes with inner graphs or results of a size that depends on values, runs as ever, between the
segments. A program that reports values it cannot work on, such as infinities to be quantised, ends the run; it is done
again node by node, which finds the words for the error. Results are the same bits either way.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pyint8dot.engine import blocks, library, settings, tape
from pyint8dot.engine.tape import bounds
from pyint8dot.onnx.program import Program, Room, Step, taking
from pyint8dot.onnx.registry import VIEWS
from pyint8dot.onnx.segment import Failed, Seen, Segment, Unfit, merged

__all__ = ["Executor", "Road"]

EXECUTOR_VARIABLE = "PYINT8DOT_EXECUTOR"

#: Results of a run that may be kept while it is recorded, and roads that are kept with one program.
MOST_BYTES, MOST_ROADS = 1 << 28, 32


class Road:
    """How a program runs for inputs of one signature."""

    def __init__(self) -> None:
        self.runs = 0
        #: Segments, and between them ranges of steps that run one by one; None until it has been recorded.
        self.stages: list[Segment | range] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Road:
        """Return one that has not been run: what is recorded says where memory lies."""
        return Road()


class _Arena:
    """Memory for the results that nobody sees, on a cache line."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._store = np.empty(size + blocks.LINE, np.uint8)
        self.address = -(-library.address(self._store) // blocks.LINE) * blocks.LINE


class Executor:
    """Runs a program, the oftener the faster.

    Parameters
    ----------
    program : Program
        Of a whole graph, not of an inner one.
    count : int or None
        How many threads a product uses.
    """

    def __init__(self, program: Program, count: int | None) -> None:
        self._program, self._count = program, count
        self._inputs = taking(program.inputs)
        self._roads: dict[Any, Road] = {}
        self._arenas: list[_Arena] = []
        self.on = library.LAYOUT_KNOWN and library.status() is None and allowed()

    def __deepcopy__(self, memo: dict[int, Any]) -> Executor:
        """Return one that has recorded nothing: segments and arenas know where memory of this one lies."""
        made = Executor(copy.deepcopy(self._program, memo), self._count)
        made.on = self.on
        return made

    def road(self, signature: Any) -> Road:
        """Return the road for inputs of these types and shapes.

        Parameters
        ----------
        signature : hashable
            Types and shapes.

        Returns
        -------
        Road
        """
        found = self._roads.get(signature)
        if found is None:
            if len(self._roads) >= MOST_ROADS:
                self._settle()
                self._roads.pop(next(iter(list(self._roads))), None)
            found = self._roads[signature] = Road()
        return found

    def run(self, values: list[Any], room: Room, road: Road | None) -> None:
        """Run the program; see `Program.run`.

        Parameters
        ----------
        values : list
            The slots, with the inputs in theirs.
        room : Room
            What the run may use.
        road : Road or None
            That of the inputs, if they have one.
        """
        if road is not None and self.on and room.options is None:
            now = settings.current()
            # Who gives options may end the run at any node, and who counts products is told of each.
            if now.tally is None and (self._count or now.num_threads or settings.default_threads) == 1:
                if road.stages is not None:
                    self._replay(values, room, road)
                    return
                road.runs += 1
                if road.runs > 1 and _apart(self._inputs(values)):
                    self._record(values, room, road)
                    return
        self._program.run(values, room)

    def seconds(self) -> list[float]:
        """Return the seconds that each step has taken so far: those of a segment shared out as its nodes were seen to take them."""
        self._settle()
        return list(self._program.times)

    def reset(self) -> None:
        """Forget the times of the runs so far."""
        self._settle()
        self._program.reset()

    def _settle(self) -> None:
        """Share out the time of segments among their steps."""
        times = self._program.times
        for road in list(self._roads.values()):
            for stage in road.stages or ():
                if isinstance(stage, Segment):
                    spent, stage.seconds = stage.seconds, 0.0
                    for index, part in zip(stage.steps, stage.parts, strict=True):
                        times[index] += part * spent

    def _replay(self, values: list[Any], room: Room, road: Road) -> None:
        program = self._program
        given = self._inputs(values)
        made = 0
        assert road.stages is not None  # noqa: S101 - the caller has looked
        try:
            for stage in road.stages:
                if type(stage) is range:
                    made = program.run(values, room, stage, made)
                elif made + stage.bytes <= room.left and stage.fits(values):
                    self._segment(stage, values)
                    made += stage.bytes
                else:
                    made = program.run(values, room, stage.steps, made)
        except Failed:
            values[:] = program.values
            for slot, value in zip(program.inputs, given, strict=True):
                values[slot] = value
            program.run(values, room)

    def _segment(self, segment: Segment, values: list[Any]) -> None:
        """Run a segment in an arena that nobody else has meanwhile."""
        began = time.perf_counter()
        if segment.arena:
            try:
                arena = self._arenas.pop()
            except IndexError:
                arena = _Arena(0)
            if arena.size < segment.arena:
                arena = _Arena(segment.arena)
            segment.run(values, arena.address)
            self._arenas.append(arena)
        else:
            segment.run(values, 0)
        segment.seconds += time.perf_counter() - began

    def _record(self, values: list[Any], room: Room, road: Road) -> None:
        """Run step by step, and see which segments there are."""
        program = self._program
        seen: list[Seen] = []
        total = 0

        def watched(step: Step, log: tape.Tape) -> Callable[..., Any]:
            function = step.function

            def run(*arguments: Any) -> Any:
                nonlocal total
                log.cut()
                began = time.perf_counter()
                result = function(*arguments)
                seconds = time.perf_counter() - began
                made = result if type(result) is tuple else (result,)
                total += sum(getattr(each, "nbytes", 0) for each in made)
                part = log.cut()
                if total <= min(MOST_BYTES, room.left):
                    seen.append(Seen(step, [*arguments], made, part, seconds))
                else:
                    seen.clear()
                return result

            return run

        with tape.recording() as log:
            steps = [dataclasses.replace(step, function=watched(step, log)) for step in program.steps]
            watching = dataclasses.replace(program, steps=steps)
            watching.times = program.times
            watching.run(values, room)
        stages: list[Segment | range] = [range(len(program.steps))]
        if len(seen) == len(program.steps):
            stages = list(_stages(program, seen))
        road.stages = stages


def allowed() -> bool:
    """Tell whether the environment leaves the executor on."""
    return os.environ.get(EXECUTOR_VARIABLE, "").strip() != "0"


def _apart(arrays: Sequence[Any]) -> bool:
    """Whether inputs are arrays that share no memory: which of two an address belongs to would be a guess."""
    if not all(type(array) is np.ndarray for array in arrays):
        return False
    spans = sorted(map(bounds, arrays))
    return all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def _native(seen: Seen) -> bool:
    """Whether all that a step does is on the tape."""
    part = seen.part
    if not (seen.step.steady and part.calls and part.sound):
        return False
    if not all(any(each.array is array for array in seen.given) for each in part.answers):
        return False
    written = merged(map(bounds, part.written))
    for array in seen.made:
        if type(array) is not np.ndarray or array.size == 0:
            return False
        low, high = bounds(array)
        if not any(start <= low and high <= end for start, end in written):
            return False
    return all(array is None or type(array) is np.ndarray for array in seen.given)


def _view(program: Program, seen: Seen) -> bool:
    """Whether a step only looks at its first input in a way that depends on nothing but constants."""
    if seen.step.node.key not in VIEWS or seen.part.calls or not seen.given or type(seen.given[0]) is not np.ndarray:
        return False
    if any(program.values[slot] is None for slot in seen.step.inputs[1:] if slot):
        return False
    start, end = bounds(seen.given[0])
    for array in seen.made:
        if type(array) is not np.ndarray or array.size == 0:
            return False
        low, high = bounds(array)
        if not (start <= low and high <= end):
            return False
    return True


def _stages(program: Program, seen: list[Seen]) -> Iterator[Segment | range]:
    """Find the segments, and the ranges of steps between them."""
    native = [_native(each) for each in seen]
    joins = [native[i] or _view(program, each) for i, each in enumerate(seen)]
    at = 0
    for segment in _segments(program, seen, native, joins):
        if at < segment.steps.start:
            yield range(at, segment.steps.start)
        yield segment
        at = segment.steps.stop
    if at < len(seen):
        yield range(at, len(seen))


def _segments(program: Program, seen: list[Seen], native: list[bool], joins: list[bool]) -> Iterator[Segment]:
    """Find the segments among all steps, in their order."""
    for joined, group in itertools.groupby(range(len(seen)), joins.__getitem__):
        if joined:
            steps = list(group)
            yield from _within(program, seen, native, range(steps[0], steps[-1] + 1))


def _within(program: Program, seen: list[Seen], native: list[bool], steps: range) -> Iterator[Segment]:
    """Find segments among neighbouring steps that might be one."""
    while steps and not native[steps[0]]:
        steps = steps[1:]
    while steps and not native[steps[-1]]:
        steps = steps[:-1]
    if not steps:
        return
    freed = {slot for index in steps for slot in seen[index].step.frees}
    for index in steps:
        # What others see in another shape is made for them by the step itself.
        if not native[index] and not freed.issuperset(seen[index].step.outputs):
            yield from _within(program, seen, native, range(steps.start, index))
            yield from _within(program, seen, native, range(index + 1, steps.stop))
            return
    try:
        yield Segment(program, seen, steps)
    except Unfit:
        if len(steps) > 1:
            middle = steps.start + len(steps) // 2
            yield from _within(program, seen, native, range(steps.start, middle))
            yield from _within(program, seen, native, range(middle, steps.stop))
