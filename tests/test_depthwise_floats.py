"""Depthwise convolution of float32: the entry and whole convolutions against the definition in numpy, and that against float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child
from support.depthwise import Floats
from support.onnx_graphs import model, node
from support.quantized import many
from support.recorded import apart, same, segments

from pyint8dot import depthwise
from pyint8dot.engine.pool import Axis

F32 = np.float32


@pytest.mark.native
def test_entry(checker, rng):
    """Every way through a row: sixteen columns and four, the last four over again, one by one; rows close together and apart."""

    def body(note):
        columns = (0, 1, 3, 4, 5, 7, 8, 13, 15, 16, 17, 31, 32, 50)
        for number, (m, n, step) in enumerate(itertools.product((0, 1, 2, 3), columns, (1, 2, 3, 5))):
            for place in ("end", "start"):
                count = 1 + number % 10
                note(f"({m}, {n}) {count} taps {place} {step}")
                offsets, ld_x = rng.integers(-40, 200, count), (n, 19, 64)[number % 3]
                pixels = rng.standard_normal(Floats.read(m, n, offsets, step, ld_x)) * np.exp2(rng.integers(-20, 20))
                weights = rng.standard_normal(count).astype(F32)
                options = {"step": step, "ld_x": ld_x, "padding": number % 4, "place": place}
                Floats(pixels.astype(F32), m, n, weights, offsets, 0.3, **options).check(checker)

    child.check(body)


@pytest.mark.native
def test_entry_with_special_values(checker):
    """Zeros of both signs, subnormals, products and sums that overflow, infinity and what is no number."""
    values = np.float32([0, -0.0, 1e-45, 1e-30, 1e25, -3e38, np.inf, -np.inf, np.nan, 2, -1])

    def body(note):
        for start, turn, step in itertools.product((-0.0, 1.0, np.inf), range(len(values)), (1, 2, 3)):
            note(f"{start} {turn} {step}")
            offsets = np.array([3, 0, 7, 1])
            x = np.resize(np.roll(values, turn), Floats.read(2, 22, offsets, step, 25))
            Floats(x, 2, 22, np.roll(values, 2 * turn)[:4].copy(), offsets, start, step=step, ld_x=25).check(checker)

    child.check(body)


def random_case(rng):
    """Operands of a convolution in one to three dimensions, and where its windows lie; wide ones among them."""
    d = int(rng.integers(1, 4))
    axes = []
    for _ in range(d):
        taps, stride, dilation = (int(rng.integers(1, most)) for most in (6, 4, 3))
        before, after = map(int, rng.integers(0, 3, 2))
        reach = (taps - 1) * dilation + 1
        size = max(1, reach - before - after) + int(rng.integers(0, (60, 40, 8)[d - 1]))
        axes.append(Axis(size, (size + before + after - reach) // stride + 1, taps, stride, dilation, before))
    channels, multiplier = int(rng.integers(2, 5)), int(rng.integers(1, 3))
    x = rng.standard_normal((2, channels, *(axis.size for axis in axes)), F32)
    w = rng.standard_normal((channels * multiplier, 1, *(axis.taps for axis in axes)), F32)
    return x, w, rng.standard_normal(len(w), F32), axes


def exact(x, w, bias, axes):
    """The convolution in float64: every window of the padded image, times the weights."""
    x = np.repeat(x.astype(np.float64), len(w) // x.shape[1], axis=1)
    reach = [(axis.taps - 1) * axis.dilation + 1 for axis in axes]
    # More behind the image than any window of these sees.
    image = np.pad(x, [(0, 0), (0, 0), *((axis.before, 10) for axis in axes)])
    spatial = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(image, reach, axis=spatial)
    places = [slice(0, (axis.out - 1) * axis.stride + 1, axis.stride) for axis in axes]
    windows = windows[(..., *places, *(slice(None, None, axis.dilation) for axis in axes))]
    weights = w.reshape(len(w), *[1] * len(axes), *w.shape[2:])
    return (windows * weights).sum(axis=tuple(-1 - i for i in range(len(axes)))) + bias.reshape(-1, *[1] * len(axes))


def test_both_ways_give_the_same(rng):
    """With a bias and without, and however the operands lie."""
    for number in range(many(100)):
        x, w, bias, axes = random_case(rng)
        given = bias if number % 2 else None
        wanted = depthwise.depthwise(x, w, given, axes, native=False)
        for image, windows in ((x, w), (np.asfortranarray(x), np.asfortranarray(w))):
            found = depthwise.depthwise(image, windows, given, axes)
            assert found.tobytes() == wanted.tobytes(), (x.shape, w.shape, axes)


def test_definition(rng):
    for _ in range(many(30)):
        x, w, bias, axes = random_case(rng)
        found = depthwise.depthwise(x, w, bias, axes, native=False)
        np.testing.assert_allclose(found, exact(x, w, bias, axes), rtol=1e-4, atol=1e-4)


def test_a_bias_has_a_value_for_each_channel(rng):
    x, w, bias, axes = random_case(rng)
    with pytest.raises(ValueError, match="bias"):
        depthwise.depthwise(x, w, bias[1:], axes)


def test_nothing_to_do():
    axis = Axis(4, 0, 5, 1, 1, 0)
    assert depthwise.depthwise(np.zeros((1, 2, 4), F32), np.zeros((2, 1, 5), F32), None, [axis]).shape == (1, 2, 0)
    axis = Axis(4, 4, 1, 1, 1, 0)
    assert depthwise.depthwise(np.zeros((0, 2, 4), F32), np.zeros((2, 1, 1), F32), None, [axis]).shape == (0, 2, 4)


@pytest.mark.native
def test_it_is_native(rng, monkeypatch):
    """Of lines and planes, one program for images of one size; not where there are very many channels."""
    monkeypatch.setattr(np, "ndindex", None)
    for shape in ((3, 4, 9), (3, 4, 9, 11)):
        axes = [Axis(size, size, 3, 1, 1, 1) for size in shape[2:]]
        x, w = rng.standard_normal(shape, F32), rng.standard_normal((4, 1, *[3] * len(axes)), F32)
        assert depthwise.depthwise(x, w, None, axes).shape == shape
    many_channels = depthwise.MOST_RECORDS
    with pytest.raises(TypeError):
        depthwise.depthwise(np.zeros((1, many_channels, 1), F32), np.zeros((many_channels, 1, 1), F32), None, [axes[0]])


@pytest.mark.native
@pytest.mark.parametrize("batch", [1, 2])
def test_it_is_part_of_a_segment(rng, batch):
    """With the activations around it, every time the bits of node by node; its bias may come with the feed."""
    nodes = [
        node("HardSwish", "x", "a"), node("Conv", "a w b", "c", pads=[1, 2, 0, 1], strides=[2, 1], group=4),
        node("HardSigmoid", "c", "y", alpha=0.3, beta=0.4),
    ]  # fmt: skip
    feed = {"x": rng.standard_normal((batch, 4, 9, 21)).astype(F32), "b": rng.standard_normal(8).astype(F32)}
    w = rng.standard_normal((8, 1, 3, 3)).astype(F32)
    recorded, plain = apart(model(nodes, feed, {"y": F32}, {"w": w}))
    assert [step.by for step in plain.steps] == ["native"] * 3
    for _ in range(4):
        feed = {name: rng.standard_normal(array.shape).astype(F32) for name, array in feed.items()}
        same(recorded.run(None, feed), plain.run(None, feed))
    assert segments(recorded)
