"""Runs the native maxima and averages of windows with guard pages and canaries around everything, and says what they have to give."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from support.checked import Checker
from support.entry import Entry
from support.epilogue import Array, same_bits
from support.guard import Guarded, Rectangle, guarded_input

from pyint8dot.engine.pool import BEYOND, BEYOND_SUMS, MOST_PLACES, Axis, _geometry, _sums
from pyint8dot.engine.program import MAX_POOLS
from pyint8dot.epilogue import requantize


def maxima(x: Array, axes: Sequence[Axis]) -> Array:
    """The maxima by their definition: padded, and place of the window by place."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return over_windows(x, axes, lowest, np.maximum)


def sums(x: Array, axes: Sequence[Axis], zero: int) -> Array:
    """The sums of what codes stand for by their definition."""
    return over_windows(x.astype(np.int32) - zero, axes, 0, np.add)


def over_windows(x: Array, axes: Sequence[Axis], nothing: float, combine: np.ufunc) -> Array:
    """Combine the places of each window, those of the padding being `nothing`."""
    reach = [(a.out - 1) * a.stride + (a.taps - 1) * a.dilation + 1 for a in axes]
    pads = [(a.before, max(0, r - a.size - a.before)) for a, r in zip(axes, reach, strict=True)]
    padded = np.pad(x, [(0, 0)] * (x.ndim - len(axes)) + pads, constant_values=nothing)
    y = np.full((*x.shape[: -len(axes)], *(a.out for a in axes)), nothing, x.dtype)
    for offset in itertools.product(*(range(a.taps) for a in axes)):
        starts = [o * a.dilation for o, a in zip(offset, axes, strict=True)]
        cut = [slice(s, s + (a.out - 1) * a.stride + 1, a.stride) for s, a in zip(starts, axes, strict=True)]
        y = combine(y, padded[(..., *cut)])
    return y


class Call:
    """One call on the planes `x`, shape (planes, rows, columns)."""

    def __init__(self, x: Array, rows: Axis, columns: Axis, *, place: str = "end") -> None:
        self.stem = MAX_POOLS[x.dtype]
        self.want = maxima(x, (rows, columns)).reshape(1, -1)
        self.y = Rectangle(1, self.want.size, place=place, dtype=x.dtype)
        geometry, length = _geometry(x.itemsize, rows, columns)
        self.line = Guarded(length + BEYOND, place)
        self._kept = [guarded_input(x, place), guarded_input(geometry, place)]
        source, words = (each.address for each in self._kept)
        fields = np.array([source, self.y.address, len(x), words, self.line.address], np.int64)
        self._kept.append(guarded_input(fields, place))
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a byte outside, a spoilt register."""
        problems = Entry(self.stem).call(checker, self.argument) + self.y.damage()
        problems += [f"the line was overrun {side} at {at}" for side, at in self.line.damage()]
        problems += same_bits(self.y.values, self.want)
        assert not problems, "\n".join([self.stem, *problems])


class Average:
    """One call on the planes `x` of codes, with zero points and the type of the result."""

    def __init__(
        self, x: Array, rows: Axis, columns: Axis, factors: Array, zeros: tuple[int, int], dtype: type, *, place: str = "end"
    ) -> None:  # fmt: skip
        assert rows.taps * columns.taps <= MOST_PLACES
        self.want = requantize(sums(x, (rows, columns), zeros[0]), factors, zeros[1], dtype).reshape(1, -1)
        self.y = Rectangle(1, self.want.size, place=place, dtype=np.dtype(dtype))
        flips = [0x80 if np.dtype(kind).kind == "u" else 0 for kind in (x.dtype, dtype)]
        table = np.full((rows.out, -(-columns.out // 8) * 8), np.nan, np.float32)
        table[:, : columns.out] = factors
        steps = [table.strides[0] * i for i in range(rows.out)]
        geometry, length = _sums(rows, columns, zeros[0] - flips[0], steps)
        self.line = Guarded(length + BEYOND_SUMS, place)
        self._kept = [guarded_input(each, place) for each in (x, geometry, table)]
        source, words, by = (each.address for each in self._kept)
        fields = [source, self.y.address, len(x), words, by, zeros[1] - flips[1], *flips, self.line.address]
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a byte outside, a spoilt register."""
        problems = Entry("average_pool").call(checker, self.argument) + self.y.damage()
        problems += [f"the line was overrun {side} at {at}" for side, at in self.line.damage()]
        problems += same_bits(self.y.values, self.want)
        assert not problems, "\n".join(["average_pool", *problems])


def random_average(rng: np.random.Generator, x: Array, rows: Axis, columns: Axis, *, place: str = "end") -> Average:
    """One call with factors of any size and sign, and zero points at the ends of their range and between."""
    factors = (rng.standard_normal((rows.out, columns.out)) * 10.0 ** rng.integers(-3, 3)).astype(np.float32)
    kind = (np.int8, np.uint8)[int(rng.integers(2))]
    zeros = [int(pixels(rng, np.dtype(each), 1)[0]) for each in (x.dtype, kind)]
    return Average(x, rows, columns, factors, (zeros[0], zeros[1]), kind, place=place)


def random_axis(rng: np.random.Generator, longest: int) -> Axis | None:
    """An axis whose windows fit, else None."""
    size, taps, stride, dilation, before, after = map(int, rng.integers((1, 1, 1, 1, 0, 0), (longest, 7, 4, 3, 3, 3)))
    room = size + before + after - (taps - 1) * dilation - 1
    return Axis(size, room // stride + 1, taps, stride, dilation, before) if room >= 0 else None


def pixels(rng: np.random.Generator, dtype: np.dtype, *shape: int) -> Array:
    """Values over the whole range, the least and the greatest often among them."""
    if dtype.kind == "f":
        return rng.choice(np.float32([-np.inf, -3e38, -1, 1e-45, 2, 3e38, np.inf]), shape)
    limits = np.iinfo(dtype)
    some = rng.integers(limits.min, limits.max + 1, shape, dtype)
    return np.where(rng.random(shape) < 0.3, rng.choice([limits.min, limits.max], shape), some).astype(dtype)
