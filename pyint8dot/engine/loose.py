"""Plans of products whose right operand comes with each call as an array, one or a stack of them, and the plans that are kept."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyint8dot.engine import kernels, library, program, settings, tape
from pyint8dot.engine.blocks import LEAST_WORK, Written, take
from pyint8dot.engine.moves import contiguous
from pyint8dot.engine.native import BOTH, NativePlan, pack_both
from pyint8dot.engine.packers import FEW_BYTES
from pyint8dot.engine.plan import Zeros
from pyint8dot.engine.recipe import Key, Recipe, Right

if TYPE_CHECKING:
    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.plan import Array, Epilogue, Int32, Left

__all__ = ["LoosePlan", "loose_plan"]

UINT8 = np.dtype(np.uint8)

#: Pairs of matrices that one program multiplies, and such programs that are kept, since each is some dozens of KiB.
MOST_PAIRS, MOST_STACKS = 64, 64

#: Which columns and rows may be for a kernel that reads the left operand as it lies: few of any rows, and more of many, beyond the
#: most of which rows make no difference.
_FEW = [few for kernel in kernels.KERNELS.values() for few in kernel.few]
FEW_COLUMNS = max(few.most_columns for few in _FEW if not few.least_rows)
MOST_COLUMNS = max(few.most_columns for few in _FEW)
MANY_ROWS = min(few.least_rows for few in _FEW if few.least_rows)
MOST_ROWS = max(few.least_rows for few in _FEW)


class LoosePlan(NativePlan):
    """A product of two arrays on a native kernel, both of which come with each call."""

    __slots__ = ("_forward",)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        #: Whether the rows of B must follow one another upwards.
        self._forward = recipe.kernel.right.packer is None

    def pair(self, a: Array, b: Array, y: Array, first: Array | None = None, second: Array | None = None) -> bool:
        """Compute the product of two arrays of the plan's types on one thread, where their blocks are one.

        `a` has shape (m, k), `b` (k, n), any strides; `y` shares no memory with them, `first` and `second` are the plan's extra
        operands. Returns False where rows of `y` are not contiguous or this is not the way, with `y` as it was, and where the values
        of `a` cannot be quantised.
        """
        m = len(a)
        ld, step = y.strides
        if m > self._block or (step != self.dtype.itemsize and self.n > 1) or not library.LAYOUT_KNOWN:
            return False
        stride_m, stride_k = a.strides
        right_k, right_n = b.strides
        if stride_k != self._item or 1 not in (right_k, right_n) or right_k < 0:
            a, b = self._ordered(a, b)
            stride_m, stride_k = a.strides
            right_k, right_n = b.strides
            if self._strict and stride_k != self._item and self.k > 1:
                return False
        small = m <= self._most and ld == self._ld
        if tape.TAPES:
            tape.touch((a, b, first, second), (y,))
            left, result, right = map(tape.place, (a, y, b))
            extras = map(tape.place, (first, second))
            written = self._kept if small else self._single(m, ld).written
            written.note([left, result, m, stride_k, stride_m, 0, *extras, right, right_k, right_n])
        tail, scratch = self._small, 0
        if not small:
            single = self._single(m, ld)
            tail, scratch = single.tail, take(single.scratch)
        words = id(a), id(y), m, stride_k, stride_m, scratch, id(first), id(second), id(b), right_k, right_n
        return not self._run(pack_both(*words) + tail)

    def stack(self, a: Array, b: Array, y: Array, first: Array | None = None) -> bool:
        """Do the same for stacks of pairs of three dimensions, as many at one call as `MOST_PAIRS`; all have the same extra operand."""
        m = a.shape[1]
        if m > self._block or (y.strides[2] != self.dtype.itemsize and self.n > 1) or not library.LAYOUT_KNOWN:
            return False
        a, b = self._ordered(a, b)
        if self._strict and a.strides[2] != self._item and self.k > 1:
            return False
        steps = a.strides[0], b.strides[0], y.strides[0]
        for start in range(0, len(a), MOST_PAIRS):
            part = slice(start, start + MOST_PAIRS)
            one, other, result = a[part], b[part], y[part]
            written = _stacked(self.recipe, Key(self._rows(m), 0, self.n, y.strides[1]), len(one), steps)
            sizes = (m, a.strides[2], a.strides[1])
            if tape.TAPES:
                tape.touch((one, other, first), (result,))
                left, target, right = map(tape.place, (one, result, other))
                written.note([left, target, *sizes, 0, tape.place(first), 0, right, *b.strides[1:]])
            words = id(one), id(result), *sizes, take(written.scratch), id(first), 0, id(other), *b.strides[1:]
            self._run(pack_both(*words) + written.tail(BOTH, self._objects))
        return True

    def _ordered(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Matrices, or stacks of them, copied where their values lie too far apart to be packed as they lie."""
        stride_m, stride_k = a.strides[-2:]
        if stride_k != self._item and self._copies(a.shape[-2], stride_m):
            a = contiguous(a)
        right_k, right_n = b.strides[-2:]
        if (right_k != 1 != right_n and b.size > FEW_BYTES) or (self._forward and right_k < 0):
            b = contiguous(b)
        return a, b


@functools.lru_cache(MOST_STACKS)
def _stacked(recipe: Recipe, key: Key, count: int, steps: tuple[int, int, int]) -> Written:
    """The program for so many pairs, each so far behind the one before."""
    out = program.Program()
    scratch = recipe.append(out, key, program.LEFT)
    out.repeat_all(count, dict(zip((program.LEFT, program.RIGHT, program.RESULT), steps, strict=True)))
    return Written(out, scratch)


@functools.lru_cache(maxsize=512)
def _loose_plan(
    kernel: Kernel, k: int, n: int, a_type: str, b_type: str, a_zero: int | Literal["row"] = 0, b_zero: int | bytes = 0,
    epilogue: Epilogue | None = None, bias: bytes | None = None, left: Left | None = None,
) -> LoosePlan:  # fmt: skip
    """Make the plan of `loose_plan`; of zero points and bias that are arrays the bytes of their int32, of types the letters."""
    left_type, right_type = np.dtype(a_type), np.dtype(b_type)
    za = a_zero - 128 * (left_type == UINT8) if isinstance(a_zero, int) else a_zero
    zb = (b_zero if isinstance(b_zero, int) else np.frombuffer(b_zero, np.int32)) - np.int32(
        128 * (right_type == UINT8)
    )
    zeros = Zeros(za, zb if zb.ndim else int(zb), None if bias is None else np.frombuffer(bias, np.int32))
    return LoosePlan(Recipe(kernel, Right(k, n, None, dtype=right_type), left_type, zeros, epilogue, left))


def loose_plan(
    kernel: Kernel,
    a: Array,
    b: Array,
    count: int,
    a_zero: int | Literal["row"] = 0,
    b_zero: int | Int32 = 0,
    epilogue: Epilogue | None = None,
    *,
    bias: Int32 | None = None,
    left: Left | None = None,
) -> LoosePlan | None:
    """What multiplies pairs of matrices of the shapes and types of the last two dimensions of these arrays; see `LoosePlan.pair`.

    None where the kernel is not native, threads have something to share, or somebody counts products. The other arguments are those of
    `Operand.plan`. Plans are kept by what they depend on, of which `epilogue` and `left` are the objects that they are.
    """
    k, n = b.shape[-2:]
    m = a.shape[-2]
    if not kernel.native or (count > 1 and m * k * n >= LEAST_WORK) or settings.current().tally is not None:
        return None
    if n <= (FEW_COLUMNS if m < MANY_ROWS else MOST_COLUMNS) and a.strides[-1] == a.itemsize:
        kernel = _as_it_lies(kernel, min(m, MOST_ROWS), n, left is None)
    # By their letters types are found at once; their own hash takes longer than a small product.
    types = a.dtype.char, b.dtype.char
    if bias is None and left is None and type(b_zero) is int:
        return _loose_plan(kernel, k, n, *types, a_zero, b_zero, epilogue)  # type: ignore[arg-type]  # hashed by identity
    zb = b_zero if isinstance(b_zero, int) else b_zero.tobytes()
    start = None if bias is None else bias.tobytes()
    return _loose_plan(kernel, k, n, *types, a_zero, zb, epilogue, start, left)  # type: ignore[arg-type]  # likewise


@functools.lru_cache(maxsize=512)
def _as_it_lies(kernel: Kernel, m: int, n: int, plain: bool) -> Kernel:
    """The kernel that takes the place of another one for so many rows and columns, or that itself; see `Operand.plan`."""
    few = kernel.for_columns(n)
    many = kernel.for_many_rows(n) if few is kernel and plain else None
    return few if many is None or m < many.least_rows else many
