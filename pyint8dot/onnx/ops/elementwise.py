"""Elementwise operators and reductions, in numpy, writing over an input nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from pyint8dot.onnx.bounds import check_broadcast
from pyint8dot.onnx.registry import Function, Site, operator

_BINARY: dict[str, np.ufunc] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide,
    "Equal": np.equal, "Greater": np.greater, "Less": np.less,
    "GreaterOrEqual": np.greater_equal, "LessOrEqual": np.less_equal,
    "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}  # fmt: skip
_ARITHMETIC = {"Add", "Sub", "Mul", "Div"}
_UNARY: dict[str, np.ufunc] = {
    "Abs": np.abs, "Neg": np.negative, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt,
    "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint, "Tanh": np.tanh, "Not": np.logical_not,
    "Sin": np.sin, "Cos": np.cos,
}  # fmt: skip
_VARIADIC: dict[str, np.ufunc] = {"Max": np.maximum, "Min": np.minimum, "Sum": np.add}


# The types that numpy converts as ONNX does.
_PLAIN = {np.dtype(t) for t in "?bBhHiIqQefd"}


def is_float(site: Site, index: int = 0) -> bool:
    """Tell whether an input is known to be float32 or float64."""
    return site.dtype(index) in (np.dtype(np.float32), np.dtype(np.float64))


@operator(*_BINARY)
def _binary(site: Site) -> Function | None:
    op = site.node.op
    if site.attr("axis") is not None or site.attr("broadcast"):
        return None  # the broadcasting of opset 6 and before
    if op == "Div" and not is_float(site):
        return None  # integers divide towards zero in ONNX, and numpy has no such ufunc
    if op in ("Equal", "Greater", "Less") and site.dtype(0) is None:
        return None
    apply, limit, what = _BINARY[op], site.max_bytes, site.what
    over = site.overwrite if op in _ARITHMETIC else frozenset()
    over_first, over_second = 0 in over, 1 in over

    def run(a: np.ndarray, b: np.ndarray) -> Any:
        shape, other = a.shape, b.shape
        if shape == other:
            if over_first:
                return apply(a, b, a)
            if over_second:
                return apply(a, b, b)
            # Of arrays without dimensions numpy makes a number.
            return apply(a, b) if shape else np.asarray(apply(a, b))
        # Writing over an operand is right only if it already has the shape of the result.
        if (
            over_first
            and len(other) <= len(shape)
            and all(d in (1, e) for d, e in zip(other[::-1], shape[::-1], strict=False))
        ):
            return apply(a, b, a)
        check_broadcast((a, b), limit, what)
        return apply(a, b)

    return run


@operator(*_UNARY)
def _unary(site: Site) -> Function | None:
    if site.node.op not in ("Abs", "Neg", "Not") and not is_float(site):
        return None
    apply = _UNARY[site.node.op]
    if site.overwrite and site.node.op != "Not":
        return lambda x: apply(x, out=x) if x.ndim else np.asarray(apply(x))
    return lambda x: np.asarray(apply(x))


@operator(*_VARIADIC)
def _variadic(site: Site) -> Function | None:
    apply, limit, what = _VARIADIC[site.node.op], site.max_bytes, site.what

    def run(first: np.ndarray, *rest: np.ndarray) -> Any:
        result = first
        for other in rest:
            check_broadcast((result, other), limit, what)
            result = np.asarray(apply(result, other))
        return result if rest else first.copy()

    return run


@operator("Relu")
def _relu(site: Site) -> Function | None:
    def run(x: np.ndarray) -> Any:
        return np.maximum(x, x.dtype.type(0), out=x if over else None)

    over = bool(site.overwrite)
    return run


@operator("LeakyRelu")
def _leaky_relu(site: Site) -> Function | None:
    alpha = site.attr("alpha", 0.01)
    return lambda x: np.where(x < 0, x * x.dtype.type(alpha), x)


@operator("Clip")
def _clip(site: Site) -> Function | None:
    if site.opset < 11:
        low, high = site.attr("min"), site.attr("max")
        return lambda x: np.clip(
            x, None if low is None else x.dtype.type(low), None if high is None else x.dtype.type(high)
        )

    def run(x: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None) -> Any:
        # Not np.clip's own order: where the bounds cross, ONNX says that the upper one wins.
        y = x if low is None else np.maximum(x, low)
        y = y if high is None else np.minimum(y, high)
        return y.copy() if y is x else np.asarray(y)

    return run


@operator("Reciprocal")
def _reciprocal(site: Site) -> Function | None:
    return (lambda x: np.asarray(x.dtype.type(1) / x)) if is_float(site) else None


@operator("Pow")
def _pow(site: Site) -> Function | None:
    exponent = site.const(1)
    if not is_float(site) or exponent is None or exponent.size != 1:
        return None
    power = float(exponent.reshape(()))
    if exponent.ndim:
        return None
    if power == 2:
        return lambda x, _: np.square(x)
    return lambda x, _: np.asarray(np.power(x, x.dtype.type(power)))


@operator("Cast")
def _cast(site: Site) -> Function | None:
    # Out of range values wrap or saturate by rules of their own for the narrow types: those go to the reference.
    try:
        target = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(site.attr("to")))
    except (KeyError, ValueError, TypeError):
        return None
    source = site.dtype(0)
    if source is None or source not in _PLAIN or target not in _PLAIN:
        return None

    def truncate(x: np.ndarray) -> Any:
        with np.errstate(invalid="ignore"):  # what does not fit has no defined value in ONNX either
            return x.astype(target)

    if source.kind == "f" and target.kind in "iu":
        return truncate
    return lambda x: x.astype(target, copy=False)


@operator("Where")
def _where(site: Site) -> Function | None:
    limit, what = site.max_bytes, site.what

    def run(condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> Any:
        check_broadcast((condition, x, y), limit, what)
        return np.where(condition, x, y)

    return run


_REDUCE: dict[str, Callable[..., Any]] = {
    "ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceProd": np.prod,
    "ReduceMax": np.max, "ReduceMin": np.min,
    "ReduceL2": lambda x, **k: np.sqrt(np.sum(np.square(x), **k)),
    "ReduceL1": lambda x, **k: np.sum(np.abs(x), **k),
    "ReduceSumSquare": lambda x, **k: np.sum(np.square(x), **k),
}  # fmt: skip


@operator(*_REDUCE)
def _reduce(site: Site) -> Function | None:
    if not is_float(site):
        return None
    apply, keepdims = _REDUCE[site.node.op], bool(site.attr("keepdims", 1))
    noop = bool(site.attr("noop_with_empty_axes", 0))
    fixed = site.attr("axes")
    empty = {"ReduceMax": -np.inf, "ReduceMin": np.inf}.get(site.node.op)
    if noop:
        return None

    def run(x: np.ndarray, axes: np.ndarray | None = None) -> Any:
        chosen = fixed if axes is None else axes.tolist()
        options = {"initial": empty} if empty and x.size == 0 else {}
        y = apply(x, axis=tuple(chosen) if chosen else None, keepdims=keepdims, **options)
        return np.asarray(y, x.dtype)

    return run
