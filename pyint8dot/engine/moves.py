"""Native copies of arrays to where they lie otherwise, for what runs while a tape is written: numpy's copies are as fast, but on no tape."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import library, tape
from pyint8dot.engine.blocks import Written
from pyint8dot.engine.program import LEFT, RESULT, Program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["contiguous", "joined", "reshaped"]

#: Programs that are kept, and the most records of one.
MOST_PROGRAMS, MOST_COPIES = 256, 64

#: Bytes that lie together, below which numpy's loop over single values is shorter than a row's.
LEAST_ROW = 16

# So many bytes, or other dimensions, and how far apart they are in both arrays.
_Dimension = tuple[int, int, int]


def contiguous(x: NDArray[Any]) -> NDArray[Any]:
    """Return the array, where it is not C-contiguous a copy that is, which a tape has."""
    if x.flags.c_contiguous:
        return x
    written = _written(x.dtype, x.shape, x.strides, None) if tape.TAPES else None
    if written is None:
        return np.ascontiguousarray(x)
    y = np.empty(x.shape, x.dtype)
    written.run(x, y)
    return y


def reshaped(x: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return the array in another shape; where that takes a copy a tape has it."""
    y = x.reshape(shape)
    return contiguous(x).reshape(shape) if tape.TAPES and not np.may_share_memory(x, y) else y


def joined(parts: Sequence[NDArray[Any]], axis: int) -> NDArray[Any] | None:
    """Join arrays along an axis as `numpy.concatenate` does, on a tape; None where that is not native."""
    first = parts[0]
    if any(part.dtype != first.dtype or part.ndim != first.ndim or part.size == 0 for part in parts):
        return None
    at = axis % first.ndim
    shape = list(first.shape)
    shape[at] = sum(part.shape[at] for part in parts)
    if any(part.shape[:at] != first.shape[:at] or part.shape[at + 1 :] != first.shape[at + 1 :] for part in parts):
        return None
    y = np.empty(shape, first.dtype)
    ready = [_written(y.dtype, part.shape, part.strides, y.strides) for part in parts]
    ends = list(itertools.accumulate(part.shape[at] for part in parts))
    for part, written, end in zip(parts, ready, ends, strict=True):
        if written is None:
            return None
        written.run(part, y[(slice(None),) * at + (slice(end - part.shape[at], end),)])
    return y


@functools.lru_cache(MOST_PROGRAMS)
def _written(
    dtype: np.dtype[Any], shape: tuple[int, ...], source: tuple[int, ...], target: tuple[int, ...] | None
) -> Written | None:
    """The program that copies an array with these strides to one with those, or to a C-contiguous one; None where numpy has to."""
    # Objects are more than their bytes.
    if library.status() is not None or 0 in shape or dtype.hasobject:
        return None
    if target is None:
        target = np.empty(shape, dtype).strides
    *outer, row = _merged([*zip(shape, source, target, strict=True), (dtype.itemsize, 1, 1)])
    if row[2] != 1 or (row[0] < LEAST_ROW and row[1] == 1) or min(source, default=1) < 0:
        return None
    *rest, planes, rows = [(1, 0, 0), (1, 0, 0), *outer]
    places = list(itertools.product(*(range(size) for size, _, _ in rest)))
    if len(places) > MOST_COPIES:
        return None
    program = Program()
    for place in places:
        program.copy_planes(
            x=LEFT.plus(sum(i * step for i, (_, step, _) in zip(place, rest, strict=True))),
            y=RESULT.plus(sum(i * step for i, (_, _, step) in zip(place, rest, strict=True))),
            planes=planes[0], rows=rows[0], n=row[0], plane_x=planes[1], plane_y=planes[2], row_x=rows[1], row_y=rows[2],
            step=row[1], flip=0,
        )  # fmt: skip
    return Written(program, 0)


def _merged(dimensions: list[_Dimension]) -> list[_Dimension]:
    """Join dimensions that are one in both arrays, and leave out those of one; the last one is left in any case."""
    found = [dimensions[-1]]
    for size, source, target in reversed(dimensions[:-1]):
        inner, near, far = found[0]
        if size == 1:
            continue
        if inner == 1:
            found[0] = size, source, target
        elif (source, target) == (inner * near, inner * far):
            found[0] = size * inner, near, far
        else:
            found.insert(0, (size, source, target))
    return found
