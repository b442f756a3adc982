"""Functions of one number, in numpy: float16 is computed in float32, which numpy has vector loops for."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pyint8dot import floats
from pyint8dot.onnx.bounds import check_broadcast
from pyint8dot.onnx.contrib.writer import MICROSOFT
from pyint8dot.onnx.registry import FLOATS, Function, Site, operator

_INVERSE_ROOT = math.sqrt(0.5)


def wide(x: np.ndarray) -> np.ndarray:
    """Return an array as float32 where it is narrower, else as it is.

    Parameters
    ----------
    x : ndarray of float16, float32 or float64
        Any shape.

    Returns
    -------
    ndarray
        Of float32 or float64.
    """
    return x.astype(np.float32) if x.dtype == np.float16 else x


def in_float32(function: Callable[[np.ndarray], np.ndarray]) -> Function:
    """Return a function of float arrays that computes float16 in float32.

    Parameters
    ----------
    function : callable
        Takes float32 or float64 and returns an array of the same type.

    Returns
    -------
    callable
    """

    @functools.wraps(function)
    def run(x: np.ndarray) -> Any:
        with np.errstate(all="ignore"):  # what overflows is infinity, as in ONNX
            return np.asarray(function(wide(x))).astype(x.dtype, copy=False)

    return run


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), by tanh(x / 2), which never overflows.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Any shape.

    Returns
    -------
    ndarray
    """
    half = x.dtype.type(0.5)
    y = np.asarray(np.tanh(x * half))
    y *= half
    y += half
    return y


def erf(x: np.ndarray) -> np.ndarray:
    """Error function, of float64 one by one: there is no such ufunc.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Any shape.

    Returns
    -------
    ndarray
    """
    if x.dtype == np.float32:
        return floats.erf(x)
    return np.fromiter(map(math.erf, x.ravel().tolist()), x.dtype, x.size).reshape(x.shape)


def gelu(x: np.ndarray) -> np.ndarray:
    """Multiply x by the share of the normal distribution below x.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Any shape.

    Returns
    -------
    ndarray
    """
    if x.dtype == np.float32:
        return floats.gelu(x)
    y = erf(x * x.dtype.type(_INVERSE_ROOT))
    y += 1
    y *= x
    y *= 0.5
    return y


def fast_gelu(x: np.ndarray) -> np.ndarray:
    """Return x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x**3))).

    Parameters
    ----------
    x : ndarray of float32 or float64
        Any shape.

    Returns
    -------
    ndarray
    """
    kind = x.dtype.type
    y = np.asarray(np.square(x))
    y *= kind(0.044715 * math.sqrt(2 / math.pi))
    y += kind(math.sqrt(2 / math.pi))
    y *= x
    np.tanh(y, out=y)
    y += kind(1)
    y *= x
    y *= kind(0.5)
    return y


def softplus(x: np.ndarray) -> np.ndarray:
    """Return log(1 + exp(x)).

    Parameters
    ----------
    x : ndarray of float
        Any shape.

    Returns
    -------
    ndarray
        Of x's shape and type.

    Examples
    --------
    >>> softplus(np.float32([0.0])).round(4)
    array([0.6931], dtype=float32)
    """
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def elu(x: np.ndarray, alpha: float, gamma: float = 1.0, width: float = 1.0) -> np.ndarray:
    """Return ``gamma * x`` where x is positive, else ``gamma * alpha * (exp(x / width) - 1)``.

    Parameters
    ----------
    x : ndarray of float
        Any shape.
    alpha, gamma, width : float
        The factors of Elu, Selu and Celu.

    Returns
    -------
    ndarray
        Of x's shape and type.

    Examples
    --------
    >>> elu(np.float32([2.0, -1.0]), 1.0).round(4)
    array([ 2.    , -0.6321], dtype=float32)
    """
    kind = x.dtype.type
    negative = np.expm1(np.minimum(x, kind(0)) / kind(width))
    return np.asarray(kind(gamma) * np.where(x > 0, x, kind(alpha) * negative))


def _shrink(x: np.ndarray, bias: float, width: float) -> np.ndarray:
    kind = x.dtype.type
    return np.asarray(np.where(x < -width, x + kind(bias), np.where(x > width, x - kind(bias), kind(0))))


def _times_sigmoid(x: np.ndarray, alpha: float) -> np.ndarray:
    y: np.ndarray = sigmoid(np.asarray(x * x.dtype.type(alpha)))
    y *= x
    return y


# Each from the attributes of its node.
_FUNCTIONS: dict[str, Callable[[Site], Callable[[np.ndarray], np.ndarray]]] = {
    "Erf": lambda _: erf,
    "HardSigmoid": lambda s: functools.partial(floats.hard_sigmoid, alpha=s.attr("alpha", 0.2), beta=s.attr("beta", 0.5)),
    "HardSwish": lambda _: functools.partial(floats.hard_sigmoid, alpha=1 / 6, beta=0.5, times=True),
    "Elu": lambda s: functools.partial(elu, alpha=s.attr("alpha", 1.0)),
    "Selu": lambda s: functools.partial(
        elu, alpha=s.attr("alpha", 1.6732632423543772), gamma=s.attr("gamma", 1.0507009873554805)
    ),
    "Celu": lambda s: functools.partial(elu, alpha=s.attr("alpha", 1.0), width=s.attr("alpha", 1.0)),
    "Softplus": lambda _: softplus,
    "Softsign": lambda _: lambda x: x / (1 + np.abs(x)),
    "Mish": lambda _: lambda x: x * np.tanh(softplus(x)),
    "Swish": lambda s: functools.partial(_times_sigmoid, alpha=s.attr("alpha", 1.0)),
    "ThresholdedRelu": lambda s: lambda x: np.where(x > s.attr("alpha", 1.0), x, x.dtype.type(0)),
    "Shrink": lambda s: functools.partial(_shrink, bias=s.attr("bias", 0.0), width=s.attr("lambd", 0.5)),
    "Gelu": lambda s: fast_gelu if s.attr("approximate", "none") == "tanh" else gelu,
    "Tan": lambda _: np.tan, "Asin": lambda _: np.arcsin, "Acos": lambda _: np.arccos, "Atan": lambda _: np.arctan,
    "Sinh": lambda _: np.sinh, "Cosh": lambda _: np.cosh, "Asinh": lambda _: np.arcsinh, "Acosh": lambda _: np.arccosh,
    "Atanh": lambda _: np.arctanh,
}  # fmt: skip
# The functions of one number among the operators, whose results on 256 codes make a table.
NAMES = (*_FUNCTIONS, "Sigmoid", "QuickGelu", "FastGelu")


@operator(*_FUNCTIONS)
def _function(site: Site) -> Function | None:
    if site.node.op in ("HardSigmoid", "HardSwish") and site.dtype(0) == np.float32:
        site.native(steady=True)
    return in_float32(_FUNCTIONS[site.node.op](site)) if site.dtype(0) in FLOATS else None


@operator("Sigmoid")
def _sigmoid(site: Site) -> Function | None:
    return in_float32(sigmoid) if site.dtype(0) in FLOATS else None


@operator("Gelu", domain="pyint8dot")
def _own_gelu(site: Site) -> Function | None:
    """Exact GELU of float32, which patterns make."""
    if 0 in site.overwrite:
        return lambda x: floats.gelu(x, out=x)
    return floats.gelu


@operator("Gelu", domain=MICROSOFT)
def _gelu(_: Site) -> Function | None:
    return in_float32(gelu)


@operator("FastGelu", domain=MICROSOFT)
def _fast_gelu(_: Site) -> Function | None:
    return in_float32(fast_gelu)


@operator("QuickGelu", domain=MICROSOFT)
def _quick_gelu(site: Site) -> Function | None:
    return in_float32(functools.partial(_times_sigmoid, alpha=site.attr("alpha", 1.702)))


@operator("PRelu")
def _prelu(site: Site) -> Function | None:
    limit, what = site.max_bytes, site.what

    def run(x: np.ndarray, slope: np.ndarray) -> Any:
        check_broadcast((x, slope), limit, what)
        return np.asarray(np.where(x < 0, x * slope, x))

    return run


@operator("Sign")
def _sign(site: Site) -> Function | None:
    return (lambda x: np.asarray(np.sign(x))) if site.dtype(0) in FLOATS else None


@operator("IsNaN")
def _is_nan(_: Site) -> Function | None:
    return lambda x: np.asarray(np.isnan(x))
