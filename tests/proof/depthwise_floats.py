"""The claim about depthwise convolution of float32: every result is its start and each tap added in turn, products and sums rounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from proof import terms
from proof.claim import Call
from proof.expressions import add, check_bytes_of, mul
from proof.image import Entry
from proof.machine import State

#: Columns of the widest tile.
TILE = 16


class Shape(NamedTuple):
    """Results, taps, and pixels between results."""

    m: int
    n: int
    taps: int
    step: int


def shapes(_name: str, *, full: bool) -> Iterator[Shape]:
    """Every number of columns through two tiles and what may be left, few rows and taps."""
    for m in range(4):
        for n in range(3 * TILE):
            for taps in (1, 2, 4):
                for step in (1, 2, 3):
                    if full or (m < 3 and (m + n + taps + step) % 7 == 0):
                        yield Shape(m, n, taps, step)


def prove(entry: Entry, shape: Shape) -> State:
    """Prove one channel and return the state that the entry left."""
    m, n, taps, step = shape
    call = Call(entry)
    ld_x, ld_y = 4 * (n * step + 3), 4 * n + 12
    offsets = [(-4, 8, ld_x, 0)[t] for t in range(taps)]
    source, y = call.region("x"), call.region("y")
    for i in range(m):
        for offset in offsets:
            first = i * ld_x + offset
            pixels = [terms.signed_input("x", 4, first + 4 * j) for j in range(step * n)]
            source.holds([slot for pixel in pixels for slot in pixel.bytes], first)
        y.takes(4 * n, i * ld_y)
    weights, start = [terms.signed_input("w", 4, t) for t in range(taps)], terms.signed_input("start", 4)
    places = call.input("offsets", [byte for offset in offsets for byte in (offset % 2**64).to_bytes(8, "little")])
    call.run(
        [
            source.address,
            y.address,
            ld_x,
            ld_y,
            m,
            n,
            step,
            taps,
            places,
            call.lanes("weights", weights),
            call.lanes("start", [start]),
        ]
    )
    for i in range(m):
        want = []
        for j in range(n):
            total = start
            for offset, weight in zip(offsets, weights, strict=True):
                total = add(total, mul(terms.signed_input("x", 4, i * ld_x + offset + 4 * step * j), weight))
            want.append(total)
        check_bytes_of(call, y, i * ld_y, want, shape)
    return call.state
