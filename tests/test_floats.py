"""The float32 functions: their error bounds, their special values, the same bits everywhere, and rows that do not see each other."""

import math
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from pyint8dot import floats

SPECIAL = np.float32([0.0, -0.0, 1e-38, -1e-38, 1e-45, 3.4e38, -3.4e38, np.inf, np.nan])


def points(lowest: float, highest: float, count: int = 20001) -> np.ndarray:
    """Both ends, an even spread, and values so near 0 that only relative accuracy is seen there."""
    even = np.linspace(lowest, highest, count)
    small = np.geomspace(1e-30, 1, 200)
    near = np.concatenate([small, -small])
    return np.concatenate([even, near[(near >= lowest) & (near <= highest)]]).astype(np.float32)


def true_gelu(x: np.ndarray) -> np.ndarray:
    return np.array([v / 2 * math.erfc(-v / math.sqrt(2)) for v in x.astype(float).tolist()])


def test_gelu_is_within_its_bound():
    x = points(-9, 9)
    assert np.abs(floats.gelu(x) - true_gelu(x)).max() < 6e-7


def test_gelu_is_exact_far_from_zero():
    x = np.float32([6.0, 6.5, 100, 3.4e38, np.inf])
    np.testing.assert_array_equal(floats.gelu(x), x)
    np.testing.assert_array_equal(floats.gelu(-x[:4]), np.zeros(4))
    assert np.isnan(floats.gelu(np.float32([np.nan, -np.inf]))).all()


def test_erf_is_within_its_bound():
    x = points(-9, 9)
    true = np.array([math.erf(v) for v in x.astype(float).tolist()])
    y = floats.erf(x)
    assert np.abs(y - true).max() < 7e-7
    nonzero = x != 0
    assert np.abs(y[nonzero] / true[nonzero] - 1).max() < 7e-7
    assert np.abs(y).max() == 1


def test_tanh_is_within_its_bound():
    x = points(-12, 12)
    true, y = np.tanh(x.astype(float)), floats.tanh(x)
    nonzero = x != 0
    assert np.abs(y[nonzero] / true[nonzero] - 1).max() < 4e-7
    assert np.abs(y).max() == 1
    np.testing.assert_array_equal(y[np.abs(x) > 7.94], np.sign(x[np.abs(x) > 7.94]))


@pytest.mark.parametrize("function", [floats.erf, floats.tanh])
def test_erf_and_tanh_are_odd_and_keep_nan(function):
    x = points(0, 9)
    np.testing.assert_array_equal(function(-x), -function(x))
    y = function(SPECIAL)
    np.testing.assert_array_equal(y[5:8], [1, -1, 1])
    assert np.isnan(y[8])


@pytest.mark.parametrize("size", [0, 3, 2048, 16384, 16385, 40000])
def test_relu_is_the_larger_of_x_and_zero(rng: np.random.Generator, size: int):
    x = rng.standard_normal((size, 2)).astype(np.float32)
    x[: min(size, 4), 0] = [np.nan, np.inf, -np.inf, -0.0][: min(size, 4)]
    for case in (x, x[:, 0], x[::-1, 1], x.T, x.astype(np.float64)):
        wanted = np.where(case < 0, 0, case)
        np.testing.assert_array_equal(floats.relu(case), wanted)
        over = case.copy(order="K")
        assert floats.relu(over, out=over) is over
        np.testing.assert_array_equal(over, wanted)


def test_exp2_terms_is_within_its_bound():
    y = -np.geomspace(1e-7, 125.9, 30001).astype(np.float32)
    terms, sums = floats.exp2_terms(np.concatenate([np.float32([0]), y])[None])
    true = np.exp2(y.astype(float))
    assert terms[0, 0] == 1
    assert np.abs(terms[0, 1:] / true - 1).max() < 4e-7
    assert sums.shape == (1, 1)
    assert sums[0, 0] == pytest.approx(1 + true.sum(), rel=1e-5)


def test_exp2_terms_far_below_the_maximum_are_zero():
    terms, sums = floats.exp2_terms(np.float32([[0, -127, -200, -3e38, -np.inf]]))
    np.testing.assert_array_equal(terms, [[1, 0, 0, 0, 0]])
    assert sums[0, 0] == 1


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_against_float64(rng: np.random.Generator, axis: int):
    x = (rng.standard_normal((7, 65, 9)) * 8).astype(np.float32)
    wide = np.exp(x.astype(float) - x.max(axis=axis, keepdims=True))
    true = wide / wide.sum(axis=axis, keepdims=True)
    y = floats.softmax(x, axis)
    assert np.abs(y - true).max() < 1e-6
    distance = x.max(axis=axis, keepdims=True) - x
    assert (np.abs(y / true - 1) < 1e-6 * np.maximum(1, distance / 4)).all()


def test_softmax_masks_with_minus_infinity():
    x = np.float32([[1, -np.inf, 1], [-np.inf, -np.inf, -np.inf]])
    y = floats.softmax(x)
    np.testing.assert_array_equal(y[0], [0.5, 0, 0.5])
    assert np.isnan(y[1]).all()


def test_layer_norm_against_float64(rng: np.random.Generator):
    x = (rng.standard_normal((5, 3, 384)) * 3 + 2).astype(np.float32)
    weight, bias = rng.standard_normal((2, 384)).astype(np.float32)
    wide = x.astype(float)
    mean, variance = wide.mean(-1, keepdims=True), wide.var(-1, keepdims=True)
    true = (wide - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(floats.layer_norm(x, weight, bias, eps=1e-5), true * weight + bias, atol=1e-5)
    np.testing.assert_allclose(floats.layer_norm(x, weight, None, eps=1e-5), true * weight, atol=1e-5)


def test_layer_norm_of_a_constant_row_is_its_bias():
    y = floats.layer_norm(np.full((2, 8), 3, np.float32), np.ones(8, np.float32), np.full(8, 0.5, np.float32))
    np.testing.assert_array_equal(y, np.full((2, 8), 0.5))


FUNCTIONS = {
    "gelu": floats.gelu,
    "erf": floats.erf,
    "tanh": floats.tanh,
    "softmax": floats.softmax,
    "exp2_terms": lambda x, out=None: floats.exp2_terms(x, out=out)[0],
    "layer_norm": lambda x, out=None: floats.layer_norm(x, x.reshape(-1, x.shape[-1])[0].copy(), None, out=out),
}


@pytest.fixture(params=list(FUNCTIONS))
def function(request: pytest.FixtureRequest):
    return FUNCTIONS[request.param]


def test_result_goes_to_out_in_any_layout(function, rng: np.random.Generator):
    x = rng.standard_normal((11, 70)).astype(np.float32)
    expected = function(x)
    unchanged = x.copy()
    room = np.zeros((22, 140), np.float32)
    for out in (np.empty_like(x), np.empty_like(x, order="F"), room[::2, ::2], room[::-2, 1::2]):
        assert function(x, out=out) is out
        np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(x, unchanged)
    # A row further on in the same memory.
    shared = np.concatenate([x, x[:1]])
    np.testing.assert_array_equal(function(shared[:-1], out=shared[1:]), expected)
    assert function(x, out=x) is x
    np.testing.assert_array_equal(x, expected)


def test_strided_input_gives_the_same_bits(function, rng: np.random.Generator):
    x = rng.standard_normal((11, 70)).astype(np.float32)
    for view in (np.asfortranarray(x), np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3], x[::-1].copy()[::-1]):
        np.testing.assert_array_equal(function(view), function(x))


def test_rows_do_not_see_each_other(function, rng: np.random.Generator):
    # More than one block, so that the cut between blocks is seen too.
    x = rng.standard_normal((200, 384)).astype(np.float32)
    weightless = (
        (lambda x: floats.layer_norm(x, np.ones(384, np.float32), None))
        if function is FUNCTIONS["layer_norm"]
        else function
    )
    whole = weightless(x)
    for rows in (slice(0, 1), slice(7, 12), slice(199, 200), slice(50, 150)):
        np.testing.assert_array_equal(weightless(x[rows].copy()), whole[rows])


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0), (2, 0, 4)])
def test_empty_arrays(shape: tuple[int, ...]):
    x = np.zeros(shape, np.float32)
    ones = np.ones(shape[-1], np.float32)
    for y in (floats.gelu(x), floats.erf(x), floats.softmax(x), floats.layer_norm(x, ones, ones)):
        assert y.shape == shape
        assert y.dtype == np.float32


def test_wrong_types_and_shapes(function):
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="x must be float32, got float64"):
        function(x.astype(np.float64))
    with pytest.raises(TypeError, match="out must be float32, got int32"):
        function(x, out=np.ones((2, 3), np.int32))
    for shape in ((3, 2), (1, 3), (2, 2), (2,), (0,)):
        with pytest.raises(ValueError, match=re.escape(f"out must have shape (2, 3), got {shape}")):
            function(x, out=np.ones(shape, np.float32))


def test_nothing_is_written_to_a_read_only_array(function, tmp_path: Path):
    # A write behind numpy's back would be the end of the process.
    path = tmp_path / "map"
    np.ones((64, 64), np.float32).tofile(path)
    mapped = np.memmap(path, np.float32, "r", shape=(64, 64))
    for x in (mapped, np.zeros((64, 64), np.float32)):
        with pytest.raises(ValueError, match="out is read-only"):
            function(x, out=mapped)
    assert (mapped == 1).all()


@pytest.mark.parametrize("native", [True, False])
def test_operands_that_do_not_fit(native: bool):
    x, ones = np.ones((2, 3), np.float32), np.ones(3, np.float32)

    def layer_norm(weight, bias):
        return floats.layer_norm(x, weight, bias, native=native)

    for bad in (np.ones(2, np.float32), np.ones(1, np.float32), np.ones((1, 3), np.float32), np.ones((), np.float32)):
        with pytest.raises(ValueError, match=re.escape(f"weight must have shape (3,), got {bad.shape}")):
            layer_norm(bad, ones)
        with pytest.raises(ValueError, match=re.escape(f"bias must have shape (3,), got {bad.shape}")):
            layer_norm(ones, bad)
    for bad in (np.ones(3), np.ones(3, np.int32)):
        with pytest.raises(TypeError, match=f"weight must be float32, got {bad.dtype}"):
            layer_norm(bad, ones)
        with pytest.raises(TypeError, match=f"bias must be float32, got {bad.dtype}"):
            layer_norm(ones, bad)
    with pytest.raises(ValueError, match=re.escape("residual must have the shape of x (2, 3), got (3,)")):
        floats.layer_norm(x, ones, ones, residual=ones, native=native)
    with pytest.raises(TypeError, match="residual must be float32, got float64"):
        floats.layer_norm(x, ones, ones, residual=np.ones((2, 3)), native=native)
    with pytest.raises(ValueError, match=re.escape("factor must have shape (3,), got (2,)")):
        floats.layer_norm_and_scaled(x, ones, ones, ones[:2], native=native)
    one = np.float32(1).reshape(())
    for function in (lambda: floats.layer_norm(one, ones, ones), lambda: floats.exp2_terms(one, native=native)):
        with pytest.raises(ValueError, match="x must have at least one dimension, got a 0-d array"):
            function()


def test_softmax_axis_out_of_range():
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        floats.softmax(np.ones((2, 3), np.float32), 2)


def test_same_bits_on_every_machine():
    # Recorded once. A change of these numbers is a change of the definition, which native code follows bit by bit.
    x = np.arange(-2000, 2001, dtype=np.float32) / np.float32(256)
    below = -np.arange(32000, dtype=np.float32)[None] / np.float32(256)
    bits = {
        "gelu": floats.gelu(x),
        "erf": floats.erf(x),
        "exp2_terms": floats.exp2_terms(below)[0],
    }
    assert {name: hex(zlib.crc32(values.tobytes())) for name, values in bits.items()} == {
        "gelu": "0x38c4dbba",
        "erf": "0x33784a3e",
        "exp2_terms": "0x2c3ac930",
    }
