"""Right operands on a kernel: packed once or coming with each call, and the plans that are kept for them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyint8dot.engine import dispatch, layouts, packers, settings, threads
from pyint8dot.engine.deep import DeepRecipe, PortableDeepPlan
from pyint8dot.engine.immutable import frozen
from pyint8dot.engine.loose import loose_plan
from pyint8dot.engine.native import NativePlan
from pyint8dot.engine.plan import Plan, PortablePlan, Zeros
from pyint8dot.engine.recipe import Recipe, Right, surplus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.plan import Array, Epilogue, Int32, Left

__all__ = ["Operand", "Store", "choice", "deep_plan", "multiply", "multiply_new"]

UINT8 = np.dtype(np.uint8)
BYTES = (np.dtype(np.int8), UINT8)

#: Plans kept with one operand by what a caller says they depend on; parameters that never come back must not fill the memory.
MOST_PLANS = 512


class Store:
    """A matrix of shape (k, n), packed in one layout and brought into others when a kernel asks."""

    __slots__ = ("_sums", "_surplus", "dtype", "layout", "packed", "shape")

    def __init__(self, b: Array, layout: layouts.Layout) -> None:
        self.shape: tuple[int, int] = b.shape[0], b.shape[1]
        self.dtype = b.dtype
        self.layout = layout.name
        self._sums: Int32 | None = None
        self._surplus: dict[str, Int32] = {}
        #: Bytes by name of layout; read-only.
        self.packed: dict[str, npt.NDArray[np.int8]] = {}
        data = packers.aligned(layout.size(*b.shape))
        packers.pack_into(layout, b, data)
        self.packed[layout.name] = frozen(data)

    def values(self) -> npt.NDArray[np.int8]:
        """The matrix as int8 (uint8 values less 128), a new array."""
        return layouts.layout(self.layout).unpack(self.packed[self.layout], *self.shape)

    def in_layout(self, layout: layouts.Layout) -> npt.NDArray[np.int8]:
        """The bytes in another layout, converted at the first use and kept."""
        found = self.packed.get(layout.name)
        if found is None:
            # Two threads that come first together make the same, of which one is kept.
            data = layout.pack(self.values(), k_axis=0, mn_axis=1)
            found = self.packed.setdefault(layout.name, frozen(data))
        return found

    @property
    def column_sums(self) -> Int32:
        """Sums over k of the values as int8, read-only; made at the first use and kept."""
        if self._sums is None:
            # Here too two threads may make the same.
            self._sums = frozen(self.values().sum(axis=0, dtype=np.int32))
        return self._sums

    def surplus(self, kernel: Kernel) -> Int32 | None:
        """What a kernel adds to every sum of a column when the left operand is complemented, read-only, made at the first use and kept."""
        if not kernel.complement:
            return None
        key = kernel.right.name
        found = self._surplus.get(key)
        if found is None:
            found = self._surplus.setdefault(key, frozen(surplus(kernel, self.in_layout(kernel.right), *self.shape)))
        return found

    @property
    def nbytes(self) -> int:
        """Bytes held: the packed values in every layout in use, room for the column sums, and what else was made of columns."""
        held: list[Array] = [*self.packed.values(), *self._surplus.values()]
        return sum(data.nbytes for data in held) + 4 * self.shape[1]


class Operand:
    """A packed matrix on one kernel, with the plans made for it."""

    __slots__ = ("_store", "checked", "int8", "kernel", "latest", "layers", "plans", "uint8")

    def __init__(self, store: Store, kernel: Kernel) -> None:
        self._store = store
        self.kernel = kernel
        #: The plain products of left operands of these types, once they are made; see `product`.
        self.int8: Plan | None = None
        self.uint8: Plan | None = None
        #: Those of float32 layers, by activation, in a tuple where there is a bias.
        self.layers: dict[Any, Plan] = {}
        #: Other plans, by what their makers say they depend on.
        self.plans: dict[Any, Plan] = {}
        #: Parameters of an operator that are checked, by their contents; see `pyint8dot.qplan.remembered`.
        self.checked: dict[Any, Any] = {}
        #: The parameters of an operator's last call and the plan made of them, replaced as a whole.
        self.latest: Any = None

    def plan(
        self,
        dtype: np.dtype[Any],
        a_zero: int | Literal["row", "call"] = 0,
        b_zero: int | Int32 = 0,
        *,
        bias: Int32 | None = None,
        epilogue: Epilogue | None = None,
        left: Left | None = None,
    ) -> Plan:
        """Make a plan.

        Parameters
        ----------
        dtype : dtype
            Type of the left operand.
        a_zero : int, ROW or CALL
            Zero point of the left operand, of its own type; ROW where each row has one, handed over at the call less 128 if
            the type is uint8; CALL where the one of all is handed over at the call, or found by `left`.
        b_zero : int or ndarray of int32, shape (n,)
            Zero point of the matrix, of its own type.
        bias : ndarray of int32, shape (n,), optional
            Added to every row.
        epilogue : Epilogue, optional
            What becomes of the sums; they are the result without.
        left : Left, optional
            What makes the left operand int8.
        """
        store = self._store
        za = a_zero - 128 * (dtype == UINT8) if isinstance(a_zero, int) else a_zero
        zb = b_zero - np.int32(128 * (store.dtype == UINT8))
        # A zero point of 0 in every column costs no sums of rows.
        zb = (zb if zb.any() else 0) if isinstance(zb, np.ndarray) else int(zb)
        zeros = Zeros(za, zb, bias)
        sums = None if za == 0 else store.column_sums
        k, n = store.shape
        if not self.kernel.native:
            b = store.in_layout(self.kernel.right).reshape(k, n)
            return PortablePlan(b, zeros, sums, epilogue, left, dtype)

        def native(kernel: Kernel, otherwise: Callable[[], NativePlan] | None = None) -> NativePlan:
            return NativePlan(Recipe(kernel, self.right(kernel, sums), dtype, zeros, epilogue, left), otherwise)

        few = self.kernel.for_columns(n)
        many = self.kernel.for_many_rows(n) if few is self.kernel and left is None else None
        if few is not self.kernel and left is None:
            return native(few, functools.cache(functools.partial(native, self.kernel)))
        made = native(few)
        if many is not None:
            made.tall = many.least_rows, functools.cache(functools.partial(native, many))
        return made

    @property
    def shape(self) -> tuple[int, int]:
        """(k, n)."""
        return self._store.shape

    def right(self, kernel: Kernel, column_sums: Int32 | None = None) -> Right:
        """The matrix as what a kernel multiplies by, this operand's or one that it has for few columns."""
        store = self._store
        return Right(*store.shape, store.in_layout(kernel.right), column_sums, store.surplus(kernel))

    def product(self, dtype: np.dtype[Any]) -> Plan:
        """The plan without zero points, made at the first use and kept."""
        slot = dtype.name
        found: Plan | None = getattr(self, slot)
        if found is None:
            found = self.plan(dtype)
            setattr(self, slot, found)
        return found

    def keep(self, key: Any, plan: Plan) -> Plan:
        """Keep a plan for a caller that knows it by `key`."""
        if len(self.plans) >= MOST_PLANS:
            self.plans.clear()
        self.plans[key] = plan
        return plan


def deep_plan(parts: Sequence[Operand], epilogues: Sequence[Epilogue], left: Left) -> Plan:
    """The plan of a product whose right operand comes in parts, one below the other, each with an epilogue of its own.

    Parameters
    ----------
    parts : sequence of Operand
        int8, on one kernel, as many columns each; the first has the most rows.
    epilogues : sequence of Epilogue
        One for each part. They need no operands at the call; those behind the first find in the result what is there so far.
    left : Left
        What makes int8 and a scale of each row's piece for a part.
    """
    kernel = parts[0].kernel
    if not kernel.native:
        pairs = zip(parts, epilogues, strict=True)
        return PortableDeepPlan(
            [(*part.shape, part.plan(left.dtype, epilogue=each, left=left)) for part, each in pairs]
        )
    kernel = kernel.for_columns(parts[0].shape[1])
    return NativePlan(DeepRecipe(kernel, [part.right(kernel) for part in parts], epilogues, left))


def choice(kernel: str | None, num_threads: int | None) -> tuple[Kernel, int]:
    """What a product that says this of kernel and threads runs on."""
    if num_threads is None:
        count = settings.current().num_threads or settings.default_threads
    else:
        count = threads.checked(num_threads)
    return dispatch.select(kernel), count


def multiply_new(kernel: Kernel, a: Array, b: Array, count: int) -> Int32 | None:
    """The product of two matrices as a new array; None where they are not two matrices that fit, or `loose_plan` has no way."""
    if a.dtype not in BYTES or b.dtype not in BYTES:
        return None
    rows, columns = a.shape, b.shape
    if len(rows) != 2 or len(columns) != 2 or rows[1] != columns[0]:
        return None
    plan = loose_plan(kernel, a, b, count)
    if plan is None:
        return None
    c = np.empty((rows[0], columns[1]), np.int32)
    return c if plan.pair(a, b, c) else None


def multiply(
    kernel: Kernel, a: Array, b: Array | Operand, c: Int32, count: int, a_zero: int = 0, b_zero: int = 0
) -> None:
    """Write ``(a - a_zero) @ (b - b_zero)`` to `c`, exactly, modulo 2**32.

    Parameters
    ----------
    kernel : Kernel
        What computes it.
    a : ndarray of int8 or uint8, shape (m, k)
        Any strides.
    b : ndarray of int8 or uint8, shape (k, n), or Operand
        Any strides; an operand belongs to `kernel`.
    c : ndarray of int32, shape (m, n)
        Any strides; it shares no memory with the operands.
    count : int
        How many threads to use.
    a_zero, b_zero : int
        Of the operands' own types.
    """
    target = c if c.strides[1] == c.itemsize else np.empty(c.shape, np.int32)
    if isinstance(b, Operand):
        _packed_into(b, a, target, count, a_zero, b_zero)
    else:
        plan = loose_plan(kernel, a, b, count, a_zero, b_zero)
        if plan is None or not plan.pair(a, b, target):
            _packed_into(
                Operand(Store(b, kernel.for_columns(b.shape[1]).right), kernel), a, target, count, a_zero, b_zero
            )
    if target is not c:
        c[...] = target


def _packed_into(b: Operand, a: Array, c: Int32, count: int, a_zero: int, b_zero: int) -> None:
    settings.count(b.kernel.name, c.size * a.shape[1])
    if a_zero or b_zero:
        key = a.dtype, a_zero, b_zero
        plan = b.plans.get(key) or b.keep(key, b.plan(a.dtype, a_zero, b_zero))
    else:
        plan = b.product(a.dtype)
    plan.into(a, c, count)
