"""The fused ops that scale, rounding ties by a named policy.

`Scaler` turns a float32 scale into a multiplier and a shift; QScale, RoundingShiftRight and
ShiftLeft apply them. The arithmetic, in `scale`, is exact: 64-bit integers and no floats.
"""

from __future__ import annotations

import enum
import math
import numbers
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyint8dot.fuse.operands import INT32, FusedOp, Int32Array, Slices, integer

# Far beyond what a float32 scale can ask for, and small enough for any native shift.
_MAX_SHIFT = 255

# Past 62 places even the largest product of two int32 values rounds to zero.
_LAST_SHIFT = 62

# Elements of a step of `scale`.
_CHUNK = 16384

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


class RoundingPolicy(enum.Enum):
    """Where a value exactly half way between two integers goes.

    Everything else goes to the nearest integer. The numbers are tract's.
    """

    Zero = 1
    Away = 2
    MinusInf = 3
    PlusInf = 4
    Even = 5
    Odd = 6


@dataclass(frozen=True, repr=False)
class Scaler(FusedOp):
    """A scale as the integers that apply it; it may stand in a list of fused ops.

    A power of two becomes a plain shift. Every other scale becomes a multiplier in
    [2**30, 2**31) and a shift with ``scale == multiplier * 2**-(31 + shift)``, exactly.

    Parameters
    ----------
    scale : float
        The factor, rounded to float32 first. Not negative. Zero is the identity, as in
        tract: it stands for "no scale".
    policy : RoundingPolicy
        How ties are broken.

    Attributes
    ----------
    multiplier : int or None
        Q0.31 factor; None for a plain shift.
    shift : int
        Places to the right; negative means to the left.

    Raises
    ------
    ValueError
        If `scale` is negative, not finite, or not zero but zero in float32.
    TypeError
        If `scale` is not a real number or `policy` not a RoundingPolicy.

    Notes
    -----
    tract drops the sign of the scale, so that -0.5 acts as 0.5; here it is an error.

    Examples
    --------
    >>> Scaler(0.25, RoundingPolicy.Even).shift
    2
    >>> s = Scaler(0.2, RoundingPolicy.Even)
    >>> s.multiplier, s.shift
    (1717986944, 2)
    """

    scale: float
    policy: RoundingPolicy
    multiplier: int | None = field(init=False)
    shift: int = field(init=False)

    def __post_init__(self) -> None:
        _check_policy(self.policy)
        given: Any = self.scale
        if isinstance(given, (bool, np.bool_)) or not isinstance(given, numbers.Real):
            raise TypeError(f"scale must be a real number, got {type(given).__name__}")
        with np.errstate(over="ignore", under="ignore"):
            value = float(np.float32(float(given)))
        if not math.isfinite(value):
            raise ValueError(f"scale must be finite in float32, got {self.scale}")
        if value < 0 or self.scale < 0:
            raise ValueError(f"scale must not be negative, got {self.scale}")
        if value == 0 and self.scale != 0:
            raise ValueError(f"scale {self.scale} is too small for float32")
        mantissa, exponent = math.frexp(value)
        multiplier: int | None = int(mantissa * 2**31)
        shift = -exponent
        if value == 0:
            multiplier, shift = None, 0
        elif mantissa == 0.5:
            multiplier, shift = None, shift + 1
        object.__setattr__(self, "scale", value)
        object.__setattr__(self, "multiplier", multiplier)
        object.__setattr__(self, "shift", shift)

    def as_op(self) -> FusedOp:
        """Return the op this stands for: QScale, RoundingShiftRight or ShiftLeft."""
        if self.multiplier is not None:
            return QScale(self.shift, self.policy, self.multiplier)
        if self.shift > 0:
            return RoundingShiftRight(self.shift, self.policy)
        return ShiftLeft(-self.shift)

    def run(self, acc: Int32Array, at: Slices) -> None:
        """Scale the block."""
        self.as_op().run(acc, at)


@dataclass(frozen=True, repr=False)
class QScale(FusedOp):
    """``round(x * multiplier * 2**-(31 + shift))`` in 64 bits, kept to the low 32.

    Parameters
    ----------
    shift : int
        From -255 to 255. Where ``31 + shift`` is not positive nothing is rounded: the
        product is shifted to the left, without saturation, as tract does.
    policy : RoundingPolicy
        How ties are broken.
    multiplier : int
        Q0.31, from 0 to 2**31 - 1; `Scaler` makes it at least 2**30.

    Examples
    --------
    >>> from pyint8dot.fuse import apply
    >>> scaler = Scaler(0.3, RoundingPolicy.Even)
    >>> op = QScale(scaler.shift, scaler.policy, scaler.multiplier)
    >>> apply(np.array([[10, -11]], np.int32), [op])
    array([[ 3, -3]], dtype=int32)
    """

    shift: int
    policy: RoundingPolicy
    multiplier: int

    def __post_init__(self) -> None:
        _check_policy(self.policy)
        object.__setattr__(self, "shift", integer("shift", self.shift, -_MAX_SHIFT, _MAX_SHIFT))
        object.__setattr__(self, "multiplier", integer("multiplier", self.multiplier, 0, INT32.max))

    def run(self, acc: Int32Array, _at: Slices) -> None:
        """Scale the block."""
        scale(acc, self.multiplier, 31 + self.shift, self.policy)


@dataclass(frozen=True, repr=False)
class RoundingShiftRight(FusedOp):
    """``round(x / 2**shift)``, ties broken by `policy`; `shift` from 0 to 255.

    Examples
    --------
    >>> from pyint8dot.fuse import apply
    >>> apply(np.array([[-3, 3]], np.int32), [RoundingShiftRight(1, RoundingPolicy.PlusInf)])
    array([[-1,  2]], dtype=int32)
    """

    shift: int
    policy: RoundingPolicy

    def __post_init__(self) -> None:
        _check_policy(self.policy)
        object.__setattr__(self, "shift", integer("shift", self.shift, 0, _MAX_SHIFT))

    def run(self, acc: Int32Array, _at: Slices) -> None:
        """Shift the block."""
        scale(acc, None, self.shift, self.policy)


@dataclass(frozen=True, repr=False)
class ShiftLeft(FusedOp):
    """``x << shift`` without saturation; `shift` from 0 to 255, zero from 32 on.

    Examples
    --------
    >>> from pyint8dot.fuse import apply
    >>> apply(np.array([[-3, 3]], np.int32), [ShiftLeft(2)])
    array([[-12,  12]], dtype=int32)
    """

    shift: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "shift", integer("shift", self.shift, 0, _MAX_SHIFT))

    def run(self, acc: Int32Array, _at: Slices) -> None:
        """Shift the block."""
        np.left_shift(acc, np.int32(self.shift), out=acc)


def scale(acc: Int32Array, multiplier: int | None, shift: int, policy: RoundingPolicy) -> None:
    """Replace `acc` by ``round(acc * multiplier * 2**-shift)``, kept to its low 32 bits.

    Parameters
    ----------
    acc : int32 array
        Changed in place.
    multiplier : int or None
        Between 0 and 2**31 - 1; None stands for 1.
    shift : int
        Places to the right. Zero and negative shift to the left and round nothing; bits
        that leave on the left are lost, nothing saturates.
    policy : RoundingPolicy
        How ties are broken.

    Examples
    --------
    >>> acc = np.array([-3, -1, 1, 3], np.int32)
    >>> scale(acc, None, 1, RoundingPolicy.Even)
    >>> acc.tolist()
    [-2, 0, 0, 2]
    """
    if shift > _LAST_SHIFT:
        acc[...] = 0
        return
    # A few rows at a time: what is in between then stays in the cache.
    step = max(1, _CHUNK * len(acc) // max(1, acc.size))
    for start in range(0, len(acc), step):
        _scale_rows(acc[start : start + step], multiplier, shift, policy)


def _scale_rows(acc: Int32Array, multiplier: int | None, shift: int, policy: RoundingPolicy) -> None:
    """Do what `scale` does, for a right shift of at most 62 places."""
    factor = np.int64(1 if multiplier is None else multiplier)
    value = np.multiply(acc, factor, dtype=np.int64)
    if shift <= 0:
        # Only the low half is kept, so 32 places clear it as well as any greater number.
        value <<= min(-shift, 32)
        acc[...] = value
        return
    _add_nudge(value, shift, policy)
    np.right_shift(value, np.int64(shift), out=acc, casting="unsafe")


def _add_nudge(value: Int64Array, shift: int, policy: RoundingPolicy) -> None:
    """Add what makes the floor of ``value >> shift`` the rounded quotient.

    Half a unit sends a tie upwards, half a unit less one downwards; the policies differ
    only in which values get which. |value| <= 2**62 and shift <= 62 leave room for it.
    """
    half = 1 << (shift - 1)
    if policy is RoundingPolicy.PlusInf:
        value += half
    elif policy is RoundingPolicy.MinusInf:
        value += half - 1
    elif policy is RoundingPolicy.Away:
        negative = value >> 63  # -1 for a negative value, else 0
        value += negative
        value += half
    elif policy is RoundingPolicy.Zero:
        negative = value >> 63
        value -= negative
        value += half - 1
    else:
        odd = value >> shift  # the floor, whose neighbour above has the other parity
        odd &= 1
        if policy is RoundingPolicy.Even:
            value += odd
            value += half - 1
        else:
            value -= odd
            value += half


def _check_policy(policy: object) -> None:
    """Raise TypeError unless `policy` is a RoundingPolicy."""
    if not isinstance(policy, RoundingPolicy):
        raise TypeError(f"policy must be a RoundingPolicy, got {type(policy).__name__}")
