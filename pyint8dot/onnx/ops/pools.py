"""Largest elements of windows, with where they lie, and norms of windows and of planes."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from pyint8dot.engine import pool
from pyint8dot.engine.program import MAX_POOLS
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.ops.activations import wide
from pyint8dot.onnx.ops.windows import MOST_WORK, Window, slide
from pyint8dot.onnx.registry import FLOATS, Function, Site, operator


@operator("MaxPool")
def _max_pool(site: Site) -> Function | None:
    window = Window(site, site.attr("kernel_shape"))
    if len([o for o in site.node.outputs if o]) > 1:
        return _with_places(window, "F" if site.attr("storage_order", 0) else "C")
    if len(window.kernel) < 3 and site.dtype(0) in MAX_POOLS:
        site.native(steady=True)

    def run(x: np.ndarray) -> Any:
        outs, pads = window.place(x.shape[2:])
        check_shape((*x.shape[:2], *outs), x.itemsize, window.limit, window.what)
        found = pool.max_pool(x, window.axes(x.shape[2:], outs, pads))
        if found is not None:
            return found
        return slide(window.pad(x, pads, lowest(x.dtype)), window, outs, np.maximum)

    return run


def _with_places(window: Window, order: Literal["C", "F"]) -> Function:
    """Return a function of maxima and of where they lie, the first of equals, counted through all planes in one order within each."""

    def run(x: np.ndarray) -> Any:
        spatial = x.shape[2:]
        outs, pads = window.place(spatial)
        check_shape((*x.shape[:2], *outs), np.dtype(np.int64).itemsize, window.limit, window.what)
        # Each tap takes as long as some thousand results at least.
        if math.prod(window.kernel) * (math.prod((*x.shape[:2], *outs)) + 1000) > MOST_WORK:
            raise ValueError(f"windows of {window.kernel} over {list(x.shape)} would take minutes")
        padded = window.pad(x, pads, lowest(x.dtype))
        # Where each element of a plane lies, and -1 in the padding.
        own = np.arange(math.prod(spatial), dtype=np.int64).reshape((1, 1, *spatial), order=order)
        own = window.pad(own, pads, -1)
        best = np.full((*x.shape[:2], *outs), lowest(x.dtype), x.dtype)
        places = np.full(best.shape, -1, np.int64)
        for taps in np.ndindex(*window.kernel):
            at: tuple[Any, ...] = (
                ...,
                *(
                    slice(tap * spread, tap * spread + (out - 1) * stride + 1 if out else 0, stride)
                    for tap, spread, out, stride in zip(taps, window.dilations, outs, window.strides, strict=True)
                ),
            )
            found, place = padded[at], own[at]
            better = (place >= 0) & ((found > best) | (places < 0))
            np.copyto(best, found, where=better)
            np.copyto(places, place, where=better)
        planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * len(outs))
        return best, places + planes * math.prod(spatial)

    return run


def lowest(dtype: np.dtype[Any]) -> Any:
    """Return what is below every number of a type, or the lowest of them.

    Parameters
    ----------
    dtype : dtype
        Of floats or integers.

    Returns
    -------
    float or int
    """
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


@operator("LpPool")
def _lp_pool(site: Site) -> Function | None:
    window, power = Window(site, site.attr("kernel_shape")), site.attr("p", 2)
    if not isinstance(power, int) or power < 1:
        return None  # the real powers of opset 1

    def run(x: np.ndarray) -> Any:
        outs, pads = window.place(x.shape[2:])
        check_shape((*x.shape[:2], *outs), x.itemsize, window.limit, window.what)
        total = slide(window.pad(np.abs(x) ** power, pads, 0), window, outs, np.add)
        return total ** x.dtype.type(1 / power)

    return run


@operator("GlobalLpPool")
def _global_lp_pool(site: Site) -> Function | None:
    power = site.attr("p", 2)
    if site.dtype(0) not in FLOATS or power < 1:
        return None

    def run(x: np.ndarray) -> Any:
        axes = tuple(range(2, x.ndim))
        total = np.sum(np.abs(wide(x)) ** power, axes, keepdims=True)
        return np.asarray(total ** total.dtype.type(1 / power), x.dtype)

    return run
