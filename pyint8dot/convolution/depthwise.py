"""A depthwise convolution on the native library: every channel with windows of its own, without a matrix product.

A product would have a single row for each channel and leave most of every tile idle. Here the pixels of an output row lie side by side
on the grids (see `pyint8dot.convolution.im2col`), so a tap is one multiplication of a row of pixels by a number. The program has a
record for each output channel and is kept with the weights; where data lie comes with the call, as in `pyint8dot.convolution.program`.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyint8dot.convolution.program import MOST_PROGRAMS, ConvProgram, Last
from pyint8dot.engine.blocks import Written, cut
from pyint8dot.engine.program import FIRST as CONSTANTS
from pyint8dot.engine.program import LEFT as GRIDS
from pyint8dot.engine.program import RESULT, Program
from pyint8dot.engine.program import SECOND as WINDOWS

if TYPE_CHECKING:
    from pyint8dot.convolution.im2col import Geometry
    from pyint8dot.convolution.weights import PackedWeights

#: Pixels of a row that `asm/depthwise.S` reads at least.
LEAST = 16


class Key(NamedTuple):
    """What a program depends on beside the weights."""

    place: Geometry
    #: None where the result is the int32 sums.
    last: Last | None
    num_threads: int


def beyond(place: Geometry) -> int:
    """Bytes behind the grids that a program reads: short rows are read as if they were longer."""
    return max(0, LEAST - place.out[-1])


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


def _rows(place: Geometry) -> list[_Rows]:
    """All output rows of a channel."""
    *lead, m, n = (1, *place.out)
    if m == 1 and n >= LEAST:
        # A single row is cut into shorter ones, which are done several at a time; the last ends with it.
        short = [_Rows(0, 0, LEAST, LEAST, n // LEAST, LEAST)]
        if n % LEAST:
            short.append(_Rows(n - LEAST, n - LEAST, 0, 0, 1, LEAST))
        whole = short
    else:
        whole = [_Rows(0, 0, place.grid[-1], n, m, n)]
    found = []
    for index in itertools.product(*map(range, lead[1:])):
        source = target = 0
        for i, size, out in zip(index, place.grid, place.out, strict=False):
            source, target = source * size + i, target * out + i
        source, target = source * math.prod(place.grid[-2:]), target * m * n
        found += [rows._replace(source=rows.source + source, target=rows.target + target) for rows in whole]
    return found


def _part(weights: PackedWeights, key: Key, first: int, end: int) -> Written:
    """The program of the groups from `first` to `end`."""
    place, last = key.place, key.last
    group, outer, taps = weights.rows.shape
    pixels, size = math.prod(place.grid), 4 if last is None else 1
    offsets = np.array([grid * group * pixels + shift for grid, shift in place.shifts], np.int64)
    out = Program()
    for rows, other in itertools.product(_rows(place), range(outer)):
        channel = first * outer + other
        out.depthwise(
            x=GRIDS.plus(first * pixels + rows.source), y=RESULT.plus(size * (channel * place.pixels + rows.target)),
            ld_x=rows.source_step, ld_y=size * rows.target_step, m=rows.m, n=rows.n, taps=taps, offsets=offsets,
            weights=WINDOWS.plus(2 * channel * taps), start=CONSTANTS.plus(4 * channel),
            scale=None if last is None else CONSTANTS.plus(4 * (group * outer + channel)),
            zero_point=0 if last is None else last.zero_point, unsigned=0 if last is None else int(last.unsigned),
        )  # fmt: skip
        steps = {"x": pixels, "y": size * outer * place.pixels, "weights": 2 * outer * taps, "start": 4 * outer}
        out.repeat(end - first, **steps, **({} if last is None else {"scale": 4 * outer}))
    return Written(out, 0)
