"""What all claims share: the call of an entry on memory of symbols, and what it left there."""

from __future__ import annotations

from typing import Any, NoReturn

from proof import model, terms
from proof.image import Entry
from proof.machine import State, spread, value
from proof.memory import Memory, Region
from proof.terms import ProofError


class Call:
    """One call of an entry: its operands are put into regions, and `run` walks over it."""

    def __init__(self, entry: Entry) -> None:
        terms.forget()
        self.entry = entry
        self.memory = Memory()
        constants = self.memory.region("constants", at=0)
        for at, data in entry.constants:
            constants.holds(data, at)
        self.state = State(self.memory)

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
        return self.input(name, [slot for lane in lanes for slot in spread(lane, width)])

    def run(self, fields: list[int]) -> None:
        """Call the entry with its arguments."""
        words = [slot for field in fields for slot in (field % 2**64).to_bytes(8, "little")]
        model.run(self.entry, self.state, self.input("args", words))

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
