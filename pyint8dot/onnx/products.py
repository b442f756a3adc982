"""The product of a dynamically quantised layer: packed, multiplied, scaled, shifted and activated block by block.

The values are those of `gemm.product` followed by `epilogue.dequantize`, bit for bit; a native kernel does all of it while
a block is in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyint8dot import epilogue
from pyint8dot.engine import chains, gemm, native
from pyint8dot.engine.kernels import Kernel
from pyint8dot.engine.packing import PackedMatrix


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
            chains.dequantized(
                native.bind(kernel), at.b, a, y, np.ascontiguousarray(scale, np.float32),
                None if bias is None else np.ascontiguousarray(bias, np.float32), act, at.row_start, at.col_start, count,
            )  # fmt: skip
            return y
    acc = np.empty((m, n), np.int32)
    gemm.product(kernel, a, b, acc, a_zero_point=a_zero, b_zero_point=b_zero, num_threads=count)
    return epilogue.dequantize(acc, np.float32(1), scale, bias, act)
