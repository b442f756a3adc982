"""Forms of a call that are out of the ordinary: each against int64, and none makes anew at each call what it could keep."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.quantized import requantized

import pyint8dot
from pyint8dot import fuse, qplan, quantize
from pyint8dot.engine import kernels, loose, native, operand, packers, scaled_rows
from pyint8dot.fuse import RoundingPolicy, Scaler

pytestmark = pytest.mark.each_processor

TYPES = list(itertools.product([np.int8, np.uint8], repeat=2))
F32 = np.float32


def values(rng, shape, dtype=np.int8):
    return rng.integers(0, 256, shape, np.uint8).view(dtype)


def exact(a, b, za=0, zb=0):
    """The product without zero points in int64; those of rows and columns have the shape that broadcasts."""
    return (a.astype(np.int64) - np.asarray(za, np.int64)) @ (b.astype(np.int64) - np.asarray(zb, np.int64))


# Every way a matrix of this shape may lie.
LYING = {
    "C": lambda make, m, n: make((m, n)),
    "F": lambda make, m, n: make((n, m)).T,
    "far apart": lambda make, m, n: make((2 * m, 3 * n))[::2, ::3],
    "backwards": lambda make, m, n: make((m, n))[::-1, ::-1],
    "upside down": lambda make, m, n: make((m, n))[::-1],
    "F backwards": lambda make, m, n: make((n, m))[::-1, ::-1].T,
    "repeated": lambda make, m, n: np.broadcast_to(make((1, n)), (m, n)),
}


@pytest.mark.parametrize("types", TYPES, ids=str)
def test_wherever_operands_lie(kernel, rng, types):
    for left, right, (m, k, n) in itertools.product(
        LYING, LYING, [(70, 21, 3), (70, 40, 9), (5, 130, 20), (66, 33, 1)]
    ):
        a = LYING[left](lambda shape: values(rng, shape, types[0]), m, k)
        b = LYING[right](lambda shape: values(rng, shape, types[1]), k, n)
        wanted = exact(a, b)
        for other in (b, pyint8dot.pack(b)):
            np.testing.assert_array_equal(pyint8dot.matmul(a, other, kernel=kernel), wanted, err_msg=f"{left}, {right}")


def test_bytes_far_apart_are_copied_before_they_are_packed(rng, monkeypatch):
    """Where neither rows nor columns lie together, what packs goes byte by byte, in several times as many instructions."""
    copies = []
    copy = np.ascontiguousarray
    monkeypatch.setattr(packers.np, "ascontiguousarray", lambda x, *more: copies.append(1) or copy(x, *more))
    b = values(rng, (64, 64))[::2, ::2]
    pyint8dot.pack(b)
    assert copies or pyint8dot.kernel_info()["chosen"] == "portable"


@pytest.mark.native
@pytest.mark.parametrize("shape", [(3, 5, 2), (70, 9, 1), (4, 33, 20)])
@pytest.mark.parametrize("types", TYPES, ids=str)
def test_a_stack_is_one_call_for_many_pairs(native_kernel, rng, monkeypatch, shape, types):
    """More pairs than a program has; one matrix for all, transposed ones, heads of attention, and such that lie apart in two dimensions."""
    m, k, n = shape
    count = loose.MOST_PAIRS + 3
    monkeypatch.setattr(loose.LoosePlan, "pair", lambda *_: pytest.fail("pair by pair"))
    a, b = values(rng, (count, m, k), types[0]), values(rng, (count, k, n), types[1])
    forms = [
        (a, b),
        (a[:1], b),
        (a, values(rng, (count, n, k), types[1]).transpose(0, 2, 1)),
        (values(rng, (m, count, k), types[0]).transpose(1, 0, 2), b[::-1]),
        (a.reshape(1, count, m, k), b.reshape(1, count, k, n)),
        (np.repeat(a, 2, axis=2)[:, :, ::2], np.repeat(b, 2, axis=1)[:, ::2]),
        (a[:6].reshape(2, 3, m, k)[:, ::2], b[:4].reshape(2, 2, k, n)),
    ]
    for left, right in forms:
        np.testing.assert_array_equal(pyint8dot.matmul(left, right, kernel=native_kernel), exact(left, right))
    y = pyint8dot.qlinear_matmul(a, 0.5, types[0](3), b, 0.25, types[1](9), 90.0, np.int8(1), kernel=native_kernel)
    np.testing.assert_array_equal(y, requantized(exact(a, b, 3, 9), F32(0.125) / F32(90), 1, np.int8))


def test_stacks_of_nothing(kernel):
    """No pairs, and pairs without rows, columns or K."""
    for lead, (m, k, n) in itertools.product(
        ((0,), (3,), (2, 3), (2, 0)), ((0, 4, 5), (2, 0, 5), (2, 4, 0), (2, 4, 5))
    ):
        a, b = np.ones((*lead, m, k), np.int8), np.ones((*lead, k, n), np.uint8)
        np.testing.assert_array_equal(pyint8dot.matmul(a, b, kernel=kernel), exact(a, b))
        rows = np.ones((*lead, m, 1), np.int8)
        np.testing.assert_array_equal(pyint8dot.matmul_integer(a, b, rows, 3, kernel=kernel), exact(a, b, rows, 3))


@pytest.mark.parametrize("types", TYPES, ids=str)
def test_zero_points_and_scales_of_arrays(kernel, rng, types):
    """Every zero point, scale and bias that has one value per row or column, of matrices and stacks that come with each call."""
    for lead, (m, k, n), count in [
        ((), (9, 21, 11), 1),
        ((3,), (5, 8, 16), 1),
        ((2, 2), (4, 33, 3), 2),
        ((), (70, 40, 5), 1),
    ]:
        a, b = values(rng, (*lead, m, k), types[0]), values(rng, (*lead, k, n), types[1])
        rows, each = values(rng, (*lead, m, 1), types[0]), values(rng, (*lead, 1, n), types[1])
        for za, zb in itertools.product((types[0](7), rows), (types[1](100), each, each[..., ::-1].astype(np.int64))):
            acc = exact(a, b, za, zb)
            np.testing.assert_array_equal(pyint8dot.matmul_integer(a, b, za, zb, kernel=kernel, num_threads=count), acc)
            bias = rng.integers(-1000, 1000, n).astype(np.int32)
            sa, sb = rng.random((*lead, m, 1)).astype(F32), rng.random((*lead, 1, n)).astype(F32)
            for start, (down, across) in itertools.product((None, bias), [(F32(0.5), sb), (sa, F32(0.5)), (sa, sb)]):
                y = pyint8dot.qlinear_matmul(
                    a, down, za, b, across, zb, F32(90), np.uint8(9), bias=start, kernel=kernel, num_threads=count
                )
                wanted = requantized(acc if start is None else acc + start, down * across / F32(90), 9, np.uint8)
                np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("types", TYPES, ids=str)
def test_zero_points_of_a_packed_matrix(kernel, rng, types):
    """In every shape that is taken, of the operands' own types and of a wider one."""
    for m, k, n in ((9, 21, 11), (1, 8, 1), (1, 8, 5), (70, 40, 1)):
        a, b = values(rng, (m, k), types[0]), values(rng, (k, n), types[1])
        rows, columns = values(rng, m, types[0]), values(rng, n, types[1])
        packed = pyint8dot.pack(b)
        for left, right in itertools.product(
            (rows, rows[:, None], rows[:1], rows[:1, None]), (columns, columns[None], columns[:1])
        ):
            za = left.reshape(-1, 1)
            for wide in (False, True):
                za_given, zb_given = (x.astype(np.int64) if wide else x for x in (left, right))
                got = pyint8dot.matmul_integer(a, packed, za_given, zb_given, kernel=kernel)
                np.testing.assert_array_equal(got, exact(a, b, za, right))


def forms(rng):
    """Calls that pass parameters and operands in other ways than the commonest, each the same every time."""
    a, b, few = values(rng, (80, 24)), values(rng, (24, 16)), values(rng, (24, 3))
    packed, x = pyint8dot.pack(b), rng.standard_normal((80, 24)).astype(F32)
    rows, columns = values(rng, 80), values(rng, 16)
    scales, bias = rng.random(16).astype(F32), np.arange(16, dtype=np.int32)
    y, zero = F32(90), np.int8(1)
    chain = fuse.requantize_ops(Scaler(0.01, RoundingPolicy.Even), 3)
    for right in (packed, b):
        yield lambda right=right: pyint8dot.matmul_integer(a, right, rows.reshape(80, 1))
        yield lambda right=right: pyint8dot.matmul_integer(a, right, np.array([4]), columns.astype(np.int32))
        yield lambda right=right: pyint8dot.matmul_integer(a, right, rows, columns.reshape(1, 16))
        yield lambda right=right: pyint8dot.qlinear_matmul(a, 0.5, 3, right, scales, columns, y, zero, bias=bias)
        yield lambda right=right: pyint8dot.qlinear_matmul(a, rng.random(80), rows, right, 0.25, 0, y, zero)[:0]
        yield lambda right=right: pyint8dot.qlinear_matmul(a, rng.random(), 0, right, 0.25, 0, y, zero)[:0]
        yield lambda right=right: pyint8dot.qlinear_matmul(
            a, 0.5, 3, right, scales, 0, y, zero, out=np.empty((80, 40), np.int8)[:, :32:2]
        )
        yield lambda right=right: pyint8dot.qlinear_matmul(
            np.repeat(a, 2, axis=1).reshape(2, 40, 48)[:, :, ::2], 0.125, 3, right, scales, 0, y, zero
        )
        yield lambda right=right: pyint8dot.linear(x, right, w_scale=scales, bias=scales, act="gelu")
        yield lambda right=right: pyint8dot.linear(x[:, ::-1], right, w_scale=0.5, out=np.empty((80, 40), F32)[:, :16])
        yield lambda right=right: pyint8dot.linear(np.asfortranarray(x), right, w_scale=np.float32([0.5]))
        yield lambda right=right: pyint8dot.mmm(a, right, chain, out=np.empty((80, 16), np.int8))
        yield lambda right=right: pyint8dot.matmul(a, right, out=np.empty((16, 80), np.int32).T)
    yield lambda: pyint8dot.matmul(a, few)
    yield lambda: pyint8dot.matmul(a, few[:, 0])
    yield lambda: pyint8dot.matmul(a.view(np.uint8), few[:, ::-1])


@pytest.mark.native
def test_no_form_is_planned_again(native_kernel, rng, monkeypatch):
    """A plan takes more instructions than a product of two hundred rows; scales that are others each time need none of their own."""
    monkeypatch.setenv("PYINT8DOT_KERNEL", native_kernel)
    for form in forms(rng):
        wanted = form().copy()
        with monkeypatch.context() as patched:
            patched.setattr(operand.Operand, "plan", lambda *_, **__: pytest.fail("planned again"))
            patched.setattr(native.NativePlan, "__init__", lambda *_, **__: pytest.fail("planned again"))
            got = form()
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype


def test_parameters_that_come_often_have_a_plan_of_their_own(kernel, rng):
    """It takes over without a trace, and stays for as long as they are the same."""
    a, b = values(rng, (7, 24)), values(rng, (24, 16))
    packed = pyint8dot.pack(b)
    for scales, _ in itertools.product((rng.random(16).astype(F32), F32(0.25)), range(6)):
        y = pyint8dot.qlinear_matmul(a, 0.5, 3, packed, scales, 0, F32(90), np.int8(1), kernel=kernel)
        np.testing.assert_array_equal(y, requantized(exact(a, b, 3), F32(0.5) * scales / F32(90), 1, np.int8))
    assert packed.on(kernels.KERNELS[kernel]).latest.scale is None


def test_parameters_are_kept_by_what_they_hold(rng):
    """An array that is changed between two calls is another parameter, and few of them are kept."""
    a, packed, bias = values(rng, (7, 24)), pyint8dot.pack(values(rng, (24, 16))), np.zeros(16, np.int32)
    for start in range(3 * qplan.MOST_KEPT):
        bias[:] = 100 * start
        y = pyint8dot.qlinear_matmul(a, 0.5, 3, packed, 0.25, 0, F32(90), np.int8(1), bias=bias)
        acc = exact(a, packed.unpack(), 3) + 100 * start
        np.testing.assert_array_equal(y, requantized(acc, F32(0.125) / F32(90), 1, np.int8))
    kept = [right.checked for right in packed._operands.values()]
    assert all(len(each) <= qplan.MOST_KEPT for each in kept)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_a_scale_for_each_of_an_axis(rng, dtype, axis):
    """More rows than one program has, and zero points of their own; the definition is numpy's."""
    x = rng.standard_normal((3, scaled_rows.MOST_REPEATS + 2, 9)).astype(F32) * 20
    length = x.shape[axis]
    x[0, 0, :3] = np.inf, -np.inf, np.nan
    scale = rng.random(length).astype(F32) + F32(0.01)
    for zero in (values(rng, length, dtype), np.zeros(length, dtype), None):
        more = {"axis": axis, "dtype": None if zero is not None else dtype}
        y = quantize.quantize_linear(x, scale, zero, **more)
        np.testing.assert_array_equal(y, quantize.quantize_linear(x, scale, zero, native=False, **more))
        assert y.flags.c_contiguous
        np.testing.assert_array_equal(
            quantize.dequantize_linear(y, scale, zero, axis=axis),
            quantize.dequantize_linear(y, scale, zero, axis=axis, native=False),
        )


def test_scales_of_an_axis_that_a_graph_may_compute(rng):
    """0, NaN and infinity among them, which a caller's own must not be."""
    x, scale = rng.standard_normal((5, 40)).astype(F32), np.array([0, np.nan, np.inf, -0.5, 1e-45], F32)
    zero = values(rng, 5)
    y = quantize.quantize_by(x, scale, zero, axis=0)
    np.testing.assert_array_equal(y, quantize.quantize_by(x, scale, zero, axis=0, native=False))
    np.testing.assert_array_equal(
        quantize.dequantize_by(y, scale, zero, axis=0), quantize.dequantize_by(y, scale, zero, axis=0, native=False)
    )


def test_sums_are_not_taken_for_what_is_quantised(rng):
    """Both convolutions keep their latest with the weights, and one may bring all that the other brings."""
    x, w = values(rng, (1, 4, 5, 5)), pyint8dot.pack_conv(values(rng, (4, 4, 3, 3)))
    for _ in range(2):
        sums = pyint8dot.conv_integer(x, w)
        y = pyint8dot.qlinear_conv(x, F32(0.5), None, w, F32(0.5), None, F32(90), None)
        np.testing.assert_array_equal(y, requantized(sums, F32(0.25) / F32(90), 0, np.int8))
        assert (sums.dtype, y.dtype) == (np.int32, np.int8)


def test_quotients_of_float16_are_rounded_once(rng):
    """They are made in float32 and rounded again, which numpy's own loop does one by one in ten times as many instructions."""
    x = rng.integers(0, 1 << 16, 20_000).astype(np.uint16).view(np.float16)
    for scale in np.float16([0.05, 3, 0.333, 1e-4, 6e4, -0.7]):
        with np.errstate(all="ignore"):
            quotient = np.rint(x / scale)
        wanted = np.clip(np.nan_to_num(quotient, nan=0, posinf=np.inf, neginf=-np.inf), -131, 124) + 3
        np.testing.assert_array_equal(quantize.quantize_linear(x, scale, np.int8(3)), wanted.astype(np.int8))


def test_rows_however_they_lie(rng):
    x = rng.standard_normal((6, 10, 21)).astype(F32)
    x[2, 3] = 0
    for rows in (x, x[:, ::-1, ::2], x.transpose(2, 0, 1), np.asfortranarray(x), x[0, 0], x[:0], x[:, :, :0]):
        for got, wanted in zip(quantize.quantize_rows(rows), quantize.rows_by_numpy(rows), strict=True):
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == wanted.dtype
    x[4, 5, 6] = np.nan
    with pytest.raises(ValueError, match=r"x must be finite, got nan or infinity in row \[4, 5\]"):
        quantize.quantize_rows(x)


def test_depthwise_weights_are_not_packed(rng):
    """Nothing would read what is packed for a product with a row for each of many groups."""
    w = values(rng, (40, 1, 3, 3))
    assert not pyint8dot.pack_conv(w, group=40)._packed
    assert pyint8dot.pack_conv(w, group=1)._packed
