"""The operators of com.microsoft, held against onnxruntime on generated cases."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest
from support.onnx_graphs import data, model, node

from pyint8dot.onnx import InferenceSession

pytestmark = [
    pytest.mark.static,
    pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"),
]

F32, MS = np.float32, {"domain": "com.microsoft"}
KINDS = [np.uint8, np.int8]


def onnxruntime(made, feed):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data(made), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def both(made, feed):
    wanted = onnxruntime(made, feed)
    for value, result in zip(made.graph.output, wanted, strict=True):
        shape = value.type.tensor_type.shape
        if not shape.dim:
            shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_param=f"d{i}") for i in range(result.ndim))
            shape.SetInParent()
    session = InferenceSession(data(made))
    assert not session.report().reference_ops()
    return session.run(None, feed), wanted, session


def codes(rng, kind, *shape):
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max + 1, shape).astype(kind)


def quantisation(rng, kind, *names, low=0.02, high=0.05):
    """Scales and zero points under names such as sx and zx."""
    return {
        **{f"s{n}": np.asarray(rng.uniform(low, high), F32) for n in names},
        **{f"z{n}": np.asarray(rng.integers(60, 120) - (90 if kind is np.int8 else 0), kind) for n in names},
    }


# Operator, its inputs by name, shapes of the quantised ones, other inputs, attributes.
ELEMENTWISE = [
    ("QLinearAdd", "a sa za b sb zb sy zy", {"a": (3, 5, 7), "b": (3, 5, 7)}, {}, {}),
    ("QLinearAdd", "a sa za b sb zb sy zy", {"a": (2, 5, 7), "b": (5, 1)}, {}, {}),
    ("QLinearMul", "a sa za b sb zb sy zy", {"a": (3, 5, 7), "b": (3, 5, 7)}, {}, {}),
    ("QLinearMul", "a sa za b sb zb sy zy", {"a": (1, 5, 1), "b": (2, 1, 7)}, {}, {}),
    ("QLinearConcat", "sy zy a sa za b sb zb c sc zc", {"a": (2, 3), "b": (2, 5), "c": (2, 1)}, {}, {"axis": 1}),
    ("QLinearAveragePool", "a sa za sy zy", {"a": (1, 3, 9, 8)}, {}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("QLinearAveragePool", "a sa za sy zy", {"a": (2, 3, 9, 9)}, {},
     {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("QLinearAveragePool", "a sa za sy zy", {"a": (2, 3, 8, 9)}, {},
     {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1], "count_include_pad": 1}),
    ("QLinearAveragePool", "a sa za sy zy", {"a": (1, 9, 9, 3)}, {}, {"kernel_shape": [3, 3], "channels_last": 1}),
    ("QLinearGlobalAveragePool", "a sa za sy zy", {"a": (2, 5, 7, 7)}, {}, {}),
    ("QLinearGlobalAveragePool", "a sa za sy zy", {"a": (2, 7, 7, 5)}, {}, {"channels_last": 1}),
    ("QLinearSigmoid", "a sa za sy zy", {"a": (300,)}, {}, {}),
    ("QLinearLeakyRelu", "a sa za sy zy", {"a": (300,)}, {}, {"alpha": 0.2}),
    ("QLinearSoftmax", "a sa za sy zy", {"a": (4, 11)}, {}, {"axis": -1, "opset": 13}),
    ("QLinearSoftmax", "a sa za sy zy", {"a": (2, 3, 5)}, {}, {"axis": 1, "opset": 13}),
    ("QLinearSoftmax", "a sa za sy zy", {"a": (2, 3, 5)}, {}, {"axis": 1, "opset": 11}),
    ("QLinearWhere", "m a sa za b sb zb sy zy", {"a": (3, 5), "b": (3, 5)}, {"m": (bool, (3, 5))}, {}),
]  # fmt: skip
# Where the result is a choice among 256, onnxruntime makes a table as well.
EXACT = {"QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "QLinearWhere"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("op", "inputs", "shapes", "others", "attrs"), ELEMENTWISE, ids=[f"{c[0]}{i}" for i, c in enumerate(ELEMENTWISE)]
)
def test_quantised_operator(rng, kind, op, inputs, shapes, others, attrs):
    if "Softmax" in op:
        constants = quantisation(rng, kind, "a", "y", high=0.1) | {"sy": F32(1 / 256), "zy": np.iinfo(kind).min}
        constants["sy"], constants["zy"] = np.asarray(constants["sy"], F32), np.asarray(constants["zy"], kind)
    else:
        constants = quantisation(rng, kind, *(n for n in "abcy" if f"s{n}" in inputs.split()))
    feed = {name: codes(rng, kind, *shape) for name, shape in shapes.items()}
    feed |= {name: rng.integers(0, 2, shape).astype(dtype) for name, (dtype, shape) in others.items()}
    made = model([node(op, inputs, "y", **attrs, **MS)], feed, {"y": kind}, constants)
    [got], [wanted], session = both(made, feed)
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    # onnxruntime folds the scales into one factor before it multiplies, and its softmax has a table of exponentials: a value
    # that lies half between two codes may fall to the other side.
    steps = np.abs(got.astype(int) - wanted)
    assert steps.max() <= (0 if op in EXACT else 1)
    assert np.count_nonzero(steps) <= max(1, got.size // (10 if "Softmax" in op else 20))
    print(op, np.count_nonzero(steps), got.size, [r.op for r in session.report().rows])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("axes", "keepdims", "opset"), [([1, 2], 1, 17), ([-1], 0, 21)])
def test_quantised_mean(rng, kind, axes, keepdims, opset):
    """By hand: onnxruntime declares this operator but does not have it."""
    constants = quantisation(rng, kind, "a", "y")
    feed = {"a": codes(rng, kind, 2, 5, 7)}
    nodes = [node("QLinearReduceMean", "a sa za sy zy", "y", axes=axes, keepdims=keepdims, **MS)]
    made = model(nodes, feed, {"y": (kind, ["b"] + ["k"] * (1 + keepdims))}, constants, opset=opset)
    [got] = InferenceSession(data(made)).run(None, feed)
    sa, za, sy, zy = (constants[n].astype(np.float64) for n in ("sa", "za", "sy", "zy"))
    mean = ((feed["a"] - za) * sa).mean(axis=tuple(axes), keepdims=bool(keepdims))
    info = np.iinfo(kind)
    np.testing.assert_array_equal(got, np.clip(np.rint(mean / sy) + zy, info.min, info.max))


def weights(rng, kind, k, n, columns):
    shape = (n,) if columns else ()
    zero = rng.integers(100, 140, shape).astype(np.uint8) if kind is np.uint8 else np.zeros(shape, np.int8)
    return codes(rng, kind, k, n), rng.uniform(0.001, 0.02, shape).astype(F32), zero


@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_dynamic_quantize_matmul(rng, kind, columns):
    b, scale, zero = weights(rng, kind, 19, 13, columns)
    constants = {"b": b, "sb": scale, "zb": zero, "bias": rng.standard_normal(13).astype(F32)}
    feed = {"x": rng.standard_normal((2, 5, 19)).astype(F32)}
    made = model([node("DynamicQuantizeMatMul", "x b sb zb bias", "y", **MS)], feed, {"y": F32}, constants)
    [got], [wanted], session = both(made, feed)
    assert [row.op for row in session.report().rows] == ["MatMulFloat"]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_matmul_integer_to_float(rng, kind, columns):
    b, scale, zero = weights(rng, kind, 19, 13, columns)
    constants = {
        "b": b, "sb": scale, "zb": zero, "bias": rng.standard_normal(13).astype(F32),
        "sa": np.asarray(0.03, F32), "za": np.asarray(120, np.uint8),
    }  # fmt: skip
    feed = {"a": codes(rng, np.uint8, 6, 19)}
    made = model([node("MatMulIntegerToFloat", "a b sa sb za zb bias", "y", **MS)], feed, {"y": F32}, constants)
    [got], [wanted], session = both(made, feed)
    assert [row.op for row in session.report().rows] == ["MatMulFloat"]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("result", ["codes", "floats"])
@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_qgemm(rng, kind, columns, turned, result, alpha):
    b, scale, zero = weights(rng, np.int8, 19, 13, columns)
    constants = {
        "b": b.T.copy() if turned else b, "sb": scale, "zb": zero, "c": rng.integers(-9999, 9999, 13).astype(np.int32),
        **quantisation(rng, kind, "a", "y", low=0.05, high=0.1),
    }  # fmt: skip
    feed = {"a": codes(rng, kind, 6, 19)}
    tail = " sy zy" if result == "codes" else ""
    nodes = [node("QGemm", f"a sa za b sb zb c{tail}", "y", transB=turned, alpha=alpha, **MS)]
    [got], [wanted], session = both(model(nodes, feed, {"y": kind if tail else F32}, constants), feed)
    assert [row.op for row in session.report().rows] == ["QLinearMatMul" if tail else "MatMulFloat"]
    if tail:
        steps = np.abs(got.astype(int) - wanted)
        assert steps.max() <= 1
        assert np.count_nonzero(steps) <= 2
    else:
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("opset", [12, 17, 21])
def test_quantize_and_dequantize(rng, kind, opset):
    constants = {"s": np.asarray(0.0013, F32), "z": np.asarray(77, kind)}
    x = rng.standard_normal((3, 50)).astype(F32)
    x[0, :4] = [1e9, -1e9, 0, 0.00195]
    nodes = [node("QuantizeLinear", "x s z", "q", **MS), node("DequantizeLinear", "q s z", "y", **MS)]
    made = model(nodes, {"x": x}, {"q": kind, "y": F32}, constants, opset=opset)
    (codes_got, got), (codes_wanted, wanted), _ = both(made, {"x": x})
    np.testing.assert_array_equal(codes_got, codes_wanted)
    np.testing.assert_array_equal(got, wanted)


X = (2, 3, 6, 6)
FLOAT = [
    ("FusedMatMul", "x w", {"x": (2, 3, 5, 7), "w": (2, 3, 7, 4)}, {"alpha": 0.25}),
    ("FusedMatMul", "x w", {"x": (2, 3, 7, 5), "w": (2, 3, 4, 7)}, {"transA": 1, "transB": 1}),
    ("FusedMatMul", "x w", {"x": (7, 3, 5), "w": (3, 5, 4)}, {"transBatchA": 1}),
    ("FusedMatMul", "x w", {"x": (7, 3, 2, 5), "w": (3, 2, 4, 5)}, {"transBatchA": 1, "transB": 1}),
    ("FusedGemm", "x w b", {"x": (5, 7), "w": (4, 7), "b": (4,)}, {"transB": 1, "activation": "Relu"}),
    ("FusedGemm", "x w b", {"x": (5, 7), "w": (7, 4), "b": (4,)},
     {"activation": "LeakyRelu", "activation_alpha": 0.3, "alpha": 0.5}),
    *(("FusedConv", "x w b", {"x": X, "w": (4, 3, 3, 3), "b": (4,)}, {"activation": name} | ({"activation_params": params} if params else {}))
      for name, params in (("Relu", []), ("Clip", [-0.5, 0.5]), ("LeakyRelu", [0.1]), ("HardSigmoid", [0.2, 0.5]),
                           ("Sigmoid", []), ("Tanh", []))),
    ("FusedConv", "x w b z", {"x": X, "w": (4, 3, 3, 3), "b": (4,), "z": (2, 4, 4, 4)}, {"activation": "Relu"}),
    ("BiasGelu", "x w", {"x": (3, 5, 8), "w": (8,)}, {}),
    ("FastGelu", "x", {"x": (3, 5, 8)}, {}),
    ("FastGelu", "x w", {"x": (3, 5, 8), "w": (8,)}, {}),
    ("QuickGelu", "x", {"x": (3, 5, 8)}, {}),
    ("Gelu", "x", {"x": (3, 5, 8)}, {}),
    ("SkipLayerNormalization", "x s g b", {"x": (2, 5, 8), "s": (2, 5, 8), "g": (8,), "b": (8,)}, {"epsilon": 1e-5}),
    ("SkipLayerNormalization", "x s g b c", {"x": (2, 5, 8), "s": (5, 8), "g": (8,), "b": (8,), "c": (8,)}, {}),
    ("SkipSimplifiedLayerNormalization", "x s g", {"x": (2, 5, 8), "s": (2, 5, 8), "g": (8,)}, {"epsilon": 1e-6}),
    ("SkipSimplifiedLayerNormalization", "x s g c", {"x": (2, 5, 8), "s": (2, 5, 8), "g": (8,), "c": (8,)}, {}),
]  # fmt: skip


@pytest.mark.parametrize("opset", [12, 21])
@pytest.mark.parametrize(("op", "inputs", "shapes", "attrs"), FLOAT, ids=[f"{c[0]}{i}" for i, c in enumerate(FLOAT)])
def test_fused_operator(rng, opset, op, inputs, shapes, attrs):
    tensors = {name: rng.standard_normal(shape).astype(F32) for name, shape in shapes.items()}
    feed = {name: value for name, value in tensors.items() if name in "xs"}
    constants = {name: value for name, value in tensors.items() if name not in "xs"}
    outputs = {"y": F32, "total": F32} if op.startswith("Skip") else {"y": F32}
    made = model([node(op, inputs, " - - ".join(outputs), **attrs, **MS)], feed, outputs, constants, opset=opset)
    got, wanted, _ = both(made, feed)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("opset", [12, 21])
@pytest.mark.parametrize("kind", KINDS)
def test_nhwc_max_pool(rng, kind, opset):
    feed = {"x": codes(rng, kind, 1, 9, 8, 3)}
    attrs = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 0]}
    made = model([node("NhwcMaxPool", "x", "y", **attrs, **MS)], feed, {"y": kind}, opset=opset)
    [got], [wanted], _ = both(made, feed)
    np.testing.assert_array_equal(got, wanted)


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
