"""Operators of float16, which are computed in float32: numpy has no fast loops or products of the narrow type."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import data, model, node, reference

from pyint8dot.onnx import InferenceSession

F16 = np.float16
CASES = [
    ("MatMul", "x w", {}), ("Erf", "x", {}), ("Sigmoid", "x", {}), ("Softmax", "x", {}), ("HardSwish", "x", {}),
    ("ReduceSum", "x", {}), ("ReduceMean", "x", {}), ("ReduceMax", "x", {}), ("Gelu", "x", {}), ("Exp", "x", {}),
    ("Sqrt", "p", {}), ("Pow", "p x", {}), ("Div", "x p", {}), ("Gemm", "x w", {"alpha": 0.5}), ("CumSum", "x a", {}),
    ("Einsum", "x w", {"equation": "ij,jk->ki"}), ("LayerNormalization", "x g", {}), ("TopK", "x k", {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attrs"), CASES, ids=[case[0] for case in CASES])
def test_operator_of_half_precision(rng, op, inputs, attrs):
    tensors = {
        "x": rng.standard_normal((6, 8)).astype(F16), "w": rng.standard_normal((8, 5)).astype(F16),
        "p": rng.uniform(0.5, 2, (6, 8)).astype(F16), "g": rng.uniform(0.5, 2, 8).astype(F16),
        "a": np.asarray(1, np.int64), "k": np.array([3], np.int64),
    }  # fmt: skip
    feed = {name: tensors[name] for name in inputs.split() if name in "xp"}
    constants = {name: tensors[name] for name in inputs.split() if name not in feed}
    outputs = {"y": F16, "i": np.int64} if op == "TopK" else {"y": F16}
    made = model([node(op, inputs, " ".join(outputs), **attrs)], feed, outputs, constants)
    session = InferenceSession(data(made))
    assert not session.report().reference_ops()
    for got, wanted in zip(session.run(None, feed), reference(made, feed), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got.astype(np.float32), wanted.astype(np.float32), rtol=5e-3, atol=5e-3)


def test_product_of_half_precision_is_that_of_single(rng):
    """Its sums are those of float32: a thousand ones and a small number are no thousand."""
    x = np.concatenate([np.full((1, 2048), 1), np.full((1, 1), 0.5)], axis=1).astype(F16)
    made = model([node("MatMul", "x w", "y")], {"x": x}, {"y": F16}, {"w": np.ones((2049, 1), F16)})
    [got] = InferenceSession(data(made)).run(None, {"x": x})
    assert got == F16(np.float32(2048.5))
