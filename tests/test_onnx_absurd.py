"""Models that ask for absurd sizes: what needs them is refused with a message that names the node, and no memory is taken."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_graphs import data, model, node

from pyint8dot.onnx import InferenceSession, ModelError, NodeError

F32 = np.float32

ABSURD = {
    "ConstantOfShape": ({"s": np.int64([1 << 20, 1 << 20, 1])}, {}),
    "Expand": ({"x": np.ones(1, F32), "s": np.int64([1 << 40])}, {}),
    "Tile": ({"x": np.ones(4, F32), "s": np.int64([1 << 38])}, {}),
    "Range": ({"a": np.asarray(0, F32), "b": np.asarray(1e12, F32), "c": np.asarray(1, F32)}, {}),
    "Pad": ({"x": np.ones(4, F32), "p": np.int64([0, 1 << 40])}, {}),
    "Resize": ({"x": np.ones((1, 1, 4, 4), F32), "-": None, "f": np.array([1, 1, 1e5, 1e5], F32)}, {}),
    "OneHot": ({"i": np.zeros(1000, np.int64), "d": np.array(1 << 33), "v": np.array([0, 1], F32)}, {}),
    "RandomNormal": ({}, {"shape": [1 << 20, 1 << 20]}),
    "Add": ({"x": np.ones((1 << 16, 1), F32), "y": np.ones((1, 1 << 16), F32)}, {}),
    "MatMul": ({"x": np.ones((1 << 16, 1), F32), "y": np.ones((1, 1 << 16), F32)}, {}),
    "Where": ({"c": np.ones(1, bool), "x": np.ones((1 << 16, 1), F32), "y": np.ones((1, 1 << 16), F32)}, {}),
    "MatMulInteger": ({"x": np.ones((1 << 16, 1), np.int8), "y": np.ones((1, 1 << 16), np.int8)}, {}),
    "ConvInteger": (
        {"x": np.ones((1, 1, 4, 4), np.int8), "w": np.ones((1, 1, 2, 2), np.int8)},
        {"pads": [0, 0, 1 << 18, 1 << 18]},
    ),
    "MaxPool": ({"x": np.ones((1, 1, 4, 4), F32)}, {"kernel_shape": [2, 2], "pads": [1 << 18] * 4}),
    "Conv": ({"x": np.ones((1, 1, 4, 4), F32), "w": np.ones((1, 1, 2, 2), F32)}, {"pads": [0, 0, 1 << 18, 1 << 18]}),
    "Gather": ({"x": np.ones((1, 1 << 16), F32), "i": np.zeros(1 << 18, np.int64)}, {}),
    "MaxUnpool": (
        {"x": np.ones((1, 1, 2, 2), F32), "i": np.zeros((1, 1, 2, 2), np.int64)},
        {"kernel_shape": [1 << 20] * 2},
    ),
    "QuantizeLinear": (
        {"x": np.ones((3, 4), F32), "s": np.ones((3, 2), F32)},
        {"axis": 1, "block_size": 2147483647, "output_dtype": TensorProto.INT16},
    ),
    "HannWindow": ({"n": np.asarray(1 << 40)}, {}),
    "BlackmanWindow": ({"n": np.asarray(1 << 40)}, {}),
    "DFT": ({"x": np.ones((1, 8, 1), F32), "n": np.asarray(1 << 40), "axis": np.asarray(1)}, {}),
}


def test_skips_longer_than_any_row_are_refused():
    attributes = {
        "mode": "TF", "min_gram_length": 2, "max_gram_length": 2, "max_skip_count": 1 << 62, "ngram_counts": [0, 0],
        "ngram_indexes": [0], "pool_int64s": [2, 3],
    }  # fmt: skip
    made = model([node("TfIdfVectorizer", "x", "y", **attributes)], {"x": (np.int64, [2, 6])}, {"y": F32})
    with pytest.raises(ModelError, match=r"max_skip_count is 4611686018427387904, with rows of 6"):
        InferenceSession(data(made)).run(None, {"x": np.ones((2, 6), np.int64)})


@pytest.fixture
def little_memory():
    """A bound on the address space: what gets past the checks ends in MemoryError, and the test fails."""
    if sys.platform != "linux" or "QEMU_CPU" in os.environ:
        yield  # macOS does not keep the bound, and an emulator's own memory counts
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    kept = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, kept)


@pytest.mark.parametrize("as_constants", [False, True])
@pytest.mark.parametrize("op", list(ABSURD))
def test_absurd_shapes_allocate_nothing(op, as_constants, little_memory):
    values, attributes = ABSURD[op]
    given = {name: value for name, value in values.items() if value is not None}
    nodes = [node(op, " ".join(values), "r", **attributes), node("Size", "r", "size")]
    made = model(nodes, {} if as_constants else given, {"size": np.int64}, given if as_constants else {})
    with pytest.raises((ModelError, NodeError), match=rf"\({op}\)|{op}.*") as caught:
        InferenceSession(data(made), max_bytes=1 << 28).run(None, {} if as_constants else given)
    assert not isinstance(caught.value.__cause__, MemoryError)


def test_one_array_joined_many_times_is_bounded(little_memory):
    made = model([node("Concat", " ".join(["x"] * 400), "y", axis=0)], {"x": (F32, [None])}, {"y": F32})
    session = InferenceSession(data(made), max_bytes=1 << 28)
    with pytest.raises(ModelError, match=r"\(Concat\).*max_bytes"):
        session.run(None, {"x": np.ones(1 << 20, F32)})
    assert session.run(None, {"x": np.ones(3, F32)})[0].shape == (1200,)


def test_a_window_over_more_channels_than_there_are_takes_no_memory(little_memory):
    x = np.arange(24, dtype=F32).reshape(2, 3, 4)
    made = [model([node("LRN", "x", "y", size=size, alpha=float(size))], {"x": x}, {"y": F32}) for size in (5, 1 << 40)]
    first, second = (InferenceSession(data(m), max_bytes=1 << 20).run(None, {"x": x})[0] for m in made)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "op",
    "ConstantOfShape Expand Tile Range Pad Resize OneHot RandomNormal Add MatMul HannWindow BlackmanWindow DFT MaxUnpool".split(),
)
def test_absurd_shapes_inside_a_branch(op, little_memory):
    values, attributes = ABSURD[op]
    given = {name: value for name, value in values.items() if value is not None}
    result = [helper.make_tensor_value_info("size", TensorProto.INT64, [])]
    nodes = [node(op, " ".join(values), "r", **attributes), node("Size", "r", "size")]
    branch = helper.make_graph(nodes, "branch", [], result)
    other = helper.make_graph([node("Size", "which", "size")], "other", [], result)
    outer = helper.make_node("If", ["which"], ["out"], "the If", then_branch=branch, else_branch=other)
    made = model([outer], {"which": np.array(True), **given}, {"out": (np.int64, [])})
    session = InferenceSession(data(made), max_bytes=1 << 28)
    with pytest.raises((ModelError, NodeError), match=r"max_bytes"):
        session.run(None, {"which": np.array(True), **given})
    assert session.run(None, {"which": np.array(False), **given})[0] == 1


def test_negative_shape_at_run_time():
    made = model([node("ConstantOfShape", "s", "y")], {"s": (np.int64, [2])}, {"y": (F32, [None, None])})
    with pytest.raises(ModelError, match=r"\(ConstantOfShape\): output 'y': shape \[2, -1\] has a negative dimension"):
        InferenceSession(data(made)).run(None, {"s": np.int64([2, -1])})
