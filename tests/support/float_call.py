"""Runs the native float functions with guard pages and canaries around everything, and says what they have to give."""

from __future__ import annotations

from typing import Any

import numpy as np
from support.checked import Checker
from support.entry import Entry
from support.epilogue import Array, Call, same_bits
from support.guard import Guarded, Rectangle, guarded_input, guarded_rows

from pyint8dot import attention, floats, lrn, quantize


class Exp2Terms(Call):
    """exp2_terms has a second result, the sums."""

    def __init__(self, x: Array, scale: np.float32, *, place: str = "end", padding: int = 0) -> None:
        want, self.want_sums = floats.exp2_terms(x, scale=scale, native=False)
        self.sums = Rectangle(1, len(x), place=place, dtype=np.float32)
        super().__init__("exp2_terms", x, want, [np.float32([scale]), self.sums.buffer], place, padding)

    def check(self, checker: Checker) -> None:
        super().check(checker)
        np.testing.assert_array_equal(self.sums.values[0], self.want_sums[:, 0])
        assert self.sums.damage() == []


class Rows:
    """One call of an entry that takes rows one behind the other: ``want`` out, and ``others`` the fields after x, y, m and n.

    A float32 array among these is an input; a pair of a number of values and what they have to be is a second result.
    """

    def __init__(self, stem: str, x: Array, want: Array, others: list[Any], place: str) -> None:
        self.stem, self.want = stem, want.reshape(1, -1)
        self.y = Rectangle(1, x.size, place=place, dtype=np.float32)
        self._kept = [guarded_input(x, place)]
        fields = [self._kept[0].address, self.y.address, *x.shape]
        self.results: list[tuple[Rectangle, Array]] = []
        for other in others:
            if isinstance(other, tuple):
                self.results.append((Rectangle(1, other[0], place=place, dtype=np.float32), other[1]))
                fields.append(self.results[-1][0].address)
            elif isinstance(other, int):
                fields.append(other)
            else:
                self._kept.append(guarded_input(other, place))
                fields.append(self._kept[-1].address)
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry(self.stem).call(checker, self.argument) + self.y.damage()
        problems += same_bits(self.y.values, self.want)
        for found, want in self.results:
            problems += same_bits(found.values, want.reshape(1, -1)) + found.damage()
        assert not problems, "\n".join([self.stem, *problems])


def divide_rows(x: Array, divisors: Array, *, root: bool, place: str = "end") -> Rows:
    want = floats.divide_rows(x, divisors[:, None], root=root, native=False)
    return Rows("divide_rows", x, want, [divisors, int(root)], place)


def deviations(x: Array, *, place: str = "end") -> Rows:
    want, variance = floats.deviations(x, native=False)
    # Without columns there is none.
    return Rows("deviations", x, want, [(len(x) if x.size else 0, variance if x.size else want)], place)


class LayerNorm(Call):
    """layer_norm, which may have a residual, and a second result where there is a factor."""

    def __init__(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        eps: float,
        residual: Array | None = None,
        factor: Array | None = None,
        *,
        place: str = "end",
        padding: int = 0,
    ) -> None:
        want, self.want_scaled = floats.layer_norm_and_scaled(
            x, weight, bias, weight if factor is None else factor, eps=eps, residual=residual, native=False
        )
        self.z = None if factor is None else Rectangle(*x.shape, x.shape[1] + padding, place, np.float32)
        added, step = (0, 0) if residual is None else guarded_rows(residual, padding, place)
        z, ld_z = (0, 0) if self.z is None else (self.z.address, 4 * self.z.stride)
        rest = [weight, bias, np.float32([eps]), added, step, 0 if factor is None else factor, z, ld_z]
        super().__init__("layer_norm", x, want, rest, place, padding)

    def check(self, checker: Checker) -> None:
        super().check(checker)
        if self.z is not None:
            assert same_bits(self.z.values, self.want_scaled) + self.z.damage() == []


class Attention:
    """One call of attention on arrays of (heads, rows, columns); a mask of one row a head is that of every query."""

    def __init__(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        scale: float,
        *,
        place: str = "end",
        padding: int = 0,
    ) -> None:
        heads, m, d = q.shape
        n, width = v.shape[1:]
        want = attention.attention(q[None], k[None], v[None], mask, scale=scale, native=False)
        self.want = want.reshape(heads * m, width)
        self.y = Rectangle(heads * m, width, width + padding, place, np.float32)
        self.scratch = Guarded(32 * (d + (n + 7) // 8 * 8), place)
        self._kept = [guarded_input(np.float32([scale]), place)]
        sources = [self._rows(x, padding, place) for x in (q, k, v)]
        sources.append((self.y.address, 4 * self.y.stride, 4 * self.y.stride * m))
        hidden, row, head = (0, 0, 0) if mask is None else self._rows(mask, padding, place)
        sources.append((hidden, 0 if mask is None or mask.shape[1] < m else row, head))
        words = [heads, m, n, d, width, *(row for _, row, _ in sources), *(head for *_, head in sources)]
        self._kept.append(guarded_input(np.array(words, np.int64), place))
        addresses = [address for address, *_ in sources]
        scale_at, geometry = (each.address for each in (self._kept[0], self._kept[-1]))
        fields = np.array([*addresses, scale_at, geometry, self.scratch.address], np.int64)
        self._kept.append(guarded_input(fields, place))
        self.argument = self._kept[-1].address

    def _rows(self, x: Array, padding: int, place: str) -> tuple[int, int, int]:
        """Where the rows of all heads lie, and the bytes from a row and from a head to the next."""
        memory, stride = guarded_rows(x.reshape(len(x) * x.shape[1], x.shape[2]), padding, place)
        self._kept.append(memory)
        return memory.address, stride, stride * x.shape[1]

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry("attention").call(checker, self.argument) + self.y.damage()
        problems += [f"the scratch was overrun {side} at {at}" for side, at in self.scratch.damage()]
        problems += same_bits(self.y.values, self.want)
        assert not problems, "\n".join(["attention", *problems])


class Flat:
    """One call of an entry that takes the values of ``x`` one by one: ``want`` out, ``rest`` the fields after x, y and n."""

    def __init__(self, stem: str, x: Array, want: Array, rest: list[int | Array], place: str) -> None:
        self.stem, self.want = stem, want
        self.y = Rectangle(1, len(x), place=place, dtype=want.dtype)
        self._kept = [guarded_input(x, place)]
        fields = [self._kept[0].address, self.y.address, len(x)]
        for value in rest:
            if not isinstance(value, int):
                self._kept.append(guarded_input(value, place))
            fields.append(value if isinstance(value, int) else self._kept[-1].address)
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry(self.stem).call(checker, self.argument) + self.y.damage()
        problems += same_bits(self.y.values, self.want[None])
        assert not problems, "\n".join([self.stem, *problems])


def quantize_linear(x: Array, scale: np.float32, zero_point: np.generic, *, place: str = "end") -> Flat:
    want = quantize.quantize_by(x, scale, zero_point, native=False)
    rest = [np.float32([scale]), int(zero_point), int(want.dtype == np.uint8)]
    return Flat("quantize_linear", x, want, rest, place)


def dequantize_linear(x: Array, scale: np.float32, zero_point: np.generic, *, place: str = "end") -> Flat:
    want = quantize.dequantize_by(x, scale, zero_point, native=False)
    rest = [np.float32([scale]), int(zero_point), int(x.dtype == np.uint8)]
    return Flat("dequantize_linear", x, want, rest, place)


def lookup(x: Array, table: Array, *, place: str = "end") -> Flat:
    return Flat("lookup", x, table[x], [table], place)


def hard_sigmoid(x: Array, alpha: float, beta: float, *, times: bool, place: str = "end") -> Flat:
    with np.errstate(all="ignore"):
        want = floats.hard_sigmoid(x, alpha, beta, times=times, native=False)
    return Flat("hard_sigmoid", x, want, [np.float32([alpha, beta]), int(times)], place)


def combined(a: Array, b: Array, scales: Array, zeros: tuple[np.generic, ...], *, product: bool) -> Array:
    """What `Combine` has to give, in numpy: one operator after the other."""
    with np.errstate(all="ignore"):
        p = quantize.dequantize_by(a, scales[0], zeros[0], native=False)
        q = b if b.dtype == np.float32 else quantize.dequantize_by(b, scales[1], zeros[1], native=False)
        t = p * q if product else p + q
    return np.asarray(quantize.quantize_by(t, scales[2], zeros[2], native=False))


class Combine:
    """One call of combine on codes ``a``, shape (m, n), and ``b`` of the same shape or of one row for all."""

    def __init__(
        self, a: Array, b: Array, scales: Array, zeros: tuple[np.generic, ...], *, product: bool, place: str = "end"
    ) -> None:
        m, n = a.shape
        self.want = combined(a, b, scales, zeros, product=product).reshape(1, m * n)
        self.y = Rectangle(1, m * n, place=place, dtype=self.want.dtype)
        self._kept = [guarded_input(np.ascontiguousarray(each).reshape(-1), place) for each in (a, b, scales)]
        left, right, factors = (each.address for each in self._kept)
        types = a.dtype, b.dtype, self.want.dtype
        unsigned = sum(bit for bit, kind in zip((1, 2, 4), types, strict=True) if kind == np.uint8)
        form = int(b.dtype == np.float32) + 2 * product
        step = b.itemsize * n if b.ndim == 2 else 0
        fields = [left, right, self.y.address, step, m, n, factors, *map(int, zeros), unsigned, form]
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry("combine").call(checker, self.argument) + self.y.damage()
        problems += same_bits(self.y.values, self.want)
        assert not problems, "\n".join(["combine", *problems])


class Lrn:
    """One call of lrn on ``x``, shape (channels, pixels)."""

    def __init__(self, x: Array, size: int, alpha: float, bias: float, *, place: str = "end") -> None:
        channels, pixels = x.shape
        self.want = lrn.local_response_normalisation(x[None], size, alpha, lrn.ROOTS, bias, native=False)[0]
        self.y = Rectangle(1, x.size, place=place, dtype=np.float32)
        self.squares = Guarded(4 * lrn.PIXELS * channels, place)
        self._kept = [guarded_input(each, place) for each in (x, np.float32([alpha / size]), np.float32([bias]))]
        source, *constants = (each.address for each in self._kept)
        window = [(size - 1) // 2, size // 2]
        fields = [source, self.y.address, channels, pixels, *window, *constants, self.squares.address]
        self._kept.append(guarded_input(np.array(fields, np.int64), place))
        self.argument = self._kept[-1].address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry("lrn").call(checker, self.argument) + self.y.damage()
        problems += [f"the squares were overrun {side} at {at}" for side, at in self.squares.damage()]
        problems += same_bits(self.y.values, self.want.reshape(1, -1))
        assert not problems, "\n".join(problems)


class DynamicQuantize:
    """One call of dynamic_quantize on the values of ``x``, which has one dimension, as so many rows."""

    def __init__(self, x: Array, *, place: str = "end", m: int = 1) -> None:
        try:
            self.want = quantize.dynamic_quantize_linear(x, native=False)
        except ValueError:
            self.want = None
        # Codes, scale, zero point and status, each in memory of its own.
        sizes = [(len(x), np.uint8), (1, np.float32), (1, np.uint8), (1, np.int64)]
        self.results = [Rectangle(1, n, place=place, dtype=kind) for n, kind in sizes]
        self.results[3].values[...] = 0
        self.untouched = [each.values.tobytes() for each in self.results[:3]]
        y, *others = (each.address for each in self.results)
        source = guarded_input(x, place)
        fields = guarded_input(np.array([source.address, y, m, len(x) // m, *others], np.int64), place)
        self._kept = [source, fields]
        self.argument = fields.address

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry("dynamic_quantize").call(checker, self.argument)
        for each in self.results:
            problems += each.damage()
        assert not problems, "\n".join(problems)
        *found, status = self.results
        want = self.untouched if self.want is None else [np.asarray(each).tobytes() for each in self.want]
        assert [each.values.tobytes() for each in found] == want
        assert status.values[0, 0] == (self.want is None)
