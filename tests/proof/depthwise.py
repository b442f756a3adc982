"""Claims about depthwise convolution: every result is the sum of the contract, requantised as numpy does it where there is a scale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from proof import terms
from proof.claim import Call
from proof.expressions import check_bytes_of, code, from_int, mul, rounded
from proof.image import Entry
from proof.machine import State

#: Taps that an entry takes at a time, and the columns of a tile.
TOGETHER = {"depthwise": 1, "depthwise_sdot": 4}
TILE = 16


class Shape(NamedTuple):
    """Results, taps or groups of them, pixels between results, and how results are made: sums, or codes of either sign."""

    m: int
    n: int
    taps: int
    step: int = 1
    kind: str = "sums"


def shapes(name: str, *, full: bool) -> Iterator[Shape]:
    """Every number of rows and of columns through two tiles and one more, few taps."""
    for m in range(10):
        for n in range(2 * TILE + 2):
            for taps in (0, 1, 3):
                for step in (1, 2) if TOGETHER[name] > 1 else (1,):
                    for i, kind in enumerate(("sums", "int8", "uint8")):
                        if full or (m < 6 and (m + n + taps + step + i) % 11 == 0 and m * n < 70):
                            yield Shape(m, n, taps, step, kind)


def prove(entry: Entry, shape: Shape) -> State:
    """Prove one channel and return the state that the entry left."""
    m, n, taps, step, kind = shape
    together = TOGETHER[entry.name]
    call = Call(entry)
    ld_x = 2 * n * step + 7
    offsets = [(-1, 2, ld_x)[t] for t in range(taps)]
    width = max(n, TILE) if together == 1 else (max(n, TILE) - 4) * step + TILE
    source = call.region("x")
    for i in range(m):
        for offset in offsets:
            first = i * ld_x + offset
            source.holds([terms.signed_input("x", 1, at) for at in range(first, first + width)], first)
    size, weight_size = 4 if kind == "sums" else 1, 2 if together == 1 else 1
    weights = [[terms.signed_input("w", weight_size, t, u) for u in range(together)] for t in range(taps)]
    start, scale = terms.signed_input("start", 4), terms.signed_input("scale", 4)
    zero_point, unsigned = (200 if kind == "uint8" else -3), int(kind == "uint8")
    ld_y = size * n + 3 * size
    y = call.region("y")
    for i in range(m):
        y.takes(size * n, i * ld_y)
    fields = [
        source.address,
        y.address,
        ld_x,
        ld_y,
        m,
        n,
        taps,
        call.input("offsets", [byte for offset in offsets for byte in (offset % 2**64).to_bytes(8, "little")]),
        call.lanes("weights", [w for group in weights for w in group], weight_size),
        call.lanes("start", [start]),
        0 if kind == "sums" else call.lanes("scale", [scale]),
        zero_point,
        unsigned,
    ]
    index = [2 * u for u in range(4)] if step == 1 else [0, 3, 1, 5]
    if together > 1:
        pattern = [index[u] + step * v for v in range(4) for u in range(4)]
        fields.append(call.input("pattern", [*step.to_bytes(8, "little"), *pattern]))
    call.run(fields)
    for i in range(m):
        want = []
        for j in range(n):
            places = [
                [step * j + offset + (index[u] if together > 1 else 0) for u in range(together)] for offset in offsets
            ]
            pairs = [
                (1, weights[t][u], terms.signed_input("x", 1, i * ld_x + at))
                for t, group in enumerate(places)
                for u, at in enumerate(group)
            ]
            total = terms.total(4, ((1, start),), pairs)
            want.append(total if kind == "sums" else code(rounded(mul(from_int(total), scale)), zero_point, unsigned))
        check_bytes_of(call, y, i * ld_y, want, shape, size)
    return call.state
