"""Mutants of entries, which the prover has to refuse: one instruction of each is another one, made by changing a field of its word."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from proof import model, prover
from proof.alike import ALIKE
from proof.claims import CLAIMS
from proof.image import Entry, Instruction, decode, decoder
from proof.operands import Memory, V, X, operands
from proof.terms import ProofError

NOP = 0xD503201F


class Mutant(NamedTuple):
    """An entry with one instruction changed: how, where, and what stands there now."""

    kind: str
    at: int
    was: str
    now: str
    entry: Entry


def fields(instruction: Instruction) -> Iterator[tuple[str, int]]:
    """What may be changed of an instruction: a name for it, and the bits of the word to turn over."""
    mnemonic, found = instruction.mnemonic, instruction.operands
    memory = [operand for operand in found if isinstance(operand, Memory)]
    vectors = [operand for operand in found if isinstance(operand, V)]
    if mnemonic in ("bti", "ret"):
        return
    yield "missing", 0
    if mnemonic in ("sdot", "smlal", "smlal2", "fmul", "fmla") and any(operand.lane is not None for operand in vectors):
        yield "lane", 1 << 21
        yield "lane", 1 << 11
    if mnemonic in ("mov", "st1", "ld1") and any(operand.lane is not None for operand in vectors):
        yield "lane", 1 << 12
        yield "lane", 1 << 30
    if mnemonic in ("ldp", "stp"):
        yield "offset", 1 << 15
    if mnemonic in ("ldr", "str", "ldrb", "strb") and memory and memory[0].index is None:
        yield "offset", 1 << 12
    if mnemonic in ("add", "sub", "adds", "subs", "cmp") and isinstance(found[-1], int):
        yield "counter", 1 << 10
    if mnemonic in ("lsr", "lsl", "asr", "ubfx") and isinstance(found[-1], int):
        yield "counter", 1 << 16
    if mnemonic == "lsr" and isinstance(found[-1], int):
        # Nine bits or more of a count of turns: right where turns are few.
        yield "counter", 0b110000 << 10
    if mnemonic in ("movi", "mov") and isinstance(found[-1], int):
        yield "start value", 1 << 5
    if mnemonic == "ext":
        yield "lane", 1 << 11
    if mnemonic in ("tbz", "tbnz"):
        yield "branch", 1 << 19
        yield "branch", 1 << 24
    if mnemonic in ("cbz", "cbnz"):
        yield "branch", 1 << 24
    if mnemonic.startswith("b."):
        yield "branch", 1
    registers = [operand for operand in found if isinstance(operand, (V, X))]
    if registers and mnemonic not in ("cbz", "cbnz", "tbz", "tbnz", "cmp", "tst", "cmn"):
        yield "register", 1
    if len(registers) > 1 or memory:
        yield "register", 1 << 5
    if len(registers) > 2 and not memory:
        yield "register", 1 << 16


def mutants(entry: Entry) -> list[Mutant]:
    """Every mutant of an entry whose changed word is an instruction that the entries have, if another one."""
    found = []
    for instruction in decode(entry):
        at = instruction.address - entry.address
        word = int.from_bytes(entry.code[at : at + 4], "little")
        for kind, bits in fields(instruction):
            changed = (word ^ bits if bits else NOP).to_bytes(4, "little")
            text = [
                f"{mnemonic} {rest}" for _, _, mnemonic, rest in decoder().disasm_lite(changed, instruction.address)
            ]
            was = f"{instruction.mnemonic} {instruction.text}"
            if text and text[0] != was and _modelled(text[0]):
                code = entry.code[:at] + changed + entry.code[at + 4 :]
                found.append(Mutant(kind, at, was, text[0].strip(), entry._replace(code=code)))
    return found


def _modelled(text: str) -> bool:
    """Whether the model has an instruction, so that no mutant is refused for that alone."""
    mnemonic, _, rest = text.partition(" ")
    return model.function(mnemonic, operands(rest)) is not model.unknown


class Judge:
    """Tries mutants of one entry on the shapes that reach the changed instruction, the cheapest first."""

    def __init__(self, name: str, *, full: bool, proof: prover.Proof | None = None) -> None:
        self.proof = proof or prover.kept(name, full=full)
        self.every = list(CLAIMS[name].shapes(name, full=full))

    def verdict(self, mutant: Mutant) -> str:
        """Why a mutant is refused, or nothing where every shape is still as claimed."""
        return next(filter(None, (_refusal(mutant, self.every[i]) for i in self.proof.reach(mutant.at))), "")


def _refusal(mutant: Mutant, shape: Any) -> str:
    try:
        prover.shown(mutant.entry, shape)
    except ProofError as error:
        return str(error)
    return ""


def reason(mutant: Mutant) -> str:
    """Why a mutant does what the entry does, or nothing where nobody has said so."""
    return ALIKE.get(f"{mutant.entry.name} {called(mutant)}", "")


def called(mutant: Mutant) -> str:
    """A mutant in words that do not depend on what lies before its entry."""
    return f"+{mutant.at:#x} {_placeless(mutant.was)} -> {_placeless(mutant.now)}"


def _placeless(text: str) -> str:
    """An instruction without the address that it branches to, which depends on what lies before the entry."""
    mnemonic, _, rest = text.partition(" ")
    branches = mnemonic in ("b", "cbz", "cbnz", "tbz", "tbnz") or mnemonic.startswith("b.")
    return f"{mnemonic} {rest.rpartition('#')[0].rstrip(', ')}".rstrip() if branches else text


def sample(entry: Entry, count: int, seed: int) -> list[Mutant]:
    """Some mutants of an entry, of as many kinds as there are."""
    every = mutants(entry)
    random.Random(seed).shuffle(every)
    by_kind: dict[str, list[Mutant]] = {}
    for mutant in every:
        by_kind.setdefault(mutant.kind, []).append(mutant)
    turns = [list(turn) for turn in by_kind.values()]
    chosen = [turn[i] for i in range(max(map(len, turns), default=0)) for turn in turns if i < len(turn)]
    return chosen[:count]
