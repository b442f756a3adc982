"""Runs the native depthwise convolution with guard pages and canaries around everything, and says what it has to give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from support.checked import Checker
from support.entry import Entry
from support.epilogue import Array, same_bits
from support.guard import Rectangle, guarded_input

from pyint8dot import epilogue
from pyint8dot.convolution.depthwise import LEAST, SHARED

#: The entries, and how many taps they take at a time.
STEMS = {"depthwise": 1, "depthwise_sdot": SHARED}


class Call:
    """One call on random pixels, or on `pixels` alone: (m, n) results of the taps `weights`, shape (groups, taps of each).

    The first tap of each group lies at `offsets`, the others `spread` pixels apart, results `step` pixels apart. The pixels begin with
    the first that is read and end with the last. `scale` None stands for sums.
    """

    def __init__(
        self,
        stem: str,
        rng: np.random.Generator,
        m: int,
        n: int,
        weights: Array,
        offsets: Array,
        scale: float | None = None,
        zero_point: int = 0,
        dtype: npt.DTypeLike = np.int32,
        *,
        step: int = 1,
        spread: int = 1,
        ld_x: int = 19,
        padding: int = 0,
        place: str = "end",
        pixels: int | None = None,
    ) -> None:
        self.stem, together = stem, STEMS[stem]
        first = int(min(offsets, default=0))
        # Taken four by four, the columns of a tile take whole registers.
        width = max(n, LEAST) if together == 1 else (max(n, LEAST) - SHARED) * step + LEAST
        read = (m - 1) * ld_x + int(max(offsets, default=0)) - first + width if m and n and len(offsets) else 0
        kind = np.dtype(dtype)
        x = rng.integers(-128, 128, read, dtype=np.int8) if pixels is None else np.full(read, pixels, np.int8)
        start = rng.integers(-(2**31), 2**31) if scale is None else rng.integers(-(2**15), 2**15)
        at = np.arange(m)[:, None] * ld_x + step * np.arange(n) - first
        total = np.full((m, n), start, np.int64)
        for group, offset in zip(weights.tolist(), offsets.tolist(), strict=True):
            for tap, weight in enumerate(group):
                if weight:
                    total += weight * x[at + offset + spread * tap].astype(np.int64)
        sums = total.astype(np.int32)
        self.want = sums if scale is None else epilogue.requantize(sums, np.float32(scale), zero_point, kind)
        self.y = Rectangle(m, n, n + padding, place, kind)
        factor = np.float32([0 if scale is None else scale])
        inputs = [
            x,
            offsets.astype(np.int64),
            weights.astype(np.int16 if together == 1 else np.int8),
            np.int32([start]),
            factor,
        ]
        self._kept = [guarded_input(each, place) for each in inputs]
        pixel, *others = (each.address for each in self._kept)
        if scale is None:
            others[-1] = 0
        fields = [pixel - first, self.y.address, ld_x, self.y.stride * kind.itemsize, m, n, len(weights), *others]
        fields += [zero_point, int(kind == np.uint8)]
        if together > 1:
            index = np.add.outer(step * np.arange(SHARED), spread * np.arange(SHARED)).astype(np.int8)
            self._kept.append(guarded_input(np.append(np.int64(step), index.reshape(-1).view(np.int64)), place))
            fields.append(self._kept[-1].address)
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry(self.stem).call(checker, self.argument) + self.y.damage()
        problems += same_bits(self.y.values, self.want)
        assert not problems, "\n".join(problems)


class Floats:
    """One call of `depthwise_f32` on pixels of which `x`, of one dimension, are those that it reads: (m, n) results of the taps `weights`.

    Results lie `step` pixels apart, their rows `ld_x`; the first tap of the first result at `-min(offsets)`.
    """

    def __init__(
        self,
        x: Array,
        m: int,
        n: int,
        weights: Array,
        offsets: Array,
        start: float,
        *,
        step: int = 1,
        ld_x: int = 19,
        padding: int = 0,
        place: str = "end",
    ) -> None:
        first = int(offsets.min())
        at = np.arange(m)[:, None] * ld_x + step * np.arange(n) - first
        self.want = np.full((m, n), start, np.float32)
        with np.errstate(all="ignore"):
            for weight, offset in zip(weights, offsets, strict=True):
                self.want += x[at + offset] * weight
        self.y = Rectangle(m, n, n + padding, place, np.float32)
        inputs = [x, 4 * offsets.astype(np.int64), weights, np.float32([start])]
        self._kept = [guarded_input(each, place) for each in inputs]
        pixel, *others = (each.address for each in self._kept)
        fields = [pixel - 4 * first, self.y.address, 4 * ld_x, 4 * self.y.stride, m, n, step, len(weights), *others]
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address

    @staticmethod
    def read(m: int, n: int, offsets: Array, step: int, ld_x: int) -> int:
        """How many pixels it may read."""
        return (m - 1) * ld_x + int(offsets.max() - offsets.min()) + step * n if m and n else 0

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry("depthwise_f32").call(checker, self.argument) + self.y.damage()
        problems += same_bits(self.y.values, self.want)
        assert not problems, "\n".join(problems)
