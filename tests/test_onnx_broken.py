"""Broken and hostile models: each is refused with a message that names what is wrong, and nothing is read or allocated."""

from __future__ import annotations

import os
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.broken import good, refused
from support.onnx_graphs import data, model, node

from pyint8dot import Int8DotError
from pyint8dot.onnx import InferenceSession, ModelError
from pyint8dot.onnx.structure import check_graph

F32 = np.float32
# Seconds for what takes less than one; emulated, or beside other work, it takes longer.
PATIENCE = 30 if "QEMU_CPU" in os.environ else 3


def test_the_good_model_is_good():
    [y] = InferenceSession(data(good())).run(None, {"x": np.ones((2, 4), np.int8)})
    assert y.shape == (2, 3)


@pytest.mark.parametrize("cut", [0, 1, 2, 10, 50, 100, -40, -20, -10, -3, -1])
def test_file_cut_short(tmp_path, cut):
    whole = data(good())
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[:cut])
    with pytest.raises(Int8DotError):
        InferenceSession(path)


@pytest.mark.static
def test_every_place_of_a_cut_is_an_error_of_this_package():
    whole = data(good())
    for end in range(len(whole)):
        with pytest.raises(Int8DotError):
            InferenceSession(whole[:end]).run(None, {"x": np.ones((2, 4), np.int8)})


@pytest.mark.static
def test_flipped_bytes_never_crash(rng):
    """A random byte changed: an error of this package or of the feed, or a model that still runs; nothing else."""
    whole = data(good())
    for _ in range(400):
        broken = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            broken[at] = rng.integers(0, 256)
        try:
            session = InferenceSession(bytes(broken), max_bytes=1 << 24)
            session.run(None, {"x": np.ones((2, 4), np.int8)})
        except Int8DotError:
            pass


@pytest.mark.parametrize(
    "source", [b"", b"\x00" * 100, b"GIF89a and so on", os.urandom(64)], ids=["empty", "zeros", "picture", "noise"]
)
def test_what_is_no_model(source):
    refused(source, "not an ONNX model|ir_version|no operator set")


@pytest.mark.parametrize("version", [0, 99999])
def test_unknown_versions(version):
    made = good()
    made.ir_version = version
    refused(made, f"ir_version {version} is not known")
    made = good()
    made.opset_import[0].version = 4000 + version
    refused(made, f"opset {4000 + version} is not known")
    del made.opset_import[:]
    refused(made, "imports no operator set")


def test_missing_initialiser():
    made = good()
    del made.graph.initializer[:]
    refused(made, r"node 'the MatMulInteger' \(MatMulInteger\): nothing makes its input 'w'")


def test_missing_output():
    made = good()
    made.graph.output[0].name = "nobody"
    refused(made, "nothing makes the output 'nobody'")


def test_tensor_made_twice():
    made = good()
    made.graph.node[1].output[0] = "p"
    refused(made, r"node 'the Cast' \(Cast\): tensor 'p' is made a second time")


def test_cycle():
    nodes = [node("Add", "x c", "a"), node("Relu", "a", "b"), node("Neg", "b", "c"), node("Neg", "a", "y")]
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "circle",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        )
    )
    refused(
        made, r"cycle: node 'the Add' \(Add\) <- node 'the Neg' \(Neg\) <- node 'the Relu' \(Relu\) <- node 'the Add'"
    )
    made.graph.node[0].input[1] = "a"
    refused(made, r"cycle: node 'the Add' \(Add\) <- node 'the Add'")


def test_nodes_out_of_order_are_put_in_order():
    made = good()
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in reversed(made.graph.node)]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    assert InferenceSession(data(made)).run(None, {"x": np.ones((2, 4), np.int8)})[0].shape == (2, 3)


def test_functions_that_call_each_other():
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    ping = helper.make_function("own", "Ping", ["a"], ["b"], [node("Pong", "a", "b", domain="own")], opset)
    pong = helper.make_function("own", "Pong", ["a"], ["b"], [node("Ping", "a", "b", domain="own")], opset)
    graph = helper.make_graph(
        [node("Ping", "x", "y", domain="own")],
        "circle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    refused(helper.make_model(graph, functions=[ping, pong], opset_imports=opset), "circle: Ping, Pong")


@pytest.mark.static
def test_a_long_cycle_is_explained_shortly():
    nodes = [node("Neg", f"t{i}", f"t{(i + 1) % 100_000}") for i in range(100_000)]
    graph = helper.make_graph(nodes, "circle", [], [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [2])])
    whole = data(helper.make_model(graph))
    began = time.process_time()
    with pytest.raises(ModelError, match=r"cycle: node 'the Neg' \(Neg\) <- .*\.\.\. \(100000 nodes\)$") as caught:
        InferenceSession(whole)
    assert len(str(caught.value)) < 400
    assert time.process_time() - began < PATIENCE


@pytest.mark.static
def test_many_nodes_out_of_order_are_put_in_order_in_linear_time():
    nodes = [node("Neg", f"t{i}", f"t{i + 1}") for i in range(20_000)][::-1]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("t0", "t20000")]
    graph = helper.make_graph(nodes, "backwards", ends[:1], ends[1:])
    check_graph(graph)
    assert [n.input[0] for n in graph.node[:3]] == ["t0", "t1", "t2"]


@pytest.mark.static
def test_deep_functions_are_refused_at_once():
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "F0", ["a"], ["b"], [node("Neg", "a", "b")], opset)]
    functions += [
        helper.make_function("own", f"F{i}", ["a"], ["b"], [node(f"F{i - 1}", "a", "b", domain="own")], opset)
        for i in range(1, 1500)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([node("F1499", "x", "y", domain="own")], "chain", ends[:1], ends[1:])
    whole = data(helper.make_model(graph, functions=functions, opset_imports=opset))
    began = time.process_time()
    with pytest.raises(ModelError, match="function 'F1499' calls others 1500 deep, deeper than 100"):
        InferenceSession(whole)
    assert time.process_time() - began < PATIENCE
    graph.node[0].op_type = "F90"
    whole = data(helper.make_model(graph, functions=functions[:91], opset_imports=opset))
    assert InferenceSession(whole).run(None, {"x": np.ones(2, F32)})[0].tolist() == [-1, -1]


def test_functions_that_grow_without_bound():
    """Forty functions, each calling the one before twice: a million million nodes from a small file."""
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "F0", ["a"], ["b"], [node("Neg", "a", "b")], opset)]
    for i in range(1, 41):
        calls = [node(f"F{i - 1}", "a", "m", domain="own"), node(f"F{i - 1}", "m", "b", domain="own")]
        functions.append(helper.make_function("own", f"F{i}", ["a"], ["b"], calls, opset))
    graph = helper.make_graph(
        [node("F40", "x", "y", domain="own")],
        "tower",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    refused(helper.make_model(graph, functions=functions, opset_imports=opset), "expand to 1099511627776 nodes")


@pytest.mark.parametrize(
    ("op", "inputs", "words"),
    [
        ("MatMulInteger", {"a": (F32, [2, 3]), "b": (F32, [3, 2])}, "MatMulInteger"),
        ("Add", {"a": (F32, [2]), "b": (np.int32, [2])}, "Add"),
        ("MatMul", {"a": (F32, [2, 3]), "b": (F32, [4, 2])}, "MatMul"),
        ("QLinearMatMul", {"a": (np.int8, [2, 3]), "b": (np.int8, [3, 2])}, "QLinearMatMul"),
    ],
)
def test_wrong_types_and_shapes(op, inputs, words):
    graph = helper.make_graph(
        [node(op, " ".join(inputs), "y")],
        "wrong",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(np.dtype(t)), s)
            for k, (t, s) in inputs.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])],
    )
    refused(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), words)


def test_type_of_an_initialiser_does_not_matter_to_its_bytes():
    made = good()
    made.graph.initializer[0].data_type = TensorProto.FLOAT
    refused(made, r"initialiser 'w': shape \[4, 3\] needs 48 bytes, the model holds 12")
    made.graph.initializer[0].data_type = 77
    refused(made, "initialiser 'w': element type 77 is not known")


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        ([4, 4], "needs 16 bytes, the model holds 12"),
        ([-1, 3], "negative dimension"),
        ([1 << 40, 1 << 40], "more than max_bytes"),
        ([1 << 62, 4, 0], "needs 0 bytes, the model holds 12"),
    ],
)
def test_shape_of_an_initialiser(dims, words):
    made = good()
    made.graph.initializer[0].dims[:] = dims
    refused(made, f"initialiser 'w'.*{words}")


@pytest.mark.parametrize("op", ["NoSuchOperator", "Conv3000"])
@pytest.mark.parametrize("domain", ["", "com.example"])
def test_unknown_operator(op, domain):
    made = good()
    made.graph.node[1].op_type, made.graph.node[1].domain = op, domain
    made.opset_import.append(helper.make_opsetid("com.example", 1))
    refused(made, op)


@pytest.mark.parametrize(
    ("name", "value"), [("axis", 1 << 31), ("axes", [-(1 << 40)]), ("batch_dims", -3), ("ngram_counts", [1 << 62])]
)
def test_attributes_that_end_the_process_in_inference(name, value):
    made = good()
    made.graph.node[1].attribute.append(helper.make_attribute(name, value))
    refused(made, rf"node 'the Cast' \(Cast\): attribute '{name}' is {np.ravel(value)[0]}")


@pytest.mark.parametrize("count", [1, 3, 1 << 31])
def test_split_into_another_number_of_pieces_than_outputs(count):
    """With fewer, onnx's own inference writes beside its memory."""
    made = model([node("Split", "x", "a b", num_outputs=2)], {"x": (F32, [6])}, {"a": F32, "b": F32})
    made.graph.node[0].attribute[0].i = count
    refused(made, rf"node 'the Split' \(Split\): attribute 'num_outputs' is {count}, not 2")


def test_sizes_below_nothing_are_not_known():
    made = good()
    for value in (made.graph.input[0], made.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    session = InferenceSession(data(made))
    assert session.get_inputs()[0].shape == [None, 4]
    assert session.run(None, {"x": np.ones((5, 4), np.int8)})[0].shape == (5, 3)
    made.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    for value in made.graph.output:
        value.type.tensor_type.ClearField("shape")
    assert InferenceSession(data(made)).run(None, {"x": np.ones((5, 4), np.int8)})[0].shape == (5, 3)
    made.graph.input[0].type.tensor_type.ClearField("shape")
    session = InferenceSession(data(made))
    assert session.get_inputs()[0].shape == []
    assert session.run(None, {"x": np.ones((2, 5, 4), np.int8)})[0].shape == (2, 5, 3)


def test_model_larger_than_allowed():
    refused(good(), "'w': .* needs 12 bytes.*max_bytes=10", max_bytes=10)


def test_sparse_tensors_are_refused_by_name():
    made = good()
    made.graph.sparse_initializer.add().values.name = "thin"
    refused(made, "initialiser 'thin': sparse tensors are not supported")


@pytest.mark.parametrize("inside", [False, True])
def test_windows_larger_than_what_they_slide_over(inside):
    """onnx's own inference ends the process at the Slice."""
    nodes = [node("Conv", "x w", "c"), node("Slice", "c s e a", "y")]
    constants = {
        "w": np.zeros((2, 3, 5, 5), F32), "s": np.int64([0]), "e": np.int64([3]), "a": np.int64([2]), "t": np.array(True),
    }  # fmt: skip
    x = np.zeros((1, 3, 2, 2), F32)
    if inside:
        names = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
        other = [onnx.helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, None)]
        graphs = {
            "then_branch": onnx.helper.make_graph(nodes, "then", [], names),
            "else_branch": onnx.helper.make_graph([node("Identity", "x", "o")], "else", [], other),
        }
        nodes = [node("If", "t", "z", **graphs)]
    # Without the inference of the helper.
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [onnx.helper.make_tensor_value_info("z" if inside else "y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ModelError, match="below 0"):
        InferenceSession(made.SerializeToString())
