"""What the fused ops must compute, in Python's own integers and fractions: no shift, no mask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyint8dot.fuse import RoundingPolicy

if TYPE_CHECKING:
    from fractions import Fraction

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def wrap(value: int, bits: int = 32) -> int:
    """Bring an integer into the range of a signed one of `bits` bits, modulo 2**bits."""
    half = 2 ** (bits - 1)
    return (value + half) % 2**bits - half


def rounded(value: Fraction, policy: RoundingPolicy) -> int:
    """Round to the nearest integer; `policy` decides between two equally near."""
    below, above = math.floor(value), math.ceil(value)
    if value - below != above - value:
        return below if value - below < above - value else above
    towards_zero, away = (below, above) if value > 0 else (above, below)
    even, odd = (below, above) if below % 2 == 0 else (above, below)
    return {
        RoundingPolicy.Zero: towards_zero,
        RoundingPolicy.Away: away,
        RoundingPolicy.MinusInf: below,
        RoundingPolicy.PlusInf: above,
        RoundingPolicy.Even: even,
        RoundingPolicy.Odd: odd,
    }[policy]


def scaled(x: int, scale: Fraction, policy: RoundingPolicy) -> int:
    """What scaling an int32 gives: rounded, kept to 32 bits."""
    return wrap(rounded(x * scale, policy))


def counted(m: int, n: int, start: int = 0) -> npt.NDArray[np.int32]:
    """An int32 matrix of consecutive numbers."""
    return np.arange(start, start + m * n, dtype=np.int32).reshape(m, n)
