"""Attention of com.microsoft whose queries share keys and values in groups, with what came before kept in a buffer, and rotations."""

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
# What no model that was seen has, by the value that leaves it off.
_UNKNOWN = {"softcap": 0.0, "smooth_softmax": 0, "qk_output": 0, "k_quant_type": "NONE", "v_quant_type": "NONE"}
# Inputs behind the bias of the scores.
_FIRST_UNKNOWN = 11


def rotated(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, places: np.ndarray, *, by_pairs: bool) -> np.ndarray:
    """Turn each head by the angles of its place.

    Parameters
    ----------
    x : ndarray, shape (batch, heads, length, size)
        Of floats.
    cos, sin : ndarray, shape (places, half of what is turned)
        Of every place; what is behind the part of a head that is turned stays.
    places : ndarray of int, shape (batch, length)
        Where each token stands.
    by_pairs : bool
        Whether neighbours are turned together, and not elements of the two halves.

    Returns
    -------
    ndarray
    """
    if places.size and not 0 <= places.min() <= places.max() < len(cos):
        raise ValueError(f"positions must be within 0..{len(cos) - 1}, got {places.min()}..{places.max()}")
    half = cos.shape[-1]
    y = x.astype(np.float32)
    cos, sin = (np.asarray(table[places][:, None], np.float32) for table in (cos, sin))
    first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if by_pairs else (slice(half), slice(half, 2 * half))
    a, b = y[..., first].copy(), y[..., second].copy()
    y[..., first], y[..., second] = a * cos - b * sin, b * cos + a * sin
    return np.asarray(y, x.dtype)


def _split(x: np.ndarray, heads: int) -> np.ndarray:
    """Bring (batch, length, heads * size) to (batch, heads, length, size)."""
    return np.asarray(x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2))


@operator("RotaryEmbedding", domain=MICROSOFT)
def _rotary_embedding(site: Site) -> Function | None:
    by_pairs, fixed = bool(site.attr("interleaved", 0)), int(site.attr("num_heads", 0))

    def run(x: np.ndarray, positions: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> Any:
        batch, length = x.shape[0], x.shape[-2]
        if positions.size == 1:
            places = np.arange(length) + positions.reshape(1, 1)
        else:
            places = positions.reshape(batch, length)
        places = np.broadcast_to(places, (batch, length))
        if x.ndim == 4:
            return rotated(x, cos, sin, places, by_pairs=by_pairs)
        heads = _split(x, fixed or x.shape[2] // (2 * cos.shape[1]))
        return rotated(heads, cos, sin, places, by_pairs=by_pairs).swapaxes(1, 2).reshape(x.shape)

    return run


@operator("GroupQueryAttention", domain=MICROSOFT)
def _group_query_attention(site: Site) -> Function | None:
    for name, off in _UNKNOWN.items():
        if site.attr(name, off) != off:
            raise ModelError(f"{site.node}: attribute {name!r} is not supported")
    if any(site.has(i) for i in range(_FIRST_UNKNOWN, len(site.node.inputs))) or len(site.node.outputs) > 3:
        raise ModelError(f"{site.node}: sinks, scales of keys and values, and scores as an output are not supported")
    heads, groups = int(site.attr("num_heads", 0)), int(site.attr("kv_num_heads", 0))
    if groups < 1 or heads < 1 or heads % groups:
        raise ModelError(f"{site.node}: num_heads must be a multiple of kv_num_heads, got {heads} and {groups}")
    turns, by_pairs = bool(site.attr("do_rotary", 0)), bool(site.attr("rotary_interleaved", 0))
    window, fixed = int(site.attr("local_window_size", -1)), float(site.attr("scale", 0.0))
    limit, what, threads, wanted = site.max_bytes, site.what, site.num_threads, len(site.node.outputs)
    site.native()

    def run(
        q: np.ndarray, k: np.ndarray | None, v: np.ndarray | None, past_k: np.ndarray | None, past_v: np.ndarray | None,
        lengths: np.ndarray, total: np.ndarray, cos: np.ndarray | None = None, sin: np.ndarray | None = None,
        positions: np.ndarray | None = None, bias: np.ndarray | None = None,
    ) -> Any:  # fmt: skip
        batch, length, width = q.shape
        if k is None or v is None:
            size = width // (heads + 2 * groups)
            q, k, v = np.split(q, [heads * size, (heads + groups) * size], axis=2)
        q, k, v = _split(q, heads), _split(k, groups), _split(v, groups)
        size, keys = q.shape[3], int(total.reshape(-1)[0])
        buffer = max(keys, 0 if past_k is None else past_k.shape[2])
        check_shape((batch, groups, buffer, size), k.itemsize, limit, what)
        check_shape((batch, heads, length, keys), 4, limit, what)
        # How many tokens each row has had before these; a prompt has none, and may be filled up behind its end.
        ends = lengths.reshape(-1).astype(np.int64) + 1
        before = np.zeros(batch, np.int64) if length == keys else ends - length
        if ends.shape != (batch,) or before.min(initial=0) < 0 or ends.max(initial=0) > keys:
            raise ValueError(f"seqlens_k {lengths.tolist()} do not fit {length} of {keys} tokens in a batch of {batch}")
        steps = before[:, None] + np.arange(length)
        if turns:
            if cos is None or sin is None:
                raise ValueError("a rotation needs cos_cache and sin_cache")
            places = steps if positions is None else positions.reshape(batch, length)
            q, k = (rotated(x, cos, sin, places, by_pairs=by_pairs) for x in (q, k))
        present = [np.zeros((batch, groups, buffer, size), x.dtype) for x in (k, v)]
        for full, past, new in zip(present, (past_k, past_v), (k, v), strict=True):
            for row in range(batch):
                if past is not None:
                    full[row, :, : before[row]] = past[row, :, : before[row]]
                full[row, :, before[row] : before[row] + length] = new[row]
        hidden = np.arange(keys) > steps[..., None]
        if window >= 0:
            hidden |= np.arange(keys) < steps[..., None] + 1 - window
        scores = np.where(hidden[:, None], _LOWEST, np.float32(0) if bias is None else bias.astype(np.float32))
        each = heads // groups
        k, v = (np.repeat(full[:, :, :keys], each, axis=1).astype(np.float32) for full in present)
        scale = float(np.float32((fixed or 1 / math.sqrt(size)) * math.log2(math.e)))
        seen = to_base_2(np.ascontiguousarray(scores, np.float32))
        y = attention_heads_last(np.asarray(q, np.float32), k, v, seen, scale=scale, num_threads=threads)
        y = y.reshape(batch, length, heads * size).astype(q.dtype, copy=False)
        return (y, *present)[:wanted] if wanted > 1 else y

    return run
