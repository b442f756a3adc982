"""Elementwise operators, in numpy, writing over an input nobody needs any more."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from pyint8dot import floats
from pyint8dot.onnx.bounds import check_broadcast
from pyint8dot.onnx.ops.activations import in_float32, wide
from pyint8dot.onnx.ops.text import TEXT, cast_text
from pyint8dot.onnx.registry import FLOATS, Function, Site, operator

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
    if op == "Div" and site.dtype(0) not in FLOATS:
        return _integer_division if site.dtype(0) in _PLAIN else None
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


def _integer_division(a: np.ndarray, b: np.ndarray) -> Any:
    """Divide integers towards zero, for which numpy has no ufunc."""
    with np.errstate(all="ignore"):
        y = np.asarray(a // b)
        return np.asarray(y + ((y < 0) & (y * b != a)), a.dtype)


@operator(*_UNARY)
def _unary(site: Site) -> Function | None:
    apply = _UNARY[site.node.op]
    if site.node.op not in ("Abs", "Neg", "Not"):
        if site.dtype(0) not in FLOATS:
            return None
        if not is_float(site) or site.node.op in ("Log", "Sqrt", "Exp"):
            return in_float32(apply)
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
        return floats.relu(x, out=x if over else None)

    over = bool(site.overwrite)
    return run


@operator("LeakyRelu")
def _leaky_relu(site: Site) -> Function | None:
    alpha = site.attr("alpha", 0.01)

    def run(x: np.ndarray) -> np.ndarray:
        factor = x.dtype.type(alpha)
        # A float16 may be 0 where the attribute is not, and then infinity has no product.
        if 0 < factor < 1:
            return np.asarray(np.maximum(x, x * factor))
        y = np.array(x)
        np.multiply(x, factor, out=y, where=x < 0)
        return y

    return run


@operator("Clip")
def _clip(site: Site) -> Function | None:
    if site.opset < 11:
        low, high = site.attr("min"), site.attr("max")
        # Of arrays without dimensions numpy makes a number.
        return lambda x: np.asarray(
            np.clip(x, None if low is None else x.dtype.type(low), None if high is None else x.dtype.type(high))
        )

    def run(x: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None) -> Any:
        # numpy's maximum of an array and a number is slower than its clip.
        if low is not None and high is not None and low.ndim == high.ndim == 0 and low <= high:
            return np.asarray(np.clip(x, low, high))
        # Not np.clip's own order: where the bounds cross, ONNX says that the upper one wins.
        y = x if low is None else np.maximum(x, low)
        y = y if high is None else np.minimum(y, high)
        return y.copy() if y is x else np.asarray(y)

    return run


@operator("Reciprocal")
def _reciprocal(site: Site) -> Function | None:
    return in_float32(lambda x: np.asarray(x.dtype.type(1) / x)) if site.dtype(0) in FLOATS else None


@operator("Pow")
def _pow(site: Site) -> Function | None:
    """Of the type of the base, whatever that of the exponent."""
    exponent, limit, what = site.single(1), site.max_bytes, site.what
    if is_float(site) and exponent == 2 and site.const(1).ndim == 0:  # type: ignore[union-attr]
        return lambda x, _: np.square(x)
    if site.dtype(0) not in _PLAIN or site.dtype(1) not in _PLAIN:
        return None

    def run(x: np.ndarray, power: np.ndarray) -> Any:
        check_broadcast((x, power), limit, what)
        with np.errstate(all="ignore"):
            if x.dtype.kind == "f":
                return np.asarray(np.power(wide(x), power.astype(wide(x).dtype)), x.dtype)
            # Integers to a negative power, which numpy refuses, by way of floats.
            exact = power.dtype.kind in "iu" and not (power < 0).any()
            return np.asarray(np.power(x, power) if exact else np.power(x.astype(np.float64), power)).astype(x.dtype)

    return run


@operator("Cast")
def _cast(site: Site) -> Function | None:
    # Out of range values wrap or saturate by rules of their own for the narrow types: those go to the reference.
    try:
        target = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(site.attr("to")))
    except (KeyError, ValueError, TypeError):
        return None
    source = site.dtype(0)
    if source is None or not {source, target} <= _PLAIN | {TEXT}:
        return None
    if TEXT in (source, target):
        return cast_text(source, target)

    def truncate(x: np.ndarray) -> Any:
        with np.errstate(invalid="ignore"):  # what does not fit has no defined value in ONNX either
            return x.astype(target)

    if source.kind == "f" and target.kind in "iu":
        return truncate
    return lambda x: x.astype(target, copy=False)


@operator("CastLike")
def _cast_like(site: Site) -> Function | None:
    target = site.dtype(1)
    if site.dtype(0) not in _PLAIN or target not in _PLAIN:
        return None

    def run(x: np.ndarray, _: np.ndarray) -> Any:
        with np.errstate(all="ignore"):  # as for Cast
            return x.astype(target)

    return run


@operator("Mean")
def _mean(site: Site) -> Function | None:
    limit, what = site.max_bytes, site.what

    def run(first: np.ndarray, *rest: np.ndarray) -> Any:
        total = wide(first).copy()
        for other in rest:
            check_broadcast((total, other), limit, what)
            total = np.asarray(total + other)
        return np.asarray(total / (1 + len(rest)), first.dtype)

    return run if site.dtype(0) in FLOATS else None


@operator("Mod")
def _mod(site: Site) -> Function | None:
    apply, limit, what = (np.fmod if site.attr("fmod", 0) else np.mod), site.max_bytes, site.what

    def run(a: np.ndarray, b: np.ndarray) -> Any:
        check_broadcast((a, b), limit, what)
        with np.errstate(all="ignore"):
            return np.asarray(apply(a, b))

    return run if site.dtype(0) in _PLAIN else None


@operator("Where")
def _where(site: Site) -> Function | None:
    limit, what = site.max_bytes, site.what

    def run(condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> Any:
        check_broadcast((condition, x, y), limit, what)
        return np.where(condition, x, y)

    return run
