"""Reads the contract at the head of an assembly file: a comment of ``Key: value`` lines, values continued by indentation."""

from __future__ import annotations

import re

KEYS = (
    "Kernel",
    "Computes",
    "Prototype",
    "Requires",
    "Tile",
    "Packing",
    "Arguments",
    "Clobbers",
    "Unused",
    "Stack",
    "Over-read",
    "Bound",
)

_COMMENT = re.compile(r"\A/\*\n(.*?)\n \*/\n", re.DOTALL)
_KEY = re.compile(r"^ \* ([A-Z][A-Za-z-]*):( +)(.*)$")
_RANGE = re.compile(r"([xvd])(\d+)-[xvd](\d+)")


def parse(source: str) -> dict[str, str]:
    """The contract of ``source`` by key, in the order of the file; ValueError names the line that is not part of one."""
    comment = _COMMENT.match(source)
    if comment is None:
        raise ValueError("the file does not begin with a contract comment")
    contract: dict[str, list[str]] = {}
    column = 0
    key = ""
    for line in comment[1].split("\n"):
        found = _KEY.match(line)
        if found:
            key, column = found[1], found.start(3)
            if key in contract:
                raise ValueError(f"the key {key} stands twice")
            contract[key] = [found[3]]
        elif key and line.startswith(" *" + " " * (column - 2)):
            contract[key].append(line[column:])
        else:
            raise ValueError(f"neither a key nor the continuation of one: {line!r}")
    return {name: "\n".join(lines).strip() for name, lines in contract.items()}


def stack(value: str) -> int:
    """The bytes of a value such as ``0`` or ``128, keeps x19-x26, d8-d15``."""
    return int(value.partition(",")[0])


def kept(value: str) -> set[str]:
    """The callee-saved registers that such a value says a frame keeps, x and v standing for all widths."""
    return {name.replace("d", "v") for name in registers(value.partition("keeps ")[2] or "none")}


def registers(listing: str) -> set[str]:
    """The registers of a value such as ``x1-x17, v0-v7, v16-v31, flags``, one name each (flags left out)."""
    names: set[str] = set()
    for word in re.split(r"[,\s]+", re.sub(r"\(.*?\)", "", listing).strip()):
        span = _RANGE.fullmatch(word)
        if span:
            names.update(f"{span[1]}{number}" for number in range(int(span[2]), int(span[3]) + 1))
        elif re.fullmatch(r"[xvd]\d+", word):
            names.add(word)
        elif word not in ("flags", "none"):
            raise ValueError(f"not a list of registers: {listing!r} at {word!r}")
    return names
