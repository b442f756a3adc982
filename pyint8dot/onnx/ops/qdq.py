"""Quantising and dequantising, and functions of single codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyint8dot import quantize
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.registry import FLOATS, INT8, Function, Site, operator


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
    scale, zero = site.single(1), site.single(2)
    if site.dtype(0) == scale_type == np.float32 and scale is not None and not block and target is not None:
        if not site.has(2):
            return _quantize_scalar(np.float32(scale), 0, target)
        if zero is not None:
            return _quantize_scalar(np.float32(scale), int(zero), target)

    def run(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None) -> Any:
        return quantize.quantize_linear(x, scale, zero_point, axis=axis, block_size=block, dtype=target)

    return run


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
