"""The model of the instructions together, and the walk over an entry with it."""

from __future__ import annotations

import functools

from proof.image import Entry, decode
from proof.machine import RETURN, State
from proof.model_float import FLOAT
from proof.model_general import GENERAL
from proof.model_integer import BOTH, INTEGER
from proof.model_memory import MEMORY, MOVES
from proof.operands import V
from proof.terms import ProofError

#: No entry takes more instructions for the shapes that are proven: one that does has lost its way.
MOST_STEPS = 100_000


def unknown(state, *operands):
    """What an instruction does that the model does not have."""
    raise ProofError("the instruction is not modelled")


#: What instructions do that are about vectors or memory; `GENERAL` has the others.
VECTOR = {**MEMORY, **INTEGER, **FLOAT, **BOTH, **MOVES}


def function(mnemonic, operands):
    """What an instruction does, by its mnemonic and by whether it is about vectors."""
    about_vectors = any(type(operand) is V for operand in operands)
    table = VECTOR if about_vectors or mnemonic not in GENERAL else GENERAL
    return table.get(mnemonic, unknown)


@functools.lru_cache(maxsize=64)
def compiled(entry: Entry):
    """An entry's instructions by address: what each does, and its operands."""
    return {
        instruction.address: (function(instruction.mnemonic, instruction.operands), instruction.operands, instruction)
        for instruction in decode(entry)
    }


def placed(error: ProofError, entry: Entry, instruction) -> ProofError:
    """An error that says at which instruction it came up."""
    if not getattr(error, "placed", False):
        error.placed = True
        at = instruction.address - entry.address
        error.args = (f"{entry.name} + {at:#x}, {instruction.mnemonic} {instruction.text}: {error}",)
    return error


def run(entry: Entry, state: State, argument: int) -> None:
    """Walk over an entry from its first instruction to its return; ProofError says where it does what it must not."""
    code = compiled(entry)
    stack_pointer = state.sp
    state.x[0] = argument
    pc = entry.address
    steps = 0
    seen = state.seen.add
    while pc != RETURN:
        try:
            execute, operands, instruction = code[pc]
        except KeyError:
            raise ProofError(f"{entry.name} leaves its code for {pc:#x}") from None
        state.pc = pc + 4
        seen(pc)
        try:
            execute(state, *operands)
        except ProofError as error:
            raise placed(error, entry, instruction) from None
        pc = state.pc
        steps += 1
        if steps > MOST_STEPS:
            raise ProofError(f"{entry.name} takes more than {MOST_STEPS} instructions")
    state.steps = steps
    state.check_return(stack_pointer)
