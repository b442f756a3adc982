"""Runs that are recorded give what runs node by node give, whatever has changed between them."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx.version_converter
import pytest
from models import nets
from support.onnx_graphs import OPSET, data, model, node
from support.recorded import apart, same, segments

from pyint8dot.engine import settings, threads
from pyint8dot.onnx import InferenceSession, ModelError, NodeError, RunOptions, executor
from pyint8dot.onnx.zoo import quantizer

pytestmark = pytest.mark.native

F32 = np.float32


def observed(float_model, feed):
    """The range of every tensor."""
    copy = onnx.shape_inference.infer_shapes(float_model)
    last = {output.name for output in copy.graph.output}
    copy.graph.output.extend(value for value in copy.graph.value_info if value.name not in last)
    names = [output.name for output in copy.graph.output]
    values = {**feed, **dict(zip(names, InferenceSession(data(copy)).run(names, feed), strict=True))}
    return {name: (min(0.0, float(v.min())), max(0.0, float(v.max()))) for name, v in values.items() if v.dtype == F32}


def forms(family):
    """A family's net in each form that is made without other tools."""
    made, feed = onnx.version_converter.convert_version(family.build(1), OPSET), family.feed(1, 0)
    yield "dynamic", quantizer.dynamic(made, per_channel=True)
    if family.name in ("resnet", "mobilenet", "detector"):
        for form in ("QOperator", "QDQ"):
            yield form, quantizer.static(made, observed(made, feed), act_dtype=np.uint8, form=form)


@pytest.mark.parametrize("family", nets.FAMILIES, ids=lambda family: family.name)
def test_nets(family):
    for form, made in forms(family):
        session, plain = apart(made)
        for seed in (1, 1, 1, 2, 3):
            feed = family.feed(1, seed)
            same(session.run(None, feed), plain.run(None, feed))
        assert segments(session), form


def dynamic(rng, k=24, n=40):
    """Two dynamically quantised layers with a view, a normalisation and something numpy does between them."""
    nodes = []
    for i in range(2):
        x = "x" if i == 0 else "h"
        nodes += [
            node("DynamicQuantizeLinear", x, f"q{i} s{i} z{i}"), node("MatMulInteger", f"q{i} w{i} z{i}", f"a{i}"),
            node("Cast", f"a{i}", f"f{i}", to=1), node("Mul", f"s{i} u{i}", f"m{i}"), node("Mul", f"f{i} m{i}", f"p{i}"),
            node("Add", f"p{i} b{i}", f"y{i}"),
        ]  # fmt: skip
        if i == 0:
            nodes += [
                node("Reshape", "y0 flat", "v"), node("Reshape", "v wide", "r"),
                node("LayerNormalization", "r gain shift", "h"), node("Mul", "h h", "e"),
            ]  # fmt: skip
    nodes.append(node("LayerNormalization", "y1 gain1 shift1", "y"))
    constants = {"flat": np.int64([-1]), "wide": np.int64([-1, n]), "gain": np.ones(n, F32), "shift": np.zeros(n, F32)}
    constants |= {"gain1": np.full(k, 2, F32), "shift1": np.ones(k, F32)}
    for i, (inner, outer) in enumerate(((k, n), (n, k))):
        constants |= {
            f"w{i}": rng.integers(-127, 128, (inner, outer), np.int8), f"u{i}": np.asarray(0.01, F32),
            f"b{i}": rng.standard_normal(outer).astype(F32),
        }  # fmt: skip
    return model(nodes, {"x": (F32, ["rows", k])}, {"y": F32, "e": F32}, constants)


def test_shapes_that_alternate(rng, native_kernel):
    session, plain = apart(dynamic(rng), kernel=native_kernel)
    for rows in (5, 5, 5, 300, 5, 300, 1, 5, 300, 1, 1, 300, 0, 0, 0, 5):
        feed = {"x": rng.standard_normal((rows, 24)).astype(F32)}
        found, wanted = session.run(None, feed), plain.run(None, feed)
        same(found, wanted)
        # What the caller does to what is the caller's shows nowhere.
        for array in (*found, feed["x"]):
            array[...] = 7
    assert len(segments(session)) >= 1


def test_results_and_inputs_are_the_callers(rng):
    session, plain = apart(dynamic(rng))
    feed = {"x": rng.standard_normal((6, 24)).astype(F32)}
    kept = [session.run(None, feed) for _ in range(5)]
    for found in kept:
        same(found, plain.run(None, feed))
    flat = [array for found in kept for array in found]
    assert all(array.flags.owndata and array.flags.writeable for array in flat)
    assert not any(np.may_share_memory(a, b) for i, a in enumerate(flat) for b in flat[:i])
    # Neither a feed nor a result is kept alive.
    gone = [weakref.ref(array) for array in (*flat, feed["x"])]
    del feed, kept, flat, found
    gc.collect()
    assert all(each() is None for each in gone)


def test_inputs_that_lie_otherwise(rng):
    """Strided, reversed, read-only and one array for two inputs: after a recording of plain ones."""
    nodes = [node("DynamicQuantizeLinear", "x", "a s z"), node("DynamicQuantizeLinear", "y", "b t u")]
    made = model(
        nodes, {"x": (F32, [4, 6]), "y": (F32, [4, 6])}, {"a": np.uint8, "s": F32, "b": np.uint8, "u": np.uint8}
    )
    session, plain = apart(made)
    wide = rng.standard_normal((8, 12)).astype(F32)
    x, y = wide[:4, :6].copy(), wide[4:, 6:].copy()
    one = {"x": x, "y": x}
    for feed in (
        one, one, {"x": x, "y": y}, {"x": x, "y": y}, one, {"x": wide[::2, ::2], "y": y}, {"x": wide[::-2, ::-2], "y": x[::-1]},
        {"x": y, "y": x},
    ):  # fmt: skip
        same(session.run(None, feed), plain.run(None, feed))
    assert segments(session)


def told(session, feed):
    """What a run gives, or why it gives nothing."""
    try:
        return [each.tolist() for each in session.run(None, feed)]
    except ModelError as error:
        return str(error)


def test_the_bound_on_memory_holds_behind_results_of_any_size(rng):
    """A result whose size is a value's leaves less for the segment behind it than it did when that was recorded."""
    norms = [node("LayerNormalization", f"{x} g s", y) for x, y in (("x", "h"), ("h", "i"), ("i", "j"))]
    nodes = [
        node("Expand", "x shape", "e"),
        node("ReduceMax", "e axes", "m", keepdims=0),
        *norms,
        node("Add", "j m", "y"),
    ]
    x = rng.standard_normal((5, 16)).astype(F32)
    constants = {"g": np.ones(16, F32), "s": np.zeros(16, F32), "axes": np.int64([0])}
    made = model(nodes, {"x": x, "shape": (np.int64, [3])}, {"y": F32, "e": F32}, constants)
    recorded, plain = apart(made, max_bytes=16 * x.nbytes)
    for count in (3, 3, 3, 8, 12, 13, 14, 15, 16, 17, 3):
        feed = {"x": x, "shape": np.int64([count, 5, 16])}
        assert told(recorded, feed) == told(plain, feed)
    assert segments(recorded)


def test_a_copy_of_a_session_has_memory_of_its_own():
    family = nets.FAMILIES[0]
    session, feed = InferenceSession(data(quantizer.dynamic(family.build(1), per_channel=True))), family.feed(1, 0)
    for _ in range(4):
        copied = copy.deepcopy(session)
        for _ in range(3):
            same(copied.run(None, feed), session.run(None, feed))
        assert segments(copied)
        assert not set(segments(copied)) & set(segments(session))
        assert copied._executor is not session._executor


def test_values_that_cannot_be_worked_on(rng):
    session, plain = apart(dynamic(rng))
    good = {"x": rng.standard_normal((3, 24)).astype(F32)}
    bad = {"x": good["x"].copy()}
    bad["x"][1, 1] = np.inf
    for feed in (good, good, good):
        session.run(None, feed)
    assert segments(session)
    words = []
    for each in (plain, session, session):
        with pytest.raises(NodeError) as raised:
            each.run(None, bad)
        words.append(str(raised.value))
    assert len(set(words)) == 1
    same(session.run(None, good), plain.run(None, good))


def test_threads_that_run_at_once(rng):
    session, plain = apart(dynamic(rng, 64, 96))
    feeds = [{"x": rng.standard_normal((rows, 64)).astype(F32)} for rows in (3, 3, 40, 40, 3, 40)]
    wanted = [plain.run(None, feed) for feed in feeds]
    start = threading.Barrier(4)

    def work(first):
        start.wait()
        for i in range(24):
            number = (first + i) % len(feeds)
            same(session.run(None, feeds[number]), wanted[number])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, i) for i in range(4)]:
            done.result()
    assert len(session._executor._arenas) <= 4
    assert segments(session)


def test_who_watches_sees_every_node(rng):
    session, _ = apart(dynamic(rng))
    feed = {"x": rng.standard_normal((3, 24)).astype(F32)}
    for _ in range(3):
        wanted = session.run(None, feed)
    with settings.tally() as counted:
        session.run(None, feed)
    assert sum(counted.macs.values()) == 2 * 3 * 24 * 40
    options = RunOptions()
    options.terminate = True
    with pytest.raises(NodeError, match="terminate"):
        session.run(None, feed, options)
    with threads.num_threads(2):
        same(session.run(None, feed), wanted)
    # Functions that others have put in the place of those that were recorded are called.
    called = []
    for step in session.steps:
        step.function = lambda *given, function=step.function: called.append(1) or function(*given)
    same(session.run(None, feed), wanted)
    assert len(called) == len(session.steps)


def test_the_report_has_the_time_of_every_node(rng):
    session, _ = apart(dynamic(rng))
    feed = {"x": rng.standard_normal((50, 24)).astype(F32)}
    for _ in range(2):
        session.run(None, feed)
    session.reset_report()
    for _ in range(3):
        session.run(None, feed)
    report = session.report()
    assert report.runs == 3
    assert all(row.seconds > 0 for row in report.rows if row.by != "numpy")
    session.reset_report()
    assert session.report().seconds == 0


def test_few_roads_are_kept(rng):
    session, plain = apart(dynamic(rng))
    for rows in (*range(1, executor.MOST_ROADS + 4), 1, 1, 1):
        feed = {"x": rng.standard_normal((rows, 24)).astype(F32)}
        same(session.run(None, feed), plain.run(None, feed))
    assert len(session._executor._roads) <= executor.MOST_ROADS


def test_large_runs_are_not_recorded(rng, monkeypatch):
    monkeypatch.setattr(executor, "MOST_BYTES", 100)
    session, plain = apart(dynamic(rng))
    feed = {"x": rng.standard_normal((3, 24)).astype(F32)}
    for _ in range(3):
        same(session.run(None, feed), plain.run(None, feed))
    assert not segments(session)


def test_what_is_not_all_native_is_not_recorded(rng):
    """A product whose sums numpy turns into floats, and one of values that numpy has made for the call."""
    session, plain = apart(dynamic(rng))
    products = [step for step in session._program.steps if step.node.op == "MatMulFloat"]
    first, second = (step.function for step in products)
    products[0].function = lambda *given: first(*given) + F32(0)
    products[1].function = lambda x, *given: second(x + F32(0), *given)
    feed = {"x": rng.standard_normal((3, 24)).astype(F32)}
    for _ in range(4):
        same(session.run(None, feed), plain.run(None, feed))
    steps = [index for segment in segments(session) for index in segment.steps]
    assert not {session._program.steps.index(step) for step in products} & set(steps)
    assert steps


def test_the_environment_turns_it_off(rng, monkeypatch):
    monkeypatch.setenv(executor.EXECUTOR_VARIABLE, "0")
    session = InferenceSession(data(dynamic(rng)))
    for _ in range(3):
        session.run(None, {"x": np.ones((3, 24), F32)})
    assert session._seen[1].stages is None
