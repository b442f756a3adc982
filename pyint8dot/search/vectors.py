"""Vectors as they are given, checked and made int8: codes, and the factor that a score takes from each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from pyint8dot.arguments import plain
from pyint8dot.arguments import scales as float_scales
from pyint8dot.engine import elementwise
from pyint8dot.engine.kernels import EXACT_K
from pyint8dot.quantize import quantize_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Coded", "Keep", "Metric", "coded", "reciprocal_norms"]

Array: TypeAlias = npt.NDArray[Any]
Codes: TypeAlias = npt.NDArray[np.int8]
Float32: TypeAlias = npt.NDArray[np.float32]

Metric: TypeAlias = Literal["cosine", "ip"]
Keep: TypeAlias = Literal["float32", "int8"]
METRICS: tuple[str, ...] = get_args(Metric)
KEEPS: tuple[str, ...] = get_args(Keep)

#: Scores of values up to here are finite in float32, whatever their dimension.
MOST = np.float32(2**50)

#: The step of vectors that reach half as far: those with a smaller one need no second look.
MOST_STEP = MOST / np.float32(254)

#: The second digit has this base: what is left of a value after the first is at most half a step, 127 of its steps.
BASE = 254

#: Rows that are looked at together, so that copies in wider types stay small.
ROWS = 4096


class Coded(NamedTuple):
    """Vectors as int8."""

    #: Shape (n, dim), C order.
    codes: Codes
    #: One a vector, float32: the step of its codes, or for a cosine 1 / the length of its codes.
    factors: Float32
    #: The values they were made of, where they were float32.
    values: Float32 | None

    def rows(self, start: int, end: int) -> Coded:
        """Some of them."""
        if start == 0 and end >= len(self.codes):
            return self
        at = slice(start, end)
        return Coded(self.codes[at], self.factors[at], None if self.values is None else self.values[at])


def coded(
    name: str, vectors: npt.ArrayLike, dim: int | None, metric: str, scales: npt.ArrayLike | None = None
) -> Coded:
    """Check vectors and make them int8.

    Raises
    ------
    TypeError
        They are neither floats nor int8.
    ValueError
        They are not finite or too large, or have another dimension than `dim`.
    """
    array: Array = plain(name, vectors)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (n, dim) or (dim,), got {array.shape}")
    if dim is not None and array.shape[1] != dim:
        raise ValueError(f"{name} must have {dim} dimensions, got {array.shape[1]}")
    if not 1 <= array.shape[1] <= EXACT_K:
        raise ValueError(f"{name} must have from 1 to {EXACT_K} dimensions, got {array.shape[1]}")
    if array.dtype == np.int8:
        codes, values = np.ascontiguousarray(array), None
        given = np.ones(len(codes), np.float32) if scales is None else _scales(scales, len(codes))
    elif array.dtype.kind == "f":
        if scales is not None:
            raise ValueError(f"scales belong to int8 vectors, and {name} are {array.dtype}")
        values = _float32(array)
        quantised = elementwise.quantize_rows(values)
        if quantised is None:
            quantised = quantize_rows(_finite(name, values))
        elif metric == "ip" and quantised[1].max(initial=0) > MOST_STEP:
            _finite(name, values)
        codes, given = quantised
    else:
        raise TypeError(f"{name} must be floats or int8, got {array.dtype}")
    return Coded(codes, reciprocal_norms(codes) if metric == "cosine" else given, values)


def _float32(array: Array) -> Float32:
    if array.dtype == np.float32:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float32)


def _finite(name: str, values: Float32) -> Float32:
    """The values if all are finite and none is too large."""
    for at in pieces(len(values)):
        # A NaN is not below the limit either.
        small = np.abs(values[at]) <= MOST
        if not small.all():
            row, column = np.argwhere(~small)[0].tolist()
            bad = values[at][row, column]
            wanted = "at most 2**50 in magnitude" if np.isfinite(bad) else "finite"
            raise ValueError(f"{name} must be {wanted}, got {bad} in row {at.start + row}")
    return values


def _scales(scales: npt.ArrayLike, n: int) -> Float32:
    given: Float32 = float_scales("scales", scales)
    if given.shape not in ((), (n,)):
        raise ValueError(f"scales must be a scalar or have shape {(n,)}, got {given.shape}")
    if not ((given >= 0) & (given <= MOST)).all():
        raise ValueError("scales must be from 0 to 2**50")
    # Adding 0 leaves no negative zero.
    result: Float32 = np.broadcast_to(given, (n,)) + np.float32(0)
    return result


def reciprocal_norms(codes: Codes) -> Float32:
    """1 / the length of each row of integers, in float64 and rounded to float32; 1 for a row of zeros, whose products are 0."""
    if len(codes) > ROWS:
        return np.concatenate([reciprocal_norms(codes[at]) for at in pieces(len(codes))])
    if len(codes) == 1:
        # A single query: arrays of one value cost ten times what Python's numbers do, which are rounded as they are.
        row = codes[0].astype(np.float64)
        return np.array([1 / math.sqrt(max(row @ row, 1.0))], np.float32)
    wide = codes.astype(np.int32)
    squares = np.einsum("ij,ij->i", wide, wide)
    result: Float32 = (1 / np.sqrt(np.maximum(squares, 1))).astype(np.float32)
    return result


def second_digits(values: Float32, coded: Codes) -> Codes:
    """What `quantize_rows` left of each value, in steps `BASE` times finer than those of its codes."""
    result = np.empty(coded.shape, np.int8)
    for at in pieces(len(values)):
        absmax = np.abs(values[at]).max(axis=1, initial=0).astype(np.float64)
        per_step = 127 / np.where(absmax > 0, absmax, 1)
        rest = values[at].astype(np.float64) * per_step[:, None] - coded[at]
        result[at] = np.clip(np.rint(rest * BASE), -127, 127)
    # A row too small to have codes has no second digits either.
    result[~coded.any(axis=1)] = 0
    return result


def pieces(n: int, size: int = ROWS) -> Iterator[slice]:
    """Slices that cover `n` rows."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
