"""The main loop of an entry: found in the bytes of any ELF object or library, and its modelled cycles.

`measure` is what others call::

    from cycles import loop
    for core, turn in loop.measure("kernel.o", "my_kernel").items():
        print(core, turn.cycles, turn.macs_per_cycle, turn.share, turn.ports)

As a program, ``python -m cycles.loop FILE SYMBOL`` prints that.

The main loop is, of the loops that hold no other one, the one with the most registers of sums, and of those the one that makes
the most multiply-accumulates a turn: whole tiles come before the rows and columns that are left over.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

from cycles import mca, models
from cycles.cores import CORES, Core
from cycles.products import VECTOR, independent, is_product, macs
from elftools.elf.elffile import ELFFile

#: A branch and where it goes, from itself, as LLVM writes it.
BRANCH = re.compile(r"(?:b|b\.\w+|cbn?z \w+,|tbn?z \w+, #\d+,) #(-?\d+)$")


class Loop(NamedTuple):
    """A loop: where it begins within its entry, and one turn of it."""

    offset: int
    instructions: list[str]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a turn."""
        return sum(map(macs, self.instructions))

    @property
    def sums(self) -> int:
        """Registers that products and sums of products go to."""
        return len({VECTOR.search(each)[0] for each in self.instructions if is_product(each)})


class Turn(NamedTuple):
    """One turn of a loop on a core, in the steady state."""

    cycles: float
    macs_per_cycle: float
    instructions: int
    macs: int
    #: Multiply-accumulates a cycle of the loop's own products where they wait for nothing: what the core can do.
    limit: float
    #: Cycles of a turn in which each port is busy; a port that is busy in all of them is what the loop waits for.
    ports: dict[str, float]

    @property
    def share(self) -> float:
        """The part of the limit that the loop reaches."""
        return self.macs_per_cycle / self.limit


def measure(path: str | Path, symbol: str, cores: dict[str, Core] = CORES) -> dict[str, Turn]:
    """Model the main loop of an entry.

    Parameters
    ----------
    path : str or pathlib.Path
        An ELF object or library for AArch64.
    symbol : str
        The name of the entry in it.
    cores : dict of str to Core
        The cores to model, of `cycles.cores.CORES`; those that have not what the loop's instructions need are left to the caller.

    Returns
    -------
    dict of str to Turn
        One turn of the loop, by the keys of `cores`.

    Raises
    ------
    LookupError
        There is no such entry, or no loop in it that makes products.
    cycles.mca.MissingError
        LLVM's programs are not there.
    """
    return measure_all({symbol: main_loop(path, symbol)}, cores)[symbol]


def measure_all(loops: dict[str, Loop], cores: dict[str, Core] = CORES) -> dict[str, dict[str, Turn]]:
    """Model several loops, by names of the caller's, which takes hardly longer than one."""
    regions = [loop.instructions for loop in loops.values()]
    alone = [independent(region) for region in regions]
    found: dict[str, dict[str, Turn]] = {name: {} for name in loops}
    for key, core in cores.items():
        times = models.repeated([*regions, *alone], core)
        limits = [sum(map(macs, region)) / time.cycles for region, time in zip(alone, times[len(loops) :], strict=True)]
        for (name, loop), time, limit in zip(loops.items(), times[: len(loops)], limits, strict=True):
            rate = loop.macs / time.cycles
            found[name][key] = Turn(time.cycles, rate, len(loop.instructions), loop.macs, limit, time.ports)
    return found


def main_loop(path: str | Path, symbol: str) -> Loop:
    """Return the main loop of an entry.

    Raises
    ------
    LookupError
        There is no such entry, or no loop in it that makes products.
    """
    found = loops(mca.decode(words(path, symbol)))
    best = max(found, key=lambda loop: (loop.sums, loop.macs), default=None)
    if best is None or not best.macs:
        raise LookupError(f"{symbol} of {path} has no loop that makes products of integers in vector registers")
    return best


def loops(code: list[str]) -> list[Loop]:
    """Return the loops of an entry that hold no other one, in the order of their last instructions."""
    ranges = []
    for last, instruction in enumerate(code):
        target = BRANCH.match(instruction)
        if target and int(target[1]) <= 0 and last + int(target[1]) // 4 >= 0:
            ranges.append((last + int(target[1]) // 4, last))
    inner = [
        one for one in ranges if not any(other != one and one[0] <= other[0] and other[1] <= one[1] for other in ranges)
    ]
    return [Loop(4 * first, code[first : last + 1]) for first, last in inner]


def words(path: str | Path, symbol: str) -> list[int]:
    """Return the instructions of an entry as numbers: from its symbol on to its end, or to the next entry where it has no size."""
    with Path(path).open("rb") as stream:
        image = ELFFile(stream)
        tables = [table for name in (".symtab", ".dynsym") if (table := image.get_section_by_name(name))]
        symbols = [each for table in tables for each in table.iter_symbols() if isinstance(each["st_shndx"], int)]
        own = next((each for each in symbols if each.name == symbol), None)
        if own is None:
            raise LookupError(f"{path} has no entry {symbol!r}")
        section = image.get_section(own["st_shndx"])
        start, size = own["st_value"] - section["sh_addr"], own["st_size"]
        if not size:
            # Other names are labels within an entry.
            entries = [each for each in symbols if each["st_info"]["bind"] != "STB_LOCAL"]
            others = [each["st_value"] for each in entries if each["st_shndx"] == own["st_shndx"]]
            end = section["sh_addr"] + section["sh_size"]
            size = min(at for at in (*others, end) if at > own["st_value"]) - own["st_value"]
        code = section.data()[start : start + size]
    return [int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code) - 3, 4)]


def main(path: str, symbol: str) -> None:
    """Print what a core makes of the main loop of an entry, and its three busiest ports."""
    for name, turn in measure(path, symbol).items():
        busy = sorted(turn.ports.items(), key=lambda port: -port[1])[:3]
        ports = ", ".join(f"{port} {cycles:.1f}" for port, cycles in busy)
        print(
            f"{name:16}{turn.cycles:8.2f} cycles a turn of {turn.instructions} instructions,"
            f"{turn.macs_per_cycle:7.2f} of {turn.limit:6.2f} MACs a cycle; busiest ports: {ports}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
