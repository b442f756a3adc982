"""mmm: a product, the fused ops, a store, on every kernel of this machine; tract's packed_packed cases and the ends of the range."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fused import counted, scaled, wrap

from pyint8dot.engine import kernels, packing
from pyint8dot.fuse import (
    AddMatMul,
    AddRowColProducts,
    AddUnicast,
    BinOp,
    BinPerCol,
    BinPerRow,
    BinScalar,
    Clear,
    LeakyRelu,
    LoadTile,
    QScale,
    RoundingPolicy,
    Scaler,
    ShiftLeft,
    Store,
    apply,
    requantize_ops,
)
from pyint8dot.mmm import mmm

pytestmark = pytest.mark.each_processor

# A property test may use the `kernel` fixture: the name does not change from one example to the next.
shared_kernel = settings(
    suppress_health_check=[*settings.default.suppress_health_check, HealthCheck.function_scoped_fixture]
)


def tile(kernel):
    """Rows and columns of the kernel's tile; the portable kernel has none of its own and is asked for 8 x 8."""
    row = kernels.KERNELS[kernel]
    return (row.mr, row.nr) if row.native else (8, 8)


def reference(a, b):
    """The product in 64-bit integers, kept to 32 bits."""
    return (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)


def check(kernel, a, b):
    a, b = np.asarray(a, np.int8), np.asarray(b, np.int8)
    np.testing.assert_array_equal(mmm(a, b, kernel=kernel), reference(a, b), strict=True)


# One tile.


@pytest.mark.parametrize("k", [1, 2, 13])
def test_packed_packed(kernel, k):
    mr, nr = tile(kernel)
    check(kernel, np.ones((mr, k)), np.ones((k, nr)))


@pytest.mark.parametrize("k", [1, 2])
def test_packed_packed_a_scale(kernel, k):
    mr, nr = tile(kernel)
    check(kernel, np.arange(1, mr * k + 1).reshape(mr, k), np.ones((k, nr)))


@pytest.mark.parametrize("times", [1, 2])
def test_packed_packed_empty(kernel, times):
    # No k at all: what is stored are zeros, and every one of them.
    mr, nr = tile(kernel)
    out = np.full((times * mr, times * nr), 7, np.int32)
    mmm(np.empty((times * mr, 0), np.int8), np.empty((0, times * nr), np.int8), out=out, kernel=kernel)
    assert (out == 0).all()


@pytest.mark.parametrize(("m", "k", "n"), [(0, 4, 8), (8, 4, 0), (0, 0, 0), (0, 0, 5)])
def test_no_rows_or_no_columns(kernel, m, k, n):
    c = mmm(np.ones((m, k), np.int8), np.ones((k, n), np.int8), [BinScalar(BinOp.Add, 1)], kernel=kernel)
    assert c.shape == (m, n)
    assert c.dtype == np.int32


def test_zeros(kernel):
    mr, nr = tile(kernel)
    check(kernel, np.zeros((mr, 1)), np.zeros((1, nr)))


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_one_hot(kernel, k):
    # Each product of the tile alone: a value that goes astray shows where from and where to.
    mr, nr = tile(kernel)
    for i in range(mr):
        for j in range(nr):
            a, b = np.zeros((mr, k), np.int8), np.zeros((k, nr), np.int8)
            a[i, (i + j) % k] = -3
            b[(i + j) % k, j] = 5
            check(kernel, a, b)


def test_two_of_a_row_meet_one_of_b(kernel):
    mr, nr = tile(kernel)
    a, b = np.zeros((mr, 2), np.int8), np.zeros((2, nr), np.int8)
    a[1] = -97, 30
    b[1, -1] = 120
    check(kernel, a, b)


# Any size.


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([[0]], [[0, 0]]),
        ([[-3, 3, 5, -5], [6, 0, -6, -5], [0, 0, 9, 7]], [[-8, 5], [5, -3], [5, 7], [-8, -1]]),
        ([[1]], [[0, 0, 1]]),
        ([[122, 82]], [[0, 0, 37], [0, 0, 57]]),
        ([[26]], [[48]]),
        ([[0, 1]], [[0], [1]]),
        ([[0], [1]], [[1]]),
        ([[0], [0], [0], [0], [0], [0], [-4], [1]], [[-64]]),
        ([[0, 0]], [[0], [0]]),
    ],
    ids=["trivial_1x2", "mat_mul_1", "mat_mul_2", "mat_mul_4", "1_1_1", "1_2_1", "mat_vec_1", "mat_vec_2", "mat_vec_3"],
)
def test_named(kernel, a, b):
    check(kernel, a, b)


@shared_kernel
@given(
    st.tuples(st.integers(1, 24), st.integers(0, 39), st.integers(1, 24)),
    st.sampled_from([5, 128]),
    st.integers(0, 2**32),
)
def test_packed_packed_prop(kernel, shape, top, seed):
    (m, k, n), data = shape, np.random.default_rng(seed)
    check(kernel, data.integers(-top, top, (m, k)), data.integers(-top, top, (k, n)))


@pytest.mark.parametrize("k", [1, 3, 4, 5, 64, 1031])
@pytest.mark.parametrize(("left", "right"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
def test_extremes(kernel, left, right, k):
    mr, nr = tile(kernel)
    check(kernel, np.full((mr + 1, k), left), np.full((k, nr + 1), right))
    signs = 1 - 2 * (np.arange(k) % 2)
    check(kernel, np.full((mr + 1, k), 127) * signs, np.full((k, nr + 1), right))


@pytest.mark.parametrize("k", [131071, 131072, 131073])
def test_k_at_the_end_of_int32(kernel, k):
    a, b = np.full((1, k), -128, np.int8), np.full((k, 1), -128, np.int8)
    assert mmm(a, b, kernel=kernel).item() == wrap(k * 2**14)


@pytest.mark.parametrize("kinds", [(np.int8, np.int8), (np.uint8, np.int8), (np.int8, np.uint8), (np.uint8, np.uint8)])
def test_signs(kernel, kinds, rng):
    limits = [np.iinfo(kind) for kind in kinds]
    a = rng.integers(limits[0].min, limits[0].max, (11, 21), kinds[0], endpoint=True)
    b = rng.integers(limits[1].min, limits[1].max, (21, 13), kinds[1], endpoint=True)
    np.testing.assert_array_equal(mmm(a, b, kernel=kernel), reference(a, b), strict=True)
    np.testing.assert_array_equal(mmm(a, packing.pack(b), kernel=kernel), reference(a, b), strict=True)


def int8s(rng, *shape):
    return rng.integers(-128, 128, shape, np.int8)


# The ops after the product; `apply` on the product is their definition and has its own tests.


def samples(rng, m, n):
    """Lists of ops with operands for an m x n matrix, one of each kind and some chains."""
    rows, cols = (rng.integers(-1000, 1000, size).astype(np.int32) for size in (m, n))
    c = rng.integers(-(2**31), 2**31, (m, n)).astype(np.int32)
    scaler = Scaler(0.01, RoundingPolicy.Even)
    for op in BinOp:
        yield [BinScalar(op, 77)]
        yield [BinPerRow(op, rows)]
        yield [BinPerCol(op, cols)]
    yield [AddRowColProducts(rows, cols)]
    yield [AddUnicast(c)]
    yield [AddUnicast(np.asfortranarray(c).astype(np.int8))]
    yield [LeakyRelu(3)]
    yield [ShiftLeft(5)]
    yield [Clear(), BinPerCol(BinOp.Add, cols)]
    yield [LoadTile(c), BinPerRow(BinOp.SubF, rows)]
    yield [AddMatMul(int8s(rng, m, 6), int8s(rng, 6, n))]
    yield [AddMatMul(int8s(rng, m, 3), packing.pack(int8s(rng, 3, n))), ShiftLeft(1)]
    yield [BinPerCol(BinOp.Add, cols), *requantize_ops(scaler, -7)]
    yield [AddRowColProducts(rows, cols), scaler, LeakyRelu(-2), AddUnicast(c)]
    for policy in RoundingPolicy:
        yield [QScale(7, policy, 2**30 + 12345)]
        yield [Scaler(0.25, policy)]


SHAPES = [(8, 8), (2, 3), (1, 9), (17, 1), (19, 21)]


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_ops(kernel, m, n, rng):
    a, b = int8s(rng, m, 13), int8s(rng, 13, n)
    for ops in samples(rng, m, n):
        wanted = apply(reference(a, b), ops)
        np.testing.assert_array_equal(mmm(a, b, ops, kernel=kernel), wanted, err_msg=str(ops), strict=True)


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_ops_into_int8(kernel, m, n, rng):
    a, b = int8s(rng, m, 13), int8s(rng, 13, n)
    for ops in samples(rng, m, n):
        wanted = apply(reference(a, b), ops).astype(np.int8)
        out = np.empty((m, n), np.int8)
        assert mmm(a, b, ops, out=out, kernel=kernel) is out
        np.testing.assert_array_equal(out, wanted, err_msg=str(ops))


def test_operands_are_read_by_global_index(kernel, rng):
    # Large enough to be worked on in several blocks, and no block ends with a tile.
    m, k, n = 1203, 5, 307
    a, b = int8s(rng, m, k), int8s(rng, k, n)
    rows, cols = np.arange(m, dtype=np.int32), np.arange(n, dtype=np.int32)
    ops = [
        BinPerRow(BinOp.Mul, rows),
        BinPerCol(BinOp.SubF, cols),
        AddRowColProducts(rows, cols),
        AddUnicast(counted(m, n)),
        AddMatMul(int8s(rng, m, 3), int8s(rng, 3, n)),
        Scaler(0.3, RoundingPolicy.Away),
    ]
    between = np.zeros((n, m), np.int32).T
    result = mmm(a, b, [*ops[:3], Store(between), *ops[3:]], kernel=kernel)
    np.testing.assert_array_equal(between, apply(reference(a, b), ops[:3]))
    np.testing.assert_array_equal(result, apply(reference(a, b), ops))


@pytest.mark.parametrize("policy", list(RoundingPolicy), ids=lambda policy: policy.name.lower())
@pytest.mark.parametrize("scale", [0.5, 0.25, 0.2, 4.0, 14.0, 0.0123])
def test_q_scale_of_a_product(kernel, scale, policy, rng):
    # Against fractions, so that neither the kernel nor the ops are their own witness.
    a, b = rng.integers(-5, 5, (9, 3)).astype(np.int8), rng.integers(-5, 5, (3, 9)).astype(np.int8)
    scaler = Scaler(scale, policy)
    exact = [scaled(x, Fraction(scaler.scale), policy) for x in reference(a, b).ravel().tolist()]
    assert mmm(a, b, [scaler], kernel=kernel).ravel().tolist() == exact
    out = mmm(a, b, requantize_ops(scaler, 3), out=np.empty((9, 9), np.int8), kernel=kernel)
    assert out.ravel().tolist() == [min(max(x + 3, -128), 127) for x in exact]


def test_the_whole_quantised_product(kernel, rng):
    """Zero points of both sides, a bias and a requantisation, as ops: (A - 3)(B - -5) + bias, a third of it, plus 11."""
    m, k, n, za, zb = 13, 37, 11, 3, -5
    a, b = int8s(rng, m, k), int8s(rng, k, n)
    bias = rng.integers(-(10**6), 10**6, n).astype(np.int32)
    row_sums, col_sums = a.sum(axis=1, dtype=np.int32), b.sum(axis=0, dtype=np.int32)
    ops = [
        AddRowColProducts(row_sums, np.full(n, -zb, np.int32)),
        AddRowColProducts(np.full(m, -za, np.int32), col_sums),
        BinScalar(BinOp.Add, k * za * zb),
        BinPerCol(BinOp.Add, bias),
        *requantize_ops(Scaler(1 / 3, RoundingPolicy.Even), 11),
    ]
    scale = Fraction(float(np.float32(1 / 3)))
    exact = (a.astype(np.int64) - za) @ (b.astype(np.int64) - zb) + bias
    wanted = [min(max(scaled(x, scale, RoundingPolicy.Even) + 11, -128), 127) for x in exact.ravel().tolist()]
    out = mmm(a, b, ops, out=np.empty((m, n), np.int8), kernel=kernel)
    assert out.ravel().tolist() == wanted


# Where the result goes.

LAYOUTS = {
    "row_major": lambda memory, m, n: memory[: m * n].reshape(m, n),
    "col_major": lambda memory, m, n: memory[: m * n].reshape(n, m).T,
    "every_third_column": lambda memory, m, n: memory[: m * n * 3].reshape(m, n, 3)[:, :, 0],
    "wide_rows": lambda memory, m, n: memory[: m * n * 5].reshape(m, n * 5)[:, :n],
    "backwards": lambda memory, m, n: memory[: m * n].reshape(m, n)[::-1, ::-1],
}


@pytest.mark.parametrize("dtype", [np.int32, np.int8])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_store(kernel, shape, layout, dtype, rng):
    m, n = shape
    a, b = int8s(rng, m, 6), int8s(rng, 6, n)
    for ops in ([], [Scaler(0.3, RoundingPolicy.Even)]):
        memory = np.full(m * n * 5 + 32, 99, dtype)
        out = LAYOUTS[layout](memory, m, n)
        assert mmm(a, b, ops, out=out, kernel=kernel) is out
        np.testing.assert_array_equal(out, apply(reference(a, b), ops).astype(dtype))
        out[...] = 99
        assert (memory == 99).all()


@pytest.mark.parametrize(
    "turn", [lambda x: x, lambda x: x[::-1], lambda x: x[:, ::-1], np.asfortranarray, lambda x: x[::2]]
)
def test_operands_of_any_strides(kernel, turn, rng):
    a, b = turn(int8s(rng, 18, 10)), turn(int8s(rng, 20, 12))
    b = b[: a.shape[1]]
    wanted = reference(a, b)
    for array in (a, b):
        array.flags.writeable = False
    np.testing.assert_array_equal(mmm(a, b, kernel=kernel), wanted)


def test_out_may_be_an_operand(kernel, rng):
    a, b = int8s(rng, 300, 40), int8s(rng, 40, 40)
    ops = requantize_ops(Scaler(0.02, RoundingPolicy.Even))
    wanted = apply(reference(a, b), ops).astype(np.int8)
    np.testing.assert_array_equal(mmm(a.copy(), b, ops, out=(out := a.copy()), kernel=kernel), wanted)
    left = a.copy()
    assert mmm(left, b, ops, out=left, kernel=kernel) is left
    np.testing.assert_array_equal(left, wanted)
    np.testing.assert_array_equal(out, wanted)


def test_the_default_result_is_a_new_int32_array(kernel, rng):
    a, b = int8s(rng, 3, 4), int8s(rng, 4, 5)
    first, second = mmm(a, b, kernel=kernel), mmm(a, b, kernel=kernel)
    assert first.dtype == np.int32
    assert not np.shares_memory(first, second)


def test_the_same_ops_may_be_used_again(kernel, rng):
    a, b = int8s(rng, 9, 4), packing.pack(int8s(rng, 4, 9))
    ops = (BinPerCol(BinOp.Add, np.arange(9, dtype=np.int32)), Scaler(0.2, RoundingPolicy.Odd))
    np.testing.assert_array_equal(mmm(a, b, ops, kernel=kernel), mmm(a, b, iter(ops), kernel=kernel))


# Errors: by name, before anything is written.


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.empty((2, 2), np.int16), TypeError),
        (np.empty((2, 2), np.uint8), TypeError),
        (np.empty((2, 2), np.float32), TypeError),
        ([[0, 0], [0, 0]], TypeError),
        (np.empty((2, 3), np.int32), ValueError),
        (np.empty((1, 2, 2), np.int32), ValueError),
        (np.broadcast_to(np.int32(0), (2, 2)), ValueError),
    ],
    ids=["int16", "uint8", "float32", "list", "shape", "3d", "read_only"],
)
def test_out_is_refused(out, error):
    a = np.ones((2, 2), np.int8)
    with pytest.raises(error, match="out"):
        mmm(a, a, out=out)


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        (np.ones((2, 2), np.int16), np.ones((2, 2), np.int8), TypeError),
        (np.ones((2, 2), np.int8), np.ones((2, 2)), TypeError),
        (np.ones((2, 2), bool), np.ones((2, 2), np.int8), TypeError),
        (np.ones((2, 2), np.int8), np.ones((3, 2), np.int8), ValueError),
        (np.ones(2, np.int8), np.ones((2, 2), np.int8), ValueError),
        (np.ones((2, 2), np.int8), np.ones((1, 2, 2), np.int8), ValueError),
    ],
    ids=["int16", "float64", "bool", "k", "1d", "3d"],
)
def test_operands_are_refused(a, b, error):
    with pytest.raises(error):
        mmm(a, b)


@pytest.mark.parametrize(
    ("op", "error", "message"),
    [
        (BinPerRow(BinOp.Add, [1, 2]), ValueError, r"ops\[1\], BinPerRow: vec"),
        (BinPerCol(BinOp.Add, [1, 2, 3]), ValueError, r"ops\[1\], BinPerCol: vec"),
        (AddUnicast(counted(2, 3)), ValueError, r"ops\[1\], AddUnicast: c"),
        (Store(counted(2, 3)), ValueError, r"ops\[1\], Store: out"),
        ("Clear", TypeError, r"ops\[1\] must be a fused op, got str"),
    ],
)
def test_ops_are_refused(op, error, message):
    out = np.full((3, 2), 7, np.int32)
    with pytest.raises(error, match=message):
        mmm(np.ones((3, 4), np.int8), np.ones((4, 2), np.int8), [Clear(), op], out=out)
    assert (out == 7).all()


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match="nonesuch"):
        mmm(np.ones((1, 1), np.int8), np.ones((1, 1), np.int8), kernel="nonesuch")
