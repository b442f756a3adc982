"""The native LSTM, called through programs that are written once per size."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.engine import blocks, library
from pyint8dot.engine.library import address
from pyint8dot.engine.program import (
    FIRST,
    LEFT,
    RESULT,
    RIGHT,
    RIGHT_STRIDE_K,
    SECOND,
    Program,
    Word,
    run_entry,
)  # fmt: skip
from pyint8dot.engine.recipe import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyint8dot.engine.recipe import Recipe

__all__ = ["GATES", "LANES", "PANEL", "QuantisedWalk", "walk"]

#: Units that the entry takes at a time, what each has, and numbers of a row for so many units.
LANES, GATES = 4, 4
PANEL = LANES * GATES

#: Sizes whose programs are kept.
MOST_PROGRAMS = 64

#: Steps that one program of a quantised walk has at most.
MOST_STEPS = 64

#: Bytes of a number.
ITEM = 4

#: The words of a head that have no name for what they are here: what the inputs add up to, weights, and lengths of rows.
SUMS, OF_INPUTS, OF_STATES = map(Word, range(2, 5))
BIAS, LENGTHS = RIGHT, RIGHT_STRIDE_K
#: Those that are arrays, whether there are lengths or not.
ARRAYS = (LEFT, RESULT, SUMS, OF_INPUTS, OF_STATES, FIRST, SECOND, BIAS)
WORDS = LENGTHS.number + 1
_pack = struct.Struct(f"{WORDS}q").pack


def walk(
    x: NDArray[np.float32],
    of_inputs: NDArray[np.float32],
    bias: NDArray[np.float32],
    of_states: NDArray[np.float32],
    y: NDArray[np.float32],
    h: NDArray[np.float32],
    c: NDArray[np.float32],
    lengths: NDArray[np.int32] | None,
    backward: tuple[bool, ...],
) -> bool:
    """Write into `y`, `h` and `c` what `pyint8dot.lstm.lstm` defines; tell whether there is a library to do it.

    Every array is C-contiguous and has at least one element: x (steps, batch, inputs), y (steps, directions, batch, units), h and c
    (directions, batch, units), the weights panels of each direction.
    """
    steps, batch, inputs = x.shape
    ready = _program(steps, batch, inputs, y.shape[3], backward, lengths is not None)
    if ready is None:
        return False
    sums = np.empty((steps * batch, bias.size), np.float32)
    place = id if library.LAYOUT_KNOWN else address
    last = 0 if lengths is None else place(lengths)
    words = _pack(
        place(x), place(y), place(sums), place(of_inputs), place(of_states), 0, place(h), place(c), place(bias), last
    )  # fmt: skip
    run_entry()(words + ready[1])
    return True


@functools.lru_cache(MOST_PROGRAMS)
def _program(
    steps: int, batch: int, inputs: int, units: int, backward: tuple[bool, ...], limited: bool
) -> tuple[Program, bytes] | None:
    """The program for arrays of these sizes, and what follows the words of its head."""
    if library.status() is not None:
        return None
    program = Program()
    width, state = ITEM * GATES * units, ITEM * units
    row = width * len(backward)
    panels = units // LANES
    program.product_f32(
        a=LEFT,
        b=OF_INPUTS,
        y=SUMS,
        start=BIAS,
        ld_a=ITEM * inputs,
        ld_y=row,
        ld_start=0,
        m=steps * batch,
        k=inputs,
        panels=panels * len(backward),
    )
    for d, reverse in enumerate(backward):
        first, turn = (steps - 1, -1) if reverse else (0, 1)
        program.lstm(
            x=SUMS.plus(first * batch * row + d * width),
            y=RESULT.plus((first * len(backward) + d) * batch * state),
            r=OF_STATES.plus(d * units * width),
            h=FIRST.plus(d * batch * state),
            c=SECOND.plus(d * batch * state),
            lengths=LENGTHS if limited else None,
            steps=steps,
            batch=batch,
            units=units,
            step_x=turn * batch * row,
            step_y=turn * batch * state * len(backward),
            ld_x=row,
            ld_y=state,
            time=first,
        )
    objects = (*ARRAYS, LENGTHS) if limited else ARRAYS
    return program, program.tail(WORDS, objects if library.LAYOUT_KNOWN else ())


#: When a step is, for a quantised walk.
TIME = RIGHT_STRIDE_K
_pack_quantised = struct.Struct(f"{TIME.number + 1}q").pack


class QuantisedWalk:
    """The steps of an LSTM, the state quantised before each product.

    Parameters
    ----------
    recipes : sequence of Recipe
        For each direction that of the product with the state, (batch, units) by (units, 4 * units) in the order of panels, which is added
        to what its result holds.
    """

    def __init__(self, recipes: Sequence[Recipe]) -> None:
        self._recipes = recipes
        self._program = functools.lru_cache(MOST_PROGRAMS)(self._write)

    def __call__(
        self,
        sums: NDArray[np.float32],
        y: NDArray[np.float32],
        h: NDArray[np.float32],
        c: NDArray[np.float32],
        lengths: NDArray[np.int32] | None,
        backward: Sequence[bool],
    ) -> bool:
        """Write into `y`, `h` and `c`; `sums` are lost. Tell whether every state could be quantised."""
        steps, directions, batch, units = y.shape
        state = ITEM * units
        at_sums, at_y, at_h, at_c = address(sums), address(y), address(h), address(c)
        limit = 0 if lengths is None else address(lengths)
        for d, reverse in enumerate(backward):
            turn = -1 if reverse else 1
            for first in range(0, steps, MOST_STEPS):
                count = min(MOST_STEPS, steps - first)
                _, tail, scratch = self._program(d, count, batch, turn, lengths is not None)
                time = steps - 1 - first if reverse else first
                words = (
                    at_h + d * batch * state, at_sums + (time * batch * directions + d) * GATES * state, batch, ITEM, state,
                    blocks.take(scratch), at_y + (time * directions + d) * batch * state, at_c + d * batch * state,
                    limit, time,
                )  # fmt: skip
                if run_entry()(_pack_quantised(*words) + tail):
                    return False
        return True

    def _write(self, d: int, steps: int, batch: int, turn: int, limited: bool) -> tuple[Program, bytes, int]:
        """The program for so many steps of a direction, what follows the words of its head, and its scratch."""
        recipe, program, directions = self._recipes[d], Program(), len(self._recipes)
        units = recipe.k
        row, state = ITEM * GATES * units * directions, ITEM * units
        scratch = recipe.append(program, Key(batch, 0, GATES * units, row), LEFT)
        program.lstm(
            x=RESULT,
            y=FIRST,
            r=None,
            h=LEFT,
            c=SECOND,
            lengths=RIGHT if limited else None,
            steps=1,
            batch=batch,
            units=units,
            step_x=0,
            step_y=0,
            ld_x=row,
            ld_y=state,
            time=TIME,
        )
        program.repeat_all(steps, {RESULT: turn * batch * row, FIRST: turn * batch * state * directions, TIME: turn})
        return program, program.tail(TIME.number + 1), scratch
