"""Softmax, the steps of a normalisation that quantisers keep apart, and products by heads: native between codes, and the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import covered, data, model, node, ops_of, reference
from support.recorded import apart, same, segments

from pyint8dot.onnx import InferenceSession

F32 = np.float32


def quantised(x):
    """The two nodes around `x`, as a tensor of codes and back."""
    return [node("QuantizeLinear", f"{x} s z", f"{x}_codes"), node("DequantizeLinear", f"{x}_codes s z", f"{x}_back")]


CODES = {"s": np.asarray(0.02, F32), "z": np.asarray(3, np.int8)}


def runs(made, feeds, **options):
    """Run both ways, the recorded one often enough; return its session."""
    session, plain = apart(made, **options)
    for feed in feeds:
        same(session.run(None, feed), plain.run(None, feed))
    return session


@pytest.mark.native
@pytest.mark.parametrize(
    ("opset", "axis", "whole"), [(21, -1, True), (21, 2, True), (21, 1, False), (12, 1, True), (12, 2, True)]
)
@pytest.mark.parametrize("between", ["codes", "floats"])
def test_softmax(rng, opset, axis, whole, between):
    """Over the last axis, or all of the last, it is part of the segment around it."""
    nodes = quantised("x")
    end = quantised("p") if between == "codes" else [node("Identity", "p", "q"), *quantised("q")]
    nodes += [node("Softmax", "x_back", "p", axis=axis), *end]
    result = "p_back" if between == "codes" else "q_back"
    feeds = [{"x": (2 * rng.standard_normal((3, 5, 19))).astype(F32)} for _ in range(4)]
    made = model(nodes, {"x": (F32, [3, 5, 19])}, {result: F32, "p": F32} if between == "floats" else {result: F32}, CODES,
                 opset=opset)  # fmt: skip
    session = runs(made, feeds)
    assert (range(len(session.steps)) in [stage.steps for stage in segments(session)]) == whole


@pytest.mark.native
def test_softmax_of_masked_rows(rng):
    """Infinities and NaN give what they give node by node."""
    x = rng.standard_normal((4, 7)).astype(F32)
    x[1], x[2, 3], x[3, ::2] = -np.inf, np.nan, -np.inf
    session = runs(model([node("Softmax", "x", "y")], {"x": x}, {"y": F32}), [{"x": x}] * 4)
    assert segments(session)
    [y] = session.run(None, {"x": x})
    assert np.isnan(y[1:3]).all()
    assert not y[3, ::2].any()


@pytest.mark.native
def test_attention_with_a_mask(rng):
    """What is masked is part of the segment as well, and numpy brings the mask to the base 2 before it."""
    nodes = [
        *(node("Reshape", f"{name} heads", f"{name}1") for name in "qkv"),
        *(node("Transpose", f"{name}1", f"{name}2", perm=[0, 2, *([3, 1] if name == "k" else [1, 3])]) for name in "qkv"),
        node("MatMul", "q2 k2", "scores"), node("Add", "scores mask", "t"), node("Softmax", "t", "p"), node("MatMul", "p v2", "c"),
        node("Transpose", "c", "h", perm=[0, 2, 1, 3]), node("Reshape", "h whole", "y"), *quantised("y"),
    ]  # fmt: skip
    constants = {**CODES, "heads": np.int64([0, 0, 3, 8]), "whole": np.int64([0, 0, 24])}
    inputs = {**dict.fromkeys("qkv", (F32, [2, 5, 24])), "mask": (F32, [2, 1, 1, 5])}
    feeds = [{name: rng.standard_normal((2, 5, 24)).astype(F32) for name in "qkv"} for _ in range(5)]
    for feed in feeds:
        feed["mask"] = np.where(rng.random((2, 1, 1, 5)) < 0.3, np.finfo(F32).min, F32(0))
    session = runs(model(nodes, inputs, {"y_back": F32}, constants), feeds)
    assert ops_of(session) == ["MaskToBase2", "Attention", "QuantizeLinear", "DequantizeLinear"]
    assert [stage.steps for stage in segments(session)] == [range(1, 4)]


def normalisation(again):
    """What onnxruntime's tool leaves of a layer normalisation that PyTorch has written out, and its optimiser of that."""
    return [
        *quantised("x"), *([node("DequantizeLinear", "x_codes s z", "x_again")] if again else []),
        node("ReduceMean", "x_again axes" if again else "x_back axes", "mean"), node("Sub", "x_back mean", "d"), node("Pow", "d two", "squares"),
        node("ReduceMean", "squares axes", "variance"), *quantised("variance"), node("Add", "variance_back small", "v"),
        *quantised("v"), node("Sqrt", "v_back", "root"), node("Div", "d root", "n"), *quantised("n"),
        node("Mul", "n_back scale", "m"), *quantised("m"),
    ]  # fmt: skip


@pytest.mark.native
@pytest.mark.parametrize("again", [False, True])
def test_steps_of_a_normalisation(rng, again):
    """Each step is kept, and all are one segment; what is dequantised for each reader is so once."""
    constants = {
        **CODES, "axes": np.int64([-1]), "two": np.asarray(2, F32), "small": np.asarray(0.02, F32),
        "scale": rng.standard_normal(24).astype(F32),
    }  # fmt: skip
    made = model(normalisation(again), {"x": (F32, ["a", "b", 24])}, {"m_back": F32}, constants)
    feeds = [{"x": rng.standard_normal((2, 5, 24)).astype(F32)} for _ in range(4)]
    session = runs(made, feeds)
    ops = ops_of(session)
    assert "Deviations" in ops
    assert "DivideByRoot" in ops
    assert covered(session) == len(made.graph.node) - again
    assert [stage.steps for stage in segments(session)] == [range(len(ops))]
    # A value that lies half between two codes may fall to the other side.
    [got], [want] = session.run(None, feeds[0]), reference(made, feeds[0])
    assert (np.abs(got - want) < 1e-6).mean() > 0.9
    np.testing.assert_allclose(got, want, rtol=0, atol=0.0201)


def test_steps_that_others_read_too(rng):
    """The distances are an output, and the variance is divided by in another shape."""
    nodes = [
        node("ReduceMean", "x axes", "mean"), node("Sub", "x mean", "d"), node("Mul", "d d", "squares"),
        node("ReduceMean", "squares axes", "variance"), node("Sqrt", "variance", "root"), node("Div", "x root", "n"),
        node("Transpose", "variance", "turned", perm=[0, 2, 1]), node("Sqrt", "turned", "other"), node("Div", "mean other", "y"),
        node("Sqrt", "squares", "deviation"), node("Div", "d deviation", "signs"),
    ]  # fmt: skip
    outputs = dict.fromkeys(("d", "variance", "n", "y", "signs"), F32)
    x = rng.standard_normal((2, 5, 24)).astype(F32)
    made = model(nodes, {"x": (F32, ["a", "b", "c"])}, outputs, {"axes": np.int64([-1])})
    session = InferenceSession(data(made))
    ops = ops_of(session)
    assert ops.count("DivideByRoot") == 3
    # The squares are read by another node.
    assert "Deviations" not in ops
    for got, want in zip(session.run(None, {"x": x}), reference(made, {"x": x}), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["axis", "kept", "mean", "power"])
def test_what_only_looks_like_deviations(rng, change):
    nodes = [
        node("ReduceMean", "x axes", "mean", keepdims=int(change != "kept")), node("Sub", "x mean", "d"),
        node("Pow", "d power", "squares"), node("ReduceMean", "squares last", "variance"),
    ]  # fmt: skip
    if change == "mean":
        nodes[1] = node("Sub", "mean x", "d")
    constants = {
        "axes": np.int64([0 if change in ("axis", "kept") else -1]), "last": np.int64([-1]),
        "power": np.asarray(3 if change == "power" else 2, F32),
    }  # fmt: skip
    x = rng.standard_normal((4, 4)).astype(F32)
    made = model(nodes, {"x": x}, {"d": F32, "variance": F32}, constants)
    session = InferenceSession(data(made))
    assert "Deviations" not in ops_of(session)
    for got, want in zip(session.run(None, {"x": x}), reference(made, {"x": x}), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("perm", [(0, 2, 1, 3), (2, 1, 0, 3), (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("lead", [(2, 3), (1, 3), (1, 1)], ids=str)
def test_products_by_heads(rng, native_kernel, perm, threads, lead):
    """Codes in the order of a Transpose, whose Reshape then looks at them only."""
    m, k, n = 6, 12, 5
    nodes = [
        node("QuantizeLinear", "x s z", "a"), node("QuantizeLinear", "y s z", "b"), node("QLinearMatMul", "a s z b s z v z", "q"),
        node("Transpose", "q", "t", perm=perm), node("Reshape", "t shape", "w"), node("DequantizeLinear", "w v z", "r"),
    ]  # fmt: skip
    constants = {**CODES, "v": np.asarray(0.05, F32), "shape": np.int64([0, 0, -1])}
    made = model(nodes, {"x": (F32, [*lead, m, k]), "y": (F32, [2, 3, k, n])}, {"r": F32}, constants)
    feeds = [
        {"x": rng.standard_normal((*lead, m, k)).astype(F32), "y": rng.standard_normal((2, 3, k, n)).astype(F32)}
        for _ in range(4)
    ]
    session = runs(made, feeds, kernel=native_kernel, num_threads=threads)
    assert [op for op in ops_of(session) if op == "Transpose"] == []
    if threads == 1:
        assert [stage.steps for stage in segments(session)] == [range(5)]
    [want] = reference(made, feeds[-1])
    np.testing.assert_allclose(session.run(None, feeds[-1])[0], want, rtol=0, atol=1e-6)


def test_products_in_another_order_of_other_shapes(rng):
    """One operand has fewer dimensions, or there are several scales."""
    x, y = rng.integers(-128, 128, (2, 3, 5, 8), np.int8), rng.integers(-128, 128, (8, 4), np.int8)
    for scales, shape in ((F32(0.02), ["a", "b"]), (F32([0.02] * 4), [8, 4])):
        nodes = [node("QLinearMatMul", "x s z y t u v z", "q"), node("Transpose", "q", "r", perm=[2, 0, 1, 3])]
        constants = {
            **CODES, "v": np.asarray(0.5, F32), "t": np.asarray(scales), "u": np.zeros(np.shape(scales), np.int8),
        }  # fmt: skip
        made = model(nodes, {"x": (np.int8, [2, 3, 5, 8]), "y": (np.int8, shape)}, {"r": np.int8}, constants)
        session = InferenceSession(data(made))
        assert "Transpose" not in ops_of(session)
        [got], [want] = session.run(None, {"x": x, "y": y}), reference(made, {"x": x, "y": y})
        # A product half between two codes may fall to the other side.
        np.testing.assert_allclose(got.astype(np.int32), want.astype(np.int32), rtol=0, atol=1)
        assert got.flags.c_contiguous
