"""What the session fuses of floats, attention above all: each pattern is found, and gives what the nodes it stands for give one by one."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import covered, data, model, node, ops_of, reference

from pyint8dot.onnx import InferenceSession, InputError, NodeError

F32 = np.float32


@pytest.mark.parametrize("order", ["half last", "half first", "multiplied"])
def test_gelu_written_out(rng, order):
    constants = {
        "root": np.array(np.sqrt(2) if order != "multiplied" else np.sqrt(0.5), F32), "one": F32(1), "half": F32(0.5),
    }  # fmt: skip
    constants = {name: np.asarray(value) for name, value in constants.items()}
    nodes = [
        node("Mul" if order == "multiplied" else "Div", "x root", "a"),
        node("Erf", "a", "b"),
        node("Add", "b one", "c"),
    ]
    if order == "half first":
        nodes += [node("Mul", "x half", "d"), node("Mul", "d c", "y")]
    else:
        nodes += [node("Mul", "x c", "d"), node("Mul", "d half", "y")]
    x = np.linspace(-9, 9, 1001, dtype=F32).reshape(7, 11, 13)
    made = model(nodes, {"x": x}, {"y": F32}, constants)
    session = InferenceSession(data(made))
    assert ops_of(session) == ["Gelu"]
    assert covered(session) == 5
    np.testing.assert_allclose(session.run(None, {"x": x})[0], reference(made, {"x": x})[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [("root", 1.5), ("one", 2.0), ("half", 0.25), ("root", [[[np.sqrt(2)]]]), ("one", [[[1]]]), ("half", [[[0.5]]])],
)
def test_what_only_looks_like_gelu_is_left_alone(rng, change):
    constants = {"root": np.sqrt(2), "one": 1.0, "half": 0.5, change[0]: change[1]}
    nodes = [
        node("Div", "x root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c"),
        node("Mul", "x c", "d"), node("Mul", "d half", "y"),
    ]  # fmt: skip
    x = rng.standard_normal((5, 6)).astype(F32)
    made = model(nodes, {"x": x}, {"y": F32}, {k: np.asarray(v, F32) for k, v in constants.items()})
    session = InferenceSession(data(made))
    assert "Gelu" not in ops_of(session)
    [got], [wanted] = session.run(None, {"x": x}), reference(made, {"x": x})
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


# How exporters go on from the root of the variance.
ENDS = {
    "divided": [node("Div", "d root", "n"), node("Mul", "n scale", "m"), node("Add", "m bias", "y")],
    "turned": [node("Div", "d root", "n"), node("Mul", "scale n", "m"), node("Add", "bias m", "y")],
    "no bias": [node("Div", "d root", "n"), node("Mul", "n scale", "y")],
    "two differences": [
        node("Sub", "x mean", "e"), node("Div", "e root", "n"), node("Mul", "n scale", "m"), node("Add", "m bias", "y"),
    ],
    "reciprocal": [
        node("Reciprocal", "root", "i"), node("Mul", "d i", "n"), node("Mul", "n scale", "m"), node("Add", "m bias", "y"),
    ],
    "one over": [
        node("Div", "one root", "i"), node("Mul", "i d", "n"), node("Mul", "n scale", "m"), node("Add", "m bias", "y"),
    ],
    "tensorflow": [
        node("Reciprocal", "root", "i"), node("Mul", "i scale", "f"), node("Mul", "x f", "m"), node("Mul", "mean f", "k"),
        node("Sub", "bias k", "s"), node("Add", "m s", "y"),
    ],
}  # fmt: skip


def written_out(rng, square, end, **changes):
    """A layer normalisation, other constants in it, and as many nodes as it has."""
    constants = {
        "axes": np.int64([-1]), "two": np.asarray(2, F32), "epsilon": np.asarray(1e-5, F32), "one": np.asarray(1, F32),
        "scale": rng.standard_normal(24).astype(F32), "bias": rng.standard_normal(24).astype(F32),
        **changes,
    }  # fmt: skip
    nodes = [
        node("ReduceMean", "x axes", "mean"),
        node("Sub", "x mean", "d"),
        node(square, "d two" if square == "Pow" else "d d", "squares"),
        node("ReduceMean", "squares axes", "variance"),
        node("Add", "variance epsilon", "v"),
        node("Sqrt", "v", "root"),
        *end,
    ]
    read = {name for each in nodes for name in each.input}
    constants = {name: value for name, value in constants.items() if name in read}
    return model(nodes, {"x": (F32, ["a", "b", 24])}, {"y": F32}, constants), len(nodes)


@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
def test_layer_normalisation_written_out(rng, square, end):
    x = (3 * rng.standard_normal((2, 5, 24)) + 1).astype(F32)
    made, count = written_out(rng, square, end)
    session = InferenceSession(data(made))
    assert ops_of(session) == ["LayerNormalization"]
    assert covered(session) == count - (end is ENDS["two differences"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], reference(made, {"x": x})[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "end",
    [
        [node("Div", "x root", "n"), node("Mul", "n scale", "m"), node("Add", "m bias", "y")],
        [node("Div", "mean root", "n"), node("Mul", "n scale", "m"), node("Add", "m bias", "y")],
        [node("Div", "two root", "i"), node("Mul", "d i", "n"), node("Mul", "n scale", "y")],
        [
            node("Reciprocal", "root", "i"), node("Mul", "i scale", "f"), node("Mul", "d f", "m"), node("Mul", "mean f", "k"),
            node("Sub", "bias k", "s"), node("Add", "m s", "y"),
        ],
        [
            node("Reciprocal", "root", "i"), node("Mul", "i scale", "f"), node("Mul", "x f", "m"), node("Mul", "x f", "k"),
            node("Sub", "bias k", "s"), node("Add", "m s", "y"),
        ],
    ],
)  # fmt: skip
def test_what_only_looks_like_a_layer_normalisation(rng, end):
    """Something else is divided, or by something else, or moved by something else."""
    x = (3 * rng.standard_normal((2, 5, 24)) + 1).astype(F32)
    made, _ = written_out(rng, "Mul", end)
    session = InferenceSession(data(made))
    assert "LayerNormalization" not in ops_of(session)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], reference(made, {"x": x})[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "end"), [("two", "no bias"), ("epsilon", "divided"), ("one", "one over"), ("bias", "divided")]
)
def test_what_adds_an_axis_is_no_layer_normalisation(rng, name, end):
    x = (3 * rng.standard_normal((2, 5, 24)) + 1).astype(F32)
    value = {"two": 2, "epsilon": 1e-5, "one": 1, "bias": rng.standard_normal(24)}[name]
    made, _ = written_out(rng, "Pow", ENDS[end], **{name: np.asarray(value, F32).reshape(1, 1, 1, -1)})
    session = InferenceSession(data(made))
    # What is added afterwards does not have to be the bias of one.
    assert ("LayerNormalization" in ops_of(session)) == (name == "bias")
    [got], [wanted] = session.run(None, {"x": x}), reference(made, {"x": x})
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_transpositions_one_after_the_other(rng):
    nodes = [
        node("Transpose", "x", "a", perm=[0, 2, 1, 3]), node("Transpose", "a", "b", perm=[0, 1, 3, 2]),
        node("Transpose", "b", "y", perm=[3, 0, 1, 2]),
    ]  # fmt: skip
    feed = {"x": rng.standard_normal((2, 3, 5, 7)).astype(F32)}
    made = model(nodes, feed, {"y": F32})
    session = InferenceSession(data(made))
    assert ops_of(session) == ["Transpose"]
    assert covered(session) == 3
    np.testing.assert_array_equal(session.run(None, feed)[0], reference(made, feed)[0])


def test_product_written_in_the_order_of_its_transpose(rng):
    nodes = [node("MatMul", "a b", "c"), node("Transpose", "c", "y", perm=[0, 2, 1, 3])]
    feed = {"a": rng.standard_normal((2, 3, 5, 7)).astype(F32), "b": rng.standard_normal((2, 3, 7, 4)).astype(F32)}
    made = model(nodes, feed, {"y": F32})
    session = InferenceSession(data(made))
    assert ops_of(session) == ["MatMulTranspose"]
    [got] = session.run(None, feed)
    np.testing.assert_allclose(got, reference(made, feed)[0], rtol=1e-5, atol=1e-6)
    assert got.flags.c_contiguous


@pytest.mark.parametrize(
    ("residual", "factor", "bias"),
    [
        ((2, 5, 24), (24,), "bias"),
        ((2, 5, 24), None, "-"),
        ((5, 24), (24,), "bias"),
        ((2, 5, 24), (1,), "bias"),
        ((1, 24), None, "bias"),
    ],
)
def test_normalisation_of_a_sum(rng, residual, factor, bias):
    """The sum, and the result times a row for whatever quantises it, at once; what broadcasts step by step."""
    feed = {"x": rng.standard_normal((2, 5, 24)).astype(F32), "r": rng.standard_normal(residual).astype(F32)}
    constants = {"scale": rng.standard_normal(24).astype(F32), "bias": rng.standard_normal(24).astype(F32)}
    nodes = [node("Add", "r x", "sum"), node("LayerNormalization", f"sum scale {bias}", "y", epsilon=1e-3)]
    if factor:
        constants["factor"] = rng.standard_normal(factor).astype(F32)
        nodes.append(node("Mul", "y factor", "z"))
    made = model(nodes, feed, {"y": F32, **({"z": F32} if factor else {})}, constants)
    session = InferenceSession(data(made))
    assert ops_of(session) == ["AddNormalization"]
    for got, want in zip(session.run(None, feed), reference(made, feed), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_sum_that_others_read_stays(rng):
    feed = {"x": rng.standard_normal((2, 8)).astype(F32), "r": rng.standard_normal((2, 8)).astype(F32)}
    nodes = [node("Add", "r x", "sum"), node("LayerNormalization", "sum scale", "y")]
    made = model(nodes, feed, {"y": F32, "sum": F32}, {"scale": np.ones(8, F32)})
    session = InferenceSession(data(made))
    assert ops_of(session) == ["Add", "LayerNormalization"]
    for got, want in zip(session.run(None, feed), reference(made, feed), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def attention_nodes(scale, masked, turned):
    """Scores, their scale and mask or not, softmax, values, and a Transpose or not, as exporters of BERT write them."""
    nodes = [node("MatMul", "q k", "s0" if scale else "s1")]
    if scale:
        nodes.append(node(scale, "s0 number" if scale == "Div" else "number s0", "s1"))
    if masked:
        nodes.append(node("Add", masked, "s2"))
    nodes += [node("Softmax", "s2" if masked else "s1", "p", axis=-1)]
    nodes += [node("MatMul", "p v", "c" if turned else "y")]
    return [*nodes, *([node("Transpose", "c", "y", perm=turned)] if turned else [])]


ATTENTIONS = {
    "bert": ("Div", "s1 mask", [0, 2, 1, 3], (2, 3, 5, 8), (2, 3, 8, 7), (2, 3, 7, 4), (2, 1, 1, 7)),
    "own mask first": ("Mul", "mask s1", None, (2, 3, 5, 8), (2, 3, 8, 7), (2, 3, 7, 4), (5, 7)),
    "no mask": ("Mul", None, [0, 2, 1, 3], (1, 3, 1, 8), (1, 3, 8, 1), (1, 3, 1, 4), ()),
    "no scale": (None, "s1 mask", None, (3, 5, 8), (3, 8, 7), (3, 7, 4), (3, 1, 7)),
    "three dimensions": ("Mul", "s1 mask", [1, 0, 2], (3, 5, 8), (3, 8, 7), (3, 7, 4), (7,)),
    "shared keys": ("Mul", "s1 mask", None, (2, 3, 5, 8), (2, 1, 8, 7), (3, 7, 4), (2, 1, 5, 1)),
    "wide mask": ("Mul", "s1 mask", None, (1, 1, 1, 8), (1, 1, 8, 1), (1, 1, 7, 4), (2, 3, 5, 7)),
    "no keys": ("Mul", "s1 mask", None, (2, 3, 5, 8), (2, 3, 8, 0), (2, 3, 0, 4), (1,)),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention(rng, name):
    scale, masked, turned, *shapes = ATTENTIONS[name]
    *operands, mask = (rng.standard_normal(shape).astype(F32) for shape in shapes)
    mask = np.where(rng.random(mask.shape) < 0.3, np.finfo(F32).min, mask)
    feed = dict(zip("qkv", operands, strict=True)) | ({"mask": mask} if masked else {})
    constants = {"number": F32(3 if scale == "Div" else 0.4)} if scale else {}
    symbols = {key: (F32, [f"{key}{i}" for i in range(x.ndim)]) for key, x in feed.items()}
    made = model(attention_nodes(scale, masked, turned), symbols, {"y": F32}, constants)
    session = InferenceSession(data(made))
    assert ops_of(session) == [*(["MaskToBase2"] if masked else []), "Attention"]
    [got] = session.run(None, feed)
    want = np.zeros(got.shape) if name == "no keys" else reference(made, feed)[0]
    assert got.shape == want.shape
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def headed(shape, joined):
    """Attention of three projections, (batch, length, 3 heads of 8), each brought to `shape` first."""
    constants = {"shape": np.int64(shape), "whole": np.int64(joined), "number": F32(0.3)}
    nodes = [node("Reshape", f"{name}0 shape", f"{name}1") for name in "qkv"]
    nodes += [node("Transpose", f"{name}1", name, perm=[0, 2, *([3, 1] if name == "k" else [1, 3])]) for name in "qkv"]
    nodes += [*attention_nodes("Mul", "s1 mask", [0, 2, 1, 3])[:-1], node("Transpose", "c", "t", perm=[0, 2, 1, 3])]
    shapes = dict.fromkeys(("q0", "k0", "v0"), (F32, ["b", "s", 24])) | {"mask": (F32, ["b", 1, 1, "s"])}
    return model([*nodes, node("Reshape", "t whole", "y")], shapes, {"y": F32}, constants)


@pytest.mark.parametrize(
    ("shape", "joined", "ops"),
    [
        ([0, 0, 3, 8], [0, 0, 24], 2),
        ([0, 0, 3, 8], [0, 0, -1], 2),
        ([0, 0, 3, 8], [2, -1, 24], 3),
        ([0, -1, 3, 8], [0, 0, 24], 9),
        ([0, 0, 3, -1], [0, 0, 24], 9),
    ],
)
def test_attention_of_projections(rng, shape, joined, ops):
    made = headed(shape, joined)
    feed = {name: rng.standard_normal((2, 5, 24)).astype(F32) for name in ("q0", "k0", "v0")}
    feed["mask"] = np.where(rng.random((2, 1, 1, 5)) < 0.3, np.finfo(F32).min, F32(0))
    session = InferenceSession(data(made))
    assert len(ops_of(session)) == ops
    assert covered(session) == len(made.graph.node)
    np.testing.assert_allclose(session.run(None, feed)[0], reference(made, feed)[0], rtol=0, atol=2e-6)


def test_one_mask_for_all_layers(rng):
    """It is brought to the base 2 once."""
    nodes = [each for each in attention_nodes("Mul", "s1 mask", None) if each.op_type != "MatMul"]
    nodes = [node("MatMul", "q k", "s0"), *nodes, node("MatMul", "p v", "u")]
    nodes += [
        node("MatMul", "u k", "t0"),
        node("Add", "mask t0", "t1"),
        node("Softmax", "t1", "r"),
        node("MatMul", "r v", "y"),
    ]
    shapes = {"q": (2, 3, 5, 4), "k": (2, 3, 4, 7), "v": (2, 3, 7, 4), "mask": (2, 1, 1, 7)}
    feed = {name: rng.standard_normal(shape).astype(F32) for name, shape in shapes.items()}
    made = model(nodes, feed, {"y": F32}, {"number": np.asarray(0.3, F32)})
    session = InferenceSession(data(made))
    assert ops_of(session) == ["MaskToBase2", "Attention", "Attention"]
    np.testing.assert_allclose(session.run(None, feed)[0], reference(made, feed)[0], rtol=0, atol=2e-6)


def test_heads_that_do_not_fit_are_an_error_of_the_node(rng):
    session = InferenceSession(data(headed([0, 0, 3, 8], [0, 0, 24])))
    feed = {name: np.zeros((2, 5, 24), F32) for name in ("q0", "k0", "v0")} | {"mask": np.zeros((2, 1, 1, 5), F32)}
    short = feed | {"k0": np.zeros((2, 4, 24), F32), "mask": np.zeros((2, 1, 1, 4), F32)}
    for bad in (short, feed | {"mask": np.zeros((2, 1, 1, 4), F32)}):
        with pytest.raises((NodeError, InputError)):
            session.run(None, bad)


def test_what_is_no_attention(rng):
    """Scores that somebody else reads, a softmax along another axis, a scale that is no constant."""
    q, k, v = (rng.standard_normal(shape).astype(F32) for shape in ((2, 3, 4, 5), (2, 3, 5, 4), (2, 3, 4, 5)))
    feed = {"q": q, "k": k, "v": v}
    plain = attention_nodes("Mul", None, None)
    along = [node("Softmax", "s1", "p", axis=2) if each.op_type == "Softmax" else each for each in plain]
    number = {"number": F32(0.4)}
    for made in (
        model(plain, feed, {"y": F32, "p": F32}, number),
        model(along, feed, {"y": F32}, number),
        model(plain, feed | {"number": np.ones((2, 1, 4, 4), F32)}, {"y": F32}),
    ):
        inputs = feed if len(made.graph.input) == 3 else feed | {"number": np.ones((2, 1, 4, 4), F32)}
        session = InferenceSession(data(made))
        assert "Attention" not in ops_of(session)
        for got, want in zip(session.run(None, inputs), reference(made, inputs), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)
