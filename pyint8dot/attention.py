"""Attention of float32: what each query's softmax makes of the values, in numpy and in native code.

Every sum is a chain in the order of its terms, from zero on; those of products are fused multiply-adds (`pyint8dot.fma`), rounded once a
term. So the result is the same on every machine, whatever its vectors, and no score leaves the nearest cache in native code.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot import floats
from pyint8dot.arguments import check_out
from pyint8dot.engine import heads
from pyint8dot.fma import add_product

if TYPE_CHECKING:
    from pyint8dot.floats import FloatArray

LOWEST = np.finfo(np.float32).min


def attention(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    mask: FloatArray | None = None,
    *,
    scale: float = 1.0,
    out: FloatArray | None = None,
    native: bool = True,
) -> FloatArray:
    """Weigh the values of each head by a softmax to the base 2: ``2**s / sum(2**s) @ v`` with ``s = (scale * q) @ k.T + mask``.

    The usual softmax, to the base e, asks for log2(e) in `scale`, and for `to_base_2` of the mask.

    Parameters
    ----------
    q : ndarray of float32, shape (batch, heads, m, d)
        Queries. These arrays may lie in memory as they like, as views of projections do.
    k : ndarray of float32, shape (batch, heads, n, d)
        Keys; at least one.
    v : ndarray of float32, shape (batch, heads, n, width)
        Values.
    mask : ndarray of float32, optional
        Is added to the scores; broadcasts to (batch, heads, m, n).
    scale : float
        Multiplies the queries, as float32.
    out : ndarray of float32, optional
        Where to write; shape (batch, heads, m, width), and no memory of the others.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    ndarray of float32, shape (batch, heads, m, width)
        `out`, or a new array. Queries all of whose scores are minus infinity give NaN.

    Raises
    ------
    TypeError
        If an array is not float32.
    ValueError
        If shapes do not fit, there is no key, or `out` is read-only or overlaps another array.

    Examples
    --------
    >>> q, k = np.zeros((1, 1, 1, 2), np.float32), np.ones((1, 1, 3, 2), np.float32)
    >>> attention(q, k, np.float32([[[[1], [2], [6]]]]))
    array([[[[3.]]]], dtype=float32)
    """
    _check(q, k, v)
    shape = (*q.shape[:3], v.shape[3])
    if mask is not None:
        mask = _masking(mask, (*q.shape[:3], k.shape[2]))
    if out is None:
        out = np.empty(shape, np.float32)
    else:
        check_out(out, shape, np.dtype(np.float32))
        for name, array in (("q", q), ("k", k), ("v", v), ("mask", mask)):
            if array is not None and np.may_share_memory(out, array):
                raise ValueError(f"out must not overlap {name}")
    if out.size == 0:
        return out
    work = out if _in_rows(out) else np.empty(shape, np.float32)
    masking = mask if mask is None else _as_rows(mask)
    if not native or not heads.attend(_as_rows(q), _as_rows(k), _as_rows(v), masking, scale, work):
        _define(q, k, v, mask, np.float32(scale), work)
    if work is not out:
        np.copyto(out, work)
    return out


def to_base_2(mask: FloatArray) -> FloatArray:
    """Return what a mask of scores to the base e is to the base 2: times log2(e), what is finite staying so.

    Parameters
    ----------
    mask : ndarray of float32
        Any shape; often the lowest float32 where nothing is to be seen.

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> to_base_2(np.float32([0, -np.inf, np.finfo(np.float32).min]))
    array([ 0.0000000e+00,           -inf, -3.4028235e+38], dtype=float32)
    """
    with np.errstate(over="ignore"):
        scaled: FloatArray = mask * floats.LOG2_E
    np.copyto(scaled, np.clip(scaled, LOWEST, -LOWEST), where=np.isfinite(mask))
    return scaled


def _define(
    q: FloatArray, k: FloatArray, v: FloatArray, mask: FloatArray | None, scale: np.float32, out: FloatArray
) -> None:
    """The definition: the order of the operations is that of native code."""
    batch, count, m, width = out.shape
    some = max(1, floats.BLOCK // (m * max(k.shape[2], width)))  # heads at a time, which changes nothing but the speed
    with np.errstate(all="ignore"):
        q = q * scale
        for item, start in itertools.product(range(batch), range(0, count, some)):
            part = item, slice(start, start + some)
            # One score or result per element, from its first term to its last.
            scores = _chain(q[part].transpose(2, 0, 1)[..., None], k[part].transpose(2, 0, 1)[:, :, None])
            if mask is not None:
                scores += mask[part]
            scores -= np.maximum.reduce(scores, axis=2, keepdims=True)
            powers = floats.exp2(scores).transpose(2, 0, 1)
            sums = np.zeros(powers.shape[1:], np.float32)
            for each in powers:
                sums += each
            values = _chain(powers[..., None], v[part].transpose(1, 0, 2)[:, :, None])
            np.multiply(values, (floats.ONE / sums)[..., None], out=out[part])


def _chain(x: FloatArray, y: FloatArray) -> FloatArray:
    """Sum of the products of `x` and `y` along the first axis, term by term."""
    total = np.zeros(np.broadcast_shapes(x.shape[1:], y.shape[1:]))
    work = np.empty_like(total), np.empty(total.shape, np.int64)
    for one, other in zip(x.astype(np.float64), y.astype(np.float64), strict=True):
        add_product(total, one, other, work)
    return total.astype(np.float32)


def _check(q: FloatArray, k: FloatArray, v: FloatArray) -> None:
    for name, array in (("q", q), ("k", k), ("v", v)):
        if array.dtype != np.float32:
            raise TypeError(f"{name} must be float32, got {array.dtype}")
        if array.ndim != 4:
            raise ValueError(f"{name} must have 4 dimensions, got {array.ndim}")
    batch, count, _, d = q.shape
    n = k.shape[2]
    if k.shape != (batch, count, n, d):
        raise ValueError(f"k must have shape {(batch, count, 'n', d)} for q of shape {q.shape}, got {k.shape}")
    if v.shape[:3] != (batch, count, n):
        raise ValueError(f"v must have shape {(batch, count, n, 'width')} for k of shape {k.shape}, got {v.shape}")
    if n == 0:
        raise ValueError("k must have at least one row, got none")


def _masking(mask: FloatArray, shape: tuple[int, ...]) -> FloatArray | None:
    """Check a mask and give it the shape of the scores; None where it changes none of them."""
    if mask.dtype != np.float32:
        raise TypeError(f"mask must be float32, got {mask.dtype}")
    try:
        wide: Any = np.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(f"mask must broadcast to shape {shape}, got {mask.shape}") from None
    # Where nothing is masked the scores stay as they are, but for the sign of zero, which no power sees.
    return wide if mask.any() else None


def _in_rows(x: FloatArray) -> bool:
    """Whether the numbers of each row lie side by side."""
    return x.shape[3] < 2 or x.strides[3] == x.itemsize


def _as_rows(x: FloatArray) -> FloatArray:
    return x if _in_rows(x) else np.ascontiguousarray(x)
