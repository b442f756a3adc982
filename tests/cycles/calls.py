"""Modelled cycles of whole Python calls: what a call runs, cut into stretches, each stretch by a model, weighted by how often it ran.

`measure` is what others call, with the program that makes the call::

    from cycles import calls
    from cycles.cores import CORES

    cores = {name: CORES[name] for name in ("Neoverse N2", "Neoverse V1")}
    found = calls.measure(calls.program("matmul", "128x384x1536", "smmla_8x8"), "max,sve=off,sme=off", cores)
    print(found.instructions, found.cycles["Neoverse N2"])

Any program does that makes its call between two calls of os.getppid(); it runs in the emulated Python, with this checkout and its
tests on the path.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cycles import mca, models, trace
from cycles.cores import CORES, Core

MADE = Path(__file__).resolve().parent / "made.py"


class Modelled(NamedTuple):
    """A call: the instructions that it ran, exactly, and the cycles of each core, modelled."""

    instructions: int
    cycles: dict[str, float]


def program(form: str, shape: str, kernel: str) -> list[str]:
    """Return what the emulated Python is given to make one form of `icount.calls` on a kernel, the shape as in ``8x8x8``."""
    return [str(MADE), form, shape, kernel]


def measure(arguments: list[str], cpu: str, cores: dict[str, Core] = CORES) -> Modelled:
    """Trace a call and model its cycles.

    Parameters
    ----------
    arguments : list of str
        What the emulated Python is started with: a program that makes the call between two calls of os.getppid().
    cpu : str
        The processor to emulate, as qemu calls it.
    cores : dict of str to Core
        The cores to model, of `cycles.cores.CORES`; which have what the call runs is left to the caller.

    Raises
    ------
    icount.measure.CannotCountError
        This machine cannot trace.
    cycles.mca.MissingError
        LLVM's programs are not there.
    RuntimeError
        The program failed.
    """
    ran = trace.record(arguments, cpu)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # most of it is waiting for llvm-mca
        found = list(pool.map(lambda core: _cycles(ran, core), cores.values()))
    return Modelled(ran.instructions, dict(zip(cores, found, strict=True)))


def _cycles(ran: trace.Trace, core: Core) -> float:
    """Return the cycles of a trace on a core: those of each stretch are what it adds to the one before it."""
    words = sorted({word for block in ran.blocks.values() for word in block})
    text = dict(zip(words, mca.decode(words), strict=True))
    found = trace.stretches(ran)
    past = [_code(before, ran, text) for before, _ in found]
    whole = [_code(before + stretch, ran, text) for before, stretch in found]
    times = models.straight([*past, *whole], core)
    total = 0.0
    for i, often in enumerate(found.values()):
        # The front end delivers no more than so many a cycle, whatever the model lets through.
        least = (len(whole[i]) - len(past[i])) / core.front
        total += often * max(times[len(past) + i] - times[i], least)
    return total


def _code(stretch: tuple[int, ...], ran: trace.Trace, text: dict[int, str]) -> list[str]:
    """Return the instructions of a stretch of blocks."""
    return [text[word] for block in stretch for word in ran.blocks[block]]
