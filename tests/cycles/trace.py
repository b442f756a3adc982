"""What a call runs, block by block, cut into stretches that repeat."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from icount import measure

PLUGIN = Path(__file__).resolve().parent / "trace.c"
#: Instructions of a stretch: it ends with the first loop that ends after so many, or in the midst of one after so many more.
LEAST, MOST = 512, 4096


class Trace(NamedTuple):
    """Blocks of instructions, and the order in which they ran."""

    blocks: dict[int, tuple[int, ...]]
    order: np.ndarray

    @property
    def instructions(self) -> int:
        """How many instructions ran."""
        length = {number: len(block) for number, block in self.blocks.items()}
        return sum(length[block] for block in self.order.tolist())


def record(arguments: list[str], cpu: str) -> Trace:
    """Trace what the emulated Python runs between two calls of getppid(), the last two where there are more.

    Parameters
    ----------
    arguments : list of str
        What the interpreter is started with: a program and its arguments.
    cpu : str
        The processor to emulate, as qemu calls it; it must have what the program's kernel needs.

    Raises
    ------
    icount.measure.CannotCountError
        This machine cannot trace.
    RuntimeError
        The program failed, or called getppid() less than twice.
    """
    library = measure.plugin(PLUGIN)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "blocks")
        done = measure.guest(library, out, arguments, check=False, cpu=cpu)
        if done.returncode:
            raise RuntimeError(f"the traced program failed with status {done.returncode}:\n{done.stderr}")
        if not out.stat().st_size:
            raise RuntimeError("the traced program made no call between two calls of getppid()")
        lines = [line.split() for line in out.read_text().splitlines()]
        order = np.fromfile(f"{out}.trace", np.uint32)
    blocks = {int(number): tuple(int(text[i : i + 8], 16) for i in range(0, len(text), 8)) for number, text in lines}
    return Trace(blocks, order)


def stretches(trace: Trace) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return how often each stretch of blocks ran, with the stretch before it.

    Where a stretch ends depends on what ran alone, so that the tiles of a product become the same stretch again and again.
    """
    found: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
    before: tuple[int, ...] = ()
    for stretch in _cut(trace):
        found[before, stretch] += 1
        before = stretch
    return found


def _cut(trace: Trace) -> Iterator[tuple[int, ...]]:
    """Yield the stretches in the order in which they ran."""
    length = {number: len(block) for number, block in trace.blocks.items()}
    stretch: list[int] = []
    count, previous = 0, -1
    for block in trace.order.tolist():
        if (count >= LEAST and block != previous) or count >= MOST:
            yield tuple(stretch)
            stretch, count = [], 0
        stretch.append(block)
        count += length[block]
        previous = block
    if stretch:
        yield tuple(stretch)
