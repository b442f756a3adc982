"""Resize and Upsample: one axis after the other, each result element a choice among or a weighted sum of a few neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.ops.activations import wide
from pyint8dot.onnx.registry import FLOATS, INT8, Function, Site, operator

_F32 = np.float32
_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.asarray(np.ceil(x - _F32(0.5))),
    "round_prefer_ceil": lambda x: np.asarray(np.floor(x + _F32(0.5))),
    "floor": np.floor,
    "ceil": np.ceil,
}


class _Axis:
    """The places along an axis that results come from, in float32 as onnxruntime has them."""

    def __init__(self, site: Site) -> None:
        old = site.node.op == "Upsample" or site.opset < 11
        self.mode: str = site.attr("mode", "nearest")
        self.where: str = "asymmetric" if old else site.attr("coordinate_transformation_mode", "half_pixel")
        # Before opset 11 what is made smaller is rounded up, and what is made larger down.
        self.nearest: str = "" if old else site.attr("nearest_mode", "round_prefer_floor")
        self.coefficient = _F32(site.attr("cubic_coeff_a", -0.75))
        self.exclude = bool(site.attr("exclude_outside", 0))

    def places(self, size: int, out: int, scale: np.float32, part: tuple[np.float32, np.float32]) -> np.ndarray:
        """Return where each result lies between the elements, or between those of a part of the axis."""
        at = np.arange(out, dtype=_F32)
        half = _F32(0.5)
        if self.where == "tf_crop_and_resize":
            start, end = part
            if out == 1:
                return np.full(1, half * (start + end) * _F32(size - 1))
            return np.asarray(start * _F32(size - 1) + at * (end - start) * _F32(size - 1) / _F32(out - 1))
        if self.where == "asymmetric":
            return np.asarray(at / scale)
        if self.where == "align_corners":
            return np.asarray(at * _F32(size - 1) / _F32(max(out - 1, 1)))
        if self.where == "pytorch_half_pixel" and out <= 1:
            return np.zeros(out, _F32)
        middle = (at + half) / scale
        if self.where == "half_pixel_symmetric":
            adjusted = _F32(out) / (scale * _F32(size))
            middle += _F32(size / 2) * (1 - adjusted)
        return np.asarray(middle - half)

    def taps(self, at: np.ndarray, size: int, scale: np.float32) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Return the elements that each result is made of, and their weights."""
        if self.mode == "nearest":
            rounded = _NEAREST[self.nearest or ("ceil" if scale < 1 else "floor")]
            return [(np.clip(rounded(at), 0, size - 1).astype(np.intp), None)]
        if self.mode == "linear":
            at = np.clip(at, 0, size - 1)
            low = np.floor(at)
            share = at - low
            index = low.astype(np.intp)
            return [(index, 1 - share), (np.minimum(index + 1, size - 1), share)]
        return self._cubic(at, size)

    def _cubic(self, at: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
        a = self.coefficient
        low = np.floor(at)
        t = at - low

        def near(d: np.ndarray) -> np.ndarray:
            return np.asarray(((a + 2) * d - (a + 3)) * d * d + 1)

        def far(d: np.ndarray) -> np.ndarray:
            return np.asarray(((a * d - 5 * a) * d + 8 * a) * d - 4 * a)

        weights = [far(t + 1), near(t), near(1 - t), far(2 - t)]
        indices = [low.astype(np.intp) + i for i in (-1, 0, 1, 2)]
        if self.exclude:
            weights = [np.where((i < 0) | (i >= size), _F32(0), w) for i, w in zip(indices, weights, strict=True)]
            total = np.sum(weights, axis=0)
            weights = [w / total for w in weights]
        return [(np.clip(i, 0, size - 1), w) for i, w in zip(indices, weights, strict=True)]


def _along(x: np.ndarray, axis: int, taps: list[tuple[np.ndarray, np.ndarray | None]]) -> np.ndarray:
    """Make one axis anew."""
    if axis == x.ndim - 1 and axis > 0:
        # Rows are picked far faster than single elements.
        turned = _along(np.ascontiguousarray(x.swapaxes(-1, -2)), axis - 1, taps)
        return np.ascontiguousarray(turned.swapaxes(-1, -2))
    if taps[0][1] is None:
        return np.take(x, taps[0][0], axis)
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    total: np.ndarray | None = None
    for index, weight in taps:
        assert weight is not None  # noqa: S101 - all of them have weights, or none
        part = np.take(x, index, axis)
        part *= weight.astype(x.dtype).reshape(shape)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None  # noqa: S101 - there is at least one
    return total


@operator("Resize", "Upsample")
def _resize(site: Site) -> Function | None:
    old = site.node.op == "Upsample" or site.opset < 11
    axis = _Axis(site)
    if site.attr("antialias", 0) or axis.mode not in ("nearest", "linear", "cubic"):
        return None
    if site.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    if axis.mode != "nearest" and site.dtype(0) not in (*FLOATS, *INT8):
        return None
    chosen, fixed = site.attr("axes"), site.attr("scales")
    crops, outside = axis.where == "tf_crop_and_resize", site.attr("extrapolation_value", 0.0)
    limit, what = site.max_bytes, site.what
    # The taps of each axis and which results lie outside, by its lengths, its scale and the part that is taken.
    known: dict[tuple[float, ...], Any] = {}

    def run(x: np.ndarray, *rest: np.ndarray | None) -> Any:
        given = (None, *rest) if old and fixed is None else (None, np.asarray(fixed, _F32)) if old else rest
        scales, sizes = (given[i] if len(given) > i else None for i in (1, 2))
        axes = [a % x.ndim for a in chosen] if chosen else list(range(x.ndim))
        if sizes is not None and sizes.size:
            outs = sizes.tolist()
            factors = [_F32(o) / _F32(x.shape[a]) for o, a in zip(outs, axes, strict=True)]
        elif scales is not None:
            factors = list(scales.reshape(-1).astype(_F32))
            outs = [int(np.floor(_F32(x.shape[a]) * f)) for a, f in zip(axes, factors, strict=True)]
        else:
            raise ValueError("either scales or sizes must be given")
        if len(outs) != len(axes):
            raise ValueError(f"scales or sizes must have {len(axes)} values, got {len(outs)}")
        parts = [(_F32(0), _F32(1))] * len(axes)
        if crops:
            if given[0] is None or given[0].shape != (2 * len(axes),):
                raise ValueError(f"roi must have {2 * len(axes)} values")
            parts = list(zip(*given[0].astype(_F32).reshape(2, -1), strict=True))
        shape = list(x.shape)
        for a, out in zip(axes, outs, strict=True):
            shape[a] = out
        check_shape(shape, x.itemsize, limit, what)
        if 0 in shape or 0 in x.shape:
            return np.zeros(shape, x.dtype)
        # Codes are weighed as the numbers they are, and what is behind the point is dropped.
        y = x if axis.mode == "nearest" else x.astype(_F32) if x.dtype in INT8 else wide(x)
        # What becomes smaller first leaves less to do for the others.
        places = sorted(zip(axes, outs, factors, parts, strict=True), key=lambda t: t[1] / x.shape[t[0]])
        beyond: list[tuple[Any, ...]] = []
        for a, out, factor, part in places:
            size = x.shape[a]
            if out == size and factor == 1 and part == (0, 1):
                continue
            key = (size, out, float(factor), *map(float, part))
            if key not in known:
                if len(known) > 64:
                    known.clear()
                at = axis.places(size, out, factor, part)
                known[key] = axis.taps(at, size, factor), np.flatnonzero((at < 0) | (at > size - 1)) if crops else ()
            taps, others = known[key]
            y = _along(y, a, taps)
            if len(others):
                beyond.append((*[slice(None)] * a, others))
        for index in beyond:
            y[index] = outside
        return x.copy() if y is x else y.astype(x.dtype, copy=False)

    return run
