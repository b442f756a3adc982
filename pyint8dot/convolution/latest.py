"""The convolution of the latest call with some packed weights, which is most often that of the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyint8dot import known

#: What it is kept by, and what attributes may be, so that they are compared by value.
KEY, PLAIN = "latest", {type(None), int, str, list, tuple}


class Latest(NamedTuple):
    """What the latest call brought, and what was made of it."""

    x_dtype: np.dtype[Any]
    constants: tuple[Any, ...]
    attributes: tuple[Any, ...]
    made: Any


class Contents(NamedTuple):
    """What an array held, since its owner may change it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    values: bytes


def _same(was: Any, now: Any) -> bool:
    """Whether a constant is what it was: a scalar by type and value, an array by what it holds."""
    if type(was) is Contents:
        if type(now) is not np.ndarray or now.dtype is not was.dtype or now.shape != was.shape:
            return False
        held: bytes = now.tobytes()
        return held == was.values
    return type(now) is type(was) and bool(now == was)


def find(kept: dict[Any, Any], x_dtype: np.dtype[Any], constants: tuple[Any, ...], attributes: tuple[Any, ...]) -> Any:
    """Return what was made for the latest call where this one brings the same, else None."""
    found: Latest | None = kept.get(KEY)
    # A convolution that quantises has more constants than one that does not.
    if found is None or found.x_dtype is not x_dtype or len(found.constants) != len(constants):
        return None
    for was, now in zip(found.constants, constants, strict=True):
        # No array is among those that were.
        if now is not was and not _same(was, now):
            return None
    try:
        return found.made if found.attributes == attributes else None
    except ValueError:  # an attribute that is an array
        return None


def keep(
    kept: dict[Any, Any], x_dtype: np.dtype[Any], constants: tuple[Any, ...], attributes: tuple[Any, ...], made: Any
) -> None:
    """Keep what was made for a call as that of the latest, where what the call brought can be told apart."""
    kinds = set(map(type, constants)) - {np.ndarray}
    if kinds <= known.SCALARS and PLAIN.issuperset(map(type, attributes)):
        # Their owner may change lists.
        own = tuple(list(a) if isinstance(a, list) else a for a in attributes)
        same = tuple(Contents(c.dtype, c.shape, c.tobytes()) if type(c) is np.ndarray else c for c in constants)
        kept[KEY] = Latest(x_dtype, same, own, made)
