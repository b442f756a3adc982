"""What instructions do to general registers, flags and the program counter: one function a mnemonic."""

from __future__ import annotations

import itertools
import re

from proof import terms
from proof.machine import MASK, RETURN, Compared, Measured, value
from proof.numbers import Number, UndecidedError, is_zero, least
from proof.numbers import sign as sign_of
from proof.operands import ZERO, X
from proof.terms import ProofError


def sign(number, width):
    """A number of so many bytes as a signed one."""
    if type(number) is Number:
        return number
    return number - (1 << 8 * width) if number >> (8 * width - 1) else number


def holds(s, condition):
    """Whether a condition holds."""
    if s.flags is None:
        raise ProofError("a condition is read that depends on data, or that nothing has set")
    if isinstance(s.flags, Compared):
        if not s.choices:
            raise ProofError("a condition depends on data")
        s.decided.append((condition, *s.flags))
        return s.choices.pop(0)
    if isinstance(s.flags, Measured):
        return measured(s.flags, condition)
    n, z, c, v = s.flags
    return {
        "eq": z, "ne": not z, "hs": c, "lo": not c, "mi": n, "pl": not n, "vs": v, "vc": not v,
        "hi": c and not z, "ls": not c or z, "ge": n == v, "lt": n != v, "gt": not z and n == v, "le": z or n != v,
    }[condition]  # fmt: skip


def measured(flags, condition):
    """Whether a condition holds of numbers that depend on the shape."""
    a, b, added = flags
    difference = a - b
    if added and condition not in ("eq", "ne", "mi", "pl"):
        raise ProofError("the carry of a sum of sizes is asked for")
    if condition in ("hs", "lo", "hi", "ls") and (least(a) is None or least(a) < 0 or least(b) is None or least(b) < 0):
        raise UndecidedError(f"{a} or {b}, which are compared, may be below zero")
    if condition in ("eq", "ne"):
        return is_zero(difference) == (condition == "eq")
    if condition in ("vs", "vc"):
        raise ProofError("an overflow of sizes is asked for")
    which = {
        "hs": ">=",
        "ge": ">=",
        "pl": ">=",
        "hi": ">",
        "gt": ">",
        "lo": "<",
        "lt": "<",
        "mi": "<",
        "ls": "<=",
        "le": "<=",
    }[condition]
    # Of integers, so that one end of each is enough to know.
    moved = difference if which in (">=", "<") else difference - 1
    return (sign_of(2 * moved + 1) > 0) == (which in (">=", ">"))


def sum_of(s, width, a, b, carry=0):
    """The sum of two numbers, which sets the flags."""
    if type(a) is Number or type(b) is Number:
        # A difference comes as a number, the inverse of the other one, and one.
        a, b = sign(a, width), sign(b, width)
        s.flags = Measured(a, ~b) if carry else Measured(a, -b, added=True)
        return a + b + carry
    bits = 8 * width
    whole = (1 << bits) - 1
    result = (a + b + carry) & whole
    s.flags = (
        bool(result >> (bits - 1)),
        result == 0,
        a + b + carry > whole,
        sign(a, width) + sign(b, width) + carry != sign(result, width),
    )
    return result


def inverse(number, width):
    """All bits turned over."""
    if type(number) is Number:
        return ~number
    return ~number & ((1 << 8 * width) - 1)


def bti(s, kind):
    """A landing pad does nothing."""


def nop(s):
    """Neither does this."""


def b(s, target):
    s.pc = target


def b_if(condition):
    """A branch on flags."""

    def branch(s, target):
        if holds(s, condition):
            s.pc = target

    return branch


def cbz(s, x, target):
    if is_zero(s.number(x)):
        s.pc = target


def cbnz(s, x, target):
    if not is_zero(s.number(x)):
        s.pc = target


def tbz(s, x, bit, target):
    if not s.number(x) >> bit & 1:
        s.pc = target


def tbnz(s, x, bit, target):
    if s.number(x) >> bit & 1:
        s.pc = target


def ret(s):
    if s.x[30] != RETURN:
        raise ProofError("the entry returns to somewhere else")
    s.pc = RETURN


#: Each call leaves other values than the last.
_CALLS = itertools.count()


def blr(s, x):
    """A call: what it may change is anything but what the calling convention keeps; the rest is for the claim to say."""
    if s.called is None:
        raise ProofError("something is called")
    if s.sp % 16:
        raise ProofError("the stack pointer is not a multiple of 16 where something is called")
    target, back = s.get(x), s.pc
    kept = [s.slots(number)[:8] for number in range(8, 16)]
    s.called(s, target)
    call = next(_CALLS)
    for number in (*range(1, 18), 30):
        s.x[number] = terms.signed_input("left by a call", 8, call, number).bytes
    for number in range(32):
        half = [terms.signed_input("left by a call", 8, call, number, part).bytes for part in range(2)]
        s.put_slots(number, [*(kept[number - 8] if 8 <= number < 16 else half[0]), *half[1]])
    s.flags = None
    s.pc = back


def add(s, d, n, m):
    s.set(d, s.number(n) + s.number(m))


def adds(s, d, n, m):
    s.set(d, sum_of(s, d.width, s.number(n), s.number(m) & (MASK if d.width == 8 else 0xFFFFFFFF)))


def sub(s, d, n, m):
    s.set(d, s.number(n) - s.number(m))


def subs(s, d, n, m):
    s.set(d, sum_of(s, d.width, s.number(n), inverse(s.number(m), d.width), 1))


def cmp(s, n, m):
    sum_of(s, n.width, s.number(n), inverse(s.number(m), n.width), 1)


def cmn(s, n, m):
    sum_of(s, n.width, s.number(n), s.number(m))


def ccmp(s, n, m, flags, condition):
    if holds(s, condition.name):
        cmp(s, n, m)
    else:
        s.flags = tuple(bool(flags >> bit & 1) for bit in (3, 2, 1, 0))


def neg(s, d, m):
    s.set(d, -s.number(m))


def and_(s, d, n, m):
    s.set(d, s.number(n) & s.number(m))


def ands(s, d, n, m):
    result = s.number(n) & s.number(m)
    if type(result) is Number:
        s.flags = Measured(result, 0, added=True)
        s.set(d, result)
        return
    s.flags = bool(result >> (8 * d.width - 1)), result == 0, False, False
    s.set(d, result)


def tst(s, n, m):
    ands(s, X(ZERO, n.width), n, m)


def bic(s, d, n, m):
    s.set(d, s.number(n) & ~s.number(m))


def orr(s, d, n, m):
    s.set(d, s.number(n) | s.number(m))


def eor(s, d, n, m):
    """Of data too, byte by byte: operands are flipped on their way through general registers."""
    a, b = s.get(n), m if type(m) is int else s.get(m)
    if type(a) is int and type(b) is int:
        s.set(d, a ^ b)
    else:
        from proof.model_integer import turned

        pairs = zip(_slots(a, d.width), _slots(b, d.width), strict=True)
        s.set(d, [turned(value((p,)), value((q,))) for p, q in pairs])


def _slots(held, width):
    return list(held.to_bytes(8, "little"))[:width] if type(held) is int else held


def shift_left(s, d, n, m):
    s.set(d, s.number(n) << s.number(m) % (8 * d.width))


def shift_right(s, d, n, m):
    """Of data too, by whole bytes."""
    held, by = s.get(n), s.number(m) % (8 * d.width)
    if type(held) is int or type(held) is Number:
        s.set(d, held >> by)
    elif by % 8:
        raise ProofError(f"data is shifted by {by} bits")
    else:
        s.set(d, held[by // 8 :])


def asr(s, d, n, m):
    s.set(d, sign(s.number(n), d.width) >> s.number(m) % (8 * d.width))


def ubfx(s, d, n, at, count):
    s.set(d, s.number(n) >> at & ((1 << count) - 1))


def bfi(s, d, n, at, count):
    mask = ((1 << count) - 1) << at
    s.set(d, s.number(d) & ~mask | s.number(n) << at & mask)


def rbit(s, d, n):
    s.set(d, int(f"{s.number(n):0{8 * d.width}b}"[::-1], 2))


def clz(s, d, n):
    s.set(d, 8 * d.width - s.number(n).bit_length())


def madd(s, d, n, m, a):
    s.set(d, s.number(a) + s.number(n) * s.number(m))


def msub(s, d, n, m, a):
    s.set(d, s.number(a) - s.number(n) * s.number(m))


def mul(s, d, n, m):
    s.set(d, s.number(n) * s.number(m))


def sxtb(s, d, n):
    """Of data too."""
    held = s.get(n)
    if type(held) is int:
        s.set(d, sign(held & 255, 1))
    else:
        s.set(d, terms.resized(terms.signed(value(held[:1]), 1), d.width).bytes)


def adr(s, d, address):
    s.set(d, address)


def mov(s, d, n):
    s.set(d, n if type(n) is int else s.get(n))


def csel(s, d, n, m, condition):
    s.set(d, s.get(n) if holds(s, condition.name) else s.get(m))


def csinc(s, d, n, m, condition):
    s.set(d, s.number(n) if holds(s, condition.name) else s.number(m) + 1)


def cinc(s, d, n, condition):
    s.set(d, s.number(n) + holds(s, condition.name))


def cset(s, d, condition):
    s.set(d, int(holds(s, condition.name)))


GENERAL = {
    "bti": bti, "blr": blr, "nop": nop, "b": b, "cbz": cbz, "cbnz": cbnz, "tbz": tbz, "tbnz": tbnz, "ret": ret, "add": add, "adds": adds, "sub": sub,
    "subs": subs, "cmp": cmp, "cmn": cmn, "ccmp": ccmp, "neg": neg, "and": and_, "ands": ands, "tst": tst, "bic": bic, "orr": orr,
    "eor": eor, "lsl": shift_left, "lsr": shift_right, "asr": asr, "ubfx": ubfx, "bfi": bfi, "rbit": rbit, "clz": clz, "madd": madd,
    "msub": msub, "mul": mul, "sxtb": sxtb, "adrp": adr, "adr": adr, "mov": mov, "movz": mov, "csel": csel, "csinc": csinc,
    "cinc": cinc, "cset": cset,
    **{f"b.{c}": b_if(c) for c in re.findall(r"\w+", "eq ne hs lo mi pl vs vc hi ls ge lt gt le")},
}  # fmt: skip
