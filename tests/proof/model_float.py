"""What instructions do to lanes of floats: each is an operation that is not looked into, in the order in which it is done."""

from __future__ import annotations

from proof import terms
from proof.machine import Compared
from proof.model_general import holds
from proof.operands import V, X


def two(name):
    """An operation on two lanes."""

    def apply(s, d, n, m):
        b = s.lanes(m) * (d.count if type(m) is V and m.lane is not None else 1)
        s.put(d, [terms.operation(name, d.size, x, y) for x, y in zip(s.lanes(n), b, strict=True)])

    return apply


def fmla(s, d, n, m):
    """A product added to what is there, rounded once."""
    b = s.lanes(m) * (d.count if m.lane is not None else 1)
    lanes = zip(s.lanes(d), s.lanes(n), b, strict=True)
    s.put(d, [terms.operation("fmla", d.size, held, x, y) for held, x, y in lanes])


def greatest(name):
    """A maximum or minimum, which does not depend on the order of what it is taken of."""

    def apply(s, d, n, m):
        s.put(d, [terms.extreme(name, d.size, (x, y)) for x, y in zip(s.lanes(n), s.lanes(m), strict=True)])

    return apply


def across(name):
    """The same of all lanes of a register."""

    def apply(s, d, n):
        s.put(d, [terms.extreme(name, d.size, s.lanes(n))])

    return apply


def fmaxnmv(s, d, n):
    """The greater of the greater of two lanes each; of sets it is none, since a signalling NaN counts only once."""
    a, b, c, e = s.lanes(n)
    halves = [terms.operation("fmaxnm", d.size, *pair) for pair in ((a, b), (c, e))]
    s.put(d, [terms.operation("fmaxnm", d.size, *halves)])


def fabs(s, d, n):
    s.put(d, [x & 0x7FFFFFFF if type(x) is int else terms.operation("fabs", d.size, x) for x in s.lanes(n)])


def fcmp(s, n, m):
    """Leave what is compared in the place of the flags: what a condition then says is for the claim to choose."""
    s.flags = Compared(terms.key_of(s.lanes(n)[0]), 0 if type(m) is float else terms.key_of(s.lanes(m)[0]))


def fcsel(s, d, n, m, condition):
    s.put(d, s.lanes(n if holds(s, condition.name) else m))


def one(name):
    """An operation on one lane, or on a number."""

    def apply(s, d, n):
        s.put(d, [terms.operation(name, d.size, x) for x in ([s.number(n)] if type(n) is X else s.lanes(n))])

    return apply


def faddp(s, d, n, m=None):
    """Neighbours added: of two registers, or the two lanes of half a register."""
    lanes = s.lanes(n) if m is None else [*s.lanes(n), *s.lanes(m)]
    s.put(d, [terms.operation("fadd", d.size, lanes[i], lanes[i + 1]) for i in range(0, len(lanes), 2)])


FLOAT = {
    **{name: two(name) for name in "fadd fsub fmul fdiv fmaxnm fcmgt fcmeq".split()},
    **{name: greatest(name) for name in "fmax fmin".split()},
    **{f"{name}v": across(name) for name in "fmax fmin".split()},
    "fmaxnmv": fmaxnmv,
    **{name: one(name) for name in "fneg fsqrt fcvtns scvtf ucvtf".split()},
    "fmla": fmla,
    "faddp": faddp,
    "fabs": fabs,
    "fcmp": fcmp,
    "fcsel": fcsel,
}
