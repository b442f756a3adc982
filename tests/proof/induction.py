"""The walk over an entry for operands of any size: each loop whose turns depend on a size is proven once, as a step.

Where a branch depends on a parameter the walk stands at the end of a loop's turn. What the state is when it comes by for the t-th time
is guessed from the first two times: general registers and addresses move by as much each time, or are what they were; vector registers
hold what they did, or bytes that lie as much further on, or something that is not known. Then one turn is taken from that state, t being a
parameter, and has to end in the same one at t + 1; what it added to a register that was not known is what every turn adds. Behind the
loop registers have moved by all turns, and hold a sum over them: a term of its own, by what is added and how often.

Guesses are only looked at through the step that proves them. A register that the step does not bear out is taken as not known, where
anything that is made of it is no term that a claim could name; a lane of 8 or 16 bits that is added up over turns is thus one that may leave its
range as soon as it is read, unless each turn empties it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proof import numbers
from proof.arrays import Plane
from proof.guess import Guess
from proof.image import Entry
from proof.machine import RETURN, Measured, State
from proof.model import MOST_STEPS, compiled, placed
from proof.numbers import UndecidedError
from proof.terms import ProofError

#: What holds where a condition does not.
OTHERWISE = {"hs": "lo", "hi": "ls", "eq": "ne", "ge": "lt", "gt": "le"}
OTHERWISE |= {other: one for one, other in OTHERWISE.items()}


def run(entry: Entry, state: State, argument: int) -> None:
    """Walk over an entry from its first instruction to its return, for every value of the parameters."""
    stack_pointer = state.sp
    state.x[0] = argument
    state.pc = entry.address
    Walk(entry).go(state, ())
    state.check_return(stack_pointer)


class Walk:
    """The walk over one entry."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.code = compiled(entry)
        self.steps = 0

    def go(self, s: State, stops: Iterable[int], begin: bool = True) -> None:
        """Walk on until the entry returns or comes by one of some places; `begin` says whether at the first instruction too."""
        ends: dict[int, State] = {}
        while s.pc != RETURN and not (begin and s.pc in stops):
            begin = True
            pc = s.pc
            if self.goes_back(pc) and isinstance(s.flags, Measured):
                ends[pc] = s.copy()
            try:
                self.step(s, pc)
            except UndecidedError:
                s.pc = pc
                self.cut(s, ends, tuple(stops))
        s.steps = self.steps

    def goes_back(self, pc: int) -> bool:
        """Whether an instruction is the branch at the end of a loop."""
        _, operands, instruction = self.code.get(pc, (None, (), None))
        return instruction is not None and instruction.mnemonic.startswith("b.") and operands[-1] <= pc

    def cut(self, s: State, ends: dict[int, State], stops: tuple[int, ...]) -> None:
        """Where a branch depends on a parameter, take all turns of a loop: the one it ends, or one around it that has come by its end."""
        at = s.pc
        if at in stops:
            raise UndecidedError(
                f"{self.entry.name} + {at - self.entry.address:#x}: whether another turn follows is not known"
            )
        around = [end for end in ends if end > at >= self.code[end][1][-1]]
        if self.goes_back(at) or not around:
            try:
                return self.loop(s, stops)
            except UndecidedError:
                if not around:
                    raise
        s.__dict__.update(ends.pop(min(around)).__dict__)
        return self.loop(s, stops)

    def step_seen(self, s: State, pc: int) -> None:
        """Count an instruction as taken."""
        s.seen.add(pc)
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise ProofError(f"{self.entry.name} takes more than {MOST_STEPS} instructions")

    def step(self, s: State, pc: int) -> None:
        """Take one instruction."""
        if pc not in self.code:
            raise ProofError(f"{self.entry.name} leaves its code for {pc:#x}")
        execute, operands, instruction = self.code[pc]
        s.pc = pc + 4
        self.step_seen(s, pc)
        try:
            execute(s, *operands)
        except (AttributeError, TypeError) as error:
            raise placed(
                ProofError(f"the model does not do this with sizes: {error}"), self.entry, instruction
            ) from error
        except ProofError as error:
            raise placed(error, self.entry, instruction) from None

    def loop(self, s: State, stops: tuple[int, ...]) -> None:
        """Take all turns of the loop that a branch is the end of a turn of, and leave the state as it is then."""
        at = s.pc
        _, operands, instruction = self.code[at]
        mnemonic = instruction.mnemonic
        if not (mnemonic.startswith("b.") or mnemonic in ("cbz", "cbnz")):
            raise UndecidedError(
                f"{self.entry.name} + {at - self.entry.address:#x}, {instruction.text}: depends on the shape"
            )
        goes_back = operands[-1] <= at
        first = s.copy()
        quantity = measure(s, mnemonic, operands)
        if isinstance(quantity, int):
            raise UndecidedError(f"{self.entry.name} + {at - self.entry.address:#x}: sizes may be below zero")
        # One turn more, where there are enough of them.
        second = s.copy()
        second.pc = operands[-1] if goes_back else at + 4
        # What a guess takes is not what is proven to be taken.
        second.seen = set()
        why = f"{self.entry.name} + {at - self.entry.address:#x}: what it does depends on the shape: {quantity}"
        try:
            with numbers.at_least(dict.fromkeys(quantity.names, 4)):
                self.go(second, (at, *stops))
        except ProofError as error:
            raise UndecidedError(f"{why}; then {error}") from None
        if second.pc != at:
            raise UndecidedError(why)
        turns = turns_of(mnemonic, goes_back, quantity, measure(second, mnemonic, operands))
        try:
            found = self.induct(at, first, second, turns, stops)
        except UndecidedError:
            # The last turn is not like the others.
            found = self.induct(at, first, second, turns - 1, stops)
        s.__dict__.update(found.__dict__)

    def induct(self, at: int, first: State, second: State, turns: Any, stops: tuple[int, ...]) -> State:
        """Prove the step of a loop of so many turns, and return the state behind them."""
        if (least := numbers.least(turns)) is None or least < 0:
            raise UndecidedError(f"{turns} turns may be fewer than none")
        t = numbers.parameter("t", 0, turns - 1)
        name = next(iter(t.names))
        guess = Guess(first, second)
        while True:
            before = guess.state(first, t)
            after = before.copy()
            after.pc = at
            with numbers.at_least(enough(turns)):
                self.go(after, (at, *stops), begin=False)
            if after.pc != at:
                raise UndecidedError(
                    f"{self.entry.name} + {at - self.entry.address:#x}: a turn does not end where it began"
                )
            if not guess.refuted(before, after, t):
                break
        behind = guess.state(first, turns, sums=guess.sums(before, after, first, name, turns))
        for number, region in after.memory.regions.items():
            if isinstance(region, Plane):
                behind.memory.regions[number] = region.folded(first.memory.regions[number], name, turns)
        # The branch itself, which has to say that no turn is left, or that the last one follows.
        self.step(behind, at)
        return behind


def measure(s: State, mnemonic: str, operands: Any) -> Any:
    """What a branch looks at, as a number that is compared with zero."""
    if mnemonic in ("cbz", "cbnz"):
        return s.number(operands[0])
    if not isinstance(s.flags, Measured):
        raise UndecidedError("a branch looks at something else than sizes")
    return s.flags.a - s.flags.b


def turns_of(mnemonic: str, goes_back: bool, first: Any, second: Any) -> Any:
    """How often a loop comes by with a turn before it, by what its branch looks at the first two times; the step has to bear it out."""
    by = second - first
    if not isinstance(by, int) or not by:
        raise UndecidedError(f"what ends a loop is {first}, then {second}")
    condition = {"cbz": "eq", "cbnz": "ne", "b.pl": "ge", "b.mi": "lt"}.get(mnemonic, mnemonic[2:])
    if not goes_back:
        condition = OTHERWISE.get(condition, condition)
    # Above zero it goes on, if it comes down.
    if by > 0:
        first, by = -first, -by
        condition = {"lo": "hi", "lt": "gt", "ls": "hs", "le": "ge", "ne": "ne"}.get(condition, "above zero")
    if condition == "ne":
        return first // -by
    if condition in ("hs", "ge"):
        return first // -by + 1
    if condition in ("hi", "gt"):
        return (first - 1) // -by + 1
    raise UndecidedError(f"a loop goes on while a number that sinks is {condition}")


def enough(turns: Any) -> dict[str, int]:
    """What a parameter has to be for there to be a turn at all."""
    if isinstance(turns, int) or len(turns.terms) != 1:
        return {}
    ((names, factor),) = turns.terms.items()
    return {names[0]: -((turns.const - 1) // factor)} if len(names) == 1 and factor > 0 else {}
