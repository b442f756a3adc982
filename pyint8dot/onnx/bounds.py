"""Bounds on memory: what a model may ask for is worked out before it is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from pyint8dot.onnx.errors import ModelError

# A whole InceptionV1 run lives in a hundredth of this; a model that needs more says so with max_bytes=.
DEFAULT_MAX_BYTES = 4 << 30


def check_shape(shape: Iterable[int], itemsize: int, max_bytes: int, what: str) -> int:
    """Return the bytes of an array of this shape, or refuse it.

    Parameters
    ----------
    shape : iterable of int
        The dimensions asked for.
    itemsize : int
        Bytes of one element.
    max_bytes : int
        The most that is allowed.
    what : str
        The tensor and node, for the message.

    Returns
    -------
    int
        The size in bytes.

    Raises
    ------
    ModelError
        If a dimension is negative or the array would be larger than `max_bytes`.
    """
    dims = [int(d) for d in shape]
    if any(d < 0 for d in dims):
        raise ModelError(f"{what}: shape {dims} has a negative dimension")
    size = math.prod(dims) * itemsize
    if size > max_bytes:
        raise ModelError(f"{what}: shape {dims} needs {size} bytes, more than max_bytes={max_bytes}")
    return size


def check_broadcast(arrays: Sequence[np.ndarray], max_bytes: int, what: str, itemsize: int = 8) -> None:
    """Refuse an elementwise operation whose broadcast result would be too large.

    Parameters
    ----------
    arrays : sequence of ndarray
        The operands.
    max_bytes : int
        The most that is allowed.
    what : str
        The node, for the message.
    itemsize : int
        Bytes of one element of the result, at most.

    Raises
    ------
    ModelError
        If the result would be larger than `max_bytes`.
    """
    product = itemsize
    for array in arrays:
        product *= array.size or 1
    if product > max_bytes:
        # Only now is the exact shape worth its price; shapes that do not fit each other raise in numpy's words.
        check_shape(np.broadcast_shapes(*(a.shape for a in arrays)), itemsize, max_bytes, what)
