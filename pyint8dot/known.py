"""Parameters that come again: a plan made of them serves for as long as they are the same. Private to the package."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pyint8dot.engine.plan import Plan

__all__ = ["SCALARS", "Known", "key"]

# Named here, since the commonest calls are mostly look-ups.
_array = np.ndarray

# Types of parameters that cannot change, and how `struct` packs each: numbers are compared by value and type.
_FLOATS = frozenset((float, np.float16, np.float32, np.float64))
_INTEGERS = frozenset((int, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64))
SCALARS = _FLOATS | _INTEGERS | {type(None)}

#: Calls with the same parameters that a plan serves which takes the scales from outside: it is made once for all of them.
OFTEN = 3

#: The place of the scale of the right operand among the parameters.
B_SCALE = 2


def key(parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What a dictionary knows the parameters of a call by, with the same notion of the same as `Known`.

    None where a parameter is of a type that is not told apart here.
    """
    found: list[Any] = []
    for p in parameters:
        kind = type(p)
        if kind is _array:
            found += kind, p.dtype, p.shape, p.tobytes()
        elif kind in SCALARS:
            found += kind, p
        else:
            return None
    return tuple(found)


class Known:
    """The parameters of a call and the plan that was made of them, for as long as calls bring the same.

    Scalars are the same by type and value, arrays, which may change between two calls, by type, shape and contents.
    """

    __slots__ = (
        "_arrays", "_contents", "_kind", "_kinds", "_others", "_pack", "_packed", "_singles", "_times", "checked", "dtype",
        "parameters", "plan", "scale",
    )  # fmt: skip

    def __init__(
        self, parameters: tuple[Any, ...], dtype: np.dtype[Any], plan: Plan, scale: Any = None, checked: Any = None
    ) -> None:
        self.dtype, self.plan = dtype, plan
        #: The scales that go along with each call of the plan, until parameters have come often; and what checked parameters were.
        self.scale, self.checked, self._times = scale, checked, 1
        self._kinds = tuple(map(type, parameters))
        arrays = [(i, p) for i, p in enumerate(parameters) if type(p) is _array]
        #: The scalars themselves, to be known by identity; an array is never the same for being the same object.
        self.parameters: list[Any] = [object() if type(p) is _array else p for p in parameters]
        self._arrays = [(i, p.dtype, p.shape, p.tobytes()) for i, p in arrays]
        #: Type and contents of b_scale where it is the only array, a vector: what weights quantised per column have.
        self._kind, self._contents = None, b""
        if [i for i, _ in arrays] == [B_SCALE] and parameters[B_SCALE].ndim == 1:
            self._kind, self._contents = parameters[B_SCALE].dtype, parameters[B_SCALE].tobytes()
        # Where there are 0-d arrays, and nothing but them and scalars, their values are packed into one string.
        self._singles: list[tuple[int, np.dtype[Any]]] = []
        if arrays and not any(p is None or (type(p) is _array and p.ndim) for p in parameters):
            self._singles = [(i, p.dtype) for i, p in arrays]
            self._others = [(i, type(p)) for i, p in enumerate(parameters) if type(p) is not _array]
            kinds = "".join("d" if np.asarray(p).dtype.kind == "f" else "q" for p in parameters)
            self._pack = struct.Struct(kinds).pack
            self._packed = self._pack(*parameters)

    @classmethod
    def of(
        cls, parameters: tuple[Any, ...], dtype: np.dtype[Any], plan: Plan, scale: Any = None, checked: Any = None
    ) -> Known | None:
        """What is known of a call, or None where a parameter is of a type that is not told apart here."""
        kinds = set(map(type, parameters))
        return (
            cls(parameters, dtype, plan, scale, checked)
            if kinds <= _FLOATS | _INTEGERS | {_array, type(None)}
            else None
        )

    def often(self) -> bool:
        """Count a call with these parameters, and tell whether there were so many that they are worth a plan of their own."""
        self._times += 1
        return self._times > OFTEN

    def settle(self, plan: Plan) -> None:
        """Take a plan that has the parameters in it, so that nothing goes along with its calls."""
        self.plan, self.scale = plan, None

    def same_vector(self, b_scale: Any) -> bool:
        """Whether `b_scale` is the vector it was, where all other parameters are the scalars they were."""
        if type(b_scale) is not _array or b_scale.dtype is not self._kind or b_scale.ndim != 1:
            return False
        contents: bytes = b_scale.tobytes()
        return contents == self._contents

    def same(self, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any) -> bool:
        """Whether another call has the same parameters."""
        if self._singles:
            return self._same_numbers(p0, p1, p2, p3, p4, p5)
        k0, k1, k2, k3, k4, k5 = self._kinds
        q0, q1, q2, q3, q4, q5 = self.parameters
        # Scalars by value and type; of arrays only the type, until their contents are looked at below.
        if p0 is not q0 and (type(p0) is not k0 or (k0 is not _array and p0 != q0)):
            return False
        if p1 is not q1 and (type(p1) is not k1 or (k1 is not _array and p1 != q1)):
            return False
        if p2 is not q2 and (type(p2) is not k2 or (k2 is not _array and p2 != q2)):
            return False
        if p3 is not q3 and (type(p3) is not k3 or (k3 is not _array and p3 != q3)):
            return False
        if p4 is not q4 and (type(p4) is not k4 or (k4 is not _array and p4 != q4)):
            return False
        if p5 is not q5 and (type(p5) is not k5 or (k5 is not _array and p5 != q5)):
            return False
        arrays = self._arrays
        if not arrays:
            return True
        now = (p0, p1, p2, p3, p4, p5)
        for i, dtype, shape, contents in arrays:
            p = now[i]
            # The shape of a vector follows from its contents.
            alike = p.ndim == 1 if len(shape) == 1 else p.shape == shape
            if p.dtype is not dtype or not alike or p.tobytes() != contents:
                return False
        return True

    def _same_numbers(self, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any) -> bool:
        """Do what `same` does where every parameter is one number, in an array or not."""
        now = (p0, p1, p2, p3, p4, p5)
        for i, dtype in self._singles:
            # A number of the same type that is no array will do as well.
            if getattr(now[i], "dtype", None) is not dtype:
                return False
        for i, kind in self._others:
            if type(now[i]) is not kind:
                return False
        try:
            packed: bytes = self._pack(p0, p1, p2, p3, p4, p5)
        except (TypeError, ValueError, DeprecationWarning, struct.error):
            return False  # an array of more than one value now, or an integer beyond 64 bits
        return packed == self._packed
