"""The fused ways, short and long, against their definitions: the same bits for every shape, kernel, block size and number of threads."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

import pyint8dot
from pyint8dot import epilogue, fuse, quantize
from pyint8dot.engine import kernels, native, packing
from pyint8dot.fuse import BinOp, BinScalar, RoundingPolicy, Scaler

# m, k, n: the scratch on the stack and the workspace, edges of tiles, no values at all.
SHAPES = [
    (1, 1, 1),
    (3, 5, 7),
    (8, 8, 8),
    (1, 64, 40),
    (7, 33, 17),
    (40, 130, 50),
    (0, 4, 3),
    (3, 0, 5),
    (2, 3, 0),
    (100, 16, 9),
]


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """Run with blocks of the usual size, and with the smallest there are; however small, threads share the work."""
    monkeypatch.setattr(native, "LEAST_WORK", 1)
    if request.param == "many blocks":
        monkeypatch.setattr(native, "_budget", lambda: 1)


def operands(rng, m, k, n, dtype=np.int8):
    info = np.iinfo(dtype)
    a = rng.integers(info.min, info.max + 1, (m, k)).astype(dtype)
    a[rng.random((m, k)) < 0.2] = info.min
    return a, rng.integers(-128, 128, (k, n)).astype(np.int8)


def same_bits(y, expected):
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y.view(f"u{y.itemsize}"), expected.view(f"u{y.itemsize}"))


def product(a, b):
    return (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)


@pytest.mark.parametrize("act", [None, "relu", "gelu"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.usefixtures("blocks")
def test_linear(kernel, rng, act, biased):
    for (m, k, n), threads in zip(SHAPES, itertools.cycle((1, 2, 3))):
        x = rng.standard_normal((m, k)).astype(np.float32) * 3
        _, w = operands(rng, 1, k, n)
        scale, bias = rng.random(n).astype(np.float32), rng.standard_normal(n).astype(np.float32) if biased else None
        q, rows = quantize.quantize_rows(x)
        expected = epilogue.dequantize(product(q, w), rows, scale, bias, act)
        for right in (w, packing.pack(w)):
            y = pyint8dot.linear(x, right, w_scale=scale, bias=bias, act=act, kernel=kernel, num_threads=threads)
            same_bits(y, expected)
        # With nothing said but the operands this is the short way of the kernel chosen.
        same_bits(pyint8dot.linear(x, packing.pack(w), w_scale=scale, bias=bias, act=act), expected)


def test_linear_takes_what_the_short_way_does_not(kernel, rng):
    w = packing.pack(operands(rng, 1, 12, 5)[1])
    scale = rng.random(5).astype(np.float32)
    x = rng.standard_normal((4, 24)).astype(np.float32)[:, ::2]
    expected = pyint8dot.linear(np.ascontiguousarray(x), w, w_scale=scale, kernel=kernel)
    same_bits(pyint8dot.linear(x, w, w_scale=scale), expected)
    same_bits(pyint8dot.linear(x.reshape(2, 2, 12), w, w_scale=scale), expected.reshape(2, 2, 5))
    same_bits(pyint8dot.linear(x, w, w_scale=np.repeat(scale, 2)[::2]), expected)
    same_bits(pyint8dot.linear(x, w, w_scale=scale.astype(np.float64)), expected)
    same_bits(pyint8dot.linear(x.tolist()[0] and x[0], w, w_scale=scale), expected[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("m", [3, 200])
def test_linear_refuses_what_is_not_finite_and_writes_nothing(kernel, rng, value, m):
    w = packing.pack(operands(rng, 1, 20, 9)[1])
    x = rng.standard_normal((m, 20)).astype(np.float32)
    x[m - 1, 19] = value
    scale, out = np.ones(9, np.float32), np.full((m, 9), 7, np.float32)
    for more in ({}, {"kernel": kernel}, {"out": out, "act": "relu"}):
        with pytest.raises(ValueError, match=f"x must be finite, got nan or infinity in row {m - 1}"):
            pyint8dot.linear(x, w, w_scale=scale, **more)
    assert (out == 7).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("axis", ["all", "row", "column"])
@pytest.mark.usefixtures("blocks")
def test_qlinear_matmul(kernel, rng, dtype, axis):
    for (m, k, n), threads in zip(SHAPES, itertools.cycle((1, 2, 3))):
        a, b = operands(rng, m, k, n, dtype)
        za, zy = dtype(5), dtype(3)
        sa = rng.random((m, 1)).astype(np.float32) if axis == "row" else np.float32(0.5)
        sb = rng.random(n).astype(np.float32) if axis == "column" else np.float32(0.25)
        sy = np.float32(max(k, 1))
        factor = np.broadcast_to(sa * sb / sy, (m, n))
        expected = epilogue.requantize(product(a.astype(np.int16) - int(za), b), factor, int(zy), dtype)
        for right in (b, packing.pack(b)):
            y = pyint8dot.qlinear_matmul(a, sa, za, right, sb, 0, sy, zy, kernel=kernel, num_threads=threads)
            same_bits(y, expected)
        same_bits(pyint8dot.qlinear_matmul(a, sa, za, packing.pack(b), sb, 0, sy, zy), expected)


def test_the_short_way_sees_every_change_of_the_parameters(rng):
    a, b = operands(rng, 6, 16, 10)
    packed = packing.pack(b)
    settings = [
        (0.5, 0, 0.25, 0, 4.0, np.int8(0)),
        (0.5, 3, 0.25, 0, 4.0, np.int8(0)),
        (0.5, 3, 0.25, 0, 4.0, np.uint8(0)),
        (0.5, 3, 0.25, 0, 8.0, np.uint8(0)),
        (0.5, 3, 0.25, 2, 8.0, np.uint8(0)),
        (np.float32(0.5), 3, np.full(10, 0.25, np.float32), 0, 8.0, np.uint8(0)),
    ]
    for sa, za, sb, zb, sy, zy in [*settings, *reversed(settings), settings[0], settings[0]]:
        expected = pyint8dot.qlinear_matmul(a, sa, za, b, sb, zb, sy, zy, kernel="portable")
        same_bits(pyint8dot.qlinear_matmul(a, sa, za, packed, sb, zb, sy, zy), expected)
    with pytest.raises(ValueError, match="a_zero_point must be within"):
        pyint8dot.qlinear_matmul(a, 0.5, 300, packed, 0.25, 0, 4.0, np.int8(0))
    # An array may change between two calls, so what was made of it is not kept.
    scale = np.array(0.5)
    pyint8dot.qlinear_matmul(a, scale, 0, packed, 0.25, 0, 4.0, np.int8(0))
    scale[...] = 2
    expected = pyint8dot.qlinear_matmul(a, 2.0, 0, b, 0.25, 0, 4.0, np.int8(0), kernel="portable")
    same_bits(pyint8dot.qlinear_matmul(a, scale, 0, packed, 0.25, 0, 4.0, np.int8(0)), expected)


@pytest.mark.parametrize("policy", RoundingPolicy)
@pytest.mark.usefixtures("blocks")
def test_q_scale_chain(kernel, rng, policy):
    for (m, k, n), scale in itertools.product(SHAPES, (0.5, 1 / 128, 0.0123, 3.0, 1e-6)):
        a, b = operands(rng, m, k, n)
        ops = fuse.requantize_ops(Scaler(scale, policy), -7, -100, 110)
        expected = fuse.apply(product(a, b), ops).astype(np.int8)
        out = np.zeros((m, n), np.int8)
        assert pyint8dot.mmm(a, b, ops, out=out, kernel=kernel, num_threads=2) is out
        same_bits(out, expected)


def test_only_the_chain_itself_takes_the_fused_way(kernel, rng):
    a, b = operands(rng, 9, 12, 11)
    add, least, most = BinScalar(BinOp.Add, 1), BinScalar(BinOp.Max, -128), BinScalar(BinOp.Min, 127)
    scaler = Scaler(0.01, RoundingPolicy.Even)
    for ops in ((add, scaler, least, most), (scaler, add, most, least), (scaler, add), (scaler, add, least, most, add)):
        expected = fuse.apply(product(a, b), ops).astype(np.int8)
        same_bits(pyint8dot.mmm(a, b, ops, out=np.zeros((9, 11), np.int8), kernel=kernel), expected)


def test_a_second_product_runs_on_the_kernel_too(kernel, rng):
    (a, b), (a2, b2) = operands(rng, 9, 12, 11), operands(rng, 9, 5, 11)
    expected = product(a, b) * 3 + product(a2, b2)
    ops = [BinScalar(BinOp.Mul, 3), fuse.AddMatMul(a2, packing.pack(b2))]
    with pyint8dot.engine.gemm.tally() as counted:
        same_bits(pyint8dot.mmm(a, b, ops, kernel=kernel), expected.astype(np.int32))
    assert counted.calls == {kernel: 2}


def test_few_columns_cost_no_whole_panels(kernel, rng):
    """Fewer than eight columns of a plain array are multiplied as rows; nobody sees it but in the count of instructions."""
    for m, n in itertools.product((1, 7, 8, 20), range(1, 8)):
        a, b = operands(rng, m, 30, n)
        for left in (a, a[::-1], np.asfortranarray(a)):
            same_bits(pyint8dot.matmul(left, b, kernel=kernel), product(left, b))


def test_many_threads_share_the_short_ways(rng):
    a, b = operands(rng, 10, 24, 16)
    packed, scale = packing.pack(b), np.ones(16, np.float32)
    x = a.astype(np.float32)
    expected = pyint8dot.matmul(a, b, kernel="portable"), pyint8dot.linear(x, b, w_scale=scale, kernel="portable")
    scales = [0.5, 0.25]
    quantised = [pyint8dot.qlinear_matmul(a, s, 0, b, 0.1, 0, 1.0, 0, kernel="portable") for s in scales]
    wrong = []

    def work(which):
        for _ in range(30):
            fine = (pyint8dot.matmul(a, packed) == expected[0]).all()
            fine &= (pyint8dot.linear(x, packed, w_scale=scale) == expected[1]).all()
            fine &= (pyint8dot.qlinear_matmul(a, scales[which], 0, packed, 0.1, 0, 1.0, 0) == quantised[which]).all()
            if not fine:
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.native
def test_the_short_way_is_there():
    """Without it small products would be right, but slow."""
    packed = packing.pack(np.ones((8, 8), np.int8))
    a = np.ones((2, 8), np.int8)
    assert packed.layout == kernels.default().layout
    assert (packed.short.multiply(a) == 8).all()
    assert packed.short.linear(a.astype(np.float32), np.ones(8, np.float32), None, None) is not None
    assert packed.short.multiply(a.astype(np.uint8)) is None
    assert packed.short.multiply(a[:, :4]) is None
