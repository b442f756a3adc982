"""The session's float operators against onnx's reference, on random attributes and shapes."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import data, model, node, reference

from pyint8dot.onnx import InferenceSession

F32 = np.float32


def agree(made, feed, *, exact=False, **tolerance):
    session = InferenceSession(data(made))
    assert not session.report().reference_ops()
    for got, wanted in zip(session.run(None, feed), reference(made, feed), strict=True):
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        if exact:
            np.testing.assert_array_equal(got, wanted)
        else:
            np.testing.assert_allclose(got, wanted, **{"rtol": 1e-5, "atol": 1e-6, **tolerance})


def pooling(rng, rank):
    kernel = rng.integers(1, 4, rank)
    dilations = rng.integers(1, 3, rank)
    # A window in the padding alone has no greatest element.
    pads = [int(rng.integers(0, k)) // 2 for k in kernel] * 2
    return {
        "kernel_shape": kernel.tolist(), "strides": rng.integers(1, 4, rank).tolist(), "dilations": dilations.tolist(),
        "pads": pads, "ceil_mode": int(rng.integers(0, 2)),
    }  # fmt: skip


def pooled(x, attributes, combine):
    """Pooling by its definition: every window, cut to the elements that are there. The reference has bugs with ceil_mode."""
    window, strides, dilations, pads, ceil = attributes.values()
    rank = len(window)
    outs = []
    for i in range(rank):
        room = x.shape[2 + i] + pads[i] + pads[i + rank] - (window[i] - 1) * dilations[i] - 1
        out = (-(-room // strides[i]) if ceil else room // strides[i]) + 1
        outs.append(out - (ceil and (out - 1) * strides[i] >= x.shape[2 + i] + pads[i]))
    y = np.zeros((*x.shape[:2], *outs), x.dtype)
    for at in np.ndindex(*outs):
        places = []
        for i in range(rank):
            along = at[i] * strides[i] - pads[i] + np.arange(window[i]) * dilations[i]
            places.append(along[(along >= 0) & (along < x.shape[2 + i])])
        cut = x[(..., *np.ix_(*places))]
        y[(..., *at)] = combine(cut, axis=tuple(range(2, 2 + rank)))
    return y


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool(rng, dtype, rank):
    for _ in range(8 if rank < 3 else 2):
        x = rng.integers(0, 100, (2, 3, *rng.integers(7, 12, rank))).astype(dtype)
        x = x - dtype(50) if dtype is not np.uint8 else x
        attributes = pooling(rng, rank)
        made = model([node("MaxPool", "x", "y", **attributes)], {"x": x}, {"y": dtype})
        np.testing.assert_array_equal(
            InferenceSession(data(made)).run(None, {"x": x})[0], pooled(x, attributes, np.max)
        )


@pytest.mark.parametrize("width", [6, 7, 12, 13])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_max_pool_of_codes_with_stride_two(rng, dtype, width):
    """Rows of even length have a faster way of picking every second column."""
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max + 1, (1, 4, 7, width)).astype(dtype)
    for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]):
        attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads}
        agree(model([node("MaxPool", "x", "y", **attributes)], {"x": x}, {"y": dtype}), {"x": x}, exact=True)


@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize("rank", [1, 2])
def test_average_pool(rng, rank, count_include_pad):
    for _ in range(8):
        x = rng.standard_normal((2, 3, *rng.integers(6, 12, rank))).astype(F32)
        attributes = {**pooling(rng, rank), "ceil_mode": 0}
        made = model(
            [node("AveragePool", "x", "y", **attributes, count_include_pad=count_include_pad)], {"x": x}, {"y": F32}
        )
        if count_include_pad:
            agree(made, {"x": x})
        else:
            wanted = pooled(x, attributes, np.mean)
            np.testing.assert_allclose(
                InferenceSession(data(made)).run(None, {"x": x})[0], wanted, rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize(
    "attributes", [{}, {"dilations": [1, 2]}, {"pads": [0, 0, 0, 1]}, {"strides": [3, 3]}], ids=str
)
def test_an_average_of_the_whole_plane(rng, attributes):
    """One window that is all there is, and windows of the same size that are not."""
    x = rng.standard_normal((2, 3, 5, 4 if "dilations" not in attributes else 7)).astype(F32)
    agree(model([node("AveragePool", "x", "y", kernel_shape=[5, 4], **attributes)], {"x": x}, {"y": F32}), {"x": x})


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 3, 40, 40), (1, 4, 6), (0, 2, 3, 3), (1, 2, 2, 2, 2)], ids=str)
def test_global_average_pool(rng, shape):
    """Short planes and long ones, which are added up otherwise; with what is no number in them."""
    x = rng.standard_normal(shape).astype(F32)
    if x.size:
        x[0, 0] = np.nan
        x[0, 1].flat[0] = np.inf
    made = model([node("GlobalAveragePool", "x", "y")], {"x": x}, {"y": F32})
    wanted = x.astype(np.float64).mean(tuple(range(2, x.ndim)), keepdims=True)
    np.testing.assert_allclose(InferenceSession(data(made)).run(None, {"x": x})[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_local_response_normalisation(rng, size, beta):
    x = rng.standard_normal((2, 7, 3, 4)).astype(F32)
    made = model([node("LRN", "x", "y", size=size, alpha=0.3, beta=beta, bias=1.5)], {"x": x}, {"y": F32})
    # The reference goes wrong where there are more channels than images.
    square = np.zeros(x.shape)
    for c in range(7):
        square[:, c] = np.square(x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].astype(np.float64)).sum(axis=1)
    wanted = x / (1.5 + 0.3 / size * square) ** beta
    np.testing.assert_allclose(InferenceSession(data(made)).run(None, {"x": x})[0], wanted, rtol=1e-5)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_convolution(rng, group):
    for _ in range(6):
        x = rng.standard_normal((2, 4, *rng.integers(6, 10, 2))).astype(F32)
        w = rng.standard_normal((8, 4 // group, *rng.integers(1, 4, 2))).astype(F32)
        b = rng.standard_normal(8).astype(F32)
        attributes = {
            "strides": rng.integers(1, 3, 2).tolist(), "pads": rng.integers(0, 3, 4).tolist(),
            "dilations": rng.integers(1, 3, 2).tolist(), "group": group,
        }  # fmt: skip
        made = model([node("Conv", "x w b", "y", **attributes)], {"x": x}, {"y": F32}, {"w": w, "b": b})
        agree(made, {"x": x}, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 21])
def test_softmax(rng, op, axis, opset):
    if opset == 11 and axis < 0:
        axis = 3
    x = (5 * rng.standard_normal((2, 3, 4, 5))).astype(F32)
    made = model([node(op, "x", "y", axis=axis)], {"x": x}, {"y": F32}, opset=opset)
    [got] = InferenceSession(data(made)).run(None, {"x": x})
    # Before opset 13 the axes from `axis` on count as one.
    flat = x if opset > 12 else x.reshape(int(np.prod(x.shape[:axis])), -1)
    along = axis if opset > 12 else 1
    shifted = flat.astype(np.float64) - flat.max(axis=along, keepdims=True)
    wanted = shifted - np.log(np.exp(shifted).sum(axis=along, keepdims=True))
    wanted = wanted if op == "LogSoftmax" else np.exp(wanted)
    np.testing.assert_allclose(got, wanted.reshape(x.shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd"]
)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions(rng, op, keepdims):
    x = rng.standard_normal((3, 4, 5)).astype(F32)
    for axes in ([0], [1, -1], [0, 1, 2]):
        made = model([node(op, "x axes", "y", keepdims=keepdims)], {"x": x}, {"y": F32}, {"axes": np.int64(axes)})
        agree(made, {"x": x})
    agree(model([node(op, "x", "y", keepdims=keepdims)], {"x": x}, {"y": F32}), {"x": x})


UNARY = [
    "Abs",
    "Neg",
    "Exp",
    "Sqrt",
    "Floor",
    "Ceil",
    "Round",
    "Tanh",
    "Relu",
    "Sigmoid",
    "Reciprocal",
    "Erf",
    "LeakyRelu",
    "Log",
]


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (0, 3)])
def test_functions_of_one_number(rng, op, shape):
    x = np.asarray(
        rng.uniform(0.1, 4, shape) if op in ("Sqrt", "Log", "Reciprocal") else 4 * rng.standard_normal(shape), F32
    )
    if op == "Erf" and x.size == 0:
        return
    agree(model([node(op, "x", "y")], {"x": (F32, [None] * x.ndim)}, {"y": F32}), {"x": x})


def test_a_slope_may_be_nothing_in_half_precision():
    x = np.array([np.inf, 2, -1], np.float16)
    [y] = InferenceSession(data(model([node("LeakyRelu", "x", "y", alpha=1e-8)], {"x": x}, {"y": np.float16}))).run(
        None, {"x": x}
    )
    np.testing.assert_array_equal(y, np.array([np.inf, 2, 0], np.float16))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Greater", "LessOrEqual", "Equal"])
@pytest.mark.parametrize(
    "shapes", [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((4,), (2, 3, 4)), ((), (3,)), ((2, 1), (2, 2))]
)
def test_functions_of_two_numbers(rng, op, shapes):
    feed = {name: np.asarray(rng.standard_normal(s), F32) for name, s in zip("ab", shapes, strict=True)}
    kind = np.bool_ if op in ("Greater", "LessOrEqual", "Equal") else F32
    # Through Abs first: the operands are then the session's own to write over.
    nodes = [node("Abs", "a", "c"), node("Abs", "b", "d"), node(op, "c d", "y"), node(op, "a b", "z")]
    agree(model(nodes, feed, {"y": kind, "z": kind}), feed)


@pytest.mark.parametrize(
    ("scale", "bias"), [((5,), (1,)), ((1,), (5,)), ((5,), (2, 1, 5)), ((3, 1), None), ((5,), None)]
)
def test_layer_normalization_broadcasts_its_operands(rng, scale, bias):
    # Only vectors of a row's length may reach the function that takes no other.
    shapes = {"x": (2, 3, 5), "scale": scale, **({"bias": bias} if bias else {})}
    feed = {name: rng.standard_normal(shape).astype(F32) for name, shape in shapes.items()}
    agree(model([node("LayerNormalization", " ".join(feed), "y", axis=-1)], feed, {"y": F32}), feed)
