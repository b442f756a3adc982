"""The weights of a convolution as the left operand of matrix products, packed once."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.arguments import quantized
from pyint8dot.engine import kernels, layouts, library
from pyint8dot.engine.library import address
from pyint8dot.engine.packing import moved_to_int8

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyint8dot.arguments import Quantized
    from pyint8dot.engine.kernels import Kernel


class PackedWeights:
    """The weights of a convolution, packed once and used for many images.

    Made by `pack_conv`; immutable and shared freely between threads. The packed form of each kernel is made when that kernel first asks.

    Parameters
    ----------
    w : array_like of int8 or uint8, shape (channels out, channels in / group, *kernel)
        The weights. They are copied.
    group : int
        Groups the channels fall into; it divides the channels out.

    Attributes
    ----------
    shape : tuple of int
        (channels out, channels in / group, *kernel)
    dtype : numpy.dtype
        int8 or uint8.
    group : int
        Groups the channels fall into.
    """

    def __init__(self, w: npt.ArrayLike, group: int) -> None:
        array = quantized("w", w)
        if array.ndim < 3:
            raise ValueError(f"w must have shape (channels out, channels in / group, *kernel), got {array.shape}")
        if not all(array.shape[2:]):
            raise ValueError(f"w must have no empty kernel axis, got shape {array.shape}")
        if isinstance(group, bool) or not isinstance(group, (int, np.integer)):
            raise TypeError(f"group must be an int, got {type(group).__name__}")
        if group < 1 or array.shape[0] % group:
            raise ValueError(f"group must divide the {array.shape[0]} output channels of w, got {group}")
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.group = int(group)
        # K runs over the offsets of the window and, innermost, the channels; see im2col.
        moved = np.moveaxis(moved_to_int8(array), 1, -1)
        shape = self.group, array.shape[0] // self.group, math.prod(array.shape[1:])
        self.rows: npt.NDArray[np.int8] = moved.reshape(shape).copy()
        self.rows.setflags(write=False)
        self.row_sums: npt.NDArray[np.int32] = self.rows.sum(axis=2, dtype=np.int32).reshape(-1)
        self._packed: dict[str, list[npt.NDArray[np.int8]]] = {}
        #: Native programs made for these weights, by what else they depend on; see `native_conv`.
        self.programs: dict[Any, Any] = {}

    @property
    def taps(self) -> int:
        """Places inside the window."""
        return math.prod(self.shape[2:])

    def for_kernel(self, kernel: Kernel) -> list[npt.NDArray[np.int8]]:
        """The left operand of each group, packed for `kernel`."""
        found = self._packed.get(kernel.layout)
        if found is None:
            # Two threads that come first together make the same, of which one is kept.
            found = self._packed.setdefault(kernel.layout, [pack_rows(kernel, rows, self.taps) for rows in self.rows])
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.unpack(), self.group)

    def __repr__(self) -> str:
        return f"PackedWeights(shape={self.shape}, dtype={self.dtype}, group={self.group})"

    def unpack(self) -> Quantized:
        """The original weights: shape `shape`, type `dtype`, a new array."""
        out, inner, *window = self.shape
        moved: Quantized = np.moveaxis(self.rows.reshape(out, *window, inner), -1, 1).copy()
        return np.bitwise_xor(moved.view(np.uint8), np.uint8(0x80)) if self.dtype == np.uint8 else moved


#: The packers that gather take K by so many.
TURN = 4


def packed_depth(kernel: Kernel, depth: int, taps: int) -> int:
    """K of the packed operands: windows of several taps are gathered, which makes K a multiple of four."""
    step = kernel.kr if taps == 1 else TURN
    return -(-depth // step) * step


def pack_rows(kernel: Kernel, rows: npt.NDArray[np.int8], taps: int) -> npt.NDArray[np.int8]:
    """Pack int8 `rows`, shape (m, k), C-ordered, as the left operand of `kernel` for windows of so many taps."""
    if not kernel.native:
        return rows
    depth = packed_depth(kernel, rows.shape[1], taps)
    rows = np.pad(rows, ((0, 0), (0, depth - rows.shape[1])))
    m, k = rows.shape
    packed = layouts.aligned(m * k)
    # Strides 1 and k; the last m % 8 rows in panels of their own, without rows of zeros.
    fields = (address(rows), address(packed), k, m, 1, k, 1, 0)
    library.load().function(layouts.PACKERS[kernel.kr, kernel.nr])(struct.pack("=8q", *fields))
    return packed


def _restore(w: Quantized, group: int) -> PackedWeights:
    return PackedWeights(w, group)


def pack_conv(w: npt.ArrayLike, *, group: int = 1, kernel: str | None = None) -> PackedWeights:
    """Pack the weights of a convolution, to use them for many images.

    Parameters
    ----------
    w : array_like of int8 or uint8, shape (channels out, channels in / group, *kernel)
    group : int
        Groups that input and output channels fall into.
    kernel : str, optional
        Name of the kernel to pack for; by default the one that `kernels.select` chooses. Any kernel may use the result.

    Returns
    -------
    PackedWeights
        For `conv_integer` and `qlinear_conv` in the place of `w`.

    Raises
    ------
    TypeError
        If `w` is neither int8 nor uint8, or `group` is not an int.
    ValueError
        If `w` has fewer than three dimensions or `group` does not divide its output channels.

    Examples
    --------
    >>> pack_conv(np.ones((8, 2, 3, 3), np.int8), group=2)
    PackedWeights(shape=(8, 2, 3, 3), dtype=int8, group=2)
    """
    packed = PackedWeights(w, group)
    packed.for_kernel(kernels.select(kernel))
    return packed
