"""DynamicQuantizeLSTM: inputs and states are quantised by their own range before each product with the int8 weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyint8dot import PackedMatrix, pack, qlinear, quantize
from pyint8dot.engine import dispatch, library
from pyint8dot.engine.lstm import LANES
from pyint8dot.epilogue import dequantize
from pyint8dot.floats.work import contiguous
from pyint8dot.linear import ScaledProduct
from pyint8dot.lstm import initial_states, limited, panel_columns
from pyint8dot.lstm_int8 import QuantisedSteps
from pyint8dot.onnx.contrib.writer import MICROSOFT
from pyint8dot.onnx.ops.recurrent import Cell, Product
from pyint8dot.onnx.registry import INT8, Function, Site, operator


@operator("DynamicQuantizeLSTM", domain=MICROSOFT)
def _dynamic_lstm(site: Site) -> Function | None:
    """Inputs and states are quantised by their own range before each product with the int8 weights."""
    cell = Cell(site, "LSTM")
    weights = [site.const(i) for i in (1, 8, 9)], [site.const(i) for i in (2, 10, 11)]
    if any(c is None for side in weights for c in side):
        raise ValueError(f"{site.node}: weights that are not constant are not supported")
    site.by = site.kernel_name
    hidden = site.const(2)
    assert hidden is not None  # noqa: S101 - seen above
    cell.hidden = hidden.shape[1]
    if cell.plain and cell.hidden and cell.hidden % LANES == 0 and site.all_constant(3) and library.status() is None:
        return _native(site, cell, *weights)  # type: ignore[arg-type]
    factors = cell.gate_factors(np.dtype(np.float32))
    products = [
        tuple(_dynamic_product(site, *(c[d] for c in side), factors=factors) for side in weights)  # type: ignore[index]
        for d in range(cell.count)
    ]
    site.absorb(1)
    site.absorb(2)

    def run(
        x: np.ndarray, _w: None, _r: None, bias: np.ndarray | None = None, lengths: np.ndarray | None = None,
        state: np.ndarray | None = None, c: np.ndarray | None = None, peep: np.ndarray | None = None, *_: Any,
    ) -> Any:  # fmt: skip
        return cell.run(x, products, bias, lengths, state, c, peep)  # type: ignore[arg-type]

    return run


def _native(site: Site, cell: Cell, of_inputs: list[np.ndarray], of_states: list[np.ndarray]) -> Function:
    """A plain one, whose steps native code walks."""
    count, hidden, bias = cell.count, cell.hidden, site.const(3)
    backward = (cell.direction == "reverse", True)[:count]
    order = panel_columns(hidden)
    factors = cell.gate_factors(np.dtype(np.float32))[order]
    shifts = None if bias is None else (bias.reshape(count, 2, -1).sum(axis=1)[:, order] * factors).reshape(-1)
    # Gates in the order of panels; the inputs are multiplied for all directions together.
    sides = [[_each_column(part, count, order) for part in side] for side in (of_inputs, of_states)]
    together = [part.swapaxes(0, -2).reshape(*part.shape[1:-1], -1) for part in sides[0]]
    product = _dynamic_product(site, *together, factors=np.tile(factors, count), bias=shifts)
    w, scale, zero = sides[1]
    weights = [_weights(site, w[d], scale[d], zero[d], factors) for d in range(count)]
    steps_of = QuantisedSteps(weights, dispatch.select(site.kernel))
    for index in (1, 2, 3):
        site.absorb(index)

    def run(
        x: np.ndarray, _w: None, _r: None, _b: None = None, lengths: np.ndarray | None = None,
        state: np.ndarray | None = None, c: np.ndarray | None = None, *_: Any,
    ) -> Any:  # fmt: skip
        if cell.layout:
            x, state, c = cell.steps_first(x, state, c)
        steps, batch, inputs = x.shape
        cell.check(steps, batch, hidden)
        h, c = initial_states(state, c, (count, batch, hidden), hidden)
        ends = None if lengths is None else limited(lengths, steps, batch)
        y = np.zeros((steps, count, batch, hidden), np.float32)
        # What lies behind the ends of all rows has no part in the range of the inputs.
        walked = y if ends is None else y[: ends.max(initial=0)]
        if walked.size:
            rows = contiguous(x[: len(walked)]).reshape(len(walked) * batch, inputs)
            steps_of(product(rows), walked, h, c, ends, backward)
        return cell.results(y, h, c)

    return run


def _each_column(part: np.ndarray, count: int, order: np.ndarray) -> np.ndarray:
    """Return weights, scales or zero points of each direction with a value for each column, columns in another order."""
    wide = part if part.ndim > 2 else np.broadcast_to(part.reshape(count, -1), (count, len(order)))
    return np.ascontiguousarray(wide[..., order])


def _weights(
    site: Site, w: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, factors: np.ndarray
) -> tuple[PackedMatrix, np.ndarray, Any]:
    """Return weights (k, n) packed, what one unit of each column stands for, times `factors`, and one zero point or one a column."""
    if w.dtype not in INT8:
        raise ValueError(f"{site.node}: weights must be int8 or uint8, got {w.dtype}")
    packed = pack(np.ascontiguousarray(w), kernel=dispatch.select(site.kernel).name)
    wide = zero_point.astype(np.int32).reshape(-1)
    zero: Any = int(wide[0]) if (wide == wide[0]).all() else wide
    return packed, scale.astype(np.float32).reshape(-1) * factors, zero


def _dynamic_product(
    site: Site,
    w: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    *,
    factors: np.ndarray,
    bias: np.ndarray | None = None,
) -> Product:
    """Return the product with weights (k, n), one scale and zero point for all or for each column, times `factors` of the columns.

    The bias is added as it is.
    """
    kernel, threads = dispatch.select(site.kernel), site.num_threads or 1
    packed, unit, zero = _weights(site, w, scale, zero_point, factors)
    scaled = ScaledProduct(packed.on(kernel), np.dtype(np.float32), zero, unit, bias, None)

    def run(x: np.ndarray) -> np.ndarray:
        x = contiguous(x)
        y = scaled(x, threads)
        if y is not None:
            return y
        codes, factor, point = quantize.dynamic_quantize_arrays(x)
        acc = qlinear.matmul_integer(
            codes, packed, point, zero_point.reshape(-1) if zero_point.size > 1 else zero_point.reshape(-1)[0]
        )
        return dequantize(acc, np.float32(1), unit * factor, bias)

    return run
