"""The quantised matrix products against int64: tract's named cases, all mixes of types, zero points, scales, batches."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from support.quantized import KINDS, RANGE, many, operand, requantized

from pyint8dot import qlinear
from pyint8dot.engine import packing, settings
from pyint8dot.errors import KernelError

pytestmark = pytest.mark.each_processor


def exact(a, b, za=0, zb=0):
    """The product without zero points in int64, wrapped to int32."""
    left = np.asarray(a, np.int64) - za
    right = np.asarray(b, np.int64) - zb
    return (left @ right).astype(np.int32)


A = {"i8": [[76, 76, 76], [127, -127, 102]], "u8": [[204, 204, 204], [255, 1, 230]]}
B = {
    "i8": [[25, 51, 76, 102, 127], [-51, -25, 0, 25, 51], [-25, -51, -76, -102, -127]],
    "u8": [[152, 178, 203, 229, 254], [76, 102, 127, 152, 178], [102, 76, 51, 25, 0]],
}
C = {"i8": [[-52, -41, -31, -21, -10], [127, 64, 0, -62, -126]], "u8": [[75, 86, 96, 106, 117], [255, 191, 127, 65, 1]]}
ZERO = {"a": {"i8": 51, "u8": 179}, "b": {"i8": 0, "u8": 127}, "c": {"i8": -31, "u8": 96}}


@pytest.mark.parametrize("c", KINDS)
@pytest.mark.parametrize("b", KINDS)
@pytest.mark.parametrize("a", KINDS)
def test_qmmp(kernel, a, b, c):
    """tract's test_qmmp_a_b_c: one product written in every mix of types."""
    y = qlinear.qlinear_matmul(
        np.array(A[a], KINDS[a]), 0.039215688, ZERO["a"][a],
        np.array(B[b], KINDS[b]), 0.039215688, ZERO["b"][b],
        0.09411765, KINDS[c](ZERO["c"][c]), kernel=kernel,
    )  # fmt: skip
    assert y.dtype == KINDS[c]
    # 65 stands where tract's reference, which rounds ties up, has 66 in its int8 form: one unit is its tolerance.
    assert np.abs(y.astype(int) - C[c]).max() <= 1
    scale = np.float32(0.039215688) * np.float32(0.039215688) / np.float32(0.09411765)
    acc = exact(A[a], B[b], ZERO["a"][a], ZERO["b"][b])
    np.testing.assert_array_equal(y, requantized(acc, scale, ZERO["c"][c], KINDS[c]))


NAMED = {
    # name: a, b, zero points of a, b, y, scales of a, b, y, expected
    "c0": ([[0]], [[0]], 0, 0, 1, 1.0, 1.0, 1.0, [[1]]),
    "b_scale": ([[0]], [[0]], 0, 0, 1, 1.0, 2.0, 1.0, [[1]]),
    "sat": ([[0]], [[34]], -17, 1, 0, 1.0, 0.05, 0.25, [[112]]),
    "rounding": ([[26]], [[0]], 27, -1, 1, 1.0, 0.05, 1.0, [[1]]),
    "neg_rounding": ([[-23]], [[-2]], -11, -45, 0, 0.1, 1.0, 1.0, [[-52]]),
    "rounding_ties_2": ([[47], [0]], [[1, 0, 30]], 86, 19, 0, 0.1, 1.0, 0.6, [[117, 123, -71], [127, 127, -128]]),
    "rounding_ties_3": ([[-30]], [[0, 107, 0]], -59, 117, 0, 1.0, 0.15, 0.6, [[-128, -72, -128]]),
    "test_qmmp_i8_i8_i8_1": ([[-34, -2]], [[-79], [21]], -87, -17, 0, 1.0, 1.0, 1.0, [[-56]]),
    "onnx_test_matmulinteger": (
        [[11, 7, 3], [10, 6, 2], [9, 5, 1], [8, 4, 0]],
        [[1, 4], [2, 5], [3, 6]],
        12, 0, 0, 1.0, 1.0, 1.0,
        [[-38, -83], [-44, -98], [-50, -113], [-56, -128]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_named(kernel, name):
    a, b, za, zb, zy, sa, sb, sy, wanted = NAMED[name]
    y = qlinear.qlinear_matmul(
        np.array(a, np.int8), sa, za, np.array(b, np.int8), sb, zb, sy, np.int8(zy), kernel=kernel
    )
    acc = exact(a, b, za, zb)
    scale = np.float32(sa) * np.float32(sb) / np.float32(sy)
    np.testing.assert_array_equal(y, requantized(acc, scale, zy, np.int8))
    # tract's float reference, which rounds ties up, is met within its tolerance of one unit.
    real = np.floor(acc * (sa * sb / sy) + 0.5) + zy
    assert np.abs(y - np.clip(real, -128, 127)).max() <= 1
    np.testing.assert_array_equal(y, wanted)


def zero_point_of(rng, dtype, count, lead, down):
    """A zero point as ONNX allows it: scalar, one element, a vector, or the full shape; and what it means."""
    low, high = RANGE[np.dtype(dtype)]
    style = rng.integers(0, 4)
    if style == 0:
        value = np.array(rng.integers(low, high + 1), dtype)
        return value, value.astype(np.int64)
    if style == 1 or count == 1:
        value = rng.integers(low, high + 1, 1).astype(dtype)
        return value, value[0].astype(np.int64)
    if style == 2:
        value = rng.integers(low, high + 1, count).astype(dtype)
        return value, value.astype(np.int64)[:, None] if down else value.astype(np.int64)
    shape = (*lead, count, 1) if down else (*lead, 1, count)
    value = rng.integers(low, high + 1, shape).astype(dtype)
    return value, value.astype(np.int64)


def shapes_of(rng):
    m, k, n = rng.integers(1, 20, 3)
    lead_a, lead_b = [((), ()), ((), ()), ((3,), ()), ((2,), (2,)), ((1, 2), (2, 1)), ((2, 2), (2,)), ((), (2,))][
        rng.integers(0, 7)
    ]
    return (*lead_a, m, k), (*lead_b, k, n)


def test_matmul_integer_random(kernel, rng):
    """All mixes of types, every form of zero point, batches, packed or not: equal to int64."""
    for _ in range(many(1500)):
        shape_a, shape_b = shapes_of(rng)
        dtype_a, dtype_b = rng.choice(list(KINDS.values()), 2)
        a, b = operand(rng, dtype_a, shape_a), operand(rng, dtype_b, shape_b)
        za, real_za = zero_point_of(rng, dtype_a, shape_a[-2], shape_a[:-2], down=True)
        zb, real_zb = zero_point_of(rng, dtype_b, shape_b[-1], shape_b[:-2], down=False)
        right = packing.pack(b) if b.ndim == 2 and rng.random() < 0.5 else b
        c = qlinear.matmul_integer(a, right, za, zb, kernel=kernel)
        assert c.dtype == np.int32
        np.testing.assert_array_equal(c, exact(a, b, real_za, real_zb), err_msg=f"{shape_a} {shape_b} {za!r} {zb!r}")


def test_qlinear_matmul_random(kernel, rng):
    """The same with scales of every form, a bias and both types of result."""
    for _ in range(many(1500)):
        shape_a, shape_b = shapes_of(rng)
        m, n = shape_a[-2], shape_b[-1]
        dtype_a, dtype_b, dtype_y = rng.choice(list(KINDS.values()), 3)
        a, b = operand(rng, dtype_a, shape_a), operand(rng, dtype_b, shape_b)
        za, real_za = zero_point_of(rng, dtype_a, m, shape_a[:-2], down=True)
        zb, real_zb = zero_point_of(rng, dtype_b, n, shape_b[:-2], down=False)
        zy = np.array(rng.integers(*RANGE[np.dtype(dtype_y)]), dtype_y)
        sa = rng.uniform(0.01, 0.1, [(), (1,), (m,), (m, 1)][rng.integers(0, 4)]).astype(np.float32)
        sb = rng.uniform(0.01, 0.1, [(), (1,), (n,), (1, n)][rng.integers(0, 4)]).astype(np.float32)
        sy = np.float32(rng.uniform(0.5, 50))
        bias = rng.integers(-(2**16), 2**16, n).astype(np.int32) if rng.random() < 0.5 else None
        y = qlinear.qlinear_matmul(a, sa, za, b, sb, zb, sy, zy, bias=bias, kernel=kernel)
        assert y.dtype == dtype_y
        acc = exact(a, b, real_za, real_zb) + (0 if bias is None else bias)
        down = sa.reshape(-1, 1) if sa.size > 1 else sa.reshape(())
        across = sb.reshape(-1) if sb.size > 1 else sb.reshape(())
        scale = down * across / sy
        np.testing.assert_array_equal(y, requantized(acc, scale, zy, dtype_y))


@given(data=st.data())
def test_matmul_integer_shapes(data):
    """numpy.matmul's rules for vectors, stacks and empty dimensions, with scalar zero points."""
    k = data.draw(st.integers(0, 9), "k")
    size = st.integers(0, 4)
    lead = data.draw(st.sampled_from([(), (2,), (2, 1), (0,)]), "lead")
    shape_a = data.draw(st.sampled_from([(k,), (*lead, data.draw(size), k)]), "a")
    shape_b = data.draw(st.sampled_from([(k,), (k, data.draw(size)), (2, k, data.draw(size))]), "b")
    dtype_a, dtype_b = data.draw(st.sampled_from([(x, y) for x in KINDS.values() for y in KINDS.values()]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    a, b = operand(rng, dtype_a, shape_a), operand(rng, dtype_b, shape_b)
    za, zb = int(operand(rng, dtype_a, ())), int(operand(rng, dtype_b, ()))
    try:
        wanted = np.matmul(a.astype(np.int64) - za, b.astype(np.int64) - zb).astype(np.int32)
    except ValueError:
        with pytest.raises(ValueError, match="broadcast"):
            qlinear.matmul_integer(a, b, za, zb)
        return
    got = qlinear.matmul_integer(a, b, za, zb)
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got, wanted)
    one = np.float32(1)
    y = qlinear.qlinear_matmul(a, one, za, b, one, zb, np.float32(64), np.uint8(7))
    np.testing.assert_array_equal(y, requantized(wanted, 1 / 64, 7, np.uint8))
    assert y.shape == wanted.shape


def test_against_onnx_reference(rng):
    """ONNX's own evaluator agrees, where its per-row zero points (which it applies to columns) are not used."""
    reference = pytest.importorskip("onnx.reference")
    helper = pytest.importorskip("onnx.helper")

    def model(op, inputs):
        values = [
            helper.make_tensor_value_info(f"i{i}", helper.np_dtype_to_tensor_dtype(x.dtype), None)
            for i, x in enumerate(inputs)
        ]
        result = helper.make_tensor_value_info("y", 0, None)
        node = helper.make_node(op, [v.name for v in values], ["y"])
        graph = helper.make_graph([node], "g", values, [result])
        return reference.ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))

    for _ in range(many(150)):
        shape_a, shape_b = shapes_of(rng)
        dtype_a, dtype_b, dtype_y = rng.choice(list(KINDS.values()), 3)
        a, b = operand(rng, dtype_a, shape_a), operand(rng, dtype_b, shape_b)
        za, zb, zy = operand(rng, dtype_a, ()), operand(rng, dtype_b, (shape_b[-1],)), operand(rng, dtype_y, ())
        inputs = [a, b, za, zb]
        wanted = model("MatMulInteger", inputs).run(None, {f"i{i}": x for i, x in enumerate(inputs)})[0]
        np.testing.assert_array_equal(qlinear.matmul_integer(*inputs), wanted)

        sa, sy = np.float32(rng.uniform(0.01, 0.1)), np.float32(rng.uniform(0.5, 9))
        sb = rng.uniform(0.01, 0.1, shape_b[-1]).astype(np.float32)
        inputs = [a, np.array(sa), za, b, sb, zb, np.array(sy), zy]
        theirs = model("QLinearMatMul", inputs).run(None, {f"i{i}": x for i, x in enumerate(inputs)})[0]
        ours = qlinear.qlinear_matmul(*inputs)
        # It multiplies in float64: results may part where the exact value lies half way between two integers.
        real = wanted * (np.float64(sa) * sb / sy)
        clear = np.abs(real - np.floor(real) - 0.5) > 1e-4 + np.abs(real) * 1e-6
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours[clear], theirs[clear])


def test_zero_points_wrap_modulo_2_32(kernel):
    """Sums past int32 wrap, zero points included."""
    k = 70000
    a, b = np.full((1, k), 255, np.uint8), np.full((k, 2), 255, np.uint8)
    b[:, 1] = 0
    got = qlinear.matmul_integer(a, b, None, np.array([0, 255], np.uint8), kernel=kernel)
    wanted = np.array([[255 * 255 * k, -255 * 255 * k]]).astype(np.int32)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("n", [1, 5, 24])
def test_nothing_times_the_lowest_weight_is_nothing(kernel, packed, n):
    """uint8 zeros, moved to int8, are -128: pairs of -128 x -128, which 16 bits do not hold, must not show in their sum."""
    a, b = np.zeros((9, 64), np.uint8), np.full((64, n), -128, np.int8)
    right = packing.pack(b) if packed else b
    assert not qlinear.matmul_integer(a, right, kernel=kernel).any()
    y = qlinear.qlinear_matmul(a, 0.5, np.uint8(0), right, 0.5, np.int8(0), 1.0, np.uint8(7), kernel=kernel)
    np.testing.assert_array_equal(y, np.full((9, n), 7, np.uint8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_zero_point(kernel, rng, kind, packed):
    """Of either operand, the largest and the lowest and those beside them, with b packed before and at the call."""
    info = np.iinfo(KINDS[kind])
    a, b = operand(rng, KINDS[kind], (5, 37)), operand(rng, KINDS[kind], (37, 11))
    right = packing.pack(b) if packed else b
    points = [info.min, info.min + 1, info.min + 2, 0, 1, info.max - 1, info.max]
    for za, zb in zip([*points, *points], [*points, *reversed(points)], strict=True):
        got = qlinear.matmul_integer(a, right, KINDS[kind](za), KINDS[kind](zb), kernel=kernel)
        np.testing.assert_array_equal(got, exact(a, b, za, zb))


def test_out(kernel, rng):
    a, b = operand(rng, np.uint8, (2, 5, 6)), operand(rng, np.int8, (6, 7))
    wanted = exact(a, b, 3, 1)
    out = np.zeros((2, 5, 14), np.int32)[:, :, ::2]
    assert qlinear.matmul_integer(a, b, 3, 1, out=out, kernel=kernel) is out
    np.testing.assert_array_equal(out, wanted)
    out8 = np.zeros((2, 5, 7), np.uint8)
    assert qlinear.qlinear_matmul(a, 1.0, 3, b, 1.0, 1, 99.0, 0, out=out8, kernel=kernel) is out8
    np.testing.assert_array_equal(out8, requantized(wanted, np.float32(1) / np.float32(99), 0, np.uint8))


def test_out_overlapping_an_operand(rng):
    a, b = operand(rng, np.int8, (6, 6)), operand(rng, np.int8, (6, 6))
    wanted = qlinear.qlinear_matmul(a, 1.0, 0, b, 1.0, 0, 99.0, 0)
    np.testing.assert_array_equal(qlinear.qlinear_matmul(a, 1.0, 0, b, 1.0, 0, 99.0, 0, out=a), wanted)


def test_float16_scales(rng):
    """Narrow scales are widened to float32 and multiplied there."""
    a, b = operand(rng, np.int8, (3, 4)), operand(rng, np.int8, (4, 5))
    sa, sb, sy = np.float16(0.0066), np.float16(0.00705), np.float16(0.0107)
    wanted = qlinear.qlinear_matmul(a, np.float32(sa), 0, b, np.float32(sb), 0, np.float32(sy), 0)
    np.testing.assert_array_equal(qlinear.qlinear_matmul(a, sa, 0, b, sb, 0, sy, 0), wanted)


I8 = np.zeros((2, 3), np.int8)
W8 = np.zeros((3, 4), np.int8)
BAD = [
    (TypeError, r"a must be int8 or uint8, got float32", {"a": I8.astype(np.float32)}),
    (TypeError, r"b must be int8 or uint8, got int16", {"b": W8.astype(np.int16)}),
    (TypeError, r"a must be int8 or uint8, got bool", {"a": I8.astype(bool)}),
    (ValueError, r"a must have at least one dimension, got a 0-d array", {"a": np.int8(1)}),
    (ValueError, r"b must have 3 rows, as many as a has columns", {"b": np.zeros((4, 3), np.int8)}),
    (ValueError, r"leading dimensions that broadcast", {"a": np.zeros((2, 2, 3), np.int8), "b": np.zeros((3, 3, 4), np.int8)}),
    (TypeError, r"a_zero_point must be integers that fit int8, got float64", {"a_zero_point": 0.5}),
    (ValueError, r"a_zero_point must be within -128\.\.127, the range of int8, got 128", {"a_zero_point": 128}),
    (ValueError, r"b_zero_point must be within -128", {"b_zero_point": np.uint8(200)}),
    (ValueError, r"a_zero_point must be a scalar or one per row, shape \(2,\) or \(2, 1\), got shape \(3,\)", {"a_zero_point": [1, 2, 3]}),
    (ValueError, r"b_zero_point must be a scalar or one per column, shape \(4,\) or \(1, 4\), got shape \(3,\)", {"b_zero_point": [1, 2, 3]}),
    (TypeError, r"out must be int32, got int64", {"out": np.zeros((2, 4), np.int64)}),
    (TypeError, r"out must be an array of int32, got list", {"out": []}),
    (ValueError, r"out must have shape \(2, 4\), got \(4, 2\)", {"out": np.zeros((4, 2), np.int32)}),
    (KernelError, "no such kernel", {"kernel": "avx"}),
    (ValueError, "num_threads must be from 1", {"num_threads": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "changes"), BAD, ids=[message[:40] for _, message, _ in BAD])
def test_errors(error, message, changes):
    with pytest.raises(error, match=message):
        qlinear.matmul_integer(**{"a": I8, "b": W8} | changes)


def test_read_only_out():
    out = np.zeros((2, 4), np.int32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        qlinear.matmul_integer(I8, W8, out=out)


def test_qlinear_errors():
    def call(sa=1.0, sb=1.0, sy=1.0, zy=0, bias=None):
        return qlinear.qlinear_matmul(I8, sa, 0, W8, sb, 0, sy, zy, bias=bias)

    with pytest.raises(TypeError, match="a_scale must be floats, got int64"):
        call(sa=np.int64(1))
    with pytest.raises(ValueError, match=r"b_scale must be a scalar or one per column, shape \(4,\)"):
        call(sb=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"y_scale must be a scalar, got shape \(2,\)"):
        call(sy=[1.0, 2.0])
    with pytest.raises(ValueError, match="y_scale must be finite and not 0 in float32, got 0"):
        call(sy=0.0)
    with pytest.raises(ValueError, match=r"a_scale \* b_scale / y_scale must be finite in float32, got inf"):
        call(sa=1e30, sy=1e-30)
    with pytest.raises(ValueError, match="must be finite in float32, got nan"):
        call(sa=np.nan)
    with pytest.raises(ValueError, match=r"y_zero_point must be within -128\.\.127"):
        call(zy=300)
    with pytest.raises(TypeError, match="bias must be int32, got float64"):
        call(bias=np.zeros(4))
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\), got \(2,\)"):
        call(bias=np.zeros(2, np.int32))


def test_products_are_counted(kernel, rng):
    """The operators run on the kernel that was asked for."""
    with settings.tally() as counted:
        qlinear.matmul_integer(operand(rng, np.uint8, (3, 4)), operand(rng, np.int8, (4, 5)), 1, 2, kernel=kernel)
    assert counted.macs == {kernel: 3 * 4 * 5}
