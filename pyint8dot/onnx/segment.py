"""A segment: neighbouring nodes as one native program, made of what they were seen to do; see `pyint8dot.onnx.executor`."""

from __future__ import annotations

import bisect
import functools
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pyint8dot.engine import blocks, library, tape
from pyint8dot.engine.program import END, FIELDS, OBJECTS, RECORDS, SCRATCH, STACK_SCRATCH, STATUS, WORDS
from pyint8dot.engine.tape import At, bounds
from pyint8dot.onnx.program import Program, Step

__all__ = ["Failed", "Seen", "Segment", "Unfit", "arranged", "merged"]

#: The words of a segment's head that may be operands; the others are scratch, status, and what no array is.
OPERANDS = [number for number in range(STATUS.number) if number != SCRATCH.number]


class Unfit(Exception):  # noqa: N818 - no error, but the answer to a question
    """These nodes are no segment."""


class Failed(Exception):  # noqa: N818 - likewise
    """A program reported values that it cannot work on."""


class Seen(NamedTuple):
    """What a step was seen to do."""

    step: Step
    given: list[Any]
    made: tuple[Any, ...]
    part: tape.Part
    seconds: float


class Segment:
    """Neighbouring steps as one native program."""

    def __init__(self, program: Program, seen: list[Seen], steps: range) -> None:
        self.steps, self.seconds = steps, 0.0
        mine = [seen[index] for index in steps]
        whole = sum(each.seconds for each in mine) or 1.0
        #: Which part of its time each step has.
        self.parts = [each.seconds / whole for each in mine]
        laid = _Layout(program, mine)
        self.arena = laid.arena
        #: Bytes of all results, as they count where the nodes run one by one.
        self.bytes = sum(array.nbytes for each in mine for array in each.made)
        records = laid.records()
        # What the records point to.
        self._keep = records, laid.constants, [call.program for each in mine for call in each.part.calls]
        self._given = [(slot, array.dtype, array.shape, array.strides) for slot, array in laid.given.items()]
        self._tied = laid.tied
        self._asked = list(laid.asked.items())
        self._fresh = [(slot, array.shape, array.dtype) for slot, array in laid.fresh.items()]
        self._same = list(laid.same.items())
        self._frees = sorted({slot for each in mine for slot in each.step.frees})
        # The head: words in which a run puts its arrays, arena and scratch, then those that stay.
        self._places = [(word, slot) for slot, word in laid.words.items()]
        self._arena = laid.arena_word
        self._scratch = laid.scratch if laid.scratch > STACK_SCRATCH else 0
        used = [*laid.words.values(), *([] if self._arena is None else [self._arena])]
        self._blank = [0] * (1 + max([*used, SCRATCH.number] if self._scratch else used))
        self._pack = struct.Struct(f"{len(self._blank)}q").pack
        words = [0] * WORDS
        words[RECORDS] = library.address(records)
        words[OBJECTS] = library.DATA_OFFSET << 32 | sum(1 << word for word in laid.words.values())
        self._tail = struct.pack(f"{WORDS - len(self._blank)}q", *words[len(self._blank) :])
        self._run = library.load().run

    def fits(self, values: list[Any]) -> bool:
        """Whether what comes from outside is as it was when the segment was recorded."""
        for slot, dtype, shape, strides in self._given:
            array = values[slot]
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return False
            if array.strides != strides:
                return False
        for slot, other, distance in self._tied:
            if library.address(values[slot]) - library.address(values[other]) != distance:
                return False
        return not self._asked or all(question(values[slot]) == answer for (slot, question), answer in self._asked)

    def run(self, values: list[Any], arena: int) -> None:
        """Do what the steps do, with the results that nobody else sees in the memory at `arena`."""
        for slot, shape, dtype in self._fresh:
            values[slot] = np.empty(shape, dtype)
        for slot, source in self._same:
            values[slot] = values[source]
        words = self._blank.copy()
        for word, slot in self._places:
            words[word] = id(values[slot])
        if self._arena is not None:
            words[self._arena] = arena
        if self._scratch:
            words[SCRATCH.number] = blocks.take(self._scratch)
        if self._run(self._pack(*words) + self._tail):
            raise Failed
        for slot in self._frees:
            values[slot] = None


@dataclass
class _Buffer:
    """Memory that the programs of a segment write to."""

    low: int
    high: int
    first: int = -1
    last: int = -1
    #: Where it lies in the arena.
    offset: int = 0
    #: The slot that shows it to others.
    slot: int | None = None


class _Layout:
    """Where the operands of a segment lie; raises `Unfit` where it is none."""

    def __init__(self, program: Program, seen: list[Seen]) -> None:
        made = {slot: array for each in seen for slot, array in zip(each.step.outputs, each.made, strict=False)}
        #: Arrays from outside, by slot.
        self.given: dict[int, np.ndarray] = {}
        own: set[int] = set()
        self._constants = program.values
        for each in seen:
            for slot, array in zip(each.step.inputs, each.given, strict=True):
                if array is not None and slot not in own and program.values[slot] is None:
                    self.given[slot] = array
            own.update(each.step.outputs)
        self._given = {slot: bounds(array) for slot, array in self.given.items()}
        #: Slots of arrays that share memory, such as one that is a piece of the other, and how far apart they begin: which of them an
        #: address is taken for makes no difference as long as that stays.
        fixed = {slot: array for slot, array in enumerate(program.values) if isinstance(array, np.ndarray)}
        self.tied = [tie for tie in _tied({**fixed, **self.given}) if self.given.keys() & tie[:2]]
        spans = [bounds(array) for each in seen for array in each.part.written]
        self._buffers = [_Buffer(*span) for span in merged(span for span in spans if self._outside(span[0]) is None)]
        self._lows = [buffer.low for buffer in self._buffers]
        #: What has been found out about their values.
        self.asked: dict[tuple[int, Callable[..., Any]], Any] = {}
        for each in seen:
            for answer in each.part.answers:
                self._ask(each, answer)
        freed = {slot for each in seen for slot in each.step.frees}
        #: Results that others see: new arrays, and those that lie where one from outside does.
        self.fresh: dict[int, np.ndarray] = {}
        self.same: dict[int, int] = {}
        for slot, array in made.items():
            if slot not in freed:
                self._show(slot, array)
        self.constants: list[np.ndarray] = []
        #: The words of arrays, by slot.
        self.words: dict[int, int] = {}
        self._calls = [(each, call) for each in seen for call in each.part.calls]
        self._placed = [
            [self._place(number, each, word) for word in call.words] for number, (each, call) in enumerate(self._calls)
        ]
        hidden = [buffer for buffer in self._buffers if buffer.slot is None and buffer.first >= 0]
        self.arena = arranged(hidden)
        self.arena_word = OPERANDS[len(self.words)] if hidden and len(self.words) < len(OPERANDS) else None
        if len(self.words) + bool(hidden) > len(OPERANDS):
            raise Unfit
        self.scratch = max((call.scratch or STACK_SCRATCH for _, call in self._calls), default=0)

    def _ask(self, seen: Seen, answer: tape.Answer) -> None:
        """Enter what has been found out about an input, which has to come from outside."""
        slot = next(s for s, array in zip(seen.step.inputs, seen.given, strict=True) if array is answer.array)
        if slot in self.given:
            self.asked[slot, answer.question] = answer.answer
        elif not any(array is answer.array for array in self._constants):
            raise Unfit

    def _show(self, slot: int, array: np.ndarray) -> None:
        """Enter a result that others see."""
        low, high = bounds(array)
        source = self._outside(low)
        if source is not None:
            other = self.given[source]
            like = bounds(other)[0], other.dtype, other.shape, other.strides
            if (low, array.dtype, array.shape, array.strides) != like:
                raise Unfit
            self.same[slot] = source
            return
        buffer = self._buffer(low)
        if buffer is None or (buffer.low, buffer.high) != (low, high) or buffer.slot is not None:
            raise Unfit
        if not array.flags.c_contiguous:
            raise Unfit
        buffer.slot = slot
        self.fresh[slot] = array

    def _outside(self, at: int) -> int | None:
        """The slot of the array from outside that an address is part of."""
        return next((slot for slot, (low, high) in self._given.items() if low <= at < high), None)

    def _buffer(self, at: int) -> _Buffer | None:
        number = bisect.bisect_right(self._lows, at) - 1
        return self._buffers[number] if number >= 0 and at < self._buffers[number].high else None

    def _place(self, number: int, seen: Seen, word: int) -> Callable[[], tuple[int, int]]:
        """What says, once the arena is planned, which word takes the place of one of a program, and what is added to it."""
        if type(word) is not At or not word:
            return lambda: (-1, int(word))
        slot = self._outside(word)
        if slot is not None:
            return functools.partial(self._at, self._word(slot), word - library.address(self.given[slot]))
        buffer = self._buffer(word)
        if buffer is None:
            # A constant, which stays where it is.
            self.constants.append(self._known(seen, word))
            return lambda: (-1, int(word))
        buffer.first = number if buffer.first < 0 else buffer.first
        buffer.last = number
        shift = word - buffer.low
        if buffer.slot is not None:
            return functools.partial(self._at, self._word(buffer.slot), shift)
        return lambda: self._at(self.arena_word or 0, buffer.offset + shift)

    @staticmethod
    def _known(seen: Seen, word: int) -> np.ndarray:
        """The array that keeps what lies at an address."""
        for array in seen.part.read:
            low, high = bounds(array)
            if low <= word < high:
                return array
        raise Unfit

    @staticmethod
    def _at(word: int, offset: int) -> tuple[int, int]:
        return word, int(offset)

    def _word(self, slot: int) -> int:
        """The word of the head that holds the array of a slot."""
        if slot not in self.words:
            if len(self.words) == len(OPERANDS):
                raise Unfit
            self.words[slot] = OPERANDS[len(self.words)]
        return self.words[slot]

    def records(self) -> np.ndarray:
        """Return the records of all programs, their operands where they lie now."""
        pieces = [
            np.frombuffer(call.program.records()[: -len(END)], np.int64).reshape(-1, WORDS) for _, call in self._calls
        ]
        records = np.concatenate(pieces)
        kinds = records[:, -1].copy()
        # For each word of each program's head which word takes its place and what is added to it; scratch and status stay.
        words = np.tile(np.arange(WORDS), (len(pieces), 1))
        more = np.zeros(words.shape, np.int64)
        for number, places in enumerate(self._placed):
            for word, place in enumerate(places):
                if word != SCRATCH.number:
                    words[number, word], more[number, word] = place()
        program = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
        for field in range(FIELDS):
            kind = kinds >> 4 * field & 15
            rows = np.flatnonzero(kind)
            at = program[rows], kind[rows] - 1
            records[rows, 1 + field] += more[at]
            records[rows, -1] += (words[at] - at[1]) << 4 * field
        return np.concatenate([records.reshape(-1), np.zeros(1, np.int64)])


def _tied(arrays: dict[int, np.ndarray]) -> list[tuple[int, int, int]]:
    """Return pairs of slots whose arrays share memory, each with the one that reaches furthest before it, and their distance."""
    spans = {slot: bounds(array) for slot, array in arrays.items()}
    found: list[tuple[int, int, int]] = []
    last = -1
    for slot in sorted(spans, key=spans.__getitem__):
        if last >= 0 and spans[slot][0] < spans[last][1]:
            found.append((slot, last, library.address(arrays[slot]) - library.address(arrays[last])))
        if last < 0 or spans[slot][1] > spans[last][1]:
            last = slot
    return found


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans of addresses that touch, as parts of one array do; two arrays that do by chance are only kept together.

    Parameters
    ----------
    spans : iterable of (int, int)
        First address, and the one behind the last.

    Returns
    -------
    list of (int, int)
        In order.

    Examples
    --------
    >>> merged([(8, 9), (1, 3), (3, 5)])
    [(1, 5), (8, 9)]
    """
    found: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found


def arranged(buffers: list[_Buffer]) -> int:
    """Give each buffer its place in the arena, the largest first; return the arena's bytes.

    Parameters
    ----------
    buffers : list of _Buffer
        Those that are alive at the same time get places apart, each on a cache line.

    Returns
    -------
    int
    """
    placed: list[_Buffer] = []
    most = 0
    for buffer in sorted(buffers, key=lambda b: b.low - b.high):
        size = buffer.high - buffer.low
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if offset + size <= other.offset:
                break
            offset = max(offset, -(-(other.offset + other.high - other.low) // blocks.LINE) * blocks.LINE)
        buffer.offset = offset
        placed.append(buffer)
        most = max(most, offset + size)
    return most
