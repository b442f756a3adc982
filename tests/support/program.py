"""Programs for the entry `run`, laid out from its contract: a head of six words, records of sixteen, a zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from support.guard import guarded_input

HEAD = 6
ARGUMENTS = 14
SCRATCH_BYTES = 4096

# Kinds of an argument.
PLAIN = 0
SCRATCH = 1


def word(j: int) -> int:
    """Word j of the head, plus the field."""
    return 2 + j


def pointer(j: int) -> int:
    """The pointer found `field` bytes after where word j of the head points."""
    return 8 + j


class Record(NamedTuple):
    """One call: the address of an entry, its arguments, and the kind of each (plain where there are fewer)."""

    entry: int
    fields: Sequence[int]
    kinds: Sequence[int] = ()


class Program:
    """A program in read-only memory that ends with the zero after its last record; ``argument`` is its address."""

    def __init__(self, records: Sequence[Record], head: Sequence[int] = ()) -> None:
        words = [*head, *[0] * (HEAD - len(head))]
        for record in records:
            kinds = sum(kind << 4 * i for i, kind in enumerate(record.kinds))
            words += [record.entry, *record.fields, *[0] * (ARGUMENTS - len(record.fields)), kinds]
        self._memory = guarded_input(np.array([*words, 0], np.uint64))
        self.argument = self._memory.address
