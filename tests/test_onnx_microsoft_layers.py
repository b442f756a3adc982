"""The operators of com.microsoft that language and speech models have, held against onnxruntime on generated cases."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from support.onnx_graphs import model, node
from support.onnxruntime_cases import F32, KINDS, MS, both, codes, weights

pytestmark = [
    pytest.mark.static,
    pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"),
]


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_embed_layer_normalization(rng, segments, masked):
    shapes = {"word": (20, 8), "place": (12, 8), "segment": (2, 8), "g": (8,), "b": (8,)}
    constants = {name: rng.standard_normal(shape).astype(F32) for name, shape in shapes.items()}
    feed = {"ids": rng.integers(0, 20, (2, 6)).astype(np.int32)}
    if segments:
        feed["types"] = rng.integers(0, 2, (2, 6)).astype(np.int32)
    else:
        del constants["segment"]
    if masked:
        feed["mask"] = (np.arange(6) < [[4], [6]]).astype(np.int32)
    inputs = (
        f"ids {'types' if segments else '-'} word place {'segment' if segments else '-'} g b {'mask' if masked else ''}"
    )
    nodes = [node("EmbedLayerNormalization", inputs, "y index total", epsilon=1e-6, **MS)]
    made = model(nodes, feed, {"y": F32, "index": np.int32, "total": F32}, constants)
    (y, index, total), (y2, index2, total2), _ = both(made, feed)
    np.testing.assert_allclose(y, y2, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total, total2, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(index, index2)


MASKS = {
    "none": None,
    "lengths": np.array([3, 5], np.int32),
    "ends and starts": np.array([4, 5, 1, 0], np.int32),
    "by key": (np.arange(5) < [[3], [5]]).astype(np.int32),
    "by query": np.tril(np.ones((2, 5, 5), np.int32)),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(rng, mask, causal):
    constants = {
        "w": (0.3 * rng.standard_normal((8, 24))).astype(F32), "b": rng.standard_normal(24).astype(F32),
    }  # fmt: skip
    feed = {"x": rng.standard_normal((2, 5, 8)).astype(F32)}
    if MASKS[mask] is not None:
        feed["mask"] = MASKS[mask]
    inputs = f"x w b {'mask' if 'mask' in feed else ''}"
    nodes = [node("Attention", inputs, "y", num_heads=2, unidirectional=causal, **MS)]
    [got], [wanted], _ = both(model(nodes, feed, {"y": F32}, constants), feed)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["past", "bias"])
def test_attention_of_what_came_before(rng, form):
    constants = {"w": rng.standard_normal((8, 24)).astype(F32), "b": rng.standard_normal(24).astype(F32)}
    feed = {
        "x": rng.standard_normal((2, 3, 8)).astype(F32),
        **({"past": rng.standard_normal((2, 2, 2, 4, 4)).astype(F32)} if form == "past" else {}),
        **({"bias": rng.standard_normal((2, 2, 3, 3)).astype(F32)} if form == "bias" else {}),
    }  # fmt: skip
    inputs, outputs = ("x w b - past", {"y": F32, "present": F32}) if form == "past" else ("x w b - - bias", {"y": F32})
    nodes = [node("Attention", inputs, " ".join(outputs), num_heads=2, unidirectional=1, scale=0.4, **MS)]
    got, wanted, _ = both(model(nodes, feed, outputs, constants), feed)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["plain", "bias", "mask", "scores", "heads", "past"])
def test_multi_head_attention(rng, form):
    def values(*shape):
        return rng.standard_normal(shape).astype(F32)

    feed, inputs, outputs = {"q": values(2, 3, 8), "k": values(2, 5, 8), "v": values(2, 5, 8)}, "q k v", {"y": F32}
    if form == "bias":
        feed, inputs = feed | {"b": values(24)}, "q k v b"
    elif form == "mask":
        feed, inputs = feed | {"m": MASKS["by key"]}, "q k v - m"
    elif form == "scores":
        feed, inputs = feed | {"s": values(1, 2, 3, 5)}, "q k v - - s"
    elif form == "heads":
        feed |= {"k": values(2, 2, 5, 4), "v": values(2, 2, 5, 4)}
    elif form == "past":
        feed |= {"pk": values(2, 2, 4, 4), "pv": values(2, 2, 4, 4), "k": values(2, 3, 8), "v": values(2, 3, 8)}
        inputs, outputs = "q k v - - - pk pv", {"y": F32, "present_k": F32, "present_v": F32}
    nodes = [node("MultiHeadAttention", inputs, " ".join(outputs), num_heads=2, **MS)]
    got, wanted, _ = both(model(nodes, feed, outputs), feed)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [True, False])
def test_quantised_attention(rng, masked):
    w, scale, zero = weights(rng, np.int8, 8, 24, columns=False)
    constants = {
        "w": w, "sw": scale, "zw": zero, "b": rng.standard_normal(24).astype(F32),
        "sx": np.asarray(0.02, F32), "zx": np.asarray(110, np.uint8),
    }  # fmt: skip
    feed = {"x": codes(rng, np.uint8, 2, 5, 8)}
    if masked:
        feed["mask"] = MASKS["lengths"]
    nodes = [node("QAttention", f"x w b sx sw {'mask' if masked else '-'} zx zw", "y", num_heads=2, **MS)]
    [got], [wanted], session = both(model(nodes, feed, {"y": F32}, constants), feed)
    assert [row.op for row in session.report().rows] == ["MatMulFloat", "PackedQkvAttention"]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [0, 4])
@pytest.mark.parametrize("zeros", ["none", "codes", "floats"])
@pytest.mark.parametrize(("bits", "k", "block"), [(4, 64, 32), (4, 70, 16), (8, 64, 32), (8, 96, 64)])
def test_matmul_nbits(rng, bits, k, block, zeros, level):
    n, blocks = 13, -(-k // block)
    constants = {
        "b": rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8),
        "s": rng.uniform(0.001, 0.01, (n, blocks)).astype(F32),
    }
    if zeros == "codes":
        constants["z"] = rng.integers(0, 256, (n, -(-blocks * bits // 8))).astype(np.uint8)
    elif zeros == "floats":
        if bits == 8:
            return  # onnxruntime does not have it
        constants["z"] = rng.uniform(6, 10, (n, blocks)).astype(F32)
    feed = {"x": rng.standard_normal((2, 5, k)).astype(F32)}
    attrs = {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": level}
    nodes = [node("MatMulNBits", f"x b s {'' if zeros == 'none' else 'z'}", "y", **attrs, **MS)]
    made = model(nodes, feed, {"y": F32}, constants)
    [got], [wanted], _ = both(made, feed)
    # Activations of 8 bits have an error of a 254th of the largest of a block.
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=(0.02 if level else 1e-5) * np.abs(wanted).max())


def test_quantised_embeddings(rng):
    shapes = {"word": (20, 8), "place": (12, 8), "segment": (2, 8), "g": (8,), "b": (8,)}
    constants = {name: codes(rng, np.uint8, *shape) for name, shape in shapes.items()}
    constants |= {f"s{n}": np.asarray(rng.uniform(0.01, 0.02), F32) for n in shapes}
    constants |= {f"z{n}": np.asarray(rng.integers(100, 140), np.uint8) for n in shapes}
    feed = {
        "ids": rng.integers(0, 20, (2, 6)).astype(np.int32), "types": rng.integers(0, 2, (2, 6)).astype(np.int32),
        "mask": (np.arange(6) < [[4], [6]]).astype(np.int32),
    }  # fmt: skip
    inputs = " ".join(["ids types word place segment g b mask", *(f"s{n}" for n in shapes), *(f"z{n}" for n in shapes)])
    made = model(
        [node("QEmbedLayerNormalization", inputs, "y index", **MS)], feed, {"y": F32, "index": np.int32}, constants
    )
    (y, index), (y2, index2), _ = both(made, feed)
    np.testing.assert_allclose(y, y2, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(index, index2)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("kind", KINDS)
def test_dynamically_quantised_lstm(rng, kind, direction):
    d, inputs, hidden = 1 + (direction != "forward"), 6, 5
    constants = {
        "w": codes(rng, kind, d, inputs, 4 * hidden), "r": codes(rng, kind, d, hidden, 4 * hidden),
        "b": rng.standard_normal((d, 8 * hidden)).astype(F32),
        "sw": rng.uniform(0.003, 0.006, d).astype(F32), "sr": rng.uniform(0.003, 0.006, d).astype(F32),
        "zw": np.full(d, 120 if kind is np.uint8 else 0, kind), "zr": np.full(d, 130 if kind is np.uint8 else 0, kind),
    }  # fmt: skip
    feed = {"x": rng.standard_normal((7, 2, inputs)).astype(F32), "n": np.array([7, 4], np.int32)}
    nodes = [
        node(
            "DynamicQuantizeLSTM", "x w r b n - - - sw zw sr zr", "y h c", hidden_size=hidden, direction=direction, **MS
        )
    ]
    got, wanted, _ = both(model(nodes, feed, {"y": F32, "h": F32, "c": F32}, constants), feed)
    for one, other in zip(got, wanted, strict=True):
        # A state that lies half between two codes may fall to the other side.
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=5e-3)
