"""linear() against its definition, and the definitions of the epilogues."""

from __future__ import annotations

import numpy as np
import pytest
from support.quantized import KINDS, RANGE, operand, requantized

from pyint8dot import epilogue, floats, linear, quantize
from pyint8dot.engine import packing, settings

pytestmark = pytest.mark.each_processor

W8 = np.zeros((3, 4), np.int8)


def exact(a, b):
    """The product in int64, wrapped to int32."""
    return (np.asarray(a, np.int64) @ np.asarray(b, np.int64)).astype(np.int32)


def test_ties_go_to_even():
    """Halves of both signs, and the zero point added after the rounding: -2.5 + 1 is -1, not round(-1.5)."""
    acc = np.array([[-5, -3, -1, 1, 3, 5, 7]], np.int32)
    np.testing.assert_array_equal(epilogue.requantize(acc, 0.5), [[-2, -2, 0, 0, 2, 2, 4]])
    np.testing.assert_array_equal(epilogue.requantize(acc, 0.5, 1), [[-1, -1, 1, 1, 3, 3, 5]])


def test_requantize_is_exact_where_float32_is_not():
    """Sums beyond 2**24 are rounded to float32 first, and huge products saturate."""
    acc = np.array([2**24 + 1, 2**24 + 3, -(2**31), 2**31 - 1], np.int32)
    np.testing.assert_array_equal(epilogue.requantize(acc, 2.0**-18), [64, 64, -128, 127])
    np.testing.assert_array_equal(epilogue.requantize(acc, 3e38, 5, np.uint8), [255, 255, 0, 255])


@pytest.mark.parametrize("dtype", KINDS.values())
def test_requantize_random(rng, dtype):
    for _ in range(20):
        acc = rng.integers(-(2**31), 2**31, (5, 9)).astype(np.int32) >> rng.integers(0, 28)
        low, high = RANGE[np.dtype(dtype)]
        zero = int(rng.integers(low, high + 1))
        for shape in ((), (9,), (5, 1), (5, 9)):
            scale = (2.0 ** rng.uniform(-20, 1, shape)).astype(np.float32)
            y = epilogue.requantize(acc, scale, zero, dtype)
            assert y.dtype == dtype
            np.testing.assert_array_equal(y, requantized(acc, scale, zero, dtype))
            out = np.empty((5, 18), dtype)[:, ::2]
            assert epilogue.requantize(acc, scale, zero, dtype, out=out) is out
            np.testing.assert_array_equal(out, y)


def test_requantize_errors():
    acc = np.zeros((1, 1), np.int32)
    with pytest.raises(TypeError, match="dtype must be int8 or uint8, got int16"):
        epilogue.requantize(acc, 1.0, 0, np.int16)
    with pytest.raises(ValueError, match=r"zero_point must be within 0\.\.255 for uint8, got -1"):
        epilogue.requantize(acc, 1.0, -1, np.uint8)
    with pytest.raises(ValueError, match="scale must be finite"):
        epilogue.requantize(acc, np.nan)
    with pytest.raises(ValueError, match="act must be None"):
        epilogue.dequantize(acc, 1.0, 1.0, None, "tanh")


def test_dequantize_rounds_every_step(rng):
    """Column factor, row factor, bias, one float32 rounding each, in this order: no fused multiply-add."""
    acc = rng.integers(-(2**31), 2**31, (7, 11)).astype(np.int32)
    rows, cols = rng.random(7).astype(np.float32), rng.random(11).astype(np.float32)
    bias = (rng.random(11) * 1e8).astype(np.float32)
    wanted = np.empty((7, 11), np.float32)
    for i in range(7):
        for j in range(11):
            first = np.float32(np.float32(acc[i, j]) * cols[j])
            second = np.float32(first * rows[i])
            wanted[i, j] = np.float32(second + bias[j])
    y = epilogue.dequantize(acc, rows, cols, bias)
    np.testing.assert_array_equal(y, wanted)
    out = np.empty((7, 11), np.float32)
    assert epilogue.dequantize(acc, rows, cols, bias, "relu", out=out) is out
    np.testing.assert_array_equal(out, np.maximum(wanted, 0))
    np.testing.assert_array_equal(epilogue.dequantize(acc, rows, cols, bias, "gelu"), floats.gelu(wanted))


def test_relu_has_no_negative_zero():
    y = epilogue.dequantize(np.array([[-1, 0]], np.int32), 1e-30, 1e-30, None, "relu")
    assert not np.signbit(y).any()


def test_linear_is_its_definition(kernel, rng):
    """Row quantisation, exact product, column factor, row factor, bias, activation."""
    x = rng.standard_normal((2, 5, 33)).astype(np.float32)
    w = operand(rng, np.int8, (33, 10))
    scale, bias = rng.random(10).astype(np.float32), rng.standard_normal(10).astype(np.float32)
    q, rows = quantize.quantize_rows(x)
    plain = exact(q, w).astype(np.float32) * scale * rows[..., None] + bias
    for act, wanted in ((None, plain), ("relu", np.maximum(plain, 0)), ("gelu", floats.gelu(plain))):
        for right in (w, packing.pack(w)):
            y = linear(x, right, w_scale=scale, bias=bias, act=act, kernel=kernel)
            assert y.dtype == np.float32
            np.testing.assert_array_equal(y, wanted)
    out = np.empty((5, 10), np.float32)
    assert linear(x[0], w, w_scale=scale, bias=bias, out=out) is out
    np.testing.assert_array_equal(out, plain[0])
    np.testing.assert_array_equal(linear(x[0, 0], w, w_scale=scale, bias=bias), plain[0, 0])
    np.testing.assert_array_equal(
        linear(x, w, w_scale=np.float32(0.5)),
        exact(q, w).astype(np.float32) * np.float32(0.5) * rows[..., None],
    )


def test_zeros_have_the_same_sign_on_every_machine(kernel):
    # 0 * 1 * 0.0 is 0.0, where a scale of -0.0 would make it -0.0.
    w, w_scale = np.ones((5, 3), np.int8), np.float32([1, 2, 3])
    for right in (w, packing.pack(w)):
        y = linear(np.float32([[-0.0, 0, -0.0, 0, -0.0]]), right, w_scale=w_scale, kernel=kernel)
        assert not np.signbit(y).any()
    # A row without elements has a scale as well.
    assert not np.signbit(linear(np.ones((2, 0), np.float32), w[:0], w_scale=w_scale, kernel=kernel)).any()


def test_linear_is_as_close_to_float64_as_its_quantisation_allows(kernel, rng):
    k = 256
    x = (rng.standard_normal((16, k)) * np.exp2(rng.integers(-4, 5, (16, 1)))).astype(np.float32)
    w = rng.standard_normal((k, 24)) * np.exp2(rng.integers(-4, 5, 24))
    scale = (np.abs(w).max(axis=0) / 127).astype(np.float32)
    bias = rng.standard_normal(24).astype(np.float32)
    y = linear(x, np.rint(w / scale).astype(np.int8), w_scale=scale, bias=bias, kernel=kernel)
    error = np.abs(y - (x.astype(float) @ w + bias))

    # Each element of x is off by half a unit of its row at most, each of w by half a unit of its column, and the two meet in the product.
    half_x, half_w = np.abs(x).max(axis=1, keepdims=True) / 254.0, np.abs(w).max(axis=0) / 254.0
    size_x, size_w = np.abs(x.astype(float)).sum(axis=1, keepdims=True), np.abs(w).sum(axis=0)
    bound = half_x * size_w + size_x * half_w + k * half_x * half_w
    # float32 rounds a few times more, relative to the largest sum and to the bias.
    bound += 1e-6 * (k * 127.0**2 * (2 * half_x) * (2 * half_w) + np.abs(bias))
    assert (error <= bound).all()
    # Errors of both signs mostly cancel, so that a scale which is a hundredth off shows here, where the bound would let it pass.
    spread = np.sqrt(k / 3) * np.hypot(
        half_x * np.sqrt(np.mean(w**2, axis=0)), np.sqrt(np.mean(x**2.0, axis=1, keepdims=True)) * half_w
    )
    assert 0.8 < np.sqrt(np.mean((error / spread) ** 2)) < 1.2


def test_linear_errors():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="x must be float32, got float64"):
        linear(x.astype(float), W8, w_scale=1.0)
    with pytest.raises(TypeError, match="w must be int8, got uint8"):
        linear(x, W8.astype(np.uint8), w_scale=1.0)
    with pytest.raises(ValueError, match="w must have 3 rows, as many as x has columns"):
        linear(x, W8.T, w_scale=1.0)
    with pytest.raises(ValueError, match="w must be two-dimensional"):
        linear(x, W8[:, 0], w_scale=1.0)
    with pytest.raises(ValueError, match="x must be finite, got nan or infinity in row 1"):
        linear(np.float32([[1, 1, 1], [1, np.inf, 1]]), W8, w_scale=1.0)
    with pytest.raises(ValueError, match="w_scale must be a scalar or one per column"):
        linear(x, W8, w_scale=np.ones(3))
    with pytest.raises(TypeError, match="bias must be float32"):
        linear(x, W8, w_scale=1.0, bias=np.zeros(4))
    with pytest.raises(ValueError, match='act must be None, "relu" or "gelu"'):
        linear(x, W8, w_scale=1.0, act="swish")
    with pytest.raises(ValueError, match="out must have shape"):
        linear(x, W8, w_scale=1.0, out=np.empty((2, 3), np.float32))


def test_products_are_counted(kernel, rng):
    """The product runs on the kernel that was asked for."""
    with settings.tally() as counted:
        linear(np.ones((3, 4), np.float32), operand(rng, np.int8, (4, 5)), w_scale=1.0, kernel=kernel)
    assert counted.macs == {kernel: 3 * 4 * 5}
