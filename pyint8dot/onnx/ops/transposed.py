"""Transposed convolution: one product of the picture with all weights, whose columns are added up where they overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyint8dot import conv, epilogue
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.ops.neural import product
from pyint8dot.onnx.ops.quantised import computed
from pyint8dot.onnx.registry import FLOATS, INT8, Function, Site, any_scale, operator


class _Place:
    """Where the columns go."""

    def __init__(self, site: Site, kernel: Sequence[int]) -> None:
        rank = len(kernel)
        self.kernel = list(kernel)
        self.strides: list[int] = site.attr("strides") or [1] * rank
        self.dilations: list[int] = site.attr("dilations") or [1] * rank
        self.pads: list[int] = site.attr("pads") or [0] * (2 * rank)
        self.more: list[int] = site.attr("output_padding") or [0] * rank
        self.shape: list[int] | None = site.attr("output_shape")
        self.auto_pad: str = site.attr("auto_pad", "NOTSET")
        # Whether nothing overlaps, so that every element of the columns has a place of its own.
        self.apart = (
            self.kernel == self.strides and set(self.dilations) == {1} and not any(self.more) and self.shape is None
        )
        self.limit, self.what = site.max_bytes, site.what
        if {len(self.strides), len(self.dilations), len(self.more), len(self.pads) // 2} != {rank}:
            raise ValueError(f"strides, dilations, pads and output_padding do not fit a window of {rank} dimensions")
        if min([*self.kernel, *self.strides, *self.dilations], default=1) < 1:
            raise ValueError("window, strides and dilations must be positive")

    def lengths(self, spatial: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        """Return along each axis how long all columns together are, how long the result, and what is cut off in front."""
        fulls, outs, cuts = [], [], []
        rank = len(self.kernel)
        if len(spatial) != rank:
            raise ValueError(f"a window of {rank} dimensions does not fit an input of {len(spatial)} spatial ones")
        for i, size in enumerate(spatial):
            full = self.strides[i] * (size - 1) + self.more[i] + (self.kernel[i] - 1) * self.dilations[i] + 1
            before, after = self.pads[i], self.pads[i + rank]
            wanted = None if self.shape is None else self.shape[-rank:][i]
            if wanted is None and self.auto_pad.startswith("SAME"):
                wanted = size * self.strides[i]
            if wanted is not None:
                total = max(full - wanted, 0)
                before = total - total // 2 if self.auto_pad == "SAME_LOWER" else total // 2
                after = full - wanted - before
            elif self.auto_pad == "VALID":
                before = after = 0
            fulls.append(full + max(0, -after))
            outs.append(max(0, full - before - after))
            cuts.append(before)
        return fulls, outs, cuts

    def image(self, columns: np.ndarray, spatial: Sequence[int]) -> np.ndarray:
        """Add up columns, shape (n, channels, *kernel, *spatial), to an image (n, channels, *out)."""
        fulls, outs, cuts = self.lengths(spatial)
        check_shape((*columns.shape[:2], *fulls), columns.itemsize, self.limit, self.what)
        inside: tuple[Any, ...] = (..., *(slice(c, c + o) for c, o in zip(cuts, outs, strict=True)))
        image = (np.empty if self.apart else np.zeros)((*columns.shape[:2], *fulls), columns.dtype)
        for tap in itertools.product(*map(range, self.kernel)):
            target: tuple[Any, ...] = (
                ...,
                *(
                    slice(t * d, t * d + (size - 1) * s + 1, s)
                    for t, d, s, size in zip(tap, self.dilations, self.strides, spatial, strict=True)
                ),
            )
            source: tuple[Any, ...] = (slice(None), slice(None), *tap)
            if self.apart:
                image[target] = columns[source]
            else:
                image[target] += columns[source]
        return np.asarray(image[inside])


@operator("ConvTranspose")
def _conv_transpose(site: Site) -> Function | None:
    group = int(site.attr("group", 1))
    if site.dtype(0) not in FLOATS:
        return None
    places: dict[tuple[int, ...], _Place] = {}

    def run(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> Any:
        place = places.get(w.shape[2:])
        if place is None:
            place = places[w.shape[2:]] = _Place(site, w.shape[2:])
        _check(x, w, group)
        spatial, rank = x.shape[2:], x.ndim - 2
        n, c, per_group = len(x), x.shape[1], w.shape[1]
        size = math.prod(spatial)
        check_shape((n, group * per_group, *place.kernel, *spatial), 4, place.limit, place.what)
        left = w.reshape(group, c // group, -1).swapaxes(1, 2)
        columns = product(left, x.reshape(n, group, c // group, size))
        y = place.image(columns.reshape(n, group * per_group, *place.kernel, *spatial), spatial)
        return np.array(y) if bias is None else y + bias.reshape(-1, *[1] * rank)

    return run


def _check(x: np.ndarray, w: Any, group: int) -> None:
    if x.ndim < 3 or len(w.shape) != x.ndim or x.shape[1] != w.shape[0] or w.shape[0] % group:
        raise ValueError(f"weights {w.shape} in {group} groups do not fit an input of shape {x.shape}")


@operator("QLinearConvTranspose", domain=FUSED)
def _qlinear_conv_transpose(site: Site) -> Function | None:
    """Inputs like those of QLinearConv, in one group; weights and parameters are constants, scales one or one a channel.

    Where the weights are floats it is computed like any other operator between codes.
    """
    if site.attr("inner") is not None:
        return computed(site)
    site.by = site.kernel_name
    w = site.const(3)
    sx, zx, sw, zw, sy, zy = (site.const(i) for i in (1, 2, 4, 5, 6, 7))
    bias = site.const(8)
    assert w is not None  # noqa: S101 - the pattern looks for it
    assert w.dtype in INT8  # noqa: S101
    site.absorb(3)
    place = _Place(site, w.shape[2:])
    channels, taps = w.shape[1], math.prod(w.shape[2:])
    # A convolution with windows of one pixel, which has as many channels as all columns together.
    rows = np.ascontiguousarray(w.reshape(w.shape[0], -1).T)[..., None]
    packed = conv.pack_conv(rows, kernel=site.kernel)

    def spread(value: np.ndarray | None) -> np.ndarray | None:
        """Return one value a channel as one for each of its taps."""
        return value if value is None or value.size == 1 else np.repeat(value.reshape(-1), taps)

    assert sx is not None and sw is not None and sy is not None and zy is not None  # noqa: S101, PT018
    each = spread(sw)
    assert each is not None  # noqa: S101 - as sw
    quantization = conv.Quantization(any_scale(sx), any_scale(each), sy, zy) if place.apart else None
    factor = np.asarray(sx.reshape(()) * sw.reshape(-1) / sy.reshape(()), np.float32)
    factor = factor.reshape(-1, *[1] * (w.ndim - 2)) if factor.size > 1 else factor.reshape(())
    target, point = zy.dtype, int(zy.reshape(()))
    kernel, count = site.kernel, site.num_threads
    # Where nothing overlaps the product is quantised at once, and its codes are what is moved.
    start = None
    if place.apart and bias is not None:
        start = np.repeat(bias.reshape(-1), taps)
    ready: dict[Any, conv.Convolution] = {}

    def run(x: np.ndarray, *_: Any) -> Any:
        _check(x, w, 1)
        spatial, n = x.shape[2:], len(x)
        check_shape((n, *spatial, channels * taps), 4, place.limit, place.what)
        made = ready.get(x.dtype)
        if made is None:
            made = conv.Convolution(packed, x.dtype, zx, spread(zw), bias=start, quantization=quantization)
            ready[x.dtype] = made
        columns = made(x.reshape(n, x.shape[1], -1), kernel=kernel, num_threads=count)
        y = place.image(columns.reshape(n, channels, *place.kernel, *spatial), spatial)
        if place.apart:
            return np.ascontiguousarray(y)
        if bias is not None:
            y = y + bias.reshape(-1, *[1] * len(spatial))
        return epilogue.requantize(np.ascontiguousarray(y), factor, point, target)

    return run
