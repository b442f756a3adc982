"""The fused ops one by one: tract's cases of fuse, frame and store, blocks, strides, wrapping and errors."""

from __future__ import annotations

import dataclasses
import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fused import INT32_MAX, INT32_MIN, counted, wrap

from pyint8dot import fuse
from pyint8dot.engine import packing
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
    RoundingShiftRight,
    Scaler,
    ShiftLeft,
    Store,
    apply,
    binary,
    rounding,
)

# Each op in Python's integers, of the accumulator x and the operand v. tract takes v as the left side of Sub.
BINARY = {
    BinOp.Min: min,
    BinOp.Max: max,
    BinOp.Add: lambda x, v: wrap(x + v),
    BinOp.Mul: lambda x, v: wrap(x * v),
    BinOp.Sub: lambda x, v: wrap(v - x),
    BinOp.SubF: lambda x, v: wrap(x - v),
}

# One tile, and the partial ones on which tract runs its frame cases.
SHAPES = [(8, 8), (2, 3), (197, 1), (1, 1), (0, 3), (3, 0)]

int32s = st.integers(-20, 20) | st.integers(INT32_MIN, INT32_MAX)
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
by_op = pytest.mark.parametrize("op", list(BinOp), ids=lambda op: op.name.lower())


def expected(acc, function):
    """An int32 matrix of `function(row, column, value)`."""
    m, n = acc.shape
    values = [[function(i, j, int(acc[i, j])) for j in range(n)] for i in range(m)]
    return np.array(values, np.int32).reshape(m, n)


def check(acc, op, function):
    """Run one op and compare with the function; other strides of the accumulator must give the same."""
    wanted = expected(acc, function)
    for start in (acc.copy(), np.asfortranarray(acc), np.repeat(acc, 3, axis=1)[:, ::3], acc[::-1].copy()[::-1]):
        result = apply(start, [op])
        assert result is start
        np.testing.assert_array_equal(result, wanted, strict=True)


@by_op
@by_shape
def test_per_col(shape, op):
    bias = np.arange(1, shape[1] + 1, dtype=np.int32)
    check(counted(*shape), BinPerCol(op, bias), lambda _i, j, x: BINARY[op](x, int(bias[j])))


@by_op
@by_shape
def test_per_row(shape, op):
    bias = np.arange(1, shape[0] + 1, dtype=np.int32)
    check(counted(*shape), BinPerRow(op, bias), lambda i, _j, x: BINARY[op](x, int(bias[i])))


@by_op
@by_shape
def test_scalar(shape, op):
    acc = counted(*shape, start=-shape[0] * shape[1] // 2)
    check(acc, BinScalar(op, 5), lambda _i, _j, x: BINARY[op](x, 5))


@given(st.lists(st.tuples(int32s, int32s), min_size=1, max_size=40), st.sampled_from(list(BinOp)))
def test_binary_ops_wrap(pairs, op):
    xs, vs = (list(column) for column in zip(*pairs, strict=True))
    wanted = [BINARY[op](x, v) for x, v in pairs]
    assert apply(np.array([xs], np.int32), [BinPerCol(op, vs)])[0].tolist() == wanted
    assert apply(np.array([xs], np.int32).T, [BinPerRow(op, vs)])[:, 0].tolist() == wanted
    assert apply(np.array([xs[:1]], np.int32), [BinScalar(op, vs[0])])[0].tolist() == wanted[:1]


@pytest.mark.parametrize("alpha", [5, 0, 1, -3, INT32_MAX, INT32_MIN])
@by_shape
def test_leaky_relu(shape, alpha):
    acc = counted(*shape, start=-shape[0] * shape[1] // 2)
    check(acc, LeakyRelu(alpha), lambda _i, _j, x: x if x >= 0 else wrap(alpha * x))


def test_leaky_relu_wraps():
    assert apply(np.array([[INT32_MIN, INT32_MAX]], np.int32), [LeakyRelu(3)]).tolist() == [[INT32_MIN, INT32_MAX]]


@by_shape
def test_return_c_add_row_col_product(shape):
    rows = np.arange(3, 3 + shape[0], dtype=np.int32)
    cols = np.arange(2, 2 + shape[1], dtype=np.int32)
    check(counted(*shape, start=1), AddRowColProducts(rows, cols), lambda i, j, x: x + int(rows[i]) * int(cols[j]))


@given(st.lists(int32s, min_size=1, max_size=6), st.lists(int32s, min_size=1, max_size=6), int32s)
def test_row_col_products_take_all_32_bits(rows, cols, start):
    acc = apply(np.full((len(rows), len(cols)), start, np.int32), [AddRowColProducts(rows, cols)])
    assert acc.tolist() == [[wrap(start + r * c) for c in cols] for r in rows]


@pytest.mark.parametrize("dtype", [np.int32, np.int8])
@by_shape
def test_return_c_plus_d(shape, dtype):
    m, n = shape
    d = ((3 * np.arange(m * n)) % 7 - 3).astype(dtype).reshape(m, n)
    for c in (d, np.asfortranarray(d), np.repeat(d, 3, axis=1)[:, ::3], d[::-1, ::-1].copy()[::-1, ::-1]):
        check(counted(m, n), AddUnicast(c), lambda i, j, x: x + int(d[i, j]))


@pytest.mark.parametrize("dtype", [np.int32, np.int8])
def test_add_unicast_non_contiguous(dtype):
    # Every third column of rows that lie five tiles apart; what is in between must not be read into the result.
    memory = np.full((8, 3 * 8 * 5), np.iinfo(dtype).max, dtype)
    memory[:, : 3 * 8 : 3] = counted(8, 8, start=1)
    out = np.full((8, 8), INT32_MIN, np.int32)
    apply(out.copy(), [Clear(), AddUnicast(memory[:, : 3 * 8 : 3]), Store(out)])
    np.testing.assert_array_equal(out, counted(8, 8, start=1))


def test_add_unicast_may_be_a_broadcast_view():
    c = np.broadcast_to(np.array([1, 2, 3], np.int32), (4, 3))
    check(counted(4, 3), AddUnicast(c), lambda _i, j, x: x + j + 1)


def test_add_unicast_may_be_the_accumulator():
    acc = counted(4, 4)
    np.testing.assert_array_equal(apply(acc, [AddUnicast(acc.T)]), counted(4, 4) + counted(4, 4).T)


@by_shape
def test_return_c_clear(shape):
    check(counted(*shape, start=7), Clear(), lambda _i, _j, _x: 0)


@by_shape
def test_load_tile(shape):
    tile = counted(*shape, start=-9)
    for source in (tile, np.asfortranarray(tile), np.repeat(tile, 3, axis=1)[:, ::3]):
        check(counted(*shape), LoadTile(source), lambda i, j, _x: int(tile[i, j]))


@by_shape
def test_return_zeros(shape):
    out = np.full(shape, INT32_MAX, np.int32)
    apply(counted(*shape), [Clear(), Store(out)])
    np.testing.assert_array_equal(out, np.zeros(shape, np.int32))


@given(st.lists(st.integers(-128, 127), min_size=64, max_size=64))
def test_return_c(values):
    tile = np.array(values, np.int8).reshape(8, 8)
    out = np.empty((8, 8), np.int8)
    acc = apply(np.zeros((8, 8), np.int32), [AddUnicast(tile), Store(out)])
    np.testing.assert_array_equal(out, tile)
    np.testing.assert_array_equal(acc, tile.astype(np.int32), strict=True)


def test_ops_may_be_an_iterator():
    assert apply(np.ones((1, 1), np.int32), iter([ShiftLeft(1), ShiftLeft(1)])).item() == 4


def test_no_ops():
    acc = counted(2, 3)
    assert apply(acc, []) is acc
    np.testing.assert_array_equal(acc, counted(2, 3))


# Frame: ops on a matrix smaller than a tile, one that starts from zero.


@pytest.mark.parametrize(("m", "n"), [(2, 3)])
def test_frame(m, n):
    rows, cols = np.arange(m, dtype=np.int32), np.arange(n, dtype=np.int32)
    one = BinScalar(BinOp.Add, 1)
    by_row, by_col = np.broadcast_to(rows[:, None], (m, n)), np.broadcast_to(cols, (m, n))
    cases = {
        "row_add": ([BinPerRow(BinOp.Add, rows)], by_row),
        "row_mul": ([one, BinPerRow(BinOp.Mul, rows)], by_row),
        "col_add": ([BinPerCol(BinOp.Add, cols)], by_col),
        "col_mul": ([one, BinPerCol(BinOp.Mul, cols)], by_col),
        "max": ([BinScalar(BinOp.Max, 5)], np.full((m, n), 5)),
        "min": ([BinScalar(BinOp.Min, -7)], np.full((m, n), -7)),
    }
    for name, (ops, wanted) in cases.items():
        np.testing.assert_array_equal(apply(np.zeros((m, n), np.int32), ops), wanted, err_msg=name)


@pytest.mark.parametrize(("m", "n"), [(2, 3), (197, 1)], ids=["2_1_3", "big"])
def test_add_d(m, n):
    d = counted(m, n, start=-5)
    np.testing.assert_array_equal(apply(np.zeros((m, n), np.int32), [AddUnicast(d)]), d)


# Store: where the values go, and that nothing else is written.

LAYOUTS = {
    "row_major": lambda m, n, fill: (memory := fill(m * n), memory.reshape(m, n)),
    "col_major": lambda m, n, fill: (memory := fill(m * n), memory.reshape(n, m).T),
    "every_third_column": lambda m, n, fill: (memory := fill(m * n * 3), memory.reshape(m, n, 3)[:, :, 0]),
    "non_contiguous": lambda m, n, fill: (memory := fill(m * n * 15), memory.reshape(m, n * 15)[:, : n * 3 : 3]),
    "backwards": lambda m, n, fill: (memory := fill(m * n), memory.reshape(m, n)[::-1, ::-1]),
}


@pytest.mark.parametrize("dtype", [np.int32, np.int8])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pattern", ["zeros", "pattern"])
@by_shape
def test_store(shape, pattern, layout, dtype):
    m, n = shape
    top = np.iinfo(dtype).max
    memory, out = LAYOUTS[layout](m, n, lambda size: np.full(size, top, dtype))
    tile = counted(m, n, start=-70) * 40 if pattern == "pattern" else np.zeros((m, n), np.int32)
    acc = apply(np.ones((m, n), np.int32), [LoadTile(tile), Store(out)])
    bits = np.iinfo(dtype).bits
    np.testing.assert_array_equal(out, expected(tile, lambda _i, _j, x: wrap(x, bits)).astype(dtype), strict=True)
    np.testing.assert_array_equal(acc, tile)
    out[...] = top
    assert (memory == top).all()


def test_int8_keeps_the_low_byte():
    out = np.empty((1, 6), np.int8)
    apply(np.array([[127, 128, -128, -129, 256, INT32_MIN + 3]], np.int32), [Store(out)])
    assert out.tolist() == [[127, -128, -128, 127, 0, 3]]


def test_a_clamp_before_the_store_saturates():
    out = np.empty((1, 4), np.int8)
    clamp = [BinScalar(BinOp.Max, -128), BinScalar(BinOp.Min, 127)]
    apply(np.array([[INT32_MIN, -129, 128, INT32_MAX]], np.int32), [*clamp, Store(out)])
    assert out.tolist() == [[-128, -128, 127, 127]]


def test_ops_run_in_order_and_may_store_on_the_way():
    before, after = np.empty((1, 2), np.int32), np.empty((1, 2), np.int8)
    apply(np.array([[1, -2]], np.int32), [ShiftLeft(3), Store(before), BinScalar(BinOp.Sub, 1), Store(after)])
    assert before.tolist() == [[8, -16]]
    assert after.tolist() == [[-7, 17]]


# Products.


@pytest.mark.parametrize("kinds", [(np.int8, np.int8), (np.uint8, np.int8), (np.int8, np.uint8), (np.uint8, np.uint8)])
@pytest.mark.parametrize(("m", "k", "n"), [(3, 5, 2), (1, 1, 1), (2, 0, 3), (0, 4, 3), (9, 40, 17)])
def test_add_mat_mul(m, k, n, kinds, rng):
    a, b = (
        rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, size, kind, endpoint=True)
        for kind, size in zip(kinds, ((m, k), (k, n)), strict=True)
    )
    acc = counted(m, n, start=INT32_MAX - 3)
    exact = a.astype(object) @ b.astype(object) + acc.astype(object)
    wanted = expected(acc, lambda i, j, _x: wrap(int(exact[i, j])))
    np.testing.assert_array_equal(apply(acc, [AddMatMul(a, b)]), wanted, strict=True)


def test_add_mat_mul_of_a_packed_matrix(rng):
    a, b = rng.integers(-128, 128, (5, 9), np.int8), rng.integers(-128, 128, (9, 11), np.int8)
    plain = apply(np.ones((5, 11), np.int32), [AddMatMul(a, b)])
    np.testing.assert_array_equal(apply(np.ones((5, 11), np.int32), [AddMatMul(a, packing.pack(b))]), plain)


def test_a_product_wraps_at_the_32nd_bit():
    # 131072 products of -128 and -128 are 2**31.
    a = np.full((1, 131072), -128, np.int8)
    assert apply(np.zeros((1, 1), np.int32), [AddMatMul(a, a.T)]).item() == INT32_MIN


# Blocks: the whole matrix and any cut of it give the same.


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_blocks_read_their_operands_by_global_index(m, n, data):
    seed = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    start = seed.integers(-(2**31), 2**31, (m, n)).astype(np.int32)
    rows, cols = seed.integers(-99, 99, m).astype(np.int32), seed.integers(-99, 99, n).astype(np.int32)
    a, b = seed.integers(-128, 128, (m, 3), np.int8), seed.integers(-128, 128, (3, n), np.int8)
    tile = seed.integers(-99, 99, (m, n)).astype(np.int32)

    def ops(out):
        return [
            BinPerRow(BinOp.Mul, rows),
            BinPerCol(BinOp.Sub, cols),
            AddRowColProducts(rows, cols),
            AddMatMul(a, b),
            AddUnicast(tile),
            Scaler(0.3, RoundingPolicy.Even),
            Store(out),
            LoadTile(tile),
        ]

    whole_out, out = np.empty((m, n), np.int32), np.empty((m, n), np.int32)
    whole = apply(start.copy(), ops(whole_out))
    i, j = data.draw(st.integers(0, m)), data.draw(st.integers(0, n))
    acc = start.copy()
    for row0, row1 in ((0, i), (i, m)):
        for col0, col1 in ((0, j), (j, n)):
            apply(acc[row0:row1, col0:col1], ops(out), row0=row0, col0=col0, shape=(m, n))
    np.testing.assert_array_equal(out, whole_out)
    np.testing.assert_array_equal(acc, whole)


def test_without_a_shape_the_matrix_ends_with_the_block():
    acc = apply(np.zeros((1, 2), np.int32), [BinPerRow(BinOp.Add, [1, 2, 3])], row0=2)
    assert acc.tolist() == [[3, 3]]
    with pytest.raises(ValueError, match=r"vec has shape \(3,\), a 2 x 2 matrix wants \(2,\)"):
        apply(np.zeros((1, 2), np.int32), [BinPerRow(BinOp.Add, [1, 2, 3])], row0=1)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, ">i4"])
def test_narrower_integers_and_lists_will_do(dtype):
    acc = apply(np.zeros((1, 3), np.int32), [BinPerCol(BinOp.Add, np.array([1, 2, 3], dtype))])
    assert acc.tolist() == [[1, 2, 3]]
    assert acc.tolist() == apply(np.zeros((1, 3), np.int32), [BinPerCol(BinOp.Add, [1, 2, 3])]).tolist()


def test_an_operand_is_kept_not_copied():
    bias = np.zeros(2, np.int32)
    op = BinPerCol(BinOp.Add, bias)
    bias[1] = 9
    assert apply(np.zeros((1, 2), np.int32), [op]).tolist() == [[0, 9]]


def test_ops_cannot_be_changed():
    op = BinScalar(BinOp.Add, np.int8(1))
    assert op == BinScalar(BinOp.Add, 1)
    assert hash(op) == hash(BinScalar(BinOp.Add, 1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        op.v = 2


def test_every_op_of_the_module_is_public():
    ops = {AddMatMul, AddRowColProducts, AddUnicast, BinPerCol, BinPerRow, BinScalar, Clear, LeakyRelu, LoadTile}
    ops |= {QScale, RoundingShiftRight, Scaler, ShiftLeft, Store}
    assert set(fuse.FusedOp.__subclasses__()) == ops
    assert {op.__name__ for op in ops} <= set(fuse.__all__)


@pytest.mark.parametrize("module", [binary, fuse.ops, rounding])
def test_the_examples_of_the_documentation(module):
    failed, attempted = doctest.testmod(module)
    assert attempted > 5
    assert failed == 0
