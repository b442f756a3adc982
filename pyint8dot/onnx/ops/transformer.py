"""What patterns find in the graph of a transformer: attention as a whole, and the normalisation of a sum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyint8dot import floats
from pyint8dot.attention import attention, to_base_2
from pyint8dot.onnx.bounds import check_broadcast, check_shape
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.registry import Function, Site, operator


@operator("Attention", domain=FUSED)
def _attention(site: Site) -> Function | None:
    """Softmax of ``scale * q @ k + mask``, times v, written into the order that a Transpose after it asks for."""
    perm = site.attr("perm")
    back = None if perm is None else np.argsort(perm)
    scale = float(np.float32(site.attr("scale") * math.log2(math.e)))
    limit, what = site.max_bytes, site.what
    site.native()

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


@operator("AddNormalization", domain=FUSED)
def _add_normalization(site: Site) -> Function | None:
    """Layer normalisation of a sum, and the same times a factor where there is a second output."""
    epsilon, over = site.attr("epsilon"), site.overwrite
    limit, what = site.max_bytes, site.what
    site.native()

    def run(
        x: np.ndarray, scale: np.ndarray, bias: np.ndarray | None, residual: np.ndarray, factor: np.ndarray | None = None
    ) -> Any:  # fmt: skip
        out: np.ndarray | None = x if 0 in over else residual if 3 in over else None
        added: np.ndarray | None = residual
        if residual.shape != x.shape:
            check_broadcast((x, residual), limit, what)
            x, added, out = x + residual, None, None
        row = x.shape[-1:]
        scale = np.broadcast_to(scale, row)
        bias = None if bias is None else np.broadcast_to(bias, row)
        if factor is not None and factor.shape == row:
            return floats.layer_norm_and_scaled(x, scale, bias, factor, eps=epsilon, residual=added)
        y = floats.layer_norm(x, scale, bias, eps=epsilon, residual=added, out=out)
        if factor is None:
            return y
        check_broadcast((y, factor), limit, what)
        return y, y * factor

    return run
