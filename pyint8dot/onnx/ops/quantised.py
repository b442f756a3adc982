"""Operators that compute in floats between 8-bit tensors: dequantised, computed and quantised in one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyint8dot import quantize
from pyint8dot.engine import elementwise
from pyint8dot.onnx.graph import FUSED, Node
from pyint8dot.onnx.ops import averages
from pyint8dot.onnx.reference import lower_by_reference
from pyint8dot.onnx.registry import FRESH, OPERATORS, Function, Site, operator

# Those that quantised models have between 8-bit tensors, products apart.
COMPUTED = (
    "Add", "Sub", "Mul", "Div", "Pow", "Sum", "Mean", "AveragePool", "GlobalAveragePool", "LpPool", "Softmax", "LogSoftmax",
    "ReduceMean", "ReduceSum", "ReduceL2", "ReduceProd", "ReduceSumSquare", "Resize", "LayerNormalization",
    "InstanceNormalization", "GroupNormalization", "BatchNormalization", "LRN", "LpNormalization", "PRelu", "ConvTranspose",
    "CumSum", "Einsum", "Pad", "Erf", "Tanh", "Sigmoid", "HardSwish",
)  # fmt: skip
_ONE_BY_ONE = {"Add", "Sub", "Mul", "Div", "Sum"}
# Those of them that have native code.
_COMBINED = _ONE_BY_ONE - {"Div"}
# What quantises its result has made a new array.
FRESH.update((FUSED, f"QLinear{name}") for name in COMPUTED)
# Elements of a piece whose floats stay in a second-level cache.
_PIECE = 1 << 15


@operator(*(f"QLinear{name}" for name in COMPUTED), domain=FUSED)
def computed(site: Site) -> Function | None:
    """Lower a node that stands for one operator in floats, what dequantises in front of it and what quantises behind it."""
    inner, scales = site.attr("inner"), site.attr("scales")
    lower = OPERATORS.get(inner.key)
    # What is dequantised here is nobody else's.
    place = Site(inner, site.graph, site.kernel, site.num_threads, site.max_bytes, frozenset(scales))
    function = lower(place) if lower is not None else None
    # What comes before and after is native wherever the operator is.
    site.by, site.steady = place.by, place.steady
    if function is None:
        function, site.by = lower_by_reference(place), "onnx reference"
    back = {index: _dequantiser(scale, zero) for index, (scale, zero) in scales.items()}
    forth = _quantiser(*site.attr("result"))

    def run(*inputs: Any) -> Any:
        given = [back[i](x) if i in back else x for i, x in enumerate(inputs)]
        return forth(np.asarray(function(*given)))

    if 0 in scales and (found := averages.average(site, place, run)) is not None:
        return found
    if inner.op not in _ONE_BY_ONE or len(inner.inputs) != 2:
        return run

    def in_pieces(a: np.ndarray, b: np.ndarray) -> Any:
        if a.shape != b.shape or a.size <= _PIECE or not (a.flags.c_contiguous and b.flags.c_contiguous):
            return run(a, b)
        left, right = a.reshape(-1), b.reshape(-1)
        y = np.empty(a.size, site.attr("result")[1].dtype)
        for start in range(0, a.size, _PIECE):
            piece = slice(start, start + _PIECE)
            y[piece] = run(left[piece], right[piece])
        return y.reshape(a.shape)

    combined = _combined(site, inner)
    if combined is None:
        return in_pieces
    site.native(steady=True)

    def together(a: np.ndarray, b: np.ndarray) -> Any:
        y = combined(a, b)
        return in_pieces(a, b) if y is None else y

    return together


def _combined(site: Site, inner: Node) -> Function | None:
    """Return the native function of a sum, difference or product of two tensors, which is None where they do not fit each other."""
    (y_scale, y_zero), scales = site.attr("result"), site.attr("scales")
    if inner.op not in _COMBINED or len(inner.inputs) != 2:
        return None
    known: list[tuple[Any, Any, int]] = []
    for index, sign in enumerate((1, -1 if inner.op == "Sub" else 1)):
        if index in scales:
            scale, zero = scales[index]
            known.append((zero.dtype, sign * scale, int(zero)))
        elif site.dtype(index) == np.float32 and sign > 0:
            known.append((np.dtype(np.float32), 1, 0))
        else:
            return None

    def made(left: int) -> elementwise.Combined | None:
        if left not in scales:
            return None
        types, factors, zeros = zip(known[left], known[1 - left], (y_zero.dtype, y_scale, int(y_zero)), strict=True)
        return elementwise.Combined(types, factors, zeros, product=inner.op == "Mul")

    first, second = made(0), made(1)

    def run(a: np.ndarray, b: np.ndarray) -> Any:
        # The one that is repeated comes second, and so does one that is no codes.
        if first is not None and (a.size >= b.size or second is None):
            return first(a, b)
        return None if second is None else second(b, a)

    return run


def _dequantiser(scale: np.ndarray, zero_point: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    zero = int(zero_point)

    def run(x: np.ndarray) -> np.ndarray:
        found = elementwise.dequantize(x, scale, zero)
        return np.asarray(quantize.dequantize_by(x, scale, zero, native=False)) if found is None else found

    return run


def _quantiser(scale: np.ndarray, zero_point: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    zero, kind = int(zero_point), zero_point.dtype

    def run(x: np.ndarray) -> np.ndarray:
        found = elementwise.quantize(x, scale, zero, kind)
        return np.asarray(quantize.quantize_by(x, scale, zero_point, native=False)) if found is None else found

    return run
