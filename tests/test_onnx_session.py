"""The session as a user meets it: inputs and outputs, feeds that do not fit, memory, threads, the report."""

from __future__ import annotations

import re
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from support.onnx_graphs import data, model, node, reference

from pyint8dot import KernelError, matmul, quantize_linear
from pyint8dot.engine import library
from pyint8dot.onnx import InferenceSession, InputError, ModelError, NodeError, onnx_ops

F32 = np.float32


def linear(rng, k=12, n=5):
    """An int8 product with a float tail, its batch symbolic."""
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        node("MatMulInteger", "q w z", "p"),
        node("Cast", "p", "c", to=TensorProto.FLOAT),
        node("Mul", "c s", "m"),
        node("Softmax", "m", "y", axis=-1),
        node("Shape", "x", "shape"),
    ]
    w = rng.integers(-128, 128, (k, n)).astype(np.int8)
    return model(nodes, {"x": (F32, ["batch", "length", k])}, {"y": F32, "shape": np.int64}, {"w": w})


def test_inputs_and_outputs_have_the_shape_of_onnxruntime(rng):
    session = InferenceSession(data(linear(rng)))
    assert repr(session) == f"InferenceSession(inputs=['x'], outputs=['y', 'shape'], kernel={session.kernel!r})"
    [x] = session.get_inputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", ["batch", "length", 12])
    assert [(o.name, o.type) for o in session.get_outputs()] == [("y", "tensor(float)"), ("shape", "tensor(int64)")]


@pytest.mark.parametrize("constant", [True, False])
def test_a_graph_may_divide_by_a_scale_of_0(constant):
    """ONNX forbids no scale, and a graph may compute one of values that are all 0; the function refuses it."""
    values = {"s": np.array(0, F32), "z": np.array(5, np.int8)}
    given = {} if constant else {"s": (F32, []), "z": (np.int8, [])}
    made = model(
        [node("QuantizeLinear", "x s z", "y")], {"x": (F32, [3]), **given}, {"y": np.int8}, values if constant else {}
    )
    feed = {"x": np.array([0, 1, -1], F32), **({} if constant else values)}
    [y] = InferenceSession(data(made)).run(None, feed)
    assert y.tolist() == [5, 127, -128]
    with pytest.raises(ValueError, match="y_scale must be finite and not 0"):
        quantize_linear(feed["x"], *values.values())


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("op", ["QLinearMatMul", "QLinearConv", "DequantizeLinear"])
def test_a_graph_may_multiply_by_a_scale_of_0(op, constant):
    """As that of an input of zeros: every result is the zero point."""
    values = {
        "s": np.array(0, F32), "one": np.array(1, F32), "z": np.array(5, np.int8),
        "w": np.ones((2, 3) if op == "QLinearMatMul" else (3, 1, 1), np.int8),
    }  # fmt: skip
    inputs = {"QLinearMatMul": "x s z w s z one z", "QLinearConv": "x s z w s z one z", "DequantizeLinear": "x s z"}[op]
    values = {name: value for name, value in values.items() if name in inputs.split()}
    given = {} if constant else {name: (value.dtype, value.shape) for name, value in values.items()}
    shape = [1, 1, 4] if op == "QLinearConv" else [4, 2]
    made = model(
        [node(op, inputs, "y")],
        {"x": (np.int8, shape), **given},
        {"y": F32 if op == "DequantizeLinear" else np.int8},
        values if constant else {},
    )
    feed = {"x": np.ones(shape, np.int8), **({} if constant else values)}
    [y] = InferenceSession(data(made)).run(None, feed)
    assert y.size
    assert (y == (0 if op == "DequantizeLinear" else 5)).all()


def test_outputs_are_returned_as_asked_for(rng):
    session = InferenceSession(data(linear(rng)))
    feed = {"x": rng.standard_normal((1, 2, 12)).astype(F32)}
    y, shape = session.run(None, feed)
    again, same = session.run(["shape", "y"], feed)
    np.testing.assert_array_equal(again, shape)
    np.testing.assert_array_equal(same, y)
    for names in ([], ()):
        np.testing.assert_array_equal(session.run(names, feed)[1], shape)
    assert shape.tolist() == [1, 2, 12]


def test_one_session_serves_every_size(rng, kernel):
    made = linear(rng)
    session = InferenceSession(data(made), kernel=kernel)
    for batch, length in ((1, 1), (1, 7), (3, 4), (8, 1), (2, 0), (0, 3)):
        feed = {"x": rng.standard_normal((batch, length, 12)).astype(F32)}
        got, _ = session.run(None, feed)
        assert got.shape == (batch, length, 5)
        if got.size:
            np.testing.assert_allclose(got, reference(made, feed)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, "lacks input 'x'"),
        ({"x": np.zeros((1, 2, 12), F32), "z": np.zeros(1)}, "no input 'z'"),
        ({"x": np.zeros((1, 2, 12))}, "'x' must be float32.*got float64"),
        ({"x": np.zeros((2, 12), F32)}, r"'x' must have shape \['batch', 'length', 12\], got \[2, 12\]"),
        ({"x": np.zeros((1, 2, 13), F32)}, r"'x' must have shape .* got \[1, 2, 13\]"),
    ],
)
def test_feed_that_does_not_fit(rng, feed, words):
    session = InferenceSession(data(linear(rng)))
    with pytest.raises(InputError, match=words):
        session.run(None, feed)
    # Nor does it after one that fits.
    good = rng.standard_normal((1, 2, 12)).astype(F32)
    session.run(None, {"x": good})
    with pytest.raises(ValueError, match=words):
        session.run(None, feed)
    session.run(None, {"x": good})


def test_feed_need_not_be_of_arrays(rng):
    """Whatever numpy makes an array of the right type of is one, before and after such an array."""
    x = rng.standard_normal((1, 2, 12)).astype(F32)
    session = InferenceSession(data(linear(rng)))
    rows = [[list(row) for row in x[0]]]
    for value in (rows, x, rows, x.view(np.recarray), np.asfortranarray(x)):
        np.testing.assert_array_equal(session.run(["y"], {"x": value})[0], session.run(["y"], {"x": x.copy()})[0])


def test_one_symbol_may_have_two_sizes():
    """Models as they are found use one name for what is not one size, and onnxruntime does not mind."""
    shapes = {"a": (F32, ["n", 2]), "b": (F32, ["n", 2])}
    session = InferenceSession(data(model([node("Add", "a b", "y")], shapes, {"y": F32})))
    for rows in (3, 1, 3):
        [y] = session.run(None, {"a": np.zeros((3, 2), F32), "b": np.ones((rows, 2), F32)})
        np.testing.assert_array_equal(y, np.ones((3, 2), F32))
    with pytest.raises(NodeError, match=r"'the Add'.*'b' is float32 \[2, 2\]"):
        session.run(None, {"a": np.zeros((3, 2), F32), "b": np.ones((2, 2), F32)})


def test_unknown_output(rng):
    session = InferenceSession(data(linear(rng)))
    with pytest.raises(InputError, match="no output 'w'; it has 'y', 'shape'"):
        session.run(["w"], {"x": np.zeros((1, 1, 12), F32)})


@pytest.mark.parametrize(
    "settings", [{"kernel": name} for name in ("fast", "", 1, b"portable")] + [{"num_threads": n} for n in (0, -1, 1025, 2.0, True, "2")]
)  # fmt: skip
def test_settings_that_do_not_exist_are_refused_at_once(rng, settings):
    # The same words as from a product.
    with pytest.raises((KernelError, TypeError, ValueError)) as wanted:
        matmul(np.ones((1, 1), np.int8), np.ones((1, 1), np.int8), **settings)
    for make in (lambda: InferenceSession(data(linear(rng)), **settings), lambda: onnx_ops(**settings)):
        with pytest.raises(wanted.type, match=f"^{re.escape(str(wanted.value))}$"):
            make()


def test_the_kernel_is_named_in_the_report(rng, kernel):
    session = InferenceSession(data(linear(rng)), kernel=kernel)
    session.run(None, {"x": np.zeros((1, 1, 12), F32)})
    report = session.report()
    assert session.kernel == report.kernel == kernel
    by = {row.op: row.by for row in report.rows}
    assert by["MatMulFloat"] == kernel
    assert by["Softmax"] == ("numpy" if library.status() else "native")
    assert report.runs == 1
    assert 0 < report.by_worker()[kernel][1] < report.seconds
    assert f"kernel {kernel}" in str(report)
    assert "MatMulInteger+Cast+Mul" in report.table(nodes=True)
    session.reset_report()
    assert session.report().seconds == session.report().runs == 0


def test_failing_node_is_named(rng):
    made = model(
        [node("Reshape", "x shape", "y")], {"x": (F32, ["n"]), "shape": (np.int64, ["m"])}, {"y": (F32, [None, None])}
    )
    session = InferenceSession(data(made))
    with pytest.raises(NodeError, match=r"node 'the Reshape' \(Reshape\): cannot reshape.*'x' is float32 \[6\]"):
        session.run(None, {"x": np.zeros(6, F32), "shape": np.int64([4, 2])})
    [y] = session.run(None, {"x": np.zeros(6, F32), "shape": np.int64([3, 2])})
    assert y.shape == (3, 2)


def test_intermediates_are_freed(rng):
    """A long chain of large results takes the memory of a few of them: more would not be allowed here."""
    nodes = [
        node("Concat" if i == 0 else "Softmax", "x" if i == 0 else f"t{i}", f"t{i + 1}", axis=0) for i in range(30)
    ]
    x = rng.standard_normal((64, 64)).astype(F32)
    made = model(nodes, {"x": x}, {"t30": F32})
    [y] = InferenceSession(data(made), max_bytes=4 * x.nbytes).run(None, {"x": x})
    assert y.shape == x.shape
    # Eight of them alive at a time are too many.
    nodes = [node("Softmax", "x", f"t{i}", axis=0) for i in range(8)] + [
        node("Sum", " ".join(f"t{i}" for i in range(8)), "y")
    ]
    made = model(nodes, {"x": x}, {"y": F32})
    with pytest.raises(ModelError, match="more than max_bytes"):
        InferenceSession(data(made), max_bytes=4 * x.nbytes).run(None, {"x": x})


def test_outputs_that_nobody_reads(rng):
    """What is left of a node's outputs is what it would be beside the others."""
    x = rng.standard_normal((4, 6)).astype(F32)
    for op, outputs, attributes in (
        ("Split", {"a": F32, "b": F32, "c": F32}, {"num_outputs": 3}),
        ("DynamicQuantizeLinear", {"q": np.uint8, "s": F32, "z": np.uint8}, {}),
    ):
        nodes = [node(op, "x", " ".join(outputs), **attributes)]
        for name, kind in outputs.items():
            made = model(nodes, {"x": x}, {name: kind})
            [got] = InferenceSession(data(made)).run(None, {"x": x})
            np.testing.assert_array_equal(got, reference(made, {"x": x})[0])


def test_several_outputs_are_counted_while_they_are_alive(rng):
    x = rng.standard_normal((64, 64)).astype(F32)
    nodes = [node("Split", "x", f"a{i} b{i}", num_outputs=2) for i in range(3)]
    nodes.append(node("Sum", " ".join(f"a{i} b{i}" for i in range(3)), "y"))
    made = model(nodes, {"x": x}, {"y": F32})
    with pytest.raises(ModelError, match=r"'the Split'.*more than max_bytes"):
        InferenceSession(data(made), max_bytes=5 * x.nbytes // 2).run(None, {"x": x})
    # An output that nobody reads is let go at once.
    made = model([node("Split", "x", "a b", num_outputs=2), node("Softmax", "b", "y")], {"x": x}, {"y": F32})
    assert InferenceSession(data(made), max_bytes=x.nbytes).run(None, {"x": x})[0].shape == (32, 64)


@pytest.mark.parametrize("op", ["MatMulInteger", "QLinearMatMul", "MatMulFloat"])
def test_product_by_a_constant_is_bounded_before_it_is_made(rng, op):
    w, x = rng.integers(-9, 9, (3, 64)).astype(np.int8), rng.integers(-9, 9, (16, 3)).astype(np.int8)
    one = {"s": np.asarray(1, F32), "z": np.asarray(0, np.int8)}
    made = {
        "MatMulInteger": model([node("MatMulInteger", "x w", "y")], {"x": (np.int8, ["m", "k"])}, {"y": np.int32}, {"w": w}),
        "QLinearMatMul": model(
            [node(op, "x s z w s z s z", "y")], {"x": (np.int8, ["m", "k"])}, {"y": np.int8}, {"w": w, **one}
        ),
        "MatMulFloat": model(
            [node("MatMulInteger", "x w", "p"), node("Cast", "p", "c", to=TensorProto.FLOAT), node("Mul", "c s", "y")],
            {"x": (np.int8, ["m", "k"])}, {"y": F32}, {"w": w, "s": one["s"]},
        ),
    }[op]  # fmt: skip
    enough = InferenceSession(data(made), max_bytes=4 * 16 * 64)
    assert [row.op for row in enough.report().rows] == [op]
    assert enough.run(None, {"x": x})[0].shape == (16, 64)
    with pytest.raises(NodeError, match=r"\(16, 4\).*'x' is int8 \[16, 4\]"):
        enough.run(None, {"x": np.ones((16, 4), np.int8)})
    with pytest.raises(ModelError, match="needs 4352 bytes, more than max_bytes=4096"):
        enough.run(None, {"x": np.ones((17, 3), np.int8)})
    with pytest.raises(ModelError, match="needs 4096 bytes, more than max_bytes=4095"):
        InferenceSession(data(made), max_bytes=4 * 16 * 64 - 1).run(None, {"x": x})


def test_product_over_nothing_is_bounded_too():
    """The left operand has no elements, however many rows it has."""
    made = model(
        [node("MatMulInteger", "x w", "y")],
        {"x": (np.int8, ["m", 0])},
        {"y": np.int32},
        {"w": np.zeros((0, 64), np.int8)},
    )
    session = InferenceSession(data(made), max_bytes=1 << 20)
    np.testing.assert_array_equal(session.run(None, {"x": np.zeros((2, 0), np.int8)})[0], np.zeros((2, 64)))
    with pytest.raises(ModelError, match="needs 268435456 bytes"):
        session.run(None, {"x": np.zeros((1 << 20, 0), np.int8)})


def test_constants_are_folded(rng):
    nodes = [
        node("Constant", "", "two", value=onnx.numpy_helper.from_array(np.asarray(2, F32))),
        node("Mul", "k two", "k2"),
        node("Transpose", "k2", "k3"),
        node("MatMul", "x k3", "y"),
    ]
    x, k = (rng.standard_normal((3, 3)).astype(F32) for _ in "xk")
    session = InferenceSession(data(model(nodes, {"x": x}, {"y": F32}, {"k": k})))
    assert [row.op for row in session.report().rows] == ["MatMul"]
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ (2 * k).T, rtol=1e-5)


def branches(op):
    """A model whose If picks between x + k and x - k, k and x coming from the graph around the branches."""
    value = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    then, other = (helper.make_graph([node(name, "x k", "r")], name, [], value) for name in ("Add", "Sub"))
    nodes = [node(op, "x", "x2"), helper.make_node("If", ["c"], ["y0"], "the If", then_branch=then, else_branch=other)]
    nodes += [node("Add", "y0 x2", "y")]
    return model(nodes, {"x": (F32, [3]), "c": (np.bool_, [])}, {"y": F32}, {"k": np.full(3, 2, F32)})


def test_inner_graphs_see_the_graph_around_them():
    made = branches("Neg")
    session = InferenceSession(data(made))
    assert [row.node for row in session.report().rows] == [
        "the Neg", "the If", "the If/then_branch/the Add", "the If/else_branch/the Sub", "the Add",
    ]  # fmt: skip
    x = np.arange(3, dtype=F32)
    for choice in (True, False):
        [y] = session.run(None, {"x": x, "c": np.asarray(choice)})
        np.testing.assert_array_equal(y, np.full(3, 2 if choice else -2, F32))


def test_operators_of_the_reference_fill_the_gaps(rng):
    made = model([node("Relu", "x", "a"), node("EyeLike", "a", "y")], {"x": (F32, [2, 3])}, {"y": F32})
    session = InferenceSession(data(made))
    assert session.report().reference_ops() == ["EyeLike"]
    assert {row.op: row.by for row in session.report().rows} == {"Relu": "numpy", "EyeLike": "onnx reference"}
    x = rng.uniform(1, 2, (2, 3)).astype(F32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], np.eye(2, 3))


def test_functions_of_the_model_are_lowered_too(rng):
    twice = helper.make_function("own", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], [helper.make_opsetid("", 21)])
    nodes = [node("Relu", "x", "r"), node("Twice", "r", "y", domain="own")]
    made = model(nodes, {"x": (F32, [4])}, {"y": F32}, functions=[twice])
    session = InferenceSession(data(made))
    assert [row.op for row in session.report().rows] == ["Relu", "Add"]
    x = rng.standard_normal(4).astype(F32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], 2 * np.maximum(x, 0))


def test_many_threads_share_one_session(rng, kernel):
    made = linear(rng, k=32, n=24)
    session = InferenceSession(data(made), kernel=kernel)
    feeds = [{"x": rng.standard_normal((1, 1 + i, 32)).astype(F32)} for i in range(8)]
    wanted = [session.run(["y"], feed)[0] for feed in feeds]
    wrong = []

    def work(i):
        results = [session.run(["y"], feeds[i])[0] for _ in range(10)]
        wrong.extend(i for result in results if not np.array_equal(result, wanted[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_file_and_bytes_are_the_same_model(rng, tmp_path):
    made = linear(rng)
    path = tmp_path / "model.onnx"
    path.write_bytes(data(made))
    feed = {"x": rng.standard_normal((1, 2, 12)).astype(F32)}
    wanted = InferenceSession(data(made)).run(None, feed)
    for source in (path, str(path)):
        for a, b in zip(InferenceSession(source).run(None, feed), wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_plugged_operators_know_their_opset_and_hand_on_what_they_do_not_take(rng):
    x = rng.standard_normal((2, 3, 4)).astype(F32)
    made = model([node("Softmax", "x", "y", axis=1)], {"x": x}, {"y": F32}, opset=11)
    wanted = np.exp(x) / np.exp(x).sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(ReferenceEvaluator(made, new_ops=onnx_ops()).run(None, {"x": x})[0], wanted, rtol=1e-5)
    wide = {"s": np.asarray(0.5, F32), "z": np.asarray(7, np.int16)}
    made = model([node("QuantizeLinear", "x s z", "y")], {"x": x}, {"y": np.int16}, wide)
    got = ReferenceEvaluator(made, new_ops=onnx_ops()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(got, np.rint(x / F32(0.5)).astype(np.int16) + 7)


def test_plugged_operators_serve_a_whole_graph(rng, kernel):
    made = linear(rng)
    feed = {"x": rng.standard_normal((1, 3, 12)).astype(F32)}
    got = ReferenceEvaluator(made, new_ops=onnx_ops(kernel=kernel)).run(None, feed)
    np.testing.assert_allclose(got[0], InferenceSession(data(made), kernel=kernel).run(None, feed)[0], rtol=1e-6)
    assert {op.__name__ for op in onnx_ops()} >= {"MatMulInteger", "QLinearConv", "Erf", "MaxPool"}
