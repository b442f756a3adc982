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

import abc
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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
    from pyint8dot.engine.program import Word

#: Programs kept with one set of weights: images of many sizes must not fill the memory.
MOST_PROGRAMS = 32

#: Where nothing is packed: the parts of the first-level cache that the weights and the sums of a block of channels take at most, the rest
#: of which has the rows that windows look at; and the part of a usual block that a strip of the image takes.
WEIGHTS, SUMS, STRIP = 2, 3, 4


class Last(NamedTuple):
    """The last step of a program that requantises."""

    zero_point: int
    unsigned: bool


class Key(NamedTuple):
    """What a program depends on beside the weights."""

    place: Geometry
    kernel: Kernel
    #: Whether grids, or images, hold uint8, and whether there are start values for the columns, the second operand that is given.
    flip: bool
    col_start: bool
    last: Last | None
    num_threads: int
    #: Whether it is given an image as it is, and what padding holds as the second operand, to read windows in place.
    planes: bool


@dataclass(frozen=True)
class ConvProgram:
    """The programs that together do one image, one per thread."""

    parts: list[Written]

    def run(self, laid: Values, result: Values, constants: Values, second: Values | None) -> None:
        """Bring one image, laid out on its grids or as it is, to `result`, C-ordered; `second` is what is said by the key."""
        if len(self.parts) == 1:
            self.parts[0].run(laid, result, constants, second)
            return

        def work(part: Written) -> None:
            part.run(laid, result, constants, second)

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
        found = weights.programs[key] = (InPlace if key.planes else Gathered)(weights, key).make()
    return found


class Maker(abc.ABC):
    """Makes one program. What the two ways to multiply have in common: the operands, and how sums become results."""

    def __init__(self, weights: PackedWeights, key: Key) -> None:
        self.weights, self.key = weights, key
        place = self.place = key.place
        self.group, (self.m, depth) = weights.group, weights.rows.shape[1:]
        self.channels, self.taps = weights.shape[1], len(place.shifts)
        self.depth = packed_depth(key.kernel, depth, self.taps)
        self.left = weights.for_kernel(key.kernel)
        self.right = key.kernel.each_call(key.kernel.right)
        #: Columns of the sums from one output row to the next, and bytes of what a channel's sums start from.
        self.pitch, self.start = place.pitch, 4

    def make(self) -> ConvProgram:
        """The whole program: for every group every block of output rows, shared out by blocks among the threads."""
        cut = self.cut()
        count = min(self.key.num_threads, len(cut))
        parts = []
        for share in range(count):
            out = Program()
            for g in range(self.group):
                for rows in cut[share::count]:
                    self.block(out, g, rows)
            parts.append(Written(out, self.scratch()))
        return ConvProgram(parts)

    @abc.abstractmethod
    def cut(self) -> list[slice]:
        """The blocks of output rows."""

    @abc.abstractmethod
    def scratch(self) -> int:
        """Bytes of working memory that a block takes."""

    @abc.abstractmethod
    def block(self, out: Program, g: int, rows: slice) -> None:
        """Write the records of one block of output rows of group `g`."""

    def requantize(self, out: Program, last: Last, sums: Word, channels: tuple[int, int], rows: slice) -> None:
        """Write the records that bring the sums of some channels and rows to their int8 or uint8 values."""
        place, (channel, end), columns = self.place, channels, (rows.stop - rows.start) * self.pitch
        width = math.prod(place.out[1:])
        final = RESULT.plus(channel * place.pixels + rows.start * width)
        factor = CONSTANTS.plus(self.start * self.group * self.m + 4 * channel)
        tail = {"per_column": 0, "zero_point": last.zero_point, "unsigned": int(last.unsigned)}
        if self.pitch == width:
            out.requantize(
                acc=sums, y=final, ld_acc=4 * columns, ld_y=place.pixels, m=end - channel, n=columns, scale=factor, row_step=4,
                **tail,
            )  # fmt: skip
            return
        # Rows lie a pitch apart in the sums and close together in the result: a record for each of a channel, or for each channel.
        count = rows.stop - rows.start
        if count < end - channel:
            out.requantize(
                acc=sums, y=final, ld_acc=4 * columns, ld_y=place.pixels, m=end - channel, n=width, scale=factor, row_step=4,
                **tail,
            )  # fmt: skip
            out.repeat(count, acc=4 * self.pitch, y=width)
            return
        out.requantize(
            acc=sums, y=final, ld_acc=4 * self.pitch, ld_y=width, m=count, n=width, scale=factor, row_step=0, **tail
        )
        out.repeat(end - channel, acc=4 * columns, y=place.pixels, scale=4)


class Gathered(Maker):
    """Packs the columns of a block, gathered from the grids."""

    def __init__(self, weights: PackedWeights, key: Key) -> None:
        super().__init__(weights, key)
        place, depth = self.place, weights.rows.shape[2]
        self.pixels = math.prod(place.grid)
        self.table = self._table() if self.taps > 1 else None
        # The packed columns and the int32 sums of a block share half of the second-level cache.
        self.blocks = im2col.row_blocks(place, depth + 4 * self.m, blocks.budget(), key.num_threads)
        self.tallest = max(rows.stop - rows.start for rows in self.blocks)
        packed = self.depth * self.right.whole(max(place.columns(self.tallest), self.right.r))
        self.packed, self.sums = SCRATCH, SCRATCH.plus(-(-packed // blocks.LINE) * blocks.LINE)

    def cut(self) -> list[slice]:
        """The blocks of output rows."""
        return self.blocks

    def scratch(self) -> int:
        """Bytes of working memory that a block takes."""
        return self.sums.offset + (4 * self.m * self.tallest * self.pitch if self.key.last is not None else 0)

    def block(self, out: Program, g: int, rows: slice) -> None:
        """Write the records of one block of output rows of group `g`."""
        key, place, m = self.key, self.place, self.m
        first, n = rows.start * place.pitch, place.columns(rows.stop - rows.start)
        block_columns, all_columns = (rows.stop - rows.start) * place.pitch, place.out[0] * place.pitch
        self._pack(out, g * self.channels * self.pixels + first, n)
        if key.last is not None:
            c, step = self.sums, 4 * block_columns
        else:
            c, step = RESULT.plus(4 * (g * m * all_columns + first)), 4 * all_columns
        out.multiply(
            key.kernel.name, a=self.left[g], b=self.packed, c=c, ldc=step, m=m, n=n, k=self.depth,
            row_start=CONSTANTS.plus(4 * g * m),
            col_start=COL_START.plus(4 * (g * (all_columns + slack()) + first)) if key.col_start else None,
        )  # fmt: skip
        if key.last is not None:
            self.requantize(out, key.last, self.sums, (g * m, g * m + m), rows)

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


class InPlace(Maker):
    """Reads the columns where they lie, strip by strip of an image whose channels are interleaved."""

    def __init__(self, weights: PackedWeights, key: Key) -> None:
        super().__init__(weights, key)
        place = self.place
        self.start = 4 * key.kernel.nr
        self.by_rows = by_rows(place, key.kernel)
        if self.by_rows:
            self.pitch = place.out[1]
        # So many rows, or a multiple, are whole panels.
        whole = key.kernel.nr // math.gcd(key.kernel.nr, self.pitch)
        # Strips stay in the second-level cache beside images, results and weights.
        row = len(place.phases) * self.channels * place.pitch
        first = cpu.caches()[0]
        count = -(-place.out[0] * row // (blocks.budget() // STRIP))
        self.strips = [slice(*ends) for ends in blocks.cut(place.out[0], max(count, key.num_threads), whole)]
        height = max(strip.stop - strip.start for strip in self.strips)
        self.strip = planes.Strip(place, self.right, self.channels, height)
        self.runs, self.run = self.strip.runs()
        self.blocks = blocks.cut(self.m, -(-self.m * self.depth // (first // WEIGHTS)), key.kernel.mr)
        self.highest = max(end - start for start, end in self.blocks)
        rows = max(whole, first // SUMS // (4 * self.highest * self.pitch) // whole * whole)
        # Sums that are the result lie in no one's way.
        self.rows = min(rows, height) if key.last is not None else height
        self.sums = SCRATCH.plus(-(-self.strip.size // blocks.LINE) * blocks.LINE)

    def cut(self) -> list[slice]:
        """The strips."""
        return self.strips

    def scratch(self) -> int:
        """Bytes of working memory that a strip takes."""
        return self.sums.offset + (4 * self.highest * self.rows * self.pitch if self.key.last is not None else 0)

    def block(self, out: Program, g: int, rows: slice) -> None:
        """Write the records of one strip of group `g`: for some channels at a time, some rows at a time.

        The weights of these channels stay in the first-level cache for the whole strip, which comes once more for each block of them.
        """
        image = GRIDS.plus(g * self.channels * math.prod(self.place.size))
        self.strip.write(out, rows, source=image, target=SCRATCH, flip=self.key.flip)
        for start, end in self.blocks:
            channels = g * self.m + start, g * self.m + end
            for top in range(rows.start, rows.stop, self.rows):
                some = slice(top, min(top + self.rows, rows.stop))
                self._multiply(out, self.left[g][start * self.depth :], channels, some, top - rows.start)
                if self.key.last is not None:
                    self.requantize(out, self.key.last, self.sums, channels, some)

    def _multiply(self, out: Program, left: Values, channels: tuple[int, int], rows: slice, depth: int) -> None:
        """Write the records that multiply rows, the first so deep in the strip: all at once, or row by row."""
        place, (channel, end), count = self.place, channels, rows.stop - rows.start
        if self.key.last is not None:
            c, step = self.sums, 4 * count * self.pitch
        else:
            step = 4 * place.out[0] * self.pitch
            c = RESULT.plus(channel * step + 4 * rows.start * self.pitch)
        each = 1 if self.by_rows else count
        for row in range(0, count, each):
            out.multiply_planes(
                self.key.kernel.planes, a=left, b=SCRATCH.plus((depth + row) * place.pitch * self.right.kr),
                c=c.plus(4 * row * self.pitch), ldc=step, m=end - channel, n=place.columns(each), k=self.run,
                row_start=CONSTANTS.plus(self.start * channel), plane=self.strip.plane, runs=self.runs, count=self.runs.size,
            )  # fmt: skip
