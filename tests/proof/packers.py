"""Claims about what brings operands into a packed layout: every byte is the input's of the layout's formula, flipped where asked, or a zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from proof import terms
from proof.claim import Call, check_bytes
from proof.image import Entry
from proof.machine import State
from support import layouts, rows

#: The layout that each of them makes.
PACKERS = rows.PACKERS
GATHERERS = rows.GATHERERS

#: What both halves of a K group are flipped with: nothing, what moves uint8 to int8; and what complements the upper half besides.
FLIP = 0x8080808080808080
COMPLEMENT = 0xFFFFFFFF << 32

#: How an operand lies: k side by side, rows side by side, neither, and neither from its last byte backwards.
WAYS = ("k", "mn", "apart", "backwards")


class Shape(NamedTuple):
    """An operand to pack, and the form it is packed in."""

    mn: int
    k: int
    way: str = "k"
    split: bool = False
    unsigned: bool = False
    complement: bool = False


def shapes(name: str, *, full: bool) -> Iterator[Shape]:
    """The operands that are proven of a packer or gatherer, all of them or those of a quick run."""
    if name in GATHERERS:
        layout = GATHERERS[name]
        turn = layout.native.turn
        depths = range(0, 5 * turn, turn)
        for k in depths if full else (0, turn, 3 * turn):
            for mn in (0, *range(layout.r, 4 * layout.r + 2)):
                yield Shape(mn, k)
        return
    layout = PACKERS[name]
    for way in WAYS:
        # Byte by byte there is one loop, which less goes all the way through.
        most = (34, 36) if 1 in _strides(way, 8, 8) else (18, 18)
        for mn in range(most[0]):
            for k in range(most[1]):
                for form in range(4 if rows.complements(layout) else 2):
                    if (
                        full
                        or (mn + 5 * k + 3 * len(way) + 7 * form) % 61 == 0
                        or (k == 35 and mn % 8 == 5 and form < 2)
                    ):
                        yield Shape(mn, k, way, bool(form & 1), bool((mn + k) & 1), bool(form & 2))


def _strides(way: str, mn: int, k: int) -> tuple[int, int]:
    """Bytes from a k to the next, and from a row to the next."""
    return {"k": (1, k + 3), "mn": (mn + 2, 1), "apart": (3, 3 * k + 1), "backwards": (-2 * mn - 1, -2)}[way]


def prove(entry: Entry, shape: Shape) -> State:
    """Prove that an operand is packed as its layout has it, and return the state that the entry left."""
    mn, k = shape.mn, shape.k
    call = Call(entry)
    values = [[terms.signed_input("X", 1, j, p) for p in range(k)] for j in range(mn)]
    if entry.name in GATHERERS:
        layout = GATHERERS[entry.name]
        # Rows that lie apart, the first ones behind the last ones.
        source = call.region("base")
        table = [(k - p) * (mn + 3) for p in range(k)]
        for p in range(k):
            source.holds([line[p] for line in values], table[p])
        packed = call.region("packed")
        want = _packed(values, [layout.r] * -(-mn // layout.r), layout, complement=layout.complement)
        packed.takes(len(want))
        words = [byte for at in table for byte in at.to_bytes(8, "little")]
        call.run([source.address, packed.address, k, mn, call.input("table", words)])
    else:
        layout = PACKERS[entry.name]
        stride_k, stride_mn = _strides(shape.way, mn, k)
        source = call.region("source")
        for j, line in enumerate(values):
            for p, x in enumerate(line):
                source.holds([terms.moved(x, 128) if shape.unsigned else x], p * stride_k + j * stride_mn)
        heights = layouts.panel_rows(mn, layout.r) if shape.split else [layout.r] * -(-mn // layout.r)
        want = _packed(values, heights, layout, complement=shape.complement)
        packed = call.region("packed").takes(len(want))
        flip = (FLIP if shape.unsigned else 0) ^ (COMPLEMENT if shape.complement else 0)
        call.run([source.address, packed.address, k, mn, stride_k, stride_mn, int(shape.split), flip])
    check_bytes(packed, want, shape)
    return call.state


def _packed(values: Any, heights: list[int], layout: Any, *, complement: bool) -> list[Any]:
    """The bytes of a packed operand: element (k, j) of a panel of r at ``(k // kr) * r * kr + j * kr + k % kr``."""
    k = len(values[0]) if values else 0
    depth = layouts.padded_k(k, layout.kr)
    upper = layouts.upper(depth, layout.kr) if complement else [False] * depth
    lines = [[*line, *[0] * (depth - k)] for line in values] + [[0] * depth] * (sum(heights) - len(values))
    packed: list[Any] = []
    start = 0
    for height in heights:
        for first in range(0, depth, layout.kr):
            for line in lines[start : start + height]:
                packed.extend(
                    terms.total(1, ((-1, line[p]),), const=-1) if upper[p] else line[p]
                    for p in range(first, first + layout.kr)
                )
        start += height
    return packed
