"""Attention of large language models as onnxruntime's builder writes it, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import data, model, node
from support.onnxruntime_cases import MS, both

from pyint8dot.onnx import InferenceSession, ModelError, NodeError

F32 = np.float32
GROUPS, SIZE = 2, 16


def attention(
    rng, *, past, length, heads=4, batch=2, packed=False, rotary=None, places=12, ends=None, dtype=F32, **attributes
):
    """A model of one attention and what it is fed: `ends` tokens of each row, counted with those before."""
    total = past + length
    shapes = {"q": heads, "k": GROUPS, "v": GROUPS}
    feed = {name: rng.standard_normal((batch, length, each * SIZE)).astype(dtype) for name, each in shapes.items()}
    if packed:
        feed = {"q": np.concatenate(list(feed.values()), axis=2)}
    feed |= {name: rng.standard_normal((batch, GROUPS, past, SIZE)).astype(dtype) for name in ("pk", "pv")}
    feed |= {"n": np.array(ends or [total] * batch, np.int32) - 1, "t": np.asarray(total, np.int32)}
    names = f"{'q - -' if packed else 'q k v'} pk pv n t"
    if rotary is not None:
        angles = rng.standard_normal((places, SIZE // 2))
        feed |= {"c": np.cos(angles).astype(dtype), "s": np.sin(angles).astype(dtype)}
        names += " c s"
        attributes |= {"do_rotary": 1, "rotary_interleaved": rotary}
    outputs = {
        "y": (dtype, [batch, length, heads * SIZE]),
        **{name: (dtype, [batch, GROUPS, total, SIZE]) for name in ("nk", "nv")},
    }
    nodes = [node("GroupQueryAttention", names, "y nk nv", num_heads=heads, kv_num_heads=GROUPS, **attributes, **MS)]
    return model(nodes, feed, outputs), feed


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rotary", [None, 0, 1])
@pytest.mark.parametrize(("past", "length", "batch"), [(0, 5, 2), (4, 1, 2), (3, 2, 1)])
def test_prompts_and_what_follows(rng, past, length, batch, rotary, packed):
    for dtype, more in ((F32, {}), (np.float16, {}), (F32, {"local_window_size": 2, "scale": 0.3})):
        made, feed = attention(
            rng, past=past, length=length, batch=batch, packed=packed, rotary=rotary, dtype=dtype, **more
        )
        got, wanted, _ = both(made, feed)
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 if dtype == F32 else 5e-3)


def test_rows_of_different_lengths(rng):
    made, feed = attention(rng, past=4, length=1, ends=[3, 5], rotary=0)
    got, wanted, _ = both(made, feed)
    np.testing.assert_allclose(got[0], wanted[0], atol=1e-5)
    for one, other in zip(got[1:], wanted[1:], strict=True):
        for row, end in enumerate((3, 5)):
            np.testing.assert_allclose(one[row, :, :end], other[row, :, :end], atol=1e-6)
    # A prompt that is filled up behind its end.
    made, feed = attention(rng, past=0, length=5, ends=[3, 5])
    got, wanted, _ = both(made, feed)
    np.testing.assert_allclose(got[0][0, :3], wanted[0][0, :3], atol=1e-5)
    np.testing.assert_allclose(got[0][1], wanted[0][1], atol=1e-5)


def test_what_does_not_fit_is_refused(rng):
    made, feed = attention(rng, past=4, length=1, rotary=0)
    session = InferenceSession(data(made))
    for name, value in (("n", [9, 4]), ("n", [-1, 4]), ("t", 1 << 30)):
        with pytest.raises((NodeError, ModelError)):
            session.run(None, {**feed, name: np.array(value, np.int32)})
    made, feed = attention(rng, past=4, length=1, rotary=0, places=2)
    with pytest.raises(NodeError, match=r"positions must be within 0\.\.1, got 4\.\.4"):
        InferenceSession(data(made)).run(None, feed)
    for name, attributes in (("softcap", {"softcap": 2.0}), ("num_heads", {"heads": 3})):
        with pytest.raises(ModelError, match=name):
            InferenceSession(data(attention(rng, past=0, length=2, **attributes)[0]))


@pytest.mark.parametrize("by_pairs", [0, 1])
@pytest.mark.parametrize("part", [SIZE, SIZE // 2])
def test_rotations(rng, by_pairs, part):
    constants = {name: rng.standard_normal((6, part // 2)).astype(F32) for name in "cs"}
    attributes = {"interleaved": by_pairs} | ({} if part == SIZE else {"rotary_embedding_dim": part, "num_heads": 2})
    for x in (rng.standard_normal((2, 3, 2 * SIZE)), rng.standard_normal((2, 2, 3, SIZE))):
        for places in (np.int64([[0, 1, 2], [3, 5, 4]]), np.int64([2])):
            feed = {"x": x.astype(F32), "p": places}
            nodes = [node("RotaryEmbedding", "x p c s", "y", **attributes, **MS)]
            [got], [wanted], _ = both(model(nodes, feed, {"y": (F32, list(x.shape))}, constants), feed)
            np.testing.assert_allclose(got, wanted, atol=1e-6)
