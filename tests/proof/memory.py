"""Memory of a proof: regions far from each other, every byte of which may be read or written or may not."""

from __future__ import annotations

from typing import Any

from proof.numbers import Number
from proof.terms import ProofError

#: Each region has the addresses that begin with its number: no pointer reaches one from another by mistake.
REGION = 32
MIDDLE = 1 << 31


class Region:
    """Bytes around an address; a byte that is None cannot be read, and one that is not `writable` cannot be written."""

    def __init__(self, number: int, name: str) -> None:
        self.name = name
        self.address = (number << REGION) + MIDDLE
        self.data: dict[int, Any] = {}
        self.writable: set[int] = set()

    def holds(self, slots: Any, at: int = 0) -> Region:
        """Put readable bytes at a distance from the address."""
        start = self.address + at
        self.data.update(zip(range(start, start + len(slots)), slots, strict=True))
        return self

    def takes(self, count: int, at: int = 0) -> Region:
        """Let so many bytes at a distance be written."""
        start = self.address + at
        self.writable.update(range(start, start + count))
        return self

    def copy(self) -> Region:
        """A copy, which may be written without the original's changing."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__, data=dict(self.data))
        return new

    def find(self, count: int, at: int = 0) -> list[Any]:
        """What so many bytes hold now, None where nothing was written."""
        start = self.address + at
        return [self.data.get(address) for address in range(start, start + count)]

    def load(self, address: Any, count: int) -> list[Any]:
        """Bytes at an address; an error where one may not be read."""
        data = self.data
        try:
            return [data[at] for at in range(number_of(address), address + count)]
        except KeyError as error:
            raise ProofError(
                f"a read of {count} bytes at {self.name} + {address - self.address}, where byte "
                f"{error.args[0] - self.address} is outside what may be read"
            ) from None

    def store(self, address: Any, slots: Any) -> None:
        """Write bytes; an error where one may not be written."""
        for at, slot in zip(range(number_of(address), address + len(slots)), slots, strict=True):
            if at not in self.writable:
                raise ProofError(
                    f"a write of {len(slots)} bytes at {self.name} + {address - self.address}, where byte "
                    f"{at - self.address} is outside what may be written"
                )
            self.data[at] = slot


def number_of(address: Any) -> int:
    """An address that has to be one number."""
    if type(address) is Number:
        raise ProofError(f"an address depends on more than the operand's sizes: {address}")
    return address


class Memory:
    """The regions by their numbers."""

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {}

    def region(self, name: str, at: int | None = None, kind: Any = Region, **about: Any) -> Any:
        """A new region; `at` is its address where it is not for the memory to choose."""
        number = len(self.regions) + 1 if at is None else at >> REGION
        new = kind(number, name, **about)
        if at is not None:
            new.address = at
        self.regions[number] = new
        return new

    def load(self, address: Any, count: int) -> list[Any]:
        """Bytes at an address; an error where one may not be read."""
        return self._at(address).load(address, count)

    def store(self, address: Any, slots: Any) -> None:
        """Write bytes; an error where one may not be written."""
        self._at(address).store(address, slots)

    def copy(self) -> Memory:
        """A copy, which may be written without the original's changing."""
        new = Memory()
        new.regions = {number: region.copy() for number, region in self.regions.items()}
        return new

    def _at(self, address: Any) -> Region:
        region = self.regions.get((address.const if type(address) is Number else address) >> REGION)
        if region is None:
            raise ProofError(f"address {address:#x} lies in no operand")
        return region
