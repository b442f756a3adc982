"""Operators with inner graphs: these are compiled like the graph around them, and run within what it has left of its memory.

Each function takes first the room that its inner programs have. The inputs of an inner program are never written over,
so a value may go round a loop without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyint8dot.onnx.errors import ModelError
from pyint8dot.onnx.graph import Graph
from pyint8dot.onnx.program import Room, copied, size_of
from pyint8dot.onnx.registry import Function, Site, operator


def _absorb_captured(site: Site) -> None:
    """Constants from around are constants of the inner programs already."""
    for index, name in enumerate(site.node.captures, len(site.node.inputs)):
        if name in site.graph.constants:
            site.absorb(index)


def _inner(site: Site, name: str) -> tuple[Graph, Callable[[Sequence[Any], Sequence[Any], Room], list[Any]]]:
    """Return the graph in an attribute and what runs it on its own inputs and on all that the node captures."""
    graph, program = site.program(name)
    place = {captured: i for i, captured in enumerate(site.node.captures)}
    own = len(graph.inputs) - sum(info.name in place for info in graph.inputs)
    taken = [place[info.name] for info in graph.inputs[own:]]
    # A constant may come out as it is: what leaves the node must be the node's own.
    constants = [i for i, (_, slot) in enumerate(program.outputs) if program.memory[slot] in program.fixed]

    def run(arguments: Sequence[Any], around: Sequence[Any], room: Room) -> list[Any]:
        found = list(program.call([*arguments, *(around[i] for i in taken)], room))
        for i in constants:
            found[i] = copied(found[i])
        return found

    return graph, run


@operator("If")
def _if(site: Site) -> Function | None:
    _absorb_captured(site)
    (_, then), (_, other) = _inner(site, "then_branch"), _inner(site, "else_branch")

    def run(room: Room, condition: np.ndarray, *around: Any) -> Any:
        return tuple((then if _truth(condition) else other)((), around, room))

    return run


@operator("Loop")
def _loop(site: Site) -> Function | None:
    _absorb_captured(site)
    graph, body = _inner(site, "body")
    count = len(site.node.inputs) - 2
    kept = graph.outputs[1 + count :]
    collect = _collector(site, len(kept))

    def run(room: Room, most: np.ndarray | None, condition: np.ndarray | None, *rest: Any) -> Any:
        states, around = list(rest[:count]), rest[count:]
        trips = None if most is None else int(most.item())
        going, done, used = condition is None or _truth(condition), 0, 0
        rows: list[list[Any]] = [[] for _ in kept]
        while going and (trips is None or done < trips):
            arguments = [np.asarray(done, np.int64), np.asarray(going), *states]
            going_on, *found = body(arguments, around, room.less(used))
            going, states = _truth(going_on), found[:count]
            used = collect(rows, found[count:], used, room)
            done += 1
        return (*states, *(_stacked(row, info, 0) for row, info in zip(rows, kept, strict=True)))

    return run


@operator("Scan")
def _scan(site: Site) -> Function | None:
    if site.opset < 9:
        raise ModelError(
            f"{site.node}: the Scan of opset 8, with a batch of its own, is not supported; it is since opset 9"
        )
    _absorb_captured(site)
    graph, body = _inner(site, "body")
    scanned = site.attr("num_scan_inputs")
    count = len(site.node.inputs) - scanned
    kept = graph.outputs[count:]
    collect = _collector(site, len(kept))
    in_axes = site.attr("scan_input_axes") or [0] * scanned
    out_axes = site.attr("scan_output_axes") or [0] * len(kept)
    in_back = site.attr("scan_input_directions") or [0] * scanned
    out_back = site.attr("scan_output_directions") or [0] * len(kept)

    def run(room: Room, *given: Any) -> Any:
        states, around = list(given[:count]), given[count + scanned :]
        series = [np.moveaxis(x, axis, 0) for x, axis in zip(given[count : count + scanned], in_axes, strict=True)]
        if len({len(x) for x in series}) != 1:
            raise ValueError(f"the scanned inputs must be equally long, got {[len(x) for x in series]}")
        series = [x[::-1] if back else x for x, back in zip(series, in_back, strict=True)]
        used, rows = 0, [[] for _ in kept]  # type: tuple[int, list[list[Any]]]
        for items in zip(*series, strict=True):
            found = body([*states, *map(np.asarray, items)], around, room.less(used))
            states = found[:count]
            used = collect(rows, found[count:], used, room)
        results = [
            _stacked(row[::-1] if back else row, info, axis)
            for row, back, info, axis in zip(rows, out_back, kept, out_axes, strict=True)
        ]
        return (*states, *results)

    return run


@operator("SequenceMap")
def _sequence_map(site: Site) -> Function | None:
    _absorb_captured(site)
    graph, body = _inner(site, "body")
    collect = _collector(site, len(graph.outputs))
    count = len(site.node.inputs)

    def run(room: Room, *given: Any) -> Any:
        first, others, around = given[0], given[1:count], given[count:]
        used, rows = 0, [[] for _ in graph.outputs]  # type: tuple[int, list[list[Any]]]
        for i, item in enumerate(first):
            arguments = [item, *(other[i] if isinstance(other, list) else other for other in others)]
            used = collect(rows, body(arguments, around, room.less(used)), used, room)
        return tuple(rows)

    return run


def _collector(site: Site, outputs: int) -> Callable[[list[list[Any]], Sequence[Any], int, Room], int]:
    """Return what adds a step's results to the rows, and refuses what would not fit beside and then inside the whole."""
    what = str(site.node)

    def collect(rows: list[list[Any]], found: Sequence[Any], used: int, room: Room) -> int:
        if len(found) != outputs:
            raise ValueError(f"the body gives {len(found)} results to collect, not {outputs}")
        for row, value in zip(rows, found, strict=True):
            row.append(value)
            used += size_of(value)
        if 2 * used > room.left:
            raise ModelError(
                f"{what}: collects {used} bytes so far, too many for max_bytes with {room.left} bytes left"
            )
        return used

    return collect


def _stacked(row: list[Any], info: Any, axis: int) -> np.ndarray:
    if row:
        return np.stack(row, axis)
    # Nobody knows what an iteration would have made beyond what the body declares.
    shape = [d if isinstance(d, int) else 0 for d in info.shape]
    shape.insert(axis if axis >= 0 else axis + len(shape) + 1, 0)
    return np.zeros(shape, info.dtype or np.float32)


def _truth(condition: Any) -> bool:
    if type(condition) is np.ndarray and condition.size == 1:
        return bool(condition)
    if np.size(condition) != 1:
        raise ValueError(f"a condition must have one element, got shape {list(np.shape(condition))}")
    return bool(np.asarray(condition).reshape(()))
