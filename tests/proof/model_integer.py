"""What instructions do to lanes of integers."""

from __future__ import annotations

import operator

from proof import terms
from proof.machine import value
from proof.operands import V
from proof.terms import Poly, ProofError, resized, signed, total


def turned(a, b):
    """The exclusive or of two bytes: of the top bit, of all bits and of all but the top one it is a sum or a difference."""
    if type(a) is int and type(b) is int:
        return a ^ b
    if type(a) is Poly and type(b) is Poly:
        return 0 if terms.equal(a, b, 1) else bitwise("eor", a, b, 1)
    poly, mask = (a, b) if type(b) is int else (b, a)
    if mask == 0:
        return poly
    if mask == 0x80:
        return total(1, [(1, poly)], const=128)
    if mask == 0xFF:
        return total(1, [(-1, poly)], const=-1)
    if mask == 0x7F:
        return total(1, [(-1, poly)], const=-1 - 128)
    return bitwise("eor", a, b, 1)


def bitwise(name, a, b, width):
    """An operation on the bits of two lanes as a term of its own."""
    return terms.operation(name, width, a, b)


def add(s, d, n, m):
    s.put(d, [total(d.size, ((1, a), (1, b))) for a, b in zip(s.lanes(n), s.lanes(m), strict=True)])


def sub(s, d, n, m):
    s.put(d, [total(d.size, ((1, a), (-1, b))) for a, b in zip(s.lanes(n), s.lanes(m), strict=True)])


def addp(s, d, n, m):
    lanes = [*s.lanes(n), *s.lanes(m)]
    s.put(d, [total(d.size, ((1, lanes[i]), (1, lanes[i + 1]))) for i in range(0, len(lanes), 2)])


def addv(s, d, n):
    s.put(d, [total(d.size, [(1, lane) for lane in s.lanes(n)])])


def movi(s, d, number):
    lane = number & ((1 << 8 * d.size) - 1)
    s.put(d, [lane] * d.count)


def mvni(s, d, number):
    movi(s, d, ~number)


# Products.


def _integers(s, register):
    """Lanes as signed integers; sums in lanes of 8 and 16 bits have to stay in range, wider ones may be what no one stores."""
    read = signed if register.size < 4 else as_signed
    return [read(lane, register.size) for lane in s.lanes(register)]


def sdot(s, d, n, m):
    """Four products of int8 a lane; all lanes take the same four bytes where the operand names them."""
    a = _integers(s, n)
    if m.lane is None:
        b = _integers(s, m)
    else:
        four = s.slots(m.number)[4 * m.lane : 4 * m.lane + 4]
        b = [signed(value((slot,)), 1) for slot in four] * 4
    s.put(
        d,
        [
            total(4, ((1, acc),), [(1, a[i], b[i]) for i in range(4 * lane, 4 * lane + 4)])
            for lane, acc in enumerate(s.lanes(d))
        ],
    )


def smmla(s, d, n, m):
    """Two rows of eight int8 by two: a lane a pair of them."""
    a, b = _integers(s, n), _integers(s, m)
    s.put(
        d,
        [
            total(4, ((1, acc),), [(1, a[8 * (lane // 2) + i], b[8 * (lane % 2) + i]) for i in range(8)])
            for lane, acc in enumerate(s.lanes(d))
        ],
    )


def widening(factor, upper, accumulates):
    """A product of lanes in lanes of twice the size, added to what they hold, or taken off."""

    def multiply(s, d, n, m):
        count = d.count
        full = n._replace(count=16 // n.size)
        a = _integers(s, full)[count:] if upper else _integers(s, n)[:count]
        if m.lane is not None:
            b = _integers(s, m) * count
        elif upper:
            b = _integers(s, m._replace(count=16 // m.size))[count:]
        else:
            b = _integers(s, m)[:count]
        held = s.lanes(d) if accumulates else [0] * count
        s.put(d, [total(d.size, ((1, held[i]),), ((factor, a[i], b[i]),)) for i in range(count)])

    return multiply


def mla(s, d, n, m):
    """Of whole lanes, so modulo their width: what they are multiplied as need not be in range."""
    held, a, b = s.lanes(d), s.lanes(n), s.lanes(m)
    s.put(d, [total(d.size, ((1, held[i]),), ((1, a[i], b[i]),)) for i in range(d.count)])


def pairs(accumulates):
    """Neighbouring lanes, each as a signed integer, added in lanes of twice the size."""

    def add_pairs(s, d, n):
        lanes = _integers(s, n)
        held = s.lanes(d) if accumulates else [0] * d.count
        s.put(
            d,
            [total(d.size, ((1, held[i]), (1, lanes[2 * i]), (1, lanes[2 * i + 1]))) for i in range(d.count)],
        )

    return add_pairs


def longer(upper):
    """Lanes as signed integers in lanes of twice the size, shifted to the left."""

    def extend(s, d, n, by=0):
        lanes = s.lanes(n._replace(count=16 // n.size))[d.count if upper else 0 :][: d.count]
        s.put(d, [total(d.size, ((1 << by, resized(as_signed(lane, n.size), d.size)),)) for lane in lanes])

    return extend


def wider(upper):
    """Lanes as signed integers, added to lanes of twice the size."""

    def add_wide(s, d, n, m):
        lanes = _integers(s, m._replace(count=16 // m.size))[d.count if upper else 0 :][: d.count]
        s.put(d, [total(d.size, ((1, x), (1, y))) for x, y in zip(s.lanes(n), lanes, strict=True)])

    return add_wide


def bits(name, of):
    """And, or and exclusive or, on lanes as wide as the first register was written in; the last one byte by byte too."""

    def apply(s, d, n, m=None):
        if m is None:
            # With a number, in place.
            s.put(d, [both(name, of, d.size, x, n) for x in s.lanes(d)])
            return
        if name == "eor" and n.number == m.number:
            s.put(d, [0] * d.count)
            return
        size = min(s.v[n.number][0], s.v[m.number][0], d.size * d.count)
        as_lanes = [V(register.number, size, d.size * d.count // size) for register in (d, n, m)]
        s.put(
            as_lanes[0],
            [both(name, of, size, x, y) for x, y in zip(s.lanes(as_lanes[1]), s.lanes(as_lanes[2]), strict=True)],
        )

    return apply


def both(name, of, size, a, b):
    """One lane of such an operation."""
    if type(a) is int and type(b) is int:
        return of(a, b) % (1 << 8 * size)
    if name == "eor" and size == 1:
        return turned(a, b)
    return bitwise(name, a, b, size)


def saturated(upper, low, high):
    """Lanes narrowed to half their size, those beyond its bounds to the bounds."""

    def narrow(s, d, n):
        lanes = [terms.clamped(d.size, low(8 * d.size), high(8 * d.size), as_signed(x, n.size)) for x in s.lanes(n)]
        if upper:
            half = V(d.number, d.size, 8 // d.size)
            lanes = [*s.lanes(half), *lanes]
        s.put(d, lanes)

    return narrow


def as_signed(lane, width):
    """A lane as a signed integer; a term of its own where it may leave the range, as in lanes that nobody stores."""
    try:
        return signed(lane, width)
    except terms.RangeError:
        return terms.operation("signed", width, lane)


def sqadd(s, d, n, m):
    """A sum that stays at the bounds of its width."""
    half = 1 << (8 * d.size - 1)
    sums = [total(8, ((1, x), (1, y))) for x, y in zip(_integers(s, n), _integers(s, m), strict=True)]
    s.put(d, [terms.clamped(d.size, -half, half - 1, signed(lane, 8)) for lane in sums])


def shl(s, d, n, by):
    s.put(d, [total(d.size, ((1 << by, lane),)) for lane in s.lanes(n)])


def shifted(name):
    """By so many bits as the lower byte of another lane says, to the right where it is negative: as a term of its own."""

    def apply(s, d, n, m):
        by = [lane & 255 if type(lane) is int else lane for lane in s.lanes(m)]
        s.put(d, [terms.operation(name, d.size, x, b) for x, b in zip(s.lanes(n), by, strict=True)])

    return apply


def ssra(s, d, n, by):
    """Added to what is there."""
    parts = [terms.operation("sshr", d.size, lane, by) for lane in s.lanes(n)]
    s.put(d, [total(d.size, ((1, held), (1, part))) for held, part in zip(s.lanes(d), parts, strict=True)])


def cmge(s, d, n, number):
    """All ones where a lane is not less than a number."""
    s.put(d, [terms.operation("cmge", d.size, lane, number) for lane in s.lanes(n)])


def extreme(name):
    """A maximum or minimum of integers, which does not depend on the order of what it is taken of."""

    def apply(s, d, n, m):
        s.put(d, [terms.extreme(name, d.size, pair) for pair in zip(s.lanes(n), s.lanes(m), strict=True)])

    return apply


def looked_up(keeps):
    """TBL and TBX: bytes of a table of registers by numbers, which have to be known; beyond it zeros, or what was there."""

    def look(s, d, table, m):
        held = [slot for register in table for slot in s.slots(register.number)]
        before = s.slots(d.number) if keeps else [0] * 16
        found = []
        for i, index in enumerate(s.lanes(m)):
            if type(index) is not int:
                raise ProofError("a table is read at a place that depends on data")
            found.append(held[index] if index < len(held) else before[i])
        s.put_slots(d.number, found)

    return look


def ushl(s, d, n, m):
    """By whole bytes of a known number: how packers bring the end of a row to its place."""
    (by,) = s.lanes(m)
    if type(by) is not int:
        raise ProofError("a lane is shifted by data")
    by = (by & 255) - 256 if by & 128 else by & 255
    if by % 8:
        raise ProofError(f"data is shifted by {by} bits")
    held = s.slots(n.number)[: d.size]
    zeros = [0] * min(abs(by) // 8, d.size)
    s.put_slots(d.number, [*zeros, *held][: d.size] if by >= 0 else [*held[-by // 8 :], *zeros])


INTEGER = {
    "addp": addp, "addv": addv, "movi": movi, "mvni": mvni, "sdot": sdot, "smmla": smmla, "smull": widening(1, False, False),
    "smull2": widening(1, True, False), "smlal": widening(1, False, True), "smlal2": widening(1, True, True),
    "smlsl": widening(-1, False, True), "smlsl2": widening(-1, True, True), "mla": mla, "sadalp": pairs(True),
    "saddlp": pairs(False), "saddw": wider(False), "saddw2": wider(True), "sshll": longer(False), "sshll2": longer(True), "sxtl": longer(False), "sxtl2": longer(True),
    "ushl": ushl, "shl": shl, "sshl": shifted("sshl"), "srshl": shifted("srshl"), "ssra": ssra, "cmge": cmge, "sqadd": sqadd, "tbl": looked_up(False), "tbx": looked_up(True),
    **{f"sqxtn{upper}": saturated(upper, lambda bits: -(1 << bits - 1), lambda bits: (1 << bits - 1) - 1) for upper in ("", "2")},
    **{f"sqxtun{upper}": saturated(upper, lambda bits: 0, lambda bits: (1 << bits) - 1) for upper in ("", "2")},
    **{name: extreme(name) for name in ("smax", "smin", "umax")},
}  # fmt: skip
#: Spellings that general registers have as well.
BOTH = {
    "add": add,
    "sub": sub,
    "eor": bits("eor", operator.xor),
    "and": bits("and", operator.and_),
    "orr": bits("orr", operator.or_),
    "bic": bits("bic", lambda a, b: a & ~b),
}
