"""Whose memory a result is: nothing is written over that a view, a sequence, a branch or the caller still shows."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import EMULATED
from onnx import TensorProto, helper
from support.onnx_graphs import data, model, node, reference

from pyint8dot.onnx import InferenceSession
from pyint8dot.onnx.compile import lower
from pyint8dot.onnx.graph import Graph
from pyint8dot.onnx.load import read_model
from pyint8dot.onnx.program import owning
from pyint8dot.onnx.registry import CONTAINERS, FRESH, OPERATORS, VIEWS, Site

F32 = np.float32


def agrees(made, feed, outputs=None):
    """Run twice, and find the results of the reference, the feed as it was, and no two results in one piece of memory."""
    kept = {name: value.copy() for name, value in feed.items()}
    wanted = reference(made, kept)
    session = InferenceSession(data(made))
    for _ in range(2):
        found = session.run(outputs, feed)
        for name, value in feed.items():
            np.testing.assert_array_equal(value, kept[name])
        for got, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, other, rtol=1e-5, atol=1e-6)
        for i, got in enumerate(found):
            assert not any(np.may_share_memory(got, other) for other in (*found[:i], *feed.values()))
            got[...] = 99


@pytest.mark.parametrize(
    "nodes",
    [
        [node("SequenceConstruct", "x x", "s"), node("SequenceAt", "s zero", "a"), node("Neg", "a", "y"), node("Abs", "y", "z")],
        [
            node("Exp", "x", "e"), node("SequenceConstruct", "e e", "s"), node("SequenceAt", "s zero", "a"), node("Neg", "a", "y"),
            node("SequenceAt", "s zero", "z"),
        ],
        [node("Exp", "x", "e"), node("SequenceConstruct", "e", "s"), node("Neg", "e", "y"), node("SequenceAt", "s zero", "z")],
        [node("SplitToSequence", "x one", "s", axis=0), node("SequenceAt", "s zero", "a"), node("Neg", "a", "y"), node("Abs", "x", "z")],
        [
            node("Exp", "x", "e"), node("SequenceEmpty", "", "s0"), node("SequenceInsert", "s0 e", "s1"), node("SequenceInsert", "s1 x", "s2"),
            node("SequenceErase", "s2 zero", "s3"), node("SequenceAt", "s3 zero", "a"), node("Neg", "a", "y"), node("Neg", "e", "z"),
        ],
        [node("Transpose", "x", "t"), node("Squeeze", "t", "q"), node("Flatten", "q", "f"), node("Neg", "f", "y"), node("Relu", "x", "z")],
        [node("Exp", "x", "e"), node("Flatten", "e", "y"), node("Transpose", "e", "z")],
        [node("Identity", "x", "y"), node("Identity", "y", "z")],
    ],
    ids=lambda nodes: "-".join(n.op_type for n in nodes),
)  # fmt: skip
def test_what_shares_memory_is_known(nodes):
    constants = {"zero": np.asarray(0), "one": np.asarray(1)}
    agrees(
        model(nodes, {"x": (F32, [3, 3])}, {"y": F32, "z": F32}, constants),
        {"x": np.arange(9, dtype=F32).reshape(3, 3) / 9},
    )


def _branch(rng, names, label):
    """An inner graph of one or two nodes that reads from around it."""
    first = node(str(rng.choice(["Neg", "Identity", "Relu", "Transpose"])), str(rng.choice(names)), f"{label}a")
    second = node(str(rng.choice(["Neg", "Identity", "Abs"])), f"{label}a", f"{label}b")
    outputs = [f"{label}{rng.choice(['a', 'b'])}", f"{label}b"]
    described = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in outputs]
    if outputs[0] == outputs[1]:
        first.output[0] = outputs[0] = described[0].name = f"{label}a"
    return helper.make_graph([first, second], label, [], described)


def test_optional_values(rng):
    nodes = [
        node("Optional", "x", "o"),
        node("OptionalHasElement", "o", "h"),
        node("OptionalGetElement", "o", "a"),
        node("Neg", "a", "y"),
    ]
    session = InferenceSession(data(model(nodes, {"x": (F32, [3])}, {"y": F32, "h": np.bool_})))
    x = rng.standard_normal(3).astype(F32)
    kept = x.copy()
    y, has = session.run(None, {"x": x})
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(y, -x)
    assert has


def test_random_graphs_with_views_sequences_and_branches(rng):
    """Many small graphs, so that every order of lives and deaths comes up."""
    one = ["Relu", "Neg", "Abs", "Identity", "Transpose", "Exp"]
    for _ in range(10 if EMULATED else 40):
        names, sequences, nodes = ["x", "k"], [], []
        for i in range(12):
            kind = rng.integers(8)
            pick = lambda n=1: " ".join(rng.choice(names, n))  # noqa: B023, E731
            if kind < 3:
                nodes.append(node(str(rng.choice(one)), pick(), f"t{i}"))
            elif kind < 5:
                nodes.append(node(str(rng.choice(["Add", "Sub", "Mul", "Max"])), pick(2), f"t{i}"))
            elif kind == 5:
                nodes += [node("Reshape", f"{pick()} flat", f"f{i}"), node("Reshape", f"f{i} square", f"t{i}")]
            elif kind == 6:
                there = str(rng.choice(sequences)) if sequences and rng.random() < 0.5 else ""
                made = (
                    node("SequenceInsert", f"{there} {pick()}", f"s{i}")
                    if there
                    else node("SequenceConstruct", pick(2), f"s{i}")
                )
                nodes += [made, node("SequenceAt", f"s{i} zero", f"t{i}")]
                sequences.append(f"s{i}")
            else:
                branches = [_branch(rng, names, f"{end}{i}") for end in "pq"]
                nodes.append(
                    helper.make_node(
                        "If", ["c"], [f"t{i}", f"u{i}"], f"if {i}", then_branch=branches[0], else_branch=branches[1]
                    )
                )
                names.append(f"u{i}")
            names.append(f"t{i}")
        outputs = dict.fromkeys(map(str, rng.choice(names[2:], 3, replace=False)), F32)
        x = rng.uniform(-1, 1, (4, 4)).astype(F32)
        constants = {
            "k": rng.uniform(-1, 1, (4, 4)).astype(F32),
            "flat": np.int64([-1]),
            "square": np.int64([4, 4]),
            "zero": np.asarray(0),
        }
        made = model(nodes, {"x": x, "c": (np.bool_, [])}, outputs, constants)
        with np.errstate(all="ignore"):
            agrees(made, {"x": x, "c": np.asarray(rng.random() < 0.5)})


def test_every_operator_is_of_one_kind():
    assert not VIEWS & FRESH
    assert not (VIEWS | FRESH) & CONTAINERS
    # A name that stands for nothing would hide a mistake in it.
    assert OPERATORS.keys() >= FRESH
    assert OPERATORS.keys() >= VIEWS
    assert OPERATORS.keys() >= CONTAINERS


CASES = {
    "Pad": ("x pads", {"pads": np.int64([0, 0, 0, 0])}), "Tile": ("x ones", {"ones": np.int64([1, 1])}),
    "Expand": ("x ones", {"ones": np.int64([1, 1])}), "Gather": ("x zero", {"zero": np.int64([0, 1, 2])}),
    "Concat": ("x", {}), "Max": ("x", {}), "Min": ("x", {}), "Sum": ("x", {}), "Clip": ("x", {}), "Where": ("yes x x", {"yes": np.asarray(True)}),
    "Pow": ("x two", {"two": np.asarray(2, F32)}), "Relu": ("x", {}), "LeakyRelu": ("x", {}), "Abs": ("x", {}), "Mul": ("x one", {"one": np.asarray(1, F32)}),
    "Div": ("x one", {"one": np.asarray(1, F32)}), "ReduceSum": ("x none", {"none": np.zeros(0, np.int64)}), "ReduceMax": ("x axes", {"axes": np.int64([0])}),
    "Softmax": ("x", {}), "LayerNormalization": ("x one3 zero3", {"one3": np.ones(3, F32), "zero3": np.zeros(3, F32)}),
    "Gemm": ("x eye zero3", {"eye": np.eye(3, dtype=F32), "zero3": np.zeros(3, F32)}), "MatMul": ("x eye", {"eye": np.eye(3, dtype=F32)}),
    "Erf": ("x", {}), "Gelu": ("x", {}), "Sigmoid": ("x", {}), "Reciprocal": ("x", {}), "Floor": ("x", {}), "Round": ("x", {}),
}  # fmt: skip


@pytest.mark.parametrize("op", CASES)
def test_operators_that_are_said_to_make_new_arrays_do(op):
    """Cases in which an input could be handed on: nothing to pad, one part to join, a repetition of one."""
    assert ("", op) in FRESH
    inputs, constants = CASES[op]
    attributes = {"axis": 0} if op == "Concat" else {}
    made = model([node(op, inputs, "y", **attributes)], {"x": (F32, [3, 3])}, {"y": F32}, constants)
    graph = Graph(read_model(data(made), 1 << 20))
    function, by = lower(Site(graph.nodes[0], graph, "portable", None, 1 << 20))
    assert by != "onnx reference"
    x = np.arange(1, 10, dtype=F32).reshape(3, 3)
    given = [x if name == "x" else constants[name] for name in inputs.split()]
    result = function(*given)
    assert not any(np.may_share_memory(result, value) for value in given)
    assert result.flags.writeable


def test_a_function_that_hands_on_its_input_is_looked_at():
    x, y = np.zeros((2, 3)), np.ones(4)
    for function in (lambda a: a, lambda a: a[:1], lambda a: a.T, lambda a: np.broadcast_to(np.ones(1), (4,))):
        result = owning(function)(x)
        assert not np.shares_memory(result, x)
        assert result.flags.writeable
        np.testing.assert_array_equal(result, function(x))
    first, second, third = owning(lambda a, b: (b, b[1:], [a]))(x, y)
    assert not np.shares_memory(first, y)
    assert not np.shares_memory(second, y)
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(third[0], x)
    fresh = np.ones(3)
    assert owning(lambda _: fresh)(x) is fresh


def test_inputs_and_constants_are_never_written(rng):
    """Elementwise operators write over what nobody reads any more, and over nothing else."""
    constant = rng.standard_normal((4, 4)).astype(F32)
    nodes = [
        node("Identity", "x", "a"), node("Reshape", "a shape", "b"), node("Relu", "b", "c"), node("Neg", "c", "d"),
        node("Transpose", "k", "t"), node("Add", "t d", "e"), node("Exp", "e", "f"), node("Add", "f e", "y"),
    ]  # fmt: skip
    x = rng.standard_normal(16).astype(F32)
    made = model(nodes, {"x": (F32, ["n"])}, {"y": F32, "a": F32}, {"k": constant, "shape": np.int64([4, 4])})
    session = InferenceSession(data(made))
    kept = x.copy()
    first = session.run(None, {"x": x})
    np.testing.assert_array_equal(x, kept)
    for _ in range(2):
        for got, wanted in zip(session.run(None, {"x": x}), reference(made, {"x": kept}), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)
    # What was returned belongs to the caller.
    first[1][:] = 7
    np.testing.assert_array_equal(x, kept)


def test_a_view_keeps_what_it_shows(rng):
    """A tensor that lives on in a view is not written over though its own name is dead."""
    nodes = [
        node("Exp", "x", "a"), node("Slice", "a start end", "head"), node("Neg", "a", "n"), node("Relu", "n", "r"),
        node("Reshape", "head flat", "h"), node("Add", "h h", "twice"), node("Add", "r twice", "y"),
    ]  # fmt: skip
    constants = {"start": np.int64([0]), "end": np.int64([1]), "flat": np.int64([-1])}
    x = rng.standard_normal((3, 5)).astype(F32)
    made = model(nodes, {"x": x}, {"y": F32}, constants)
    np.testing.assert_allclose(
        InferenceSession(data(made)).run(None, {"x": x})[0], reference(made, {"x": x})[0], rtol=1e-6
    )


def test_random_graphs_of_elementwise_operators_and_views(rng):
    """Many small graphs, so that every order of lives and deaths comes up."""
    for _ in range(60):
        names, nodes = ["x", "k"], []
        for i in range(12):
            op = rng.choice(["Add", "Mul", "Sub", "Relu", "Neg", "Abs", "Identity", "Transpose", "Max"])
            count = 2 if op in ("Add", "Mul", "Sub", "Max") else 1
            nodes.append(node(str(op), " ".join(rng.choice(names, count)), f"t{i}"))
            names.append(f"t{i}")
        outputs = dict.fromkeys(rng.choice(names[2:], 3, replace=False), F32)
        x = rng.uniform(-1, 1, (4, 4)).astype(F32)
        made = model(nodes, {"x": x}, outputs, {"k": rng.uniform(-1, 1, (4, 4)).astype(F32)})
        session = InferenceSession(data(made))
        wanted = reference(made, {"x": x})
        for _ in range(2):
            for a, b in zip(session.run(None, {"x": x}), wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
