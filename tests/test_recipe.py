"""The programs of a plan work in the scratch that they ask for and nowhere else, on every kernel."""

from __future__ import annotations

import numpy as np
import pytest
from support import child, gemm
from support.guard import Guarded

from pyint8dot.engine import program
from pyint8dot.engine.blocks import EXTENDED, pack_extended
from pyint8dot.engine.kernels import KERNELS
from pyint8dot.engine.library import address
from pyint8dot.engine.operand import Store
from pyint8dot.engine.plan import Zeros
from pyint8dot.engine.recipe import Key, Recipe, Right, constant_rows

pytestmark = pytest.mark.native

DEPTHS = [1, 10, 100, 700]


def recipe(row, b, b_zero):
    store = Store(b, row.right)
    right = Right(*b.shape, store.in_layout(row.right), store.column_sums, store.surplus(row))
    return Recipe(row, right, np.dtype(np.int8), Zeros(0, b_zero), None, None)


@pytest.mark.parametrize("b_zero", [0, 3])
@pytest.mark.parametrize("k", DEPTHS)
def test_scratch_is_enough(native_kernel, rng, k, b_zero):
    """One tile of rows and several, down to a single row, whose panel a kernel may want filled up."""
    row = KERNELS[native_kernel]
    b = rng.integers(-128, 128, (k, 2 * row.nr + 1), dtype=np.int8)
    n = b.shape[1]
    made = recipe(row, b, b_zero)

    def body(note):
        for rows in (row.mr, 3 * row.mr):
            written = made.write(Key(rows, 0, n, 4 * n))
            scratch = Guarded(written.scratch)
            for m in (1, row.mr - 1, rows):
                note(f"{row.name}, m={m} of {rows}, n={n}, k={k}")
                a, y = rng.integers(-128, 128, (m, k), dtype=np.int8), np.empty((m, n), np.int32)
                head = pack_extended(address(a), address(y), m, 1, k, scratch.address, 0, 0)
                program.run_entry()(head + written.tail(EXTENDED, ()))
                problems = gemm.wrong_cells(y, gemm.expected(a, (b.astype(np.int16) - b_zero)))
                problems += [f"overwrite {where} the scratch at {byte}" for where, byte in scratch.damage()]
                assert not problems, "\n".join(problems)

    child.check(body)


@pytest.mark.parametrize("b_zero", [0, 3])
@pytest.mark.parametrize("k", DEPTHS)
def test_so_many_rows_fit(native_kernel, k, b_zero):
    """However many rows are said to be within the scratch on the stack, their program asks for no more."""
    row = KERNELS[native_kernel]
    made = recipe(row, np.zeros((k, 5), np.int8), b_zero)
    for scratch in (program.STACK_SCRATCH, 2 * program.STACK_SCRATCH, 1000):
        rows = made.rows_within(scratch)
        assert rows < 0 or made.write(Key(rows, 0, 5, 20)).scratch <= scratch
    assert made.rows_within(1 << 20) > 0


@pytest.mark.parametrize("value", [-127, -126, -125, -1, 0, 1, 126, 127, 128])
@pytest.mark.parametrize("spare", [0, 1])
def test_sums_of_columns_are_products_of_rows(native_kernel, rng, value, spare):
    """All rows together bring so many times the sums of columns, and take off what other products will bring too much."""
    row = KERNELS[native_kernel]
    layout = row.each_call(row.left)
    k = 2 * layout.kr + 3
    b = rng.integers(-128, 128, (k, 5)).astype(np.int64)
    surplus = row.right.upper_sums(b) if row.complement else np.zeros(5, np.int64)
    total = np.zeros(5, np.int64)
    for packed in constant_rows(row, k, value, spare):
        total += (layout.unpack(packed, k, 1).astype(np.int64).T @ b)[0] + surplus
    assert total.tolist() == (value * b.sum(axis=0) - spare * surplus).tolist()
