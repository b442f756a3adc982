"""Claims about windows, for the geometry that pool.py writes: each result is the greatest of its pixels, or their sum made a code."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from proof import terms
from proof.claim import Call
from proof.elementwise import ZERO_POINTS
from proof.expressions import check_bytes_of, code, from_int, mul, rounded, values
from proof.image import Entry
from proof.machine import State

from pyint8dot.engine.pool import BEYOND, BEYOND_SUMS, Axis, _all_hold_pixels, _geometry, _sums
from pyint8dot.engine.program import MAX_POOLS

#: What each of them takes, and the bytes of a value.
KINDS = {
    name: ({"i": "smax", "u": "umax", "f": "fmax"}[dtype.kind], dtype.itemsize) for dtype, name in MAX_POOLS.items()
} | {"average_pool": ("sum", 1)}


class Shape(NamedTuple):
    """Planes, the windows along both axes, and of averages which zero points and types."""

    planes: int
    rows: Axis
    columns: Axis
    form: int = 0


#: Types of both sides, and zero points of each.
FORMS = 4 * 5 * 5


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
    rows, forms = itertools.cycle(axes(range(1, 7))), itertools.cycle(range(FORMS))
    for columns in axes(range(1, 40 // size + 2), every=1 if full else 11 - 2 * size):
        for planes in (1, 2) if full else (1 + columns.taps % 2,):
            yield Shape(planes, next(rows), columns, next(forms))
    yield Shape(0, next(rows), columns)


def prove(entry: Entry, shape: Shape) -> State:
    """Prove some planes and return the state that the entry left."""
    name, size = KINDS[entry.name]
    if name == "sum":
        return average(entry, shape)
    planes, rows, columns, _ = shape
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


def average(entry: Entry, shape: Shape) -> State:
    """Prove that each result is ``clip(rint(float32(sum) * factor) + zero_point)`` and return the state that the entry left."""
    planes, rows, columns, form = shape
    call = Call(entry)
    zeros, kinds = (form // 4 % 5, form // 20), (form & 1, form >> 1 & 1)
    x_zero, y_zero = (ZERO_POINTS[kind][zero] for kind, zero in zip(kinds, zeros, strict=True))
    flips = [128 * kind for kind in kinds]
    places = list(itertools.product(range(planes), range(rows.size), range(columns.size)))
    # As int8, as which a uint8 is read once its top bit has been turned over.
    x = {place: terms.signed_input("x", 1, *place) for place in places}
    source = call.lanes("x", [terms.moved(x[place], flips[0]) for place in places], 1)
    y = call.region("y").takes(planes * rows.out * columns.out)
    pitch = -(-columns.out // 8) * 8
    factors = values("factor", rows.out, pitch)
    geometry, length = _sums(rows, columns, x_zero - flips[0], [4 * pitch * i for i in range(rows.out)])
    line = call.region("line").takes(length + BEYOND_SUMS)
    line.holds([terms.signed_input("line", 1, at) for at in range(length + BEYOND_SUMS)])
    words = call.input("geometry", list(geometry.tobytes()))
    by = call.lanes("factors", [factor for row in factors for factor in row])
    call.run([source, y.address, planes, words, by, y_zero - flips[1], *flips, line.address])
    at = 0
    for p, i in itertools.product(range(planes), range(rows.out)):
        want = []
        for j in range(columns.out):
            seen = [x[(p, *place)] for place in itertools.product(_window(rows, i), _window(columns, j))]
            total = terms.total(4, [(1, each) for each in seen], const=len(seen) * (flips[0] - x_zero))
            want.append(code(rounded(mul(from_int(total), factors[i][j])), y_zero, kinds[1]))
        check_bytes_of(call, y, at, want, shape, 1)
        at += columns.out
    return call.state


def _window(axis: Axis, i: int) -> list[int]:
    """The pixels of window i, without padding."""
    places = (i * axis.stride - axis.before + tap * axis.dilation for tap in range(axis.taps))
    return [place for place in places if 0 <= place < axis.size]
