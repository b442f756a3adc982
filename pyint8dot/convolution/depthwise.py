"""A depthwise convolution on the native library: every channel with windows of its own, without a matrix product.

A product would have a single row for each channel and leave most of every tile idle. Here the pixels of an output row lie side by side,
so a tap is one multiplication of a row of pixels by a number. There are two forms. Taps one by one, on every processor, read the grids of
`pyint8dot.convolution.im2col`, where a step of the output is a step of one. Taps four by four, with dot products, read the padded image
itself: what four of its columns take is brought together in registers. The program has a record for each output channel and is kept with
the weights; where data lie comes with the call, as in `pyint8dot.convolution.program`.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.convolution.program import MOST_PROGRAMS, ConvProgram, Last
from pyint8dot.engine.blocks import Written, cut
from pyint8dot.engine.program import FIRST as CONSTANTS
from pyint8dot.engine.program import LEFT as GRIDS
from pyint8dot.engine.program import RESULT, Program
from pyint8dot.engine.program import SECOND as WINDOWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyint8dot.arguments import Values
    from pyint8dot.convolution.geometry import Geometry
    from pyint8dot.convolution.weights import PackedWeights
    from pyint8dot.engine.kernels import Kernel

#: Columns of a tile: a row of the output is read as if it had so many at least. Four of them share a register of as many bytes.
LEAST, SHARED = 16, 4

#: What taps four by four need.
FEATURE = "dotprod"


# Compared by identity: a form is made once for a geometry and a kernel.
@dataclass(frozen=True, eq=False)
class Form:
    """How taps are taken: where the pixels lie, and which of them each group of taps takes."""

    #: The geometry that the image is laid out by.
    laid: Geometry
    #: Pixels on the grid from one result to the next, for each dimension.
    strides: tuple[int, ...]
    #: From the pixel of a result to the first that each group of taps takes, without the channels; and the grid it lies on.
    offsets: list[tuple[int, int]]
    #: Bytes behind the grids that a program reads: short rows are read as if they were longer.
    beyond: int
    #: With dot products, the step along a row and the bytes to take for four columns; see `asm/depthwise_sdot.S`.
    pattern: NDArray[np.int64] | None


def one_by_one(place: Geometry) -> Form:
    """The form for every processor."""
    return Form(place, (1,) * len(place.out), place.shifts, max(0, LEAST - place.out[-1]), None)


def four_by_four(place: Geometry) -> Form | None:
    """The form with dot products; None where the taps of four columns do not lie within a register."""
    step, spread, n = place.strides[-1], place.dilations[-1], place.out[-1]
    if (SHARED - 1) * (step + spread) >= LEAST:
        return None
    laid = place.padded
    groups = [range(k) for k in place.kernel[:-1]] + [range(0, place.kernel[-1], SHARED)]
    offsets = []
    for taps in itertools.product(*groups):
        at = 0
        for tap, dilation, size in zip(taps, place.dilations, laid.grid, strict=True):
            at = at * size + tap * dilation
        offsets.append((0, at))
    read = groups[-1][-1] * spread + (max(n, LEAST) - SHARED) * step + LEAST
    index = np.add.outer(step * np.arange(SHARED), spread * np.arange(SHARED)).astype(np.int8)
    pattern = np.append(np.int64(step), index.reshape(-1).view(np.int64))
    return Form(laid, place.strides, offsets, max(0, read - laid.grid[-1]), pattern)


@functools.lru_cache(256)
def form(place: Geometry, kernel: Kernel, narrow: bool) -> Form:
    """The form for a product on `kernel`, whose weights are int8 where they are `narrow`."""
    # A kernel without dot products runs where there are none, or where none are wanted.
    return (four_by_four(place) if narrow and FEATURE in kernel.features else None) or one_by_one(place)


def grouped(windows: Values, kernel: tuple[int, ...]) -> Values:
    """The taps of windows, shape (..., taps), in groups of four along the last axis of the window, zeros in the place of missing ones."""
    rows = windows.reshape(*windows.shape[:-1], -1, kernel[-1])
    whole = np.zeros((*rows.shape[:-1], -(-kernel[-1] // SHARED) * SHARED), np.int8)
    whole[..., : kernel[-1]] = rows
    return whole


class Key(NamedTuple):
    """What a program depends on beside the weights."""

    place: Geometry
    form: Form
    #: None where the result is the int32 sums.
    last: Last | None
    num_threads: int


def program(weights: PackedWeights, key: Key) -> ConvProgram:
    """The program for `weights` and `key`, made when it is first asked for."""
    found = weights.programs.get(key)
    if found is None:
        if len(weights.programs) >= MOST_PROGRAMS:
            weights.programs.clear()
        groups = cut(weights.group, key.num_threads, 1)
        found = weights.programs[key] = ConvProgram([_part(weights, key, *span) for span in groups])
    return found


class _Rows(NamedTuple):
    """Rows of output pixels at one distance from each other, and where they begin on a grid and in a channel of the result."""

    source: int
    target: int
    source_step: int
    target_step: int
    m: int
    n: int


def _rows(place: Geometry, form: Form) -> list[_Rows]:
    """All output rows of a channel."""
    *lead, m, n = (1, *place.out)
    *_, down, along = (1, *form.strides)
    grid = form.laid.grid
    if m == 1 and n >= LEAST:
        # A single row is cut into shorter ones, which are done several at a time; the last ends with it.
        whole = [_Rows(0, 0, LEAST * along, LEAST, n // LEAST, LEAST)]
        if n % LEAST:
            whole.append(_Rows((n - LEAST) * along, n - LEAST, 0, 0, 1, LEAST))
    else:
        whole = [_Rows(0, 0, grid[-1] * down, n, m, n)]
    found = []
    for index in itertools.product(*map(range, lead[1:])):
        source = target = 0
        for i, size, out, stride in zip(index, grid, place.out, form.strides, strict=False):
            source, target = source * size + i * stride, target * out + i
        source, target = source * math.prod(grid[-2:]), target * m * n
        found += [rows._replace(source=rows.source + source, target=rows.target + target) for rows in whole]
    return found


def _part(weights: PackedWeights, key: Key, first: int, end: int) -> Written:
    """The program of the groups from `first` to `end`."""
    place, form, last = key.place, key.form, key.last
    group, outer = weights.rows.shape[:2]
    pixels, size = math.prod(form.laid.grid), 4 if last is None else 1
    offsets = np.array([grid * group * pixels + shift for grid, shift in form.offsets], np.int64)
    taps = len(offsets)
    # int16 one by one, or four int8.
    window = taps * (2 if form.pattern is None else SHARED)
    out = Program()
    for rows, other in itertools.product(_rows(place, form), range(outer)):
        channel = first * outer + other
        arguments: dict[str, Any] = {
            "x": GRIDS.plus(first * pixels + rows.source),
            "y": RESULT.plus(size * (channel * place.pixels + rows.target)),
            "ld_x": rows.source_step, "ld_y": size * rows.target_step, "m": rows.m, "n": rows.n, "taps": taps,
            "offsets": offsets, "weights": WINDOWS.plus(channel * window), "start": CONSTANTS.plus(4 * channel),
            "scale": None if last is None else CONSTANTS.plus(4 * (group * outer + channel)),
            "zero_point": 0 if last is None else last.zero_point, "unsigned": 0 if last is None else int(last.unsigned),
        }  # fmt: skip
        if form.pattern is None:
            out.depthwise(**arguments)
        else:
            out.depthwise_sdot(**arguments, pattern=form.pattern)
        steps = {"x": pixels, "y": size * outer * place.pixels, "weights": outer * window, "start": 4 * outer}
        out.repeat(end - first, **steps, **({} if last is None else {"scale": 4 * outer}))
    return Written(out, 0)
