"""Claims about maxima of windows: each result is the greatest of the pixels of its window, for the geometry that pool.py writes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from proof import terms
from proof.claim import Call
from proof.expressions import check_bytes_of
from proof.image import Entry
from proof.machine import State

from pyint8dot.engine.pool import BEYOND, Axis, _all_hold_pixels, _geometry
from pyint8dot.engine.program import MAX_POOLS

#: The maximum that each of them takes, and the bytes of a value.
KINDS = {
    name: ({"i": "smax", "u": "umax", "f": "fmax"}[dtype.kind], dtype.itemsize) for dtype, name in MAX_POOLS.items()
}


class Shape(NamedTuple):
    """Planes, and the windows along both axes."""

    planes: int
    rows: Axis
    columns: Axis


def axes(sizes: range, *, every: int = 1) -> list[Axis]:
    """Windows of one to five places, apart and dilated, padded on both sides and not, over so many pixels; one of `every` so many."""
    found = []
    kinds = itertools.product(sizes, (1, 2, 3, 5), (1, 2, 3), (1, 2), (0, 1))
    for i, (size, taps, stride, dilation, before) in enumerate(kinds):
        room = size + 2 * before - (taps - 1) * dilation - 1
        axis = Axis(size, room // stride + 1, taps, stride, dilation, before)
        if room >= 0 and _all_hold_pixels(axis) and i % every == 0:
            found.append(axis)
    return found


def shapes(name: str, *, full: bool) -> Iterator[Shape]:
    """Every kind of window along the columns, each with kinds along the rows by turns; rows of up to 33 bytes and more."""
    _, size = KINDS[name]
    rows = itertools.cycle(axes(range(1, 7)))
    for columns in axes(range(1, 40 // size + 2), every=1 if full else 11 - 2 * size):
        for planes in (1, 2) if full else (1 + columns.taps % 2,):
            yield Shape(planes, next(rows), columns)
    yield Shape(0, next(rows), columns)


def prove(entry: Entry, shape: Shape) -> State:
    """Prove some planes and return the state that the entry left."""
    name, size = KINDS[entry.name]
    planes, rows, columns = shape
    call = Call(entry)
    read = terms.unsigned_input if name == "umax" else terms.signed_input
    x = [[[read("x", size, p, i, j) for j in range(columns.size)] for i in range(rows.size)] for p in range(planes)]
    source = call.lanes("x", [each for plane in x for line in plane for each in line], size)
    y = call.region("y").takes(size * planes * rows.out * columns.out)
    geometry, length = _geometry(size, rows, columns)
    line = call.region("line").takes(length + BEYOND)
    line.holds([terms.signed_input("line", 1, at) for at in range(length + BEYOND)])
    call.run([source, y.address, planes, call.input("geometry", list(geometry.tobytes())), line.address])
    at = 0
    for plane in x:
        for i in range(rows.out):
            want = []
            for j in range(columns.out):
                places = itertools.product(_window(rows, i), _window(columns, j))
                want.append(terms.extreme(name, size, [plane[row][column] for row, column in places]))
            check_bytes_of(call, y, at, want, shape, size)
            at += size * columns.out
    return call.state


def _window(axis: Axis, i: int) -> list[int]:
    """The pixels of window i, without padding."""
    places = (i * axis.stride - axis.before + tap * axis.dilation for tap in range(axis.taps))
    return [place for place in places if 0 <= place < axis.size]
