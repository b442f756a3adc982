"""Compares the model with the machine: each form of an instruction that entries have, on random states and corner cases.

A state is the general registers x0 to x17, the flags, all vector registers and some memory. The machine runs the instruction itself, encoded
as it stands in an entry, in a small function that loads a state, executes it and stores what it has become. The model does the same
twice: with registers that are symbols, whose terms are then evaluated, and with registers that are numbers.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from emulation import layout
from proof import terms
from proof.evaluate import Values
from proof.image import decode, decoder, entries
from proof.machine import Compared, State
from proof.memory import Memory as Bytes
from proof.model import function, unknown
from proof.operands import SP, ZERO, Memory, V, X, operands
from proof.terms import ProofError

from pyint8dot.engine import cpu

#: A state: x0 to x17, flags, v0 to v31, memory; and where in it an address register points.
GENERAL, FLAGS, VECTORS, MEMORY, SIZE = 0, 144, 160, 672, 928
MIDDLE = MEMORY + 96
#: Bytes of a function.
STUB = 512

#: What cannot be run by itself, or does nothing.
LEFT_OUT = {
    "ret": "returns; `ret` of anything but the link register is refused",
    "blr": "calls what a claim has to say more of",
    "bti": "does nothing but to be jumped at",
    "nop": "does nothing",
    "adrp": "depends on where it lies; the disassembler has the address",
}


def branches(mnemonic: str) -> bool:
    """Whether an instruction may go on somewhere else."""
    return mnemonic in ("b", "cbz", "cbnz", "tbz", "tbnz") or mnemonic.startswith("b.")


class Sample(NamedTuple):
    """An instruction to compare: its word, its mnemonic, its operands."""

    word: int
    mnemonic: str
    operands: tuple[Any, ...]
    text: str


def registers(found: Any) -> list[Any]:
    """All registers of operands, those inside lists and addresses included."""
    flat: list[Any] = []
    for operand in found:
        if isinstance(operand, list):
            flat += operand
        elif isinstance(operand, Memory):
            flat += [operand.base, *([operand.index] if operand.index else [])]
        elif isinstance(operand, (V, X)):
            flat.append(operand)
    return flat


def samples(most: int = 3) -> list[Sample]:
    """Some instructions of every form that entries have and the model has, by mnemonic and kinds of operands."""
    chosen: dict[Any, dict[int, Sample]] = {}
    for entry in entries().values():
        for at, instruction in enumerate(decode(entry)):
            word = int.from_bytes(entry.code[4 * at : 4 * at + 4], "little")
            mnemonic, found = instruction.mnemonic, instruction.operands
            if mnemonic in LEFT_OUT or function(mnemonic, found) is unknown:
                continue
            if branches(mnemonic):
                # Two instructions ahead, over one that leaves a mark.
                mask = 0x3FFFFFF if mnemonic == "b" else 0x7FFE0 if mnemonic.startswith("tb") else 0xFFFFE0
                word = word & ~mask | 2 << (0 if mnemonic == "b" else 5)
                ((_, _, mnemonic, text),) = decoder().disasm_lite(word.to_bytes(4, "little"), 0)
                found = operands(text)
            general = [register.number for register in registers(found) if isinstance(register, X)]
            memory = [operand for operand in found if isinstance(operand, Memory)]
            if any(number > 17 and number != ZERO for number in general) or SP in general:
                continue
            if memory and general.count(memory[0].base.number) > 1:
                continue
            kinds = tuple(
                (type(operand).__name__, *operand[1:]) if isinstance(operand, (V, X)) else type(operand).__name__
                for operand in [*registers(found), *found]
            )
            form = chosen.setdefault((mnemonic, kinds), {})
            if len(form) < most:
                form[word] = Sample(word, mnemonic, found, f"{mnemonic} {instruction.text}")
    return [sample for form in chosen.values() for sample in form.values()]


def stub(sample: Sample) -> bytes:
    """The function that runs an instruction on states one after the other: their address in x0, their number in x1."""
    saved = [(8, 9), (10, 11), (12, 13), (14, 15)]
    code = [0xA9B67BFC]  # stp x28, x30, [sp, #-160]!
    code += [0x6D0003E0 | (16 + 16 * i) // 8 << 15 | b << 10 | a for i, (a, b) in enumerate(saved)]
    code += [0xA90003E0 | 80 // 8 << 15 | 19 << 10 | 27]  # stp x27, x19, [sp, #80]
    code += [0xAA0003FC, 0xAA0103FB]  # mov x28, x0; mov x27, x1
    begin = len(code)
    code += [0xAD400000 | (VECTORS + 32 * i) // 16 << 15 | (2 * i + 1) << 10 | 28 << 5 | 2 * i for i in range(16)]
    code += [0xF9400000 | FLAGS // 8 << 10 | 28 << 5, 0xD51B4200]  # ldr x0, [x28, #FLAGS]; msr nzcv, x0
    code += [0xA9400000 | 16 * i // 8 << 15 | (2 * i + 1) << 10 | 28 << 5 | 2 * i for i in range(9)]
    base = next((operand.base.number for operand in sample.operands if isinstance(operand, Memory)), None)
    if base is not None:
        code.append(0x8B1C0000 | base << 5 | base)  # add base, base, x28
    code.append(sample.word)
    if branches(sample.mnemonic):
        code.append(0xD2800030)  # mov x16, #1
    if base is not None:
        code.append(0xCB1C0000 | base << 5 | base)  # sub base, base, x28
    code += [0xA9000000 | 16 * i // 8 << 15 | (2 * i + 1) << 10 | 28 << 5 | 2 * i for i in range(9)]
    code += [0xD53B4200, 0xF9000000 | FLAGS // 8 << 10 | 28 << 5]  # mrs x0, nzcv; str x0, [x28, #FLAGS]
    code += [0xAD000000 | (VECTORS + 32 * i) // 16 << 15 | (2 * i + 1) << 10 | 28 << 5 | 2 * i for i in range(16)]
    code += [
        0x91000000 | SIZE << 10 | 28 << 5 | 28,
        0xF1000000 | 1 << 10 | 27 << 5 | 27,
    ]  # add x28, x28, #SIZE; subs x27, x27, #1
    code += [0x54000001 | (begin - len(code)) % (1 << 19) << 5]  # b.ne
    code += [0xA94003E0 | 80 // 8 << 15 | 19 << 10 | 27]
    code += [0x6D4003E0 | (16 + 16 * i) // 8 << 15 | b << 10 | a for i, (a, b) in enumerate(saved)]
    code += [0xA8CA7BFC, 0xD65F03C0]  # ldp x28, x30, [sp], #160; ret
    return struct.pack(f"<{len(code)}I", *code).ljust(STUB, b"\0")


CORNERS = [0, 1, 0x7F, 0x80, 0xFF]
FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.5,
    2.5,
    -2.5,
    127.5,
    3e9,
    -3e9,
    1e-40,
    3.4e38,
    float("inf"),
    -float("inf"),
    float("nan"),
]


def state(rng: random.Random, sample: Sample) -> bytes:
    """A state to begin from: bytes of any kind, corner cases among them, floats where they are read as such."""
    data = bytearray(rng.randbytes(SIZE))
    for at in range(VECTORS, SIZE, 4):
        kind = rng.random()
        if kind < 0.3:
            data[at : at + 4] = bytes(rng.choice(CORNERS) for _ in range(4))
        elif kind < 0.5 and sample.mnemonic.startswith(("f", "s", "u")):
            data[at : at + 4] = struct.pack("<f", rng.choice([*FLOATS, rng.gauss(0, 100), rng.gauss(0, 1)]))
        elif kind < 0.6:
            data[at : at + 4] = struct.pack("<i", rng.choice([-(2**31), 2**31 - 1, rng.randrange(-300, 300)]))
    for number in range(18):
        kinds = [
            rng.randrange(40),
            rng.getrandbits(64),
            rng.choice([0, 1, 2**63, 2**63 - 1, 2**64 - 1, 2**31, 2**32 - 1]),
        ]
        struct.pack_into("<Q", data, 8 * number, rng.choice(kinds))
    for operand in sample.operands:
        if isinstance(operand, Memory):
            struct.pack_into("<Q", data, 8 * operand.base.number, MIDDLE)
            if operand.index:
                struct.pack_into("<Q", data, 8 * operand.index.number, rng.randrange(0, 8))
    if sample.mnemonic == "ushl":
        struct.pack_into("<b", data, VECTORS + 16 * sample.operands[2].number, 8 * rng.randrange(-8, 9))
    if sample.mnemonic.startswith("tb") and len(sample.operands) == 3 and isinstance(sample.operands[2], V):
        at = VECTORS + 16 * sample.operands[2].number
        data[at : at + 16] = bytes(rng.randrange(80) for _ in range(16))
    if branches(sample.mnemonic):
        struct.pack_into("<Q", data, 8 * 16, 0)
    struct.pack_into("<Q", data, FLAGS, rng.randrange(16) << 28)
    return bytes(data)


def modelled(sample: Sample, before: bytes, *, symbols: bool) -> bytes:
    """What the model makes of a state, with vectors and memory as symbols or as numbers."""
    terms.forget()
    inputs: dict[Any, int] = {}

    def symbol(name: str, width: int, at: int) -> Any:
        number = int.from_bytes(before[at : at + width], "little")
        if not symbols:
            return number
        inputs[name, (at,)] = number - (1 << 8 * width) if number >> (8 * width - 1) else number
        return terms.signed_input(name, width, at)

    memory = Bytes()
    region = memory.region("memory", at=0).takes(SIZE - MEMORY, MEMORY)
    if any(isinstance(operand, Memory) for operand in sample.operands):
        region.holds([symbol("memory", 1, at) for at in range(MEMORY, SIZE)], MEMORY)
    s = State(memory)
    s.x[:18] = struct.unpack_from("<18Q", before)
    (flags,) = struct.unpack_from("<Q", before, FLAGS)
    s.flags = tuple(bool(flags >> bit & 1) for bit in (31, 30, 29, 28))
    named = [register for register in registers(sample.operands) if isinstance(register, V)]
    for number, size in {register.number: register.size for register in reversed(named)}.items():
        width = min(size, 8)
        places = range(VECTORS + 16 * number, VECTORS + 16 * number + 16, width)
        s.v[number] = width, [symbol("v", width, at) for at in places]
    held_before = list(s.v)
    s.pc = 4
    function(sample.mnemonic, sample.operands)(s, *sample.operands)
    if s.pc == 4 and branches(sample.mnemonic):
        s.x[16] = 1
    values = Values(inputs)
    after = bytearray(before)
    for number, held in enumerate(s.x[:18]):
        word = struct.pack("<Q", held) if isinstance(held, int) else bytes(map(values.slot, held))
        after[8 * number : 8 * number + 8] = word
    flags = _compared(values, s.flags) if isinstance(s.flags, Compared) else s.flags
    struct.pack_into("<Q", after, FLAGS, sum(flag << bit for flag, bit in zip(flags, (31, 30, 29, 28), strict=True)))
    for number, (held, earlier) in enumerate(zip(s.v, held_before, strict=True)):
        if held is not earlier:
            at = VECTORS + 16 * number
            after[at : at + 16] = bytes(map(values.slot, s.slots(number)))
    if region.data:
        after[MEMORY:SIZE] = bytes(map(values.slot, region.find(SIZE - MEMORY, MEMORY)))
    return bytes(after)


def _compared(values: Values, flags: Compared) -> tuple[bool, bool, bool, bool]:
    """The flags of two floats that were compared; neither is the less where one is NaN."""
    a, b = (np.uint32(values.key(key)).view(np.float32) for key in flags)
    return bool(a < b), bool(a == b), not a < b, bool(np.isnan(a) or np.isnan(b))


def differs(sample: Sample, found: bytes, wanted: bytes) -> bool:
    """Whether two states differ; a NaN is a NaN where floats are made."""
    if found == wanted:
        return False
    if not sample.mnemonic.startswith("f") or found[:VECTORS] != wanted[:VECTORS] or found[MEMORY:] != wanted[MEMORY:]:
        return True
    a, b = (np.frombuffer(each[VECTORS:MEMORY], np.float32) for each in (found, wanted))
    return not np.all((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b)))


def on_machine(python: Path, chosen: list[Sample], begun: list[list[bytes]], model: str | None) -> list[list[bytes]]:
    """What a machine makes of states, in one process of an AArch64 Python."""
    environment = {**os.environ, **({"QEMU_CPU": model} if model else {})}
    count = len(begun[0])
    with tempfile.TemporaryDirectory() as folder:
        code, states = Path(folder, "code"), Path(folder, "states")
        code.write_bytes(b"".join(map(stub, chosen)))
        states.write_bytes(b"".join(each for some in begun for each in some))
        arguments = [code, states, count, STUB, SIZE]
        subprocess.run(
            [python, "-I", Path(__file__).with_name("machine_side.py"), *map(str, arguments)],
            check=True,
            env=environment,
        )
        data = states.read_bytes()
    ended = [data[at : at + SIZE] for at in range(0, len(data), SIZE)]
    return [ended[i * count : (i + 1) * count] for i in range(len(chosen))]


#: What a processor has to announce for an instruction.
NEEDS = {"sdot": "dotprod", "smmla": "i8mm"}


def compare(
    *, count: int, seed: int, most: int = 3, only: str | None = None, python: Path = layout.PYTHON
) -> tuple[list[Sample], list[str]]:
    """Compare every form on so many states; return the instructions that were compared, and each difference in words.

    Under emulation the processor has all that entries may ask for, on an Arm host it is the host's own.
    """
    rng = random.Random(seed)
    emulated = next(model.cpu for model in layout.MODELS if model.name == "i8mm")
    features = cpu.features() if cpu.is_aarch64() else set(NEEDS.values())
    chosen = [
        sample
        for sample in samples(most)
        if only in (None, sample.mnemonic) and NEEDS.get(sample.mnemonic) in (None, *features)
    ]
    begun = [[state(rng, sample) for _ in range(count)] for sample in chosen]
    problems = []
    for sample, before, after in zip(
        chosen, begun, on_machine(python, chosen, begun, None if cpu.is_aarch64() else emulated), strict=True
    ):
        for i, (first, last) in enumerate(zip(before, after, strict=True)):
            # As symbols for some of the states, being slower.
            for symbols in (False, True) if i < count // 8 else (False,):
                wrong = _difference(sample, first, last, symbols=symbols)
                if wrong:
                    problems.append(wrong)
    return chosen, problems


#: What the model refuses to do with symbols, since no proof needs it.
REFUSED = ("depends on data", "by data", "may lie between")


def _difference(sample: Sample, before: bytes, after: bytes, *, symbols: bool) -> str:
    try:
        wanted = modelled(sample, before, symbols=symbols)
    except ProofError as error:
        if symbols and any(why in str(error) for why in REFUSED):
            return ""
        return f"{sample.text}: {error}"
    if not differs(sample, after, wanted):
        return ""
    at = next(i for i in range(SIZE) if after[i] != wanted[i])
    return (
        f"{sample.text}, symbols {symbols}: byte {at} is {after[at]:#x} on the machine and {wanted[at]:#x} in the model"
    )
