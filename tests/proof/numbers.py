"""Sizes, counters and addresses that are not one number but one for each shape: polynomials in parameters between bounds.

``Number`` stands where the model has an ``int``, and becomes one again as soon as no parameter is left in it. What a condition says of
it is what it says for all parameters within their bounds; where that depends on them, `UndecidedError` is raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from proof.terms import ProofError

#: What registers that hold a number may lie between: nothing wraps.
LIMIT = 1 << 63


class UndecidedError(ProofError):
    """What holds for some values of parameters and not for others."""


#: The least and the greatest value of each parameter, in the order they were made in; the latter may depend on earlier ones.
#: A parameter that may be anything, as the distance of two rows, has None.
BOUNDS: dict[str, tuple[int, Any] | None] = {}


def forget() -> None:
    """Begin anew."""
    BOUNDS.clear()


def parameter(name: str, least: int | None = None, most: Any = None) -> Number:
    """A new parameter; without bounds it may be anything, and nothing is decided by it."""
    name = name if name not in BOUNDS else f"{name}{len(BOUNDS)}"
    BOUNDS[name] = None if least is None else (least, most)
    return Number(0, {(name,): 1})


@contextmanager
def at_least(bounds: dict[str, int]) -> Iterator[None]:
    """Take parameters to be no less than some numbers."""
    before = dict(BOUNDS)
    for name, least in bounds.items():
        known = BOUNDS[name]
        if known is not None:
            BOUNDS[name] = max(least, known[0]), known[1]
    try:
        yield
    finally:
        BOUNDS.update(before)


class Number:
    """A constant, and factors by monomials of parameters: tuples of their names in order."""

    __slots__ = ("_hash", "const", "terms")

    def __init__(self, const: int, terms: dict[tuple[str, ...], int]) -> None:
        self.const = const
        self.terms = terms
        self._hash: int | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and self.const == other.const and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.const, frozenset(self.terms.items())))
        return self._hash

    def __repr__(self) -> str:
        words = [f"{'' if factor == 1 else f'{factor} '}{' '.join(names)}" for names, factor in self.terms.items()]
        return " + ".join([*words, *([str(self.const)] if self.const else [])]).replace("+ -", "- ")

    @property
    def bytes(self) -> list[Any]:
        """Its bytes as they lie in memory."""
        return [(self, i) for i in range(8)]

    def __add__(self, other: Any) -> Any:
        if isinstance(other, int):
            return Number(centred(self.const + centred(other)), self.terms)
        terms = dict(self.terms)
        for names, factor in other.terms.items():
            terms[names] = terms.get(names, 0) + factor
        return made(self.const + other.const, terms)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __neg__(self) -> Any:
        return Number(-self.const, {names: -factor for names, factor in self.terms.items()})

    def __invert__(self) -> Any:
        return -self - 1

    def __rsub__(self, other: int) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, int):
            other = centred(other)
            return made(self.const * other, {names: factor * other for names, factor in self.terms.items()})
        terms: dict[tuple[str, ...], int] = {}
        for names, factor in [((), self.const), *self.terms.items()]:
            for others, times in [((), other.const), *other.terms.items()]:
                key = tuple(sorted((*names, *others)))
                terms[key] = terms.get(key, 0) + factor * times
        return made(terms.pop((), 0), terms)

    __radd__ = __add__
    __rmul__ = __mul__

    def __lshift__(self, by: int) -> Any:
        return self * (1 << by)

    def __floordiv__(self, by: int) -> Any:
        if any(factor % by for factor in self.terms.values()):
            raise UndecidedError(f"({self}) / {by} depends on more than its parameters' multiples")
        return made(self.const // by, {names: factor // by for names, factor in self.terms.items()})

    def __rshift__(self, by: int) -> Any:
        return self // (1 << by)

    def __mod__(self, by: int) -> Any:
        return self - self // by * by

    def __and__(self, mask: int) -> Any:
        mask = centred(mask)
        if mask == -1:
            return self
        if mask < 0:
            # All ones but for the lowest bits.
            return self - (self & ~mask)
        if mask & (mask + 1):
            raise UndecidedError(f"bits {mask:#x} of {self}")
        return self if within(self, 0, mask) else self % (mask + 1)

    __rand__ = __and__

    def split(self, name: str) -> tuple[Any, Any]:
        """What a parameter is multiplied by, and what is left where it is 0."""
        inside: dict[tuple[str, ...], int] = {}
        outside: dict[tuple[str, ...], int] = {}
        for names, factor in self.terms.items():
            if name in names:
                at = names.index(name)
                inside[names[:at] + names[at + 1 :]] = factor
            else:
                outside[names] = factor
        return made(inside.pop((), 0), inside), made(self.const, outside)

    @property
    def names(self) -> set[str]:
        """The parameters in it."""
        return {name for names in self.terms for name in names}


def made(const: int, terms: dict[tuple[str, ...], int]) -> Any:
    """A number of these terms: an ``int`` where there are none."""
    terms = {names: factor for names, factor in terms.items() if factor}
    return Number(centred(const), terms) if terms else const


def centred(number: int) -> int:
    """A number modulo 2^64 as a signed one."""
    return number if -LIMIT <= number < LIMIT else (number + LIMIT) % (2 * LIMIT) - LIMIT


def split(number: Any, name: str) -> tuple[Any, Any]:
    """`Number.split` of a plain number too."""
    return number.split(name) if isinstance(number, Number) else (0, number)


def replaced(number: Any, name: str, by: Any) -> Any:
    """A number with another one in the place of a parameter."""
    factor, rest = split(number, name)
    return rest if isinstance(factor, int) and not factor else factor * by + rest


def least(number: Any) -> int | None:
    """The least value that it has, or a lower bound of it, if one can be found."""
    if isinstance(number, int):
        return centred(number)
    names = number.names
    name = next(iter(names)) if len(names) == 1 else next(name for name in reversed(BOUNDS) if name in names)
    factor, rest = number.split(name)
    bounds = BOUNDS[name]
    if bounds is None or name in (factor.names if isinstance(factor, Number) else ()):
        return None
    if _not_negative(factor):
        return least(bounds[0] * factor + rest)
    if _not_negative(-factor):
        return least(bounds[1] * factor + rest)
    return None


def most(number: Any) -> int | None:
    """The greatest value that it has."""
    found = least(-centred(number) if isinstance(number, int) else -number)
    return None if found is None else -found


def _not_negative(number: Any) -> bool:
    found = least(number)
    return found is not None and found >= 0


def within(number: Any, low: Any, high: Any) -> bool:
    """Whether it lies between two others, themselves included, whatever the parameters are."""
    return _not_negative(number - low) and _not_negative(high - number)


def sign(number: Any) -> int:
    """Whether it is below, equal to or above zero; `UndecidedError` where that depends on parameters."""
    lowest, highest = least(number), most(number)
    if lowest is None or highest is None or lowest < -LIMIT or highest >= LIMIT:
        raise UndecidedError(f"the sign of {number} is not known")
    if lowest > 0:
        return 1
    if highest < 0:
        return -1
    if lowest == highest == 0:
        return 0
    raise UndecidedError(f"whether {number} is above or below 0 depends on its parameters")


def is_zero(number: Any) -> bool:
    """Whether it is zero."""
    return number == 0 if isinstance(number, int) else sign(number) == 0
