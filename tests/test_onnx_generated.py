"""Random quantised nodes through the session: the integers are those of plain int64 arithmetic, without one exception."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.onnx_graphs import data, model, node, reference

from pyint8dot import dynamic_quantize_linear
from pyint8dot.onnx import InferenceSession, NodeError

F32 = np.float32
TYPES = (np.int8, np.uint8)
MIXES = list(itertools.product(TYPES, TYPES))


def codes(rng, shape, dtype):
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max + 1, shape)
    # Extremes come up more often than by chance.
    return np.where(rng.random(shape) < 0.1, rng.choice([info.min, info.max], shape), values).astype(dtype)


def zero_point(rng, shape, dtype):
    return codes(rng, shape, dtype) if rng.random() < 0.8 else np.zeros(shape, dtype)


def saturate(values, dtype):
    info = np.iinfo(dtype)
    return np.clip(values, info.min, info.max).astype(dtype)


def constants_of(rng, **operands):
    """Some of the operands as constants of the model, and the rest as its feed: both are ways of their own."""
    fixed = {name: value for name, value in operands.items() if rng.random() < 0.6}
    return fixed, {name: value for name, value in operands.items() if name not in fixed}


@pytest.mark.parametrize(("a_type", "b_type"), MIXES)
def test_matmul_integer(rng, kernel, a_type, b_type):
    for _ in range(12):
        m, k, n = rng.integers(1, 20, 3)
        lead = rng.choice([0, 1, 2])
        a = codes(rng, (*rng.integers(1, 4, lead), m, k), a_type)
        b = codes(rng, (*(a.shape[:-2] if rng.random() < 0.3 else ()), k, n), b_type)
        za = zero_point(rng, rng.choice([0, 1]) * (1,), a_type)
        zb = zero_point(rng, (n,) if rng.random() < 0.5 else (), b_type)
        fixed, feed = constants_of(rng, a=a, b=b, za=za, zb=zb)
        made = model([node("MatMulInteger", "a b za zb", "y")], feed, {"y": np.int32}, fixed)
        [got] = InferenceSession(data(made), kernel=kernel).run(None, feed)
        wanted = (a.astype(np.int64) - za.astype(np.int64)) @ (b.astype(np.int64) - zb.astype(np.int64))
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("a_type", "b_type"), MIXES)
def test_qlinear_matmul(rng, kernel, a_type, b_type):
    for y_type in TYPES:
        for _ in range(6):
            m, k, n = rng.integers(1, 20, 3)
            a, b = codes(rng, (m, k), a_type), codes(rng, (k, n), b_type)
            wide = (n,) if rng.random() < 0.5 else ()
            operands = {
                "a": a, "sa": rng.uniform(0.01, 0.1, ()).astype(F32), "za": zero_point(rng, (), a_type),
                "b": b, "sb": rng.uniform(0.01, 0.1, wide).astype(F32), "zb": zero_point(rng, wide, b_type),
                "sy": rng.uniform(0.1, 2, ()).astype(F32), "zy": zero_point(rng, (), y_type),
            }  # fmt: skip
            operands = {name: np.asarray(value) for name, value in operands.items()}
            fixed, feed = constants_of(rng, **operands)
            made = model([node("QLinearMatMul", " ".join(operands), "y")], feed, {"y": y_type}, fixed)
            [got] = InferenceSession(data(made), kernel=kernel).run(None, feed)
            acc = (a.astype(np.int64) - int(operands["za"])) @ (b.astype(np.int64) - operands["zb"].astype(np.int64))
            factor = (operands["sa"] * operands["sb"] / operands["sy"]).astype(F32)
            wanted = saturate(np.rint(acc.astype(F32) * factor) + int(operands["zy"]), y_type)
            assert got.dtype == y_type
            np.testing.assert_array_equal(got, wanted)


def shifted_sum(x, w, *, strides, pads, dilations, group):
    """Convolution of int64 arrays by its definition, two spatial dimensions."""
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    spans = [(w.shape[2 + i] - 1) * dilations[i] + 1 for i in range(2)]
    out = [(x.shape[2 + i] - spans[i]) // strides[i] + 1 for i in range(2)]
    y = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    inner, outer = w.shape[1], w.shape[0] // group
    for channel in range(w.shape[0]):
        first = channel // outer * inner
        for c, i, j in np.ndindex(*w.shape[1:]):
            r, s = i * dilations[0], j * dilations[1]
            part = x[:, first + c, r : r + (out[0] - 1) * strides[0] + 1 : strides[0]]
            y[:, channel] += w[channel, c, i, j] * part[..., s : s + (out[1] - 1) * strides[1] + 1 : strides[1]]
    return y


def convolution(rng, x_type, w_type):
    """Random operands and attributes of a convolution."""
    group = int(rng.choice([1, 1, 2, 3]))
    inner, outer = (int(v) for v in rng.integers(1, 5, 2))
    if rng.random() < 0.2:
        group, inner = 6, 1
    window = rng.integers(1, 4, 2)
    attributes = {
        "strides": rng.integers(1, 3, 2).tolist(), "pads": rng.integers(0, 3, 4).tolist(),
        "dilations": rng.integers(1, 3, 2).tolist(), "group": group,
    }  # fmt: skip
    x = codes(rng, (int(rng.integers(1, 3)), group * inner, *rng.integers(5, 12, 2)), x_type)
    return x, codes(rng, (group * outer, inner, *window), w_type), attributes


@pytest.mark.parametrize(("x_type", "w_type"), MIXES)
def test_conv_integer(rng, kernel, x_type, w_type):
    for _ in range(6):
        x, w, attributes = convolution(rng, x_type, w_type)
        zx, zw = zero_point(rng, (), x_type), zero_point(rng, (), w_type)
        zx, zw = np.asarray(zx), np.asarray(zw)
        fixed, feed = constants_of(rng, x=x, w=w, zx=zx, zw=zw)
        made = model([node("ConvInteger", "x w zx zw", "y", **attributes)], feed, {"y": np.int32}, fixed)
        [got] = InferenceSession(data(made), kernel=kernel).run(None, feed)
        wanted = shifted_sum(x.astype(np.int64) - int(zx), w.astype(np.int64) - int(zw), **attributes)
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("x_type", "w_type"), MIXES)
def test_qlinear_conv(rng, kernel, x_type, w_type):
    for y_type in TYPES:
        for _ in range(4):
            x, w, attributes = convolution(rng, x_type, w_type)
            wide = (len(w),) if rng.random() < 0.5 else ()
            operands = {
                "x": x, "sx": rng.uniform(0.01, 0.1, ()).astype(F32), "zx": zero_point(rng, (), x_type),
                "w": w, "sw": rng.uniform(0.01, 0.1, wide).astype(F32), "zw": zero_point(rng, wide, w_type),
                "sy": rng.uniform(0.1, 2, ()).astype(F32), "zy": zero_point(rng, (), y_type),
                "bias": rng.integers(-9999, 9999, len(w)).astype(np.int32),
            }  # fmt: skip
            operands = {name: np.asarray(value) for name, value in operands.items()}
            fixed, feed = constants_of(rng, **operands)
            made = model([node("QLinearConv", " ".join(operands), "y", **attributes)], feed, {"y": y_type}, fixed)
            [got] = InferenceSession(data(made), kernel=kernel).run(None, feed)

            def channels(value):
                return value.reshape(-1, 1, 1) if value.ndim else value

            zw = channels(operands["zw"])[..., None].astype(np.int64)
            acc = shifted_sum(x.astype(np.int64) - int(operands["zx"]), w.astype(np.int64) - zw, **attributes)
            acc += channels(operands["bias"])
            factor = channels(np.asarray(operands["sx"] * operands["sw"] / operands["sy"], F32))
            wanted = saturate(np.rint(acc.astype(F32) * factor) + int(operands["zy"]), y_type)
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", TYPES)
def test_quantise_and_dequantise(rng, dtype):
    for axis, shape in ((None, (3, 7)), (0, (3, 7)), (1, (2, 5, 3)), (-1, (4, 6))):
        wide = () if axis is None else (shape[axis],)
        constants = {"s": np.asarray(rng.uniform(0.01, 0.5, wide), F32), "z": np.asarray(zero_point(rng, wide, dtype))}
        attributes = {} if axis is None else {"axis": axis}
        nodes = [
            node("QuantizeLinear", "x s z", "q", **attributes),
            node("DequantizeLinear", "q s z", "y", **attributes),
        ]
        x = (10 * rng.standard_normal(shape)).astype(F32)
        made = model(nodes, {"x": x}, {"q": dtype, "y": F32}, constants)
        for got, wanted in zip(
            InferenceSession(data(made)).run(None, {"x": x}), reference(made, {"x": x}), strict=True
        ):
            np.testing.assert_array_equal(got, wanted)


def test_quantising_what_no_code_is_near(rng):
    """Values past both ends, exact ties, infinities and zeros, with the scale and zero point constants."""
    constants = {"s": np.asarray(0.5, F32), "z": np.asarray(-3, np.int8)}
    made = model([node("QuantizeLinear", "x s z", "q")], {"x": (F32, ["n"])}, {"q": np.int8}, constants)
    session = InferenceSession(data(made))
    for x in ([0.25, 0.75, -0.25, -0.75, 1.25], [1e30, -1e30, 5], [np.inf, -np.inf, 0], [-0.0, 0.0], [64.9, -62.6], []):
        values = np.array(x, F32)
        wanted = np.clip(np.rint(values / F32(0.5)) - 3, -128, 127).astype(np.int8)
        np.testing.assert_array_equal(session.run(None, {"x": values})[0], wanted)


@pytest.mark.parametrize("trial", range(6))
def test_dynamic_quantisation(rng, trial):
    spread, offset = rng.uniform(0.1, 100), rng.uniform(-3, 3)
    x = (spread * (rng.standard_normal((7, 11)) + offset)).astype(F32)
    made = model([node("DynamicQuantizeLinear", "x", "q s z")], {"x": x}, {"q": np.uint8, "s": F32, "z": np.uint8})
    for got, wanted in zip(InferenceSession(data(made)).run(None, {"x": x}), reference(made, {"x": x}), strict=True):
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted)


def test_dynamic_quantisation_is_that_of_its_definition(rng):
    """Of any size and layout, with ties, zeros, one sign only and the smallest and widest ranges."""
    nodes, outputs = [node("DynamicQuantizeLinear", "x", "q s z")], {"q": np.uint8, "s": F32, "z": np.uint8}
    sessions = [InferenceSession(data(model(nodes, {"x": (F32, [None] * rank)}, outputs))) for rank in range(3)]
    ties = np.arange(-127, 129, dtype=F32)
    tiny, largest = np.finfo(F32).tiny, np.finfo(F32).max
    cases = [
        *(rng.standard_normal(n).astype(F32) for n in (1, 2, 3, 384, 4096, 4097)),
        rng.standard_normal((70, 90)).astype(F32).T, rng.standard_normal((9, 8)).astype(F32)[::2, ::-3],
        ties, ties / 2, ties - F32(0.5), ties * 2 + 1, np.abs(ties), -np.abs(ties), ties + 300,
        np.float32(3), np.zeros((0, 4), F32), np.zeros(5, F32), np.float32([0, -0.0]), np.float32([-1e-4, 1]),
        ties * tiny, ties * F32(1e-45), F32(382e-45) * np.float32([-1, 0]), ties * F32(1e36), ties * F32(1e-32),
        F32(largest / 4) * np.float32([-1, 1]), np.float32([-1e38, 1e38]),
    ]  # fmt: skip
    # Both halves of a scale of 1 are ties, and both round up: one code is 256 before it is clipped.
    cases.append(np.float32([-127.5, 127.5]))
    cases.append(np.float32([-1.5, 253.5]))
    for x in map(np.asarray, cases):
        got = sessions[x.ndim].run(None, {"x": x})
        for value, wanted in zip(got, map(np.asarray, dynamic_quantize_linear(x)), strict=True):
            assert type(value) is np.ndarray
            assert value.dtype == wanted.dtype
            np.testing.assert_array_equal(value, wanted)
    for x in ([np.nan, 1], [1, np.inf], [-np.inf, 0], [-largest, largest]):
        with pytest.raises(NodeError, match="x must be finite"):
            sessions[1].run(None, {"x": np.float32(x)})
