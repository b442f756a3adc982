"""Between 8-bit tensors nothing is left in floats: each pattern is found, and gives what its nodes give one by one."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import data, model, node, reference

from pyint8dot import qlinear_matmul
from pyint8dot.onnx import InferenceSession

F32 = np.float32
SCALES = {
    "s": np.asarray(0.05, F32), "z": np.asarray(3, np.int8), "s2": np.asarray(0.07, F32), "z2": np.asarray(-7, np.int8),
    "sy": np.asarray(0.06, F32), "zy": np.asarray(-11, np.int8),
}  # fmt: skip
FLOATS = {"QuantizeLinear", "DequantizeLinear"}


def codes(rng, *shape):
    return rng.integers(-128, 128, shape).astype(np.int8)


def between_codes(nodes, feed, constants=None, result="t", opset=21):
    """A session for nodes between x (and x2) dequantised to f (and f2) and the quantised result, and what the reference makes."""
    front = [node("DequantizeLinear", "x s z", "f")]
    if "x2" in feed:
        front.append(node("DequantizeLinear", "x2 s2 z2", "f2"))
    every = [*front, *nodes, node("QuantizeLinear", f"{result} sy zy", "y")]
    made = model(every, feed, {"y": np.int8}, {**SCALES, **(constants or {})}, opset=opset)
    session = InferenceSession(data(made))
    return [row.op for row in session.report().rows], session.run(None, feed)[0], reference(made, feed)[0]


INTS = {name: np.array(value, np.int64) for name, value in {
    "shape": [2, -1], "axes": [1], "starts": [1], "ends": [9], "steps": [2], "pair": [2, 0], "more": [2, 3, 4, 5],
    "twice": [1, 1, 2, 1],
}.items()}  # fmt: skip
# Each moves numbers only: no step may go wrong, and the operator itself sees codes.
MOVING = [
    ("Reshape", "f shape", {}), ("Transpose", "f", {"perm": [0, 2, 1, 3]}), ("Flatten", "f", {"axis": 2}),
    ("Unsqueeze", "f axes", {}), ("Gather", "f pair", {"axis": 1}), ("Slice", "f starts ends axes steps", {}),
    ("Expand", "f more", {}), ("Tile", "f twice", {}), ("MaxPool", "f", {"kernel_shape": [2, 2]}),
    ("ReduceMax", "f axes", {}), ("GlobalMaxPool", "f", {}), ("DepthToSpace", "f", {"blocksize": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attrs"), MOVING, ids=[case[0] for case in MOVING])
def test_what_moves_numbers_moves_codes(rng, op, inputs, attrs):
    constants = {name: INTS[name] for name in inputs.split()[1:]}
    feed = {"x": codes(rng, 2, 3, 4, 5)}
    ops, got, wanted = between_codes([node(op, inputs, "t", **attrs)], feed, constants)
    assert ops == [op, "Lookup"]
    np.testing.assert_array_equal(got, wanted)


def test_nearest_neighbours_are_codes(rng):
    nodes = [node("Resize", "f - by", "t", mode="nearest")]
    ops, got, wanted = between_codes(nodes, {"x": codes(rng, 1, 2, 4, 5)}, {"by": np.array([1, 1, 2, 2], F32)})
    assert ops == ["Resize", "Lookup"]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("op", ["Concat", "Max", "Min", "Where"])
def test_what_picks_among_tensors_has_their_codes_at_one_scale(rng, op):
    attrs = {"axis": 1} if op == "Concat" else {}
    feed = {"x": codes(rng, 2, 3, 4), "x2": codes(rng, 2, 3, 4)}
    if op == "Where":
        feed["c"] = rng.integers(0, 2, (2, 3, 4)).astype(bool)
    inputs = "c f f2" if op == "Where" else "f f2"
    ops, got, wanted = between_codes([node(op, inputs, "t", **attrs)], feed)
    assert ops == ["Lookup", "Lookup", op]
    np.testing.assert_array_equal(got, wanted)


def test_constants_among_them_are_quantised_beforehand(rng):
    ops, got, wanted = between_codes([node("Max", "f c", "t")], {"x": codes(rng, 3, 5)}, {"c": F32([0.1, 2, -3, 1, 5])})
    assert ops == ["Lookup", "Max"]
    np.testing.assert_array_equal(got, wanted)


def test_pieces_are_codes(rng):
    nodes = [node("DequantizeLinear", "x s z", "f"), node("Split", "f", "a b", axis=1, num_outputs=2)]
    nodes += [node("QuantizeLinear", "a s2 z2", "y"), node("QuantizeLinear", "b sy zy", "w")]
    feed = {"x": codes(rng, 2, 6)}
    made = model(nodes, feed, {"y": np.int8, "w": np.int8}, SCALES)
    session = InferenceSession(data(made))
    assert [row.op for row in session.report().rows] == ["Split", "Lookup", "Lookup"]
    for got, wanted in zip(session.run(None, feed), reference(made, feed), strict=True):
        np.testing.assert_array_equal(got, wanted)


CHAINS = {
    "swish": [node("Sigmoid", "f", "g"), node("Mul", "f g", "t")],
    "swish by way of codes": [
        node("Sigmoid", "f", "g"), node("QuantizeLinear", "g s2 z2", "q"), node("DequantizeLinear", "q s2 z2", "h"),
        node("Mul", "f h", "t"),
    ],
    "gelu": [
        node("Div", "f root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c"), node("Mul", "f c", "d"),
        node("Mul", "d half", "t"),
    ],
    "hard swish": [node("HardSwish", "f", "t")],
    "clip": [node("Clip", "f half one", "t")],
    "power": [node("Pow", "f two", "t")],
}  # fmt: skip
NUMBERS = {name: np.asarray(v, F32) for name, v in {"root": np.sqrt(2), "one": 1, "half": 0.5, "two": 2}.items()}


@pytest.mark.parametrize("name", CHAINS)
def test_function_of_one_tensor_is_a_table(name):
    every = np.arange(256, dtype=np.uint8).view(np.int8).reshape(2, 128)
    read = {n for proto in CHAINS[name] for n in proto.input}
    ops, got, wanted = between_codes(CHAINS[name], {"x": every}, {n: v for n, v in NUMBERS.items() if n in read})
    assert ops == ["Lookup"]
    # The error function differs in the last bit, which a value half between two codes may show.
    assert np.abs(got.astype(int) - wanted).max() <= (1 if name == "gelu" else 0)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_a_constant_that_is_quantised_itself_goes_into_the_table(rng, shape):
    """One number with scale and zero point of its own, left or right, and codes in between, as the tools write GELU."""
    front = [node("DequantizeLinear", f"{c} s2 z2", f"{c}f") for c in "cd"]
    nodes = [
        *front, node("Div", "f cf", "a"), node("QuantizeLinear", "a s2 z2", "q"), node("DequantizeLinear", "q s2 z2", "b"),
        node("Erf", "b", "e"), node("Add", "df e", "g"), node("Mul", "f g", "t"),
    ]  # fmt: skip
    constants = {"c": np.full(shape, 13, np.int8), "d": np.full((), 7, np.int8)}
    ops, got, wanted = between_codes(nodes, {"x": codes(rng, 5, 9)}, constants)
    # More dimensions than the codes have are dimensions of the result: then it is no table.
    assert (ops == ["Lookup"]) == (len(shape) < 3)
    np.testing.assert_array_equal(got.reshape(wanted.shape), wanted)
    assert got.shape == wanted.shape


def test_float_that_is_wanted_elsewhere_is_kept(rng):
    nodes = [node("DequantizeLinear", "x s z", "f"), node("Tanh", "f", "t"), node("QuantizeLinear", "t sy zy", "y")]
    feed = {"x": codes(rng, 40)}
    made = model(nodes, feed, {"y": np.int8, "t": (F32, [40])}, SCALES)
    session = InferenceSession(data(made))
    for got, wanted in zip(session.run(None, feed), reference(made, feed), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    assert "Tanh" in [row.op for row in session.report().rows]


COMPUTED = [
    ("Add", "f f2", {}, (2, 3, 4, 6), (2, 3, 4, 6)), ("Mul", "f f2", {}, (2, 3, 4, 6), (3, 1, 1)),
    ("Sub", "f c", {}, (2, 3, 4, 6), None), ("AveragePool", "f", {"kernel_shape": [3, 3]}, (1, 3, 6, 6), None),
    ("GlobalAveragePool", "f", {}, (2, 3, 5, 5), None), ("Softmax", "f", {"axis": -1}, (2, 3, 9), None),
    ("ReduceMean", "f axes", {}, (2, 3, 9), None), ("Resize", "f - by", {"mode": "linear"}, (1, 2, 4, 5), None),
    ("InstanceNormalization", "f c3 c3", {}, (2, 3, 5, 5), None), ("LayerNormalization", "f c6", {}, (2, 3, 6), None),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attrs", "shape", "other"), COMPUTED, ids=[case[0] for case in COMPUTED])
def test_what_has_to_be_computed_is_one_node(rng, op, inputs, attrs, shape, other):
    feed = {"x": codes(rng, *shape)} | ({"x2": codes(rng, *other)} if other else {})
    known = {
        "c": rng.standard_normal(shape[1:]).astype(F32), "c3": rng.uniform(0.5, 1, 3).astype(F32),
        "c6": rng.uniform(0.5, 1, 6).astype(F32), "axes": INTS["axes"], "by": np.array([1, 1, 2, 1.5], F32),
    }  # fmt: skip
    constants = {name: known[name] for name in inputs.split() if name in known}
    ops, got, wanted = between_codes([node(op, inputs, "t", **attrs)], feed, constants)
    assert ops == [f"QLinear{op}"]
    steps = np.abs(got.astype(int) - wanted)
    # Sums are rounded in another order than the reference's.
    assert steps.max() <= (0 if op in ("Add", "Mul", "Sub") else 1)


@pytest.mark.parametrize("op", ["AveragePool", "GlobalAveragePool"])
@pytest.mark.parametrize("axis", [1, -3, 2])
def test_averages_of_what_is_joined_are_joined(rng, op, axis):
    """Channels of two scales, each averaged by itself; joined along rows they are one average."""
    attrs = {"kernel_shape": [2, 3], "pads": [1, 0, 0, 1]} if op == "AveragePool" else {}
    nodes = [node("Concat", "f f2", "a", axis=axis), node(op, "a", "b", **attrs), node("Flatten", "b", "t")]
    shape = (2, 2, 4, 5) if axis != 2 else (2, 3, 2, 5)
    ops, got, wanted = between_codes(nodes, {"x": codes(rng, 2, 3, 4, 5), "x2": codes(rng, *shape)})
    if axis == 2:
        assert ops == ["DequantizeLinear", "DequantizeLinear", "Concat", op, "QuantizeLinear", "Flatten"]
    else:
        assert ops == [f"QLinear{op}", f"QLinear{op}", "Concat", "Flatten"]
    # Sums are rounded in another order than the reference's.
    assert np.abs(got.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("op", ["Reshape", "Flatten", "Unsqueeze"])
def test_what_is_reshaped_is_quantised_before(rng, op):
    inputs = {"Reshape": "u shape", "Unsqueeze": "u axes"}.get(op, "u")
    constants = {name: INTS[name] for name in inputs.split()[1:]}
    nodes = [node("Softmax", "f", "u"), node(op, inputs, "t")]
    ops, got, wanted = between_codes(nodes, {"x": codes(rng, 2, 3, 4)}, constants)
    assert ops == ["QLinearSoftmax", op]
    assert np.abs(got.astype(int) - wanted).max() <= 1


def test_what_others_see_reshaped_stays_so(rng):
    nodes = [
        node("DequantizeLinear", "x s z", "f"),
        node("Softmax", "f", "u"),
        node("Flatten", "u", "t"),
        node("QuantizeLinear", "t sy zy", "y"),
    ]
    feed = {"x": codes(rng, 2, 3, 4)}
    made = model(nodes, feed, {"y": np.int8, "t": (F32, [2, 12])}, SCALES)
    session = InferenceSession(data(made))
    for got, wanted in zip(session.run(None, feed), reference(made, feed), strict=True):
        # The smallest shares of a Softmax differ by some last bits.
        np.testing.assert_allclose(got, wanted, rtol=4e-6)
    assert [row.op for row in session.report().rows][-2:] == ["Flatten", "QuantizeLinear"]


def test_large_sums_are_made_in_pieces(rng):
    feed = {"x": codes(rng, 3, 40000), "x2": codes(rng, 3, 40000)}
    ops, got, wanted = between_codes([node("Add", "f f2", "t")], feed)
    assert ops == ["QLinearAdd"]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("tail", [[node("Relu", "u", "t")], [node("Clip", "u half two", "t")]], ids=["Relu", "Clip"])
def test_bounds_behind_an_operator_are_those_of_codes(rng, tail):
    feed = {"x": codes(rng, 5, 7), "x2": codes(rng, 5, 7)}
    read = {n for proto in tail for n in proto.input}
    constants = {n: v for n, v in NUMBERS.items() if n in read}
    ops, got, wanted = between_codes([node("Add", "f f2", "u"), *tail], feed, constants)
    assert ops == ["QLinearAdd", "Lookup"]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("attrs", [
    {"strides": [2, 2]}, {"strides": [3, 2], "pads": [1, 0, 1, 1]}, {"strides": [2, 2], "output_padding": [1, 0]},
    {"strides": [3, 2], "dilations": [2, 1]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("kernel_shape", [(3, 3), (3, 2)])
def test_transposed_convolution_is_an_integer_product(rng, kernel_shape, attrs):
    scale = rng.uniform(0.01, 0.05, 4).astype(F32)
    constants = {
        "w": codes(rng, 2, 4, *kernel_shape), "sw": scale, "zw": np.zeros(4, np.int8),
        "b": rng.integers(-99, 99, 4).astype(np.int32), "sb": SCALES["s"] * scale,
    }  # fmt: skip
    nodes = [
        node("DequantizeLinear", "w sw zw", "wf", axis=1), node("DequantizeLinear", "b sb", "bf", axis=0),
        node("ConvTranspose", "f wf bf", "t", **attrs),
    ]  # fmt: skip
    ops, got, wanted = between_codes(nodes, {"x": codes(rng, 2, 2, 4, 5)}, constants)
    assert ops == ["QLinearConvTranspose"]
    steps = np.abs(got.astype(int) - wanted)
    assert steps.max() <= 1
    assert np.count_nonzero(steps) <= max(2, got.size // 50)


def test_weights_are_turned_where_the_product_says_so(rng):
    """As PyTorch writes a linear layer; the bias is in units of both scales, times what the product is multiplied by."""
    constants = {
        "w": codes(rng, 6, 9), "sw": np.asarray(0.02, F32), "zw": np.asarray(0, np.int8),
        "b": rng.integers(-99, 99, 6).astype(np.int32), "sb": np.asarray(0.5 * 0.05 * 0.02, F32),
    }  # fmt: skip
    nodes = [
        node("DequantizeLinear", "w sw zw", "wf"), node("DequantizeLinear", "b sb", "bf"),
        node("Gemm", "f wf bf", "t", transB=1, alpha=0.5),
    ]  # fmt: skip
    ops, got, wanted = between_codes(nodes, {"x": codes(rng, 5, 9)}, constants)
    assert ops == ["QLinearMatMul"]
    assert np.abs(got.astype(int) - wanted).max() <= 1


def test_conversions_are_counted(rng):
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "f"), node("Hardmax", "f", "y")]
    session = InferenceSession(data(model(nodes, {"x": (F32, [3, 4])}, {"y": F32}, SCALES)))
    assert session.report().conversions() == {"QuantizeLinear": 1, "DequantizeLinear": 1}


PAIRS = [
    ((5, 7), (7, 3)),
    ((2, 3, 5, 7), (2, 3, 7, 4)),
    ((2, 1, 5, 7), (3, 7, 4)),
    ((2, 5, 7), (7, 4)),
    ((7,), (2, 7, 3)),
]


@pytest.mark.parametrize(("left", "right"), PAIRS, ids=str)
def test_product_of_two_tensors_is_that_of_the_function(rng, left, right):
    """By one program for all pairs where that serves, by the function itself elsewhere."""
    feed = {"x": codes(rng, *left), "x2": codes(rng, *right)}
    made = model([node("QLinearMatMul", "x s z x2 s2 z2 sy zy", "y")], feed, {"y": np.int8}, SCALES)
    s, z, s2, z2, sy, zy = SCALES.values()
    wanted = qlinear_matmul(feed["x"], s, z, feed["x2"], s2, z2, sy, zy, kernel="portable")
    np.testing.assert_array_equal(InferenceSession(data(made)).run(None, feed)[0], wanted)
