"""The attention that patterns find in a graph: scores, mask, softmax and values at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyint8dot.attention import attention, to_base_2
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.registry import Function, Site, operator


@operator("Attention", domain=FUSED)
def _attention(site: Site) -> Function | None:
    """Softmax of ``scale * q @ k + mask``, times v, written into the order that a Transpose after it asks for."""
    perm = site.attr("perm")
    back = None if perm is None else np.argsort(perm)
    scale = float(np.float32(site.attr("scale") * math.log2(math.e)))
    limit, what = site.max_bytes, site.what

    def run(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None) -> Any:
        rank = max(q.ndim, k.ndim, v.ndim, 0 if mask is None else mask.ndim)
        if not _fit(q, k, v, mask):
            q, k, v, mask = _broadcast(q, k, v, mask)
        shape: tuple[int, ...] = (*q.shape[:3], v.shape[3])
        shape = shape[4 - rank :]
        check_shape(shape, 4, limit, what)
        y: np.ndarray = np.empty(shape if perm is None else [shape[p] for p in perm], np.float32)
        if k.shape[3] == 0:
            y[...] = 0  # the product of nothing with nothing
            return y
        # Most masks hide nothing, and are not worth a sum with every score.
        seen = to_base_2(mask) if mask is not None and mask.any() else None
        whole = (y if back is None else y.transpose(back))[(None,) * (4 - rank)]
        attention(q, k.swapaxes(2, 3), v, seen, scale=scale, out=whole)
        return y

    return run


def _fit(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None) -> bool:
    """Whether nothing has to be broadcast but the mask."""
    if not q.ndim == k.ndim == v.ndim == 4 or not q.shape[:2] == k.shape[:2] == v.shape[:2]:
        return False
    if mask is None:
        return True
    scores = (*q.shape[:3], k.shape[3])
    return all(size in (1, most) for size, most in zip(mask.shape[::-1], scores[::-1], strict=False))


def _broadcast(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Give all four dimensions, and the same first two, as the products and the sum would."""
    wide: list[Any] = [x.reshape((1,) * (4 - x.ndim) + x.shape) for x in (q, k, v)]
    q, k, v = wide
    *lead, m, n = (*np.broadcast_shapes(q.shape[:2], k.shape[:2]), q.shape[2], k.shape[3])
    if mask is not None:
        *lead, m, n = np.broadcast_shapes((*lead, m, n), mask.shape)
    lead = list(np.broadcast_shapes(tuple(lead), v.shape[:2]))
    q = np.broadcast_to(q, (*lead, m, q.shape[3]))
    k = np.broadcast_to(k, (*lead, k.shape[2], n))
    return q, k, np.broadcast_to(v, (*lead, *v.shape[2:])), mask
