"""What the session fuses: each pattern is found, and gives what the nodes it stands for give one by one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_graphs import covered, data, model, node, ops_of, reference

from pyint8dot import matmul_integer
from pyint8dot.conv import conv_integer
from pyint8dot.onnx import InferenceSession, NodeError

F32 = np.float32


def dynamic_matmul(rng, *, bias=True, tail=(), k=21, n=13, weight_dtype=np.int8, per_column=True):
    """DynamicQuantizeLinear, MatMulInteger, Cast, Mul and Add as onnxruntime's quantize_dynamic writes them."""
    info = np.iinfo(weight_dtype)
    shape = (n,) if per_column else ()
    zero = np.zeros(shape, np.int8) if weight_dtype is np.int8 else rng.integers(100, 150, shape).astype(np.uint8)
    constants = {
        "w": rng.integers(info.min, info.max + 1, (k, n)).astype(weight_dtype),
        "w_zero": zero,
        "w_scale": rng.uniform(0.001, 0.02, shape).astype(F32),
        "bias": rng.standard_normal(n).astype(F32),
    }
    nodes = [
        node("DynamicQuantizeLinear", "x", "q x_scale x_zero"),
        node("MatMulInteger", "q w x_zero w_zero", "product"),
        node("Cast", "product", "cast", to=TensorProto.FLOAT),
        node("Mul", "x_scale w_scale", "scale"),
        node("Mul", "cast scale", "scaled"),
    ]
    if bias:
        nodes.append(node("Add", "bias scaled", "y0"))
    else:
        nodes.append(node("Identity", "scaled", "y0"))
    last = "y0"
    for i, op in enumerate(tail):
        nodes.append(node(op, last, f"y{i + 1}"))
        last = f"y{i + 1}"
    return model(nodes, {"x": (F32, ["rows", k])}, {last: F32}, constants)


def by_hand(made, x):
    """The same by this package's own operators, every float step as the graph has it."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    low, high = np.minimum(x.min(), F32(0)), np.maximum(x.max(), F32(0))
    scale = F32((high - low) / F32(255))
    zero = np.uint8(np.rint(np.clip(-low / scale, 0, 255)))
    codes = np.clip(np.rint(x / scale) + F32(zero), 0, 255).astype(np.uint8)
    acc = (codes.astype(np.int64) - int(zero)) @ (
        constants["w"].astype(np.int64) - constants["w_zero"].astype(np.int64)
    )
    return acc.astype(F32) * (scale * constants["w_scale"]) + constants["bias"]


@pytest.mark.parametrize("per_column", [True, False])
@pytest.mark.parametrize("weight_dtype", [np.int8, np.uint8])
def test_dynamic_matmul_keeps_every_bit(rng, kernel, weight_dtype, per_column):
    made = dynamic_matmul(rng, weight_dtype=weight_dtype, per_column=per_column)
    session = InferenceSession(data(made), kernel=kernel)
    assert ops_of(session) == ["MatMulFloat"]
    assert covered(session) == len(made.graph.node)
    for rows in (1, 7, 16):
        x = rng.standard_normal((rows, 21)).astype(F32)
        [got] = session.run(None, {"x": x})
        np.testing.assert_array_equal(got, by_hand(made, x))
        np.testing.assert_array_equal(got, reference(made, {"x": x})[0])
    with pytest.raises(
        NodeError, match=r"\(MatMulFloat\): x must be finite.*; inputs: 'x' is float32 \[1, 21\], 'w_zero' is"
    ):
        session.run(None, {"x": np.full((1, 21), np.nan, F32)})


@pytest.mark.parametrize("shared", ["q", "x_scale", "x_zero"])
def test_quantisation_that_others_read_is_a_node_of_its_own(rng, kernel, shared):
    """As that of the three products of an attention, or one whose results leave the graph."""
    made = dynamic_matmul(rng)
    made.graph.node.append(node("Identity", shared, "again"))
    kind = TensorProto.FLOAT if shared == "x_scale" else TensorProto.UINT8
    made.graph.output.append(helper.make_tensor_value_info("again", kind, ["rows", 21] if shared == "q" else []))
    session = InferenceSession(data(made), kernel=kernel)
    assert ops_of(session) == ["DynamicQuantizeLinear", "MatMulFloat", "Identity"]
    assert covered(session) == len(made.graph.node)
    x = rng.standard_normal((5, 21)).astype(F32)
    for got, wanted in zip(session.run(None, {"x": x}), reference(made, {"x": x}), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("tail", [("Relu",), ("Gelu",)])
def test_dynamic_matmul_takes_its_activation_along(rng, kernel, tail):
    made = dynamic_matmul(rng, tail=tail)
    session = InferenceSession(data(made), kernel=kernel)
    assert ops_of(session)[-1] == "MatMulFloat"
    x = rng.standard_normal((9, 21)).astype(F32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], reference(made, {"x": x})[0], rtol=2e-6, atol=2e-6)


def test_product_with_two_readers_is_left_alone(rng, kernel):
    made = dynamic_matmul(rng, bias=False)
    made.graph.output.append(onnx.helper.make_tensor_value_info("product", TensorProto.INT32, ["rows", 13]))
    session = InferenceSession(data(made), kernel=kernel)
    assert "MatMulInteger" in ops_of(session)
    x = rng.standard_normal((5, 21)).astype(F32)
    for got, wanted in zip(session.run(None, {"x": x}), reference(made, {"x": x}), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("shape", [(3, 1), (1, 13), (1, 1, 13)])
def test_scale_of_an_unusual_shape(rng, shape):
    """A scale for each row, or one that adds a dimension, is not one for each column."""
    constants = {"w": rng.integers(-128, 128, (8, 13)).astype(np.int8), "s": rng.uniform(0.1, 1, shape).astype(F32)}
    nodes = [
        node("MatMulInteger", "x w", "product"),
        node("Cast", "product", "cast", to=TensorProto.FLOAT),
        node("Mul", "cast s", "y"),
    ]
    x = rng.integers(-128, 128, (3, 8)).astype(np.int8)
    made = model(nodes, {"x": x}, {"y": F32}, constants)
    [got] = InferenceSession(data(made)).run(None, {"x": x})
    [wanted] = reference(made, {"x": x})
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("unit", [(), (1,), (13,), (1, 13), (3, 1), (1, 1, 13)])
@pytest.mark.parametrize("live", [(), (1,), (13,), (1, 1), (3, 1), (3, 13)])
def test_scale_of_two_factors(rng, live, unit):
    """One of them constant, as the scale of the weights is: of any shapes, the product is theirs."""
    constants = {
        "w": rng.integers(-128, 128, (8, 13)).astype(np.int8),
        "unit": rng.uniform(0.1, 1, unit).astype(F32), "z": np.asarray(rng.integers(-9, 9, 13), np.int8),
        "bias": rng.standard_normal(13).astype(F32),
    }  # fmt: skip
    nodes = [
        node("Mul", "unit s", "scale"),
        node("MatMulInteger", "x w - z", "product"),
        node("Cast", "product", "cast", to=TensorProto.FLOAT),
        node("Mul", "cast scale", "scaled"),
        node("Add", "scaled bias", "y"),
    ]
    feed = {"x": rng.integers(-128, 128, (3, 8)).astype(np.int8), "s": rng.uniform(0.1, 1, live).astype(F32)}
    made = model(nodes, feed, {"y": F32}, constants)
    session = InferenceSession(data(made))
    assert ops_of(session) == ["MatMulFloat"]
    assert covered(session) == len(nodes)
    [got] = session.run(None, feed)
    [wanted] = reference(made, feed)
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("n", "scale"), [(3, (3, 1)), (1, (5,)), (1, (3, 5)), (3, (1, 3))])
def test_scale_as_long_as_the_product_by_chance(rng, n, scale):
    """Rows and columns are not mixed up where they are as many, and a narrow product becomes as wide as its scale."""
    w = rng.integers(-128, 128, (8, n)).astype(np.int8)
    nodes = [
        node("MatMulInteger", "x w", "product"),
        node("Cast", "product", "cast", to=TensorProto.FLOAT),
        node("Mul", "cast s", "y"),
    ]
    feed = {"x": rng.integers(-128, 128, (3, 8)).astype(np.int8), "s": rng.uniform(0.1, 1, scale).astype(F32)}
    made = model(nodes, feed, {"y": F32}, {"w": w})
    [got] = InferenceSession(data(made)).run(None, feed)
    np.testing.assert_array_equal(got, reference(made, feed)[0])


@pytest.mark.parametrize(
    ("product", "scale"), [("q w", "x_scale"), ("q w other_zero", "x_scale"), ("q w x_zero", "other")]
)
def test_quantisation_is_part_of_the_product_it_is_made_for_alone(rng, product, scale):
    constants = {"w": rng.integers(-128, 128, (8, 5)).astype(np.int8), "other_zero": np.asarray(3, np.uint8)}
    nodes = [
        node("DynamicQuantizeLinear", "x", "q x_scale x_zero"),
        node("MatMulInteger", product, "product"),
        node("Cast", "product", "cast", to=TensorProto.FLOAT),
        node("Mul", f"cast {scale}", "y"),
    ]
    feed = {"x": rng.standard_normal((3, 8)).astype(F32), "other": np.asarray(0.5, F32)}
    made = model(nodes, feed, {"y": F32}, constants)
    session = InferenceSession(data(made))
    assert ops_of(session) == ["DynamicQuantizeLinear", "MatMulFloat"]
    np.testing.assert_array_equal(session.run(None, feed)[0], reference(made, feed)[0])


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_zero_points_of_the_rows(rng, kernel, shape):
    constants = {"w": rng.integers(-128, 128, (8, 5)).astype(np.int8), "s": np.asarray(0.5, F32)}
    nodes = [
        node("MatMulInteger", "x w z", "product"),
        node("Cast", "product", "cast", to=TensorProto.FLOAT),
        node("Mul", "cast s", "y"),
    ]
    feed = {"x": rng.integers(0, 256, (3, 8)).astype(np.uint8), "z": rng.integers(0, 256, shape).astype(np.uint8)}
    [got] = InferenceSession(data(model(nodes, feed, {"y": F32}, constants)), kernel=kernel).run(None, feed)
    acc = (feed["x"].astype(np.int64) - feed["z"].astype(np.int64).reshape(-1, 1)) @ constants["w"].astype(np.int64)
    np.testing.assert_array_equal(got, acc.astype(F32) * F32(0.5))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_convolution_keeps_every_bit(rng, kernel, per_channel, relu):
    scale = rng.uniform(0.001, 0.02, (6, 1, 1) if per_channel else ()).astype(F32)
    constants = {
        "w": rng.integers(-128, 128, (6, 3, 3, 3)).astype(np.int8),
        "w_zero": np.int8(0),
        "w_scale": scale,
        "bias": rng.standard_normal(6).astype(F32),
        "bias_shape": np.int64([1, -1, 1, 1]),
    }
    nodes = [
        node("DynamicQuantizeLinear", "x", "q x_scale x_zero"),
        node("ConvInteger", "q w x_zero w_zero", "product", pads=[1, 1, 1, 1], strides=[2, 1]),
        node("Cast", "product", "cast", to=TensorProto.FLOAT),
        node("Mul", "x_scale w_scale", "scale"),
        node("Mul", "cast scale", "scaled"),
        node("Reshape", "bias bias_shape", "wide_bias"),
        node("Add", "scaled wide_bias", "y0"),
        node("Relu" if relu else "Identity", "y0", "y"),
    ]
    x = rng.standard_normal((2, 3, 9, 8)).astype(F32)
    made = model(nodes, {"x": (F32, ["batch", 3, 9, 8])}, {"y": F32}, constants)
    session = InferenceSession(data(made), kernel=kernel)
    assert "ConvFloat" in ops_of(session)
    assert "ConvInteger" not in ops_of(session)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], reference(made, {"x": x})[0])


def qdq(name, scale, zero):
    """A pair that takes a float tensor to codes and back."""
    return [
        node("QuantizeLinear", f"{name} {scale} {zero}", f"{name}_q"),
        node("DequantizeLinear", f"{name}_q {scale} {zero}", f"{name}_d"),
    ]


def test_qdq_convolution_becomes_one_operator(rng, kernel):
    w_scale = rng.uniform(0.01, 0.05, 4).astype(F32)
    constants = {
        "sx": np.asarray(0.05, F32), "zx": np.asarray(3, np.int8), "sy": np.asarray(0.1, F32), "zy": np.asarray(-128, np.int8),
        "w": rng.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8), "sw": w_scale, "zw": np.zeros(4, np.int8),
        "b": rng.integers(-999, 999, 4).astype(np.int32), "sb": F32(0.05) * w_scale,
    }  # fmt: skip
    nodes = [
        *qdq("x", "sx", "zx"),
        node("DequantizeLinear", "w sw zw", "w_d", axis=0),
        node("DequantizeLinear", "b sb", "b_d", axis=0),
        node("Conv", "x_d w_d b_d", "y0", pads=[1, 1, 0, 0]),
        node("Relu", "y0", "y1"),
        node("QuantizeLinear", "y1 sy zy", "y2"),
        node("DequantizeLinear", "y2 sy zy", "y"),
    ]
    x = rng.standard_normal((1, 2, 8, 9)).astype(F32) * 3
    made = model(nodes, {"x": x}, {"y": F32}, constants)
    session = InferenceSession(data(made), kernel=kernel)
    assert ops_of(session) == ["QuantizeLinear", "QLinearConv", "DequantizeLinear"]
    got, wanted = session.run(None, {"x": x})[0], reference(made, {"x": x})[0]
    # The float sums of the reference are rounded: a tie may fall to the other side.
    steps = np.rint((got - wanted) / constants["sy"])
    assert np.abs(steps).max() <= 1
    assert np.count_nonzero(steps) <= got.size // 100


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_qdq_matmul_becomes_one_operator(rng, kernel, op):
    w_scale = rng.uniform(0.01, 0.05, 11).astype(F32)
    constants = {
        "sx": np.asarray(0.03, F32), "zx": np.asarray(130, np.uint8), "sy": np.asarray(0.2, F32), "zy": np.asarray(120, np.uint8),
        "w": rng.integers(-127, 128, (17, 11)).astype(np.int8), "sw": w_scale, "zw": np.zeros(11, np.int8),
        "b": rng.integers(-999, 999, 11).astype(np.int32), "sb": F32(0.03) * w_scale,
    }  # fmt: skip
    nodes = [
        *qdq("x", "sx", "zx"),
        node("DequantizeLinear", "w sw zw", "w_d", axis=1),
        node("DequantizeLinear", "b sb", "b_d", axis=0),
        node(op, "x_d w_d b_d" if op == "Gemm" else "x_d w_d", "y0"),
        *qdq("y0", "sy", "zy"),
    ]
    x = rng.standard_normal((6, 17)).astype(F32)
    made = model(nodes, {"x": x}, {"y0_d": F32}, constants)
    session = InferenceSession(data(made), kernel=kernel)
    assert ops_of(session) == ["QuantizeLinear", "QLinearMatMul", "DequantizeLinear"]
    got, wanted = session.run(None, {"x": x})[0], reference(made, {"x": x})[0]
    steps = np.rint((got - wanted) / constants["sy"])
    assert np.abs(steps).max() <= 1
    assert np.count_nonzero(steps) <= 2


def test_qdq_matmul_with_a_float_result(rng, kernel):
    constants = {
        "sx": np.asarray(0.03, F32), "zx": np.asarray(5, np.int8),
        "w": rng.integers(-127, 128, (17, 11)).astype(np.int8), "sw": rng.uniform(0.01, 0.05, 11).astype(F32),
        "zw": np.zeros(11, np.int8), "bias": rng.standard_normal(11).astype(F32),
    }  # fmt: skip
    nodes = [
        *qdq("x", "sx", "zx"),
        node("DequantizeLinear", "w sw zw", "w_d", axis=-1),
        node("MatMul", "x_d w_d", "y0"),
        node("Add", "y0 bias", "y"),
    ]
    x = rng.standard_normal((2, 6, 17)).astype(F32)
    made = model(nodes, {"x": x}, {"y": F32}, constants)
    session = InferenceSession(data(made), kernel=kernel)
    assert ops_of(session) == ["QuantizeLinear", "MatMulFloat"]
    np.testing.assert_allclose(session.run(None, {"x": x})[0], reference(made, {"x": x})[0], rtol=1e-5, atol=1e-5)


CODES = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("source", [np.int8, np.uint8])
@pytest.mark.parametrize("target", [np.int8, np.uint8])
@pytest.mark.parametrize("functions", [(), ("Relu",), ("Sigmoid",), ("Tanh", "Neg")])
def test_function_between_codes_becomes_a_table(rng, source, target, functions):
    constants = {
        "sx": rng.uniform(0.01, 0.1, ()).astype(F32), "zx": np.asarray(rng.integers(0, 100), source),
        "sy": rng.uniform(0.01, 0.1, ()).astype(F32), "zy": np.asarray(rng.integers(0, 100), target),
    }  # fmt: skip
    nodes = [node("DequantizeLinear", "x sx zx", "t0")]
    nodes += [node(op, f"t{i}", f"t{i + 1}") for i, op in enumerate(functions)]
    nodes.append(node("QuantizeLinear", f"t{len(functions)} sy zy", "y"))
    x = CODES.view(source).reshape(2, 128)
    made = model(nodes, {"x": x}, {"y": target}, constants)
    session = InferenceSession(data(made))
    assert ops_of(session) == ["Lookup"]
    assert covered(session) == len(nodes)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], reference(made, {"x": x})[0])


@pytest.mark.parametrize("trial", range(20))
def test_codes_of_one_scale_to_codes_of_another(rng, trial):
    """All 256 codes, for scales near and far from each other: the straight line or the table, never one off."""
    ratio = F32(rng.uniform(0.5, 2) ** rng.integers(1, 6))
    constants = {
        "sx": np.asarray(0.05, F32), "zx": np.asarray(rng.integers(-128, 128), np.int8),
        "sy": np.asarray(F32(0.05) * ratio), "zy": np.asarray(rng.integers(-128, 128), np.int8),
    }  # fmt: skip
    nodes = [node("DequantizeLinear", "x sx zx", "t"), node("QuantizeLinear", "t sy zy", "y")]
    x = CODES.view(np.int8)
    made = model(nodes, {"x": x}, {"y": np.int8}, constants)
    np.testing.assert_array_equal(InferenceSession(data(made)).run(None, {"x": x})[0], reference(made, {"x": x})[0])


def test_concatenation_and_pooling_stay_codes(rng):
    scales = {f"s{i}": np.asarray(rng.uniform(0.02, 0.06), F32) for i in range(4)}
    zeros = {f"z{i}": np.asarray(rng.integers(-20, 20), np.int8) for i in range(4)}
    nodes = [node("DequantizeLinear", f"x{i} s{i} z{i}", f"f{i}") for i in range(3)]
    nodes += [
        node("Concat", "f0 f1 f2", "all", axis=1),
        node("QuantizeLinear", "all s3 z3", "q"),
        node("DequantizeLinear", "q s3 z3", "g"),
        node("MaxPool", "g", "p", kernel_shape=[3, 3], strides=[2, 2]),
        node("QuantizeLinear", "p s3 z3", "y"),
    ]
    feed = {f"x{i}": rng.integers(-128, 128, (1, 2 + i, 9, 9)).astype(np.int8) for i in range(3)}
    made = model(nodes, feed, {"y": np.int8}, {**scales, **zeros})
    session = InferenceSession(data(made))
    assert set(ops_of(session)) <= {"Lookup", "Concat", "MaxPool", "Identity"}
    np.testing.assert_array_equal(session.run(None, feed)[0], reference(made, feed)[0])


def test_dequantised_table_is_not_made_whole(rng):
    """Rows are picked before they are made floats: the table of an embedding stays 8 bits wide."""
    constants = {
        "table": rng.integers(-128, 128, (1000, 16)).astype(np.int8),
        "s": np.asarray(0.1, F32),
        "z": np.asarray(1, np.int8),
    }
    nodes = [node("Gather", "table ids", "rows"), node("DequantizeLinear", "rows s z", "y")]
    ids = rng.integers(0, 1000, (2, 5))
    made = model(nodes, {"ids": ids}, {"y": F32}, constants)
    session = InferenceSession(data(made))
    assert ops_of(session) == ["Gather", "DequantizeLinear"]
    np.testing.assert_array_equal(session.run(None, {"ids": ids})[0], reference(made, {"ids": ids})[0])


def test_integer_products_are_the_package_operators(rng, kernel):
    a, b = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((3, 5, 20), (20, 9)))
    made = model([node("MatMulInteger", "a b", "y")], {"a": a}, {"y": np.int32}, {"b": b})
    session = InferenceSession(data(made), kernel=kernel)
    assert session.report().rows[0].by == kernel
    np.testing.assert_array_equal(session.run(None, {"a": a})[0], matmul_integer(a, b))
    x, w = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((1, 3, 8, 8), (5, 3, 3, 3)))
    made = model([node("ConvInteger", "x w", "y")], {"x": x}, {"y": np.int32}, {"w": w})
    np.testing.assert_array_equal(
        InferenceSession(data(made), kernel=kernel).run(None, {"x": x})[0], conv_integer(x, w)
    )
