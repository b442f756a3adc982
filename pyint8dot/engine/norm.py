"""Native layer normalisation, called through programs that are written once per length of rows."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.engine import library, tape
from pyint8dot.engine.library import address
from pyint8dot.engine.program import FIRST, LEFT, RESULT, ROWS, SECOND, Program, Word, run_entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["normalise"]

#: Lengths whose programs are kept.
MOST_PROGRAMS = 64

#: What else a call brings: words of the head that a product uses for other things, and how many there are up to the last.
WEIGHT, BIAS, FACTOR = Word(3), Word(4), Word(8)
WORDS = 9
_pack = struct.Struct(f"{WORDS}q").pack


def normalise(
    x: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    eps: float,
    y: NDArray[np.float32],
    residual: NDArray[np.float32] | None = None,
    factor: NDArray[np.float32] | None = None,
    z: NDArray[np.float32] | None = None,
) -> bool:
    """Write into `y`, and into `z`, what `pyint8dot.floats.layer_norm` defines; tell whether there is a library to do it.

    All arrays are C-contiguous, and no row is empty.
    """
    n = x.shape[-1]
    given = (x, y, None, weight, bias, None, residual, z, factor)
    ready = _program(n, eps, bias is None, residual is None, factor is None)
    if ready is None:
        return False
    place = id if library.LAYOUT_KNOWN else address
    words = [0 if each is None else place(each) for each in given]
    words[ROWS.number] = x.size // n
    if tape.TAPES:
        tape.touch((x, weight, bias, residual, factor), (y, z))
        noted = [tape.place(each) for each in given]
        noted[ROWS.number] = x.size // n
        tape.note(noted, ready[0], 0)
    run_entry()(_pack(*words) + ready[1])
    return True


@functools.lru_cache(MOST_PROGRAMS)
def _program(n: int, eps: float, no_bias: bool, alone: bool, no_factor: bool) -> tuple[Program, bytes] | None:
    """The program for rows of `n`, and what follows the words of its head."""
    if library.status() is not None:
        return None
    step = 4 * n
    program = Program()
    program.layer_norm(
        x=LEFT,
        y=RESULT,
        ld_x=step,
        ld_y=step,
        m=ROWS,
        n=n,
        weight=WEIGHT,
        # x + -0.0 is x, whatever x is.
        bias=np.full(n, -0.0, np.float32) if no_bias else BIAS,
        eps=np.full(1, eps, np.float32),
        residual=None if alone else FIRST,
        ld_residual=step,
        factor=None if no_factor else FACTOR,
        z=None if no_factor else SECOND,
        ld_z=step,
    )
    absent = {BIAS: no_bias, FIRST: alone, FACTOR: no_factor, SECOND: no_factor}
    objects = tuple(w for w in (LEFT, RESULT, WEIGHT, BIAS, FIRST, SECOND, FACTOR) if not absent.get(w))
    return program, program.tail(WORDS, objects if library.LAYOUT_KNOWN else ())
