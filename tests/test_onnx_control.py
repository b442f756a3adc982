"""Inner graphs: compiled like the graph around them, within its bound, and with onnxruntime's results."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_graphs import data, model, node

from pyint8dot.onnx import InferenceSession, ModelError, NodeError

F32 = np.float32


def values(**types):
    return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in types.items()]


def loop(nodes, *, trips=True, condition=True, state=(2,), collected=True, constants=None):
    """A Loop over one state s, from x, that collects k."""
    inner = helper.make_graph(
        nodes,
        "body",
        values(i=(TensorProto.INT64, []), c=(TensorProto.BOOL, []), s=(TensorProto.FLOAT, state)),
        values(c2=(TensorProto.BOOL, []), s2=(TensorProto.FLOAT, state), **({"k": (TensorProto.FLOAT, None)} if collected else {})),
    )  # fmt: skip
    inputs = ["m" if trips else "", "c0" if condition else "", "x"]
    made = helper.make_node("Loop", inputs, ["y", "z"] if collected else ["y"], "the Loop", body=inner)
    feed = {"x": (F32, list(state))}
    feed |= {"m": (np.int64, [])} if trips else {}
    feed |= {"c0": (np.bool_, [])} if condition else {}
    outputs = {"y": (F32, list(state)), **({"z": F32} if collected else {})}
    return model([made], feed, outputs, constants)


COUNTING = [node("Add", "s one", "s2"), node("Mul", "s2 s2", "k")]
ENDS = {"goes on": node("Identity", "c", "c2"), "changes": node("Not", "c", "c2")}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("trips", [None, 0, 3])
@pytest.mark.parametrize("condition", [None, True, False])
def test_loops_end_as_in_onnxruntime(end, trips, condition):
    theirs = pytest.importorskip("onnxruntime")
    if trips is None and end == "goes on" and condition is not False:
        return  # for ever
    made = loop(
        [*COUNTING, ENDS[end]],
        trips=trips is not None,
        condition=condition is not None,
        constants={"one": np.ones(2, F32)},
    )
    feed = {"x": np.zeros(2, F32)}
    feed |= {} if trips is None else {"m": np.asarray(trips)}
    feed |= {} if condition is None else {"c0": np.asarray(condition)}
    wanted = theirs.InferenceSession(data(made)).run(None, feed)
    for got, other in zip(InferenceSession(data(made)).run(None, feed), wanted, strict=True):
        assert got.dtype == other.dtype
        np.testing.assert_array_equal(got, other)


def test_what_goes_round_is_not_written_over():
    """The state comes back as it went in, and so do constants: the caller's array and the weights stay what they are."""
    nodes = [
        node("Identity", "c", "c2"), node("Identity", "s", "s2"), node("Neg", "s", "n"), node("Relu", "n", "r"),
        node("Add", "r w", "k"),
    ]  # fmt: skip
    w = F32([1, 2])
    made = loop(nodes, condition=False, constants={"w": w})
    session = InferenceSession(data(made))
    x = F32([-3, 4])
    for _ in range(2):
        y, z = session.run(None, {"x": x, "m": np.int64(3)})
        np.testing.assert_array_equal(y, [-3, 4])
        np.testing.assert_array_equal(z, [[4, 2]] * 3)
        y[:] = 9
        np.testing.assert_array_equal(x, [-3, 4])


def test_a_branch_that_returns_a_constant_gives_away_a_copy():
    branches = [
        helper.make_graph([node("Identity", name, "r")], name, [], values(r=(TensorProto.FLOAT, [2]))) for name in "wx"
    ]
    chosen = helper.make_node("If", ["c"], ["t"], "the If", then_branch=branches[0], else_branch=branches[1])
    made = model(
        [chosen, node("Neg", "t", "y")], {"x": (F32, [2]), "c": (np.bool_, [])}, {"y": F32}, {"w": F32([1, 2])}
    )
    session = InferenceSession(data(made))
    x = F32([3, 4])
    for _ in range(2):
        assert session.run(None, {"x": x, "c": np.asarray(True)})[0].tolist() == [-1, -2]
        assert session.run(None, {"x": x, "c": np.asarray(False)})[0].tolist() == [-3, -4]
        assert x.tolist() == [3, 4]


def test_results_of_a_branch_that_are_one_array_become_two():
    """Two names of one array leave the branch: what writes over the first must not be seen in the second."""
    nodes = [node("Exp", "x", "a"), node("Reshape", "a flat", "b")]
    results = values(a=(TensorProto.FLOAT, [2, 2]), b=(TensorProto.FLOAT, [4]))
    branches = []
    for end in "12":
        inner = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        for n in inner:
            n.input[:] = [v + end if v == "a" else v for v in n.input]
            n.output[:] = [v + end for v in n.output]
        outs = [onnx.ValueInfoProto.FromString(r.SerializeToString()) for r in results]
        for out in outs:
            out.name += end
        branches.append(helper.make_graph(inner, f"branch {end}", [], outs))
    chosen = helper.make_node("If", ["c"], ["p", "q"], "the If", then_branch=branches[0], else_branch=branches[1])
    made = model(
        [chosen, node("Neg", "p", "n"), node("Abs", "q", "y")],
        {"x": (F32, [2, 2]), "c": (np.bool_, [])}, {"n": F32, "y": F32}, {"flat": np.int64([-1])},
    )  # fmt: skip
    x = np.zeros((2, 2), F32)
    n, y = InferenceSession(data(made)).run(None, {"x": x, "c": np.asarray(True)})
    assert (n == -1).all()
    assert (y == 1).all()


def test_weights_of_a_body_are_packed_and_its_patterns_fused(rng):
    """A quantised product inside a Loop is one node on a kernel, and the report shows it."""
    w = rng.integers(-128, 128, (8, 8)).astype(np.int8)
    nodes = [
        node("Identity", "c", "c2"), node("DynamicQuantizeLinear", "s", "q qs qz"), node("MatMulInteger", "q w qz", "p"),
        node("Cast", "p", "f", to=TensorProto.FLOAT), node("Mul", "f qs", "g"), node("Tanh", "g", "s2"),
    ]  # fmt: skip
    made = loop(nodes, condition=False, state=(3, 8), collected=False, constants={"w": w})
    session = InferenceSession(data(made))
    by = {row.op: (row.node, row.by) for row in session.report().rows}
    assert by["MatMulFloat"] == ("the Loop/body/the MatMulInteger", session.kernel)
    assert session.report().reference_ops() == []
    x = rng.standard_normal((3, 8)).astype(F32)
    [got] = session.run(None, {"x": x, "m": np.int64(2)})
    step = model(nodes[1:], {"s": x}, {"s2": F32}, {"w": w})
    for _ in range(2):
        [x] = InferenceSession(data(step)).run(None, {"s": x})
    np.testing.assert_array_equal(got, x)
    report = session.report()
    assert all(row.seconds > 0 for row in report.rows if "/" in row.node)
    assert report.seconds < 1


@pytest.mark.parametrize("back", [[0, 0], [1, 0], [1, 1]])
def test_scan(back):
    theirs = pytest.importorskip("onnxruntime")
    inner = helper.make_graph(
        [node("Add", "s u", "t"), node("Sub", "t v", "s2"), node("Mul", "s2 two", "k")],
        "body",
        values(s=(TensorProto.FLOAT, [2]), u=(TensorProto.FLOAT, [2]), v=(TensorProto.FLOAT, [2])),
        values(s2=(TensorProto.FLOAT, [2]), k=(TensorProto.FLOAT, [2])),
    )
    scan = helper.make_node(
        "Scan", ["x", "a", "b"], ["y", "z"], "the Scan", body=inner, num_scan_inputs=2, scan_input_axes=[0, 1],
        scan_input_directions=back, scan_output_axes=[1], scan_output_directions=back[:1],
    )  # fmt: skip
    feed = {"x": F32([1, 2]), "a": np.arange(6, dtype=F32).reshape(3, 2), "b": np.arange(6, dtype=F32).reshape(2, 3)}
    made = model([scan], feed, {"y": (F32, [2]), "z": (F32, [2, 3])}, {"two": np.asarray(2, F32)})
    wanted = theirs.InferenceSession(data(made)).run(None, feed)
    for got, other in zip(InferenceSession(data(made)).run(None, feed), wanted, strict=True):
        np.testing.assert_array_equal(got, other)


def test_a_loop_that_collects_too_much_is_refused():
    nodes = [ENDS["goes on"], node("Identity", "s", "s2"), node("Expand", "s shape", "k")]
    made = loop(nodes, condition=False, state=(1,), constants={"shape": np.int64([1 << 18])})
    session = InferenceSession(data(made), max_bytes=16 << 20)
    assert session.run(None, {"x": np.ones(1, F32), "m": np.int64(4)})[1].shape == (4, 1 << 18)
    with pytest.raises(ModelError, match=r"'the Loop' \(Loop\): collects .* max_bytes"):
        session.run(None, {"x": np.ones(1, F32), "m": np.int64(1 << 40)})


def test_what_is_alive_outside_counts_inside():
    """Three megabytes outside and three inside are more than four."""
    inner = [
        helper.make_graph([node("Expand", "x shape", f"e{i}"), node("Size", f"e{i}", f"r{i}")], f"b{i}", [], values(**{f"r{i}": (7, [])}))
        for i in range(2)
    ]  # fmt: skip
    chosen = helper.make_node("If", ["c"], ["n"], "the If", then_branch=inner[0], else_branch=inner[1])
    nodes = [node("Expand", "x shape", "big"), chosen, node("Size", "big", "m"), node("Add", "n m", "y")]
    made = model(
        nodes, {"x": (F32, [1]), "c": (np.bool_, [])}, {"y": np.int64}, {"shape": np.int64([3 << 18])}
    )  # fmt: skip
    feed = {"x": np.ones(1, F32), "c": np.asarray(True)}
    assert InferenceSession(data(made), max_bytes=7 << 20).run(None, feed)[0] == 6 << 18
    with pytest.raises(ModelError, match="max_bytes"):
        InferenceSession(data(made), max_bytes=4 << 20).run(None, feed)


def test_errors_inside_name_the_node_inside():
    nodes = [ENDS["goes on"], node("Reshape", "s i", "k"), node("Identity", "s", "s2")]
    nodes.insert(0, node("Unsqueeze", "i zero", "shape"))
    nodes[2] = node("Reshape", "s shape", "k")
    made = loop(nodes, condition=False, constants={"zero": np.int64([0])})
    with pytest.raises(NodeError, match=r"node 'the Reshape' \(Reshape\)"):
        InferenceSession(data(made)).run(None, {"x": np.ones(2, F32), "m": np.int64(3)})


def test_sequences_are_mapped():
    inner = helper.make_graph(
        [node("Mul", "e two", "f"), node("Add", "f x", "g")], "body", values(e=(TensorProto.FLOAT, [2])), values(g=(TensorProto.FLOAT, [2]))
    )  # fmt: skip
    nodes = [
        node("SequenceConstruct", "x x", "s"),
        helper.make_node("SequenceMap", ["s"], ["t"], "the map", body=inner),
        node("ConcatFromSequence", "t", "y", axis=0),
    ]
    made = model(nodes, {"x": (F32, [2])}, {"y": F32}, {"two": np.asarray(2, F32)})
    assert InferenceSession(data(made)).run(None, {"x": F32([1, 2])})[0].tolist() == [3, 6, 3, 6]
