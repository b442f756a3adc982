"""Numbers to strings and back, as onnxruntime writes and reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from pyint8dot.onnx.registry import Function

TEXT: np.dtype[Any] = np.dtype(object)
_INTEGER = re.compile(r"\s*[+-]?\d+")
_SPECIAL = {"nan": "NaN", "inf": "INF", "-inf": "-INF"}


def cast_text(source: np.dtype[Any], target: np.dtype[Any]) -> Function:
    """Return what casts to or from strings.

    Parameters
    ----------
    source, target : dtype
        One of them or both `TEXT`, else of numbers that numpy has.

    Returns
    -------
    callable
    """
    if target == TEXT:
        return np.copy if source == TEXT else lambda x: _each(_written, x, target)
    if target.kind == "f":
        return lambda x: _each(float, x, np.dtype(np.float64)).astype(target)
    if target.kind == "b":
        return lambda x: _each(lambda text: _whole(text) != 0, x, target)
    # By way of the bits: what does not fit wraps, which numpy refuses.
    bits = np.dtype(f"u{target.itemsize}")
    return lambda x: _each(lambda text: _whole(text) % (1 << 8 * bits.itemsize), x, bits).view(target)


def _each(function: Callable[[Any], Any], x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return an array of what a function makes of every element."""
    y = np.empty(x.size, dtype)
    y[:] = [function(value) for value in x.reshape(-1).tolist()]
    return y.reshape(x.shape)


def _written(value: Any) -> str:
    if isinstance(value, float):
        text = f"{value:.8g}"
        return _SPECIAL.get(text, text)
    return str(int(value))


def _whole(text: str) -> int:
    """Return the integer at the beginning of a text, all that is read of it."""
    found = _INTEGER.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no integer")
    return int(found[0])
