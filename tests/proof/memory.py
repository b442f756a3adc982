"""Memory of a proof: regions far from each other, every byte of which may be read or written or may not."""

from __future__ import annotations

from typing import Any

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

    def find(self, count: int, at: int = 0) -> list[Any]:
        """What so many bytes hold now, None where nothing was written."""
        start = self.address + at
        return [self.data.get(address) for address in range(start, start + count)]


class Memory:
    """The regions by their numbers."""

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {}

    def region(self, name: str, at: int | None = None) -> Region:
        """A new region; `at` is its address where it is not for the memory to choose."""
        number = len(self.regions) + 1 if at is None else at >> REGION
        new = Region(number, name)
        if at is not None:
            new.address = at
        self.regions[number] = new
        return new

    def load(self, address: int, count: int) -> list[Any]:
        """Bytes at an address; an error where one may not be read."""
        region = self._at(address)
        data = region.data
        try:
            return [data[at] for at in range(address, address + count)]
        except KeyError as error:
            raise ProofError(
                f"a read of {count} bytes at {region.name} + {address - region.address}, where byte "
                f"{error.args[0] - region.address} is outside what may be read"
            ) from None

    def store(self, address: int, slots: Any) -> None:
        """Write bytes; an error where one may not be written."""
        region = self._at(address)
        for at, slot in zip(range(address, address + len(slots)), slots, strict=True):
            if at not in region.writable:
                raise ProofError(
                    f"a write of {len(slots)} bytes at {region.name} + {address - region.address}, where byte "
                    f"{at - region.address} is outside what may be written"
                )
            region.data[at] = slot

    def _at(self, address: int) -> Region:
        region = self.regions.get(address >> REGION)
        if region is None:
            raise ProofError(f"address {address:#x} lies in no operand")
        return region
