"""The entries of the library as a proof sees them: the bytes that the linker left, decoded once."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import capstone
from elftools.elf.elffile import ELFFile
from proof.operands import operands

import build
from pyint8dot.engine import library

LIBRARY = build.path_of(build.PRODUCT, "linux-aarch64")


class Entry(NamedTuple):
    """An entry: its name, where its code lies, and the code."""

    name: str
    address: int
    code: bytes
    #: The constants that it takes addresses of, by address: each goes on to where the next one begins, whoever's that is.
    constants: tuple[tuple[int, bytes], ...]


class Instruction(NamedTuple):
    """A decoded instruction."""

    address: int
    mnemonic: str
    text: str
    operands: tuple[Any, ...]


@functools.cache
def entries(path: Path = LIBRARY) -> dict[str, Entry]:
    """Every entry that the library exports, by name."""
    found = {}
    with path.open("rb") as stream:
        image = ELFFile(stream)
        text, constants = image.get_section_by_name(".text"), image.get_section_by_name(".rodata")
        for symbol in image.get_section_by_name(".dynsym").iter_symbols():
            if symbol.name.startswith(library.PREFIX):
                start = symbol["st_value"] - text["sh_addr"]
                name = symbol.name.removeprefix(library.PREFIX)
                code = text.data()[start : start + symbol["st_size"]]
                found[name] = Entry(name, symbol["st_value"], code, ())
        taken = {name: _addresses(entry) for name, entry in found.items()}
        # A library of few entries may have no constants.
        data, first = (constants.data(), constants["sh_addr"]) if constants else (b"", 0)
    begins = sorted({at for addresses in taken.values() for at in addresses})
    ends = dict(itertools.pairwise([*begins, first + len(data)]))
    return {
        name: entry._replace(constants=tuple((at, data[at - first : ends[at] - first]) for at in sorted(taken[name])))
        for name, entry in found.items()
    }


def _addresses(entry: Entry) -> set[int]:
    """The addresses that an entry makes by ADRP and the addition that follows it."""
    code = decode(entry)
    return {page.operands[1] + add.operands[2] for page, add in itertools.pairwise(code) if page.mnemonic == "adrp"}


@functools.cache
def decoder() -> Any:
    """Capstone, told to decode A64."""
    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)


def decode(entry: Entry) -> list[Instruction]:
    """The instructions of an entry; fewer than its words where one does not decode."""
    return [
        Instruction(address, mnemonic, text, operands(text))
        for address, _, mnemonic, text in decoder().disasm_lite(entry.code, entry.address)
    ]
