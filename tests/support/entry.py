"""An entry of the native library together with what its contract promises."""

from __future__ import annotations

import functools
from pathlib import Path

from support import banner
from support.checked import Checker

from pyint8dot.engine import library

ASM = Path(__file__).resolve().parents[2] / "asm"
# Where the sources of the entries lie, one file an entry; whoever adds rows from elsewhere adds a folder.
FOLDERS = [ASM]

# What a contract says of the features that Python knows by these names.
FEATURES = {"Advanced SIMD (every AArch64)": "asimd", "FEAT_DotProd": "dotprod", "FEAT_I8MM": "i8mm"}

# How a contract says that its stack is not all there is.
CALLS = "that of the entry it calls"


def sources() -> dict[str, Path]:
    """The file of every entry, by name."""
    return {path.stem: path for folder in FOLDERS for path in sorted(folder.glob("*.S"))}


@functools.cache
def contract(stem: str) -> dict[str, str]:
    """The contract at the head of the file that defines an entry."""
    return banner.parse(sources()[stem].read_text(encoding="utf-8"))


def feature(stem: str) -> str:
    """The processor feature that an entry needs."""
    return FEATURES[contract(stem)["Requires"]]


def stack(stem: str) -> int:
    """Bytes below its stack pointer that an entry may use: its own, and where it calls others the most that one of those does."""
    own = contract(stem)["Stack"]
    leaves = [name for name in sources() if CALLS not in contract(name)["Stack"]] if CALLS in own else []
    return banner.stack(own) + max((banner.stack(contract(name)["Stack"]) for name in leaves), default=0)


class Entry:
    """One entry: ``call`` runs it through the checked call and holds it to the registers and the stack of its contract."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self.address = library.load().addresses[stem]
        # x16 carries the call and x30 the way back, x18 is Apple's on Apple's systems: none of the three is comparable.
        self.unused = sorted(banner.registers(contract(stem)["Unused"]) - {"x16", "x18", "x30"})
        self.stack = stack(stem)

    def call(self, checker: Checker, argument: int) -> list[str]:
        """Call the entry with the address of its fields; return what it broke."""
        return checker.call(self.address, argument, unused=self.unused, stack=self.stack)
