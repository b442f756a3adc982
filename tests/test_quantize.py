"""Quantising and dequantising: ONNX's rules, ties, saturation, axes and blocks, and what NaN and infinity do."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from support.quantized import RANGE, many, nearest_even

from pyint8dot import quantize
from pyint8dot.quantize import dequantize_linear, dynamic_quantize_linear, quantize_by, quantize_linear, quantize_rows


def evaluate(op, inputs, **attributes):
    """Run one node on ONNX's own evaluator."""
    reference = pytest.importorskip("onnx.reference")
    helper = pytest.importorskip("onnx.helper")
    arrays = [np.asarray(x) for x in inputs]
    values = [
        helper.make_tensor_value_info(f"i{i}", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for i, x in enumerate(arrays)
    ]
    results = [helper.make_tensor_value_info(f"o{i}", 0, None) for i in range(3 if op.startswith("Dynamic") else 1)]
    node = helper.make_node(op, [v.name for v in values], [v.name for v in results], **attributes)
    model = helper.make_model(
        helper.make_graph([node], "g", values, results), opset_imports=[helper.make_opsetid("", 21)]
    )
    return reference.ReferenceEvaluator(model).run(None, {v.name: x for v, x in zip(values, arrays, strict=True)})


def test_ties_go_to_even_and_the_zero_point_comes_after():
    x = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    np.testing.assert_array_equal(quantize_linear(x, np.float32(1), np.int8(0)), [-2, -2, 0, 0, 2, 2])
    np.testing.assert_array_equal(quantize_linear(x, np.float32(1), np.int8(1)), [-1, -1, 1, 1, 3, 3])


def test_onnx_quantizelinear():
    """The values of ONNX's node tests, which spell the results out."""
    x = np.float32([0, 2, 3, 1000, -254, -1000])
    np.testing.assert_array_equal(quantize_linear(x, np.float32(2), np.uint8(128)), [128, 129, 130, 255, 1, 0])
    x = np.array([0, 3, 128, 255], np.uint8)
    np.testing.assert_array_equal(dequantize_linear(x, np.float32(2), np.uint8(128)), [-256, -250, 0, 254])


@pytest.mark.parametrize("dtype", list(RANGE))
def test_saturation_and_non_finite(dtype):
    """Infinity saturates, NaN and 0 / 0 give the zero point, at every zero point."""
    low, high = RANGE[dtype]
    x = np.float32([-np.inf, np.inf, np.nan, 3e38, -3e38, 1e-30])
    for zero in (low, high, 5):
        zero_point = np.array(zero, dtype)
        y = quantize_linear(x, np.float32(1e-3), zero_point)
        np.testing.assert_array_equal(y, [low, high, zero, high, low, zero])
        # A graph may compute a scale of 0.
        y = quantize_by(np.float32([0, 1, -1]), np.float32(0), zero_point)
        np.testing.assert_array_equal(y, [zero, high, low])


def test_types():
    x = np.float32([1.4, -1.6])
    assert quantize_linear(x, np.float32(1)).dtype == np.uint8
    assert quantize_linear(x, np.float32(1), dtype=np.int8).tolist() == [1, -2]
    assert quantize_linear(x, np.float32(1), np.int8(0)).dtype == np.int8
    assert quantize_linear(x, np.float32(1), 3, dtype=np.int8).tolist() == [4, 1]
    assert quantize_linear(np.int32([7, -7]), np.float32(2), np.int8(0)).tolist() == [4, -4]
    assert dequantize_linear(np.int8([1]), np.float16(0.5)).dtype == np.float16
    assert dequantize_linear(np.int8([1]), np.float64(0.5)).dtype == np.float64
    assert dequantize_linear(np.int32([2**24 + 3]), np.float32(1)).tolist() == [2.0**24 + 4]
    assert dequantize_linear(np.int8([-128]), np.float32(1), np.int8(127)).tolist() == [-255]
    # As far apart as int32 allows.
    assert dequantize_linear(np.int32([2**31 - 1]), np.float64(1), -(2**31)).tolist() == [2.0**32 - 1]


def test_the_scale_is_the_precision_of_the_division():
    """A float16 scale divides in float16, as ONNX says."""
    x, scale = np.float32([0.3335]), np.float16(0.001)
    wanted = np.rint(np.float16(0.3335) / np.float16(0.001))
    assert quantize_linear(x, scale, dtype=np.int8)[0] == min(wanted, 127)
    rng = np.random.default_rng(3)
    x = rng.uniform(-0.1, 0.1, 500).astype(np.float16)
    y = quantize_linear(x, scale, np.int8(0))
    np.testing.assert_array_equal(y, np.clip(nearest_even((x / scale).astype(np.float16)), -128, 127))


@pytest.mark.parametrize("dtype", list(RANGE))
def test_per_axis_against_onnx(rng, dtype):
    low, high = RANGE[dtype]
    for _ in range(many(150)):
        shape = tuple(rng.integers(1, 6, rng.integers(2, 5)))
        axis = int(rng.integers(-len(shape), len(shape)))
        length = [(), (shape[axis],)][rng.integers(0, 2)]
        x = (rng.standard_normal(shape) * 50).astype(np.float32)
        scale = rng.uniform(0.1, 2, length).astype(np.float32)
        zero = rng.integers(low, high + 1, length).astype(dtype)
        y = quantize_linear(x, scale, zero, axis=axis)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, evaluate("QuantizeLinear", [x, scale, zero], axis=axis)[0])
        back = dequantize_linear(y, scale, zero, axis=axis)
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, evaluate("DequantizeLinear", [y, scale, zero], axis=axis)[0])
        # The definition itself, by integer arithmetic.
        full = [1] * len(shape)
        full[axis] = -1
        s, z = (scale.reshape(full), zero.reshape(full)) if length else (scale, zero)
        np.testing.assert_array_equal(y, np.clip(nearest_even(x / s) + z.astype(int), low, high))


def test_blocks(rng):
    """One scale for every block_size elements of an axis, the last block being shorter."""
    x = (rng.standard_normal((3, 7, 2)) * 50).astype(np.float32)
    scale = rng.uniform(0.1, 2, (3, 3, 2)).astype(np.float32)
    zero = rng.integers(0, 255, (3, 3, 2)).astype(np.uint8)
    y = quantize_linear(x, scale, zero, axis=1, block_size=3)
    for j in range(7):
        np.testing.assert_array_equal(
            y[:, j], quantize_linear(x[:, j], scale[:, j // 3], zero[:, j // 3], axis=0, block_size=1)
        )
    back = dequantize_linear(y, scale, zero, axis=1, block_size=3)
    np.testing.assert_array_equal(
        back, (y.astype(np.float32) - np.repeat(zero, 3, 1)[:, :7]) * np.repeat(scale, 3, 1)[:, :7]
    )


@given(value=st.integers(-(2**15), 2**15), zero=st.integers(-128, 127))
def test_every_step_is_float32(value, zero):
    """x / scale is one float32 division, not a product with the reciprocal."""
    x, scale = np.float32(value), np.float32(0.3)
    wanted = np.clip(nearest_even(np.float32(x / scale)) + zero, -128, 127)
    assert quantize_linear(x, scale, np.int8(zero)) == wanted


def test_round_trip_of_all_values():
    """Dequantised and quantised again, every value returns."""
    for dtype, (low, high) in RANGE.items():
        x = np.arange(low, high + 1).astype(dtype)
        for zero in (low, 0, high):
            for scale in (np.float32(0.1), np.float32(3e-5), np.float32(7)):
                zero_point = np.array(zero, dtype)
                back = quantize_linear(dequantize_linear(x, scale, zero_point), scale, zero_point)
                np.testing.assert_array_equal(back, x)


def test_onnx_dynamicquantizelinear():
    """The three cases of ONNX's node tests."""
    cases = {
        (0, 2, -3, -2.5, 1.34, 0.5): (0.0196078438, 153, [153, 255, 0, 26, 221, 179]),
        (-1.0, -2.1, -1.3, -2.5, -3.34, -4.0): (0.0156862754, 255, [191, 121, 172, 96, 42, 0]),
        (1, 2.1, 1.3, 2.5, 3.34, 4.0, 1.5, 2.6, 3.9, 4.0, 3.0, 2.345): (
            0.0156862754, 0, [64, 134, 83, 159, 213, 255, 96, 166, 249, 255, 191, 149],
        ),
    }  # fmt: skip
    for x, (scale, zero, wanted) in cases.items():
        y, y_scale, y_zero = dynamic_quantize_linear(np.float32(x))
        assert y.dtype == np.uint8
        assert y_scale == np.float32(scale)
        assert y_zero == zero
        np.testing.assert_array_equal(y, wanted)


def test_dynamic_against_onnx(rng):
    for _ in range(many(150)):
        shape = tuple(rng.integers(1, 9, rng.integers(1, 4)))
        x = (rng.standard_normal(shape) * 10.0 ** rng.integers(-30, 30) + rng.normal()).astype(np.float32)
        y, scale, zero = dynamic_quantize_linear(x)
        their_y, their_scale, their_zero = evaluate("DynamicQuantizeLinear", [x])
        np.testing.assert_array_equal(y, their_y)
        assert (scale, zero) == (their_scale, their_zero)


def test_dynamic_edges():
    """Nothing but zeros, nothing at all, one sign, a range below the smallest float."""
    for x in (np.zeros((2, 3), np.float32), np.zeros((0,), np.float32), np.float32([1e-45, 0])):
        y, scale, zero = dynamic_quantize_linear(x)
        assert y.shape == x.shape
        assert not y.any()
        assert (scale, zero) == (1, 0)
    assert dynamic_quantize_linear(np.float32(5))[0] == 255
    y, scale, zero = dynamic_quantize_linear(np.float32([-255, 0]))
    assert (y.tolist(), scale, zero) == ([0, 255], 1, 255)
    for bad in ([np.nan], [np.inf, 1], [-3e38, 3e38]):
        with pytest.raises(ValueError, match="x must be finite and its range within float32"):
            dynamic_quantize_linear(np.float32(bad))
    with pytest.raises(TypeError, match="x must be float32, got int8"):
        dynamic_quantize_linear(np.int8([1]))


def test_rows_are_their_definition(rng):
    """One division a row, one product an element, ties to even; symmetric, so -128 never appears."""
    x = (rng.standard_normal((3, 40, 33)) * 10.0 ** rng.integers(-20, 20, (3, 40, 1))).astype(np.float32)
    q, scale = quantize_rows(x)
    assert (q.dtype, scale.dtype, scale.shape) == (np.int8, np.float32, (3, 40))
    absmax = np.abs(x).max(axis=-1)
    np.testing.assert_array_equal(scale, absmax / np.float32(127))
    inverse = np.float32(127) / absmax
    np.testing.assert_array_equal(q, nearest_even(x * inverse[..., None]))
    assert (np.abs(q.astype(int)).max(axis=-1) == 127).all()
    np.testing.assert_allclose(q * scale[..., None], x, atol=absmax.max(), rtol=0)
    assert (np.abs(q * scale[..., None] - x) <= 0.5001 * scale[..., None]).all()


def test_rows_do_not_depend_on_each_other(rng):
    x = rng.standard_normal((6, 17)).astype(np.float32)
    q, scale = quantize_rows(x)
    for i in range(6):
        one, its = quantize_rows(x[i])
        np.testing.assert_array_equal(one, q[i])
        assert its.shape == ()
        assert its == scale[i]
    strided = np.asfortranarray(np.repeat(x, 2, axis=1))[:, ::2]
    np.testing.assert_array_equal(quantize_rows(strided)[0], q)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-1, 1, width=32))
def test_no_row_overflows(largest, part):
    """The largest magnitude becomes 127 exactly, whatever it is, and nothing exceeds it."""
    x = np.float32([largest, largest * part, 0])
    q, scale = quantize_rows(x)
    if abs(largest) > 3.8e-37:
        assert abs(int(q[0])) == 127
        assert np.abs(q.astype(int)).max() == 127
    assert np.isfinite(scale)
    assert scale >= 0


def test_rows_edges():
    q, scale = quantize_rows(np.float32([[0, 0], [-0.0, 0], [1e-38, -1e-38], [3e38, -3e38], [2, -1]]))
    assert q.tolist() == [[0, 0], [0, 0], [0, 0], [127, -127], [127, -64]]
    assert scale[:2].tolist() == [0, 0]
    np.testing.assert_array_equal(scale[2:], np.float32([1e-38, 3e38, 2]) / np.float32(127))
    q, scale = quantize_rows(np.zeros((2, 0), np.float32))
    assert (q.shape, scale.tolist()) == ((2, 0), [0, 0])
    assert quantize_rows(np.zeros((0, 4), np.float32))[0].shape == (0, 4)
    with pytest.raises(ValueError, match="x must be finite, got nan or infinity in row 1"):
        quantize_rows(np.float32([[1, 2], [np.nan, 2]]))
    with pytest.raises(ValueError, match=r"nan or infinity in row \[0, 1\]"):
        quantize_rows(np.float32([[[1], [-np.inf]]]))
    with pytest.raises(ValueError, match="x must have at least one dimension"):
        quantize_rows(np.float32(1))
    with pytest.raises(TypeError, match="x must be float32, got float64"):
        quantize_rows(np.zeros((1, 1)))


@pytest.mark.parametrize("zeros", [[0.0], [-0.0], [0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0, 0.0]])
def test_the_scale_of_zeros_has_no_sign(zeros):
    # Long and short rows: the order in which numpy looks for a maximum depends on both the length and the machine.
    for n in (0, 1, 2, 3, 4, 7, 8, 9, 16, 17, 33, 64):
        x = np.resize(np.float32(zeros), (3, n))
        assert not np.signbit(quantize_rows(x)[1]).any(), n
        assert not np.signbit(quantize_rows(x[0])[1]), n


X = np.zeros((2, 3), np.float32)
BAD = [
    (TypeError, "x must be float16, float32, float64 or int32, got int64", {"x": np.zeros(3, np.int64)}),
    (TypeError, "y_scale must be floats, got int64", {"y_scale": np.int64(1)}),
    (TypeError, "y_zero_point must be int8 or uint8, got int16", {"y_zero_point": np.int16(1)}),
    (ValueError, r"y_zero_point must be within 0\.\.255", {"y_zero_point": -1}),
    (TypeError, "y_zero_point must be integers that fit uint8, got float64", {"y_zero_point": 1.0}),
    (TypeError, "dtype must be int8 or uint8, got int32", {"dtype": np.int32}),
    (TypeError, "dtype must be the type of y_zero_point, uint8, got int8", {"dtype": np.int8, "y_zero_point": np.uint8(1)}),
    (ValueError, r"y_scale must be a scalar or have shape \(3,\), one value along axis 1 of x, got \(2,\)", {"y_scale": np.ones(2)}),
    (ValueError, r"axis must be within -2\.\.1 for x of shape \(2, 3\), got 2", {"y_scale": np.ones(3), "axis": 2}),
    (TypeError, "block_size must be an int, got float", {"y_scale": np.ones((2, 3)), "block_size": 1.0}),
    (ValueError, r"block_size must not be negative, got -1", {"y_scale": np.ones(3), "block_size": -1}),
    (TypeError, "block_size must be an int, got str", {"y_scale": np.ones(3), "block_size": "2"}),
    (TypeError, "axis must be an int, got NoneType", {"y_scale": np.ones(3), "axis": None}),
    (TypeError, "axis must be an int, got float", {"y_scale": np.ones(3), "axis": 1.0}),
    (ValueError, r"y_scale must have shape \(2, 2\), one value per block of 2 along axis 1", {"y_scale": np.ones((2, 3)), "block_size": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "changes"), BAD, ids=[message[:40] for _, message, _ in BAD])
def test_errors(error, message, changes):
    with pytest.raises(error, match=message):
        quantize_linear(**{"x": X, "y_scale": np.float32(1)} | changes)


@pytest.mark.parametrize("block_size", [4, 10**12, 10**30])
def test_a_block_may_be_longer_than_the_axis(block_size):
    """It takes no memory for what lies behind the end."""
    x, scale = np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([[1], [2]])
    y = quantize_linear(x, scale, axis=1, block_size=block_size)
    np.testing.assert_array_equal(y, [[1, 2, 3], [2, 2, 3]])
    back = dequantize_linear(y, scale, axis=1, block_size=block_size)
    np.testing.assert_array_equal(back, y * scale)


def test_dequantize_errors():
    with pytest.raises(TypeError, match="x must be int8, uint8 or int32, got float32"):
        dequantize_linear(X, np.float32(1))
    with pytest.raises(TypeError, match="x_scale must be floats"):
        dequantize_linear(np.int8([1]), 1)
    with pytest.raises(TypeError, match="x_zero_point must be integers that fit int32, got float64"):
        dequantize_linear(np.int32([1]), np.float32(1), 0.5)
    for zero in (-(2**63), -(2**31) - 1, 2**31, 2**63, 2**64 - 1):
        with pytest.raises(ValueError, match=rf"x_zero_point must be within -2147483648\.\.2147483647, .*, got {zero}"):
            dequantize_linear(np.int32([1]), np.float32(1), zero)
    with pytest.raises(ValueError, match=r"x_zero_point must be within -128\.\.127"):
        dequantize_linear(np.int8([1]), np.float32(1), 128)
    with pytest.raises(ValueError, match=r"x_zero_point must be within 0\.\.255"):
        dequantize_linear(np.uint8([1]), np.float32(1), -(2**63))


def test_inputs_are_left_alone(rng):
    x = rng.standard_normal((4, 5)).astype(np.float32)
    before = x.copy()
    x.flags.writeable = False
    quantize_linear(x, np.float32(0.1), np.int8(0))
    dynamic_quantize_linear(x)
    quantize.quantize_rows(x)
    np.testing.assert_array_equal(x, before)
