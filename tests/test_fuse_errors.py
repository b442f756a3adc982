"""What the fused ops refuse: every message names the operand, and nothing has been written by then."""

from __future__ import annotations

import numpy as np
import pytest
from support.fused import counted

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
    Store,
    apply,
)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (
            lambda: BinPerRow(BinOp.Add, [1, 2, 3]),
            r"ops\[2\], BinPerRow: vec has shape \(3,\), a 2 x 3 matrix wants \(2,\)",
        ),
        (
            lambda: BinPerCol(BinOp.Add, [1, 2]),
            r"ops\[2\], BinPerCol: vec has shape \(2,\), a 2 x 3 matrix wants \(3,\)",
        ),
        (lambda: AddRowColProducts([1], [1, 2, 3]), r"AddRowColProducts: rows has shape \(1,\)"),
        (lambda: AddRowColProducts([1, 2], [1]), r"AddRowColProducts: cols has shape \(1,\)"),
        (lambda: AddUnicast(counted(3, 2)), r"AddUnicast: c has shape \(3, 2\), a 2 x 3 matrix wants \(2, 3\)"),
        (lambda: AddUnicast(counted(1, 3)), r"AddUnicast: c has shape \(1, 3\)"),
        (lambda: LoadTile(counted(2, 4)), r"LoadTile: tile has shape \(2, 4\)"),
        (lambda: Store(counted(3, 3)), r"Store: out has shape \(3, 3\)"),
        (lambda: AddMatMul(np.ones((3, 1), np.int8), np.ones((1, 3), np.int8)), r"AddMatMul: a has shape \(3, 1\)"),
        (lambda: AddMatMul(np.ones((2, 1), np.int8), np.ones((1, 4), np.int8)), r"AddMatMul: b has shape \(1, 4\)"),
    ],
)
def test_an_operand_of_the_wrong_shape(op, message):
    acc, out = counted(2, 3), counted(2, 3)
    with pytest.raises(ValueError, match=message):
        apply(acc, [Clear(), Store(out), op()])
    np.testing.assert_array_equal(acc, counted(2, 3))
    np.testing.assert_array_equal(out, counted(2, 3))


@pytest.mark.parametrize("ops", [None, 5, Clear()])
def test_what_is_no_sequence_of_ops(ops):
    with pytest.raises(TypeError, match=f"ops must be a sequence of fused ops, got {type(ops).__name__}"):
        apply(counted(2, 3), ops)


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BinScalar("Add", 1), TypeError, "op must be a BinOp, got str"),
        (lambda: BinPerRow(np.add, [1]), TypeError, "op must be a BinOp, got ufunc"),
        (lambda: BinPerCol(None, [1]), TypeError, "op must be a BinOp, got NoneType"),
        (lambda: BinScalar(BinOp.Add, 1.0), TypeError, "v must be an integer, got float"),
        (lambda: BinScalar(BinOp.Add, True), TypeError, "v must be an integer, got bool"),
        (lambda: BinScalar(BinOp.Add, 2**31), ValueError, "v must be from -2147483648 to 2147483647, got 2147483648"),
        (lambda: LeakyRelu(0.1), TypeError, "alpha must be an integer, got float"),
        (lambda: LeakyRelu(-(2**31) - 1), ValueError, "alpha must be from"),
        (lambda: BinPerRow(BinOp.Add, np.arange(3)), TypeError, "vec must be int32, got int64"),
        (lambda: BinPerRow(BinOp.Add, np.ones(3)), TypeError, "vec must be int32, got float64"),
        (lambda: BinPerRow(BinOp.Add, np.ones(3, bool)), TypeError, "vec must be int32, got bool"),
        (lambda: BinPerCol(BinOp.Add, np.ones(3, np.uint32)), TypeError, "vec must be int32, got uint32"),
        (lambda: BinPerCol(BinOp.Add, [1, 2**31]), ValueError, "vec must be from -2147483648 to 2147483647"),
        (lambda: BinPerCol(BinOp.Add, [0.5]), TypeError, "vec must be an integer, got float"),
        (lambda: BinPerCol(BinOp.Add, [True]), TypeError, "vec must be an integer, got bool"),
        (lambda: BinPerCol(BinOp.Add, 5), ValueError, r"vec must have one dimension, got shape \(\)"),
        (
            lambda: AddRowColProducts([1], np.ones((1, 1), np.int32)),
            ValueError,
            r"cols must have one dimension, got shape \(1, 1\)",
        ),
        (lambda: AddUnicast([[1]]), TypeError, "c must be an array of int32 or int8, got list"),
        (lambda: AddUnicast(np.ones((1, 1), np.uint8)), TypeError, "c must be int32 or int8, got uint8"),
        (lambda: AddUnicast(np.ones(3, np.int32)), ValueError, r"c must have two dimensions, got shape \(3,\)"),
        (lambda: LoadTile(np.ones((1, 1), np.int8)), TypeError, "tile must be int32, got int8"),
        (lambda: Store(np.ones((1, 1), np.int16)), TypeError, "out must be int32 or int8, got int16"),
        (lambda: Store(read_only(counted(2, 2))), ValueError, "out is read-only"),
        (lambda: AddMatMul(counted(2, 2), np.ones((2, 2), np.int8)), TypeError, "a must be int8 or uint8, got int32"),
        (
            lambda: AddMatMul(np.ones((2, 2), np.int8), np.ones((2, 2))),
            TypeError,
            "b must be int8 or uint8, got float64",
        ),
        (
            lambda: AddMatMul(np.ones((2, 2), np.int8), np.ones((3, 2), np.int8)),
            ValueError,
            "a has 2 columns, but b has 3 rows",
        ),
    ],
)
def test_operands_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: apply(np.ones((2, 2)), []), TypeError, "acc must be int32, got float64"),
        (lambda: apply([[1]], []), TypeError, "acc must be an array of int32, got list"),
        (lambda: apply(np.ones(2, np.int32), []), ValueError, r"acc must have two dimensions, got shape \(2,\)"),
        (lambda: apply(read_only(counted(2, 2)), []), ValueError, "acc is read-only"),
        (lambda: apply(counted(2, 2), [Clear(), "Clear"]), TypeError, r"ops\[1\] must be a fused op, got str"),
        (lambda: apply(counted(2, 2), [Clear]), TypeError, r"ops\[0\] must be a fused op, got ABCMeta"),
        (lambda: apply(counted(2, 2), [], row0=-1), ValueError, r"acc \(2, 2\) at row -1, column 0"),
        (lambda: apply(counted(2, 2), [], shape=(1, 2)), ValueError, r"is not inside \(1, 2\)"),
        (
            lambda: apply(counted(2, 2), [], col0=1, shape=(2, 2)),
            ValueError,
            r"at row 0, column 1 is not inside \(2, 2\)",
        ),
    ],
)
def test_apply_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
