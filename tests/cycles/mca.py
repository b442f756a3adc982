"""LLVM 19's disassembler and llvm-mca, its simulator of out-of-order cores: from instruction words to cycles."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from emulation import layout

#: Instructions that the simulator has no numbers for and a processor hardly notices, such as hints and landing pads.
FREE = re.compile(r"(hint|bti|pac\w+|aut\w+|xpaclri|yield|isb|dmb|dsb|svc|brk|hlt|udf|clrex|mrs|msr|dc|ic|wfe)\b")
#: A memory access that moves its base: the base afterwards, and before.
AFTER = re.compile(r"((?:ld|st)\S+ .*\[(x\d+|sp)\]), (?:#(-?\d+)|(x\d+))$")
BEFORE = re.compile(r"((?:ld|st)\S+ .*\[(x\d+|sp)), #(-?\d+)\]!$")


Regions = Sequence[Sequence[str]]


class MissingError(Exception):
    """LLVM's programs are not there; the message is one line that says what to do."""


class Time(NamedTuple):
    """What one run of a model says."""

    cycles: float
    #: Cycles that each port, by the model's name of it, is busy in one iteration.
    ports: dict[str, float]


def program(name: str) -> str:
    """Return the path of one of LLVM's programs, from the system or from what set-up fetched."""
    found = layout.tool(f"{name}-{layout.LLVM_VERSION}")
    if found is None and (layout.LLVM / "bin" / name).exists():
        return str(layout.LLVM / "bin" / name)
    if found is None:
        raise MissingError(f"no {name} of LLVM {layout.LLVM_VERSION}: on Debian `make cycles` fetches it")
    return found


def run(name: str, arguments: list[str], text: str) -> tuple[str, str]:
    """Run one of LLVM's programs on a text; return its output and its complaints."""
    command = [program(name), "-mtriple=aarch64" if name == "llvm-mca" else "-triple=aarch64", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip()[:300]}")
    return done.stdout, done.stderr


def decode(words: list[int]) -> list[str]:
    """Return instructions as LLVM writes them, "" for a word that is none."""
    text = "\n".join(" ".join(f"0x{byte:02x}" for byte in word.to_bytes(4, "little")) for word in words)
    out, complaints = run("llvm-mc", ["-disassemble", "-mattr=+all"], text + "\n")
    none = {int(line) - 1 for line in re.findall(r"<stdin>:(\d+):\d+: warning: invalid", complaints)}
    lines = (re.sub(r"\s+", " ", line).strip() for line in out.splitlines() if line.startswith("\t"))
    good = iter([line.partition("//")[0].strip() for line in lines if not line.startswith(".")])
    found = ["" if i in none else next(good) for i in range(len(words))]
    if next(good, None) is not None:
        raise RuntimeError("llvm-mc wrote more instructions than it read")
    return found


def plain(instruction: str) -> list[str]:
    """Return an instruction as the models are to see it, in one line or two.

    llvm-mca takes a call for one of 100 cycles, and its models of A57, N2 and Apple's cores give a base that some loads move on the
    latency of the load: so calls are branches, and moving the base is an addition of its own, as the cores make it.
    """
    name = instruction.partition(" ")[0]
    if not instruction or FREE.match(instruction):
        return ["nop"]
    if name in ("ret", "retaa", "retab"):
        return ["br x30"]
    if name in ("bl", "blr"):
        return [instruction.replace("bl", "b", 1)]
    if found := AFTER.fullmatch(instruction):
        access, base, number, register = found.groups()
        return [access, _added(base, number, register)]
    if found := BEFORE.fullmatch(instruction):
        access, base, number = found.groups()
        return [_added(base, number), f"{access}]"]
    return [instruction]


def _added(base: str, number: str | None, register: str | None = None) -> str:
    """Return the addition of a number or a register to a base."""
    if number is None:
        return f"add {base}, {base}, {register}"
    return f"{'sub' if number.startswith('-') else 'add'} {base}, {base}, #{number.lstrip('-')}"


def times(regions: Regions, model: str, dispatch: int, iterations: int) -> list[Time]:
    """Return the cycles that llvm-mca gives each list of instructions, run so many times in a row."""
    text = []
    for number, region in enumerate(regions):
        lines = itertools.chain.from_iterable(map(plain, region))
        text += [f"# LLVM-MCA-BEGIN r{number}", *lines, "# LLVM-MCA-END"]
    arguments = [f"-mcpu={model}", f"-dispatch={dispatch}", "-mattr=+all"]
    arguments += [f"-iterations={iterations}", "-json", "-instruction-info=false", "-skip-unsupported-instructions=any"]
    out, _ = run("llvm-mca", arguments, "\n".join([*text, ""]))
    answer = json.loads(out)
    names = answer["TargetInfo"]["Resources"]
    # A list without instructions is not answered.
    found = {region["Name"]: _time(region, names) for region in answer["CodeRegions"]}
    return [found[f"r{number}"] if region else Time(0, {}) for number, region in enumerate(regions)]


def _time(region: dict, names: list[str]) -> Time:
    """Return what llvm-mca says of one list of instructions; twins of a port have one name and a number each."""
    whole = len(region["Instructions"])
    ports = {}
    for each in region["ResourcePressureView"]["ResourcePressureInfo"]:
        if each["InstructionIndex"] == whole:
            name, _, twin = names[each["ResourceIndex"]].partition(".")
            ports[f"{name}.{ord(twin)}" if twin else name] = each["ResourceUsage"]
    return Time(region["SummaryView"]["TotalCycles"], ports)
