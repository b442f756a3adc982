"""How a convolution becomes matrix products.

The weights are the left operand, packed once, and the windows of the image the right one (`pyint8dot.convolution.im2col`), so that the product has
the pixels of one channel side by side: the layout of the result, with nothing to transpose. A depthwise convolution would be a product
with a single row for each channel; it is a sum of shifted images instead (`pyint8dot.convolution.depthwise`).
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyint8dot.convolution import depthwise as channelwise
from pyint8dot.convolution import im2col, planes, program
from pyint8dot.convolution.geometry import slack
from pyint8dot.convolution.weights import tile_rows
from pyint8dot.engine import cpu, portable, settings
from pyint8dot.epilogue import requantize

if TYPE_CHECKING:
    from typing import Any

    from pyint8dot.arguments import Quantized, Values
    from pyint8dot.convolution.geometry import Geometry
    from pyint8dot.convolution.weights import PackedWeights
    from pyint8dot.engine.kernels import Kernel


# What a convolution works out at its first use and does not depend on the zero point of the images.
KEPT = ("_dots", "_offset", "_shared_zeros", "_taps", "_ways", "_weight_sums", "_windows")


class Rescale(NamedTuple):
    """How sums become int8 or uint8: a float32 factor for each output channel, the zero point, and the type."""

    factor: Values
    zero_point: int
    dtype: np.dtype[Any]


class _Way(NamedTuple):
    """How images become products: on which grids, and by which program where there is one that needs nothing but images.

    Its windows are read in place, or gathered; its results are the convolution's, or sums with columns between the rows.
    """

    place: Geometry
    made: program.ConvProgram | None = None
    direct: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Lowered:
    """A convolution with checked constants, ready for images.

    All values are those of int8: where an operand is uint8, its zero points are 128 less than the caller's.
    """

    weights: PackedWeights
    x_zero: int
    #: int32, one per output channel.
    w_zero: Values
    bias: Values
    #: None where the result is the int32 sums.
    rescale: Rescale | None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles have the constants; programs say where memory of this one lies."""
        return Lowered, (self.weights, self.x_zero, self.w_zero, self.bias, self.rescale)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the result."""
        return np.dtype(np.int32) if self.rescale is None else self.rescale.dtype

    def apply(self, x: Quantized, place: Geometry, kernel: Kernel, count: int) -> Values:
        """Convolve `x`, shape (batch, channels, *spatial), C-ordered, on `count` threads."""
        out = self.weights.shape[0]
        y: Values = np.empty((len(x), out, *place.out), self.dtype)
        if y.size == 0:
            return y
        depthwise = self._depthwise_weights
        if not depthwise:
            settings.count(kernel.name, len(x) * out * place.pixels * self.weights.rows.shape[2])
            key = place, kernel, count, x.dtype
            # Which way an image goes is told from the same things each time.
            way = self._ways.get(key)
            if way is None:
                if len(self._ways) >= program.MOST_PROGRAMS:
                    self._ways.clear()
                way = self._ways[key] = self._way(place, kernel, count, x.dtype)
            place = way.place
            if way.made is not None:
                self._run(x, way, y, kernel)
                return y
        # Going through an array by its elements ends with an exception, which costs more than all of them.
        for i in range(len(x)):
            image, target = x[i], y[i]
            if depthwise and kernel.native:
                self._depthwise(image, place, target, kernel, count)
                continue
            laid = im2col.grids(image, place, self.x_zero)
            if depthwise:
                self._shifted(laid, place, target)
            elif kernel.native:
                self._with_offsets(laid, place, target, kernel, count)
            else:
                self._portable(laid, place, target, kernel)
        return y

    def with_x_zero(self, x_zero: int) -> Lowered:
        """The same with another zero point of the images."""
        changed = dataclasses.replace(self, x_zero=x_zero)
        # What does not depend on it is not worked out again.
        changed.__dict__.update({name: self.__dict__[name] for name in KEPT if name in self.__dict__})
        return changed

    @functools.cached_property
    def _depthwise_weights(self) -> bool:
        """See `PackedWeights.depthwise`."""
        return self.weights.depthwise

    @functools.cached_property
    def _weight_sums(self) -> Values:
        """Sums of the weights of each output channel, without their zero points, int32."""
        sums: Values = self.weights.row_sums - self.weights.rows.shape[2] * self.w_zero
        return sums

    @functools.cached_property
    def _constants(self) -> Values:
        """What the sums of each output channel start from, then the bits of its factor: int32, twice the channels."""
        channels = self.bias.size
        constants = np.empty(2 * channels, np.int32)
        constants[:channels] = self.bias
        if self.x_zero:
            constants[:channels] -= self.x_zero * self._weight_sums
        constants[channels:] = 0 if self.rescale is None else self.rescale.factor.view(np.int32)
        return constants

    @functools.cached_property
    def _less_surplus(self) -> dict[str, Values]:
        """The constants for kernels that add a surplus to the sums of each output channel, by name."""
        return {}

    @functools.cached_property
    def _spread(self) -> dict[int, Values]:
        """The constants for products of planes, where what sums start from is there for each column of a tile, by their number."""
        return {}

    def _spread_on(self, kernel: Kernel) -> Values:
        """Those for a kernel."""
        found = self._spread.get(kernel.nr)
        if found is None:
            start, factors = np.split(self._constants, 2)
            found = self._spread[kernel.nr] = np.concatenate([np.repeat(start, kernel.nr), factors])
        return found

    def _constants_on(self, kernel: Kernel) -> Values:
        """The constants for a kernel, which take off the surplus that it adds."""
        surplus = self.weights.surplus(kernel)
        if surplus is None:
            return self._constants
        found = self._less_surplus.get(kernel.name)
        if found is None:
            found = self._constants.copy()
            found[: surplus.size] -= surplus
            self._less_surplus[kernel.name] = found
        return found

    @functools.cached_property
    def _shared_zeros(self) -> Values | None:
        """The weights' zero point of each group where all its channels share one, else None."""
        each = self.w_zero.reshape(self.weights.group, -1)
        return each[:, 0] if (each == each[:, :1]).all() else None

    @functools.cached_property
    def _offset(self) -> bool:
        """Whether any weight has a zero point other than 0."""
        return bool(self.w_zero.any())

    def _column_sums(self, laid: Values, place: Geometry) -> Values:
        """Sums of the columns of each group, shape (group, columns), with room for a whole panel after each."""
        group, inner = self.weights.group, self.weights.shape[1]
        sums = np.zeros((group, place.out[0] * place.pitch + slack()), np.int32)
        for g in range(group):
            part = im2col.column_sums(laid[:, g * inner : (g + 1) * inner], place)
            sums[g, : part.size] = part
        return sums

    def _way(self, place: Geometry, kernel: Kernel, count: int, dtype: np.dtype[Any]) -> _Way:
        """How images of a type and a geometry become products."""
        outer, inner = self.weights.rows.shape[1], self.weights.shape[1]
        direct = not self._offset and planes.serve(kernel, place, inner, outer)
        if kernel.native and place.gains_apart and not (direct and program.by_rows(place, kernel)):
            # Without columns between the rows sums are the result as they are: copies of the image are worth that for a tile of rows.
            enough = tile_rows() if self.rescale is None else place.rows_apart
            place = place.taken_apart if outer > enough else place
        if self._offset or not kernel.native:
            return _Way(place)
        rescale = self.rescale
        dense = place.dense or (direct and program.by_rows(place, kernel))
        last = None
        if rescale is not None and program.requantises(place):
            last = program.Last(rescale.zero_point, rescale.dtype == np.uint8)
        # Grids are int8 but where they are the image.
        flip = dtype == np.uint8 and (direct or (place.plain and len(place.shifts) == 1))
        made = program.program(self.weights, program.Key(place, kernel, flip, False, last, count, direct))
        return _Way(place, made, direct, last is not None or (rescale is None and dense))

    @functools.cached_property
    def _ways(self) -> dict[Any, _Way]:
        """What `_way` has said before."""
        return {}

    def _run(self, x: Quantized, way: _Way, y: Values, kernel: Kernel) -> None:
        """Convolve images by native programs, where weights have no zero points."""
        place, made, direct, whole = way
        assert made is not None  # noqa: S101 - seen by the caller
        constants, fill = (
            (self._spread_on(kernel), planes.fill(self.x_zero)) if direct else (self._constants_on(kernel), None)
        )
        for i in range(len(x)):
            laid = x[i] if direct else im2col.grids(x[i], place, self.x_zero)
            acc = y[i] if whole else np.empty((y.shape[1], place.out[0] * place.pitch), np.int32)
            made.run(laid, acc, constants, fill)
            if not whole:
                finish(acc, y[i], self.rescale, place)

    def _with_offsets(self, laid: Values, place: Geometry, target: Values, kernel: Kernel, count: int) -> None:
        """Convolve one image by native programs, with weights that have zero points."""
        sums, col_start, late = self._column_sums(laid, place), None, None
        if self._shared_zeros is None:
            late = sums
        else:
            col_start = sums * -self._shared_zeros[:, None]
        rescale = self.rescale
        last = None
        if rescale is not None and late is None and program.requantises(place):
            last = program.Last(rescale.zero_point, rescale.dtype == np.uint8)
        whole = last is not None or (rescale is None and late is None and place.dense)
        acc = target if whole else np.empty((len(target), place.out[0] * place.pitch), np.int32)
        key = program.Key(place, kernel, laid.dtype == np.uint8, col_start is not None, last, count, False)
        program.program(self.weights, key).run(laid, acc, self._constants_on(kernel), col_start)
        if not whole:
            if late is not None:
                self._add_zero_points(acc, late)
            finish(acc, target, rescale, place)

    def _portable(self, laid: Values, place: Geometry, target: Values, kernel: Kernel) -> None:
        """Convolve one image by the portable product."""
        group, m, depth = self.weights.rows.shape
        inner = self.weights.shape[1]
        # A column takes a byte of each k and, as floats, four more; its sums are int32 and float32.
        blocks = im2col.row_blocks(place, depth + 4 * (depth + 2 * m), cpu.caches()[1], 1)
        acc = np.empty((group * m, place.out[0] * place.pitch), np.int32)
        for g in range(group):
            mine = laid[:, g * inner : (g + 1) * inner]
            for rows in blocks:
                first, n = rows.start * place.pitch, place.columns(rows.stop - rows.start)
                right = im2col.columns(mine, place, rows, kernel.right).reshape(depth, n)
                portable.gemm(self.weights.rows[g], right, acc[g * m : (g + 1) * m, first : first + n])
        acc += self._constants[: group * m, None]
        if self._offset:
            self._add_zero_points(acc, self._column_sums(laid, place))
        finish(acc, target, self.rescale, place)

    def _add_zero_points(self, acc: Values, sums: Values) -> None:
        """Make good the weights' zero points in the sums of one image, from the sums of its columns."""
        group = self.weights.group
        each = acc.reshape(group, -1, acc.shape[1])
        each -= self.w_zero.reshape(group, -1, 1) * sums[:, None, : acc.shape[1]]

    @functools.cached_property
    def _windows(self) -> Values:
        """The weights without their zero points, shape (group, channels out of each, taps), int32."""
        group, outer, _ = self.weights.rows.shape
        windows: Values = self.weights.rows.astype(np.int32) - self.w_zero.reshape(group, outer, 1)
        return windows

    @functools.cached_property
    def _taps(self) -> Values:
        """The same as int16, which holds the difference of two 8-bit numbers."""
        return self._windows.astype(np.int16)

    @functools.cached_property
    def _dots(self) -> Values | None:
        """The same as int8 in groups for dot products; None where they do not fit."""
        limits = np.iinfo(np.int8)
        narrow = self._windows.size == 0 or (self._windows.min() >= limits.min and self._windows.max() <= limits.max)
        return channelwise.grouped(self._windows, self.weights.shape[2:]) if narrow else None

    def _depthwise(self, image: Quantized, place: Geometry, target: Values, kernel: Kernel, count: int) -> None:
        """Convolve each channel of one image with its own windows, by native programs."""
        form = channelwise.form(place, kernel, self._dots is not None)
        laid = im2col.grids(image, form.laid, self.x_zero, form.beyond)
        if laid.dtype == np.uint8:
            laid = np.bitwise_xor(laid, im2col.TOP_BIT).view(np.int8)
        rescale = self.rescale
        last = None if rescale is None else program.Last(rescale.zero_point, rescale.dtype == np.uint8)
        made = channelwise.program(self.weights, channelwise.Key(place, form, last, count))
        made.run(laid, target, self._constants, self._taps if form.pattern is None else self._dots)

    def _shifted(self, laid: Values, place: Geometry, target: Values) -> None:
        """Do the same in numpy, each channel of `laid` as sums of shifted images."""
        group, outer, _ = self._windows.shape
        n, columns = place.columns(place.out[0]), place.out[0] * place.pitch
        x_zero = np.int32(self.x_zero + 128 * (laid.dtype == np.uint8))
        # As many channels at a time as the int32 copies of grid, sum and product leave in the cache.
        step = max(1, cpu.caches()[1] // 2 // (4 * (laid[:, 0].size + 2 * outer * n)))
        for first in range(0, group, step):
            part = slice(first, min(first + step, group))
            centred = laid[:, part].astype(np.int32) - x_zero
            channels = slice(part.start * outer, part.stop * outer)
            acc = np.empty((part.stop - part.start, outer, columns), np.int32)
            sums = acc[:, :, :n]
            sums[...] = self.bias[channels].reshape(-1, outer, 1)
            term = np.empty(sums.shape, np.int32)
            for i, (grid, shift) in enumerate(place.shifts):
                run = centred[grid, :, None, shift : shift + n]
                sums += np.multiply(run, self._windows[part, :, i, None], out=term)
            rescale = self.rescale
            if rescale is not None:
                rescale = rescale._replace(factor=rescale.factor[channels])
            finish(acc.reshape(-1, columns), target[channels], rescale, place)


def finish(acc: Values, target: Values, rescale: Rescale | None, place: Geometry) -> None:
    """Turn the int32 sums of some channels, shape (channels, columns), into the values of `target`."""
    grid = acc.reshape(target.shape[:2] + place.grid[1:])
    sums = grid[tuple(slice(n) for n in target.shape)]
    if rescale is None:
        target[...] = sums
    else:
        factor = rescale.factor.reshape((-1,) + (1,) * (target.ndim - 1))
        requantize(sums, factor, rescale.zero_point, target.dtype, out=target)
