"""Averages of codes: integer sums, rounded once to the codes of the result."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pyint8dot import qlinear
from pyint8dot.engine import moves, pool
from pyint8dot.engine.packing import PackedMatrix, pack
from pyint8dot.epilogue import requantize
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.ops.windows import Window, counts, slide
from pyint8dot.onnx.registry import Function, Site, any_scale

# The sum of as many codes of 8 bits, less their zero point, fits int32.
_LONGEST = 1 << 22


def average(site: Site, inner: Site, otherwise: Function) -> Function | None:
    """Lower an average of codes.

    Parameters
    ----------
    site : Site
        The node from codes to codes.
    inner : Site
        The operator in floats that it stands for.
    otherwise : callable
        The function of that operator between dequantising and quantising, for what has no sums in 32 bits.

    Returns
    -------
    callable or None
        None where it is another operator, or a mean over other axes than the last ones.
    """
    if inner.node.op == "AveragePool":
        return _windows(site, inner, otherwise)
    axes = _last_axes(site, inner)
    if axes is None:
        return None
    site.by, site.steady = site.kernel_name, True
    return _mean(site, axes, bool(inner.attr("keepdims", 1)), otherwise)


def _last_axes(site: Site, inner: Site) -> int | None:
    """Return how many axes at the end a mean is over, None where it is another operator or the mean of others."""
    rank = site.graph.rank(site.node.inputs[0])
    if rank is None:
        return None
    if inner.node.op == "GlobalAveragePool":
        return rank - 2
    if inner.node.op != "ReduceMean":
        return None
    axes = inner.attr("axes") if len(inner.node.inputs) < 2 else site.ints(1)
    if not axes:
        return None
    chosen = sorted(a % rank for a in axes)
    return len(chosen) if chosen == list(range(rank - len(chosen), rank)) and len(chosen) < rank else None


def _mean(site: Site, axes: int, keepdims: bool, otherwise: Function) -> Function:
    """Return the function of a mean: the product of rows of codes with ones, whose scale divides by their number."""
    (scale, zero), (y_scale, y_zero) = site.attr("scales")[0], site.attr("result")
    kernel, count = site.kernel, site.num_threads
    # Packed once for each length.
    known: dict[int, tuple[PackedMatrix, np.float32]] = {}

    def run(x: np.ndarray, *rest: Any) -> Any:
        length = math.prod(x.shape[-axes:])
        if not 0 < length <= _LONGEST or x.size == 0:
            return otherwise(x, *rest)
        ones = known.get(length)
        if ones is None:
            known.clear()
            ones = pack(np.ones((length, 1), np.int8), kernel=kernel), np.float32(1 / length)
            known[length] = ones
        y = qlinear.qlinear_matmul(
            moves.reshaped(x, (-1, length)),
            any_scale(scale),
            zero,
            ones[0],
            ones[1],
            None,
            y_scale,
            y_zero,
            kernel=kernel,
            num_threads=count,
        )
        return y.reshape(*x.shape[:-axes], *([1] * axes if keepdims else []))

    return run


class _Place(NamedTuple):
    """Where windows lie over planes of one size, and what their sums are multiplied by."""

    outs: list[int]
    pads: list[tuple[int, int]]
    axes: list[pool.Axis]
    factors: np.ndarray
    #: Whether there are factors: windows in the padding alone, and scales that are no numbers, have none.
    sound: bool
    #: Whether a single window is the whole plane.
    whole: bool


def _windows(site: Site, inner: Site, otherwise: Function) -> Function:
    """Return the function of an AveragePool: integer sums of windows, by the factors that a product with ones would have."""
    (scale, zero), (y_scale, y_zero) = site.attr("scales")[0], site.attr("result")
    window, with_pads = Window(inner, inner.attr("kernel_shape")), bool(inner.attr("count_include_pad", 0))
    mean = _mean(site, len(window.kernel), True, otherwise)
    ready: dict[tuple[int, ...], _Place] = {}
    site.native(steady=True)

    def place(spatial: tuple[int, ...]) -> _Place:
        outs, pads = window.place(spatial)
        with np.errstate(all="ignore"):
            each = (1 / counts(window, spatial, with_pads, np.float64)[0, 0]).astype(np.float32)
            factors = np.asarray(scale * each / y_scale, np.float32)
        sound = bool(np.isfinite(factors).all())
        return _Place(outs, pads, window.axes(spatial, outs, pads), factors, sound, window.is_whole(spatial, pads))

    def run(x: np.ndarray) -> Any:
        found = ready.get(x.shape[2:])
        if found is None:
            ready.clear()
            found = ready[x.shape[2:]] = place(x.shape[2:])
        if not found.sound:
            return otherwise(x)
        if found.whole:
            return mean(x)
        check_shape((*x.shape[:2], *found.outs), 4, window.limit, window.what)
        y = pool.average_pool(x, found.axes, found.factors, (int(zero), int(y_zero)), y_zero.dtype)
        if y is None:
            x = window.pad(np.subtract(x, zero, dtype=np.int32), found.pads, 0)
            y = requantize(slide(x, window, found.outs, np.add), found.factors, int(y_zero), y_zero.dtype)
        return y

    return run
