"""The claim about `attention`: each value is the expression that `pyint8dot.attention` has for it, chains of fused multiply-adds in their order.

One thing is taken as given, since it follows from float values: where a query has four elements or more, its chain begins with a product
instead of a product added to 0. The two differ in the sign of zero alone, which no power sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from proof import terms
from proof.claim import Call
from proof.expressions import add, bits, check_bytes_of, div, mul, sub, values
from proof.image import Entry
from proof.machine import State
from proof.rowwise import INFINITY, power

#: What a mask is: none, a number for each query and key of a head, a number for each key alone.
NONE, OWN, SHARED = range(3)


class Shape(NamedTuple):
    """Heads, queries of each, keys, elements of a key, columns of a value, and what the mask is."""

    heads: int
    m: int
    n: int
    d: int
    width: int
    mask: int


#: What the other sizes are while one of them goes through two turns of its loop and one more, and how far each goes.
USUAL = Shape(2, 3, 5, 5, 9, OWN)
SIZES = {"heads": range(3), "m": range(18), "n": range(1, 18), "d": range(14), "width": range(18)}


def shapes(name: str, *, full: bool) -> Iterator[Shape]:
    """Every size with every mask, or those at the ends of turns with one mask each."""
    for size, every in SIZES.items():
        for count in every:
            for mask in (NONE, OWN, SHARED):
                if full or (count % 8 in (0, 1, 7) and mask == count % 3):
                    yield USUAL._replace(**{size: count, "mask": mask})
    # Whole tiles, also of keys that are shorter than a turn.
    for d in (0, 1, 3, 9):
        yield Shape(1, 9, 9, d, 17, OWN)


def fused(total: Any, x: Any, y: Any) -> Any:
    """``total + x * y``, rounded once."""
    return terms.operation("fmla", 4, total, x, y)


class Rows:
    """An operand: rows of each head apart, and heads apart."""

    def __init__(self, call: Call, name: str, heads: int, m: int, n: int) -> None:
        self.region = call.region(name)
        self.row = 4 * n + 8
        self.head = m * self.row + 24
        self.count = n
        self.places = [[head * self.head + i * self.row for i in range(m)] for head in range(heads)]

    def holds(self, block: Any) -> Rows:
        """Put an array there."""
        for lines, places in zip(block, self.places, strict=True):
            for line, at in zip(lines, places, strict=True):
                self.region.holds([slot for x in line for slot in x.bytes], at)
        return self

    def takes(self) -> Rows:
        """Let it be written."""
        for at in (at for places in self.places for at in places):
            self.region.takes(4 * self.count, at)
        return self


def prove(entry: Entry, shape: Shape) -> State:
    """Prove attention of some heads and return the state that the entry left."""
    heads, m, n, d, width, mask = shape
    call = Call(entry)
    q, k, v = values("q", heads, m, d), values("k", heads, n, d), values("v", heads, n, width)
    (scale,) = values("scale", 1)
    y = Rows(call, "y", heads, m, width).takes()
    operands = [
        Rows(call, "q", heads, m, d).holds(q),
        Rows(call, "k", heads, n, d).holds(k),
        Rows(call, "v", heads, n, width).holds(v),
        y,
    ]
    hidden = values("mask", heads, m, n) if mask == OWN else None
    if mask == OWN:
        operands.append(Rows(call, "mask", heads, m, n).holds(hidden))
    places = [(each.region.address, each.row, each.head) for each in operands]
    if mask == SHARED:
        line = values("mask", n)
        hidden = [[line] * m] * heads
        places.append((call.lanes("mask", line), 0, 0))
    elif mask == NONE:
        places.append((0, 0, 0))
    addresses, row_steps, head_steps = zip(*places, strict=True)
    scratch = call.region("scratch").takes(32 * (d + -(-n // 8) * 8))
    geometry = call.lanes("geometry", [heads, m, n, d, width, *row_steps, *head_steps], 8)
    call.run([*addresses, call.lanes("scale", [scale]), geometry, scratch.address])
    for head in range(heads):
        for i in range(m):
            scores = [score([mul(x, scale) for x in q[head][i]], key) for key in k[head]]
            if hidden is not None:
                scores = [add(*pair) for pair in zip(scores, hidden[head][i], strict=True)]
            check_bytes_of(call, y.region, y.places[head][i], weighed(scores, v[head], width))
    return call.state


def score(query: Any, key: Any) -> Any:
    """A query, scaled, times a key."""
    total: Any = 0
    for p, (x, y) in enumerate(zip(query, key, strict=True)):
        total = mul(x, y) if p == 0 and len(key) >= 4 else fused(total, x, y)
    return total


def weighed(scores: list[Any], v: Any, width: int) -> list[Any]:
    """Values by the powers of scores, over the sum of those."""
    greatest = terms.extreme("fmax", 4, [INFINITY | 1 << 31, *scores])
    powers = [power(sub(each, greatest)) for each in scores]
    total: Any = 0
    for each in powers:
        total = add(total, each)
    inverse = div(bits(1.0), total)
    found = []
    for j in range(width):
        chain: Any = 0
        for each, line in zip(powers, v, strict=True):
            # The factors in the order of the entry, which has columns that are left one by one the other way round.
            chain = fused(chain, line[j], each) if j < width // 8 * 8 else fused(chain, each, line[j])
        found.append(mul(chain, inverse))
    return found
