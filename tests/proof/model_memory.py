"""What loads, stores and moves of bytes do: none of them looks at a value."""

from __future__ import annotations

import struct

from proof.machine import spread
from proof.memory import REGION
from proof.numbers import Number
from proof.operands import SP, V, X
from proof.terms import ProofError

#: The processor refuses memory by a stack pointer that is no multiple of this.
STACK_STEP = 16


def address(s, at):
    """An address, with its register written back where the operand says so first."""
    base = s.number(at.base)
    if at.base.number == SP and base % STACK_STEP:
        raise ProofError(f"memory is reached by a stack pointer that is no multiple of {STACK_STEP}")
    if at.index is not None:
        where = base + s.number(at.index) & (1 << 64) - 1
    else:
        where = base + at.distance & (1 << 64) - 1
        if at.pre:
            s.set(at.base, where)
    # What lies there may be overwritten at any time, by a signal's handler.
    if type(where) is int and where < s.sp and where >> REGION == s.sp >> REGION:
        raise ProofError(f"memory below the stack pointer is reached, by {s.sp - where} bytes")
    return where


def after(s, at, by):
    """Move an address register on where an operand after the address says by how much."""
    if by is not None:
        s.set(at.base, s.number(at.base) + s.number(by))


def load_to(s, register, slots):
    if type(register) is X:
        s.set(register, slots)
    else:
        s.put_slots(register.number, slots)


def bytes_of(s, register):
    if type(register) is V:
        return s.slots(register.number)[: register.size]
    held = s.get(register)
    return spread(held, 8)[: register.width] if type(held) in (int, Number) else held


def width(register):
    return register.size if type(register) is V else register.width


def ldr(s, t, at, by=None):
    slots = s.memory.load(address(s, at), width(t))
    after(s, at, by)
    load_to(s, t, slots)


def ldrb(s, t, at, by=None):
    slots = s.memory.load(address(s, at), 1)
    after(s, at, by)
    s.set(t, slots)


def ldp(s, t, u, at, by=None):
    size = width(t)
    slots = s.memory.load(address(s, at), 2 * size)
    after(s, at, by)
    load_to(s, t, slots[:size])
    load_to(s, u, slots[size:])


def str_(s, t, at, by=None):
    slots = bytes_of(s, t)
    s.memory.store(address(s, at), slots)
    after(s, at, by)


def strb(s, t, at, by=None):
    slots = bytes_of(s, t)[:1]
    s.memory.store(address(s, at), slots)
    after(s, at, by)


def stp(s, t, u, at, by=None):
    slots = [*bytes_of(s, t), *bytes_of(s, u)]
    s.memory.store(address(s, at), slots)
    after(s, at, by)


def ld1(s, registers, at, by=None):
    """Whole registers one after the other, or one lane."""
    for i, register in enumerate(registers):
        if register.lane is not None:
            s.put_lane(register, s.memory.load(address(s, at), register.size))
        else:
            size = register.size * register.count
            s.put_slots(register.number, s.memory.load(address(s, at) + i * size, size))
    after(s, at, by)


def st1(s, registers, at, by=None):
    for i, register in enumerate(registers):
        held = s.slots(register.number)
        if register.lane is not None:
            s.memory.store(address(s, at), held[register.lane * register.size :][: register.size])
        else:
            size = register.size * register.count
            s.memory.store(address(s, at) + i * size, held[:size])
    after(s, at, by)


def load_apart(s, registers, at, by=None):
    """ld2 and ld4: element i goes to register i modulo their number."""
    step, size, count = len(registers), registers[0].size, registers[0].count
    slots = s.memory.load(address(s, at), step * size * count)
    after(s, at, by)
    for i, register in enumerate(registers):
        elements = [slots[(step * lane + i) * size :][:size] for lane in range(count)]
        s.put_slots(register.number, [slot for element in elements for slot in element])


def store_together(s, registers, at, by=None):
    """st2 and st4: the elements of the registers by turns."""
    size, count = registers[0].size, registers[0].count
    held = [s.slots(register.number) for register in registers]
    slots = [slot for lane in range(count) for part in held for slot in part[lane * size :][:size]]
    s.memory.store(address(s, at), slots)
    after(s, at, by)


def load_everywhere(s, registers, at, by=None):
    """ld1r, ld2r and ld4r: an element for each register, in all of its lanes."""
    size = registers[0].size
    slots = s.memory.load(address(s, at), size * len(registers))
    after(s, at, by)
    for i, register in enumerate(registers):
        s.put_slots(register.number, slots[i * size :][:size] * register.count)


# Moves of bytes between registers.


def mov(s, d, n):
    """All spellings that reach a vector register or come from one: whole registers, lanes, general registers, a float in every lane."""
    if type(n) is float:
        s.put_slots(d.number, struct.pack("<f", n) * d.count)
        return
    if type(n) is X:
        slots = bytes_of(s, n)
    elif n.lane is not None:
        slots = s.slots(n.number)[n.lane * n.size :][: n.size]
    elif type(d) is V and d.count == n.count == 16:
        s.v[d.number] = s.v[n.number]
        return
    else:
        slots = s.slots(n.number)[: n.size * n.count]
    if type(d) is X:
        s.set(d, slots)
    elif d.lane is not None:
        s.put_lane(d, slots)
    else:
        s.put_slots(d.number, slots)


def dup(s, d, n):
    slots = bytes_of(s, n)[: d.size] if type(n) is X else s.slots(n.number)[n.lane * n.size :][: n.size]
    s.put_slots(d.number, slots * d.count)


def ext(s, d, n, m, at):
    whole = d.size * d.count
    s.put_slots(d.number, [*s.slots(n.number)[:whole], *s.slots(m.number)[:whole]][at : at + whole])


def chosen(pick):
    """A permutation of the elements of two registers; `pick` has the places of the result's in both together."""

    def permute(s, d, n, m):
        size, count = d.size, d.count
        both = [*s.slots(n.number)[: size * count], *s.slots(m.number)[: size * count]]
        s.put_slots(d.number, [slot for place in pick(count) for slot in both[place * size :][:size]])

    return permute


zip1 = chosen(lambda count: [place for i in range(count // 2) for place in (i, count + i)])
zip2 = chosen(lambda count: [place for i in range(count // 2, count) for place in (i, count + i)])
uzp1 = chosen(lambda count: range(0, 2 * count, 2))
uzp2 = chosen(lambda count: range(1, 2 * count, 2))
trn1 = chosen(lambda count: [place for i in range(0, count, 2) for place in (i, count + i)])
trn2 = chosen(lambda count: [place for i in range(1, count, 2) for place in (i, count + i)])


def xtn(s, d, n):
    slots = s.slots(n.number)
    s.put_slots(d.number, [slot for i in range(d.count) for slot in slots[i * n.size :][: d.size]])


def xtn2(s, d, n):
    low, slots = s.slots(d.number)[:8], s.slots(n.number)
    s.put_slots(d.number, [*low, *(slot for i in range(n.count) for slot in slots[i * n.size :][: d.size])])


MEMORY = {
    "ldr": ldr, "ldrb": ldrb, "ldp": ldp, "str": str_, "strb": strb, "stp": stp, "ld1": ld1, "st1": st1, "ld2": load_apart,
    "ld4": load_apart, "st2": store_together, "st4": store_together, "ld1r": load_everywhere, "ld2r": load_everywhere,
    "ld4r": load_everywhere, "dup": dup, "ext": ext, "zip1": zip1, "zip2": zip2, "uzp1": uzp1, "uzp2": uzp2, "trn1": trn1,
    "trn2": trn2, "xtn": xtn, "xtn2": xtn2,
}  # fmt: skip
#: Spellings that general registers have as well.
MOVES = {"mov": mov, "fmov": mov}
