"""What patterns find in the graph of a transformer: attention as a whole, the normalisation of a sum, and steps of one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyint8dot import floats
from pyint8dot.attention import attention, attention_heads_last, to_base_2
from pyint8dot.engine import tape
from pyint8dot.onnx.bounds import check_broadcast, check_shape
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.registry import Function, Site, operator

# The order of a Transpose from (batch, heads, length, size) to (batch, length, heads, size), and back.
HEADS_LAST = [0, 2, 1, 3]


@operator("MaskToBase2", domain=FUSED)
def _mask_to_base_2(_: Site) -> Function | None:
    return lambda mask: to_base_2(mask) if mask.any() else mask


@operator("Attention", domain=FUSED)
def _attention(site: Site) -> Function | None:
    """Softmax of ``scale * q @ k + mask``, times v, in the order that a Transpose after it asked for; the mask is one to the base 2.

    With the attribute `split`, heads and size of one, q, k and v are projections that hold all heads side by side; with `join` so does
    the result.
    """
    perm, split, join = site.attr("perm"), site.attr("split"), site.attr("join")
    scale = float(np.float32(site.attr("scale") * math.log2(math.e)))
    limit, what, count = site.max_bytes, site.what, site.num_threads
    site.native(steady=True)

    def run(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None) -> Any:
        rank = max(q.ndim, k.ndim, v.ndim, 0 if mask is None else mask.ndim)
        if split is not None:
            rank = 4
            q, k, v = (x.reshape(*x.shape[:2], *split).swapaxes(1, 2) for x in (q, k, v))
        else:
            k = k.swapaxes(-1, -2)
        if not _fit(q, k, v, mask):
            q, k, v, mask = _broadcast(q, k, v, mask)
        batch, heads, m, width = shape = (*q.shape[:3], v.shape[3])
        check_shape(shape, 4, limit, what)
        # Most masks hide nothing, and are not worth a sum with every score.
        seen = mask if mask is not None and tape.asked(np.any, mask) else None
        if perm == HEADS_LAST and rank == 4:
            y = attention_heads_last(q, k, v, seen, scale=scale, num_threads=count)
            return y.reshape(batch, m, heads * width) if join else y
        y = attention(q, k, v, seen, scale=scale, num_threads=count).reshape(shape[4 - rank :])
        return y if perm is None else np.ascontiguousarray(y.transpose(perm))

    return run


def _fit(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None) -> bool:
    """Whether nothing has to be broadcast but the mask."""
    if not q.ndim == k.ndim == v.ndim == 4 or not q.shape[:2] == k.shape[:2] == v.shape[:2]:
        return False
    if mask is None:
        return True
    scores = (*q.shape[:3], k.shape[2])
    return all(size in (1, most) for size, most in zip(mask.shape[::-1], scores[::-1], strict=False))


def _broadcast(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Give all four dimensions, and the same first two, as the products and the sum would."""
    wide: list[Any] = [x.reshape((1,) * (4 - x.ndim) + x.shape) for x in (q, k, v)]
    q, k, v = wide
    *lead, m, n = (*np.broadcast_shapes(q.shape[:2], k.shape[:2]), q.shape[2], k.shape[2])
    if mask is not None:
        *lead, m, n = np.broadcast_shapes((*lead, m, n), mask.shape)
    lead = list(np.broadcast_shapes(tuple(lead), v.shape[:2]))
    q = np.broadcast_to(q, (*lead, m, q.shape[3]))
    k = np.broadcast_to(k, (*lead, n, k.shape[3]))
    return q, k, np.broadcast_to(v, (*lead, *v.shape[2:])), mask


@operator("AddNormalization", domain=FUSED)
def _add_normalization(site: Site) -> Function | None:
    """Layer normalisation of a sum, and the same times a factor where there is a second output."""
    epsilon, over = site.attr("epsilon"), site.overwrite
    limit, what = site.max_bytes, site.what
    site.native(steady=True)

    def run(
        x: np.ndarray, scale: np.ndarray, bias: np.ndarray | None, residual: np.ndarray, factor: np.ndarray | None = None
    ) -> Any:  # fmt: skip
        out: np.ndarray | None = x if 0 in over else residual if 3 in over else None
        added: np.ndarray | None = residual
        if residual.shape != x.shape:
            check_broadcast((x, residual), limit, what)
            x, added, out = x + residual, None, None
        row = x.shape[-1:]
        if scale.shape != row:
            scale = np.broadcast_to(scale, row)
        if bias is not None and bias.shape != row:
            bias = np.broadcast_to(bias, row)
        if factor is not None and factor.shape == row:
            return floats.layer_norm_and_scaled(x, scale, bias, factor, eps=epsilon, residual=added)
        y = floats.layer_norm(x, scale, bias, eps=epsilon, residual=added, out=out)
        if factor is None:
            return y
        check_broadcast((y, factor), limit, what)
        return y, y * factor

    return run


@operator("Deviations", domain=FUSED)
def _deviations(site: Site) -> Function | None:
    """Distances to the mean along the last axis, and the mean of their squares."""
    over = 0 in site.overwrite
    site.native(steady=True)
    return lambda x: floats.deviations(x, out=x if over else None)


@operator("DivideByRoot", domain=FUSED)
def _divide_by_root(site: Site) -> Function | None:
    """Rows by the root of a number each; what broadcasts otherwise step by step."""
    over = 0 in site.overwrite
    limit, what = site.max_bytes, site.what
    site.native(steady=True)

    def run(x: np.ndarray, squares: np.ndarray) -> Any:
        if x.ndim and squares.shape == (*x.shape[:-1], 1):
            return floats.divide_rows(x, squares, root=True, out=x if over else None)
        check_broadcast((x, squares), limit, what)
        with np.errstate(all="ignore"):
            return np.asarray(x / np.sqrt(squares))

    return run
