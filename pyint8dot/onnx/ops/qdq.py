"""Quantising and dequantising, and functions of single codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from pyint8dot import arguments, quantize
from pyint8dot.engine import elementwise
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.registry import FLOATS, INT8, Function, Site, operator


def _type(element: int) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(element))


# Codes that are not of 8 bits, and the least and the largest of each.
OTHERS = {
    np.dtype(np.int16): (-(1 << 15), (1 << 15) - 1), np.dtype(np.uint16): (0, (1 << 16) - 1),
    _type(TensorProto.INT4): (-8, 7), _type(TensorProto.UINT4): (0, 15),
}  # fmt: skip


@operator("DynamicQuantizeLinear")
def _dynamic_quantize_linear(site: Site) -> Function | None:
    site.native(steady=True)
    return quantize.dynamic_quantize_arrays if site.dtype(0) == np.float32 else None


@operator("QuantizeLinear")
def quantize_linear(site: Site) -> Function | None:
    """Lower QuantizeLinear, of ONNX or of com.microsoft."""
    target = site.dtype(2) if site.has(2) else _type(site.attr("output_dtype", 0) or TensorProto.UINT8)
    scale_type = site.dtype(1)
    if target in OTHERS and scale_type in FLOATS and not site.attr("precision", 0):
        return _quantize_other(site, target)
    if target not in INT8 or scale_type not in FLOATS:
        return None
    if site.dtype(0) not in (*FLOATS, np.dtype(np.int32)) or site.attr("precision", 0):
        return None
    axis, block = site.attr("axis", 1), site.attr("block_size", 0)
    scale, zero = site.single(1), site.single(2)
    if site.dtype(0) == scale_type == np.float32 and scale is not None and not block and target is not None:
        if not site.has(2) or zero is not None:
            site.native(steady=True)
        if not site.has(2):
            return _quantize_scalar(np.asarray(scale, np.float32), 0, target)
        if zero is not None:
            return _quantize_scalar(np.asarray(scale, np.float32), int(zero), target)

    def run(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None) -> Any:
        return quantize.quantize_by(x, scale, zero_point, axis=axis, block_size=block, dtype=target)

    return run


def _quantize_scalar(scale: np.ndarray, zero: int, target: np.dtype[Any]) -> Function:
    """quantize_linear of a float32 array by one scale, its arguments checked once."""
    zero_point = target.type(zero)

    def run(x: np.ndarray, *_: Any) -> Any:
        found = elementwise.quantize(x, scale, zero, target)
        return quantize.quantize_by(x, scale, zero_point, native=False) if found is None else found

    return run


@operator("DequantizeLinear")
def dequantize_linear(site: Site) -> Function | None:
    """Lower DequantizeLinear, of ONNX or of com.microsoft."""
    if site.dtype(0) not in (*INT8, *OTHERS, np.dtype(np.int32)) or site.dtype(1) not in FLOATS:
        return None
    if site.attr("output_dtype", 0):
        return None
    axis, block = site.attr("axis", 1), site.attr("block_size", 0)
    if site.dtype(0) in INT8 and site.dtype(1) == np.float32 and not block:
        scale, zero = site.const(1), site.const(2)
        if scale is not None and scale.size == 1 and (not site.has(2) or (zero is not None and zero.size == 1)):
            site.native(steady=True)
            return _dequantize_scalar(scale, zero)
    if site.dtype(0) in OTHERS:
        return _dequantize_other(axis, block)

    def run(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None) -> Any:
        return np.asarray(quantize.dequantize_by(x, scale, zero_point, axis=axis, block_size=block))

    return run


def _dequantize_scalar(scale: np.ndarray, zero_point: np.ndarray | None) -> Function:
    """dequantize_linear of 8-bit codes by one scale, its arguments checked once."""
    factor = scale.reshape(())
    zero = 0 if zero_point is None else int(zero_point.reshape(()))

    def run(x: np.ndarray, *_: Any) -> Any:
        found = elementwise.dequantize(x, factor, zero)
        return np.asarray(quantize.dequantize_by(x, factor, zero, native=False)) if found is None else found

    return run


def _quantize_other(site: Site, target: np.dtype[Any]) -> Function:
    """QuantizeLinear to 4 or 16 bits."""
    axis, block = site.attr("axis", 1), site.attr("block_size", 0)
    least, most = OTHERS[target]

    def run(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None) -> Any:
        divisor = arguments.along_axis("y_scale", scale, x.shape, axis, block)
        zero: Any = 0
        if zero_point is not None:
            zero = arguments.along_axis("y_zero_point", zero_point.astype(np.int32), x.shape, axis, block)
        # float64 holds every sum of a rounded float32 within these bounds and a zero point.
        with np.errstate(all="ignore"):
            y = np.rint(x.astype(divisor.dtype) / divisor).astype(np.float64) + zero
            return np.clip(np.nan_to_num(y), least, most).astype(target)

    return run


def _dequantize_other(axis: int, block: int) -> Function:
    """DequantizeLinear of 4 or 16 bits."""

    def run(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None) -> Any:
        factor = arguments.along_axis("x_scale", scale, x.shape, axis, block)
        wide = x.astype(np.int32)
        if zero_point is not None:
            wide -= arguments.along_axis("x_zero_point", zero_point.astype(np.int32), x.shape, axis, block)
        work = np.promote_types(np.float32, factor.dtype)
        return (wide.astype(work) * factor.astype(work)).astype(factor.dtype, copy=False)

    return run


@operator("Lookup", domain=FUSED)
def _lookup(site: Site) -> Function | None:
    """Any function of one 8-bit number: a table of its 256 results."""
    table: np.ndarray = site.attr("table")
    results = table.tobytes()
    site.native(steady=True)

    def run(x: np.ndarray) -> Any:
        found = elementwise.lookup(x, table)
        if found is not None:
            return found
        return np.frombuffer(bytearray(x.tobytes().translate(results)), table.dtype).reshape(x.shape)

    return run
