"""Sequences and optional values: lists of arrays, and arrays or None. A sequence is never changed, a new one is made."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.registry import Function, Site, operator

# What a number takes as an object of Python's in a dict.
_ENTRY = 128


@operator("SequenceEmpty")
def _empty(_: Site) -> Function | None:
    return list


@operator("SequenceConstruct")
def _construct(_: Site) -> Function | None:
    return lambda *items: list(items)


@operator("SequenceInsert")
def _insert(_: Site) -> Function | None:
    def run(items: list[Any], item: Any, position: np.ndarray | None = None) -> Any:
        at = len(items) if position is None else _place(position, len(items) + 1, len(items))
        return [*items[:at], item, *items[at:]]

    return run


@operator("SequenceErase")
def _erase(_: Site) -> Function | None:
    def run(items: list[Any], position: np.ndarray | None = None) -> Any:
        at = _place(np.asarray(-1) if position is None else position, len(items), len(items))
        return [*items[:at], *items[at + 1 :]]

    return run


@operator("SequenceAt")
def _at(_: Site) -> Function | None:
    return lambda items, position: items[_place(position, len(items), len(items))]


def _place(position: np.ndarray, count: int, length: int) -> int:
    """Return a position from the front; those below 0 count from the end of the sequence."""
    at = int(position.item())
    found = at + length if at < 0 else at
    if not 0 <= found < count:
        raise IndexError(f"position {at} is not in a sequence of {length}")
    return found


@operator("SequenceLength")
def _length(_: Site) -> Function | None:
    return lambda items: np.array(len(items), np.int64)


@operator("SplitToSequence")
def _split(site: Site) -> Function | None:
    axis, keep, single = site.attr("axis", 0), bool(site.attr("keepdims", 1)), not site.has(1)

    def run(x: np.ndarray, sizes: np.ndarray | None = None) -> Any:
        extent = x.shape[axis]
        if sizes is None or sizes.ndim == 0:
            step = 1 if sizes is None else int(sizes)
            if step < 1:
                raise ValueError(f"pieces must have a positive length, got {step}")
            cuts = list(range(step, extent, step))
        else:
            lengths = sizes.tolist()
            if sum(lengths) != extent or min(lengths, default=0) < 0:
                raise ValueError(f"cannot split {extent} along axis {axis} into pieces of {lengths}")
            cuts = np.cumsum(lengths)[:-1].tolist()
        pieces = np.split(x, cuts, axis) if extent else []
        return [piece.squeeze(axis) for piece in pieces] if single and not keep else pieces

    return run


@operator("ConcatFromSequence")
def _concat(site: Site) -> Function | None:
    axis, stacked, limit, what = site.attr("axis"), bool(site.attr("new_axis", 0)), site.max_bytes, site.what

    def run(items: list[np.ndarray]) -> Any:
        if not items:
            raise ValueError("a sequence without elements cannot be joined")
        check_shape([sum(math.prod(item.shape) for item in items)], items[0].itemsize, limit, what)
        return np.stack(items, axis) if stacked else np.concatenate(items, axis)

    return run


@operator("ZipMap", domain="ai.onnx.ml")
def _zip_map(site: Site) -> Function | None:
    labels = site.attr("classlabels_int64s") or site.attr("classlabels_strings") or []
    limit, what = site.max_bytes, site.what

    def run(x: np.ndarray) -> Any:
        check_shape([x.size], _ENTRY, limit, what)
        rows = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
        if rows.shape[1] != len(labels):
            raise ValueError(f"there are {len(labels)} labels for rows of {rows.shape[1]}")
        return [dict(zip(labels, row, strict=True)) for row in rows.tolist()]

    return run


@operator("Optional")
def _optional(_: Site) -> Function | None:
    return lambda value=None: value


@operator("OptionalGetElement")
def _get_element(_: Site) -> Function | None:
    def run(value: Any) -> Any:
        if value is None:
            raise ValueError("the optional value is empty")
        return value

    return run


@operator("OptionalHasElement")
def _has_element(_: Site) -> Function | None:
    return lambda value=None: np.array(value is not None)
