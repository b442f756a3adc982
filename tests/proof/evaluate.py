"""What terms are for given values: how the model is compared with a machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from proof.terms import ATOMS, LOW, PAIR, Poly

from pyint8dot.fma import add_product


def _float(bits: int) -> Any:
    return np.uint32(bits).view(np.float32)


def _bits(x: Any) -> int:
    return int(np.float32(x).view(np.uint32))


def _two(function):
    def apply(width, x, y):
        with np.errstate(all="ignore"):
            return _bits(function(_float(x), _float(y)))

    return apply


def _one(function):
    def apply(width, x):
        with np.errstate(all="ignore"):
            return _bits(function(_float(x)))

    return apply


def _mask(function):
    return lambda width, x, y: (1 << 8 * width) - 1 if function(_float(x), _float(y)) else 0


def _signed(number: int, width: int) -> int:
    return number - (1 << 8 * width) if number >> (8 * width - 1) & 1 else number


def _nearest(width: int, bits: int) -> int:
    x = _float(bits)
    if np.isnan(x):
        return 0
    half = 1 << (8 * width - 1)
    return int(min(max(np.rint(np.float64(x)), -half), half - 1)) % (1 << 8 * width)


def _fmla(width: int, held: int, x: int, y: int) -> int:
    with np.errstate(all="ignore"):
        total, a, b = (np.float64([_float(bits)]) for bits in (held, x, y))
        add_product(total, a, b, (np.empty(1), np.empty(1, np.int64)))
        return _bits(total[0])


def _fmaxnm(width: int, x: int, y: int) -> int:
    """A number wins over a quiet NaN, a signalling one over anything."""
    if any(bits & 0x7FC00000 == 0x7F800000 and bits & 0x3FFFFF for bits in (x, y)):
        return 0x7FC00000
    for one, other in ((x, y), (y, x)):
        if np.isnan(_float(one)):
            return other
    return _two(_ordered(max))(width, x, y)


def _ordered(function):
    def apply(x, y):
        if np.isnan(x) or np.isnan(y):
            return np.float32(np.nan)
        return function((x, y), key=lambda z: (z, not np.signbit(z)))

    return apply


def _shift(rounds: bool):
    def apply(width: int, x: int, by: int) -> int:
        number, by = _signed(x, width), _signed(by & 255, 1)
        moved = number << by if by >= 0 else number + (rounds << -by - 1) >> -by
        return moved % (1 << 8 * width)

    return apply


#: Operations that proofs do not look into, on the bits of their arguments.
OPERATIONS = {
    "fadd": _two(np.add), "fsub": _two(np.subtract), "fmul": _two(np.multiply), "fdiv": _two(np.divide), "fsqrt": _one(np.sqrt),
    "fabs": lambda width, x: x & 0x7FFFFFFF, "fneg": lambda width, x: x ^ 0x80000000, "fcvtns": _nearest,
    "scvtf": lambda width, x: _bits(np.float32(_signed(x, width))), "ucvtf": lambda width, x: _bits(np.float32(np.uint64(x))),
    "fmla": _fmla, "fmaxnm": _fmaxnm, "fcmgt": _mask(np.greater), "fcmeq": _mask(np.equal), "and": lambda width, x, y: x & y, "orr": lambda width, x, y: x | y,
    "sshl": _shift(False), "srshl": _shift(True), "sshr": lambda width, x, by: (_signed(x, width) >> by) % (1 << 8 * width),
    "cmge": lambda width, x, y: (1 << 8 * width) - 1 if _signed(x, width) >= y else 0, "signed": lambda width, x: x, "eor": lambda width, x, y: x ^ y, "bic": lambda width, x, y: x & ~y & ((1 << 8 * width) - 1),
}  # fmt: skip
#: Those of sets.
EXTREMES = {"fmax": _two(_ordered(max)), "fmin": _two(_ordered(min))}


class Values:
    """Values of atoms by number, from those of the inputs."""

    def __init__(self, inputs: dict[tuple[str, tuple[int, ...]], int]) -> None:
        self.inputs = inputs
        self.known: dict[int, int] = {}

    def lane(self, lane: Any, width: int) -> int:
        """The number that a lane is, from 0 on."""
        if isinstance(lane, int):
            return lane % (1 << 8 * width)
        return self._sum(lane.expand().items(), lane) % (1 << 8 * width)

    def slot(self, slot: Any) -> int:
        """The number that a byte of a register is."""
        if isinstance(slot, tuple):
            return self.lane(slot[0], slot[0].width) >> 8 * slot[1] & 255
        return self.lane(slot, 1)

    def _sum(self, monomials: Any, poly: Poly) -> int:
        total = sum(
            factor * self.atom(key & LOW) * (self.atom(key >> PAIR) if key > LOW else 1) for key, factor in monomials
        )
        return total + poly.const

    def key(self, key: Any) -> int:
        """The number that an argument of an operation is."""
        if isinstance(key, int):
            return key
        if isinstance(key, Poly) or key[0] not in ("atom", "poly"):
            return self.slot((key[0], key[1])) if isinstance(key[0], Poly) else self.key(key[0]) >> 8 * key[1] & 255
        if key[0] == "atom":
            return self.atom(key[1]) % (1 << 8 * key[2])
        _, width, const, reduced = key
        return self._sum(reduced, Poly(width, const, {})) % (1 << 8 * width)

    def atom(self, number: int) -> int:
        """The integer that an atom stands for."""
        if number not in self.known:
            entry = ATOMS[number]
            made = self._made(entry)
            # Operations make bits; the integer is the one of them within its bounds.
            self.known[number] = made - (1 << 8 * entry.width) if made > entry.hi else made
        return self.known[number]

    def _made(self, entry: Any) -> int:
        if (entry.name, entry.args) in self.inputs:
            return self.inputs[entry.name, entry.args]
        if entry.name == "byte":
            return self.key(entry.args[0]) >> 8 * entry.args[1] & 255
        if entry.name == "bytes":
            return int.from_bytes(bytes(self.key(arg) & 255 for arg in entry.args), "little")
        if entry.name == "clamp":
            low, high, base = entry.args
            return min(max(_signed(self.key(base), 8), low), high)
        if entry.name in OPERATIONS:
            return OPERATIONS[entry.name](entry.width, *map(self.key, entry.args))
        first, *rest = (self.key(arg) for arg in entry.args[0])
        for other in rest:
            first = self._extreme(entry, first, other)
        return first

    def _extreme(self, entry: Any, x: int, y: int) -> int:
        if entry.name in EXTREMES:
            return EXTREMES[entry.name](entry.width, x, y)
        pick = min if entry.name == "smin" else max
        read = (lambda z: z) if entry.name == "umax" else (lambda z: _signed(z, entry.width))
        return pick(x, y, key=read)
