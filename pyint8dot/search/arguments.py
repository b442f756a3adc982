"""Checks of what a search is asked for: numbers, ids and filters."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pyint8dot.search.scan import Mask

__all__ = ["as_ids", "mask_of", "positive"]


def positive(name: str, value: int) -> int:
    """A number from 1 on as an int, or an error that names the argument."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an int, got bool")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {type(value).__name__}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def as_ids(ids: npt.ArrayLike, name: str = "ids") -> npt.NDArray[np.int64]:
    """Ids as int64; TypeError for what are no integers."""
    array = np.asarray(ids)
    if array.size == 0:
        return np.empty(array.shape, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must fit int64, got {array.max()}")
    return array.astype(np.int64)


def mask_of(wanted: Any) -> Mask | None:
    """What tells which ids a search may find."""
    if wanted is None:
        return None
    if callable(wanted):

        def asked(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
            answer = np.asarray(wanted(ids.copy()))
            if answer.dtype != np.bool_ or answer.shape != ids.shape:
                raise TypeError(
                    f"filter must return bool of shape {ids.shape}, got {answer.dtype} of shape {answer.shape}"
                )
            return answer

        return asked
    allowed = np.unique(as_ids(wanted, "filter"))

    def among(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        if not len(allowed):
            return np.zeros(ids.shape, np.bool_)
        found: npt.NDArray[np.bool_] = allowed[np.minimum(np.searchsorted(allowed, ids), len(allowed) - 1)] == ids
        return found

    return among
