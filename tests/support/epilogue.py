"""Runs the native epilogues with guard pages and canaries around everything, and says what they have to give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from support.checked import Checker
from support.entry import Entry
from support.guard import Guarded, Rectangle, guarded_input, guarded_rows

from pyint8dot import epilogue, quantize

Array = npt.NDArray[Any]

# q_scale's numbers for where a tie goes.
POLICIES = {1: "Zero", 2: "Away", 3: "MinusInf", 4: "PlusInf", 5: "Even", 6: "Odd"}


class Call:
    """One call: ``source`` (m, n) in, ``want`` of the same shape out, ``rest`` the fields after the first six.

    Every epilogue begins with source, result, their row strides in bytes, rows and columns.
    """

    def __init__(
        self, stem: str, source: Array, want: Array, rest: Sequence[int | Array | Guarded], place: str, padding: int
    ) -> None:
        self.stem, self.want = stem, want
        m, n = source.shape
        self.y = Rectangle(m, n, n + padding, place, want.dtype)
        memory, stride = guarded_rows(source, padding, place)
        self._kept = [memory]
        fields = [memory.address, self.y.address, stride, self.y.stride * want.itemsize, m, n]
        fields += [self._field(value, place) for value in rest]
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address

    def _field(self, value: int | Array | Guarded, place: str) -> int:
        """A number as it is, memory as its address, an array as that of a read-only copy."""
        if isinstance(value, int):
            return value
        self._kept.append(value if isinstance(value, Guarded) else guarded_input(value, place))
        return self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry(self.stem).call(checker, self.argument) + self.y.damage()
        problems += same_bits(self.y.values, self.want)
        assert not problems, "\n".join([self.stem, *problems])


def same_bits(values: Array, want: Array) -> list[str]:
    """What is wrong with a result, nothing if it has the wanted bits."""
    # Compared as integers, so that -0.0 is not 0.0.
    kind = f"i{want.itemsize}"
    wrong = np.argwhere(np.ascontiguousarray(values).view(kind) != np.ascontiguousarray(want).view(kind))
    if not wrong.size:
        return []
    i, j = map(int, wrong[0])
    return [f"{len(wrong)} wrong cells, the first y[{i}][{j}]: {values[i, j]!r} instead of {want[i, j]!r}"]


def requantize(
    acc: Array, scale: Array, axis: str, zero_point: int, dtype: npt.DTypeLike, *, place: str = "end", padding: int = 0
) -> Call:
    """``axis`` says what ``scale`` has one value for: "all", "row" or "column"."""
    shaped = scale[:, None] if axis == "row" else scale
    want = epilogue.requantize(acc, shaped, zero_point, dtype)
    rest = [scale, 4 if axis == "row" else 0, int(axis == "column"), zero_point, int(np.dtype(dtype) == np.uint8)]
    return Call("requantize", acc, want, rest, place, padding)


def dequantize(
    acc: Array,
    rows: Array,
    columns: Array,
    bias: Array | None,
    act: str | None,
    *,
    place: str = "end",
    padding: int = 0,
) -> Call:
    """``rows`` is one scale per row, or a single one for all; ``bias`` has one value per column, or a row for each row."""
    single = len(rows) == 1
    want = epilogue.dequantize(acc, rows[0] if single else rows, columns, bias, act)
    number = epilogue.ACTIVATIONS.index(act)
    ld_bias = 0 if bias is None or bias.ndim == 1 else bias.strides[0]
    rest = [rows, 0 if single else 4, columns, 0 if bias is None else bias, number, ld_bias]
    return Call("dequantize", acc, want, rest, place, padding)


def q_scale(
    acc: Array,
    multiplier: int,
    shift: int,
    policy: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: npt.DTypeLike,
    *,
    place: str = "end",
    padding: int = 0,
) -> Call:
    quotient = rounded(acc.astype(np.int64) * multiplier, shift, POLICIES[policy])
    moved = (quotient + zero_point).astype(np.int32)
    want = np.clip(moved, low, high).astype(dtype)
    return Call("q_scale", acc, want, [multiplier, shift, policy, zero_point, low, high], place, padding)


def rounded(product: Array, shift: int, policy: str) -> Array:
    """``product / 2^shift`` to the nearest integer, ties as the policy says; from its definition, in 64-bit integers."""
    floor = product >> shift
    rest = product - (floor << shift)
    half = 1 << (shift - 1)
    tie_goes_up = {
        "Zero": product < 0,
        "Away": product > 0,
        "MinusInf": np.zeros(product.shape, bool),
        "PlusInf": np.ones(product.shape, bool),
        "Even": floor % 2 == 1,
        "Odd": floor % 2 == 0,
    }[policy]
    return floor + ((rest > half) | ((rest == half) & tie_goes_up))


class QuantizeRows(Call):
    """quantize_rows has a second result, the scales, and a status that it may set."""

    def __init__(self, x: Array, *, place: str = "end", padding: int = 0) -> None:
        finite = np.isfinite(x).all(axis=1)
        self.finite = finite
        want = np.zeros(x.shape, np.int8)
        want[finite], self.want_scales = quantize.quantize_rows(x[finite])
        self.scales = Rectangle(1, len(x), place=place, dtype=np.float32)
        self.status = Rectangle(1, 1, place=place, dtype=np.int64)
        self.status.values[...] = 0
        super().__init__("quantize_rows", x, want, [self.scales.buffer, self.status.buffer], place, padding)

    def check(self, checker: Checker) -> None:
        if not self.finite.all():
            # The results of the rows that are not finite have no meaning; all the rest must be right.
            problems = Entry(self.stem).call(checker, self.argument) + self.y.damage()
            assert not problems, "\n".join(problems)
            np.testing.assert_array_equal(self.y.values[self.finite], self.want[self.finite])
            assert not np.isfinite(self.scales.values[0, ~self.finite]).any()
        else:
            super().check(checker)
        # As integers here too: the scale of a row of zeros has no sign.
        np.testing.assert_array_equal(
            self.scales.values[0, self.finite].view(np.int32), self.want_scales.view(np.int32)
        )
        assert self.scales.damage() + self.status.damage() == []
        assert self.status.values[0, 0] == int(not self.finite.all())
