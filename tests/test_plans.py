"""Plans, native and portable, against the definitions: the same bits for every shape, kernel, block size and number of threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.plans import operands, product, same_bits

import pyint8dot
from pyint8dot import epilogue, fuse, qlinear, qplan, quantize
from pyint8dot.engine import blocks as cut
from pyint8dot.engine import kernels, packing, settings
from pyint8dot.fuse import BinOp, BinScalar, RoundingPolicy, Scaler

pytestmark = pytest.mark.each_processor

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
    monkeypatch.setattr(cut, "LEAST_WORK", 1)
    if request.param == "many blocks":
        monkeypatch.setattr(cut, "budget", lambda: 1)


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
        # With nothing said but the operands this is the plan of the kernel chosen.
        same_bits(pyint8dot.linear(x, packing.pack(w), w_scale=scale, bias=bias, act=act), expected)


@pytest.mark.parametrize("types", list(itertools.product([np.int8, np.uint8], repeat=3)), ids=str)
def test_stacks_of_two_arrays_are_quantised_by_one_program(kernel, rng, monkeypatch, types):
    """The heads of attention as they lie, each a view of rows far apart; numpy quantises nothing where a kernel is native."""
    if kernels.KERNELS[kernel].native:
        monkeypatch.setattr(qplan, "requantize", None)
    x, w = (rng.integers(0, 256, (2, 21, 3, 20), np.uint8).view(kind) for kind in types[:2])
    for a, b in (
        (x.transpose(0, 2, 1, 3), w.transpose(0, 2, 3, 1)),
        (x[0, :, :, 0].T, w[0, :, 1]),
        (x.transpose(0, 2, 1, 3)[:, :, :1], w.transpose(0, 2, 3, 1)[:1]),
    ):
        y = qlinear.qlinear_matmul(a, 0.5, types[0](5), b, 0.25, types[1](9), 40.0, types[2](100), kernel=kernel)
        acc = (a.astype(np.int64) - 5) @ (b.astype(np.int64) - 9)
        same_bits(y, epilogue.requantize(acc.astype(np.int32), np.float32(0.125) / np.float32(40), 100, types[2]))


@pytest.mark.parametrize("lead", [(5,), (1, 3), (2, 2), (1,)], ids=str)
def test_threads_share_the_pairs_of_a_stack(kernel, rng, monkeypatch, lead):
    """Pairs that are large enough for threads of their own: each is quantised in one pass all the same."""
    if kernels.KERNELS[kernel].native:
        monkeypatch.setattr(qplan, "requantize", None)
    a, b = (rng.integers(-128, 128, (*lead, *shape), dtype=np.int8) for shape in ((130, 70), (70, 131)))
    one, several = (
        qlinear.qlinear_matmul(a, 0.5, 5, b, 0.25, 9, 90.0, np.int8(1), kernel=kernel, num_threads=count)
        for count in (1, 3)
    )
    same_bits(several, one)
    acc = (a.astype(np.int64) - 5) @ (b.astype(np.int64) - 9)
    same_bits(one, epilogue.requantize(acc.astype(np.int32), np.float32(0.125) / np.float32(90), 1, np.int8))
    same_bits(pyint8dot.matmul(a, b, kernel=kernel, num_threads=3), a.astype(np.int32) @ b.astype(np.int32))


def test_linear_takes_what_its_plan_does_not(kernel, rng):
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


def test_only_the_chain_itself_is_done_in_one_pass(kernel, rng):
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
    with settings.tally() as counted:
        same_bits(pyint8dot.mmm(a, b, ops, kernel=kernel), expected.astype(np.int32))
    assert counted.calls == {kernel: 2}


def test_few_columns_cost_no_whole_panels(kernel, rng):
    """Fewer than eight columns of a plain array are multiplied as rows; nobody sees it but in the count of instructions."""
    for m, n in itertools.product((1, 7, 8, 20), range(1, 8)):
        a, b = operands(rng, m, 30, n)
        for left in (a, a[::-1], np.asfortranarray(a)):
            same_bits(pyint8dot.matmul(left, b, kernel=kernel), product(left, b))


def test_what_out_shares_with_the_operands_does_not_show(kernel, rng):
    """A result may lie over the left operand, over scales and over itself in part: it is as if made beside."""
    for m, k, n in ((4, 16, 4), (4, 16, 3), (300, 64, 16), (300, 64, 5)):
        memory = np.zeros(max(4 * m * n, m * k) + 64, np.int8)
        a = memory[: m * k].reshape(m, k)
        _, b = operands(rng, 1, k, n)
        for right in (b, packing.pack(b, kernel=kernel)):
            for start in (0, 4, 64):
                values = operands(rng, m, k, n)[0]
                a[...] = values
                out = memory[start : start + 4 * m * n].view(np.int32).reshape(m, n)
                assert pyint8dot.matmul(a, right, out=out, kernel=kernel) is out
                same_bits(out, product(values, b))
