"""Products with what comes before and after them in one program a block: quantise, pack, multiply, epilogue.

The int32 block between the kernel and the epilogue never leaves the cache. The results are those of `pyint8dot.epilogue`
and `pyint8dot.quantize`, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.layouts import FLIP
from pyint8dot.engine.library import address
from pyint8dot.engine.native import END, IN_SCRATCH, NO_HEAD, packed_depth, record, run_blocks, take

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pyint8dot.engine.native import Bound

__all__ = ["ACTIVATIONS", "dequantized", "linear", "q_scaled", "requantized"]

#: The activations of the entry ``dequantize``.
ACTIVATIONS = {None: 0, "relu": 1, "gelu": 2}


_ONE = np.ones(1, np.float32)


def linear(
    bound: Bound,
    b: int,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    col_scale: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    act: str | None,
    count: int = 1,
) -> bool:
    """Compute ``y = act(dequantize(quantize_rows(x) @ B))``; see `pyint8dot.epilogue.dequantize`.

    Parameters
    ----------
    bound : Bound
        The kernel.
    b : int
        Address of B, int8, packed for the kernel.
    x : ndarray of float32, shape (m, k)
        Contiguous rows.
    y : ndarray of float32, shape (m, n)
        Contiguous rows; overwritten. It shares no memory with the operands.
    col_scale : ndarray of float32, shape (n,)
        Contiguous.
    bias : ndarray of float32, shape (n,), optional
        Contiguous.
    act : {None, "relu", "gelu"}
    count : int
        How many threads to use.

    Returns
    -------
    bool
        False where `x` holds NaN or infinity; `y` is then without meaning.
    """
    run, entry, pack, kr = bound
    (m, k), n = x.shape, y.shape[1]
    if m == 0 or n == 0:
        return bool(np.isfinite(x).all())
    packed_k = packed_depth(k, kr)
    quantize, dequantize = library.load().addresses["quantize_rows"], library.load().addresses["dequantize"]
    x_at, y_at, scale_at, bias_at = address(x), address(y), address(col_scale), 0 if bias is None else address(bias)
    ld_x, ld_y, activation = x.strides[0], y.strides[0], ACTIVATIONS[act]
    wrong: list[int] = []

    def block(row: int, rows: int, column: int, columns: int) -> None:
        scales, packed, acc, size = layout_block(rows, packed_k, columns)
        at = take(size)
        scales, packed, acc = at + scales, at + packed, at + acc
        x_row, y_block = x_at + row * ld_x, y_at + row * ld_y + 4 * column
        # The quantised rows lie where the product will: they are packed before it is made.
        program = (
            NO_HEAD
            + record(quantize, x_row, acc, ld_x, k, rows, k, scales, 0, kinds=(0,) * 7 + (IN_SCRATCH,))
            + record(pack, acc, packed, k, rows, 1, k, 1, 0)
            + record(entry, packed, b + column * packed_k, acc, 4 * columns, rows, columns, packed_k, 0, 0)
            + record(
                dequantize, acc, y_block, 4 * columns, ld_y, rows, columns,
                scales, 4, scale_at + 4 * column, bias_at and bias_at + 4 * column, activation,
            )
            + END
        )  # fmt: skip
        if run(program):
            wrong.append(row)

    run_blocks(block, m, n, packed_k + max(4 * n, k), count)
    return not wrong


def layout_block(rows: int, packed_k: int, columns: int) -> tuple[int, int, int, int]:
    """Where a block keeps its scales, packed rows and int32 product (or quantised rows), and the bytes of all."""
    packed = -(-4 * rows // 64) * 64
    acc = packed + -(-rows * packed_k // 64) * 64
    return 0, packed, acc, acc + rows * max(4 * columns, packed_k)


def requantized(
    bound: Bound,
    b: int,
    a: NDArray[Any],
    y: NDArray[Any],
    scale: NDArray[np.float32],
    zero_point: int,
    row_start: int = 0,
    col_start: int = 0,
    count: int = 1,
) -> None:
    """Compute ``y = requantize(A' @ B + row_start + col_start, scale, zero_point)``; see `pyint8dot.epilogue.requantize`.

    Parameters
    ----------
    a : ndarray of int8 or uint8, shape (m, k)
        Any strides; uint8 is moved to int8.
    y : ndarray of int8 or uint8, shape (m, n)
        Contiguous rows; overwritten. It shares no memory with the operands.
    scale : ndarray of float32, shape (1,), (n,) or (m, 1)
        For all, per column, or per row; contiguous.
    zero_point : int
        Zero point of `y`.
    bound, b, row_start, col_start, count
        As in `pyint8dot.engine.native.multiply`.
    """
    n = y.shape[1]
    per_row = scale.ndim == 2
    per_column = scale.shape == (n,) and not per_row
    tail = (zero_point, int(y.dtype.char == "B"))
    scale_at, row_step, column_step = address(scale), 4 if per_row else 0, 4 if per_column else 0
    requantize = library.load().addresses["requantize"]

    def epilogue(acc: int, ld_acc: int, out: int, rows: int, columns: int, row: int, column: int) -> bytes:
        at = scale_at + row * row_step + column * column_step
        return record(requantize, acc, out, ld_acc, y.strides[0], rows, columns, at, row_step, int(per_column), *tail)

    _finished(bound, b, a, y, row_start, col_start, count, epilogue)


def dequantized(
    bound: Bound,
    b: int,
    a: NDArray[Any],
    y: NDArray[np.float32],
    col_scale: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    act: str | None,
    row_start: int = 0,
    col_start: int = 0,
    count: int = 1,
) -> None:
    """Compute ``y = act(float32(A' @ B + row_start + col_start) * col_scale + bias)``; see `pyint8dot.epilogue.dequantize`.

    Parameters
    ----------
    y : ndarray of float32, shape (m, n)
        Contiguous rows; overwritten. It shares no memory with the operands.
    col_scale : ndarray of float32, shape (n,)
        Contiguous.
    bias : ndarray of float32, shape (n,), optional
        Contiguous.
    act : {None, "relu", "gelu"}
    bound, b, a, row_start, col_start, count
        As in `pyint8dot.engine.native.multiply`.
    """
    dequantize, activation = library.load().addresses["dequantize"], ACTIVATIONS[act]
    scale_at, bias_at, one_at = address(col_scale), 0 if bias is None else address(bias), address(_ONE)

    def epilogue(acc: int, ld_acc: int, out: int, rows: int, columns: int, _row: int, column: int) -> bytes:
        # All rows have the scale 1, which changes no bit.
        return record(
            dequantize, acc, out, ld_acc, y.strides[0], rows, columns,
            one_at, 0, scale_at + 4 * column, bias_at and bias_at + 4 * column, activation,
        )  # fmt: skip

    _finished(bound, b, a, y, row_start, col_start, count, epilogue)


def q_scaled(
    bound: Bound,
    b: int,
    a: NDArray[Any],
    y: NDArray[Any],
    fields: tuple[int, int, int, int, int, int],
    row_start: int = 0,
    col_start: int = 0,
    count: int = 1,
) -> None:
    """Compute tract's chain ``clamp(QScale(A' @ B + row_start + col_start) + zero_point)``.

    `fields` are multiplier, shift (1 to 62), policy, zero point, low and high, as the entry ``q_scale`` takes them; the
    rest is as in `requantized`.
    """
    q_scale = library.load().addresses["q_scale"]

    def epilogue(acc: int, ld_acc: int, out: int, rows: int, columns: int, _row: int, _column: int) -> bytes:
        return record(q_scale, acc, out, ld_acc, y.strides[0], rows, columns, *fields)

    _finished(bound, b, a, y, row_start, col_start, count, epilogue)


def _finished(
    bound: Bound,
    b: int,
    a: NDArray[Any],
    y: NDArray[Any],
    row_start: int,
    col_start: int,
    count: int,
    epilogue: Callable[[int, int, int, int, int, int, int], bytes],
) -> None:
    """Pack and multiply block by block, each followed by the record that `epilogue` makes for it."""
    run, entry, pack, kr = bound
    (m, k), n = a.shape, y.shape[1]
    if m == 0 or n == 0:
        return
    packed_k = packed_depth(k, kr)
    stride_m, stride_k = a.strides
    a_at, y_at, ld_y = address(a), address(y), y.strides[0]
    flip = FLIP if a.dtype.char == "B" else 0

    def block(row: int, rows: int, column: int, columns: int) -> None:
        _, packed, acc, size = layout_block(rows, packed_k, columns)
        at = take(size)
        packed, acc = at + packed, at + acc
        run(
            NO_HEAD
            + record(pack, a_at + row * stride_m, packed, k, rows, stride_k, stride_m, 1, flip)
            + record(
                entry, packed, b + column * packed_k, acc, 4 * columns, rows, columns, packed_k,
                row_start and row_start + 4 * row, col_start and col_start + 4 * column,
            )
            + epilogue(acc, 4 * columns, y_at + row * ld_y + y.itemsize * column, rows, columns, row, column)
            + END
        )  # fmt: skip

    run_blocks(block, m, n, packed_k + 4 * n, count)
