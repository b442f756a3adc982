"""What instructions do to lanes of integers."""

from __future__ import annotations

from proof import terms
from proof.machine import value
from proof.operands import V, X
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


def lanewise(size, function):
    """An operation on lane after lane of two registers."""
    del size

    def apply(s, d, n, m):
        s.put(d, [function(d.size, a, b) for a, b in zip(s.lanes(n), s.lanes(m), strict=True)])

    return apply


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
    return [signed(lane, register.size) for lane in s.lanes(register)]


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
        lanes = _integers(s, n._replace(count=16 // n.size))[d.count if upper else 0 :][: d.count]
        s.put(d, [total(d.size, ((1 << by, resized(lane, d.size)),)) for lane in lanes])

    return extend


def bits(name):
    """And, or and exclusive or; the last of them byte by byte where operands are flipped."""

    def apply(s, d, n, m):
        if name == "eor" and d.number == n.number == m.number:
            s.put(d, [0] * d.count)
        elif name == "eor":
            a, b = s.lanes(n), s.lanes(m)
            s.put(d, [turned(p, q) for p, q in zip(a, b, strict=True)])
        else:
            raise ProofError(f"{name} is not modelled")

    return apply


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
    "saddlp": pairs(False), "sshll": longer(False), "sshll2": longer(True), "sxtl": longer(False), "sxtl2": longer(True),
    "ushl": ushl,
}  # fmt: skip
#: Spellings that general registers have as well.
BOTH = {"add": add, "sub": sub, "eor": bits("eor"), "and": bits("and"), "orr": bits("orr"), "bic": bits("bic")}
__all__ = ["BOTH", "INTEGER", "V", "X"]
