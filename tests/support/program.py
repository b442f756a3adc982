"""Programs for the entry `run`, laid out from its contract: a head of sixteen words, records of sixteen, a zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from support.guard import Guarded, guarded_input

HEAD = 16
ARGUMENTS = 14
SCRATCH_BYTES = 16384

# Words of the head with a meaning: those for free use end where the status begins.
FREE, SCRATCH, STATUS, RECORDS, OBJECTS = 11, 5, 11, 14, 15

# Kinds of an argument.
PLAIN = 0


def word(j: int) -> int:
    """Word j of the head, plus the field."""
    return 1 + j


class Record(NamedTuple):
    """One call: the address of an entry, its arguments, and the kind of each (plain where there are fewer)."""

    entry: int
    fields: Sequence[int]
    kinds: Sequence[int] = ()


class Program:
    """A program in read-only memory that ends with the zero after its last record; ``argument`` is its address.

    ``objects`` are the words of the head that are array objects, whose data pointer lies ``offset`` bytes into them.
    With ``apart`` the records lie in memory of their own.
    """

    def __init__(
        self,
        records: Sequence[Record],
        head: Sequence[int] = (),
        *,
        objects: Sequence[int] = (),
        offset: int = 0,
        apart: bool = False,
    ) -> None:
        words = [*head, *[0] * (HEAD - len(head))]
        words[OBJECTS] = sum(1 << j for j in objects) | offset << 32
        rest = []
        for record in records:
            kinds = sum(kind << 4 * i for i, kind in enumerate(record.kinds))
            rest += [record.entry, *record.fields, *[0] * (ARGUMENTS - len(record.fields)), kinds]
        self._memory: list[Guarded] = []
        if apart:
            self._memory.append(guarded_input(np.array([*rest, 0], np.uint64)))
            words[RECORDS] = self._memory[0].address
            rest = []
        self._memory.append(guarded_input(np.array([*words, *rest, *[0] * (not apart)], np.uint64)))
        self.argument = self._memory[-1].address
