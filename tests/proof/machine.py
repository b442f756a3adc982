"""The state of the processor in a proof, and the walk over an entry's instructions.

Addresses, counters and branches are plain numbers, which shows by itself that none depends on data: an instruction that would need
the number of a value of an operand is an error. Vector registers, and general ones that carry data, hold slots: a byte of one is a number,
a polynomial of one byte, or a pair of a wider polynomial and which of its bytes it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from proof import terms
from proof.memory import Memory
from proof.numbers import Number, UndecidedError, within
from proof.operands import SP, ZERO, V, X
from proof.terms import Poly, ProofError

MASK = (1 << 64) - 1
#: Where an entry returns to, outside all memory.
RETURN = 1 << 60
#: Bytes below the stack pointer that an entry may use at most.
STACK = 512


def value(slots: Any) -> Any:
    """The lane that some bytes are: a number where all are, the polynomial whose bytes they are, or a term of its own."""
    first = slots[0]
    if type(first) is tuple:
        poly, count = first[0], len(slots)
        if first[1] == 0 and list(slots) == poly.bytes[:count]:
            return poly if poly.width == count else terms.resized(poly, count)
        if count == 1:
            return terms.atom("byte", (poly.key, first[1]), 0, 255, 1)
    elif len(slots) == 1:
        return first
    if all(type(slot) is int for slot in slots):
        return int.from_bytes(bytes(slots), "little")
    if type(first) is Poly and not any(slots[1:]) and min(first.bounds()) >= 0 and max(first.bounds()) < 256:
        return terms.resized(first, len(slots))
    half = 1 << (8 * len(slots) - 1)
    return terms.atom("bytes", tuple(map(terms.key_of, slots)), -half, half - 1, len(slots))


def spread(lane: Any, width: int) -> list[Any]:
    """The bytes of a lane."""
    return list(lane.to_bytes(width, "little")) if type(lane) is int else lane.bytes


def narrowed(number: Number, width: int) -> Number:
    """A number that a register of so many bytes holds."""
    if width == 4 and not within(number, 0, 0xFFFFFFFF):
        raise UndecidedError(f"{number} may not fit 32 bits")
    return number


def whole(slots: Any) -> Number:
    """The number whose bytes they are."""
    number: Number = slots[0][0]
    if list(slots) != number.bytes:
        raise ProofError(f"part of the number {number} is read")
    return number


def _shifted_number(held: Number, register: X) -> Any:
    return held << register.by if register.shift == "lsl" else held >> register.by


class Measured(NamedTuple):
    """Two numbers that were compared, one of which depends on the shape: what a condition says of all shapes."""

    a: Any
    b: Any
    #: They were added, b turned over: there is no carry to speak of.
    added: bool = False


class Compared(NamedTuple):
    """Two floats that were compared: flags that depend on data."""

    a: Any
    b: Any


class State:
    """Registers, flags and memory, before and while an entry runs."""

    def __init__(self, memory: Memory, stack: int = STACK) -> None:
        self.memory = memory
        self.x: list[Any] = [terms.signed_input("x", 8, i).bytes for i in range(31)]
        self.v: list[tuple[int, list[Any]]] = [
            (8, [terms.signed_input("v", 8, i, half) for half in range(2)]) for i in range(32)
        ]
        self.sp = memory.region("sp").takes(stack, -stack).address
        self.x[30] = RETURN
        self.flags: tuple[bool, bool, bool, bool] | Compared | Measured | None = None
        #: What conditions on data are taken to say, one after the other, and those that were asked for: only where a claim says so.
        self.choices: list[bool] = []
        self.decided: list[tuple[str, Any, Any]] = []
        #: What is done where an entry calls what an address in a register says: only where a claim says so.
        self.called: Callable[[State, Any], None] | None = None
        self.pc = 0
        self.steps = 0
        #: The addresses of the instructions that were taken.
        self.seen: set[int] = set()
        # x18 belongs to the platform, which may look at it at any time.
        self._kept = [(f"x{i}", self.x[i]) for i in range(18, 30)], [(f"d{i}", self.v[i][1][0]) for i in range(8, 16)]

    def copy(self) -> State:
        """A copy that goes its own way; what was taken is noted in both."""
        new = State.__new__(State)
        new.__dict__.update(self.__dict__, x=list(self.x), v=list(self.v), memory=self.memory.copy())
        return new

    # General registers.

    def get(self, register: X) -> Any:
        """A general register as a number, or the list of slots that it holds."""
        if register.number == ZERO:
            return 0
        held = self.sp if register.number == SP else self.x[register.number]
        if type(held) is int:
            if register.width == 4:
                held &= 0xFFFFFFFF
            if register.shift:
                held = _shifted(held, register)
            return held
        if type(held) is Number:
            held = narrowed(held, register.width)
            return _shifted_number(held, register) if register.shift else held
        if register.shift:
            raise ProofError(f"x{register.number}, which depends on data, is shifted")
        return held[: register.width] if register.width == 4 else held

    def number(self, register: X | int) -> Any:
        """The same where only a number will do."""
        if type(register) is int:
            return register
        held = self.get(register)
        if type(held) is not int and type(held) is not Number:
            raise ProofError(f"a number is asked of x{register.number}, which depends on data")
        return held

    def number_of(self, number: int) -> Any:
        """What a general register holds, which is no data."""
        return self.number(X(number, 8))

    def set(self, register: X, held: Any) -> None:
        """Write a general register; the upper half of a narrow one is cleared."""
        if type(held) is int:
            held &= MASK if register.width == 8 else 0xFFFFFFFF
        elif type(held) is Number:
            held = narrowed(held, register.width)
        elif type(held[0]) is tuple and type(held[0][0]) is Number:
            held = whole(held)
        else:
            held = [*held, *[0] * (8 - len(held))]
            if all(type(slot) is int for slot in held):
                held = int.from_bytes(bytes(held), "little")
        if register.number == SP:
            self.sp = held
        elif register.number != ZERO:
            self.x[register.number] = held

    # Vector registers.

    def slots(self, number: int) -> list[Any]:
        """The sixteen bytes of a vector register."""
        size, lanes = self.v[number]
        if size == 1:
            return lanes
        return [slot for lane in lanes for slot in spread(lane, size)]

    def lanes(self, register: V) -> list[Any]:
        """The lanes of a vector register as an operand names them; the one lane where it names one."""
        size, held = self.v[register.number]
        if size != register.size or size == 1:
            slots = self.slots(register.number)
            if register.lane is not None:
                at = register.lane * register.size
                return [value(slots[at : at + register.size])]
            end = register.size * register.count
            if register.size == 1:
                return [value((slot,)) if type(slot) is tuple else slot for slot in slots[:end]]
            return [value(slots[at : at + register.size]) for at in range(0, end, register.size)]
        return held[: register.count] if register.lane is None else [held[register.lane]]

    def put(self, register: V, lanes: list[Any]) -> None:
        """Write the lanes of a vector register; what lies above them is cleared."""
        rest = 16 // register.size - len(lanes)
        self.v[register.number] = register.size, [*lanes, *[0] * rest] if rest else lanes

    def put_slots(self, number: int, slots: Any) -> None:
        """Write a vector register from its lowest byte; what lies above is cleared."""
        self.v[number] = 1, [*slots, *[0] * (16 - len(slots))]

    def put_lane(self, register: V, slots: Any) -> None:
        """Write one lane of a vector register and leave the others."""
        held = list(self.slots(register.number))
        at = register.lane * register.size
        held[at : at + register.size] = slots
        self.v[register.number] = 1, held

    # The end.

    def check_return(self, stack_pointer: int) -> None:
        """Fail where a register that the calling convention keeps is not as it was."""
        if self.sp != stack_pointer:
            raise ProofError("sp is not given back as it was")
        for register, before in self._kept[0]:
            after = self.x[int(register[1:])]
            if type(after) is int or list(after) != list(before):
                raise ProofError(f"{register} is not given back as it was")
        for register, before in self._kept[1]:
            if value(self.slots(int(register[1:]))[:8]) is not before:
                raise ProofError(f"{register} is not given back as it was")


def _shifted(held: int, register: X) -> int:
    bits = 8 * register.width
    if register.shift == "lsl":
        return (held << register.by) & ((1 << bits) - 1)
    if register.shift == "asr":
        signed = held - (1 << bits) if held >> (bits - 1) else held
        return (signed >> register.by) & ((1 << bits) - 1)
    return held >> register.by
