"""The native averages of windows against their definition in numpy, and the operators that use them."""

from __future__ import annotations

import numpy as np
import pytest
from support import child
from support.onnx_graphs import data, model, node
from support.pool import Average, pixels, random_average, random_axis, sums
from support.quantized import many
from support.recorded import apart, same, segments

from pyint8dot.engine import library, pool
from pyint8dot.engine.pool import MOST_PLACES, Axis
from pyint8dot.epilogue import requantize
from pyint8dot.onnx import InferenceSession

KINDS = [np.dtype(np.int8), np.dtype(np.uint8)]
F32 = np.float32


def case(rng, dtype, longest):
    """Planes and the windows over them, every window holding a pixel."""
    while True:
        rows, columns = random_axis(rng, 9), random_axis(rng, longest)
        if rows and columns and pool._all_hold_pixels(rows) and pool._all_hold_pixels(columns):
            return pixels(rng, dtype, int(rng.integers(1, 4)), rows.size, columns.size), rows, columns


@pytest.mark.native
@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_random_windows(checker, rng, dtype):
    def body(note):
        for number in range(many(300)):
            x, rows, columns = case(rng, dtype, (8, 20, 70)[number % 3])
            note(f"{x.shape} {rows} {columns}")
            random_average(rng, x, rows, columns, place=("end", "start")[number % 2]).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_width(checker, rng, stride):
    """Rows of the image and of the result end in every place of a register; the last ones lie at the end of memory."""

    def body(note):
        for width in range(1, 36):
            note(f"{width}")
            columns = Axis(width, (width - 1) // stride + 1, 3, stride, 1, 1)
            x = pixels(rng, KINDS[width % 2], 2, 3, width)
            random_average(rng, x, Axis(3, 3, 3, 1, 1, 1), columns).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_the_greatest_sums(checker, rng, dtype):
    """As many differences as there may be, each the greatest there is."""

    def body(note):
        ends = np.iinfo(dtype).min, np.iinfo(dtype).max
        for rows, columns in ((8, 16), (16, 8), (1, 128), (128, 1)):
            for value, zero in (ends, ends[::-1]):
                note(f"{rows} {columns} {value}")
                x = np.full((1, rows, columns), value, dtype)
                axes = Axis(rows, 1, rows, 1, 1, 0), Axis(columns, 1, columns, 1, 1, 0)
                Average(x, *axes, F32([[1 / 256]]), (zero, zero), dtype.type).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_average_pool(rng, dtype):
    """One and two spatial dimensions, planes that lie anywhere, and results that are empty."""
    zero = int(pixels(rng, dtype, 1)[0])
    for _ in range(many(60)):
        x, rows, columns = case(rng, dtype, 40)
        factors = rng.uniform(0.01, 0.5, (rows.out, columns.out)).astype(F32)
        for image in (x[None], np.asfortranarray(x)[None], x[None, :, ::-1], x[None, :0]):
            found = pool.average_pool(image, (rows, columns), factors, (zero, 3), KINDS[0])
            np.testing.assert_array_equal(found, requantize(sums(image, (rows, columns), zero), factors, 3, np.int8))
        line = x[None, :, 0]
        found = pool.average_pool(line, (columns,), factors[0], (zero, 3), KINDS[1])
        np.testing.assert_array_equal(found, requantize(sums(line, (columns,), zero), factors[0], 3, np.uint8))


def test_what_is_not_native(rng, monkeypatch):
    """None: other types, more dimensions, large windows, windows in the padding alone, no library."""
    axis, zeros = Axis(5, 5, 3, 1, 1, 1), (0, 0)
    x, factors = pixels(rng, KINDS[0], 1, 1, 5, 5), np.ones((5, 5), F32)
    assert pool.average_pool(x.astype(F32), (axis, axis), factors, zeros, KINDS[0]) is None
    assert pool.average_pool(x[..., None], (axis, axis, axis), factors, zeros, KINDS[0]) is None
    large = Axis(5, 5, MOST_PLACES // 3 + 1, 1, 1, 50)
    assert pool.average_pool(x, (axis, large), factors, zeros, KINDS[0]) is None
    outside = Axis(5, 8, 2, 1, 1, 2)
    assert pool.average_pool(x, (axis, outside), np.ones((5, 8), F32), zeros, KINDS[0]) is None
    pool._averages.cache_clear()
    monkeypatch.setattr(library, "status", lambda: "there is none")
    assert pool.average_pool(x, (axis, axis), factors, zeros, KINDS[0]) is None
    pool._averages.cache_clear()


def averaging(kind, nodes, shape, scale=0.05, y_scale=0.02):
    """A graph that averages codes between look-ups, which are native."""
    constants = {"s": F32(scale), "z": kind(7), "t": F32(y_scale), "u": kind(5), "axes": np.int64([2, 3])}
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "f"), *nodes,
        node("QuantizeLinear", "t0 t u", "p"), node("DequantizeLinear", "p t u", "y"),
    ]  # fmt: skip
    return model(
        nodes, {"x": (F32, list(shape))}, {"y": F32, "q": kind}, {k: np.asarray(v) for k, v in constants.items()}
    )


POOLS = [
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 3], "strides": [1, 3], "pads": [1, 2, 0, 1], "ceil_mode": 1, "count_include_pad": 1},
    {"kernel_shape": [9, 11]}, {"kernel_shape": [9, 11], "pads": [1, 0, 0, 0]}, {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
]  # fmt: skip


def counted(attrs, size):
    """By hand, how many places each window counts along both axes, and where it begins."""
    for axis in (0, 1):
        taps, stride = attrs["kernel_shape"][axis], attrs.get("strides", [1, 1])[axis]
        before, after = (attrs["pads"][axis], attrs["pads"][axis + 2]) if "pads" in attrs else (0, 0)
        if "auto_pad" in attrs:
            before = after = 1
        room = size[axis] + before + after - taps
        out = (-(-room // stride) if attrs.get("ceil_mode") else room // stride) + 1
        starts = [i * stride - before for i in range(out) if i * stride < size[axis] + before]
        low, high = (-before, size[axis] + after) if attrs.get("count_include_pad") else (0, size[axis])
        yield [(range(max(0, s), min(size[axis], s + taps)), min(high, s + taps) - max(low, s)) for s in starts]


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("attrs", POOLS, ids=str)
def test_the_operator(rng, kind, attrs):
    """Sums of codes by one factor for each number of places, rounded once; by itself and in a segment."""
    made = averaging(kind, [node("AveragePool", "f", "t0", **attrs)], (2, 3, 9, 11))
    session, plain = apart(made, num_threads=1)
    assert "QLinearAveragePool" in [step.node.op for step in plain.steps]
    rows, columns = counted(attrs, (9, 11))
    for _ in range(4):
        feed = {"x": rng.standard_normal((2, 3, 9, 11)).astype(F32) * 4}
        y, q = session.run(None, feed)
        total = np.array(
            [[q[:, :, r][..., c].sum((2, 3), np.int64) - len(r) * len(c) * 7 for c, _ in columns] for r, _ in rows]
        )
        each = F32([[1 / (m * n) for _, n in columns] for _, m in rows])
        wanted = requantize(total.transpose(2, 3, 0, 1).astype(np.int32), F32(0.05) * each / F32(0.02), 5, kind)
        np.testing.assert_array_equal(y, (wanted.astype(np.int32) - 5).astype(F32) * F32(0.02))
        same([y, q], plain.run(None, feed))
    if library.status() is None:
        assert [stage.steps for stage in segments(session)] == [range(len(session.steps))]


@pytest.mark.native
@pytest.mark.parametrize("op", ["GlobalAveragePool", "ReduceMean"])
def test_means_of_planes_end_no_segment(rng, op):
    made = averaging(np.uint8, [node(op, "f axes" if op == "ReduceMean" else "f", "t0")], (2, 3, 5, 7))
    session, plain = apart(made, num_threads=1)
    for _ in range(4):
        feed = {"x": rng.standard_normal((2, 3, 5, 7)).astype(F32)}
        same(session.run(None, feed), plain.run(None, feed))
    assert [stage.steps for stage in segments(session)] == [range(len(session.steps))]


@pytest.mark.parametrize(
    ("attrs", "scale", "y_scale"),
    [
        ({"kernel_shape": [2, 2], "pads": [2, 2, 0, 0]}, 0.05, 0.05),
        ({"kernel_shape": [2, 2]}, 1e30, 1e-20),
        ({"kernel_shape": [4, 4]}, 1e30, 1e-20),
    ],
    ids=["padding", "scale", "scale of a plane"],
)
def test_what_has_no_factor_is_computed_in_floats(rng, attrs, scale, y_scale):
    """Windows in the padding alone, and scales whose quotient is no number."""
    made = averaging(np.uint8, [node("AveragePool", "f", "t0", **attrs)], (1, 2, 4, 4), scale, y_scale)
    # One sign a plane: a sum in floats that cancels is no longer the sum of the codes.
    x = np.abs(rng.standard_normal((1, 2, 4, 4))).astype(F32) * F32([scale, -scale]).reshape(2, 1, 1)
    y, q = InferenceSession(data(made)).run(None, {"x": x})
    side = attrs["kernel_shape"][0]
    last = (q[..., -side:, -side:].astype(np.float64) - 7).mean((2, 3)) * scale
    wanted = np.clip(np.rint(last / y_scale), -5, 250)
    assert np.abs(np.rint(y[..., -1, -1] / y_scale) - wanted).max() <= 1
