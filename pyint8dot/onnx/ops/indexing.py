"""Picking and putting elements by indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.registry import Function, Site, operator

_COMBINE: dict[str, Callable[..., Any]] = {
    "add": np.add.at, "mul": np.multiply.at, "max": np.maximum.at, "min": np.minimum.at,
}  # fmt: skip


@operator("GatherElements")
def _gather_elements(site: Site) -> Function | None:
    axis = site.attr("axis", 0)

    def run(x: np.ndarray, indices: np.ndarray) -> Any:
        if x.ndim != indices.ndim:
            raise ValueError(f"indices must have {x.ndim} dimensions, got {indices.ndim}")
        return x[_places(x, indices, axis)]

    return run


def _places(x: np.ndarray, indices: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """Return the index of every axis: its own place, but what `indices` say along one."""
    at = axis % x.ndim
    own = np.ogrid[tuple(slice(0, d) for d in indices.shape)]
    return tuple(indices if i == at else grid for i, grid in enumerate(own))


@operator("ScatterElements", "Scatter")
def _scatter_elements(site: Site) -> Function | None:
    axis, combine = site.attr("axis", 0), _COMBINE.get(site.attr("reduction", "none"))

    def run(x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> Any:
        y = x.copy()
        places = _places(x, indices, axis)
        if combine is None:
            y[places] = updates
        else:
            combine(y, places, updates)
        return y

    return run


@operator("GatherND")
def _gather_nd(site: Site) -> Function | None:
    batch, limit, what = site.attr("batch_dims", 0), site.max_bytes, site.what

    def run(x: np.ndarray, indices: np.ndarray) -> Any:
        depth = indices.shape[-1]
        if batch + depth > x.ndim:
            raise ValueError(f"indices of {depth} places behind {batch} do not fit an array of {x.ndim} dimensions")
        check_shape((*indices.shape[:-1], *x.shape[batch + depth :]), x.itemsize, limit, what)
        own = np.ogrid[tuple(slice(0, d) for d in indices.shape[:batch])]
        more = [1] * (indices.ndim - 1 - batch)
        rows = [grid.reshape(*grid.shape, *more) for grid in own]
        places: tuple[Any, ...] = (*rows, *(indices[..., i] for i in range(depth)))
        return np.asarray(x[places])

    return run


@operator("ScatterND")
def _scatter_nd(site: Site) -> Function | None:
    combine = _COMBINE.get(site.attr("reduction", "none"))

    def run(x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> Any:
        if not 0 < indices.shape[-1] <= x.ndim:
            raise ValueError(f"indices of {indices.shape[-1]} places do not fit an array of {x.ndim} dimensions")
        y = x.copy()
        places = tuple(np.moveaxis(indices, -1, 0))
        if combine is None:
            y[places] = updates
        else:
            combine(y, places, updates)
        return y

    return run


@operator("OneHot")
def _one_hot(site: Site) -> Function | None:
    axis, limit, what = site.attr("axis", -1), site.max_bytes, site.what

    def run(indices: np.ndarray, depth: np.ndarray, values: np.ndarray) -> Any:
        length = int(depth.reshape(()))
        check_shape((*indices.shape, length), values.itemsize, limit, what)
        chosen = indices.astype(np.int64)
        chosen = np.where(chosen < 0, chosen + length, chosen)
        found = np.where(chosen[..., None] == np.arange(length), values[1], values[0])
        return np.ascontiguousarray(np.moveaxis(found, -1, axis))

    return run


@operator("NonZero")
def _non_zero(_: Site) -> Function | None:
    return lambda x: np.asarray(np.nonzero(np.atleast_1d(x)), np.int64)


@operator("Compress")
def _compress(site: Site) -> Function | None:
    axis = site.attr("axis")
    return lambda x, keep: np.compress(keep, x, axis)


@operator("Unique")
def _unique(site: Site) -> Function | None:
    axis, in_order, wanted = site.attr("axis"), bool(site.attr("sorted", 1)), len(site.node.outputs)

    def run(x: np.ndarray) -> Any:
        y, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
        inverse = inverse.reshape(-1)
        if not in_order:
            # As they come first.
            order = np.argsort(first)
            y, first, counts = y.take(order, axis or 0), first[order], counts[order]
            inverse = np.argsort(order)[inverse]
        found = (y, *(np.asarray(v, np.int64) for v in (first, inverse, counts)))
        return found[:wanted] if wanted > 1 else y

    return run


@operator("Trilu")
def _trilu(site: Site) -> Function | None:
    cut = np.triu if site.attr("upper", 1) else np.tril
    return lambda x, k=None: cut(x, 0 if k is None else int(k.reshape(())))


@operator("DepthToSpace", "SpaceToDepth")
def _depth_to_space(site: Site) -> Function | None:
    """The order of channels is by depth, column and row, or by column, row and depth."""
    size, columns_first = int(site.attr("blocksize")), site.attr("mode", "DCR") == "CRD"

    def deeper(x: np.ndarray) -> Any:
        n, c, h, w = x.shape
        y = x.reshape(n, c, h // size, size, w // size, size)
        y = y.transpose(0, 1, 3, 5, 2, 4) if columns_first else y.transpose(0, 3, 5, 1, 2, 4)
        return y.reshape(n, c * size * size, h // size, w // size)

    def wider(x: np.ndarray) -> Any:
        n, c, h, w = x.shape
        inner = c // (size * size)
        if columns_first:
            y = x.reshape(n, inner, size, size, h, w).transpose(0, 1, 4, 2, 5, 3)
        else:
            y = x.reshape(n, size, size, inner, h, w).transpose(0, 3, 4, 1, 5, 2)
        return y.reshape(n, inner, h * size, w * size)

    return wider if site.node.op == "DepthToSpace" else deeper
