"""LSTM as nearly every model has it, which is walked in few calls, against the step by step one and onnxruntime."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from support.onnx_graphs import data, model, node

from pyint8dot.onnx import InferenceSession, ModelError, NodeError

F32, HIDDEN, INPUTS = np.float32, 5, 6


def lstm(rng, direction, *, batch, steps=7, lengths=(), states=(), dtype=F32):
    """Return operands by name."""
    count = 2 if direction == "bidirectional" else 1
    return {
        "x": rng.standard_normal((steps, batch, INPUTS)).astype(dtype),
        "w": rng.standard_normal((count, 4 * HIDDEN, INPUTS)).astype(dtype),
        "r": rng.standard_normal((count, 4 * HIDDEN, HIDDEN)).astype(dtype),
        "b": rng.standard_normal((count, 8 * HIDDEN)).astype(dtype),
        **({"n": np.array(lengths, np.int32)} if lengths else {}),
        **{name: rng.standard_normal((count, batch, HIDDEN)).astype(dtype) for name in states},
    }


def run(operands, direction, fed, *, peepholes=False, empty=False, by=None, **attributes):
    """Run one LSTM, some of its operands fed and the others constants of the model."""
    names = [name if name in operands else "-" for name in ("x", "w", "r", "b", "n", "h0", "c0")]
    if peepholes:
        # Of no effect, but no longer the plain cell.
        operands = {**operands, "p": np.zeros((len(operands["r"]), 3 * HIDDEN), operands["x"].dtype)}
        names.append("p")
    if empty:
        names.append("-")
    kind = operands["x"].dtype
    feed = {name: operands[name] for name in fed}
    constants = {name: value for name, value in operands.items() if name not in fed}
    nodes = [node("LSTM", " ".join(names), "y h c", hidden_size=HIDDEN, direction=direction, **attributes)]
    made = model(nodes, feed, {name: (kind, [None] * d) for name, d in (("y", 4), ("h", 3), ("c", 3))}, constants)
    session = InferenceSession(data(made)) if by is None else by(data(made), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


CASES = [
    ("forward", 1, (), ()),
    ("reverse", 3, (7, 2, 5), ("h0", "c0")),
    ("bidirectional", 1, (), ("c0",)),
    ("bidirectional", 2, (4, 6), ("h0",)),
    ("bidirectional", 2, (7, 7), ()),
]


@pytest.mark.parametrize(("direction", "batch", "lengths", "states"), CASES)
def test_plain_lstm_is_the_one_with_peepholes_of_zero(rng, direction, batch, lengths, states):
    for dtype in (F32, np.float64):
        operands = lstm(rng, direction, batch=batch, lengths=lengths, states=states, dtype=dtype)
        before = {name: value.copy() for name, value in operands.items()}
        got = run(operands, direction, {"x", *states})
        wanted = run(operands, direction, {"x"}, peepholes=True)
        fed = run(operands, direction, set(operands))
        for one, other, third in zip(got, wanted, fed, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(one, third)
        for name, value in before.items():
            np.testing.assert_array_equal(operands[name], value)


def test_peepholes_may_be_left_out_by_an_empty_name(rng):
    operands = lstm(rng, "forward", batch=2)
    for one, other in zip(run(operands, "forward", {"x"}), run(operands, "forward", {"x"}, empty=True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_steps_leave_the_states(rng):
    operands = lstm(rng, "bidirectional", batch=2, steps=0, states=("h0", "c0"))
    y, h, c = run(operands, "bidirectional", {"x"})
    assert y.shape == (0, 2, 2, HIDDEN)
    np.testing.assert_array_equal(h, operands["h0"])
    np.testing.assert_array_equal(c, operands["c0"])


@pytest.mark.parametrize("fed", [{"x"}, {"x", "w", "r"}])
def test_weights_of_another_shape_are_refused(rng, fed):
    operands = lstm(rng, "bidirectional", batch=2)
    for name, value in {"w": operands["w"][:1], "r": operands["r"][:, :1], "b": operands["b"][:, :3]}.items():
        with pytest.raises((ModelError, NodeError)):
            run({**operands, name: value}, "bidirectional", fed)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_half_precision_keeps_to_lengths_and_bounds(rng, op):
    """As float32 has it, but for the rounding; without steps too."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    for steps in (0, 1, 5):
        shapes = {"x": (steps, 2, 3), "w": (2, 5 * gates, 3), "r": (2, 5 * gates, 5), "b": (2, 10 * gates)}
        operands = {name: rng.uniform(-1, 1, shape) for name, shape in shapes.items()}
        results = []
        for kind in (F32, np.float16):
            typed = {name: value.astype(kind) for name, value in operands.items()}
            feed = {"x": typed.pop("x"), "n": np.minimum([3, steps], steps).astype(np.int32)}
            nodes = [node(op, "x w r b n", "y h", hidden_size=5, direction="bidirectional", clip=0.5)]
            outputs = {"y": (kind, [None] * 4), "h": (kind, [None] * 3)}
            results.append(InferenceSession(data(model(nodes, feed, outputs, typed))).run(None, feed))
        for one, other in zip(*results, strict=True):
            assert other.dtype == np.float16
            np.testing.assert_allclose(one, other, rtol=0, atol=5e-3)


ACTIVATIONS = {
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "Elu": lambda x, alpha, _: x if x >= 0 else alpha * (math.exp(x) - 1),
    "HardSigmoid": lambda x, alpha, beta: max(0, min(1, alpha * x + beta)),
    "LeakyRelu": lambda x, alpha, _: x if x >= 0 else alpha * x,
    "Relu": lambda x, *_: max(0, x),
    "ScaledTanh": lambda x, alpha, beta: alpha * math.tanh(beta * x),
    "Sigmoid": lambda x, *_: 1 / (1 + math.exp(-x)),
    "Softplus": lambda x, *_: math.log(1 + math.exp(x)),
    "Softsign": lambda x, *_: x / (1 + abs(x)),
    "Tanh": lambda x, *_: math.tanh(x),
    "ThresholdedRelu": lambda x, alpha, _: x if x >= alpha else 0,
}
# What takes no alpha and no beta leaves them for the next.
TAKERS = {"alpha": {"Affine", "Elu", "HardSigmoid", "LeakyRelu", "ScaledTanh", "ThresholdedRelu"}}
TAKERS["beta"] = {"Affine", "HardSigmoid", "ScaledTanh"}


def recurrent(op, operands, by=InferenceSession, **attributes):
    """Run a net whose x, y and y_h are of float32, its weights constants."""
    constants = {name: value for name, value in operands.items() if name != "x"}
    made = model(
        [node(op, "x w r", "y h", **attributes)],
        {"x": operands["x"]},
        {"y": (F32, [None] * 4), "h": (F32, [None] * 3)},
        constants,
    )
    return by(data(made), providers=["CPUExecutionProvider"]).run(None, {"x": operands["x"]})


@pytest.mark.parametrize("second", ACTIVATIONS)
@pytest.mark.parametrize("first", ["Tanh", "hardsigmoid", "LeakyRelu"])
def test_every_activation_by_hand(rng, first, second):
    """The functions of both directions have alphas and betas in turn, whichever takes one."""
    names = [first, second]
    takes = {which: [name.lower() in {t.lower() for t in TAKERS[which]} for name in names] for which in TAKERS}
    values = {which: [float(x) for x in F32(rng.uniform(0.1, 0.9, sum(takes[which])))] for which in TAKERS}
    x, w = F32(rng.uniform(-2, 2, (1, 4, 1))), F32(rng.uniform(0.5, 1, (2, 1, 1)))
    given = {f"activation_{which}": numbers for which, numbers in values.items() if numbers}
    operands = {"x": x, "w": w, "r": np.ones((2, 1, 1), F32)}
    y, _ = recurrent("RNN", operands, direction="bidirectional", hidden_size=1, activations=names, **given)
    for d, name in enumerate(names):
        alpha, beta = (values[which].pop(0) if takes[which][d] else 0 for which in ("alpha", "beta"))
        function = {key.lower(): value for key, value in ACTIVATIONS.items()}[name.lower()]
        wanted = [function(float(w[d, 0, 0] * each), alpha, beta) for each in x[0, :, 0]]
        np.testing.assert_allclose(y[0, d, :, 0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Sigmoid", "Elou", "Tanh"], "got Elou"),
        (["Sigmoid", "Tanh"], "must be 3 names"),
        (["Sigmoid", "Affine", "Tanh"], "activation_alpha must have a value for Affine"),
    ],
)
def test_activations_that_are_not_there_are_refused(rng, names, message):
    with pytest.raises(ModelError, match=message):
        run(lstm(rng, "forward", batch=1), "forward", {"x"}, activations=names)


@pytest.mark.static
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_other_activations_against_onnxruntime(rng, op):
    """As converters write Keras's hard_sigmoid, with alphas of their own and without."""
    from onnxruntime import InferenceSession as Theirs

    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    shapes = {"x": (5, 2, 3), "w": (2, 4 * gates, 3), "r": (2, 4 * gates, 4)}
    operands = {name: F32(rng.uniform(-1, 1, shape)) for name, shape in shapes.items()}
    names = {"LSTM": ["HardSigmoid", "Elu", "Softsign"], "GRU": ["HardSigmoid", "LeakyRelu"], "RNN": ["ScaledTanh"]}[op]
    own = {"activation_alpha": [0.25, 0.75], "activation_beta": [0.4, 0.6]}
    for attributes in [own] if op == "RNN" else [own, {}]:
        options = {"hidden_size": 4, "direction": "bidirectional", "activations": names * 2, **attributes}
        got, wanted = (recurrent(op, operands, by, **options) for by in (InferenceSession, Theirs))
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize(("direction", "batch", "lengths", "states"), CASES)
def test_plain_quantised_lstm_is_the_one_with_peepholes_of_zero(
    rng, direction, batch, lengths, states, by_column, layout
):
    count, hidden, steps = 2 if direction == "bidirectional" else 1, 8, 7
    wide = (count, 4 * hidden) if by_column else (count,)
    constants = {
        "w": rng.integers(0, 256, (count, INPUTS, 4 * hidden)).astype(np.uint8),
        "r": rng.integers(0, 256, (count, hidden, 4 * hidden)).astype(np.uint8),
        **({"b": rng.standard_normal((count, 8 * hidden)).astype(F32)} if batch > 1 else {}),
        **{name: rng.uniform(0.003, 0.006, wide).astype(F32) for name in ("sw", "sr")},
        **{name: rng.integers(100, 150, wide).astype(np.uint8) for name in ("zw", "zr")},
    }
    operands = {
        "x": rng.standard_normal((steps, batch, INPUTS)).astype(F32),
        **{name: rng.standard_normal((count, batch, hidden)).astype(F32) for name in states},
    }
    feed = {name: np.ascontiguousarray(value.swapaxes(0, 1)) if layout else value for name, value in operands.items()}
    if lengths:
        feed["n"] = np.array(lengths, np.int32)
    results = []
    for peepholes in ({}, {"p": np.zeros((count, 3 * hidden), F32)}):
        has = {*constants, *feed, *peepholes}
        names = " ".join(name if name in has else "-" for name in ("x", "w", "r", "b", "n", "h0", "c0", "p"))
        attributes = {"hidden_size": hidden, "direction": direction, "layout": layout, "domain": "com.microsoft"}
        nodes = [node("DynamicQuantizeLSTM", f"{names} sw zw sr zr", "y h c", **attributes)]
        made = model(
            nodes,
            feed,
            {name: (F32, [None] * d) for name, d in (("y", 4), ("h", 3), ("c", 3))},
            {**constants, **peepholes},
        )
        results.append(InferenceSession(data(made)).run(None, feed))
    for one, other in zip(*results, strict=True):
        # A state that lies half between two codes may fall to the other side.
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=5e-3)


@pytest.mark.parametrize("hidden", [5, 8])
@pytest.mark.parametrize("lengths", [[0, 0], [2, 4], [5, 1]])
def test_what_lies_behind_all_rows_is_not_quantised(rng, hidden, lengths):
    constants = {
        "w": rng.integers(0, 256, (2, INPUTS, 4 * hidden)).astype(np.uint8),
        "r": rng.integers(0, 256, (2, hidden, 4 * hidden)).astype(np.uint8),
        **{name: F32([0.004, 0.005]) for name in ("sw", "sr")},
        **{name: np.uint8([120, 130]) for name in ("zw", "zr")},
    }
    feed = {"x": rng.standard_normal((7, 2, INPUTS)).astype(F32), "n": np.int32(lengths)}
    attributes = {"hidden_size": hidden, "direction": "bidirectional", "domain": "com.microsoft"}
    nodes = [node("DynamicQuantizeLSTM", "x w r - n - - - sw zw sr zr", "y h c", **attributes)]
    made = model(nodes, feed, {name: (F32, [None] * d) for name, d in (("y", 4), ("h", 3), ("c", 3))}, constants)
    session = InferenceSession(data(made))
    wanted = session.run(None, feed)
    assert not wanted[0][max(lengths) :].any()
    feed["x"][max(lengths) :] = 1e6
    for one, other in zip(session.run(None, feed), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.static
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
@pytest.mark.parametrize(("direction", "batch", "lengths", "states"), CASES)
def test_against_onnxruntime(rng, direction, batch, lengths, states):
    from onnxruntime import InferenceSession as Theirs

    operands = lstm(rng, direction, batch=batch, lengths=lengths, states=states)
    for attributes in ({}, {"clip": 0.75}, {"input_forget": 1}):
        for peepholes in (False, True):
            options = {**attributes, "peepholes": peepholes}
            got, wanted = (run(operands, direction, {"x"}, by=by, **options) for by in (None, Theirs))
            for one, other in zip(got, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
