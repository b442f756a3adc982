"""Quantised convolutions: ONNX's own, and the fused one that patterns make of them, on this package's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyint8dot import conv, floats
from pyint8dot.convolution.geometry import geometry
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.registry import INT8, Function, Site, any_scale, operator


class _Place:
    """The attributes of a convolution, and the check of its sizes, made once per shape."""

    def __init__(self, site: Site) -> None:
        self.group = int(site.attr("group", 1))
        self.options = {
            "strides": site.attr("strides"),
            "dilations": site.attr("dilations"),
            "auto_pad": site.attr("auto_pad", "NOTSET"),
            "pads": site.attr("pads") if site.attr("auto_pad", "NOTSET") == "NOTSET" else None,
        }
        self.limit, self.what = site.max_bytes, site.what
        self.last: tuple[Any, ...] = ()

    def check(self, x: np.ndarray, w: Any) -> None:
        """Refuse a convolution whose padded input or result is too large."""
        if self.last == (x.shape, w.shape) or x.ndim < 3 or len(w.shape) != x.ndim:
            return
        place = geometry(x.shape[2:], w.shape[2:], **self.options)
        padded = [b + d + e for b, d, e in zip(place.begin, x.shape[2:], place.end, strict=True)]
        check_shape((*x.shape[:2], *padded), 1, self.limit, self.what)
        check_shape((x.shape[0], w.shape[0], *place.out), 4, self.limit, self.what)
        self.last = (x.shape, w.shape)


def _packed_conv(site: Site, index: int, place: _Place) -> conv.PackedWeights | None:
    w = site.const(index)
    if w is None or w.dtype not in INT8 or w.ndim < 3:
        return None
    site.absorb(index)
    return conv.pack_conv(w, group=place.group, kernel=site.kernel)


@operator("ConvInteger")
def _conv_integer(site: Site) -> Function | None:
    site.by = site.kernel_name
    place = _Place(site)
    packed = _packed_conv(site, 1, place)
    kernel, count = site.kernel, site.num_threads
    # Checked and lowered once for each type of image.
    ready: dict[Any, conv.Convolution] = {}
    constant = packed is not None and site.all_constant(3)
    site.steady = constant and site.all_constant(2)

    def run(x: np.ndarray, w: Any, zx: np.ndarray | None = None, zw: np.ndarray | None = None) -> Any:
        weights = packed if packed is not None else w
        place.check(x, weights)
        if constant:
            made = ready.get(x.dtype)
            if made is None:
                made = conv.Convolution(weights, x.dtype, None, zw, group=place.group, **place.options)
                ready[x.dtype] = made
            return made(x, zx, kernel=kernel, num_threads=count)
        return conv.conv_integer(
            x, weights, zx, zw, group=place.group, **place.options, kernel=kernel, num_threads=count
        )

    return run


@operator("ConvFloat", domain=FUSED)
def _conv_float(site: Site) -> Function | None:
    """Inputs x, w, zero point of x, zero point of w, scale, bias of shape (1, channels, 1, ...)."""
    product = _conv_integer(site)
    assert product is not None  # noqa: S101 - it takes every case
    relu = site.attr("act") == "relu"

    def run(x: np.ndarray, w: Any, zx: Any = None, zw: Any = None, scale: Any = None, bias: Any = None) -> Any:
        y = product(x, w, zx, zw).astype(np.float32)
        y *= scale
        if bias is not None:
            y += bias
        return floats.relu(y, out=y) if relu else y

    return run


@operator("QLinearConv")
def _qlinear_conv(site: Site) -> Function | None:
    site.by = site.kernel_name
    place = _Place(site)
    packed = _packed_conv(site, 3, place)
    kernel, count = site.kernel, site.num_threads
    ready: dict[Any, conv.Convolution] = {}
    constant = site.steady = packed is not None and site.all_constant(1, 2, 4, 5, 6, 7, 8)

    def run(
        x: np.ndarray, sx: np.ndarray, zx: np.ndarray, w: Any, sw: np.ndarray, zw: np.ndarray,
        sy: np.ndarray, zy: np.ndarray, bias: np.ndarray | None = None,
    ) -> Any:  # fmt: skip
        weights = packed if packed is not None else w
        place.check(x, weights)
        if constant:
            made = ready.get(x.dtype)
            if made is None:
                rescale = conv.Quantization(any_scale(sx), any_scale(sw), sy, zy)
                made = conv.Convolution(
                    weights, x.dtype, zx, zw, bias=bias, quantization=rescale, group=place.group, **place.options
                )
                ready[x.dtype] = made
            return made(x, kernel=kernel, num_threads=count)
        return conv.qlinear_conv(
            x,
            any_scale(sx),
            zx,
            weights,
            any_scale(sw),
            zw,
            sy,
            zy,
            bias,
            group=place.group,
            **place.options,
            kernel=kernel,
            num_threads=count,
        )

    return run
