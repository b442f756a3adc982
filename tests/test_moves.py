"""Native copies of arrays that lie otherwise, and the operators that have them on a tape."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.onnx_graphs import model, node
from support.recorded import apart, same, segments

from pyint8dot.engine import library, moves, tape

pytestmark = pytest.mark.native

F32, U8 = np.float32, np.uint8


def views(rng, dtype):
    """Arrays of two to five dimensions as transposing, cutting and repeating steps leave them."""
    x = rng.integers(0, 256, (2, 3, 4, 5, 24), U8).astype(dtype)
    for perm in itertools.permutations(range(4)):
        yield x.transpose(*perm, 4)
    for step in (1, 2, 3):
        yield x[:, ::2, 1:, :, ::step]
    yield from (x[0, 0].T, x[:, :, None, 1], x[0, 0, 0, 0], x[:1, :, :1], x[..., 3:4])


@pytest.mark.parametrize("dtype", [U8, F32, np.int64], ids=lambda kind: kind.__name__)
def test_copies(rng, dtype):
    """What a tape has of each view is a program, or numpy has copied it and none of it is there."""
    native = 0
    for x in views(rng, dtype):
        with tape.recording() as log:
            y = moves.contiguous(x)
            part = log.cut()
        assert y.flags.c_contiguous
        np.testing.assert_array_equal(y, x)
        assert len(part.calls) == (not x.flags.c_contiguous and any(array is y for array in part.written))
        native += len(part.calls)
        assert moves.contiguous(x).strides == y.strides
    assert native > 20


def test_what_numpy_copies(rng, monkeypatch):
    """Short rows of more than bytes, what runs backwards, too many pieces, objects, and all where there is no library."""
    wide = rng.standard_normal((8, 3)).astype(F32)
    many = rng.integers(0, 256, (9, 2, 9, 2, 3, 2, 4), U8)[:, :1, :, :1, :, :1, :3]
    monkeypatch.setattr(moves, "MOST_COPIES", 8)
    words = np.array([["a"] * 20] * 3, object)[:, :17]
    for x in (wide.T, wide[::-1], many, many[0, :, :, 0, 0, 0, ::-1], words):
        with tape.recording() as log:
            np.testing.assert_array_equal(moves.contiguous(x), x)
            assert not log.cut().calls
    moves._written.cache_clear()
    monkeypatch.setattr(library, "status", lambda: "there is none")
    with tape.recording() as log:
        moves.contiguous(rng.integers(0, 256, (8, 20), U8)[:, :17])
        assert not log.cut().calls
    moves._written.cache_clear()


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_joined(rng, axis):
    parts = [rng.integers(0, 256, (3, 4, 20), U8) for _ in range(2)]
    parts += [np.swapaxes(rng.integers(0, 256, (4, 3, 20), U8), 0, 1), rng.integers(0, 256, (3, 4, 40), U8)[..., ::2]]
    for some in (parts, parts[:1], [part.astype(F32) for part in parts[:3]]):
        with tape.recording():
            found = moves.joined(some, axis)
        assert found is not None
        np.testing.assert_array_equal(found, np.concatenate(some, axis))


def test_what_is_not_joined(rng):
    """Types or shapes that differ, nothing at all, and what no program copies."""
    x = rng.integers(0, 256, (2, 20), U8)
    for parts in ([x, x.view(np.int8)], [x, x[:, :19]], [x, x[:0]], [x, x[None]], [x, x[:, ::-1]]):
        assert moves.joined(parts, 0) is None


def shuffled(channels, groups, side):
    """Codes whose channels are shuffled, joined and cut, with a look-up around each, which is native."""
    nodes = [node("QuantizeLinear", "x s z", "a")]
    nodes += [
        node("Reshape", "a apart", "b"), node("Transpose", "b", "c", perm=[0, 2, 1, 3, 4]), node("Reshape", "c back", "d"),
        node("MaxPool", "d", "e", kernel_shape=[1, 1]), node("Slice", "e one two axes", "f"),
        node("MaxPool", "f", "g", kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1]), node("Concat", "e g", "h", axis=1),
        node("DequantizeLinear", "h s z", "y"),
    ]  # fmt: skip
    constants = {
        "s": F32(0.1), "z": U8(3), "apart": np.int64([0, groups, channels // groups, side, side]),
        "back": np.int64([0, channels, side, side]), "one": np.int64([1]), "two": np.int64([3]), "axes": np.int64([1]),
    }  # fmt: skip
    return model(nodes, {"x": (F32, ["n", channels, side, side])}, {"y": F32}, constants)


@pytest.mark.parametrize("batch", [1, 2])
def test_what_only_moves_ends_no_segment(rng, batch):
    """Shuffled channels, a piece of them and a concatenation are part of one program, with the bits of numpy."""
    session, plain = apart(shuffled(6, 3, 7), num_threads=1)
    for _ in range(4):
        feed = {"x": rng.standard_normal((batch, 6, 7, 7)).astype(F32)}
        same(session.run(None, feed), plain.run(None, feed))
    assert [stage.steps for stage in segments(session)] == [range(len(session.steps))]
