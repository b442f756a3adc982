"""What is recorded as one segment, and what is looked at before it runs again, since tensors may lie elsewhere by then."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import model, node
from support.recorded import apart, same, segments

from pyint8dot.engine import library, tape, threads
from pyint8dot.onnx.segment import _Buffer, arranged

pytestmark = pytest.mark.native

F32 = np.float32


def test_a_piece_may_lie_elsewhere_the_next_time(rng):
    """A tensor and a piece of it go into one segment, and which piece it is depends on a value."""
    nodes = [
        node("Slice", "x start end", "piece"),
        node("QuantizeLinear", "x s z", "codes"),
        node("QuantizeLinear", "piece s z", "some"),
    ]
    feed = {"x": rng.standard_normal((8, 16)).astype(F32), "start": np.int64([0]), "end": np.int64([4])}
    constants = {"s": F32(0.1), "z": np.int8(0)}
    recorded, plain = apart(model(nodes, feed, {"codes": np.int8, "some": np.int8}, constants))
    for at in (0, 0, 0, 2, 4, 1):
        feed |= {"start": np.int64([at]), "end": np.int64([at + 4])}
        same(recorded.run(None, feed), plain.run(None, feed))
    assert segments(recorded)


def test_a_piece_of_a_constant_may_lie_elsewhere_the_next_time(rng):
    nodes = [
        node("Slice", "g start end", "piece"),
        node("LayerNormalization", "x piece", "y"),
        node("LayerNormalization", "wide g", "z"),
    ]
    feed = {"x": rng.standard_normal((4, 16)).astype(F32), "wide": rng.standard_normal((4, 32)).astype(F32)}
    feed |= {"start": np.int64([0]), "end": np.int64([16])}
    recorded, plain = apart(model(nodes, feed, {"y": F32, "z": F32}, {"g": rng.standard_normal(32).astype(F32)}))
    for at in (0, 0, 0, 2, 16, 1):
        feed |= {"start": np.int64([at]), "end": np.int64([at + 16])}
        same(recorded.run(None, feed), plain.run(None, feed))
    assert segments(recorded)


def test_a_mask_is_looked_at_again(rng):
    """A recording in which the mask hides nothing does not serve where it does."""
    nodes = [
        node("Transpose", "k", "turned", perm=[0, 1, 3, 2]), node("MatMul", "q turned", "s"), node("Mul", "s factor", "t"), node("Add", "t mask", "m"), node("Softmax", "m", "p", axis=-1),
        node("MatMul", "p v", "y"),
    ]  # fmt: skip
    shape = [1, 2, 5, 8]
    inputs = {"q": (F32, shape), "k": (F32, shape), "v": (F32, shape), "mask": (F32, [1, 1, 1, 5])}
    session, plain = apart(model(nodes, inputs, {"y": F32}, {"factor": np.asarray(0.3, F32)}))
    assert [step.node.op for step in plain.steps] == ["MaskToBase2", "Transpose", "Attention"]
    feed = {name: rng.standard_normal(size).astype(F32) for name, (_, size) in inputs.items()}
    nothing = np.zeros((1, 1, 1, 5), F32)
    some = nothing.copy()
    some[..., 3:] = -1e4
    for mask in (nothing, nothing, nothing, some, nothing, some):
        feed["mask"] = mask
        same(session.run(None, feed), plain.run(None, feed))
    assert segments(session)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("shape", [(6, 3, 8), (8,), (6, 1, 8), (6, 1, 1), ()], ids=str)
def test_sums_and_products_of_codes(rng, op, shape):
    """Codes with codes of every shape, those too that are repeated, in one segment or beside it."""
    nodes = [
        node("QuantizeLinear", "x s z", "qx"), node("DequantizeLinear", "qx s z", "dx"),
        node("QuantizeLinear", "y t u", "qy"), node("DequantizeLinear", "qy t u", "dy"),
        node(op, "dx dy", "sum"), node("QuantizeLinear", "sum v w", "qs"), node("DequantizeLinear", "qs v w", "r"),
    ]  # fmt: skip
    constants = {
        "s": F32(0.02), "z": np.int8(3), "t": F32(0.03), "u": np.int8(-4), "v": F32(0.05), "w": np.int8(1),
    }  # fmt: skip
    constants = {name: np.asarray(value) for name, value in constants.items()}
    for x, y in (((6, 3, 8), shape), ((1, 8), (6, 1))):
        made = model(nodes, {"x": (F32, list(x)), "y": (F32, list(y))}, {"r": F32}, constants)
        session, plain = apart(made)
        for _ in range(4):
            feed = {"x": rng.standard_normal(x).astype(F32), "y": np.asarray(rng.standard_normal(y), F32)}
            same(session.run(None, feed), plain.run(None, feed))
        # All that has the shape of one of them is native.
        whole = any(stage.steps == range(len(session.steps)) for stage in segments(session))
        assert whole == (len(x) == 3)


@pytest.mark.parametrize("lead", [(), (2, 3)], ids=str)
@pytest.mark.parametrize(("m", "n"), [(5, 7), (40, 1), (300, 1)])
def test_products_of_two_tensors(rng, native_kernel, m, n, lead):
    """Both operands come with each run, and the right one is packed anew whichever way it goes."""
    k, rank = 12, len(lead)
    nodes = [
        node("QuantizeLinear", "x s z", "a"), node("QuantizeLinear", "y s z", "b"),
        node("Transpose", "b", "t", perm=[*range(rank), rank + 1, rank]),
        node("QLinearMatMul", "a s z t s z v z", "q"), node("DequantizeLinear", "q v z", "r"),
    ]  # fmt: skip
    constants = {"s": np.asarray(0.02, F32), "z": np.asarray(3, np.int8), "v": np.asarray(0.05, F32)}
    made = model(nodes, {"x": (F32, [*lead, m, k]), "y": (F32, [*lead, n, k])}, {"r": F32}, constants)
    session, plain = apart(made, kernel=native_kernel)
    for _ in range(4):
        feed = {name: rng.standard_normal((*lead, rows, k)).astype(F32) for name, rows in (("x", m), ("y", n))}
        same(session.run(None, feed), plain.run(None, feed))
    assert segments(session)
    if (m, n) == (5, 7):
        assert [stage.steps for stage in segments(session)] == [range(5)]


@pytest.mark.parametrize("wide", [False, True])
def test_normalised_codes(rng, wide):
    """Layer normalisation between codes is one segment, over the last axis; over two it is numpy's."""
    nodes = [
        node("QuantizeLinear", "x s z", "qx"), node("DequantizeLinear", "qx s z", "dx"),
        node("LayerNormalization", "dx gain shift", "n", axis=1 if wide else 2),
        node("QuantizeLinear", "n s z", "qn"), node("DequantizeLinear", "qn s z", "r"),
    ]  # fmt: skip
    own = (3, 8) if wide else (8,)
    constants = {
        "s": np.asarray(0.02, F32), "z": np.asarray(3, np.int8), "gain": rng.standard_normal(own).astype(F32),
        "shift": rng.standard_normal(own).astype(F32),
    }  # fmt: skip
    session, plain = apart(model(nodes, {"x": (F32, [2, 3, 8])}, {"r": F32}, constants))
    for _ in range(4):
        feed = {"x": rng.standard_normal((2, 3, 8)).astype(F32)}
        same(session.run(None, feed), plain.run(None, feed))
    assert len(session.steps) == 3
    assert [stage.steps for stage in segments(session)] == ([range(1), range(2, 3)] if wide else [range(3)])


def test_places_in_an_arena():
    """Those alive at the same time lie apart, and the arena is no larger than they need."""
    found = [_Buffer(0, 100, 0, 1), _Buffer(0, 200, 1, 2), _Buffer(0, 100, 2, 3), _Buffer(0, 60, 0, 3)]
    most = arranged(found)
    for i, one in enumerate(found):
        assert one.offset % 64 == 0
        assert one.offset + one.high <= most
        for other in found[:i]:
            alive = one.first <= other.last and other.first <= one.last
            assert not alive or one.offset >= other.offset + other.high or other.offset >= one.offset + one.high
    assert most <= 256 + 128 + 64


def test_a_tape_knows_what_is_gone():
    source, target = np.ones(3), np.empty(3)
    with tape.recording() as log:
        tape.touch((source,), (target,))
        tape.touch((target[1:],), ())
        assert log.cut().sound
        tape.touch((source + 1,), ())
        assert not log.cut().sound
        threads.run([lambda: None, lambda: None])
        assert not log.cut().sound
        tape.note([tape.place(source), 0], None, 0)
        assert log.cut().calls[0].words == (library.address(source), 0)
    assert not tape.TAPES
