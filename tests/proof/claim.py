"""What all claims share: the call of an entry on memory of symbols, and what it left there."""

from __future__ import annotations

from typing import Any, NoReturn

from proof import induction, model, numbers, terms
from proof.arrays import Panels, Plane
from proof.image import Entry
from proof.machine import STACK, State, spread, value
from proof.memory import REGION, Memory, Region
from proof.terms import ProofError


class Call:
    """One call of an entry: its operands are put into regions, and `run` walks over it."""

    def __init__(self, entry: Entry, stack: int = STACK) -> None:
        terms.forget()
        numbers.forget()
        self.entry = entry
        self.memory = Memory()
        constants = self.memory.region("constants", at=0)
        for at, data in entry.constants:
            constants.holds(data, at)
        self.state = State(self.memory, stack)

    def region(self, name: str) -> Region:
        """Memory that the entry may be told of."""
        return self.memory.region(name)

    def input(self, name: str, slots: Any) -> int:
        """The address of bytes that may be read."""
        return self.region(name).holds(slots).address

    def lanes(self, name: str, lanes: Any, width: int = 4) -> int:
        """The address of values of so many bytes each; a null pointer for None."""
        if lanes is None:
            return 0
        if not isinstance(lanes, list):
            return self.plane(name, (1, lanes.sizes[-1]), width, lambda _, j: lanes[j]).address
        return self.input(name, [slot for lane in lanes for slot in spread(lane, width)])

    def plane(self, name: str, sizes: tuple[Any, Any], size: int, element: Any = None, pitch: Any = None) -> Plane:
        """Rows of any number and length: to be read where there is an element for every place, else to be written."""
        found: Plane = self.memory.region(name, kind=Plane, sizes=sizes, size=size, element=element, pitch=pitch)
        return found

    def panels(self, name: str, heights: list[tuple[int, Any]], depth: Any, group: int, element: Any) -> Panels:
        """A packed operand of any size."""
        found: Panels = self.memory.region(
            name, kind=Panels, heights=heights, depth=depth, group=group, element=element
        )
        return found

    def run(self, fields: list[Any]) -> None:
        """Call the entry with its arguments, which may depend on parameters."""
        self.walk(self.words("args", fields))

    def words(self, name: str, fields: Any) -> int:
        """The address of words of eight bytes, which may depend on parameters."""
        slots = [slot for field in fields for slot in (spread(field % 2**64, 8) if type(field) is int else field.bytes)]
        return self.input(name, slots)

    def walk(self, argument: int) -> None:
        """Walk over the entry with what x0 holds."""
        walk = induction.run if numbers.BOUNDS else model.run
        walk(self.entry, self.state, argument)

    def written(self, plane: Plane) -> Plane:
        """What an operand of any size is after the call: all of it is written."""
        found: Plane = self.state.memory.regions[plane.address >> REGION]
        found.check()
        return found

    def found(self, region: Region, width: int, at: int) -> Any:
        """The lane that lies in a region now, or None where nothing was written."""
        slots = region.find(width, at)
        return None if None in slots else value(slots)


def fail(what: str, found: Any, want: Any) -> NoReturn:
    """Say what an entry made in the place of what it should."""
    raise ProofError(f"{what} is {'not written' if found is None else terms.text(found)}, not {terms.text(want)}")


def check_bytes(region: Region, want: Any, what: Any) -> None:
    """Fail where a byte of a region is not the one that it should be."""
    for at, (found, byte) in enumerate(zip(region.find(len(want)), want, strict=True)):
        if found is not byte and (found is None or not terms.equal(value((found,)), byte, 1)):
            fail(f"byte {at} of {region.name} of {what}", None if found is None else value((found,)), byte)
