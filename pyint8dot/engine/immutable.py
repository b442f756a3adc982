"""Objects that native code points into: nothing a user can set may move a pointer."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Immutable", "frozen"]

Kind = TypeVar("Kind", bound=np.generic)


def frozen(array: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """`array`, whose memory nobody else has, read-only from now on, as a view that cannot be made writeable either."""
    owner: npt.NDArray[Kind] = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    for each in (owner, array):
        each.setflags(write=False)
    view: npt.NDArray[Kind] = array.view()
    return view


class Immutable:
    """An object whose attributes are set once, while it is made."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Refuse subclasses of what is made here: native code goes by their shape, which a subclass could say otherwise."""
        for base in cls.__bases__:
            if base is not Immutable and issubclass(base, Immutable):
                raise TypeError(f"{base.__name__} cannot be subclassed")

    def _fill(self, **fields: Any) -> None:
        """Set attributes that are not set yet."""
        if any(hasattr(self, name) for name in fields):
            raise AttributeError(f"a {type(self).__name__} is immutable: it cannot be initialised again")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} is immutable: cannot delete {name!r}")
