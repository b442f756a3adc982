"""The native softmax terms, layer normalisation and dynamic quantisation against their definitions in numpy, bit for bit."""

from __future__ import annotations

import itertools

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from support import child, float_call
from support.entry import Entry

from pyint8dot import floats
from pyint8dot.engine import builtin, elementwise
from pyint8dot.quantize import dynamic_quantize_arrays, dynamic_quantize_linear

SHAPES = [(0, 0), (0, 9), *itertools.product((1, 3), (1, 2, 7, 8, 9, 15, 16, 17, 33, 64))]
PLACES = [("end", 0), ("start", 5)]


def rows(rng, m, n, spread=8):
    return (rng.standard_normal((m, n)) * spread).astype(np.float32)


@pytest.mark.native
def test_exp2_terms(checker, rng):
    def body(note):
        for (m, n), (place, padding), spread in itertools.product(SHAPES, PLACES, (1, 60)):
            note(f"({m}, {n}) {place} {spread}")
            scale = np.float32(1 if spread == 60 else floats.LOG2_E)
            float_call.Exp2Terms(rows(rng, m, n, spread), scale, place=place, padding=padding).check(checker)

    child.check(body)


@pytest.mark.native
def test_exp2_terms_of_special_values(checker):
    x = np.float32(
        [
            [0, -126, -126.5, -127, -200, -np.inf, 3, 1e-40, -0.0],
            [np.inf, 0, 1, 2, 3, 4, 5, 6, 7],
            [np.nan, *range(8)],
            [-np.inf] * 9,
        ]
    )

    def body(note):
        for row in range(4):
            note(f"row {row}")
            call = float_call.Exp2Terms(x[row : row + 1], np.float32(1))
            if np.isfinite(call.want).all():
                call.check(checker)
            else:
                # Which NaN is left open.
                assert Entry("exp2_terms").call(checker, call.argument) + call.y.damage() == []
                np.testing.assert_array_equal(call.y.values, call.want)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("root", [False, True])
def test_divide_rows(checker, rng, root):
    def body(note):
        for (m, n), place in itertools.product(SHAPES, ("end", "start")):
            note(f"({m}, {n}) {place}")
            divisors = np.exp2(rng.standard_normal(m) * 8).astype(np.float32)
            float_call.divide_rows(rows(rng, m, n), divisors, root=root, place=place).check(checker)

    child.check(body)


@pytest.mark.native
def test_deviations(checker, rng):
    def body(note):
        for (m, n), place in itertools.product([*SHAPES, (2, 0)], ("end", "start")):
            note(f"({m}, {n}) {place}")
            float_call.deviations(rows(rng, m, n) + np.float32(3), place=place).check(checker)

    child.check(body)


SPECIAL = np.float32(
    [[0, -0.0, 1e-45, 3], [np.inf, 1, 2, 3], [-np.inf] * 4, [np.nan, 1, 2, 3], [3e38, 3e38, -3e38, 1], [5, 5, 5, 5]]
)


@pytest.mark.parametrize("width", [4, 16, 23])
def test_rows_of_special_values_both_ways(width):
    x = np.tile(SPECIAL, 6)[:, :width].copy()
    divisors = np.float32([[0], [-0.0], [np.inf], [np.nan], [-1], [1e-45]])

    def everything(native):
        quotients = [floats.divide_rows(x, divisors, root=root, native=native) for root in (False, True)]
        return [floats.softmax(x, native=native), *floats.deviations(x, native=native), *quotients]

    for one, other in zip(everything(True), everything(False), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isnan(floats.softmax(x)[2]).all()
    assert not floats.deviations(x)[1][5]


@pytest.mark.native
@pytest.mark.parametrize("with_factor", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
def test_layer_norm(checker, rng, with_residual, with_factor):
    def body(note):
        for (m, n), (place, padding) in itertools.product(SHAPES, PLACES):
            note(f"({m}, {n}) {place}")
            x, weight, bias = rows(rng, m, n) + np.float32(3), rows(rng, 1, n)[0], rows(rng, 1, n)[0]
            residual = rows(rng, m, n) if with_residual else None
            factor = rows(rng, 1, n)[0] if with_factor else None
            float_call.LayerNorm(x, weight, bias, 1e-5, residual, factor, place=place, padding=padding).check(checker)

    child.check(body)


@pytest.mark.parametrize("n", [1, 7, 8, 20, 384])
def test_both_ways_give_the_same_bits(rng, n):
    x, weight, bias = rows(rng, 6, n), rows(rng, 1, n)[0], rows(rng, 1, n)[0]
    strided, ones = np.asfortranarray(x), np.ones(6, np.float32)

    def in_place(native):
        """Over the rows, over the residual, and over rows that are one further in the same memory."""
        memory = np.concatenate([x, x[:1]])
        y, z = x.copy(), x.copy()
        floats.layer_norm(y, weight, bias, residual=x, out=y, native=native)
        floats.layer_norm(x, weight, bias, residual=z, out=z, native=native)
        floats.layer_norm(memory[:-1], weight, bias, residual=x, out=memory[1:], native=native)
        floats.layer_norm(x, weight, bias, residual=memory[1:], out=memory[:-1], native=native)
        apart, shares, quotients, ends = memory.copy(), memory.copy(), memory.copy(), np.asfortranarray(memory)
        floats.deviations(apart[:-1], out=apart[1:], native=native)
        floats.softmax(shares[1:], out=shares[:-1], native=native)
        floats.softmax(ends, out=ends, native=native)
        floats.divide_rows(quotients, quotients[:, -1:], out=quotients, native=native)
        return y, z, memory, apart, shares, quotients, ends

    def everything(native):
        return [
            *floats.exp2_terms(x, native=native),
            *floats.exp2_terms(strided, native=native),
            floats.layer_norm(x, weight, bias, native=native),
            floats.softmax(x, native=native),
            floats.softmax(strided, native=native),
            floats.softmax(x, 0, native=native),
            *floats.deviations(x, native=native),
            *floats.deviations(strided, native=native),
            floats.divide_rows(x, x[:, :1] ** 2, root=True, native=native),
            floats.divide_rows(strided, strided[:, :1], native=native),
            floats.layer_norm(x, weight, None, native=native),
            floats.layer_norm(strided, weight[::-1], bias, native=native),
            floats.layer_norm(x.T, ones, None, native=native),
            floats.layer_norm(x, weight, bias, residual=strided, native=native),
            *floats.layer_norm_and_scaled(strided, weight, None, bias, residual=x, native=native),
            *floats.layer_norm_and_scaled(x, weight, bias, weight[::-1], native=native),
            *in_place(native),
        ]

    for one, other in zip(everything(True), everything(False), strict=True):
        np.testing.assert_array_equal(one, other)


# Ranges of dynamic quantisation that are special: zeros of both signs, subnormals, of which a scale may be a third too small, one sign,
# ties and a code of 256, the largest range, a greater one, and what is not finite.
TINY = 2.0**-149
RANGES = {
    "zeros": [0.0, -0.0, 0.0],
    "minus zero": [-0.0],
    "no scale": [100 * TINY, -20 * TINY],
    "short scale": [380 * TINY, 200 * TINY],
    "short scale below": [-380 * TINY, -1 * TINY],
    "short scale both": [-190 * TINY, 190 * TINY, 3 * TINY],
    "positive": [3, 1e-20, 1.5],
    "negative": [-3, -1e-20, -1.5],
    "ties": [-127.5, 127.5, 0.5, 1.5, -0.5, -1.5, 2.5],
    "large": [1.5e38, -1.5e38, 1],
    "too large": [3e38, -3e38, 1],
    "infinity": [1, np.inf, -1],
    "minus infinity": [-np.inf],
    "nan": [np.nan, 1, 2],
    "nan and infinity": [1, -np.nan, -np.inf],
}


@pytest.mark.native
def test_dynamic_quantize(checker, rng):
    def body(note):
        for n, place in itertools.product((*range(36), 64, 200), ("end", "start")):
            note(f"{n} {place}")
            x = rng.standard_normal(n) * np.exp2(rng.integers(-150, 120)) + rng.choice([0, 0, 1e-3, -5])
            for m in (1, n) if n else (1,):
                float_call.DynamicQuantize(x.astype(np.float32), place=place, m=m).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("values", RANGES.values(), ids=list(RANGES))
def test_dynamic_quantize_of_special_values(checker, values):
    """Each of them in every place of a turn and of the rest."""

    def body(note):
        for at in range(37):
            note(f"at {at}")
            x = np.zeros(40, np.float32)
            x[np.arange(at, at + len(values)) % 40] = values
            float_call.DynamicQuantize(x).check(checker)
        float_call.DynamicQuantize(np.resize(np.float32(values), 48)).check(checker)

    child.check(body)


def same(x):
    """Both ways give the same, errors included."""

    def result(native):
        try:
            y, scale, zero_point = dynamic_quantize_linear(x, native=native)
        except ValueError as error:
            return str(error)
        assert (type(y), type(scale), type(zero_point)) == (np.ndarray, np.float32, np.uint8)
        return y.dtype, y.shape, y.tolist(), scale.tobytes(), zero_point

    assert result(True) == result(False)


SHAPED = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
VALUES = st.one_of(
    FINITE, st.floats(-300, 300, width=32), st.integers(-400, 400).map(lambda i: i * TINY), st.floats(width=32)
)


@given(hnp.arrays(np.float32, SHAPED, elements=VALUES))
def test_dynamic_quantize_both_ways(x):
    same(x)
    same(x.T)
    same(x[..., ::-2] if x.ndim else x)


@pytest.mark.parametrize("values", RANGES.values(), ids=list(RANGES))
def test_dynamic_quantize_both_ways_of_special_values(values):
    same(np.float32(values))
    same(np.resize(np.float32(values), (3, 37)))


@pytest.mark.parametrize("held", [True, False])
def test_dynamic_quantize_both_calls(rng, monkeypatch, held):
    """Below and above what runs on the builtin, and without a builtin."""
    elementwise._dynamic_quantize.cache_clear()
    if not held:
        monkeypatch.setattr(builtin, "quick", lambda: None)
    for n in (0, 5, elementwise.HELD_VALUES, elementwise.HELD_VALUES + 1):
        same(rows(rng, 1, n)[0])
        same(rows(rng, 1, n).reshape(-1, 1)[::-1])
    elementwise._dynamic_quantize.cache_clear()


@pytest.mark.native
def test_dynamic_quantize_is_native(rng, monkeypatch):
    """Numpy is asked only where the scale is not finite."""
    given = []
    real = np.rint
    monkeypatch.setattr(np, "rint", lambda *arguments, **options: given.append(1) or real(*arguments, **options))
    for x in (rows(rng, 8, 8), rows(rng, 8, 8).T, rows(rng, 100, 100), np.zeros((3, 0), np.float32), np.float32(2)):
        dynamic_quantize_linear(x)
    assert given == []
    dynamic_quantize_linear(rows(rng, 8, 8), native=False)
    assert given


def test_dynamic_quantize_as_arrays(rng):
    for native in (True, False):
        y, scale, zero_point = dynamic_quantize_arrays(rows(rng, 8, 8), native=native)
        assert [(type(each), each.dtype, each.shape) for each in (y, scale, zero_point)] == [
            (np.ndarray, np.uint8, (8, 8)), (np.ndarray, np.float32, ()), (np.ndarray, np.uint8, ()),
        ]  # fmt: skip
