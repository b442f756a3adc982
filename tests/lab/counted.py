"""Counts instructions of a kernel on trial: of the entry itself on operands that are packed, and of whole calls where its row can be used.

As a program (``-m lab.counted``) it makes the calls under the emulator, between markers as `icount.calls` does.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from emulation import layout
from icount import calls, measure, tables
from icount.calls import Shape
from icount.measure import CannotCountError
from lab import contract, room
from lab.contract import Found
from support import entry, rows
from support.checked import Checker
from support.program import Program, Record

from pyint8dot.engine import library
from pyint8dot.engine.kernels import Kernel

#: Instructions of the function that does nothing, which is called for comparison: a landing pad and its return.
INNOCENT = 2
#: The form of a whole call that is counted, and the name of what is none but the entry by itself.
WHOLE, ALONE = "matmul", "entry"


class Counts(NamedTuple):
    """Instructions a multiply-accumulate by kernel and shape; of the entries alone, and of whole calls."""

    entries: dict[str, dict[Shape, float]]
    whole: dict[str, dict[Shape, float]]


def rivals(row: Kernel) -> list[Kernel]:
    """The table's kernels of the features that a kernel has, which find their left operand alike; where there is none the next best ones."""
    every = [each for each in (*rows.NATIVE, *rows.FEW) if each.name != row.name and each.packs_left == row.packs_left]
    same = [each for each in every if entry.feature(each.name) in row.features]
    return same or every[:1]


def counted(
    found: Found, row: Kernel, folder: Path, goldens: dict[str, int], shapes: tuple[Shape, ...] = calls.SHAPES
) -> Counts:
    """Count a kernel and its rivals; CannotCountError says why it cannot be done here."""
    plugin = measure.plugin()
    against = rivals(row)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "counts")
        names = [row.name, *(each.name for each in against)]
        done = measure.guest(
            plugin, out, ["-m", "lab.counted", *map(tables.name_of, shapes), *names], check=False, cpu=cpu(row, against),
            **{room.FOLDER: str(folder), room.KERNEL: found.path.stem},
        )  # fmt: skip
        if done.returncode:
            raise CannotCountError(f"the counted program failed: {done.stderr.strip().rpartition(chr(10))[2]}")
        marks = [int(line) for line in out.read_text().split()]
    spans = iter([after - before for before, after in zip(marks[::2], marks[1::2], strict=True)])
    made = Counts({}, {})
    for kind, name, shape, repeats in json.loads(done.stdout):
        count = min(next(spans) for _ in range(repeats))
        if kind == "idle":
            idle = count
        else:
            counts = made.entries if kind == "entry" else made.whole
            innocent = INNOCENT if kind == "entry" else 0
            counts.setdefault(name, {})[tuple(shape)] = (count - idle + innocent) / math.prod(shape)
    if row.name in made.whole:
        for each in against:
            keys = {shape: calls.key(WHOLE, each.name, shape) for shape in shapes}
            kept = {shape: goldens[key] / math.prod(shape) for shape, key in keys.items() if key in goldens}
            made.whole |= {each.name: kept} if kept else {}
    return made


def cpu(row: Kernel, against: list[Kernel]) -> str:
    """The first CPU model that runs a kernel and its rivals."""
    needs = row.features | {entry.feature(each.name) for each in against}
    return next(model.cpu for model in layout.MODELS if needs <= model.features)


def main(words: list[str]) -> None:
    """Make the calls of shapes and kernels, and print what lies between the markers."""
    shapes = [(int(m), int(k), int(n)) for m, k, n in (word.split("x") for word in words if word[0].isdigit())]
    names = [word for word in words if not word[0].isdigit()]
    folder = Path(os.environ[room.FOLDER])
    found = contract.read(folder / f"{os.environ[room.KERNEL]}.S")
    own = room.settle(found, folder)
    table = {row.name: row for row in (own, *rows.NATIVE, *rows.FEW)}
    log: list[tuple[str, str, Shape, int]] = []
    for name in names:
        log.extend(alone(table[name], shapes))
    if own.packs_left and not found.unmade:
        log.extend(whole(own.name, shapes))
    print(json.dumps(log))


def alone(row: Kernel, shapes: list[Shape]) -> Iterator[tuple[str, str, Shape, int]]:
    """Call an entry on operands of zeros, since no count depends on their values, after a function that does nothing.

    Both as programs of one record, by one function of ctypes, whose own instructions differ by some twenty all the same.
    """
    addresses = library.load().addresses
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(addresses["run"])
    idle = Checker(0).address("saboteur_none")
    marker = os.getppid
    for shape in shapes:
        fields, kept = laid_out(row, shape)
        for kind, address in (("idle", idle), ("entry", addresses[row.name])):
            program = Program([Record(address, fields)])
            argument = ctypes.c_void_p(program.argument)
            warm, repeats = calls.passes(WHOLE, shape)
            for _ in range(warm):
                run(argument)
            for _ in range(repeats):
                marker()
                run(argument)
                marker()
            yield kind, row.name, shape, repeats
        del kept


def laid_out(row: Kernel, shape: Shape) -> tuple[list[int], list[np.ndarray]]:
    """The arguments of an entry for a product of zeros, and what they point to."""
    m, k, n = shape
    a = np.zeros(row.left.size(k, m) if row.packs_left else m * k, np.int8)
    b, c = np.zeros(row.right.size(k, n), np.int8), np.zeros(m * n, np.int32)
    row_start, col_start = np.zeros(m, np.int32), np.zeros(row.right.whole(n), np.int32)
    deep = row.right.depth(k) if row.packs_left else k
    lying = [] if row.packs_left else [k, 0]
    at = [array.ctypes.data for array in (a, b, c, row_start, col_start)]
    return [*at[:3], 4 * n, m, n, deep, *at[3:], *lying], [a, b, c, row_start, col_start]


def whole(name: str, shapes: list[Shape]) -> Iterator[tuple[str, str, Shape, int]]:
    """Make whole calls on a kernel that the environment chooses, as `icount.calls.make` does."""
    os.environ["PYINT8DOT_KERNEL"] = name
    marker = os.getppid
    for _ in range(2 * calls.IDLE):
        marker()
    yield "idle", name, shapes[0], calls.IDLE
    for shape in shapes:
        warm, repeats = calls.passes(WHOLE, shape)
        call = calls.CALLS[WHOLE].make(*shape)
        for _ in range(warm):
            call()
        for _ in range(repeats):
            marker()
            call()
            marker()
        yield WHOLE, name, shape, repeats


if __name__ == "__main__":
    main(sys.argv[1:])
