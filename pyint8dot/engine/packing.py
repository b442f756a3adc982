"""Packed operands: the matrix that is packed once and used many times, and the layouts it is packed in.

The layouts themselves are defined in `pyint8dot.engine.layouts` and offered here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.arguments import quantized
from pyint8dot.engine import dispatch, kernels, layouts
from pyint8dot.engine.immutable import Immutable
from pyint8dot.engine.layouts import Layout, PackedFormat, PackedI8K4, RowMajor, Writer, moved_to_int8, pack_into
from pyint8dot.engine.operand import Operand, Store

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy.typing import ArrayLike, NDArray

    from pyint8dot.engine.kernels import Kernel

__all__ = [
    "Layout",
    "PackedFormat",
    "PackedI8K4",
    "PackedMatrix",
    "RowMajor",
    "Writer",
    "moved_to_int8",
    "pack",
    "pack_into",
]


def _moved_back(moved: NDArray[np.int8], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Undo `moved_to_int8` for values that were of `dtype`."""
    return np.bitwise_xor(moved.view(np.uint8), np.uint8(0x80)) if dtype == np.uint8 else moved


class PackedMatrix(Immutable):
    """A matrix packed for a kernel, for repeated use as the right operand of a product.

    It is immutable, may be used by many threads at once, and can be pickled; a matrix packed on one
    machine works on any other, where it is brought into another layout at the first use if need be.

    Parameters
    ----------
    b : array_like of int8 or uint8, shape (k, n)
        The matrix. It is copied.
    layout : str, optional
        Name of the layout, such as ``"PackedI8K4(8)"``; by default that of the kernel
        `pyint8dot.engine.dispatch.select` chooses.

    Attributes
    ----------
    shape : tuple of int
        (k, n)
    dtype : numpy.dtype
        int8 or uint8.
    layout : str
        Name of the packed layout.
    nbytes : int
        Bytes that the packed values and the column sums take, other layouts it has been brought
        into included.
    column_sums : ndarray of int32, shape (n,)
        Sums over k of the values as int8 (uint8 values less 128), modulo 2**32.

    Examples
    --------
    >>> b = PackedMatrix(np.eye(3, dtype=np.int8))
    >>> b.shape, b.column_sums
    ((3, 3), array([1, 1, 1], dtype=int32))

    The operator of numpy's arrays takes it, and ``np.asarray`` makes the matrix again.

    >>> np.full((1, 3), -5, np.int8) @ b
    array([[-5, -5, -5]], dtype=int32)
    >>> np.asarray(b)[0]
    array([1, 0, 0], dtype=int8)
    """

    __slots__ = ("_operands", "_store", "here")

    _store: Store
    # By name of kernel.
    _operands: dict[str, Operand]
    #: The operand of the default kernel, once a product has asked for it; see `on_default`.
    here: Operand | None

    def __init__(self, b: ArrayLike, layout: str | None = None) -> None:
        array = quantized("b", b)
        if array.ndim != 2:
            raise ValueError(f"b must be two-dimensional to be packed, got {array.ndim} dimension(s)")
        if not (layout is None or isinstance(layout, str)):
            raise TypeError(f"layout must be the name of a layout (str), got {type(layout).__name__}")
        chosen = dispatch.select().for_columns(array.shape[1]).right if layout is None else layouts.layout(layout)
        self._fill(_store=Store(array, chosen), _operands={}, here=None)

    def on_default(self) -> Operand:
        """Return the matrix as the right operand of the default kernel."""
        made = self.on(dispatch.default())
        object.__setattr__(self, "here", made)
        return made

    def on(self, kernel: Kernel) -> Operand:
        """Return the matrix as the right operand of `kernel`, brought into its layout at the first product and kept."""
        found = self._operands.get(kernel.name)
        # Two threads that come first together make the same, of which one is kept.
        return found or self._operands.setdefault(kernel.name, Operand(self._store, kernel))

    @property
    def shape(self) -> tuple[int, int]:
        """(k, n)."""
        return self._store.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8 or uint8."""
        return self._store.dtype

    @property
    def layout(self) -> str:
        """Name of the packed layout."""
        return self._store.layout

    @property
    def data(self) -> NDArray[np.int8]:
        """Packed bytes in `layout`, read-only for good."""
        return self._store.packed[self.layout]

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    @property
    def nbytes(self) -> int:
        """Bytes held: the packed values in every layout in use, and room for the column sums."""
        return self._store.nbytes

    @property
    def column_sums(self) -> NDArray[np.int32]:
        """Sums over k of the values as int8, shape (n,), read-only; made at the first use and kept."""
        return self._store.column_sums

    def unpack(self) -> NDArray[Any]:
        """Return the original matrix: shape (k, n), the original dtype, C order, a new array."""
        return _moved_back(self._store.values(), self.dtype)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The original matrix for ``np.asarray``, always a new array."""
        if copy is False:
            raise ValueError("a PackedMatrix has no array that could be had without a copy")
        return self.unpack().astype(dtype or self.dtype, copy=False)

    def __rmatmul__(self, a: ArrayLike) -> NDArray[np.int32]:
        return _matmul(a, self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """``a @ packed`` of an array, which numpy asks for here; no other function of numpy takes a packed matrix as it is."""
        if ufunc is not np.matmul or method != "__call__" or set(kwargs) - {"out"}:
            return NotImplemented
        [out] = kwargs.get("out", (None,))
        return _matmul(inputs[0], inputs[1], out)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """``np.dot(a, packed)``; others would make products that wrap in int8, or an array at each call."""
        if func is np.dot:
            return _matmul(*args, **kwargs)
        if func in (np.shape, np.ndim):
            return getattr(self, func.__name__)
        raise TypeError(
            f"numpy.{func.__name__} does not take a PackedMatrix: numpy.asarray makes the matrix of it again"
        )

    def __copy__(self) -> PackedMatrix:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedMatrix:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.shape, self.dtype.name, self.layout, self.data)

    def __repr__(self) -> str:
        return f"PackedMatrix(shape={self.shape}, dtype={self.dtype}, layout={self.layout!r}, nbytes={self.nbytes})"


def _matmul(a: ArrayLike, b: ArrayLike | PackedMatrix, out: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
    from pyint8dot.matmul import matmul  # noqa: PLC0415 - which imports this module

    return matmul(a, b, out=out)


def _restore(shape: tuple[int, int], dtype: str, layout: str, data: NDArray[np.int8]) -> PackedMatrix:
    """Make a pickled matrix again.

    The kernels trust its buffers, so they are made anew from the values, column sums included.
    """
    moved = layouts.layout(layout).unpack(np.asarray(data, np.int8), *shape)
    return PackedMatrix(_moved_back(moved, np.dtype(dtype)), _layout_here(layout, shape[1]))


def _layout_here(stored: str, n: int) -> str:
    """Choose the layout for a matrix that was stored in another one, perhaps by another machine.

    It keeps its own if a kernel of this machine reads it. A row-major one is brought into that of
    the best native kernel at once, lest both be kept after the first product.
    """
    here = [kernels.KERNELS[name] for name in dispatch.supported()]
    native = [kernel for kernel in here if kernel.native] or here
    names = [each.right.name for kernel in native for each in (kernel, *kernel.few)]
    return stored if stored in names else native[0].for_columns(n).right.name


def pack(b: ArrayLike | PackedMatrix, *, kernel: str | None = None) -> PackedMatrix:
    """Pack a matrix once, to use it many times as the right operand of a product.

    Parameters
    ----------
    b : array_like of int8 or uint8, shape (k, n), or PackedMatrix
        The matrix. A `PackedMatrix` is returned as it is.
    kernel : str, optional
        Name of the kernel to pack for; by default the one that `dispatch.select` chooses. Every
        kernel takes every `PackedMatrix`, this only saves the conversion at the first use.

    Returns
    -------
    PackedMatrix

    Raises
    ------
    TypeError
        `b` is neither int8 nor uint8.
    ValueError
        `b` is not two-dimensional.
    KernelError
        The kernel is unknown or cannot run here.

    Examples
    --------
    >>> b = np.array([[1, -2], [3, 4]], np.int8)
    >>> pack(b).unpack()
    array([[ 1, -2],
           [ 3,  4]], dtype=int8)
    """
    chosen = dispatch.select(kernel)
    if isinstance(b, PackedMatrix):
        if kernel is not None:
            b.on(chosen).product(np.dtype(np.int8))
        return b
    array = quantized("b", b)
    # PackedMatrix has the words for what is no matrix.
    columns = array.shape[1] if array.ndim == 2 else 0
    return PackedMatrix(array, chosen.for_columns(columns).right.name)
