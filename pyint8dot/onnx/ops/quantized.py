"""Quantised operators: ONNX's own, and the fused ones that `patterns` makes of them, on this package's kernels."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from pyint8dot import conv, epilogue, qlinear, quantize
from pyint8dot.convolution.im2col import geometry
from pyint8dot.engine import dispatch, settings, threads
from pyint8dot.engine.packing import PackedMatrix, pack
from pyint8dot.linear import ScaledProduct
from pyint8dot.onnx.bounds import check_broadcast, check_shape
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.ops.neural import check_matmul, most_elements
from pyint8dot.onnx.registry import Function, Site, operator

UINT8 = np.dtype(np.uint8)
INT8 = (np.dtype(np.int8), UINT8)
FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


@operator("DynamicQuantizeLinear")
def _dynamic_quantize_linear(site: Site) -> Function | None:
    return quantize.dynamic_quantize_arrays if site.dtype(0) == np.float32 else None


@operator("QuantizeLinear")
def _quantize_linear(site: Site) -> Function | None:
    target = site.dtype(2) if site.has(2) else np.dtype(np.uint8)
    scale_type = site.dtype(1)
    if target not in INT8 or scale_type not in FLOATS or site.attr("output_dtype", 0) not in (0, 2, 3):
        return None
    if site.dtype(0) not in (*FLOATS, np.dtype(np.int32)) or site.attr("precision", 0):
        return None
    if not site.has(2) and site.attr("output_dtype", 0) == 3:
        target = np.dtype(np.int8)
    axis, block = site.attr("axis", 1), site.attr("block_size", 0)
    scale, zero = _one(site, 1), _one(site, 2)
    if site.dtype(0) == scale_type == np.float32 and scale is not None and not block and target is not None:
        if not site.has(2):
            return _quantize_scalar(np.float32(scale), 0, target)
        if zero is not None:
            return _quantize_scalar(np.float32(scale), int(zero), target)

    def run(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None) -> Any:
        return quantize.quantize_linear(x, scale, zero_point, axis=axis, block_size=block, dtype=target)

    return run


def _one(site: Site, index: int) -> Any:
    """Return the only element of a constant input, else None."""
    value = site.const(index)
    return None if value is None or value.size != 1 else value.reshape(())[()]


def _quantize_scalar(scale: np.float32, zero: int, target: np.dtype[Any]) -> Function:
    """quantize_linear without its clipping where the extremes show that nothing would be clipped."""
    bounds = np.iinfo(target)
    shift = np.float32(zero)

    def run(x: np.ndarray, *_: Any) -> Any:
        if x.size < 2:  # numpy makes numbers of arrays without dimensions
            return quantize.quantize_linear(x, scale, target.type(zero))
        low, high = (np.rint(extreme / scale) + shift for extreme in (x.min(), x.max()))
        # Scaling and rounding keep the order, so all other codes lie between these; NaN fails every comparison.
        if not (low >= bounds.min and high <= bounds.max and scale > 0):
            return quantize.quantize_linear(x, scale, target.type(zero))
        y = x / scale
        np.rint(y, out=y)
        if zero:
            y += shift
        return y.astype(target)

    return run


@operator("DequantizeLinear")
def _dequantize_linear(site: Site) -> Function | None:
    if site.dtype(0) not in (*INT8, np.dtype(np.int32)) or site.dtype(1) not in FLOATS:
        return None
    if site.attr("output_dtype", 0):
        return None
    axis, block = site.attr("axis", 1), site.attr("block_size", 0)
    if site.dtype(0) in INT8 and site.dtype(1) == np.float32 and not block:
        scale, zero = site.const(1), site.const(2)
        if scale is not None and scale.size == 1 and (not site.has(2) or (zero is not None and zero.size == 1)):
            return _dequantize_scalar(scale, zero)

    def run(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None) -> Any:
        return np.asarray(quantize.dequantize_linear(x, scale, zero_point, axis=axis, block_size=block))

    return run


def _dequantize_scalar(scale: np.ndarray, zero: np.ndarray | None) -> Function:
    # Every difference of two 8-bit numbers is a float32, so the subtraction may come after the conversion.
    factor = np.float32(scale.reshape(()))
    offset = np.float32(0 if zero is None else zero.reshape(()))

    def run(x: np.ndarray, *_: Any) -> Any:
        y = x.astype(np.float32)
        if offset:
            y -= offset
        y *= factor
        return y

    return run


def _packed(site: Site, index: int) -> PackedMatrix | None:
    """The right operand, packed once, where it is a constant matrix."""
    b = site.const(index)
    if b is None or b.ndim != 2 or b.dtype not in INT8:
        return None
    site.absorb(index)
    return pack(b, kernel=site.kernel)


def _constant(site: Site, index: int) -> Any:
    """Return a constant input, a single number as a numpy scalar: products keep what they make of what cannot change."""
    one = _one(site, index)
    return site.const(index) if one is None else one


@operator("MatMulInteger")
def _matmul_integer(site: Site) -> Function | None:
    site.by = site.kernel_name
    kernel, count, limit, what = site.kernel, site.num_threads, site.max_bytes, site.what
    packed = _packed(site, 1)
    if packed is None or not _constants(site, 3):

        def general(a: np.ndarray, b: Any, za: np.ndarray | None = None, zb: np.ndarray | None = None) -> Any:
            right = packed if packed is not None else b
            check_matmul(a, right, 4, limit, what)
            return np.asarray(qlinear.matmul_integer(a, right, za, zb, kernel=kernel, num_threads=count))

        return general
    # A zero point of 0 is as none.
    a_zero, b_zero = (
        None if isinstance(z, np.integer) and z == 0 else z for z in (_constant(site, 2), _constant(site, 3))
    )
    fixed, weights, most = _constants(site, 2), packed, most_elements(packed.shape, 4, limit)

    def run(a: np.ndarray, _b: Any = None, za: Any = None, *_: Any) -> Any:
        if a.size > most:
            check_matmul(a, weights, 4, limit, what)
        return qlinear.matmul_integer(a, weights, a_zero if fixed else za, b_zero, kernel=kernel, num_threads=count)

    return run


@operator("MatMulFloat", domain=FUSED)
def _matmul_float(site: Site) -> Function | None:
    """Inputs a, b, zero point of a, zero point of b, scale, bias: the scaled product in float32, by ONNX's own steps.

    The attribute `unit` is a constant by which the scale is multiplied first. Where `a` is float32, DynamicQuantizeLinear
    makes a, its zero point and the scale of it.
    """
    site.by = site.kernel_name
    if site.dtype(0) != np.float32:
        return _scaled(site, site.dtype(0))
    product = _scaled(site, UINT8)

    def run(x: np.ndarray, b: Any, _za: None, zb: Any, _scale: None, *bias: np.ndarray) -> Any:
        codes, scale, zero_point = quantize.dynamic_quantize_arrays(x)
        return product(codes, b, zero_point, zb, scale, *bias)

    return run


def _scaled(site: Site, kind: np.dtype[Any] | None) -> Function:
    """Return the function of MatMulFloat for operands of one type; see there."""
    kernel, count, limit, what = site.kernel, site.num_threads, site.max_bytes, site.what
    packed = _packed(site, 1)
    act, unit = site.attr("act"), site.attr("unit")

    def general(
        a: np.ndarray, b: Any, za: Any = None, zb: Any = None, scale: Any = None, bias: np.ndarray | None = None
    ) -> Any:
        right = packed if packed is not None else b
        check_matmul(a, right, 4, limit, what)
        acc = qlinear.matmul_integer(a, right, za, zb, kernel=kernel, num_threads=count)
        if unit is not None:
            check_broadcast((scale, unit), limit, what)
            scale = scale * unit
        y = np.asarray(acc.astype(np.float32) * scale)
        if bias is not None:
            y = y + bias
        return epilogue.activate(y, act)

    if packed is None or not _constants(site, 3, 5) or kind not in INT8:
        return general
    weights, (k, n) = packed, packed.shape
    zb, bias, scale = site.const(3), site.const(5), site.const(4)
    fixed = scale is not None
    # What is constant of the scale.
    known = np.asarray(np.multiply(*(np.float32(1) if c is None else c for c in (scale, unit))))
    column_zero: Any = 0
    if zb is not None and zb.any():
        column_zero = int(zb.reshape(())) if zb.size == 1 else zb.reshape(-1).astype(np.int32)
    along = known.size == 1 or (known.size == n and known.shape[-1] == n)
    zero_fits = zb is None or (zb.dtype == packed.dtype and np.size(column_zero) in (1, n))
    if not along or not zero_fits or (bias is not None and bias.shape != (n,)):
        return general
    columns = np.array(np.broadcast_to(known.reshape(-1), n))
    # A product of fewer dimensions would get those of the scale.
    ndim, most = max(2, known.ndim), most_elements(packed.shape, 4, limit)
    product = ScaledProduct(packed.on(dispatch.select(kernel)), kind, column_zero, act)

    def run(
        a: np.ndarray, b: Any, za: Any = None, zb: Any = None, scale: Any = None, bias: np.ndarray | None = None
    ) -> Any:
        shape = a.shape
        fits = len(shape) >= ndim and shape[-1] == k and a.dtype is kind and (fixed or scale.ndim < 2)
        if not fits or (za is not None and za.size != 1):
            return general(a, b, za, zb, scale, bias)
        factor = columns if fixed else np.multiply(columns, scale)
        if len(factor) != n:
            return general(a, b, za, zb, scale, bias)
        if a.size > most:
            check_matmul(a, weights, 4, limit, what)
        workers = threads.get_num_threads() if count is None else count
        zero = 0 if za is None else za.item()
        y = product(a, zero, factor, bias, workers)
        return general(a, b, za, zb, scale, bias) if y is None else y

    return run


@operator("QLinearMatMul")
def _qlinear_matmul(site: Site) -> Function | None:
    site.by = site.kernel_name
    if site.dtype(1) not in FLOATS or (kind := site.dtype(0)) not in INT8:
        return None
    kernel, count, limit, what = site.kernel, site.num_threads, site.max_bytes, site.what
    packed = _packed(site, 3)
    if packed is None or not _constants(site, 1, 2, 4, 5, 6, 7, 8):

        def general(
            a: np.ndarray, sa: np.ndarray, za: np.ndarray, b: Any, sb: np.ndarray, zb: np.ndarray,
            sy: np.ndarray, zy: np.ndarray, bias: np.ndarray | None = None,
        ) -> Any:  # fmt: skip
            right = packed if packed is not None else b
            check_matmul(a, right, 4, limit, what)
            return np.asarray(
                qlinear.qlinear_matmul(a, sa, za, right, sb, zb, sy, zy, bias=bias, kernel=kernel, num_threads=count)
            )

        return general
    sa, za, sb, zb, sy, zy = (_constant(site, index) for index in (1, 2, 4, 5, 6, 7))
    bias = site.const(8)
    weights, most = packed, most_elements(packed.shape, 4, limit)
    plan = None
    # Parameters that do not fit are an error of the run, which names the node.
    with contextlib.suppress(TypeError, ValueError):
        assert kind is not None  # noqa: S101 - it is one of the two
        plan = qlinear.constant_plan(packed, dispatch.select(kernel), kind, (sa, za, sb, zb, sy, zy), bias)

    def run(a: np.ndarray, *_: Any) -> Any:
        if a.size > most:
            check_matmul(a, weights, 4, limit, what)
        if plan is not None and a.dtype is kind and settings.current().tally is None:
            y = plan.offer(a, None, threads.get_num_threads() if count is None else count)
            if y is not None:
                return y
        return qlinear.qlinear_matmul(a, sa, za, weights, sb, zb, sy, zy, bias=bias, kernel=kernel, num_threads=count)

    return run


class _Place:
    """The attributes of a convolution, and the check of its sizes, made once a shape."""

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


def _constants(site: Site, *indices: int) -> bool:
    """Tell whether these inputs are constants or absent."""
    return all(not site.has(index) or site.const(index) is not None for index in indices)


@operator("ConvInteger")
def _conv_integer(site: Site) -> Function | None:
    site.by = site.kernel_name
    place = _Place(site)
    packed = _packed_conv(site, 1, place)
    kernel, count = site.kernel, site.num_threads
    # Checked and lowered once for each type of image.
    ready: dict[Any, conv.Convolution] = {}
    constant = packed is not None and _constants(site, 3)

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
        return np.maximum(y, np.float32(0), out=y) if relu else y

    return run


@operator("QLinearConv")
def _qlinear_conv(site: Site) -> Function | None:
    site.by = site.kernel_name
    place = _Place(site)
    packed = _packed_conv(site, 3, place)
    kernel, count = site.kernel, site.num_threads
    ready: dict[Any, conv.Convolution] = {}
    constant = packed is not None and _constants(site, 1, 2, 4, 5, 6, 7, 8)

    def run(
        x: np.ndarray, sx: np.ndarray, zx: np.ndarray, w: Any, sw: np.ndarray, zw: np.ndarray,
        sy: np.ndarray, zy: np.ndarray, bias: np.ndarray | None = None,
    ) -> Any:  # fmt: skip
        weights = packed if packed is not None else w
        place.check(x, weights)
        if constant:
            made = ready.get(x.dtype)
            if made is None:
                rescale = conv.Quantization(sx, sw, sy, zy)
                made = conv.Convolution(
                    weights, x.dtype, zx, zw, bias=bias, quantization=rescale, group=place.group, **place.options
                )
                ready[x.dtype] = made
            return made(x, kernel=kernel, num_threads=count)
        return conv.qlinear_conv(
            x,
            sx,
            zx,
            weights,
            sw,
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


@operator("Lookup", domain=FUSED)
def _lookup(site: Site) -> Function | None:
    """Any function of one 8-bit number: a table of its 256 results."""
    table: np.ndarray = site.attr("table")
    line = _as_line(table, site.dtype(0))
    if line is None:
        results = table.tobytes()
        return lambda x: np.frombuffer(bytearray(x.tobytes().translate(results)), table.dtype).reshape(x.shape)
    slope, offset = line

    def run(x: np.ndarray) -> Any:
        y = x.astype(np.float32)
        y *= slope
        y += offset
        np.rint(y, out=y)
        return y.astype(table.dtype)

    return run


def _as_line(table: np.ndarray, codes: Any) -> tuple[np.float32, np.float32] | None:
    """Find a straight line whose rounded values are exactly the table's: vectors compute faster than they look up."""
    if codes not in INT8:
        return None
    x = np.arange(256, dtype=np.uint8).view(codes).astype(np.float32)
    order = np.argsort(x)
    steps = table.astype(np.float64)[order]
    slope = np.float32((steps[-1] - steps[0]) / 255)
    # Half a step of freedom at each end: a few slopes and offsets around the first guess are tried on all 256 codes.
    bounds = np.iinfo(table.dtype)
    for turn in np.linspace(-1, 1, 65):
        tried = np.float32(slope + turn / 255)
        product = x * tried
        gap = table - product.astype(np.float64)
        offset = np.float32((gap.max() + gap.min()) / 2)
        y = np.rint(product + offset)
        if y.min() >= bounds.min and y.max() <= bounds.max and np.array_equal(y.astype(table.dtype), table):
            return tried, offset
    return None
