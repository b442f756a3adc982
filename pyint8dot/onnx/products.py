"""The product of a dynamically quantised layer: packed, multiplied, scaled, shifted and activated block by block.

The values are those of `gemm.product` followed by `epilogue.dequantize`, bit for bit; a native kernel does all of it while
a block is in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyint8dot import chains, epilogue, gemm, library, native
from pyint8dot.kernels import Kernel
from pyint8dot.layouts import FLIP
from pyint8dot.library import address
from pyint8dot.native import END, NO_HEAD, record
from pyint8dot.packing import PackedMatrix

_ONE = np.ones(1, np.float32)


def scaled_product(
    kernel: Kernel,
    a: np.ndarray,
    b: PackedMatrix,
    a_zero: int,
    b_zero: Any,
    scale: np.ndarray,
    bias: np.ndarray | None,
    act: epilogue.Activation,
    count: int,
) -> np.ndarray:
    """Compute ``act(float32((a - a_zero) @ (b - b_zero)) * scale + bias)``.

    Parameters
    ----------
    kernel : Kernel
        What multiplies.
    a : ndarray of int8 or uint8, shape (m, k)
        Any strides.
    b : PackedMatrix, shape (k, n)
    a_zero : int
    b_zero : int or ndarray of int32, shape (n,)
    scale : ndarray of float32, shape (n,)
    bias : ndarray of float32, shape (n,), optional
    act : {None, "relu", "gelu"}
    count : int
        How many threads to use.

    Returns
    -------
    ndarray of float32, shape (m, n)
    """
    (m, k), n = a.shape, b.shape[1]
    if kernel.native and m and n:
        row_start, col_start, outers = gemm.starts(a, b, a_zero, b_zero, None)
        if not outers:
            gemm.count(kernel, m, n, k)
            at = gemm.Addresses(kernel, b, row_start, col_start)
            y = np.empty((m, n), np.float32)
            _native(native.bind(kernel), at, a, y, scale, bias, act, count)
            return y
    acc = np.empty((m, n), np.int32)
    gemm.product(kernel, a, b, acc, a_zero_point=a_zero, b_zero_point=b_zero, num_threads=count)
    return epilogue.dequantize(acc, _ONE[0], scale, bias, act)


def _native(
    bound: native.Bound,
    at: gemm.Addresses,
    a: np.ndarray,
    y: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray | None,
    act: epilogue.Activation,
    count: int,
) -> None:
    run, entry, pack, kr = bound
    (m, k), n = a.shape, y.shape[1]
    packed_k = k if kr == 1 else k + 3 & -4
    scale = np.ascontiguousarray(scale, np.float32)
    bias = None if bias is None else np.ascontiguousarray(bias, np.float32)
    stride_m, stride_k = a.strides
    a_at, y_at, ld_y = address(a), address(y), y.strides[0]
    scale_at, bias_at, one_at = address(scale), 0 if bias is None else address(bias), address(_ONE)
    dequantize, activation = library.load().addresses["dequantize"], chains.ACTIVATIONS[act]
    flip = FLIP if a.dtype.char == "B" else 0

    def block(row: int, rows: int, column: int, columns: int) -> None:
        _, packed, acc, size = chains.layout_block(rows, packed_k, columns)
        store = native.take(size)
        packed, acc = store + packed, store + acc
        run(
            NO_HEAD
            + record(pack, a_at + row * stride_m, packed, k, rows, stride_k, stride_m, 1, flip)
            + record(
                entry, packed, at.b + column * packed_k, acc, 4 * columns, rows, columns, packed_k,
                at.row_start and at.row_start + 4 * row, at.col_start and at.col_start + 4 * column,
            )
            + record(
                dequantize, acc, y_at + row * ld_y + 4 * column, 4 * columns, ld_y, rows, columns,
                one_at, 0, scale_at + 4 * column, bias_at and bias_at + 4 * column, activation,
            )
            + END
        )  # fmt: skip

    native.run_blocks(block, m, n, packed_k + 4 * n, count)
