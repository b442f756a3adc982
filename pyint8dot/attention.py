"""Attention of float32: what each query's softmax makes of the values, in numpy and in native code.

Every sum is a chain in the order of its terms, from zero on; those of products are fused multiply-adds (`pyint8dot.fma`), rounded once a
term. So the result is the same on every machine, whatever its vectors, and no score leaves the nearest cache in native code.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot import floats
from pyint8dot.arguments import check_out
from pyint8dot.engine import heads, threads
from pyint8dot.fma import chain

if TYPE_CHECKING:
    from pyint8dot.floats import FloatArray

FLOAT32 = np.dtype(np.float32)
LOWEST = np.finfo(np.float32).min


def attention(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    mask: FloatArray | None = None,
    *,
    scale: float = 1.0,
    out: FloatArray | None = None,
    num_threads: int | None = None,
    native: bool = True,
) -> FloatArray:
    """Weigh the values of each head by a softmax to the base 2: ``2**s / sum(2**s) @ v`` with ``s = (scale * q) @ k.T + mask``.

    The usual softmax, to the base e, asks for log2(e) in `scale`, and for `to_base_2` of the mask.

    Parameters
    ----------
    q : ndarray of float32, shape (batch, heads, m, d)
        Queries. These arrays may lie in memory as they like, as views of projections do.
    k : ndarray of float32, shape (batch, heads, n, d)
        Keys.
    v : ndarray of float32, shape (batch, heads, n, width)
        Values.
    mask : ndarray of float32, optional
        Is added to the scores; broadcasts to (batch, heads, m, n).
    scale : float
        Multiplies the queries, as float32.
    out : ndarray of float32, optional
        Where to write; shape (batch, heads, m, width), and no memory of the others.
    num_threads : int, optional
        How many threads share the heads; by default as many as a product uses here.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    ndarray of float32, shape (batch, heads, m, width)
        `out`, or a new array. Queries all of whose scores are minus infinity give NaN, and 0 where there are no keys at all.

    Raises
    ------
    TypeError
        If an array is not float32, or `num_threads` not an int.
    ValueError
        If shapes do not fit, `out` is read-only or overlaps another array, or `num_threads` is not from 1 to 1024.

    Examples
    --------
    >>> q, k = np.zeros((1, 1, 1, 2), np.float32), np.ones((1, 1, 3, 2), np.float32)
    >>> attention(q, k, np.float32([[[[1], [2], [6]]]]))
    array([[[[3.]]]], dtype=float32)
    """
    _check(q, k, v, mask)
    shape = (*q.shape[:3], v.shape[3])
    if out is None:
        out = np.empty(shape, np.float32)
    else:
        out = check_out(out, shape, FLOAT32)
        for name, array in (("q", q), ("k", k), ("v", v), ("mask", mask)):
            if array is not None and np.may_share_memory(out, array):
                raise ValueError(f"out must not overlap {name}")
    return _attend(q, k, v, mask, scale, out, num_threads, native=native)


def attention_heads_last(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    mask: FloatArray | None = None,
    *,
    scale: float = 1.0,
    num_threads: int | None = None,
) -> FloatArray:
    """Give what `attention` does, with a query's heads side by side in memory as the next product wants them.

    Parameters
    ----------
    q, k, v, mask, scale, num_threads
        As for `attention`.

    Returns
    -------
    ndarray of float32, shape (batch, m, heads, width)

    Raises
    ------
    TypeError, ValueError
        As for `attention`.

    Examples
    --------
    >>> ones = np.ones((1, 2, 3, 4), np.float32)
    >>> attention_heads_last(ones, ones, ones).shape
    (1, 3, 2, 4)
    """
    _check(q, k, v, mask)
    out: FloatArray = np.empty((q.shape[0], q.shape[2], q.shape[1], v.shape[3]), np.float32)
    _attend(q, k, v, mask, scale, out.swapaxes(1, 2), num_threads)
    return out


def _attend(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    mask: FloatArray | None,
    scale: float,
    out: FloatArray,
    num_threads: int | None,
    *,
    native: bool = True,
) -> FloatArray:
    """Write the result for operands that fit each other; return it."""
    if out.size == 0 or k.shape[2] == 0:
        out[...] = 0
        return out
    # Where nothing is masked the scores stay as they are, but for the sign of zero, which no power sees.
    if mask is not None:
        mask = np.broadcast_to(mask, (*q.shape[:3], k.shape[2])) if mask.any() else None
    work = out if _in_rows(out) else np.empty(out.shape, np.float32)
    masking = mask if mask is None else _as_rows(mask)
    count = threads.get_num_threads() if num_threads is None else threads.checked(num_threads)
    if not native or not heads.attend(_as_rows(q), _as_rows(k), _as_rows(v), masking, scale, work, count):
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
    scaled = np.empty(mask.shape, np.float32)
    with np.errstate(over="ignore"):
        np.multiply(mask, floats.LOG2_E, out=scaled)
    np.maximum(scaled, LOWEST, out=scaled)
    np.minimum(scaled, -LOWEST, out=scaled)
    np.copyto(scaled, mask, where=np.isinf(mask))
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
    return chain(np.zeros(np.broadcast_shapes(x.shape[1:], y.shape[1:]), np.float32), x, y)


def _check(q: FloatArray, k: FloatArray, v: FloatArray, mask: FloatArray | None) -> None:
    for name, array in (("q", q), ("k", k), ("v", v)):
        if array.dtype != FLOAT32:
            raise TypeError(f"{name} must be float32, got {array.dtype}")
        if array.ndim != 4:
            raise ValueError(f"{name} must have 4 dimensions, got {array.ndim}")
    batch, count, m, d = q.shape
    n = k.shape[2]
    if k.shape != (batch, count, n, d):
        raise ValueError(f"k must have shape {(batch, count, 'n', d)} for q of shape {q.shape}, got {k.shape}")
    if v.shape[:3] != (batch, count, n):
        raise ValueError(f"v must have shape {(batch, count, n, 'width')} for k of shape {k.shape}, got {v.shape}")
    if mask is None:
        return
    if mask.dtype != FLOAT32:
        raise TypeError(f"mask must be float32, got {mask.dtype}")
    scores = (batch, count, m, n)
    if mask.ndim > 4 or any(size not in (1, most) for size, most in zip(mask.shape[::-1], scores[::-1], strict=False)):
        raise ValueError(f"mask must broadcast to shape {scores}, got {mask.shape}")


def _in_rows(x: FloatArray) -> bool:
    """Whether the numbers of each row lie side by side."""
    return x.shape[3] < 2 or x.strides[3] == x.itemsize


def _as_rows(x: FloatArray) -> FloatArray:
    return x if _in_rows(x) else np.ascontiguousarray(x)
