"""Runs the native maxima of windows with guard pages and canaries around everything, and says what they have to give."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from support.checked import Checker
from support.entry import Entry
from support.epilogue import Array, same_bits
from support.guard import Guarded, Rectangle, guarded_input

from pyint8dot.engine.pool import BEYOND, Axis, _geometry
from pyint8dot.engine.program import MAX_POOLS


def maxima(x: Array, axes: Sequence[Axis]) -> Array:
    """The maxima by their definition: padded, and place of the window by place."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    reach = [(a.out - 1) * a.stride + (a.taps - 1) * a.dilation + 1 for a in axes]
    pads = [(a.before, max(0, r - a.size - a.before)) for a, r in zip(axes, reach, strict=True)]
    padded = np.pad(x, [(0, 0)] * (x.ndim - len(axes)) + pads, constant_values=lowest)
    y = np.full((*x.shape[: -len(axes)], *(a.out for a in axes)), lowest, x.dtype)
    for offset in itertools.product(*(range(a.taps) for a in axes)):
        starts = [o * a.dilation for o, a in zip(offset, axes, strict=True)]
        cut = [slice(s, s + (a.out - 1) * a.stride + 1, a.stride) for s, a in zip(starts, axes, strict=True)]
        y = np.maximum(y, padded[(..., *cut)])
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
