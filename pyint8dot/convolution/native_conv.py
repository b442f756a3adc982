"""A convolution's products on the native library: one call takes an image, laid out on its grids, to the result.

The call runs a program, which is made once for a geometry and kept with the weights. Block of pixels by block of pixels it packs the
columns, gathered from the grids (see `pyint8dot.convolution.im2col`), multiplies them by the packed weights, and, where the result is int8 or uint8,
requantises the sums while they are near and leaves out the columns between the rows of the output. Where data lie is not known when the
program is made; its arguments are offsets from the words below, which each call puts at its head.
"""

from __future__ import annotations

import functools
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.convolution import im2col
from pyint8dot.convolution.weights import PackedWeights, packed_depth
from pyint8dot.engine import cpu, layouts, library, native, threads
from pyint8dot.engine.library import address

if TYPE_CHECKING:
    from pyint8dot.arguments import Values
    from pyint8dot.convolution.im2col import Geometry
    from pyint8dot.engine.kernels import Kernel

# The words at the head of a program, as kinds of argument: the grids, the result (or the sums where there is no requantising),
# the constants of the channels, what the columns' sums start from, and this thread's room for packed columns and for sums.
GRIDS, RESULT, CONSTANTS, COL_START, PACKED, SUMS = range(2, 8)
_HEAD = struct.Struct("6q")

#: The gathering packer of a layout, by its (kr, r).
GATHERERS = {(4, 8): "gather_i8k4", (1, 8): "gather_i8"}

#: Words of a record in a program; the last one holds the kinds of its arguments, four bits each.
RECORD = 16

#: Programs kept with one set of weights: images of many sizes must not fill the memory.
MOST_PROGRAMS = 32


class Last(NamedTuple):
    """The last step of a program that requantises."""

    zero_point: int
    unsigned: bool


class Key(NamedTuple):
    """What a program depends on beside the weights."""

    place: Geometry
    kernel: Kernel
    #: Whether the grids hold uint8, and whether there are start values for the columns.
    flip: bool
    col_start: bool
    last: Last | None
    num_threads: int


@dataclass(frozen=True)
class Program:
    """The programs that together do one image, one a thread, and the scratch memory each needs."""

    parts: list[bytes]
    packed_size: int
    sums_size: int
    #: What the programs refer to and nobody else keeps.
    table: Values | None

    def run(self, run: Any, laid: Values, result: Values, constants: Values, col_start: Values | None) -> None:
        """Bring the grids `laid` of one image to `result`, C-ordered."""
        words = address(laid), address(result), address(constants), 0 if col_start is None else address(col_start)

        def part(program: bytes) -> None:
            at = native.take(self.packed_size + self.sums_size)
            run(_HEAD.pack(*words, at, at + self.packed_size) + program)

        if len(self.parts) == 1:
            part(self.parts[0])
        else:
            threads.run([functools.partial(part, program) for program in self.parts])


def requantises(place: Geometry) -> bool:
    """Whether a program can leave out the columns between the rows: there are none, or they lie in a regular grid."""
    return place.dense or len(place.out) == 2


def program(weights: PackedWeights, key: Key) -> Program:
    """The program for `weights` and `key`, made when it is first asked for."""
    found = weights.programs.get(key)
    if found is None:
        if len(weights.programs) >= MOST_PROGRAMS:
            weights.programs.clear()
        found = weights.programs[key] = _Maker(weights, key).make()
    return found


class _Maker:
    """Makes one program."""

    def __init__(self, weights: PackedWeights, key: Key) -> None:
        self.weights, self.key = weights, key
        place = self.place = key.place
        self.group, (self.m, depth) = weights.group, weights.rows.shape[1:]
        self.channels, self.taps = weights.shape[1], len(place.shifts)
        self.depth = packed_depth(key.kernel, depth, self.taps)
        self.pixels = math.prod(place.grid)
        self.left = weights.for_kernel(key.kernel)
        self.entries = library.load().addresses
        self.table = self._table() if self.taps > 1 else None
        # The packed columns and the int32 sums of a block share half of the second-level cache.
        self.blocks = im2col.row_blocks(place, depth + 4 * self.m, cpu.caches()[1] // 2, key.num_threads)

    def make(self) -> Program:
        """The whole program: for every group every block of output rows, shared out by blocks among the threads."""
        count = min(self.key.num_threads, len(self.blocks))
        parts = []
        for share in range(count):
            records = [self._block(g, rows) for g in range(self.group) for rows in self.blocks[share::count]]
            parts.append(b"".join([*records, native.END]))
        tallest = max(rows.stop - rows.start for rows in self.blocks)
        packed_size = self.depth * -(-self.place.columns(tallest) // 8) * 8
        sums_size = 4 * self.m * tallest * self.place.pitch if self.key.last is not None else 0
        return Program(parts, -(-packed_size // 64) * 64, sums_size, self.table)

    def _table(self) -> Values:
        """Where each row of the columns lies, in bytes from the first element of the group's grids."""
        phase = self.group * self.channels * self.pixels
        shifts = np.array([grid * phase + shift for grid, shift in self.place.shifts], np.int64)
        rows = shifts[:, None] + self.pixels * np.arange(self.channels)
        table = np.empty(self.depth, np.int64)
        table[: rows.size] = rows.reshape(-1)
        # Their weights are zeros, so any row serves to fill up K.
        table[rows.size :] = shifts[0]
        return table

    def _block(self, g: int, rows: slice) -> bytes:
        """The records of one block of output rows of group `g`."""
        key, place, m = self.key, self.place, self.m
        first, n = rows.start * place.pitch, place.columns(rows.stop - rows.start)
        block_columns = (rows.stop - rows.start) * place.pitch
        all_columns = place.out[0] * place.pitch
        if key.last is not None:
            word, at, step = SUMS, 0, 4 * block_columns
        else:
            word, at, step = RESULT, 4 * (g * m * all_columns + first), 4 * all_columns
        multiply = native.record(
            self.entries[key.kernel.name], address(self.left[g]), 0, at, step, m, n, self.depth,
            4 * g * m, 4 * (g * (all_columns + im2col.SLACK) + first) if key.col_start else 0,
            kinds=(0, PACKED, word, 0, 0, 0, 0, CONSTANTS, COL_START if key.col_start else 0),
        )  # fmt: skip
        last = b"" if key.last is None else self._requantize(key.last, g, rows, block_columns)
        return self._pack(g * self.channels * self.pixels + first, n) + multiply + last

    def _pack(self, at: int, n: int) -> bytes:
        """The record that packs `n` columns, the first of which is `at` bytes into the grids."""
        kernel, kinds = self.key.kernel, (GRIDS, PACKED)
        if self.table is not None:
            entry = self.entries[GATHERERS[kernel.kr, kernel.nr]]
            return native.record(entry, at, 0, self.depth, max(n, im2col.SLACK), address(self.table), kinds=kinds)
        entry = self.entries[layouts.PACKERS[kernel.kr, kernel.nr]]
        flip = layouts.FLIP if self.key.flip else 0
        return native.record(entry, at, 0, self.channels, n, self.pixels, 1, 0, flip, kinds=kinds)

    def _requantize(self, last: Last, g: int, rows: slice, block_columns: int) -> bytes:
        """The records that bring the sums of a block to their int8 or uint8 values."""
        place, m, out_channels = self.place, self.m, self.group * self.m
        width = math.prod(place.out[1:])
        final = g * m * place.pixels + rows.start * width
        factor = 4 * (out_channels + g * m)
        kinds = (SUMS, RESULT, 0, 0, 0, 0, CONSTANTS)
        entry = self.entries["requantize"]
        if place.dense:
            return native.record(
                entry, 0, final, 4 * block_columns, place.pixels, m, block_columns,
                factor, 4, 0, last.zero_point, last.unsigned, kinds=kinds,
            )  # fmt: skip
        # One record a channel: its rows lie a pitch apart in the sums and close together in the result.
        records = np.zeros((m, RECORD), np.int64)
        records[:] = np.frombuffer(
            native.record(
                entry, 0, final, 4 * place.pitch, width, rows.stop - rows.start, width,
                factor, 0, 0, last.zero_point, last.unsigned, kinds=kinds,
            ),
            np.int64,
        )  # fmt: skip
        channel = np.arange(m)
        records[:, 1] += 4 * block_columns * channel
        records[:, 2] += place.pixels * channel
        records[:, 7] += 4 * channel
        return records.tobytes()
