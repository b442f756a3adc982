"""linear(): a float32 layer with int8 weights, the activations quantised row by row, or quantised before."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyint8dot.arguments import Values, bias_vector, check_out, factors, per_column, quantized
from pyint8dot.engine import settings
from pyint8dot.engine.loose import loose_plan
from pyint8dot.engine.operand import Operand, Store, choice
from pyint8dot.engine.packing import PackedMatrix
from pyint8dot.engine.plan import CALL
from pyint8dot.epilogue import ACTIVATIONS, Activation, Dequantization, ScaledDequantization
from pyint8dot.quantize import float32, quantize_rows
from pyint8dot.quantized_left import DynamicallyQuantized, QuantizedRows

if TYPE_CHECKING:
    from pyint8dot.engine.plan import Plan

__all__ = ["linear"]

Right = npt.ArrayLike | PackedMatrix

FLOAT32 = np.dtype(np.float32)
LARGEST = float(np.finfo(np.float32).max)

# Named here, since the commonest call is mostly look-ups.
_array, _current, _NOTHING = np.ndarray, settings.current, settings.NOTHING


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
        What one unit of each column of `w` stands for: 0 in an array for a column of zeros, never as a scalar.
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
        If shapes do not fit, `x` is not finite, a scalar `w_scale` is 0 or `act` is unknown.

    Examples
    --------
    >>> x = np.array([[1.0, -2.0]], np.float32)
    >>> w = np.array([[127], [32]], np.int8)
    >>> linear(x, w, w_scale=1 / 127).round(2)
    array([[0.5]], dtype=float32)
    """
    if type(w) is PackedMatrix and type(x) is _array and x.dtype is FLOAT32:
        set_ = _current()
        if kernel is None and num_threads is None and set_ is _NOTHING:
            right, count = w.here or w.on_default(), settings.default_threads
        else:
            chosen, count = choice(kernel, num_threads)
            right = w.on(chosen)
        plan = None
        if act is None or type(act) is str:
            plan = right.layers.get(act if bias is None else (act,))
        if plan is not None and set_.tally is None:
            # The plan looks at scales and bias itself.
            scale: Any = w_scale
            shift: Any = bias
            y = plan.offer(x, out, count, scale, shift)
            if y is None and (several := _columns(w_scale, w.shape[1])) is not w_scale:
                y = plan.offer(x, out, count, several, shift)
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
    columns = np.ascontiguousarray(np.broadcast_to(per_column("w_scale", factors("w_scale", w_scale), (), n), (n,)))
    shift = bias_vector("bias", bias, n, np.float32)
    if act not in ACTIVATIONS:
        raise ValueError(f'act must be None, "relu" or "gelu", got {act!r}')
    chosen, count = choice(kernel, num_threads)
    m = math.prod(values.shape[:-1])
    rows = np.ascontiguousarray(values.reshape(m, k))
    y = np.empty((m, n), FLOAT32)
    settings.count(chosen.name, m * n * k)
    extras = (columns,) if shift is None else (columns, np.ascontiguousarray(shift))
    if isinstance(weights, PackedMatrix):
        right = weights.on(chosen)
    else:
        loose = loose_plan(chosen, rows, weights, count, 0, 0, _epilogue(act, biased=shift is not None), left=ROWS)
        if loose is not None and loose.pair(rows, weights, y, *extras):
            return _given(y.reshape(shape), out)
        right = Operand(Store(weights, chosen.right), chosen)
    if not layer_plan(right, act, biased=shift is not None).into(rows, y, count, *extras):
        quantize_rows(rows)  # raises, and says where
    return _given(y.reshape(shape), out)


def _columns(scale: Any, n: int) -> Any:
    """One scale as that of each of `n` columns; anything else as it is."""
    kind = type(scale)
    one = kind is float or kind is np.float32 or (kind is _array and scale.size == 1 and scale.dtype.kind == "f")
    return _repeated(float(scale if kind is not _array else scale.item()), n) if one else scale


@functools.lru_cache(64)
def _repeated(scale: float, n: int) -> npt.NDArray[np.float32] | None:
    """So many times the same scale; None where that is to be refused, or looked at more closely."""
    return np.full(n, scale, FLOAT32) if abs(scale) < LARGEST and np.float32(scale) != 0 else None


def _given(y: npt.NDArray[np.float32], out: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    """`y`, or `out` with what `y` holds."""
    if out is None:
        return y
    out[...] = y
    return out


#: How rows of float32 are quantised; the same object each time, since plans are known by it.
ROWS = QuantizedRows()


@functools.cache
def _epilogue(act: Activation, *, biased: bool) -> Dequantization:
    """What ends a layer; the same object each time."""
    return Dequantization(act, biased=biased)


def layer_plan(right: Operand, act: Activation, *, biased: bool) -> Plan:
    """The plan of a layer with these weights: rows quantised on the way in, scales and bias handed over at the call."""
    key = (act,) if biased else act
    plan = right.layers.get(key)
    if plan is None:
        made = right.plan(FLOAT32, epilogue=_epilogue(act, biased=biased), left=ROWS)
        plan = right.layers[key] = made
    return plan


class ScaledProduct:
    """``act(float32((a - a_zero) @ (b - b_zero)) * (unit * scale) + bias)`` for many `a`, whose scale and zero point come with each.

    The values are those of `matmul_integer` followed by `pyint8dot.epilogue.dequantize`, bit for bit.

    Parameters
    ----------
    right : Operand
        b, shape (k, n), on a kernel.
    dtype : dtype
        Type of a: int8 or uint8, or float32 where `pyint8dot.quantize.dynamic_quantize_linear` makes a of it.
    b_zero : int or ndarray of int32, shape (n,)
    unit : ndarray of float32, shape (n,)
    bias : ndarray of float32, shape (n,), optional
    act : {None, "relu", "gelu"}
    """

    def __init__(
        self,
        right: Operand,
        dtype: np.dtype[Any],
        b_zero: int | npt.NDArray[np.int32],
        unit: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32] | None,
        act: Activation,
    ) -> None:
        self._right = right
        left = DynamicallyQuantized() if dtype == FLOAT32 else None
        epilogue = ScaledDequantization(unit, bias, act, handed=left is None)
        self._plan = right.plan(dtype, CALL, b_zero, epilogue=epilogue, left=left)

    def __call__(self, a: Values, count: int, *extras: Values) -> npt.NDArray[np.float32] | None:
        """Compute it for `a`, shape (..., k), of the type given, on `count` threads.

        Where `a` is int8 or uint8, `extras` are its zero point, of the same type, and its scale, float32, both without a dimension.
        Returns None where an array is not as plain as a plan serves, or float32 values are too many for one piece, or not finite.
        """
        y = self._plan.offer(a, None, count, *extras)
        if y is not None and _current().tally is not None:
            settings.count(self._right.kernel.name, y.size * a.shape[-1])
        return y
