"""Native attention, called through programs that are written once per size."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.engine import blocks, library, tape, threads
from pyint8dot.engine.library import address
from pyint8dot.engine.program import FIRST, LEFT, RESULT, RIGHT, SCRATCH, SECOND, Program, run_entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["attend"]

#: Sizes whose programs are kept.
MOST_PROGRAMS = 64

#: Bytes of a number; numbers of a query, of a key and of a key's powers that the entry keeps beside each other.
ITEM, SIDE = 4, 8

#: The words of a head up to the mask, which is the last that changes.
WORDS = RIGHT.number + 1
_pack = struct.Struct(f"{WORDS}q").pack


def attend(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    scale: float,
    y: NDArray[np.float32],
    count: int,
) -> bool:
    """Write into `y` what `pyint8dot.attention.attention` defines; tell whether there is a library to do it.

    Every array has four dimensions, (batch, heads, rows, columns); the numbers of a row lie side by side. At most `count` threads share
    the batch, or its heads where they are more.
    """
    if count > 1:
        count = min(count, max(1, y.size * k.shape[2] // blocks.LEAST_WORK))
    if count == 1 or library.status() is not None:
        return _attend(q, k, v, mask, scale, y)
    axis = int(y.shape[0] < min(count, y.shape[1]))

    def share(start: int, end: int) -> None:
        part = (slice(None),) * axis + (slice(start, end),)
        _attend(q[part], k[part], v[part], mask if mask is None else mask[part], scale, y[part])

    cuts = blocks.cut(y.shape[axis], count, 1)
    threads.run([functools.partial(share, *each) for each in cuts])
    return True


def _attend(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    scale: float,
    y: NDArray[np.float32],
) -> bool:
    """The same in this thread."""
    strides = None if mask is None else mask.strides
    ready = _program(q.shape, k.shape[2], y.shape[3], q.strides, k.strides, v.strides, y.strides, strides, scale)
    if ready is None:
        return False
    program, tail, scratch = ready
    if tape.TAPES:
        tape.touch((q, k, v, mask), (y,))
        tape.note([*map(tape.place, (q, y)), 0, 0, 0, 0, *map(tape.place, (k, v, mask))], program, scratch)
    place = id if library.LAYOUT_KNOWN else address
    most = 0 if mask is None else place(mask)
    run_entry()(_pack(place(q), place(y), 0, 0, 0, blocks.take(scratch), place(k), place(v), most) + tail)
    return True


@functools.lru_cache(MOST_PROGRAMS)
def _program(
    shape: tuple[int, ...],
    n: int,
    width: int,
    q: tuple[int, ...],
    k: tuple[int, ...],
    v: tuple[int, ...],
    y: tuple[int, ...],
    mask: tuple[int, ...] | None,
    scale: float,
) -> tuple[Program, bytes, int] | None:
    """The program for arrays of these sizes and strides, what follows the words of its head, and its scratch."""
    if library.status() is not None:
        return None
    batch, heads, m, d = shape
    # A mask that there is none of lies nowhere.
    every: tuple[tuple[int, ...], ...] = (q, k, v, y, mask or (0, 0, 0, 0))
    words = [heads, m, n, d, width, *(each[2] for each in every), *(each[1] for each in every)]
    program = Program()
    program.attention(
        q=LEFT,
        k=FIRST,
        v=SECOND,
        y=RESULT,
        mask=RIGHT if mask else None,
        scale=np.full(1, scale, np.float32),
        geometry=np.array(words, np.int64),
        scratch=SCRATCH,
    )
    names = ("q", "k", "v", "y", "mask")
    program.repeat(batch, **{name: each[0] for name, each in zip(names, every, strict=True)})
    objects = (LEFT, RESULT, FIRST, SECOND, *([RIGHT] if mask else [])) if library.LAYOUT_KNOWN else ()
    return program, program.tail(WORDS, objects), scratch_bytes(d, n)


def scratch_bytes(d: int, n: int) -> int:
    """The working memory of the entry, for `d` numbers a query and `n` keys."""
    return ITEM * SIDE * (d + -(-n // SIDE) * SIDE)
