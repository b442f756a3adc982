"""Where the pixels of a convolution lie: its geometry, worked out from ONNX's attributes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.engine.layouts import NATIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Columns of a window that may have grids of their own, which are as many copies of the image.
MOST_APART = 16

#: Multiply-accumulates that a further pixel of the grids has to save, since it is written to memory and read from there again.
WORTH = 16

#: The most that a stride, a dilation or a padding may be: what native code makes of them has to fit 64 bits.
MOST = 2**31 - 1

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def slack() -> int:
    """The columns of a row that native code reads at least, a panel; grids have so many bytes more than pixels."""
    return max(r for _, r, _ in NATIVE)


@dataclass(frozen=True, eq=False)
class Geometry:
    """The spatial side of one convolution; every tuple has one entry a spatial dimension."""

    #: Of the image, and of the window.
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    #: Padding before and after each dimension.
    begin: tuple[int, ...]
    end: tuple[int, ...]
    out: tuple[int, ...]
    #: Whether each column of the window has a grid of its own, so that no columns lie between the rows of the output.
    apart: bool = False

    @functools.cached_property
    def gains_apart(self) -> bool:
        """Whether there are columns to save, and not so many copies that memory would matter."""
        return len(self.out) == 2 and not self.dense and self.kernel[-1] <= MOST_APART

    @functools.cached_property
    def taken_apart(self) -> Geometry:
        """The same convolution with `apart`."""
        return dataclasses.replace(self, apart=True)

    @functools.cached_property
    def rows_apart(self) -> float:
        """With more rows of weights than these `taken_apart` gains; columns and copies both have every channel."""
        apart = self.taken_apart
        saved = self.columns(self.out[0]) - apart.columns(apart.out[0])
        copied = len(apart.phases) * math.prod(apart.grid) - len(self.phases) * math.prod(self.grid)
        return WORTH * copied / (len(self.shifts) * max(saved, 1))

    @functools.cached_property
    def padded(self) -> Geometry:
        """A geometry whose only grid is the padded image, as far as windows reach."""
        ones = (1,) * len(self.size)
        reach = [
            (n - 1) * s + (k - 1) * d + 1
            for n, k, d, s in zip(self.out, self.kernel, self.dilations, self.strides, strict=True)
        ]
        return Geometry(self.size, ones, ones, ones, self.begin, self.end, tuple(reach))

    @functools.cached_property
    def grid(self) -> tuple[int, ...]:
        """Size of each grid: the output, and as far beyond as the last offset of the window looks."""
        reach = [(k - 1) * d // s for k, d, s in zip(self.kernel, self.dilations, self.strides, strict=True)]
        if self.apart:
            reach[-1] = 0
        return tuple(n + r for n, r in zip(self.out, reach, strict=True))

    @functools.cached_property
    def remainders(self) -> list[list[int]]:
        """The remainders by the stride that offsets of the window have, for each dimension, in rising order.

        Of columns with grids of their own they are the offsets themselves.
        """
        found = [
            sorted({o * d % s for o in range(k)})
            for k, d, s in zip(self.kernel, self.dilations, self.strides, strict=True)
        ]
        if self.apart:
            found[-1] = [o * self.dilations[-1] for o in range(self.kernel[-1])]
        return found

    @functools.cached_property
    def phases(self) -> list[tuple[int, ...]]:
        """The remainders of every dimension together; there is a grid for each."""
        return list(itertools.product(*self.remainders))

    @functools.cached_property
    def shifts(self) -> list[tuple[int, int]]:
        """For each offset of the window, in the order of the weights: which grid, and how far along it flattened."""
        # One dimension after another, each a step inside those before it, so that a large window costs no more than its weights.
        found = [(0, 0)]
        for axis, known in enumerate(self.remainders):
            step, spread, size = self.strides[axis], self.dilations[axis], self.grid[axis]
            if self.apart and axis == len(self.grid) - 1:
                along = [(o, 0) for o in range(self.kernel[axis])]
            else:
                rank = {remainder: number for number, remainder in enumerate(known)}
                along = [(rank[o * spread % step], o * spread // step) for o in range(self.kernel[axis])]
            count = len(known)
            found = [(grid * count + r, shift * size + far) for grid, shift in found for r, far in along]
        return found

    @functools.cached_property
    def moves(self) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
        """For each grid the pixels of the image that lie on it, and where; both with all channels before them."""
        found = []
        for phase in self.phases:
            source, target = [slice(None)], [slice(None)]
            for axis, remainder in enumerate(phase):
                step, size = self.strides[axis], self.size[axis]
                # Pixel i lies at (i + before) / step, where that is whole.
                before = self.begin[axis] - remainder
                first = max(-(-before // step), 0)
                last = min((size - 1 + before) // step, self.grid[axis] - 1)
                count = max(0, last - first + 1)
                pixel = first * step - before
                source.append(slice(pixel, pixel + count * step, step))
                target.append(slice(first, first + count))
            found.append((tuple(source), tuple(target)))
        return found

    @functools.cached_property
    def plain(self) -> bool:
        """Whether the image itself is the grid, and its runs are long enough to be gathered (see `slack`)."""
        same = self.grid == self.size and set(self.strides) == {1} and not any(self.begin)
        return same and (len(self.shifts) == 1 or self.columns(1) >= slack())

    @functools.cached_property
    def pixels(self) -> int:
        """Pixels of one output channel."""
        return math.prod(self.out)

    @functools.cached_property
    def pitch(self) -> int:
        """Columns from one output row (one index of the first dimension) to the next."""
        return math.prod(self.grid[1:])

    @functools.cached_property
    def span(self) -> int:
        """Columns from the first pixel of an output row to its last, inclusive."""
        last = 0
        for n, size in zip(self.out[1:], self.grid[1:], strict=True):
            last = last * size + n - 1
        return last + 1

    @functools.cached_property
    def dense(self) -> bool:
        """Whether every column is a pixel of the output."""
        return self.grid[1:] == self.out[1:]

    def columns(self, rows: int) -> int:
        """Columns that cover `rows` output rows."""
        return (rows - 1) * self.pitch + self.span


def geometry(
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
) -> Geometry:
    """Work out a convolution's geometry from ONNX's attributes, checking each.

    Raises
    ------
    TypeError
        If an attribute does not hold integers.
    ValueError
        If an attribute has the wrong length or an impossible value, or the window is larger than the padded image.
    """
    d = len(kernel)
    steps = _integers("strides", strides, d, least=1, default=1)
    spread = _integers("dilations", dilations, d, least=1, default=1)
    margins = _integers("pads", pads, 2 * d, least=0, default=0)
    if auto_pad not in AUTO_PADS:
        raise ValueError(f"auto_pad must be one of {', '.join(AUTO_PADS)}, got {auto_pad!r}")
    if auto_pad != "NOTSET" and any(margins):
        raise ValueError(f"pads must be left out with auto_pad={auto_pad!r}, got {list(margins)}")
    reach = tuple((k - 1) * s + 1 for k, s in zip(kernel, spread, strict=True))
    begin, end = margins[:d], margins[d:]
    if auto_pad.startswith("SAME"):
        total = [
            max(0, (-(-size // step) - 1) * step + span - size)
            for size, step, span in zip(spatial, steps, reach, strict=True)
        ]
        less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        begin, end = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    out = []
    for axis in range(d):
        room = spatial[axis] + begin[axis] + end[axis] - reach[axis]
        if room < 0:
            raise ValueError(
                f"w must fit into the padded x: along spatial axis {axis} the window spans {reach[axis]}"
                f" and x with its padding {room + reach[axis]}"
            )
        out.append(room // steps[axis] + 1)
    return Geometry(spatial, kernel, steps, spread, begin, end, tuple(out))


@functools.lru_cache(maxsize=256)
def _known(
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...] | None,
    pads: tuple[int, ...] | None,
    dilations: tuple[int, ...] | None,
    auto_pad: str,
) -> Geometry:
    return geometry(spatial, kernel, strides=strides, pads=pads, dilations=dilations, auto_pad=auto_pad)


def owned(values: Sequence[int] | None) -> Sequence[int] | None:
    """One attribute as a tuple that nobody changes; what does not hold integers is left to be refused (see `geometry`)."""
    try:
        return None if values is None else tuple(map(operator.index, values))
    except TypeError:
        return values


def known_geometry(
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
    auto_pad: str,
) -> Geometry:
    """Do what `geometry` does, remembering the results."""
    try:
        given = [None if v is None else tuple(map(operator.index, v)) for v in (strides, pads, dilations)]
    except TypeError:
        given = []
    if given and isinstance(auto_pad, str):
        return _known(spatial, kernel, *given, auto_pad)
    # Not integers, or no name: `geometry` has the words for it.
    return geometry(spatial, kernel, strides=strides, pads=pads, dilations=dilations, auto_pad=auto_pad)


def _integers(name: str, values: Sequence[int] | None, count: int, *, least: int, default: int) -> tuple[int, ...]:
    """One attribute as a tuple of `count` ints, none below `least`."""
    if values is None:
        return (default,) * count
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if array.shape != (count,):
        raise ValueError(f"{name} must hold {count} integers, got shape {array.shape}")
    if array.size and array.min() < least:
        raise ValueError(f"{name} must be at least {least}, got {array.tolist()}")
    if array.size and array.max() > MOST:
        raise ValueError(f"{name} must be at most {MOST}, got {array.tolist()}")
    return tuple(array.tolist())
