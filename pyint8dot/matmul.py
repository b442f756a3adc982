"""matmul(): the exact product of two arrays. How every product goes: check, choose, plan, call."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot import shapes
from pyint8dot.arguments import check_out
from pyint8dot.engine import settings, threads
from pyint8dot.engine.blocks import LEAST_WORK, cut
from pyint8dot.engine.loose import loose_plan
from pyint8dot.engine.operand import choice, multiply, multiply_new
from pyint8dot.engine.packing import PackedMatrix
from pyint8dot.engine.plan import overlaps

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.plan import Epilogue
    from pyint8dot.shapes import Operands

__all__ = ["matmul"]

INT8, UINT8, INT32 = np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int32)

# Named here, since the commonest call is mostly look-ups.
_array, _current, _NOTHING = np.ndarray, settings.current, settings.NOTHING


def matmul(
    a: ArrayLike,
    b: ArrayLike | PackedMatrix,
    *,
    out: NDArray[np.int32] | None = None,
    kernel: str | None = None,
    num_threads: int | None = None,
) -> NDArray[np.int32]:
    """Multiply int8 or uint8 matrices exactly, with an int32 result.

    Shapes follow `numpy.matmul`: one-dimensional operands lose their dimension in the result, leading dimensions are
    stacks of matrices and are broadcast.

    Parameters
    ----------
    a : array_like of int8 or uint8, shape (..., m, k) or (k,)
        Any strides.
    b : array_like of int8 or uint8, shape (..., k, n) or (k,), or PackedMatrix of shape (k, n)
        A matrix used more than once is best packed once, by `pack`.
    out : ndarray of int32, optional
        Where to write; of exactly the shape of the result, any strides. It may overlap the operands.
    kernel : str, optional
        Name of the kernel to run; by default the best this machine has (`kernel_info` tells which).
    num_threads : int, optional
        How many threads to use; by default `get_num_threads`. The result does not depend on it.

    Returns
    -------
    ndarray of int32
        `out`, or a new array. Sums are exact while they fit int32, which they do for every input up to k = 131071
        (int8 by int8), 65793 (uint8 by int8) or 33025 (uint8 by uint8); beyond that they wrap modulo 2**32, as numpy's.

    Raises
    ------
    TypeError
        If an operand is not int8 or uint8 (nothing is cast silently), or `out` is not an int32 array.
    ValueError
        If shapes do not fit, `out` has another shape or is read-only, or the kernel is unknown or cannot run here
        (`KernelError`).

    Examples
    --------
    >>> a = np.array([[-128, -128], [1, 2]], np.int8)
    >>> matmul(a, a.T)
    array([[32768,  -384],
           [ -384,     5]], dtype=int32)
    """
    if type(b) is PackedMatrix and type(a) is _array:
        # A packed matrix has its plans ready, and serves every operand that is not out of the ordinary.
        set_ = _current()
        if kernel is None and num_threads is None and set_ is _NOTHING:
            right, count = b.here or b.on_default(), settings.default_threads
        else:
            chosen, count = choice(kernel, num_threads)
            right = b.on(chosen)
        dtype = a.dtype
        plan = right.int8 if dtype is INT8 else right.uint8 if dtype is UINT8 else None
        if plan is not None and set_.tally is None:
            c = plan.offer(a, out, count)
            if c is not None:
                return c
    chosen, count = choice(kernel, num_threads)
    if type(a) is _array and type(b) is _array and out is None:
        c = multiply_new(chosen, a, b, count)
        if c is not None:
            return c
    both = shapes.operands(shapes.array("a", a), shapes.right("b", b))
    return product(chosen, both, out, count)


def product(
    kernel: Kernel, both: Operands, out: NDArray[np.int32] | None, count: int, a_zero: int = 0, b_zero: int = 0
) -> NDArray[np.int32]:
    """Compute the int32 product of checked operands, less a zero point each, to `out` or a new array.

    Parameters
    ----------
    kernel : Kernel
    both : Operands
        See `pyint8dot.shapes.operands`.
    out : ndarray of int32, optional
        Where to write; checked here. It may overlap the operands.
    count : int
        How many threads to use.
    a_zero, b_zero : int
        Zero points, of the operands' own types.

    Returns
    -------
    ndarray of int32
        `out`, or a new array, a scalar for two vectors.
    """
    a, b, full = both.a, both.b, both.full
    result = None if out is None else check_out(out, both.shape, INT32)
    # A result that overlaps an operand is made beside it and copied; so is one of another number of dimensions.
    direct = result is not None and both.shape == full and not overlaps(result, a, b)
    c = result if result is not None and direct else np.empty(full, INT32)
    right = b.on(kernel) if isinstance(b, PackedMatrix) else b
    if not both.batch and (len(full) == 2 or c.flags.c_contiguous):
        # One right operand for the whole stack: it is one tall matrix.
        if len(full) == 2:
            multiply(kernel, a, right, c, count, a_zero, b_zero)
        else:
            m = math.prod(full[:-1])
            multiply(kernel, a.reshape(m, a.shape[-1]), right, c.reshape(m, full[-1]), count, a_zero, b_zero)
    elif isinstance(b, np.ndarray):
        stacks(kernel, both, c, count, a_zero, b_zero)
    else:
        left = np.broadcast_to(a, full[:-2] + a.shape[-2:])
        for index in np.ndindex(full[:-2]):
            multiply(kernel, left[index], right, c[index], count, a_zero, b_zero)
    if out is None or result is None:
        # As numpy's, the product of two vectors is a scalar.
        made: NDArray[np.int32] = (
            c if both.shape == full else c.reshape(both.shape) if both.shape else c.reshape(())[()]
        )
        return made
    if not direct:
        result[...] = c.reshape(both.shape)
    return out


def stacks(
    kernel: Kernel, both: Operands, y: NDArray[Any], count: int, a_zero: int = 0, b_zero: int = 0,
    epilogue: Epilogue | None = None, scale: NDArray[np.float32] | None = None,
) -> bool:  # fmt: skip
    """Multiply two arrays, stacks of matrices or single ones, pair by pair, to `y`.

    With an epilogue, and the scale that is handed over to it, there may be no way to do that, which is told by False.
    """
    a, b, lead = both.a, both.b, both.full[:-2]
    assert isinstance(b, np.ndarray)  # noqa: S101 - a packed matrix is no stack
    left = a if a.shape[:-2] == lead else np.broadcast_to(a, lead + a.shape[-2:])
    right = b if b.shape[:-2] == lead else np.broadcast_to(b, lead + b.shape[-2:])
    if not lead:
        left, right, y = left[None], right[None], y[None]
    while y.ndim > 3 and len(y) == 1:
        left, right, y = left[0], right[0], y[0]
    zeros = a_zero, b_zero
    # Threads have whole pairs each, unless there are too few and each can be shared. Whoever counts products is told of its own thread's.
    if count > 1 and (epilogue is not None or len(y) >= count) and settings.current().tally is None:
        done: list[bool] = []

        def work(start: int, end: int) -> None:
            part = slice(start, end)
            done.append(_stacks(kernel, left[part], right[part], y[part], 1, zeros, epilogue, scale))

        count = max(1, min(count, y.size * a.shape[-1] // LEAST_WORK))
        threads.run([functools.partial(work, *part) for part in cut(len(y), count, 1)])
        return all(done)
    return _stacks(kernel, left, right, y, count, zeros, epilogue, scale)


def _stacks(
    kernel: Kernel, a: NDArray[Any], b: NDArray[Any], y: NDArray[Any], count: int, zeros: tuple[int, int],
    epilogue: Epilogue | None, scale: NDArray[np.float32] | None,
) -> bool:  # fmt: skip
    """Multiply stacks of matrices of the same leading dimensions, at least one, one pair after the other."""
    if a.ndim > 3:
        if all(x.strides[0] == x.shape[1] * x.strides[1] for x in (a, b, y)):
            # Two dimensions that are one in memory.
            a, b, y = (x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]) for x in (a, b, y))
            return _stacks(kernel, a, b, y, count, zeros, epilogue, scale)
        return all(_stacks(kernel, *each, count, zeros, epilogue, scale) for each in zip(a, b, y, strict=True))
    plan = loose_plan(kernel, a, b, count, *zeros, epilogue)
    if plan is not None and len(y) > 1 and plan.stack(a, b, y, scale):
        return True
    for one, other, result in zip(a, b, y, strict=True):
        if plan is None or not plan.pair(one, other, result, scale):
            if epilogue is not None:
                return False
            multiply(kernel, one, other, result, count, *zeros)
    return True
