"""The short ways: the commonest calls with one packed B, on the default kernel and number of threads.

A small product costs little more than its look-ups. So each way is a function made once a packed matrix, with all it
needs in its closure, and a program that is there but for its head. A's packed rows and all else that lies between go into
the scratch on the stack, and the arrays' own pointers are followed in the library. A way returns None where its checks,
as short as itself, find anything out of the ordinary: the long way then finds out what.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine import chains, library, native, settings
from pyint8dot.engine.library import DATA_OFFSET, address
from pyint8dot.engine.native import END, HEAD, IN_SCRATCH, POINTER, SCRATCH, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pyint8dot.engine.native import Bound

__all__ = ["NO_WAYS", "Requantization", "Ways", "ways"]

_HEAD = struct.Struct("6q").pack

# What a parameter may be while what was made of it is used again.
_IMMUTABLE = (int, float, np.generic, type(None))

# Everything else is named once, in the closures.
_ARRAY, _INT8, _INT32, _FLOAT32 = np.ndarray, np.dtype(np.int8), np.dtype(np.int32), np.dtype(np.float32)


class Ways(NamedTuple):
    """The short ways of one packed matrix."""

    multiply: Callable[[Any], NDArray[np.int32] | None]
    linear: Callable[[Any, Any, Any, Any], NDArray[np.float32] | None]
    requantize: Callable[..., NDArray[Any] | None]


class Requantization(NamedTuple):
    """What a requantised product needs besides its operands, checked and combined."""

    #: One factor, shape (1,), or one a column, shape (n,); contiguous.
    scale: NDArray[np.float32]
    zero_point: int
    dtype: np.dtype[Any]
    #: What the sums start from, readable to a whole panel.
    col_start: NDArray[np.int32] | None


def never(*_: object) -> None:
    """Serve nothing."""


NO_WAYS = Ways(never, never, never)


def ways(bound: Bound, b: NDArray[np.int8], k: int, n: int) -> Ways:
    """Make the short ways of the matrix of shape (k, n) whose bytes, packed for `bound`, are `b`; they keep it alive."""
    if not library.LAYOUT_KNOWN or n == 0:
        return NO_WAYS
    return Ways(_multiply(bound, b, k, n), _linear(bound, b, k, n), _requantize(bound, b, k, n))


def _multiply(bound: Bound, packed_b: NDArray[np.int8], k: int, n: int) -> Callable[[Any], NDArray[np.int32] | None]:
    """Make ``multiply(a)``: a is int8, shape (m, k), any strides; the result is a new int32 array of shape (m, n)."""
    run, entry, pack, kr = bound
    b = address(packed_b)
    packed_k = native.packed_depth(k, kr)
    most = (SCRATCH - 64) // max(packed_k, 1)
    kind, array_type, int8, int32, empty, identity, head = type, _ARRAY, _INT8, _INT32, np.empty, id, _HEAD
    multiply = native.multiply
    # Words of the head: the array objects of A and C, m, and A's strides along k and m.
    a_object, c_object, m_word, stride_k_word, stride_m_word = range(5)
    program = (
        record(
            pack, DATA_OFFSET, 64, k, 0, 0, 0, 1, 0,
            kinds=(POINTER + a_object, IN_SCRATCH, 0, HEAD + m_word, HEAD + stride_k_word, HEAD + stride_m_word),
        )
        + record(
            entry, 64, b, DATA_OFFSET, 4 * n, 0, n, packed_k, 0, 0,
            kinds=(IN_SCRATCH, 0, POINTER + c_object, 0, HEAD + m_word),
        )
        + END
    )  # fmt: skip

    def multiply_by(a: Any) -> NDArray[np.int32] | None:
        if kind(a) is not array_type or a.dtype is not int8:
            return None
        try:
            m, depth = a.shape
        except ValueError:
            return None
        if depth != k:
            return None
        c = empty((m, n), int32)
        if m <= most:
            stride_m, stride_k = a.strides
            run(head(identity(a), identity(c), m, stride_k, stride_m, 0) + program)
        else:
            multiply(bound, address(packed_b), a, c, 0, 0, settings.default_threads)
        return c

    return multiply_by


def _linear(
    bound: Bound, packed_b: NDArray[np.int8], k: int, n: int
) -> Callable[[Any, Any, Any, Any], NDArray[np.float32] | None]:
    """Make ``linear(x, w_scale, bias, act)``: x is float32, shape (m, k), in contiguous rows, w_scale and bias float32, shape (n,)."""
    run, entry, pack, kr = bound
    b = address(packed_b)
    packed_k = native.packed_depth(k, kr)
    addresses = library.load().addresses
    # Scales, packed rows, and the product (before it, the quantised rows), each for as many rows as there is room for.
    most = (SCRATCH - 64 - 128) // max(4 + packed_k + max(4 * n, k), 1)
    scales, packed = 64, 64 + 64 * -(-4 * most // 64)
    acc = packed + 64 * -(-most * packed_k // 64)
    x_object, y_object, m_word, stride_word, scale_object, bias_object = range(6)
    before = (
        record(
            addresses["quantize_rows"], DATA_OFFSET, acc, 0, k, 0, k, scales, 0,
            kinds=(POINTER + x_object, IN_SCRATCH, HEAD + stride_word, 0, HEAD + m_word, 0, IN_SCRATCH, IN_SCRATCH),
        )
        + record(
            pack, acc, packed, k, 0, 1, k, 1, 0, kinds=(IN_SCRATCH, IN_SCRATCH, 0, HEAD + m_word),
        )
        + record(
            entry, packed, b, acc, 4 * n, 0, n, packed_k, 0, 0, kinds=(IN_SCRATCH, 0, IN_SCRATCH, 0, HEAD + m_word),
        )
    )  # fmt: skip

    def programs(kind: int, offset: int) -> dict[str | None, bytes]:
        """The program of each activation, with this kind of bias argument."""
        return {
            act: before
            + record(
                addresses["dequantize"], acc, DATA_OFFSET, 4 * n, 4 * n, 0, n, scales, 4, DATA_OFFSET, offset, code,
                kinds=(IN_SCRATCH, POINTER + y_object, 0, 0, HEAD + m_word, 0, IN_SCRATCH, 0, POINTER + scale_object, kind),
            )
            + END
            for act, code in chains.ACTIVATIONS.items()
        }  # fmt: skip

    biased, unbiased = programs(POINTER + bias_object, DATA_OFFSET).get, programs(0, 0).get
    array_type, float32, empty, identity, head = _ARRAY, _FLOAT32, np.empty, id, _HEAD
    large = chains.linear
    columns, steps = (n,), (4,)

    def linear(x: Any, w_scale: Any, bias: Any, act: Any) -> NDArray[np.float32] | None:
        if type(x) is not array_type or x.dtype is not float32 or (act is not None and type(act) is not str):
            return None
        if type(w_scale) is not array_type or w_scale.dtype is not float32 or w_scale.shape != columns:
            return None
        if bias is None:
            program, bias_at = unbiased(act), 0
        elif (
            type(bias) is not array_type or bias.dtype is not float32 or bias.shape != columns or bias.strides != steps
        ):
            return None
        else:
            program, bias_at = biased(act), identity(bias)
        shape, strides = x.shape, x.strides
        if len(shape) != 2 or shape[1] != k or strides[1] != 4 or w_scale.strides != steps or program is None:
            return None
        m = shape[0]
        y = empty((m, n), float32)
        if m <= most:
            wrong = run(head(identity(x), identity(y), m, strides[0], identity(w_scale), bias_at) + program)
        else:
            wrong = not large(bound, address(packed_b), x, y, w_scale, bias, act, settings.default_threads)
        return None if wrong else y

    return linear


def _requantize(bound: Bound, packed_b: NDArray[np.int8], k: int, n: int) -> Callable[..., NDArray[Any] | None]:
    """Make ``requantize(a, prepare, *parameters)``: a is int8, shape (m, k), any strides.

    The parameters are the scales and zero points of `qlinear_matmul`. While they are the very objects of the call before,
    and of types that cannot change, what `prepare` made of them then still holds; else it is asked, and may answer None.
    `matrix` is the packed matrix itself, for `prepare`: a way must not keep alive what keeps it.
    """
    run, entry, pack, kr = bound
    b = address(packed_b)
    packed_k = native.packed_depth(k, kr)
    most = (SCRATCH - 64 - 64) // max(packed_k + 4 * n, 1)
    packed = 64
    acc = packed + 64 * -(-most * packed_k // 64)
    a_object, y_object, m_word, stride_k_word, stride_m_word = range(5)
    before = record(
        pack, DATA_OFFSET, packed, k, 0, 0, 0, 1, 0,
        kinds=(POINTER + a_object, IN_SCRATCH, 0, HEAD + m_word, HEAD + stride_k_word, HEAD + stride_m_word),
    )  # fmt: skip
    requantize_entry = library.load().addresses["requantize"]

    def make_program(what: Requantization) -> bytes:
        start = 0 if what.col_start is None else address(what.col_start)
        fields = (address(what.scale), 0, int(len(what.scale) == n), what.zero_point, int(what.dtype.char == "B"))
        return (
            before
            + record(
                entry, packed, b, acc, 4 * n, 0, n, packed_k, 0, start, kinds=(IN_SCRATCH, 0, IN_SCRATCH, 0, HEAD + m_word)
            )
            + record(
                requantize_entry, acc, DATA_OFFSET, 4 * n, n, 0, n, *fields,
                kinds=(IN_SCRATCH, POINTER + y_object, 0, 0, HEAD + m_word),
            )
            + END
        )  # fmt: skip

    array_type, int8, empty, identity, head = _ARRAY, _INT8, np.empty, id, _HEAD
    large = chains.requantized
    # The parameters of the call before with what was made of them, replaced as a whole so that threads never see a mixture.
    latest: tuple[Any, ...] = ((object(),) * 6, b"", None)

    def requantize(
        a: Any,
        prepare: Callable[..., Requantization | None],
        matrix: Any,
        p0: Any,
        p1: Any,
        p2: Any,
        p3: Any,
        p4: Any,
        p5: Any,
    ) -> NDArray[Any] | None:
        nonlocal latest
        if type(a) is not array_type or a.dtype is not int8:
            return None
        shape = a.shape
        if len(shape) != 2 or shape[1] != k:
            return None
        (q0, q1, q2, q3, q4, q5), program, what = latest
        if not (p0 is q0 and p1 is q1 and p2 is q2 and p3 is q3 and p4 is q4 and p5 is q5):
            now = (p0, p1, p2, p3, p4, p5)
            if not all(isinstance(p, _IMMUTABLE) for p in now):
                return None
            if not all(type(p) is type(q) and p == q for p, q in zip(now, latest[0], strict=True)):
                what = prepare(matrix, *now)
                if what is None:
                    return None
                program = make_program(what)
            latest = (now, program, what)
        m = shape[0]
        y = empty((m, n), what.dtype)
        if m <= most:
            stride_m, stride_k = a.strides
            run(head(identity(a), identity(y), m, stride_k, stride_m, 0) + program)
        else:
            start = 0 if what.col_start is None else address(what.col_start)
            large(bound, address(packed_b), a, y, what.scale, what.zero_point, 0, start, settings.default_threads)
        return y

    return requantize
