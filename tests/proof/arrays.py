"""Operands of any size: memory whose bytes are found by where an address lies among rows, columns or panels, whatever the parameters are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from proof.machine import spread
from proof.memory import Region
from proof.numbers import Number, is_zero, replaced, split, within
from proof.terms import ProofError


class Store(NamedTuple):
    """What was written: from which row, element and byte on."""

    i: Any
    j: Any
    slots: Any


class Rectangle(NamedTuple):
    """Rows and bytes of them that are written, ends excluded."""

    top: Any
    bottom: Any
    left: Any
    right: Any

    def at(self, name: str, value: Any) -> Rectangle:
        """The same for one value of a parameter."""
        return Rectangle(*(replaced(side, name, value) for side in self))


class Plane(Region):
    """Rows of elements of so many bytes each, as far apart as a parameter says; without one there is one row."""

    def __init__(self, number: int, name: str, sizes: tuple[Any, Any], size: int, element: Any, pitch: Any) -> None:
        super().__init__(number, name)
        self.rows, self.columns = sizes
        self.size = size
        #: What is read of row i, element j; None where nothing may be.
        self.element: Callable[[Any, Any], Any] | None = element
        self.pitch = next(iter(pitch.names)) if pitch is not None else ""
        self.may_write = element is None
        self.stores: list[Store] = []
        self.covered: list[Rectangle] = []

    def copy(self) -> Plane:
        """A copy, which may be written without the original's changing."""
        new = Plane.__new__(Plane)
        new.__dict__.update(self.__dict__, stores=list(self.stores), covered=list(self.covered))
        return new

    def _place(self, offset: Any, count: int, what: str) -> tuple[Any, Any, int]:
        i, rest = split(offset, self.pitch)
        byte = rest % self.size
        inside = (
            isinstance(byte, int) and within(i, 0, self.rows - 1) and within(rest, 0, self.columns * self.size - count)
        )
        if not inside:
            raise ProofError(
                f"{what} of {count} bytes at {self.name} + {offset}, which may be outside what it may touch"
            )
        return i, rest // self.size, byte

    def load(self, address: Any, count: int) -> list[Any]:
        """Bytes that may be read."""
        if self.element is None:
            raise ProofError(f"a read of {self.name}, which may only be written")
        i, j, byte = self._place(address - self.address, count, "a read")
        slots = [
            slot for at in range(-(-(byte + count) // self.size)) for slot in spread(self.element(i, j + at), self.size)
        ]
        return slots[byte : byte + count]

    def store(self, address: Any, slots: Any) -> None:
        """Write whole elements."""
        if not self.may_write:
            raise ProofError(f"a write of {self.name}, which may only be read")
        i, j, byte = self._place(address - self.address, len(slots), "a write")
        if byte or len(slots) % self.size:
            raise ProofError(f"a write of part of an element of {self.name}")
        self.stores.append(Store(i, j, slots))
        self.covered = merged([*self.covered, Rectangle(i, i + 1, self.size * j, self.size * j + len(slots))])

    def folded(self, before: Plane, name: str, turns: Any) -> Plane:
        """What a turn has written is written by all of them: those of a parameter from 0 on."""
        rectangles = []
        for one in self.covered:
            if one in before.covered:
                rectangles.append(one)
                continue
            first, last = one.at(name, 0), one.at(name, turns)
            following = one.at(name, Number(1, {(name,): 1}))
            if one == first:
                raise ProofError(f"every turn of a loop writes the same of {self.name}")
            if (one.bottom, one.left, one.right) == (following.top, following.left, following.right):
                rectangles.append(first._replace(bottom=last.top))
            elif (one.top, one.left, one.right) == (following.bottom, following.left, following.right):
                rectangles.append(first._replace(top=last.bottom))
            elif (one.right, one.top, one.bottom) == (following.left, following.top, following.bottom):
                rectangles.append(first._replace(right=last.left))
            else:
                raise ProofError(f"what a loop writes of {self.name} leaves gaps: {one}")
        new = self.copy()
        new.covered = merged(rectangles)
        return new

    def check(self) -> None:
        """Fail where not everything is written."""
        whole = Rectangle(0, self.rows, 0, self.columns * self.size)
        if self.covered != [whole] and not is_zero(self.rows) and not is_zero(self.columns):
            raise ProofError(f"of {self.name} is written {self.covered}, not {whole}")


def merged(rectangles: list[Rectangle]) -> list[Rectangle]:
    """Rectangles with those put together that make one."""
    found: list[Rectangle] = []
    for one in rectangles:
        new, again = one, True
        while again:
            again = False
            for other in found:
                both = _joined(other, new) or _joined(new, other)
                if both:
                    found.remove(other)
                    new, again = both, True
                    break
        found.append(new)
    return found


def _joined(one: Rectangle, other: Rectangle) -> Rectangle | None:
    if one == other:
        return one
    if one.bottom == other.top and one[2:] == other[2:]:
        return one._replace(bottom=other.bottom)
    if one.right == other.left and one[:2] == other[:2]:
        return one._replace(right=other.right)
    return None


class Block(NamedTuple):
    """Panels of one height, one after the other: where they begin, how many, and the first of their lines."""

    start: Any
    height: int
    count: Any
    first: Any


class Panels(Region):
    """A packed operand: element (k, j) of a panel of r at ``(k // group) * r * group + j * group + k % group``."""

    def __init__(
        self, number: int, name: str, heights: list[tuple[int, Any]], depth: Any, group: int, element: Any
    ) -> None:
        super().__init__(number, name)
        self.group, self.depth, self.element = group, depth, element
        self.blocks = []
        start: Any = 0
        first: Any = 0
        for height, count in heights:
            self.blocks.append(Block(start, height, count, first))
            start, first = start + count * height * depth, first + count * height

    def load(self, address: Any, count: int) -> list[Any]:
        """Bytes of one panel."""
        offset = address - self.address
        for block in self.blocks:
            found = self._panel(offset - block.start, block, count)
            if found is not None:
                number, at = found
                unit = block.height * self.group
                line = block.first + block.height * number
                low = at % unit
                assert isinstance(low, int)
                depth = at // unit * self.group
                return [
                    self.element(line + x % unit // self.group, depth + x // unit * self.group + x % self.group)
                    for x in range(low, low + count)
                ]
        raise ProofError(f"a read of {count} bytes at {self.name} + {offset}, which may be outside every panel")

    def _panel(self, at: Any, block: Block, count: int) -> tuple[Any, Any] | None:
        """Which panel of a block so many bytes lie in, and where in it."""
        length = block.height * self.depth
        number: Any = 0
        for name in at.names if isinstance(at, Number) else ():
            factor, _ = at.split(name)
            times = _ratio(factor, length)
            if times:
                number = number + Number(0, {(name,): times})
                at = at - Number(0, {(name,): times}) * length
        for _ in range(block.count if isinstance(block.count, int) else 4):
            if within(at, 0, length - count) and within(number, 0, block.count - 1):
                return number, at
            number, at = number + 1, at - length
        return None

    def store(self, address: Any, slots: Any) -> None:
        """Nothing may be written."""
        raise ProofError(f"a write of {self.name}, which may only be read")


def _ratio(number: Any, of: Any) -> int:
    """How many times a number is another one, 0 where it is no multiple."""
    if isinstance(of, int) or isinstance(number, int):
        return number // of if isinstance(of, int) and isinstance(number, int) and of and number % of == 0 else 0
    names = next(iter(of.terms))
    times = number.terms.get(names, 0) // of.terms[names]
    return times if times and of * times == number else 0
