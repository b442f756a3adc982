"""linear(): a float32 layer with int8 weights, the activations quantised row by row."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pyint8dot.arguments import bias_vector, check_out, per_column, quantized, scales
from pyint8dot.engine import chains, gemm, kernels, native, settings, threads
from pyint8dot.engine.packing import PackedMatrix
from pyint8dot.epilogue import ACTIVATIONS, Activation, dequantize
from pyint8dot.quantize import float32, quantize_rows

__all__ = ["linear"]

Right = npt.ArrayLike | PackedMatrix

# Named here, since the commonest call is mostly look-ups.
_current, _NOTHING = settings.current, settings.NOTHING


def linear(
    x: npt.ArrayLike,
    w: Right,
    *,
    w_scale: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    act: Activation = None,
    out: npt.NDArray[np.float32] | None = None,
    kernel: str | None = None,
    num_threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """Apply a linear layer with int8 weights to float32 rows: about ``act(x @ (w * w_scale) + bias)``.

    Each row of `x` is quantised to int8 by `quantize_rows`, the product is exact, and row scale, column scale and bias are applied to it
    in float32 (`pyint8dot.epilogue.dequantize`).

    Parameters
    ----------
    x : array_like of float32, shape (..., k)
        Finite.
    w : array_like of int8, shape (k, n), or PackedMatrix of int8
        The weights; pack them once with `pack` where they are used more than once.
    w_scale : array_like of float, shape () or (n,)
        What one unit of each column of `w` stands for.
    bias : array_like of float32, shape (n,), optional
    act : {None, "relu", "gelu"}
        Applied last; "gelu" is the exact one, by the error function.
    out : ndarray of float32, shape (..., n), optional
        Where to write.
    kernel : str, optional
        Name of the kernel to run; by default the best this machine has.
    num_threads : int, optional
        How many threads to use.

    Returns
    -------
    ndarray of float32, shape (..., n)

    Raises
    ------
    TypeError
        If an argument has another type than those above.
    ValueError
        If shapes do not fit, `x` is not finite or `act` is unknown.

    Examples
    --------
    >>> x = np.array([[1.0, -2.0]], np.float32)
    >>> w = np.array([[127], [32]], np.int8)
    >>> linear(x, w, w_scale=1 / 127).round(2)
    array([[0.5]], dtype=float32)
    """
    # The commonest call has a way of its own.
    if type(w) is PackedMatrix and out is None and kernel is None and num_threads is None and _current() is _NOTHING:
        y = w.short.linear(x, w_scale, bias, act)
        if y is not None:
            return y
    values = float32("x", x)
    if values.ndim == 0:
        raise ValueError("x must have at least one dimension, got a 0-d array")
    weights = w if isinstance(w, PackedMatrix) else quantized("w", w)
    if weights.dtype != np.int8:
        raise TypeError(f"w must be int8, got {weights.dtype}")
    if weights.ndim != 2:
        raise ValueError(f"w must be two-dimensional, got shape {weights.shape}")
    k, n = weights.shape
    if values.shape[-1] != k:
        raise ValueError(
            f"w must have {values.shape[-1]} rows, as many as x has columns, got shapes {values.shape} and {weights.shape}"
        )
    shape = (*values.shape[:-1], n)
    if out is not None:
        check_out(out, shape, np.dtype(np.float32))
    columns = np.ascontiguousarray(np.broadcast_to(per_column("w_scale", scales("w_scale", w_scale), (), n), (n,)))
    shift = bias_vector("bias", bias, n, np.float32)
    if act not in ACTIVATIONS:
        raise ValueError(f'act must be None, "relu" or "gelu", got {act!r}')
    chosen = kernels.select(kernel)
    count = threads.get_num_threads() if num_threads is None else threads.checked(num_threads)

    m = math.prod(values.shape[:-1])
    rows = values.reshape(m, k)
    y = np.empty((m, n), np.float32)
    if chosen.native:
        gemm.count(chosen, m, n, k)
        at = gemm.Addresses(chosen, weights, None, None)
        rows = np.ascontiguousarray(rows)
        shift = None if shift is None else np.ascontiguousarray(shift)
        if not chains.linear(native.bind(chosen), at.b, rows, y, columns, shift, act, count):
            quantize_rows(rows)  # raises, and says where
    else:
        quantized_rows, row_scale = quantize_rows(rows)
        acc = np.empty((m, n), np.int32)
        gemm.product(chosen, quantized_rows, weights, acc)
        dequantize(acc, row_scale, columns, shift, act, out=y)
    if out is None:
        return y.reshape(shape)
    out[...] = y.reshape(shape)
    return out
