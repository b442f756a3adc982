"""Operators as onnxruntime has them where onnx's reference or numpy is otherwise: held against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.onnx_graphs import data, model, node

from pyint8dot.onnx import InferenceSession, ModelError, NodeError

F32 = np.float32


def agree(made, feed, *, exact=True):
    """Run a model here, where nothing of it may be left to the reference, and in onnxruntime; return the results."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    wanted = ort.InferenceSession(data(made), options, providers=["CPUExecutionProvider"]).run(None, feed)
    session = InferenceSession(data(made))
    assert not session.report().reference_ops()
    results = session.run(None, feed)
    for got, want in zip(results, wanted, strict=True):
        assert type(got) is np.ndarray
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        if exact:
            np.testing.assert_array_equal(got, want)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return results


@pytest.mark.parametrize("end", [-9, 0, 2**31 - 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("start", [-9, -5, -1, 0, 3, 9])
@pytest.mark.parametrize("step", [-2, -1, 1])
def test_slices_backwards_begin_within_the_axis(start, end, step):
    x = np.arange(5, dtype=F32)
    constants = {"s": np.int64([start]), "e": np.int64([end]), "a": np.int64([0]), "t": np.int64([step])}
    agree(model([node("Slice", "x s e a t", "y")], {"x": x}, {"y": F32}, constants), {"x": x})


@pytest.mark.parametrize("opset", [7, 8, 9, 14])
def test_batch_normalisation_of_old_models(rng, opset):
    feed = {name: rng.uniform(0.5, 2, 3).astype(F32) for name in "sbmv"}
    x = rng.standard_normal((2, 3, 4, 5)).astype(F32)
    made = model([node("BatchNormalization", "x s b m v", "y")], {"x": x, **feed}, {"y": F32}, opset=opset)
    made.ir_version = 4
    agree(made, {"x": x, **feed}, exact=False)


def test_numbers_stay_arrays():
    x = np.asarray(5, F32)
    agree(model([node("Clip", "x", "y", max=2.0)], {"x": x}, {"y": F32}, opset=7), {"x": x})
    agree(model([node("Mean", "x x", "y")], {"x": x}, {"y": F32}), {"x": x})


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_padding_and_cutting(rng, mode):
    x = rng.standard_normal((4, 5)).astype(F32)
    made = model([node("Pad", "x p", "y", mode=mode)], {"x": x}, {"y": F32}, {"p": np.int64([2, -1, -1, 2])})
    agree(made, {"x": x})
    if mode != "wrap":
        old = model([node("Pad", "x", "y", mode=mode, pads=[2, -1, -1, 2])], {"x": x}, {"y": F32}, opset=10)
        agree(old, {"x": x})


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("flat", [False, True])
def test_boxes_that_overlap(rng, centred, flat):
    first, sides = rng.uniform(0, 1, (2, 20, 2)), rng.uniform(0, 0.5, (2, 20, 2))
    boxes = np.concatenate([first, sides if centred else first + sides], axis=-1).astype(F32)
    # Corners in the other order, boxes without an area, and equal scores.
    boxes[0, :3] = boxes[0, :3, [2, 3, 0, 1]].T
    boxes[1, 4:6, 2:] = 0 if centred else boxes[1, 4:6, :2]
    scores = np.round(rng.uniform(0, 1, (2, 3, 20)), 1).astype(F32)
    shape = () if flat else (1,)
    extra = {"m": np.full(shape, 6, np.int64), "o": np.full(shape, 0.3, F32), "t": np.full(shape, 0.2, F32)}
    for names in ("", "m", "m o", "m o t", "m - t"):
        inputs = {"b": boxes, "s": scores, **{n: extra[n] for n in names.split() if n != "-"}}
        nodes = [node("NonMaxSuppression", f"b s {names}", "y", center_point_box=centred)]
        agree(model(nodes, inputs, {"y": np.int64}), inputs)


def test_boxes_within_the_limit():
    inputs = {"b": np.zeros((1, 50, 4), F32), "s": np.zeros((1, 1, 50), F32), "m": np.int64([50])}
    made = model([node("NonMaxSuppression", "b s m", "y")], inputs, {"y": np.int64})
    with pytest.raises(ModelError, match="max_bytes=1000"):
        InferenceSession(data(made), max_bytes=1000).run(None, inputs)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("spatial", [(9,), (7, 8), (5, 4, 6)])
@pytest.mark.parametrize("dtype", [F32, np.int8])
def test_where_maxima_lie(rng, spatial, order, dtype):
    x = rng.integers(-3, 3, (2, 3, *spatial)).astype(dtype)
    rank = len(spatial)
    made = model(
        [node("MaxPool", "x", "y i", kernel_shape=[3] * rank, strides=[2] * rank, pads=[1] * 2 * rank,
              storage_order=order, ceil_mode=1)],
        {"x": x}, {"y": dtype, "i": np.int64}, opset=12,
    )  # fmt: skip
    agree(made, {"x": x})


def test_maxima_of_windows_without_end_are_refused():
    x = np.zeros((1, 1, 4, 4), F32)
    made = model(
        [node("MaxPool", "x", "y i", kernel_shape=[4000, 4000], pads=[3999] * 4)], {"x": x}, {"y": F32, "i": np.int64}
    )
    with pytest.raises(NodeError, match="would take minutes"):
        InferenceSession(data(made)).run(None, {"x": x})


@pytest.mark.parametrize("power", [1, 2, 3])
def test_norms_of_planes(rng, power):
    x = rng.standard_normal((2, 3, 4, 5)).astype(F32)
    agree(model([node("GlobalLpPool", "x", "y", p=power)], {"x": x}, {"y": F32}), {"x": x}, exact=False)


def test_numbers_to_text_and_back():
    floats = np.float32([1.5, 0.1, 1e10, 1e-7, np.nan, np.inf, -np.inf, -0.0, 16777216])
    for x in (
        floats,
        floats.astype(np.float64) / 3,
        np.float16([0.1, 65504]),
        np.bool_([1, 0]),
        np.int64([-(2**63), 7]),
    ):
        agree(model([node("Cast", "x", "y", to=8)], {"x": x}, {"y": object}), {"x": x})
    text = np.array([["1.5", "-3", " 4"], ["300", "1e3", "0"]], object)
    for dtype in (F32, np.float16, np.int32, np.uint8, np.int8, np.uint64, np.bool_):
        to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        agree(model([node("Cast", "x", "y", to=to)], {"x": text}, {"y": dtype}), {"x": text})
    agree(model([node("Cast", "x", "y", to=8)], {"x": text}, {"y": object}), {"x": text})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("size", [1, 3, 9])
def test_resizing_a_part(rng, mode, size):
    x = rng.standard_normal((1, 2, 5, 6)).astype(F32)
    constants = {"r": F32([0, 0, 0.1, -0.2, 1, 1, 0.8, 0.9]), "z": np.int64([1, 2, size, size + 4])}
    attributes = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}
    agree(model([node("Resize", "x r - z", "y", **attributes)], {"x": x}, {"y": F32}, constants), {"x": x}, exact=False)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_before_there_were_regions(rng, mode):
    x = rng.standard_normal((1, 2, 6, 7)).astype(F32)
    for scales in ([1, 1, 2, 1.5], [1, 1, 0.5, 0.7]):
        made = model([node("Resize", "x s", "y", mode=mode)], {"x": x}, {"y": F32}, {"s": F32(scales)}, opset=10)
        agree(made, {"x": x}, exact=mode == "nearest")


def test_normalising_no_samples():
    x, one = np.zeros((0, 3, 4, 5), F32), np.ones(3, F32)
    agree(model([node("InstanceNormalization", "x s s", "y")], {"x": x}, {"y": F32}, {"s": one}), {"x": x})


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("ordered", [0, 1])
def test_unique(rng, axis, ordered):
    x = rng.integers(0, 3, (6, 2, 4))
    attributes = {} if axis is None else {"axis": axis}
    outputs = dict.fromkeys("yfic", np.int64)
    agree(model([node("Unique", "x", "y f i c", sorted=ordered, **attributes)], {"x": x}, outputs), {"x": x})


@pytest.mark.parametrize(("opset", "axis"), [(7, 0), (11, 1), (11, -1), (13, 0), (13, 1), (13, -1)])
def test_largest_of_each_row(rng, opset, axis):
    x = rng.integers(0, 3, (2, 3, 4)).astype(F32)
    agree(model([node("Hardmax", "x", "y", axis=axis)], {"x": x}, {"y": F32}, opset=opset), {"x": x})


def test_rows_that_are_hidden_warn_of_nothing(recwarn):
    x = np.full((2, 3), -np.inf)
    x[1] = 0
    for op in ("Softmax", "LogSoftmax"):
        [y] = InferenceSession(data(model([node(op, "x", "y")], {"x": x}, {"y": np.float64}))).run(None, {"x": x})
        assert np.isnan(y[0]).all()
    assert not recwarn


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_windows_of_weights_that_are_fed(rng, spatial):
    feed = {"x": rng.standard_normal((2, 4, *[5] * spatial)).astype(F32)}
    feed["w"] = rng.standard_normal((6, 2, *[3] * spatial)).astype(F32)
    agree(model([node("Conv", "x w", "y", group=2)], feed, {"y": F32}), feed, exact=False)


def test_reductions_of_integers():
    x = np.int32([[3, 4], [700, 1]])
    agree(model([node("ReduceLogSumExp", "x", "y", axes=[1])], {"x": x}, {"y": np.int32}, opset=13), {"x": x})
    none = np.zeros((2, 0), np.int32)
    agree(model([node("ReduceMean", "x", "y", axes=[1])], {"x": none}, {"y": np.int32}, opset=13), {"x": none})


def test_modes_of_grid_samples_before_they_were_renamed(rng):
    x, grid = rng.standard_normal((1, 2, 5, 6)).astype(F32), rng.uniform(-1, 1, (1, 3, 4, 2)).astype(F32)
    feed = {"x": x, "g": grid}
    for old, new in (("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")):
        found = [
            InferenceSession(data(model([node("GridSample", "x g", "y", mode=mode)], feed, {"y": F32}, opset=opset)))
            for mode, opset in ((old, 16), (new, 20))
        ]
        np.testing.assert_array_equal(*(session.run(None, feed)[0] for session in found))


def test_group_normalisation_of_its_first_version(rng):
    x, scale, bias = (rng.standard_normal(shape).astype(F32) for shape in ((2, 6, 3, 4), (3,), (3,)))
    feed = {"x": x, "s": scale, "b": bias}
    made = model([node("GroupNormalization", "x s b", "y", num_groups=3)], feed, {"y": F32}, opset=18)
    agree(made, feed, exact=False)


@pytest.mark.parametrize("shape", [(7,), (1, 7), (7, 7), (7, 1), (1,)])
@pytest.mark.parametrize("known", [False, True])
def test_what_is_added_to_a_quantised_gemm(rng, shape, known):
    c = rng.integers(-3000, 3000, shape).astype(np.int32)
    constants = {
        "sa": F32(0.03), "za": np.uint8(100), "b": rng.integers(-128, 128, (5, 7)).astype(np.int8),
        "sb": rng.uniform(0.01, 0.05, 7).astype(F32), "zb": np.zeros(7, np.int8), "sy": F32(0.4), "zy": np.uint8(120),
    }  # fmt: skip
    feed = {"a": rng.integers(0, 256, (7, 5)).astype(np.uint8)}
    (constants if known else feed)["c"] = c
    nodes = [node("QGemm", "a sa za b sb zb c sy zy", "y", domain="com.microsoft")]
    constants = {name: np.asarray(value) for name, value in constants.items()}
    agree(model(nodes, feed, {"y": (np.uint8, [7, 7])}, constants), feed)


def test_products_by_their_former_name(rng):
    feed = {"a": rng.standard_normal((2, 5, 4)).astype(F32), "b": rng.standard_normal((2, 5, 3)).astype(F32)}
    nodes = [node("TransposeMatMul", "a b", "y", transA=1, alpha=0.5, domain="com.microsoft")]
    agree(model(nodes, feed, {"y": (F32, [2, 4, 3])}), feed, exact=False)


@pytest.mark.parametrize(("queries", "keys", "past"), [(6, 2, 0), (5, 5, 0), (2, 2, 3)])
def test_queries_that_see_what_is_before_them(rng, queries, keys, past):
    lengths = {"q": queries, "k": keys, "v": keys}
    feed = {name: rng.standard_normal((2, length, 8)).astype(F32) for name, length in lengths.items()}
    names, outputs = "q k v", {"y": (F32, [2, queries, 8])}
    if past:
        feed |= {name: rng.standard_normal((2, 2, past, 4)).astype(F32) for name in ("pk", "pv")}
        names += " - - - pk pv"
        outputs |= {name: (F32, [2, 2, past + keys, 4]) for name in ("nk", "nv")}
    nodes = [
        node("MultiHeadAttention", names, " ".join(outputs), num_heads=2, unidirectional=1, domain="com.microsoft")
    ]
    agree(model(nodes, feed, outputs), feed, exact=False)


@pytest.mark.parametrize("element", [onnx.TensorProto.INT4, onnx.TensorProto.UINT4])
@pytest.mark.parametrize("axis", [None, 1])
def test_codes_of_4_bits(rng, element, axis):
    x = F32([[1e30, -1e30, 3], [np.inf, -np.inf, 0.24], [0.25, 0.3, -0.9]])
    shape = () if axis is None else (3,)
    kind = onnx.helper.tensor_dtype_to_np_dtype(element)
    zeros = rng.integers(0, 8, shape).astype(np.int8).astype(kind)
    for names, constants in (("s z", {"z": zeros}), ("s", {})):
        more = {} if constants else {"output_dtype": element}
        nodes = [
            node("QuantizeLinear", f"x {names}", "q", axis=1, **more),
            node("DequantizeLinear", f"q {names}", "y", axis=1),
        ]
        agree(model(nodes, {"x": x}, {"y": F32}, {"s": np.full(shape, 0.1, F32), **constants}), {"x": x})


@pytest.mark.parametrize("imported", ["", "ai.onnx"])
def test_the_long_name_of_onnx_itself(imported):
    x = np.arange(5, dtype=F32)
    made = model(
        [node("Relu", "x", "r"), node("Slice", "r s e", "y")],
        {"x": x},
        {"y": F32},
        {"s": np.int64([1]), "e": np.int64([3])},
    )
    made.opset_import[0].domain = imported
    for each in made.graph.node:
        each.domain = "ai.onnx"
    agree(made, {"x": x})


def test_outputs_that_are_only_names(rng):
    x = rng.standard_normal((2, 3, 6, 6)).astype(F32)
    w = rng.standard_normal((4, 3, 3, 3)).astype(F32)
    made = model([node("Conv", "x w", "c"), node("Relu", "c", "y")], {"x": x}, {"y": F32}, {"w": w})
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("c", "x", "w"))
    agree(made, {"x": x}, exact=False)
    assert [(info.name, info.type) for info in InferenceSession(data(made)).get_outputs()] == [
        (name, "tensor(float)") for name in "ycxw"
    ]
    made.graph.node.append(node("Identity", "c", "z"))
    made.graph.node[-1].domain = "org.example"
    made.opset_import.append(onnx.helper.make_opsetid("org.example", 1))
    made.graph.output.append(onnx.ValueInfoProto(name="z"))
    with pytest.raises(ModelError, match="output 'z': its type is not said"):
        InferenceSession(data(made))
