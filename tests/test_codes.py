"""Native quantising and dequantising by one scale, and tables of 8-bit functions, against numpy bit for bit."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from support import child, float_call

from pyint8dot.engine import builtin, elementwise, library
from pyint8dot.quantize import dequantize_by, dequantize_linear, quantize_by, quantize_linear

LENGTHS = (*range(37), 64, 200)
CODES = np.arange(256, dtype=np.uint8)
KINDS = [np.int8, np.uint8]
SCALES = np.float32([1, 0.1, 1e-38, 1e38, 0, -0.5, np.inf, np.nan])
# Ties, the limits of the codes and of the widths between, zeros of both signs, subnormals, and what is not finite.
SPECIAL = np.float32(
    [
        0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 254.5, 255.5, -127.5, -128.5, 32767, 32768, -32769, 65536,
        2**31, -(2**31), 3e38, -3e38, 1e-45, -1e-45, np.inf, -np.inf, np.nan, -np.nan,
    ]
)  # fmt: skip


def zero_points(dtype):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return [dtype(value) for value in (low, low + 1, 3, high)]


@pytest.mark.native
@pytest.mark.parametrize("dtype", KINDS)
def test_quantize(checker, rng, dtype):
    def body(note):
        for n in LENGTHS:
            for number, place in enumerate(("end", "start")):
                note(f"{n} {place}")
                x = (rng.standard_normal(n) * 20).astype(np.float32)
                zero = zero_points(dtype)[(n + number) % 4]
                float_call.quantize_linear(x, np.float32(0.25), zero, place=place).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_quantize_special_values(checker, dtype, scale):
    """Each of them in every place of a turn and in the rest."""

    def body(note):
        for zero in zero_points(dtype):
            for turn in range(0, len(SPECIAL), 5):
                note(f"{zero} {turn}")
                float_call.quantize_linear(np.resize(np.roll(SPECIAL, turn), 45), scale, zero).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("dtype", KINDS)
def test_dequantize(checker, dtype):
    def body(note):
        for n in LENGTHS:
            for place in ("end", "start"):
                note(f"{n} {place}")
                codes = CODES.view(dtype)[:n]
                float_call.dequantize_linear(codes, np.float32(0.3), zero_points(dtype)[n % 4], place=place).check(
                    checker
                )
        for scale in SCALES:
            for zero in zero_points(dtype):
                note(f"{scale} {zero}")
                # Which NaN is left open.
                if np.isfinite(scale):
                    float_call.dequantize_linear(CODES.view(dtype), scale, zero).check(checker)

    child.check(body)


@pytest.mark.native
def test_lookup(checker, rng):
    def body(note):
        for n in (*LENGTHS, 256):
            for place in ("end", "start"):
                note(f"{n} {place}")
                x = rng.permutation(256).astype(np.uint8)[:n] if n != 256 else CODES
                float_call.lookup(x, rng.integers(0, 256, 256, np.uint8), place=place).check(checker)

    child.check(body)


SHAPED = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)
FLOATS = st.one_of(st.floats(width=32), st.floats(-300, 300, width=32))


@given(hnp.arrays(np.float32, SHAPED, elements=FLOATS), FLOATS, st.integers(-128, 127), st.sampled_from(KINDS))
def test_quantize_both_ways(x, scale, zero, dtype):
    zero = np.array(zero, np.int8).view(dtype)[()]
    for values in (x, x.T, x[..., ::-2] if x.ndim else x):
        found, wanted = (quantize_by(values, np.float32(scale), zero, native=native) for native in (True, False))
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape) == (dtype, values.shape)
        np.testing.assert_array_equal(found, wanted)


@given(hnp.arrays(np.int8, SHAPED), FLOATS, st.integers(-128, 127), st.sampled_from(KINDS))
def test_dequantize_both_ways(x, scale, zero, dtype):
    zero, x = np.array(zero, np.int8).view(dtype)[()], x.view(dtype)
    for values in (x, x.T, x[..., ::-2] if x.ndim else x):
        with np.errstate(all="ignore"):
            found, wanted = (dequantize_by(values, np.float32(scale), zero, native=native) for native in (True, False))
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape) == (np.float32, values.shape)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.native
@pytest.mark.parametrize("held", [True, False])
def test_every_call_is_native(rng, monkeypatch, held):
    """Below and above what runs on the builtin, and without a builtin; numpy rounds nothing."""
    made = (elementwise._quantize, elementwise._dequantize, elementwise._lookup)
    for each in made:
        each.cache_clear()
    if not held:
        monkeypatch.setattr(builtin, "quick", lambda: None)
    monkeypatch.setattr(np, "rint", None)
    table = rng.integers(-128, 128, 256, np.int8)
    for n in (0, 5, elementwise.HELD_VALUES + 1):
        codes = rng.integers(0, 256, n, np.uint8)
        values = dequantize_linear(codes, np.float32(0.25), np.uint8(9))
        np.testing.assert_array_equal(values, (codes.astype(np.float32) - 9) / 4)
        np.testing.assert_array_equal(quantize_linear(values, np.float32(0.25), np.uint8(9)), codes)
        np.testing.assert_array_equal(elementwise.lookup(codes[::-1], table), table[codes[::-1]])
    for each in made:
        each.cache_clear()


def test_without_a_library(monkeypatch):
    """Numpy takes over."""
    made = (elementwise._quantize, elementwise._dequantize, elementwise._lookup)
    for each in made:
        each.cache_clear()
    monkeypatch.setattr(library, "status", lambda: "there is none")
    assert elementwise.lookup(CODES, CODES) is None
    assert quantize_linear(np.float32([1, 2]), np.float32(0.5), np.int8(1)).tolist() == [3, 5]
    assert dequantize_linear(np.int8([1, 2]), np.float32(0.5), np.int8(1)).tolist() == [0, 0.5]
    for each in made:
        each.cache_clear()
