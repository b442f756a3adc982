"""Values that a proof computes with: integers as polynomials in the bytes of operands, everything else as terms of operations.

A lane is an ``int`` where it is known, else a `Poly`: a polynomial of degree two at most in *atoms*, taken modulo 2^(8 width). An atom
stands for an integer between two bounds: a value of an operand, or what an operation made that is not looked into, named by the
operation and its arguments. The same operation on the same arguments is the same atom, so that equal terms are equal polynomials.
"""

from __future__ import annotations

from typing import Any, NamedTuple

#: A monomial is the number of an atom, or the numbers of two: the greater one shifted, plus the other.
PAIR = 32
LOW = (1 << PAIR) - 1


class ProofError(Exception):
    """What keeps a claim from being proven, in words."""


class RangeError(ProofError):
    """A lane that is read as an integer may leave the range of its width."""


class Atom(NamedTuple):
    """An integer that is not looked into: its bounds, and the operation and arguments that made it."""

    name: str
    args: tuple[Any, ...]
    lo: int
    hi: int
    width: int


#: The bounds of two int8.
BYTES = (-128, 127, -128, 127)

#: Every atom by number; 0 is none.
ATOMS: list[Atom] = [Atom("none", (), 0, 0, 0)]
_PURE: list[Poly] = []
_KNOWN: dict[tuple[Any, ...], Poly] = {}


def forget() -> None:
    """Begin anew: atoms of finished proofs are of no use."""
    del ATOMS[1:]
    _PURE.clear()
    _KNOWN.clear()


class Poly:
    """A polynomial modulo 2^(8 width): constant, terms by monomial, or the sums and products they are yet to be made of."""

    __slots__ = ("_bytes", "_key", "atom", "const", "parts", "products", "terms", "width")

    def __init__(self, width, const, terms, parts=(), products=(), atom=0):
        self.width = width
        self.const = const
        self.terms = terms
        self.parts = parts
        self.products = products
        #: The number of the atom that this is and nothing else.
        self.atom = atom
        self._key = None
        self._bytes = None

    @property
    def bytes(self):
        """Its bytes as they lie in memory."""
        if self._bytes is None:
            self._bytes = [self] if self.width == 1 else [(self, i) for i in range(self.width)]
        return self._bytes

    def expand(self) -> dict[int, int]:
        """Its terms, made of sums and products where that was put off."""
        if self.terms is None:
            terms: dict[int, int] = {}
            const, todo = 0, [(1, self)]
            while todo:
                times, poly = todo.pop()
                const += times * poly.const
                if poly.terms is not None:
                    for key, value in poly.terms.items():
                        terms[key] = terms.get(key, 0) + times * value
                    continue
                todo.extend((times * factor, part) for factor, part in poly.parts)
                for sign, x, y in poly.products:
                    if type(x) is Poly and type(y) is Poly and x.atom and y.atom:
                        key = x.atom << PAIR | y.atom if x.atom > y.atom else y.atom << PAIR | x.atom
                        terms[key] = terms.get(key, 0) + times * sign
                    else:
                        const += _multiply(terms, times * sign, x, y)
            self.terms = {key: value for key, value in terms.items() if value}
            self.const, self.parts, self.products = const, (), ()
        return self.terms

    @property
    def key(self) -> tuple[Any, ...]:
        """What two polynomials have in common if and only if they are equal modulo their width."""
        if self._key is None:
            if self.atom:
                self._key = ("atom", self.atom, self.width)
            else:
                modulus = 1 << 8 * self.width
                terms = self.expand()
                reduced = frozenset((key, value % modulus) for key, value in terms.items() if value % modulus)
                self._key = ("poly", self.width, self.const % modulus, reduced)
                # An atom with a multiple of the modulus is that atom.
                if not self._key[2] and len(reduced) == 1:
                    ((number, value),) = reduced
                    if value == 1 and number <= LOW:
                        self._key = ("atom", number, self.width)
        return self._key

    def bounds(self) -> tuple[int, int]:
        """What it lies between as an integer, before the modulus."""
        terms = self.expand()
        lo = hi = self.const
        for key, value in terms.items():
            low, high = _range(key)
            lo += value * (low if value > 0 else high)
            hi += value * (high if value > 0 else low)
        return lo, hi

    def __repr__(self) -> str:
        return text(self)


def _multiply(terms, times, x, y):
    """Add the product of two small polynomials to terms, and return its constant."""
    x_terms, x_const = ({}, x) if isinstance(x, int) else (x.expand(), x.const)
    y_terms, y_const = ({}, y) if isinstance(y, int) else (y.expand(), y.const)
    for key, value in x_terms.items():
        if y_const:
            terms[key] = terms.get(key, 0) + times * value * y_const
        for other, factor in y_terms.items():
            if key > LOW or other > LOW:
                raise ProofError("a product of more than two values")
            pair = max(key, other) << PAIR | min(key, other)
            terms[pair] = terms.get(pair, 0) + times * value * factor
    if x_const:
        for other, factor in y_terms.items():
            terms[other] = terms.get(other, 0) + times * x_const * factor
    return times * x_const * y_const


def _range(key):
    """The bounds of a monomial."""
    low = ATOMS[key & LOW]
    if key <= LOW:
        return low.lo, low.hi
    high = ATOMS[key >> PAIR]
    if (low.lo, low.hi, high.lo, high.hi) == BYTES and low is not high:
        return -16256, 16384
    if key >> PAIR == key & LOW:
        squares = low.lo**2, low.hi**2
        return (0 if low.lo <= 0 <= low.hi else min(squares)), max(squares)
    corners = [p * q for p in (low.lo, low.hi) for q in (high.lo, high.hi)]
    return min(corners), max(corners)


def atom(name: str, args: tuple[Any, ...], lo: int, hi: int, width: int) -> Poly:
    """The polynomial of one atom, the same one whenever it is asked for."""
    known = _KNOWN.get((name, args, width))
    if known is None:
        ATOMS.append(Atom(name, args, lo, hi, width))
        number = len(ATOMS) - 1
        known = _KNOWN[name, args, width] = Poly(width, 0, {number: 1}, atom=number)
        _PURE.append(known)
    return known


def pure(number: int) -> Poly:
    """The polynomial of an atom by its number."""
    return _PURE[number - 1]


def signed_input(name: str, width: int, *place: int) -> Poly:
    """A value of an operand that is read as a signed integer, or as a float, which nobody adds up."""
    half = 1 << (8 * width - 1)
    return atom(name, place, -half, half - 1, width)


def unsigned_input(name: str, width: int, *place: int) -> Poly:
    """A value of an operand that is an unsigned integer."""
    return atom(name, place, 0, (1 << 8 * width) - 1, width)


def key_of(lane: Any) -> Any:
    """What names a lane among the arguments of an operation."""
    if isinstance(lane, Poly):
        return lane.key if lane.atom or lane.expand() else lane.const % (1 << 8 * lane.width)
    if isinstance(lane, tuple):
        return (key_of(lane[0]), *lane[1:])
    return lane


def total(width: int, parts: Any, products: Any = (), const: int = 0) -> Any:
    """The sum of ``factor * lane`` and ``sign * x * y`` modulo the width; x and y are integers, not residues."""
    polys = []
    for factor, lane in parts:
        if isinstance(lane, int):
            const += factor * lane
        else:
            polys.append((factor, lane))
    pairs = []
    for sign, x, y in products:
        if isinstance(x, int) and isinstance(y, int):
            const += sign * x * y
        elif x != 0 and y != 0:
            pairs.append((sign, x, y))
    if not polys and not pairs:
        return const % (1 << 8 * width)
    if len(polys) == 1 and not pairs and not const and polys[0][0] == 1 and polys[0][1].width == width:
        return polys[0][1]
    return Poly(width, const, None, polys, pairs)


def resized(poly: Any, width: int) -> Any:
    """A lane modulo fewer bytes, or an integer in more of them."""
    if isinstance(poly, int):
        return poly % (1 << 8 * width)
    if poly.width == width:
        return poly
    terms = poly.expand()
    return Poly(width, poly.const, terms)


def signed(lane: Any, width: int) -> Any:
    """A lane as the signed integer that it is; an error where a polynomial may leave the range of its width."""
    half = 1 << (8 * width - 1)
    if isinstance(lane, int):
        return lane - 2 * half if lane >= half else lane
    if lane.atom:
        entry = ATOMS[lane.atom]
        if -half <= entry.lo and entry.hi < half:
            return lane
    lo, hi = lane.bounds()
    shift = -((lo + half) // (2 * half)) * 2 * half
    if lo + shift < -half or hi + shift >= half:
        raise RangeError(
            f"a {8 * width}-bit lane may lie between {lo} and {hi}, beyond {-half} .. {half - 1}: {text(lane)}; {example(lane, hi >= half)}"
        )
    terms = lane.expand()
    if lane.const + shift == 0 and len(terms) == 1:
        ((key, factor),) = terms.items()
        if factor == 1 and key <= LOW:
            return pure(key)
    return lane if not shift else Poly(lane.width, lane.const + shift, terms)


def example(poly: Poly, greatest: bool) -> str:
    """Operands that bring a polynomial to one of its bounds, each of its monomials on its own."""
    chosen: dict[int, int] = {}
    for key, value in poly.expand().items():
        numbers = {key & LOW, key >> PAIR} - {0}
        corners = [dict(zip(sorted(numbers), bounds, strict=True)) for bounds in _corners(sorted(numbers))]
        best = (max if greatest == (value > 0) else min)(corners, key=lambda corner, key=key: _product(key, corner))
        chosen.update({number: bound for number, bound in best.items() if number not in chosen})
    value = poly.const + sum(factor * _product(key, chosen) for key, factor in poly.expand().items())
    where = ", ".join(f"{called(number)} = {bound}" for number, bound in sorted(chosen.items()))
    return f"it is {value} where {where}"


def _corners(numbers):
    if not numbers:
        return [()]
    entry = ATOMS[numbers[0]]
    return [(bound, *rest) for bound in (entry.lo, entry.hi) for rest in _corners(numbers[1:])]


def _product(key, values):
    return values[key & LOW] * (values[key >> PAIR] if key > LOW else 1)


def called(number: int) -> str:
    """An atom in words."""
    entry = ATOMS[number]
    if not entry.args:
        return entry.name
    return f"{entry.name}[{', '.join(_word(arg) for arg in entry.args)}]"


def _word(arg):
    if isinstance(arg, tuple) and arg and arg[0] == "atom":
        return called(arg[1])
    if isinstance(arg, tuple) and arg and arg[0] == "poly":
        return _sum(arg[2], dict(arg[3]))
    return f"({', '.join(map(_word, arg))})" if isinstance(arg, tuple) else str(arg)


def text(lane: Any) -> str:
    """A lane in words, shortened."""
    if not isinstance(lane, Poly):
        return str(lane)
    terms = lane.expand()
    return _sum(lane.const, terms)


def _sum(const, terms):
    words = []
    for key, value in sorted(terms.items()):
        factors = ([str(value)] if value != 1 else []) + [called(n) for n in (key >> PAIR, key & LOW) if n]
        words.append(" * ".join(factors))
    words += [str(const)] if const or not words else []
    shown = " + ".join(words[:12]) + (f" + {len(words) - 12} more" if len(words) > 12 else "")
    return shown if len(shown) <= 400 else shown[:400] + " ..."


def equal(lane: Any, other: Any, width: int) -> bool:
    """Whether two lanes are the same modulo a width."""
    if isinstance(lane, int) and isinstance(other, int):
        return (lane - other) % (1 << 8 * width) == 0
    if isinstance(lane, int) or isinstance(other, int):
        poly, number = (other, lane) if isinstance(lane, int) else (lane, other)
        return resized(poly, width).key == ("poly", width, number % (1 << 8 * width), frozenset())
    return lane is other or resized(lane, width).key == resized(other, width).key


def operation(name: str, width: int, *lanes: Any) -> Poly:
    """What an operation makes of lanes, which nothing is known of but that it depends on these."""
    half = 1 << (8 * width - 1)
    return atom(name, tuple(map(key_of, lanes)), -half, half - 1, width)


def moved(lane: Poly, by: int, factor: int = 1, *, width: int = 0) -> Poly:
    """``factor * lane + by`` of an atom, as an integer."""
    if not by and factor == 1 and width in (0, lane.width):
        return lane
    return Poly(width or lane.width, by, {lane.atom: factor})


def clamped(width: int, low: int, high: int, lane: Any) -> Any:
    """An integer, or the nearer of two bounds where it lies beyond them.

    What is added to a bounded integer is taken out of it, and bounds of bounds are bounds, so that every way to bound a value twice and
    to move it between has one form.
    """
    if isinstance(lane, int):
        return min(max(lane, low), high) % (1 << 8 * width)
    monomials = lane.expand()
    const = lane.const
    low, high = low - const, high - const
    least, most = Poly(8, 0, monomials).bounds()
    if len(monomials) == 1:
        ((key, factor),) = monomials.items()
        inner = ATOMS[key & LOW]
        if key <= LOW and factor == 1 and inner.name == "clamp":
            first, last, base = inner.args
            low, high = min(max(first, low), high), min(max(last, low), high)
            if low == high:
                return (low + const) % (1 << 8 * width)
            return moved(atom("clamp", (low, high, base), low, high, 8), const, width=width)
    if low <= least and most <= high:
        return resized(lane, width)
    base = key_of(Poly(8, 0, monomials))
    return moved(atom("clamp", (low, high, base), low, high, 8), const, width=width)


def extreme(name: str, width: int, lanes: Any) -> Any:
    """The greatest or least of lanes, as of a set: neither order nor repetition counts, nor what no value is beyond."""
    members: set[Any] = set()
    for lane in lanes:
        if isinstance(lane, Poly) and lane.atom and ATOMS[lane.atom].name == name:
            members |= ATOMS[lane.atom].args[0]
        else:
            members.add(key_of(lane))
    least = NEUTRAL.get((name, width))
    if members == {least}:
        return least
    members -= {least}
    if len(members) == 1:
        (only,) = members
        return only if isinstance(only, int) else next(lane for lane in lanes if key_of(lane) == only)
    half = 1 << (8 * width - 1)
    return atom(name, (frozenset(members),), -half, half - 1, width)


#: What a greatest value is none the greater for: the least int8, the least uint8, and minus infinity.
NEUTRAL = {("smax", 1): 0x80, ("umax", 1): 0, ("fmax", 4): 0xFF800000}
