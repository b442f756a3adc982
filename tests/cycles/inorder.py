"""Cycles of the in-order Cortex-A53 and A55, by the rules that Arm has published of what issues beside what.

Two instructions a cycle at most, in order, each not before its operands are there. A vector operation of 128 bits takes both
vector pipes, so there is one a cycle, and one access to memory. A 128-bit load takes two cycles and nothing beside it. On A55
64-bit loads, and moves from general registers to vectors, issue beside a vector operation; on A53 scalar loads do, vector loads and moves
do not. The rules are Arm's notes in gemmlowp's benchmark of kernels; latencies are those of Arm's guides, shortened to classes.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import NamedTuple

from cycles.mca import FREE, Regions, Time

WIDTH = 2
#: Kinds of instructions that never issue in the same cycle, by core; two of a kind in `ONCE` never do.
APART: dict[str, set[frozenset[str]]] = {
    "a55": set(),
    "a53": {frozenset({"vector", "vector load"}), frozenset({"vector", "move"})},
}
ONCE = ("vector", "move", "multiply", "branch")
LATENCY = {"alu": 1, "multiply": 3, "move": 2, "load": 3}
#: Latencies of vector operations, the first that fits; accumulators of products are passed on from one to the next.
VECTOR_LATENCY = (
    (r"f?(sqrt|div)|[su]div|frsqrt", 12),
    (r"[us]*(dot|mmla|ml[as]l|mull|adalp)|f|ml[as]|mul|[su]cvtf", 4),
    (r"", 2),
)
ACCUMULATES = re.compile(r"(?:[us]*(?:dot|mmla|ml[as]l2?|adalp)|ml[as]) ")
FORWARDED = 1

REGISTER = re.compile(r"\b(?:([vqdshb])|([xw]))(\d+)\b|\bsp\b")
SETS_FLAGS = re.compile(r"(?:adds|subs|ands|bics|adcs|sbcs|cmp|cmn|tst|ccmp|ccmn|fcmpe?|fccmpe?|negs) ")
READS_FLAGS = re.compile(r"b\.|cs(?:el|etm?|inc|inv|neg) |c(?:inc|inv|neg) |ccm[pn] |adcs? |sbcs? |f?csel ")
NO_RESULT = re.compile(r"(?:cmp|cmn|tst|ccmp|ccmn|fcmpe?|fccmpe?|b|b\.\w+|br|cbn?z|tbn?z|st\S*) ")
#: Instructions that keep a part of the register they write.
KEEPS = re.compile(r"(?:bfi|bfxil|movk|ins|mov v\d+\.\w\[\d+\]|\w+n2 v)")


class Step(NamedTuple):
    """What an instruction is to the issue logic."""

    kind: str
    cycles: int  # of the memory pipe
    alone: bool
    reads: tuple[str, ...]
    accumulator: str | None
    writes: tuple[tuple[str, int], ...]


def registers(text: str) -> list[str]:
    """Return the registers that a text names, vectors as v and general ones as x."""
    return ["sp" if each[0] == "sp" else f"{'v' if each[1] else 'x'}{each[3]}" for each in REGISTER.finditer(text)]


@functools.cache
def step(instruction: str) -> Step:
    """Return what an instruction reads, writes and occupies."""
    name, _, operands = instruction.partition(" ")
    if name.startswith(("ld", "st", "prf")) and "[" in operands:
        return _memory(name, operands)
    if not instruction or FREE.match(instruction):
        return Step("alu", 0, False, (), None, ())
    named = registers(operands)
    reads, writes = named, []
    latency, accumulator = 1, None
    if re.match(r"(b|b\.\w+|br|bl|blr|ret|cbn?z|tbn?z)$", name):
        kind = "branch"
    elif any(each[0] == "v" for each in named):
        kind = "move" if named[0][0] == "v" and any(each[0] != "v" for each in named[1:]) else "vector"
        latency = next(latency for pattern, latency in VECTOR_LATENCY if re.match(pattern, name))
        latency = LATENCY["move"] if kind == "move" else latency
    else:
        kind = "multiply" if re.match(r"[us]?(m(ul|add|sub|neg)|div)", name) else "alu"
        latency = 12 if name.endswith("div") else LATENCY[kind]
    if named and not NO_RESULT.match(instruction) and kind != "branch":
        writes = [(named[0], latency)]
        reads = named if KEEPS.match(instruction) else named[1:]
        if ACCUMULATES.match(instruction):
            accumulator, reads = named[0], named[1:]
    if SETS_FLAGS.match(instruction):
        writes.append(("flags", latency))
    if READS_FLAGS.match(instruction):
        reads = [*reads, "flags"]
    return Step(kind, 0, False, tuple(reads), accumulator, tuple(writes))


def _memory(name: str, operands: str) -> Step:
    """Return what a load, a store or a prefetch is; a base that it moves is there in the next cycle."""
    value, _, address = operands.partition(", [")
    of_value, of_address, lane = registers(value), registers(address), value.endswith("]")
    moved = [(of_address[0], 1)] if "!" in address or "], " in address else []
    if name.startswith("st"):
        return Step("store", 1, False, tuple(of_value + of_address), None, tuple(moved))
    vector = bool(of_value) and of_value[0][0] == "v"
    whole = 0 if lane or re.match(r"ld\dr", name) else len(re.findall(r"\bq\d|\.(?:16b|8h|4s|2d)", value))
    cycles = 2 * whole if whole else len(of_value) if vector else 1
    writes = [(each, LATENCY["load"] + cycles - 1) for each in of_value]
    reads = of_address + (of_value if lane else [])
    return Step("vector load" if vector else "load", cycles, bool(whole), tuple(reads), None, (*writes, *moved))


def times(regions: Regions, model: str, _dispatch: None, iterations: int) -> list[Time]:
    """Return the cycles of each list of instructions, run so many times in a row, and how busy one run keeps the pipes."""
    return [_time([step(each) for each in region], model, iterations) for region in regions]


def _time(steps: list[Step], model: str, iterations: int) -> Time:
    """Issue the steps one after the other, each in the first cycle that takes it."""
    ready: dict[str, int] = {}
    passed_on: dict[str, int] = {}  # accumulators, to the next that adds to them
    now, memory = 0, 0  # this cycle, and the first in which the memory pipe is free
    beside: list[str] = []  # the kinds that issue in this cycle
    for each in itertools.chain.from_iterable(itertools.repeat(steps, iterations)):
        at = max((ready.get(register, 0) for register in each.reads), default=0)
        if each.accumulator:
            at = max(at, passed_on.get(each.accumulator, 0))
        if each.cycles:
            at = max(at, memory)
        if at > now:
            now, beside = at, []
        elif not _fits(each, beside, model):
            now, beside = now + 1, []
        beside.append(each.kind)
        for register, latency in each.writes:
            ready[register] = now + latency
            passed_on[register] = now + (FORWARDED if each.accumulator else latency)
        if each.cycles:
            memory = now + each.cycles
        if each.alone:
            now, beside = memory, []
    pipes = {
        "vector": sum(each.kind == "vector" for each in steps),
        "memory": sum(each.cycles for each in steps),
        "issue": sum(each.cycles if each.alone else 1 / WIDTH for each in steps),
    }
    return Time(now + bool(beside), pipes)


def _fits(each: Step, beside: list[str], model: str) -> bool:
    """Whether an instruction issues in the same cycle as those."""
    if len(beside) == WIDTH or (each.alone and beside):
        return False
    if each.kind in ONCE and each.kind in beside:
        return False
    return not any(frozenset({each.kind, other}) in APART[model] for other in beside)
