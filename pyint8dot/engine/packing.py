"""Packed operands: the matrix that is packed once and used many times, and the layouts it is packed in.

The layouts themselves are defined in `pyint8dot.engine.layouts` and offered here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import kernels, layouts, native
from pyint8dot.engine.layouts import Layout, PackedFormat, PackedI8K4, RowMajor, Writer, moved_to_int8, pack_into
from pyint8dot.engine.short import NO_WAYS, Ways, ways

if TYPE_CHECKING:
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


class PackedMatrix:
    """A matrix packed for a kernel, for repeated use as the right operand of a product.

    It is immutable, may be used by many threads at once, and can be pickled; a matrix packed on one
    machine works on any other, where it is brought into another layout at the first use if need be.

    Parameters
    ----------
    b : array_like of int8 or uint8, shape (k, n)
        The matrix. It is copied.
    layout : str, optional
        Name of the layout, such as ``"PackedI8K4(8)"``; by default that of the kernel
        `pyint8dot.engine.kernels.select` chooses.

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
    """

    __slots__ = ("_packed", "_sums", "data", "dtype", "layout", "shape", "short")

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    layout: str
    #: Packed bytes in `layout`.
    data: NDArray[np.int8]
    #: The short ways of the commonest calls, where this is int8 packed for the default kernel.
    short: Ways
    # The column sums, once somebody has asked for them.
    _sums: NDArray[np.int32] | None
    # Packed bytes by name of layout.
    _packed: dict[str, NDArray[np.int8]]

    def __init__(self, b: ArrayLike, layout: str | None = None) -> None:
        if hasattr(self, "data"):
            raise AttributeError("a PackedMatrix is immutable: it cannot be initialised again")
        array = np.asarray(b)
        if array.dtype not in (np.int8, np.uint8):
            raise TypeError(f"b must be int8 or uint8, got {array.dtype}")
        if array.ndim != 2:
            raise ValueError(f"b must be two-dimensional to be packed, got {array.ndim} dimension(s)")
        chosen = layouts.layout(kernels.select().layout if layout is None else layout)
        data = layouts.aligned(chosen.size(*array.shape))
        pack_into(chosen, array, data)
        self._set(array.shape, array.dtype, chosen.name, data)

    def _set(self, shape: tuple[int, int], dtype: np.dtype[Any], layout: str, data: NDArray[np.int8]) -> None:
        data.setflags(write=False)
        fields = {
            "shape": shape,
            "dtype": np.dtype(dtype),
            "layout": layout,
            "data": data,
            "_sums": None,
            "_packed": {layout: data},
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        """Make the short ways when they are first asked for: only an attribute that is not there yet comes here."""
        if name != "short":
            raise AttributeError(f"a PackedMatrix has no attribute {name!r}")
        kernel = kernels.default()
        made = NO_WAYS
        if kernel.native and kernel.layout == self.layout and self.dtype == np.int8:
            made = ways(native.bind(kernel), self.data, *self.shape)
        object.__setattr__(self, "short", made)
        return made

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a PackedMatrix is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a PackedMatrix is immutable: cannot delete {name!r}")

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    @property
    def nbytes(self) -> int:
        """Bytes held: the packed values in every layout in use, and room for the column sums."""
        return sum(data.nbytes for data in tuple(self._packed.values())) + 4 * self.shape[1]

    @property
    def column_sums(self) -> NDArray[np.int32]:
        """Sums over k of the values as int8, shape (n,), read-only; made at the first use and kept."""
        sums = self._sums
        if sums is None:
            # Two threads that come first together make the same sums, so no lock is needed.
            sums = self._unpack_moved().sum(axis=0, dtype=np.int32)
            sums.setflags(write=False)
            object.__setattr__(self, "_sums", sums)
        return sums

    def for_kernel(self, kernel: Kernel) -> NDArray[np.int8]:
        """Return the packed bytes in the layout of `kernel`, converted at the first use and kept."""
        found = self._packed.get(kernel.layout)
        if found is None:
            # Here too two threads may make the same, of which one is kept.
            data = layouts.layout(kernel.layout).pack(self._unpack_moved(), k_axis=0, mn_axis=1)
            data.setflags(write=False)
            found = self._packed.setdefault(kernel.layout, data)
        return found

    def _unpack_moved(self) -> NDArray[np.int8]:
        return layouts.layout(self.layout).unpack(self.data, *self.shape)

    def unpack(self) -> NDArray[Any]:
        """Return the original matrix: shape (k, n), the original dtype, C order, a new array."""
        return _moved_back(self._unpack_moved(), self.dtype)

    def __copy__(self) -> PackedMatrix:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedMatrix:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.shape, self.dtype.name, self.layout, self.data)

    def __repr__(self) -> str:
        return f"PackedMatrix(shape={self.shape}, dtype={self.dtype}, layout={self.layout!r}, nbytes={self.nbytes})"


def _restore(shape: tuple[int, int], dtype: str, layout: str, data: NDArray[np.int8]) -> PackedMatrix:
    """Make a pickled matrix again.

    The kernels trust its buffers, so they are made anew from the values, column sums included.
    """
    moved = layouts.layout(layout).unpack(np.asarray(data, np.int8), *shape)
    return PackedMatrix(_moved_back(moved, np.dtype(dtype)), _layout_here(layout))


def _layout_here(stored: str) -> str:
    """Choose the layout for a matrix that was stored in another one, perhaps by another machine.

    It keeps its own if a kernel of this machine reads it. A row-major one is brought into that of
    the best native kernel at once, lest both be kept after the first product.
    """
    here = [kernels.KERNELS[name] for name in kernels.supported()]
    names = [kernel.layout for kernel in here if kernel.native] or [here[0].layout]
    return stored if stored in names else names[0]


def pack(b: ArrayLike | PackedMatrix, *, kernel: str | None = None) -> PackedMatrix:
    """Pack a matrix once, to use it many times as the right operand of a product.

    Parameters
    ----------
    b : array_like of int8 or uint8, shape (k, n), or PackedMatrix
        The matrix. A `PackedMatrix` is returned as it is.
    kernel : str, optional
        Name of the kernel to pack for; by default the one that `kernels.select` chooses. Every
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
    chosen = kernels.select(kernel)
    if isinstance(b, PackedMatrix):
        if kernel is not None:
            b.for_kernel(chosen)
        return b
    return PackedMatrix(b, chosen.layout)
