"""The convolution of the latest call with some packed weights, which is most often that of the next."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from pyint8dot import known

if TYPE_CHECKING:
    import numpy as np

#: What it is kept by, and what attributes may be, so that they are compared by value.
KEY, PLAIN = "latest", {type(None), int, str, list, tuple}


class Latest(NamedTuple):
    """What the latest call brought, and what was made of it."""

    x_dtype: np.dtype[Any]
    kinds: tuple[type, ...]
    constants: tuple[Any, ...]
    attributes: tuple[Any, ...]
    made: Any


def _comparable(constants: tuple[Any, ...], kinds: tuple[type, ...]) -> tuple[Any, ...] | None:
    """Numbers as they are; of arrays what they hold, since their owner may change them. None where neither is told apart."""
    return constants if known.SCALARS.issuperset(kinds) else known.key(constants)


def find(kept: dict[Any, Any], x_dtype: np.dtype[Any], constants: tuple[Any, ...], attributes: tuple[Any, ...]) -> Any:
    """Return what was made for the latest call where this one brings the same, else None."""
    found: Latest | None = kept.get(KEY)
    kinds = tuple(map(type, constants))
    if found is not None and found.x_dtype is x_dtype and found.kinds == kinds:
        with contextlib.suppress(ValueError):  # an attribute that is an array
            if found.attributes == attributes and found.constants == _comparable(constants, kinds):
                return found.made
    return None


def keep(
    kept: dict[Any, Any], x_dtype: np.dtype[Any], constants: tuple[Any, ...], attributes: tuple[Any, ...], made: Any
) -> None:
    """Keep what was made for a call as that of the latest, where what the call brought can be told apart."""
    kinds = tuple(map(type, constants))
    same = _comparable(constants, kinds)
    if same is not None and PLAIN.issuperset(map(type, attributes)):
        # Their owner may change lists.
        own = tuple(list(a) if isinstance(a, list) else a for a in attributes)
        kept[KEY] = Latest(x_dtype, kinds, same, own, made)
