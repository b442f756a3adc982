"""The steps of a trial, one after the other. Each says what it found, or why it could not run here; none stops the others but by what they need."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulation import layout
from icount import tables
from icount.measure import CannotCountError
from lab import contract, counted, model, room
from lab.contract import ContractError, Found

import build
from pyint8dot.engine import cpu, kernels
from pyint8dot.engine.kernels import Kernel

PASSED, FAILED, LEFT_OUT = "passed", "FAILED", "not run"

#: What the suite has to say of a kernel: the rules of sources and of built files, on any host, and calls on a processor that runs them.
RULES = ("test_asm_source.py", "test_elf.py")
CALLS = ("test_abi.py", "test_kernels.py", "test_narrow.py")
#: Seconds that the suite may take with a kernel; a loop without an end takes them all.
PATIENCE = 600
#: Products of at most so many multiply-accumulates are small enough for the prover to count.
WALKED = 4096
#: Failed tests that are shown with what they said.
MOST_TESTS = 4
#: Mutants that the prover is tried on.
MUTANTS = 24
#: What is called without being watched has to have been called with it.
NEEDS = dict.fromkeys(("instructions", "call cycles"), ("contract", "assembler", "calls"))
TARGET = "linux-aarch64"


class NotHereError(Exception):
    """A step cannot run on this machine; the message is one line that says why."""


class FailedError(Exception):
    """A step found the kernel wanting; the message is one line, the lines are the details."""

    def __init__(self, said: str, *lines: str) -> None:
        super().__init__(said)
        self.lines = list(lines)


@dataclass
class Step:
    """What a step found: its verdict, how long it took, what it says in a line, and in more."""

    name: str
    verdict: str
    seconds: float
    said: str
    lines: list[str] = field(default_factory=list)


@dataclass
class Trial:
    """A kernel on trial, and what is known of it so far."""

    path: Path
    folder: Path
    full: bool = True
    steps: list[Step] = field(default_factory=list)
    found: Found | None = None
    row: Kernel | None = None
    #: Of `proofs.prove`, where it ran.
    outcome: Any = None
    counts: counted.Counts | None = None
    #: By kernel, what the model of cores has of its main loop and of whole calls.
    loops: dict[str, list[model.Loop]] = field(default_factory=dict)
    cycles: dict[str, list[model.Whole]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.path.stem

    @property
    def failed(self) -> list[Step]:
        """The steps that found something wrong."""
        return [step for step in self.steps if step.verdict == FAILED]

    @property
    def elf(self) -> Path:
        """The library of this kernel and nothing else."""
        return build.path_of(room.alone(self.folder, self.name), TARGET)


def run(trial: Trial, steps: dict[str, Callable[[Trial], tuple[str, list[str]]]]) -> Iterator[Step]:
    """Carry out steps; one that fails ends those that need what it makes."""
    for name, step in steps.items():
        start = time.monotonic()
        needs = NEEDS.get(name, ("contract", "assembler"))
        if broken := next((done for done in trial.failed if done.name in needs), None):
            found = Step(name, LEFT_OUT, 0, f"the step {broken.name} failed")
        else:
            try:
                said, lines = step(trial)
                found = Step(name, PASSED, 0, said, lines)
            except NotHereError as error:
                found = Step(name, LEFT_OUT, 0, str(error))
            except FailedError as error:
                found = Step(name, FAILED, 0, str(error), error.lines)
        found.seconds = time.monotonic() - start
        trial.steps.append(found)
        yield found


def read(trial: Trial) -> tuple[str, list[str]]:
    """The contract parses, and a row follows from it, which is that of the table where it has one."""
    try:
        trial.found = contract.read(trial.path)
    except ContractError as error:
        raise FailedError(str(error)) from None
    if differing := contract.differences(trial.found.row):
        raise FailedError("the contract and the row of the table disagree", *differing)
    room.furnish(trial.found, trial.folder)
    trial.row = room.settle(trial.found, trial.folder)
    row = trial.row
    left = row.left.name if row.packs_left else "rows as they lie"
    said = f"{row.mr} x {row.nr}, {left} by {row.right.name}, {', '.join(sorted(row.features))}"
    return said, contract.proposed(trial.found).splitlines()


def assemble(trial: Trial) -> tuple[str, list[str]]:
    """The file assembles by itself; what needs all entries builds them."""
    single = built(trial, room.alone(trial.folder, trial.name))
    return f"{single.stat().st_size} bytes with its notes", []


def built(trial: Trial, product: build.Library) -> Path:
    """A library with the kernel in it, brought up to date."""
    found, _ = known(trial)
    try:
        path = build.build(product, TARGET)
    except build.BuildError as error:
        # What the assembler says is about the author's file, not about the copy.
        text = str(error)
        for copy in (trial.folder / "alone" / found.path.name, trial.folder / found.path.name):
            text = text.replace(build.shown(copy), str(found.path))
        errors = [line for line in text.splitlines() if "rror" in line and found.path.name in line]
        raise FailedError(errors[0].strip() if errors else "it does not assemble", *text.splitlines()) from None
    if path is None:
        raise NotHereError(build.no_toolchain(TARGET))
    return path


def rules(trial: Trial) -> tuple[str, list[str]]:
    """The suite's rules of sources, contracts, symbols and instructions."""
    for package in ("capstone", "elftools"):
        if importlib.util.find_spec(package) is None:
            raise NotHereError(f"built files are read with {package}: pip install '.[test]'")
    built(trial, build.PRODUCT)
    return suite(trial, RULES, Path(sys.executable))


def watched(trial: Trial) -> tuple[str, list[str]]:
    """The checker catches every saboteur; then the kernel is called with its registers, guard pages and canaries watched."""
    python, more = processor(trial)
    built(trial, build.PRODUCT)
    build.build(build.TESTS, build.host_target() or TARGET)
    return suite(trial, CALLS, python, **more)


def processor(trial: Trial) -> tuple[Path, dict[str, str]]:
    """The Python that runs the kernel, and what its environment has."""
    _, row = known(trial)
    if layout.kind() == "emulated" and layout.PYTHON.exists():
        return layout.PYTHON, {"QEMU_CPU": next(each.cpu for each in layout.MODELS if row.features <= each.features)}
    if layout.kind() == "native" and row.features <= cpu.features():
        return Path(sys.executable), {}
    if layout.kind() == "native":
        raise NotHereError(f"this processor lacks {', '.join(sorted(row.features - cpu.features()))}")
    raise NotHereError("there is no AArch64 Python: `make setup` leaves one on x86-64 Debian")


def suite(trial: Trial, files: tuple[str, ...], python: Path, **more: str) -> tuple[str, list[str]]:
    """Run tests of the suite that are about the kernel, in a new interpreter whose tables know it."""
    found, _ = known(trial)
    with tempfile.TemporaryDirectory() as scratch:
        record = Path(scratch, "record.json")
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "lab.plugin"]
        said = finished(
            [*command, *(f"tests/{file}" for file in files)],
            room.environment(trial.folder, found, LAB_RECORD=str(record), **more),
        )
        outcomes = json.loads(record.read_text()) if record.exists() else {}
    if not outcomes:
        raise FailedError("the suite did not run", *said.splitlines()[-30:])
    wrong = {test: each["text"] for test, each in outcomes.items() if each["outcome"] == "failed"}
    if wrong:
        lines = [line for test, text in list(wrong.items())[:MOST_TESTS] for line in (test, *reasons(text))]
        lines += [f"... and {len(wrong) - MOST_TESTS} more"] * (len(wrong) > MOST_TESTS)
        raise FailedError(f"{len(wrong)} of {len(outcomes)} tests failed", *lines)
    passed = [test for test, each in outcomes.items() if each["outcome"] == "passed"]
    # The checker's own tests say nothing of the kernel.
    about = sum(trial.name in test for test in passed)
    if not about:
        skipped = next((each["text"] for each in outcomes.values() if each["outcome"] == "skipped"), "")
        raise NotHereError(f"no test of the suite about it ran here {skipped}".strip())
    return f"{len(passed)} tests, {about} of them about this kernel", []


def finished(command: list[str], environment: dict[str, str]) -> str:
    """Run a program to its end and return what it printed; one that does not end is stopped with all that it has started."""
    process = subprocess.Popen(
        command, cwd=layout.CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise FailedError(f"the suite did not end within {PATIENCE} s: does the kernel return?") from None
    return said


def reasons(text: str) -> list[str]:
    """What a failed test said, without the code around it and the way through it."""
    said = [line.removeprefix("E").strip() for line in text.splitlines() if line.startswith("E ")]
    # A child's error has its traceback in it, and ends with what it is.
    traced = next((i for i, line in enumerate(said) if line.startswith("Traceback")), len(said))
    ends = [i for i, line in enumerate(said) if i > traced and re.match(r"\w*(Error|Exception)\b", line)]
    found = [*said[:traced], *(said[ends[-1] :] if ends else [])]
    return [f"    {line}" for line in found if line and not line.startswith(("assert ", "Use -v"))][:8]


def prove(trial: Trial) -> tuple[str, list[str]]:
    """Every element of C is the contract's polynomial, for all values of the operands, at every shape."""
    proofs = prover()
    _, row = known(trial)
    try:
        proven = proofs.entry_of(trial.elf, row)
    except ValueError as error:
        raise FailedError(f"the prover cannot read an instruction: {error}") from None
    trial.outcome = outcome = proofs.prove(proven, full=trial.full)
    if outcome.wrong:
        first = proofs.smallest(outcome.wrong)
        raise FailedError(
            f"{first.what} at m={first.shape.m}, n={first.shape.n}, k={first.shape.k}", *report(first, outcome.wrong)
        )
    if outcome.untaken:
        raise FailedError(f"{len(outcome.untaken)} instructions are taken at no shape", *outcome.untaken)
    sizes = f"these sizes only ({outcome.unfollowed})" if outcome.unfollowed else "and any size by induction"
    said = f"{outcome.proof.shapes} shapes, {sizes}; every instruction taken, {outcome.proof.instructions} in all"
    return said, [f"no induction: {outcome.unfollowed}"] if outcome.unfollowed else []


def report(first: Any, wrong: list[Any]) -> list[str]:
    """Where a kernel is wrong, in lines."""
    lines = [f"kernel   {first.kernel}", f"shape    {first.shape}"]
    if first.element:
        lines += [
            f"element  C[{first.element[0]}][{first.element[1]}]",
            f"lane     {first.lane}",
            f"found    {first.found}",
            f"wanted   {first.want}",
            f"too much {first.surplus}",
            f"missing  {first.missing}",
        ]
    return [*lines, f"{len(wrong)} shapes found wrong so far"]


def mutate(trial: Trial) -> tuple[str, list[str]]:
    """Mutants of the kernel are refused, so that the proof means something for it."""
    proofs = prover()
    _, row = known(trial)
    if trial.outcome is None or trial.outcome.wrong:
        raise NotHereError("only mutants of a proven kernel say anything")
    tried, alike = proofs.survivors(proofs.entry_of(trial.elf, row), trial.outcome.proof, MUTANTS, full=trial.full)
    lines = [f"meets every claim all the same: +{each.at:#x} {each.was} -> {each.now}" for each in alike]
    # Two or three of a hundred are as good as the kernel, as where a pointer is moved on that nobody reads again.
    if len(alike) > tried // 4:
        raise FailedError(f"{len(alike)} of {tried} mutants are not refused", *lines)
    return f"{tried - len(alike)} of {tried} refused", lines


def prover() -> Any:
    """The prover, where what it reads built files with is there."""
    try:
        from lab import proofs
    except ImportError as error:
        raise NotHereError(f"the prover needs {error.name}: pip install '.[test]'") from None
    return proofs


def count(trial: Trial) -> tuple[str, list[str]]:
    """Instructions over the shapes of the README, of the entry itself and of whole calls, beside the table's kernels."""
    found, row = known(trial)
    goldens = json.loads(tables.GOLDENS.read_text())
    built(trial, build.PRODUCT)
    try:
        trial.counts = counted.counted(found, row, trial.folder, goldens)
    except CannotCountError as error:
        raise NotHereError(str(error)) from None
    exactly(trial)
    own = trial.counts.entries[row.name]
    best = min(own, key=lambda shape: own[shape])
    said = f"{own[best]:.4f} a multiply-accumulate at best, at {tables.name_of(best)}"
    if row.name not in trial.counts.whole:
        return f"{said}; whole calls wait for {waits(found)}", []
    return said, []


def exactly(trial: Trial) -> None:
    """Take the smallest products from the prover's walk: the emulator counts what calls them as well, to some twenty instructions."""
    _, row = known(trial)
    if trial.outcome is None or trial.outcome.wrong or trial.counts is None:
        return
    table = {each.name: each for each in (row, *counted.rivals(row))}
    for name, values in trial.counts.entries.items():
        walked = prover().entry_of(built(trial, build.PRODUCT), table[name])
        for shape in values:
            if math.prod(shape) <= WALKED:
                values[shape] = prover().steps(walked, *shape) / math.prod(shape)


def waits(found: Found) -> str:
    """What is missing before whole calls can be made on a kernel."""
    if found.unmade:
        return f"a packer of {' and of '.join(panel.name for panel in found.unmade)}"
    return "a kernel that hands products of few columns to it"


def cycle(trial: Trial) -> tuple[str, list[str]]:
    """Modelled cycles of the main loop on each core, beside the table's kernels."""
    _, row = known(trial)
    against = counted.rivals(row)
    try:
        path = built(trial, build.PRODUCT)
        trial.loops = {each.name: model.loops(path, each) for each in (row, *against)}
    except model.CannotModelError as error:
        raise NotHereError(str(error)) from None
    best = max(trial.loops[row.name], key=lambda loop: loop.rate)
    return f"{best.rate:.1f} of {best.limit:.3g} multiply-accumulates a cycle on {best.core}", []


def call(trial: Trial) -> tuple[str, list[str]]:
    """Modelled cycles of whole calls, or of the entry alone where none can be made yet."""
    built(trial, build.PRODUCT)
    found, row = known(trial)
    form = counted.ALONE if waiting(found, row) else counted.WHOLE
    # One of them: the models take their time over a call.
    against = [
        each
        for each in counted.rivals(row)
        if not each.cores and (form == counted.ALONE or each.name in kernels.KERNELS)
    ][:1]
    cpu = counted.cpu(row, against)
    try:
        trial.cycles = {each.name: model.whole(trial.folder, trial.name, each, form, cpu) for each in (row, *against)}
    except model.CannotModelError as error:
        raise NotHereError(str(error)) from None
    least = min(trial.cycles[row.name], key=lambda each: each.cycles)
    what = "the entry alone" if form == counted.ALONE else form
    return f"{what} of {tables.name_of(model.SHAPE)} takes {least.cycles:,.0f} cycles on {least.core}", []


def waiting(found: Found, row: Kernel) -> bool:
    """Whether whole calls cannot be made on a kernel yet."""
    return bool(found.unmade) or row.name not in kernels.KERNELS


def known(trial: Trial) -> tuple[Found, Kernel]:
    """What the first step has found."""
    assert trial.found is not None
    assert trial.row is not None
    return trial.found, trial.row


#: The steps by name, in their order.
STEPS: dict[str, Callable[[Trial], tuple[str, list[str]]]] = {
    "contract": read,
    "assembler": assemble,
    "rules": rules,
    "proof": prove,
    "mutants": mutate,
    "calls": watched,
    "instructions": count,
    "cycles": cycle,
    "call cycles": call,
}
