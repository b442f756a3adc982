"""Words of the claims about floats: numpy's operations as terms, arrays of values, and rows to read and to write.

`add(mul(x, y), z)` is two roundings, and no other pair of operations is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from proof import numbers, terms
from proof.claim import Call, fail
from proof.machine import value
from proof.numbers import Number


class Shape(NamedTuple):
    """Rows, columns, and which of the entry's forms."""

    m: int
    n: int
    form: int = 0
    #: Sizes that any number more is added to: of "n" whole turns, of "m" rows.
    more: str = ""


def add(x: Any, y: Any) -> Any:
    """``np.add`` of two float32."""
    return terms.operation("fadd", 4, x, y)


def sub(x: Any, y: Any) -> Any:
    """``np.subtract``."""
    return terms.operation("fsub", 4, x, y)


def mul(x: Any, y: Any) -> Any:
    """``np.multiply``."""
    return terms.operation("fmul", 4, x, y)


def div(x: Any, y: Any) -> Any:
    """``np.divide``."""
    return terms.operation("fdiv", 4, x, y)


def from_int(x: Any) -> Any:
    """``np.float32`` of an int32, rounded to even."""
    return terms.operation("scvtf", 4, x)


def rounded(x: Any) -> Any:
    """``np.rint`` as an int32, at its bounds beyond them and 0 for NaN."""
    return terms.operation("fcvtns", 4, x)


def bits(x: float) -> int:
    """The bits of a float32."""
    return int(np.float32(x).view(np.uint32))


def horner(x: Any, coefficients: Any) -> Any:
    """A polynomial, coefficients lowest degree first, as ``floats.work.horner`` has it."""
    *lower, second, highest = map(bits, coefficients)
    value = add(mul(x, highest), second)
    for coefficient in reversed(lower):
        value = add(mul(value, x), coefficient)
    return value


def code(x: Any, zero_point: int, unsigned: int) -> Any:
    """An integer plus a zero point, at the bounds of int8 or of uint8 beyond them."""
    low, high = (0, 255) if unsigned else (-128, 127)
    return terms.clamped(1, low, high, terms.total(8, ((1, x),), const=zero_point))


#: A float32 between whose neighbours lies 1, so that what is added to it is rounded to an integer.
MAGIC = 1.5 * 2**23


def code_by_sum(x: Any, zero_point: int, unsigned: int) -> Any:
    """`code` of `rounded` as a sum has it; `tests/test_proof.py` shows that they are the same for every float32 but NaN."""
    return code(add(x, bits(MAGIC)), zero_point - bits(MAGIC), unsigned)


class Values:
    """An array of values of four bytes each, as many as there may be: each is made when it is asked for."""

    #: There is no end to go through.
    __iter__ = None

    def __init__(self, name: str, sizes: tuple[Any, ...], place: tuple[Any, ...] = ()) -> None:
        self.name, self.sizes, self.place = name, sizes, place

    def __getitem__(self, i: Any) -> Any:
        place = (*self.place, i)
        return Values(self.name, self.sizes[1:], place) if self.sizes[1:] else terms.signed_input(self.name, 4, *place)


def values(name: str, *sizes: Any) -> Any:
    """An array of values of four bytes each: nested lists, or what is as good where sizes are any."""
    if any(isinstance(size, Number) for size in sizes):
        return Values(name, sizes)

    def fill(left: tuple[int, ...], place: tuple[int, ...]) -> Any:
        if not left:
            return terms.signed_input(name, 4, *place)
        return [fill(left[1:], (*place, i)) for i in range(left[0])]

    return fill(sizes, ())


class Rows:
    """Rows of values of so many bytes, some bytes apart: to be read where it is said what they are, else to be written."""

    def __init__(
        self, call: Call, name: str, sizes: tuple[Any, Any], size: int, gap: int = 0, lanes: Any = None
    ) -> None:
        self.call, self.m, self.n, self.size = call, *sizes, size
        if numbers.BOUNDS:
            self.pitch: Any = numbers.parameter(f"ld_{name}") if gap else 0
            element = (lambda i, j: lanes[i][j]) if lanes else None
            self.region: Any = call.plane(name, sizes, size, element, self.pitch if gap else None)
        else:
            self.pitch = size * self.n + gap
            self.region = call.region(name)
            for i in range(self.m):
                if lanes:
                    self.region.holds([slot for x in lanes[i] for slot in x.bytes], i * self.pitch)
                else:
                    self.region.takes(size * self.n, i * self.pitch)
        self.address = self.region.address

    def check(self, want: Callable[[Any, Any], Any]) -> None:
        """Fail where a result is another one than it should be."""
        for i, j, found in self._found():
            wanted = want(i, j)
            if found is None or not terms.equal(found, wanted, self.size):
                fail(f"{self.region.name}[{i}][{j}]", found, wanted)

    def _found(self) -> Iterator[tuple[Any, Any, Any]]:
        if not numbers.BOUNDS:
            for i in range(self.m):
                for j in range(self.n):
                    yield i, j, self.call.found(self.region, self.size, i * self.pitch + self.size * j)
            return
        for i, j, slots in self.call.written(self.region).stores:
            for at in range(len(slots) // self.size):
                yield i, j + at, value(slots[self.size * at :][: self.size])


def check_bytes_of(call: Call, region: Any, at: int, want: list[Any], what: Any = "", size: int = 4) -> None:
    """Fail where a value of a row is another one than it should be."""
    for j, wanted in enumerate(want):
        found = call.found(region, size, at + size * j)
        if found is None or not terms.equal(found, wanted, size):
            fail(f"{region.name}[{j}] {what}".rstrip(), found, wanted)
