"""Reductions, running sums and orders, of any type of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.ops.activations import wide
from pyint8dot.onnx.registry import Function, Site, operator


def _mean(x: np.ndarray, **options: Any) -> Any:
    if x.dtype.kind == "f":
        # As numpy's mean of floats, which looks at more before it does this.
        y = np.asarray(np.add.reduce(x, **options))
        return np.true_divide(y, np.intp(x.size // (y.size or 1)), out=y, casting="unsafe")
    # Integers divide towards zero, and none have the mean 0.
    total = np.asarray(np.sum(x, dtype=np.float64, **options))
    return np.trunc(total / max(1, x.size // (total.size or 1)))


def _log_sum_exp(x: np.ndarray, **options: Any) -> Any:
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    top = np.max(x, axis=options["axis"], keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    y = np.log(np.sum(np.exp(x - top), **options))
    return y + top.reshape(np.shape(y))


def _sum(x: np.ndarray, **options: Any) -> Any:
    return np.sum(x, dtype=x.dtype, **options)


_REDUCE: dict[str, Callable[..., Any]] = {
    "ReduceSum": _sum, "ReduceMean": _mean,
    "ReduceProd": lambda x, **k: np.prod(x, dtype=x.dtype, **k), "ReduceMax": np.max, "ReduceMin": np.min,
    "ReduceL2": lambda x, **k: np.sqrt(_sum(np.square(x), **k)), "ReduceL1": lambda x, **k: _sum(np.abs(x), **k),
    "ReduceSumSquare": lambda x, **k: _sum(np.square(x), **k), "ReduceLogSum": lambda x, **k: np.log(_sum(x, **k)),
    "ReduceLogSumExp": _log_sum_exp,
}  # fmt: skip


def _ends(kind: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the lowest and the highest number of a type."""
    if kind.kind == "f":
        return -np.inf, np.inf
    if kind.kind == "b":
        return False, True
    return np.iinfo(kind).min, np.iinfo(kind).max


@operator(*_REDUCE)
def _reduce(site: Site) -> Function | None:
    kind = site.dtype(0)
    if kind is None or kind.kind not in "fiub":
        return None
    op, apply, keepdims = site.node.op, _REDUCE[site.node.op], bool(site.attr("keepdims", 1))
    noop, fixed = bool(site.attr("noop_with_empty_axes", 0)), site.attr("axes")
    if kind.kind == "b" and op not in ("ReduceMax", "ReduceMin"):
        return None

    def run(x: np.ndarray, axes: np.ndarray | None = None) -> Any:
        chosen = fixed if axes is None else axes.reshape(-1).tolist()
        along = tuple(chosen) if chosen else () if noop else None
        options: dict[str, Any] = {"axis": along, "keepdims": keepdims}
        if x.size == 0 and op in ("ReduceMax", "ReduceMin"):
            options["initial"] = _ends(x.dtype)[op == "ReduceMin"]
        with np.errstate(all="ignore"):
            y = np.asarray(apply(wide(x), **options))
        return y.astype(x.dtype) if y is x or y.dtype != x.dtype else y

    return run


@operator("ArgMax", "ArgMin")
def _arg(site: Site) -> Function | None:
    find = np.argmax if site.node.op == "ArgMax" else np.argmin
    axis, keepdims = site.attr("axis", 0), bool(site.attr("keepdims", 1))
    last = bool(site.attr("select_last_index", 0))

    def run(x: np.ndarray) -> Any:
        if last:
            return np.asarray(x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis, keepdims=keepdims), np.int64)
        return np.asarray(find(x, axis=axis, keepdims=keepdims), np.int64)

    return run


@operator("CumSum")
def _cumsum(site: Site) -> Function | None:
    exclusive, reverse = bool(site.attr("exclusive", 0)), bool(site.attr("reverse", 0))

    def run(x: np.ndarray, axis: np.ndarray) -> Any:
        at = int(axis.reshape(()))
        values = np.flip(x, at) if reverse else x
        y = np.cumsum(wide(values), at, dtype=wide(values).dtype).astype(x.dtype, copy=False)
        if exclusive:
            moved = np.zeros_like(y)
            whole = [slice(None)] * x.ndim
            to, source = list(whole), list(whole)
            to[at], source[at] = slice(1, None), slice(None, -1)
            moved[tuple(to)] = y[tuple(source)]
            y = moved
        return np.ascontiguousarray(np.flip(y, at)) if reverse else y

    return run


@operator("TopK")
def _topk(site: Site) -> Function | None:
    axis, largest = site.attr("axis", -1), bool(site.attr("largest", 1))
    fixed = site.attr("k")
    limit, what = site.max_bytes, site.what

    def run(x: np.ndarray, k: np.ndarray | None = None) -> Any:
        count = int(fixed) if k is None else int(k.reshape(-1)[0])
        length = x.shape[axis]
        if not 0 <= count <= length:
            raise ValueError(f"k must be within 0..{length}, the length of axis {axis}, got {count}")
        check_shape(x.shape, 8, limit, what)
        # Of equals the first comes first, which in the order from large to small is the last one from behind.
        if largest:
            order = length - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
        else:
            order = np.argsort(x, axis=axis, kind="stable")
        chosen = [slice(None)] * x.ndim
        chosen[axis] = slice(0, count)
        order = np.ascontiguousarray(order[tuple(chosen)])
        return np.take_along_axis(x, order, axis), order.astype(np.int64, copy=False)

    return run
