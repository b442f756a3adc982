"""Products whose zero point and scale come with each call, or are found in float32 operands: the bits of one step at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.quantized import KINDS, operand

from pyint8dot import dynamic_quantize_linear, matmul_integer, num_threads, pack
from pyint8dot.engine import blocks, kernels
from pyint8dot.epilogue import dequantize
from pyint8dot.linear import ScaledProduct

pytestmark = pytest.mark.each_processor

F32 = np.dtype(np.float32)


def by_steps(a, w, zero, b_zero, factors, bias, act):
    acc = matmul_integer(a, w, zero, b_zero, kernel="portable")
    shape = acc.shape
    return dequantize(acc.reshape(-1, shape[-1]), np.float32(1), factors, bias, act).reshape(shape)


@pytest.fixture
def case(rng, kernel):
    """Makes a product of k x n weights: what the two operands share, and the product itself for a type of left operand."""

    def make(k, n, w_kind, b_zero, *, bias=True, act=None):
        w = pack(operand(rng, w_kind, (k, n)))
        unit = rng.uniform(-0.02, 0.02, n).astype(F32)
        shift = rng.standard_normal(n).astype(F32) if bias else None
        zeros = {"none": 0, "one": 3, "each": operand(rng, np.int8, (n,)).astype(np.int32) // 2 + 64}[b_zero]
        if b_zero == "each" and w_kind == np.int8:
            zeros = zeros - 64
        row = kernels.KERNELS[kernel]

        def product(dtype):
            return ScaledProduct(w.on(row), np.dtype(dtype), zeros, unit, shift, act)

        def wanted(a, zero, scale):
            given = zeros if isinstance(zeros, int) else zeros.astype(w.dtype)
            return by_steps(a, w, zero, given, unit * scale, shift, act)

        return product, wanted

    return make


@pytest.mark.parametrize("b_zero", ["none", "one", "each"])
@pytest.mark.parametrize("w_kind", KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("a_kind", KINDS.values(), ids=list(KINDS))
def test_zero_point_and_scale_come_with_the_call(rng, case, a_kind, w_kind, b_zero):
    for (k, n), act in zip(((1, 1), (21, 13), (64, 8), (40, 67)), (None, "relu", "gelu", None), strict=True):
        product, wanted = case(k, n, w_kind, b_zero, bias=n != 8, act=act)
        multiply = product(a_kind)
        for m in (1, 2, 9):
            a = operand(rng, a_kind, (m, k))
            zero, scale = operand(rng, a_kind, ()), np.asarray(rng.uniform(0.001, 2), F32)
            zero = np.asarray(zero)
            np.testing.assert_array_equal(multiply(a, 1, zero, scale), wanted(a, zero[()], scale))


@pytest.mark.parametrize("b_zero", ["none", "each"])
def test_float32_in_one_piece(rng, case, b_zero):
    product, wanted = case(37, 29, np.int8, b_zero)
    multiply = product(F32)
    for shape in ((1, 37), (9, 37), (2, 3, 37), (37,)):
        x = (rng.standard_normal(shape) * np.exp2(rng.integers(-40, 40))).astype(F32)
        codes, scale, zero = dynamic_quantize_linear(x, native=False)
        np.testing.assert_array_equal(multiply(x, 1), wanted(codes, zero, scale))
        again = np.zeros(shape, F32)
        codes, scale, zero = dynamic_quantize_linear(again, native=False)
        np.testing.assert_array_equal(multiply(again, 1), wanted(codes, zero, scale))


def test_what_is_not_in_one_piece_is_left_to_others(rng, case, kernel, monkeypatch):
    """A range is that of all rows: a block must not find one of its own, and a row that is not finite must be found before."""
    product, _ = case(64, 16, np.int8, "none")
    native_row = kernels.KERNELS[kernel].native
    x = rng.standard_normal((24, 64)).astype(F32)
    multiply = product(F32)
    assert multiply(x, 1) is not None
    assert multiply(np.full((24, 64), np.inf, F32), 1) is None
    # However rows lie, they are one piece once they are copied.
    for apart in (np.asfortranarray(x), np.concatenate([x, x], axis=1)[:, :64], np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(multiply(apart, 1), multiply(x, 1))
    monkeypatch.setattr(blocks, "budget", lambda: 1)
    short = product(F32)
    tall = rng.standard_normal((2000, 64)).astype(F32)
    assert (short(tall, 1) is None) == native_row


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_and_threads_do_not_show(rng, case, monkeypatch, threads):
    monkeypatch.setattr(blocks, "budget", lambda: 700)
    monkeypatch.setattr(blocks, "LEAST_WORK", 1)
    product, wanted = case(21, 45, np.uint8, "each")
    multiply = product(np.uint8)
    for m, kind in itertools.product((30, 101), (np.uint8,)):
        a, zero, scale = operand(rng, kind, (m, 21)), np.asarray(7, kind), np.asarray(0.3, F32)
        np.testing.assert_array_equal(multiply(a, threads, zero, scale), wanted(a, zero[()], scale))


@pytest.mark.parametrize(
    "extras",
    [
        (np.asarray(3, np.uint8), np.asarray(0.5, F32)),
        (np.asarray([3], np.int8), np.asarray(0.5, F32)),
        (np.asarray(3, np.int8), np.asarray([0.5], F32)),
        (np.asarray(3, np.int8), np.asarray(0.5)),
        (np.int8(3), np.asarray(0.5, F32)),
        (),
    ],
)
def test_operands_of_another_shape_or_type_are_left_to_others(rng, case, extras):
    product, _ = case(16, 8, np.int8, "none")
    assert product(np.int8)(operand(rng, np.int8, (2, 16)), 1, *extras) is None


def test_one_plan_serves_every_zero_point(rng, kernel):
    """What a model finds in each sentence anew must not be written into programs."""
    w = pack(operand(rng, np.int8, (32, 16)))
    a = operand(rng, np.uint8, (4, 32))
    with num_threads(1):
        for zero in range(256):
            got = matmul_integer(a, w, np.asarray(zero, np.uint8), kernel=kernel)
            np.testing.assert_array_equal(got, (a.astype(np.int64) - zero) @ w.unpack().astype(np.int64))
    assert len(w.on(kernels.KERNELS[kernel]).plans) <= 1
