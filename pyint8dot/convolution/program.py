"""A convolution's products on the native library: one call takes an image, laid out on its grids, to the result.

The call runs a program, which is made once for a geometry and kept with the weights. Block of pixels by block of pixels it packs the
columns, gathered from the grids (see `pyint8dot.convolution.im2col`), multiplies them by the packed weights, and, where the result is
int8 or uint8, requantises the sums while they are near and leaves out the columns between the rows of the output. Where the channels of
the grids are interleaved (see `pyint8dot.convolution.planes`), nothing is packed, and rows of whole panels are multiplied one by one, so
that there are no columns between them. Where data lie is not known when the program is made; its arguments are words of the head, which
each call brings: the grids, the result (or the sums where there is no requantising), the constants of the channels and what the columns'
sums start from.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.convolution import im2col, planes
from pyint8dot.convolution.geometry import slack
from pyint8dot.convolution.weights import PackedWeights, packed_depth
from pyint8dot.engine import blocks, cpu, threads
from pyint8dot.engine.blocks import Written
from pyint8dot.engine.program import FIRST as CONSTANTS
from pyint8dot.engine.program import LEFT as GRIDS
from pyint8dot.engine.program import RESULT, SCRATCH, Program
from pyint8dot.engine.program import SECOND as COL_START

if TYPE_CHECKING:
    from pyint8dot.arguments import Values
    from pyint8dot.convolution.geometry import Geometry
    from pyint8dot.engine.kernels import Kernel

#: Programs kept with one set of weights: images of many sizes must not fill the memory.
MOST_PROGRAMS = 32

#: How often a product of planes has what its rows start from, one beside the other: once a column of the tile.
COPIES = 8

#: The share of the first-level cache that a block's weights take where nothing is packed, and that its sums take.
CLOSE = 3


class Last(NamedTuple):
    """The last step of a program that requantises."""

    zero_point: int
    unsigned: bool


class Key(NamedTuple):
    """What a program depends on beside the weights."""

    place: Geometry
    kernel: Kernel
    #: Whether the grids, or images that it lays out, hold uint8, and whether there are start values for the columns.
    flip: bool
    col_start: bool
    last: Last | None
    num_threads: int
    #: Whether the grids' channels are interleaved.
    planes: bool


@dataclass(frozen=True)
class ConvProgram:
    """The programs that together do one image, one per thread."""

    parts: list[Written]
    #: Whether it lays the image out by itself.
    lays_out: bool = False

    def run(self, laid: Values, result: Values, constants: Values, col_start: Values | None) -> None:
        """Bring the grids `laid` of one image, or the image itself, to `result`, C-ordered."""
        if len(self.parts) == 1:
            self.parts[0].run(laid, result, constants, col_start)
            return

        def work(part: Written) -> None:
            part.run(laid, result, constants, col_start)

        threads.run([functools.partial(work, part) for part in self.parts])


def requantises(place: Geometry) -> bool:
    """Whether a program can leave out the columns between the rows: there are none, or they lie in a regular grid."""
    return place.dense or len(place.out) == 2


def by_rows(place: Geometry, kernel: Kernel) -> bool:
    """Whether a product of planes goes row by row, because that multiplies no column but those of the result."""
    return not place.dense and len(place.out) == 2 and place.out[1] % kernel.nr == 0


def program(weights: PackedWeights, key: Key) -> ConvProgram:
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
        self.right = key.kernel.each_call(key.kernel.right)
        #: Bytes of what a channel's sums start from.
        self.each = 4 * COPIES if key.planes else 4
        self.by_rows = key.planes and by_rows(place, key.kernel)
        #: Columns of the sums from one output row to the next.
        self.pitch = place.out[1] if self.by_rows else place.pitch
        if key.planes:
            count = self.group * self.channels // self.right.kr
            self.starts, self.run = planes.runs(place, self.right, count, self.channels)
            # Weights and sums of a block leave half of the first-level cache to the pixels.
            room = cpu.caches()[0] // CLOSE
            self.channel_blocks = blocks.cut(self.m, -(-self.m * self.depth // room), key.kernel.mr)
            highest = max(end - start for start, end in self.channel_blocks)
            self.blocks = im2col.row_blocks(place, 4 * highest, room, key.num_threads)
        else:
            self.table = self._table() if self.taps > 1 else None
            self.channel_blocks, highest = [(0, self.m)], self.m
            # The packed columns and the int32 sums of a block share half of the second-level cache.
            self.blocks = im2col.row_blocks(place, depth + 4 * self.m, blocks.budget(), key.num_threads)
        tallest = max(rows.stop - rows.start for rows in self.blocks)
        if key.planes:
            packed = planes.size(place, self.right, self.group * self.channels)
        else:
            packed = self.depth * self.right.whole(max(place.columns(tallest), self.right.r))
        # Threads share one image, and a large one does not stay in a thread's working memory for good.
        self.lays_out = key.planes and min(key.num_threads, len(self.blocks)) == 1 and packed <= cpu.caches()[1]
        packed = 0 if key.planes and not self.lays_out else packed
        self.packed, self.sums = SCRATCH, SCRATCH.plus(-(-packed // blocks.LINE) * blocks.LINE)
        self.scratch = self.sums.offset + (4 * highest * tallest * self.pitch if key.last is not None else 0)

    def make(self) -> ConvProgram:
        """The whole program: for every group every block of output rows, shared out by blocks among the threads."""
        count = min(self.key.num_threads, len(self.blocks))
        parts = []
        for share in range(count):
            out = Program()
            if self.lays_out:
                channels = self.group * self.channels
                planes.write(out, self.place, self.right, channels, flip=self.key.flip, target=self.packed)
            for g in range(self.group):
                for rows, some in itertools.product(self.blocks[share::count], self.channel_blocks):
                    self._block(out, g, rows, some)
            parts.append(Written(out, self.scratch))
        return ConvProgram(parts, self.lays_out)

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

    def _block(self, out: Program, g: int, rows: slice, channels: tuple[int, int]) -> None:
        """Write the records of one block of group `g`: some output rows of some output channels."""
        key, place, (start, end) = self.key, self.place, channels
        count = rows.stop - rows.start
        block_columns, all_columns = count * self.pitch, place.out[0] * self.pitch
        channel = g * self.m + start
        if key.last is not None:
            c, step = self.sums, 4 * block_columns
        else:
            c, step = RESULT.plus(4 * (channel * all_columns + rows.start * self.pitch)), 4 * all_columns
        common = {
            "a": self.left[g][start * self.depth :], "c": c, "ldc": step, "m": end - start,
            "row_start": CONSTANTS.plus(self.each * channel),
        }  # fmt: skip
        if key.planes:
            self._multiply_planes(out, g, rows, common)
        else:
            first, n = rows.start * place.pitch, place.columns(count)
            self._pack(out, g * self.channels * self.pixels + first, n)
            start_at = COL_START.plus(4 * (g * (all_columns + slack()) + first)) if key.col_start else None
            out.multiply(key.kernel.name, b=self.packed, n=n, k=self.depth, col_start=start_at, **common)
        if key.last is not None:
            self._requantize(out, key.last, channel, end - start, rows)

    def _multiply_planes(self, out: Program, g: int, rows: slice, common: dict[str, Any]) -> None:
        """Write the records that multiply a block of output rows whose columns lie in planes: all at once, or row by row."""
        place, group = self.place, self.right.kr
        plane = planes.pitch(place, self.right)
        first = g * self.channels // group * plane
        grids = self.packed if self.lays_out else GRIDS
        count = 1 if self.by_rows else rows.stop - rows.start
        for row in range(rows.start, rows.stop, count):
            out.multiply_planes(
                self.key.kernel.planes, b=grids.plus(first + group * row * place.pitch), n=place.columns(count),
                k=self.run, plane=plane, runs=self.starts, count=self.starts.size,
                **{**common, "c": common["c"].plus(4 * (row - rows.start) * self.pitch)},
            )  # fmt: skip

    def _pack(self, out: Program, at: int, n: int) -> None:
        """Write the record that packs `n` columns, the first of which is `at` bytes into the grids."""
        native = self.right.native
        assert native is not None  # noqa: S101 - a kernel's rows name layouts that the library packs
        if self.table is not None:
            columns = max(n, self.right.r)
            out.gather(
                native.gatherer, base=GRIDS.plus(at), packed=self.packed, k=self.depth, mn=columns, table=self.table
            )
        else:
            out.pack(
                native.packer, source=GRIDS.plus(at), packed=self.packed, k=self.channels, mn=n, stride_k=self.pixels,
                stride_mn=1, split=0, flip=self.right.flip(np.dtype(np.uint8 if self.key.flip else np.int8)),
            )  # fmt: skip

    def _requantize(self, out: Program, last: Last, channel: int, count: int, rows: slice) -> None:
        """Write the records that bring the sums of a block, of so many channels, to their int8 or uint8 values."""
        place, block_columns = self.place, (rows.stop - rows.start) * self.pitch
        width = math.prod(place.out[1:])
        final = RESULT.plus(channel * place.pixels + rows.start * width)
        factor = CONSTANTS.plus(self.each * self.group * self.m + 4 * channel)
        tail = {"per_column": 0, "zero_point": last.zero_point, "unsigned": int(last.unsigned)}
        if place.dense or self.by_rows:
            out.requantize(
                acc=self.sums, y=final, ld_acc=4 * block_columns, ld_y=place.pixels, m=count, n=block_columns, scale=factor,
                row_step=4, **tail,
            )  # fmt: skip
            return
        # One record per channel: its rows lie a pitch apart in the sums and close together in the result.
        out.requantize(
            acc=self.sums, y=final, ld_acc=4 * place.pitch, ld_y=width, m=rows.stop - rows.start, n=width, scale=factor,
            row_step=0, **tail,
        )  # fmt: skip
        out.repeat(count, acc=4 * block_columns, y=place.pixels, scale=4)
