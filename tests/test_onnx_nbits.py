"""Products and nets with int8 weights that are made on this package's kernels, against what they are by definition."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import data, model, node

from pyint8dot import dynamic_quantize_linear, epilogue, floats, quantize_rows
from pyint8dot.engine import settings
from pyint8dot.onnx import InferenceSession, NodeError

F32, MS = np.float32, {"domain": "com.microsoft"}


def nbits(rng, bits, k, block, n=9):
    """Codes, the bytes they are packed in, and scales."""
    blocks = -(-k // block)
    codes = rng.integers(0, 1 << bits, (n, blocks, block)).astype(np.uint8)
    each = 8 // bits
    packed = sum(codes[..., i::each] << bits * i for i in range(each))
    return codes, packed, rng.uniform(0.001, 0.01, (n, blocks)).astype(F32)


@pytest.mark.parametrize(("bits", "k", "block"), [(2, 70, 32), (4, 70, 32), (8, 64, 16)])
def test_exact_product_is_that_of_the_floats(rng, bits, k, block):
    codes, packed, scales = nbits(rng, bits, k, block)
    feed = {"x": rng.standard_normal((2, 3, k)).astype(F32)}
    nodes = [node("MatMulNBits", "x b s", "y", K=k, N=9, bits=bits, block_size=block, **MS)]
    made = model(nodes, feed, {"y": (F32, [2, 3, 9])}, {"b": packed, "s": scales})
    [got] = InferenceSession(data(made)).run(None, feed)
    w = (codes.astype(np.float64) - (1 << (bits - 1))) * scales[..., None].astype(np.float64)
    np.testing.assert_allclose(got, feed["x"] @ w.reshape(9, -1)[:, :k].T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("bits", "k", "block"), [(2, 70, 32), (4, 70, 32), (8, 64, 16)])
def test_activations_of_8_bits_are_quantised_by_blocks_of_a_row(rng, bits, k, block):
    codes, packed, scales = nbits(rng, bits, k, block)
    feed = {"x": rng.standard_normal((5, k)).astype(F32)}
    attrs = {"K": k, "N": 9, "bits": bits, "block_size": block, "accuracy_level": 4}
    made = model(
        [node("MatMulNBits", "x b s", "y", **attrs, **MS)], feed, {"y": (F32, [5, 9])}, {"b": packed, "s": scales}
    )
    session = InferenceSession(data(made))
    assert session.report().rows[0].by != "numpy"
    [got] = session.run(None, feed)
    rows = np.zeros((5, codes.shape[1] * block), F32)
    rows[:, :k] = feed["x"]
    wanted = np.zeros((5, 9), F32)
    for i in range(codes.shape[1]):
        q, scale = quantize_rows(rows[:, i * block : (i + 1) * block])
        acc = q.astype(np.int32) @ (codes[:, i].astype(np.int32) - (1 << (bits - 1))).T
        # One rounding a step, and the blocks added up in their order.
        wanted += epilogue.dequantize(acc, scale, scales[:, i])
    np.testing.assert_array_equal(got, wanted)
    # What is not finite cannot be quantised; the exact product has it, which is no int8 work.
    feed["x"][0, 0] = np.inf
    with settings.tally() as counted:
        [got] = session.run(None, feed)
    assert not counted.macs
    assert not np.isfinite(got[0]).any()
    assert np.isfinite(got[1:]).all()


@pytest.mark.parametrize("level", [0, 4])
def test_bias_and_gelu_behind_a_product_are_part_of_it(rng, level):
    _, packed, scales = nbits(rng, 4, 70, 32)
    bias = rng.standard_normal(9).astype(F32)
    feed = {"x": rng.standard_normal((2, 3, 70)).astype(F32)}
    attrs = {"K": 70, "N": 9, "bits": 4, "block_size": 32, "accuracy_level": level}
    product = node("MatMulNBits", "x b s", "p", **attrs, **MS)
    half, one, root = F32(0.5), F32(1), np.sqrt(F32(2))
    gelu = [
        node("Add", "bias p", "a"), node("Div", "a root", "d"), node("Erf", "d", "e"), node("Add", "e one", "f"),
        node("Mul", "a f", "g"), node("Mul", "g half", "y"),
    ]  # fmt: skip
    constants = {"b": packed, "s": scales, "bias": bias, "root": root, "one": one, "half": half}
    made = model([product, *gelu], feed, {"y": (F32, [2, 3, 9])}, constants)
    session = InferenceSession(data(made))
    assert [(row.op, list(row.covers)) for row in session.report().rows] == [
        ("MatMulNBits", ["MatMulNBits", "Add", "Div", "Erf", "Add", "Mul", "Mul"])
    ]
    alone = model([product], feed, {"p": (F32, [2, 3, 9])}, {"b": packed, "s": scales})
    alone = InferenceSession(data(alone))
    for _ in range(3):  # the executor may take over
        [got] = session.run(None, feed)
        [sums] = alone.run(None, feed)
        np.testing.assert_array_equal(got, floats.gelu(sums + bias))
    # The exact product has what is not finite, and its bias and activation too.
    feed["x"][0, 0, 0] = np.nan
    [got] = session.run(None, feed)
    [sums] = alone.run(None, feed)
    np.testing.assert_array_equal(got, floats.gelu(sums + bias))


@pytest.mark.parametrize("hidden", [5, 8])
def test_dynamically_quantised_lstm_by_its_definition(rng, hidden):
    inputs, steps = 6, 4
    w = rng.integers(-128, 128, (1, inputs, 4 * hidden)).astype(np.int8)
    r = rng.integers(-128, 128, (1, hidden, 4 * hidden)).astype(np.int8)
    sw, sr = (rng.uniform(0.003, 0.006, 1).astype(F32) for _ in range(2))
    zero = np.zeros(1, np.int8)
    constants = {"w": w, "r": r, "sw": sw, "zw": zero, "sr": sr, "zr": zero}
    feed = {"x": rng.standard_normal((steps, 2, inputs)).astype(F32)}
    nodes = [node("DynamicQuantizeLSTM", "x w r - - - - - sw zw sr zr", "y h", hidden_size=hidden, **MS)]
    made = model(nodes, feed, {"y": (F32, [steps, 1, 2, hidden]), "h": (F32, [1, 2, hidden])}, constants)
    y, last = InferenceSession(data(made)).run(None, feed)

    def product(x, weights, unit):
        codes, scale, point = dynamic_quantize_linear(np.ascontiguousarray(x))
        return (codes.astype(np.int64) - int(point)) @ weights.astype(np.int64) * (float(scale) * float(unit[0]))

    def opened(x):
        return 1 / (1 + np.exp(-x))

    every = product(feed["x"].reshape(-1, inputs), w[0], sw).reshape(steps, 2, -1)
    h, c = np.zeros((2, hidden), F32), np.zeros((2, hidden))
    for t in range(steps):
        i, o, f, g = np.split(every[t] + product(h, r[0], sr), 4, axis=1)
        c = opened(f) * c + opened(i) * np.tanh(g)
        h = (opened(o) * np.tanh(c)).astype(F32)
        # A state that lies half between two codes may fall to the other side.
        np.testing.assert_allclose(y[t, 0], h, atol=5e-3)
    np.testing.assert_array_equal(last[0], y[-1, 0])


def test_what_does_not_fit_is_told(rng):
    _, packed, scales = nbits(rng, 4, 64, 32)
    nodes = [node("MatMulNBits", "x b s", "y", K=64, N=9, bits=4, block_size=32, **MS)]
    made = model(nodes, {"x": (F32, ["m", "k"])}, {"y": (F32, ["m", 9])}, {"b": packed, "s": scales})
    session = InferenceSession(data(made))
    with pytest.raises(NodeError, match=r"A must have 64 columns, got shape \(2, 5\)"):
        session.run(None, {"x": np.ones((2, 5), F32)})
