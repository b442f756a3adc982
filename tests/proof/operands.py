"""Operands of an instruction, read from the text that the disassembler has for it."""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

#: The numbers that stand for the stack pointer and for the register that reads as zero.
SP, ZERO = 31, 32
SIZES = {"b": 1, "h": 2, "s": 4, "d": 8, "q": 16}


class X(NamedTuple):
    """A general register, as 8 bytes or as the lower 4 of them; shifted, where the text says so."""

    number: int
    width: int
    shift: str = ""
    by: int = 0


class V(NamedTuple):
    """A vector register as so many lanes of so many bytes, or one lane of it."""

    number: int
    size: int
    count: int
    lane: int | None = None


class Memory(NamedTuple):
    """An address: a register, plus a distance or a shifted register; `post` and `pre` write the register back."""

    base: X
    distance: int = 0
    index: X | None = None
    pre: bool = False


class Condition(NamedTuple):
    """A condition such as ``eq``."""

    name: str


_VECTOR = re.compile(r"v(\d+)\.(\d*)([bhsd])(?:\[(\d+)\])?")
_SCALAR = re.compile(r"([bhsdq])(\d+)")
_GENERAL = re.compile(r"([xw])(\d+)")
_SHIFT = re.compile(r"(lsl|lsr|asr|msl) #(\w+)")
_SPECIAL = {
    "sp": X(SP, 8),
    "wsp": X(SP, 4),
    "xzr": X(ZERO, 8),
    "wzr": X(ZERO, 4),
}
_CONDITIONS = set("eq ne hs lo mi pl vs vc hi ls ge lt gt le al c".split())


@functools.cache
def operands(text: str) -> tuple[Any, ...]:
    """Every operand of a text such as ``{v0.16b, v1.16b}, [x10], #64``."""
    words = [word.strip() for word in re.findall(r"(?:\[[^\]]*\]!?|\{[^}]*\}(?:\[\d+\])?|[^,\[{]+|\[)+", text)]
    found: list[Any] = []
    for word in words:
        shift = _SHIFT.fullmatch(word)
        if shift and isinstance(found[-1], X):
            found[-1] = found[-1]._replace(shift=shift[1], by=int(shift[2], 0))
        elif shift:
            found[-1] <<= int(shift[2], 0)
        else:
            found.append(_operand(word))
    return tuple(found)


def _operand(word: str) -> Any:
    if word.startswith("{"):
        inside, _, lane = word[1:].partition("}")
        registers = [_operand(part.strip()) for part in inside.split(",")]
        return [part._replace(lane=int(lane[1:-1])) if lane else part for part in registers]
    if word.startswith("["):
        return _memory(word)
    if word.startswith("#"):
        return _number(word[1:])
    if vector := _VECTOR.fullmatch(word):
        size = SIZES[vector[3]]
        lane = None if vector[4] is None else int(vector[4])
        return V(int(vector[1]), size, int(vector[2] or 16 // size), lane)
    if scalar := _SCALAR.fullmatch(word):
        return V(int(scalar[2]), SIZES[scalar[1]], 1)
    if general := _GENERAL.fullmatch(word):
        return X(int(general[2]), 8 if general[1] == "x" else 4)
    if word in _SPECIAL:
        return _SPECIAL[word]
    if word in _CONDITIONS:
        return Condition(word)
    raise ValueError(f"not an operand: {word!r}")


def _number(word: str) -> int | float:
    if re.fullmatch(r"-?\d+\.\d+", word):
        return float(word)
    if re.fullmatch(r"0+", word):
        return 0
    return int(word, 0)


def _memory(word: str) -> Memory:
    inside, _, after = word[1:].partition("]")
    base, *rest = [part.strip() for part in inside.split(",")]
    register = _operand(base)
    if not rest:
        return Memory(register, pre=after == "!")
    if rest[0].startswith("#"):
        return Memory(register, int(rest[0][1:], 0), pre=after == "!")
    index = _operand(rest[0])
    if len(rest) > 1:
        shift = _SHIFT.fullmatch(rest[1])
        assert shift, word
        index = index._replace(shift=shift[1], by=int(shift[2], 0))
    return Memory(register, 0, index)
