"""Attention of com.microsoft: of one projection that holds queries, keys and values, or of three tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyint8dot.attention import attention_heads_last, to_base_2
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.contrib.writer import MICROSOFT
from pyint8dot.onnx.errors import ModelError
from pyint8dot.onnx.registry import Function, Site, operator

_LOWEST = np.finfo(np.float32).min


class _Heads:
    """The attributes that all forms of attention share, and the products themselves."""

    def __init__(self, site: Site) -> None:
        for name in ("do_rotary", "past_present_share_buffer"):
            if site.attr(name, 0):
                raise ModelError(f"{site.node}: attribute {name!r} is not supported")
        self.count = int(site.attr("num_heads", 0))
        if self.count < 1:
            raise ModelError(f"{site.node}: attribute 'num_heads' must be positive")
        self.scale = float(site.attr("scale", 0.0) or 0.0)
        self.filter = np.float32(site.attr("mask_filter_value", -10000.0))
        self.causal = bool(site.attr("unidirectional", 0))
        self.limit, self.what, self.threads = site.max_bytes, site.what, site.num_threads
        site.native()

    def split(self, x: np.ndarray) -> np.ndarray:
        """Bring (batch, length, heads * size) to (batch, heads, length, size), which 4-D tensors have already."""
        if x.ndim == 4:
            return x
        return np.asarray(x.reshape(*x.shape[:2], self.count, -1).transpose(0, 2, 1, 3))

    def added(self, mask: np.ndarray | None, queries: int, keys: int, batch: int) -> np.ndarray | None:
        """Return what a mask of any of the known forms adds to the scores."""
        if mask is None:
            return None
        places = np.arange(keys)
        if mask.ndim == 1 and mask.size == batch:
            keep = places < mask[:, None]
        elif mask.ndim == 1 and mask.size == 2 * batch:
            keep = (places < mask[:batch, None]) & (places >= mask[batch:, None])
        elif mask.ndim == 1:
            raise ValueError(f"a mask of shape {mask.shape} is not supported for a batch of {batch}")
        else:
            keep = mask > 0
        if mask.ndim == 4:
            keep = keep[:, :, keys - queries : keys, :keys]
        elif mask.ndim == 3:
            keep = keep[:, None]
        else:
            keep = keep[:, None, None]
        return np.asarray(np.where(keep, np.float32(0), self.filter))

    def attend(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, bias: np.ndarray | None, past: int
    ) -> np.ndarray:
        """Return (batch, length, heads * size) of queries, keys and values with heads apart; `past` keys come before the first query."""
        batch, heads, queries, size = q.shape
        keys, width = k.shape[2], v.shape[-1]
        check_shape((batch, queries, heads, width), 4, self.limit, self.what)
        if bias is not None or self.causal:
            check_shape((batch, heads, queries, keys), 4, self.limit, self.what)
        hidden = self.added(mask, queries, keys, batch)
        if bias is not None:
            hidden = np.asarray(bias if hidden is None else hidden + bias, np.float32)
        if self.causal:
            behind = np.arange(keys) > np.arange(past, past + queries)[:, None]
            hidden = np.where(behind, _LOWEST, np.float32(0) if hidden is None else hidden)
        scale = float(np.float32((self.scale or 1 / math.sqrt(size)) * math.log2(math.e)))
        seen = None if hidden is None else to_base_2(hidden)
        kind = q.dtype
        q, k, v = (np.asarray(t, np.float32) for t in (q, k, v))
        y = attention_heads_last(q, k, v, seen, scale=scale, num_threads=self.threads)
        return y.reshape(batch, queries, heads * width).astype(kind, copy=False)


def _lengthened(past: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    """Put what came before in front, along the tokens."""
    return x if past is None else np.concatenate((past, x), axis=2)


@operator("PackedQkvAttention", domain=MICROSOFT)
def _packed(site: Site) -> Function | None:
    """Inputs: the projection (batch, length, 3 * hidden), mask, past (2, batch, heads, length, size), bias of the scores."""
    heads = _Heads(site)
    site.native()
    sizes = site.attr("qkv_hidden_sizes")
    want_present = len(site.node.outputs) > 1

    def run(
        qkv: np.ndarray, mask: np.ndarray | None = None, past: np.ndarray | None = None, bias: np.ndarray | None = None,
        _length: np.ndarray | None = None,
    ) -> Any:  # fmt: skip
        cuts = np.cumsum(sizes)[:2] if sizes else 3
        q, k, v = (heads.split(piece) for piece in np.split(qkv, cuts, axis=2))
        if past is not None:
            k, v = _lengthened(past[0], k), _lengthened(past[1], v)
        y = heads.attend(q, k, v, mask, bias, k.shape[2] - qkv.shape[1])
        return (y, np.stack((k, v))) if want_present else y

    return run


@operator("MultiHeadAttention", domain=MICROSOFT)
def _multi_head(site: Site) -> Function | None:
    heads = _Heads(site)
    site.native()
    if len([o for o in site.node.outputs if o]) > 1 and len(site.node.outputs) > 3:
        raise ModelError(f"{site.node}: the scores as an output are not supported")
    wanted = len(site.node.outputs)

    def run(
        q: np.ndarray, k: np.ndarray | None = None, v: np.ndarray | None = None, bias: np.ndarray | None = None,
        mask: np.ndarray | None = None, scores: np.ndarray | None = None, past_k: np.ndarray | None = None,
        past_v: np.ndarray | None = None, *_: Any,
    ) -> Any:  # fmt: skip
        if q.ndim == 5:  # (batch, length, heads, 3, size)
            q, k, v = (q[:, :, :, i].reshape(*q.shape[:2], -1) for i in range(3))
        elif k is not None and k.ndim == 5:  # (batch, length, heads, 2, size)
            k, v = (k[:, :, :, i].reshape(*k.shape[:2], -1) for i in range(2))
        if k is None or v is None:
            raise ValueError("queries without keys and values must be packed, of 5 dimensions")
        if bias is not None:
            width = q.shape[-1]
            q = q + bias[:width]
            if k.ndim == 3:
                k = k + bias[width : 2 * width]
            if v.ndim == 3:
                v = v + bias[2 * width :]
        k, v = _lengthened(past_k, heads.split(k)), _lengthened(past_v, heads.split(v))
        y = heads.attend(heads.split(q), k, v, mask, scores, 0 if past_k is None else past_k.shape[2])
        # Present keys and values may not be views of what the caller gave.
        return (y, k.copy(), v.copy())[:wanted] if wanted > 1 else y

    return run
