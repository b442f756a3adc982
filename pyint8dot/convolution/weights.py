"""The weights of a convolution as the left operand of matrix products, packed once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.arguments import quantized
from pyint8dot.engine import dispatch, kernels
from pyint8dot.engine.immutable import Immutable, frozen
from pyint8dot.engine.packing import moved_to_int8

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyint8dot.arguments import Quantized
    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.layouts import Layout


class PackedWeights(Immutable):
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

    __slots__ = ("_packed", "_rows", "_surplus", "dtype", "group", "lowered", "programs", "row_sums", "shape")

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    group: int
    row_sums: npt.NDArray[np.int32]
    #: Native programs made for these weights, by what else they depend on; see `pyint8dot.convolution.program`.
    programs: dict[Any, Any]
    #: What `pyint8dot.conv` made of these weights and other constants, by the constants.
    lowered: dict[Any, Any]
    _rows: npt.NDArray[np.int8]
    # The left operand of each group, by name of layout and K.
    _packed: dict[Any, list[npt.NDArray[np.int8]]]
    # See `surplus`, by layout of the left operand.
    _surplus: dict[Layout, npt.NDArray[np.int32]]

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
        # K runs over the offsets of the window and, innermost, the channels; see im2col.
        moved = np.moveaxis(moved_to_int8(array), 1, -1)
        shape = int(group), array.shape[0] // int(group), math.prod(array.shape[1:])
        rows = moved.reshape(shape).copy()
        sums = rows.sum(axis=2, dtype=np.int32).reshape(-1)
        rows, sums = frozen(rows), frozen(sums)
        self._fill(
            shape=array.shape, dtype=array.dtype, group=int(group), _rows=rows, row_sums=sums, _packed={}, _surplus={},
            programs={}, lowered={},
        )  # fmt: skip

    @property
    def rows(self) -> npt.NDArray[np.int8]:
        """The weights as int8, shape (group, channels out / group, K), read-only; K ends with the channels."""
        return self._rows

    @property
    def taps(self) -> int:
        """Places inside the window."""
        return math.prod(self.shape[2:])

    @property
    def depthwise(self) -> bool:
        """Whether each channel has windows of its own, so few that they are no tile of a product."""
        return self.group > 1 and self.shape[1] == 1 and self.shape[0] // self.group < tile_rows()

    def for_kernel(self, kernel: Kernel) -> list[npt.NDArray[np.int8]]:
        """The left operand of each group, packed for `kernel`."""
        key = kernel.left, kernel.native
        found = self._packed.get(key)
        if found is None:
            # Two threads that come first together make the same, of which one is kept.
            found = self._packed.setdefault(key, [pack_rows(kernel, rows, self.taps) for rows in self._rows])
        return found

    def surplus(self, kernel: Kernel) -> npt.NDArray[np.int32] | None:
        """What `kernel` adds to the sums of each output channel when the columns are complemented, None where it does not want that."""
        if not kernel.complement:
            return None
        found = self._surplus.get(kernel.left)
        if found is None:
            each = [kernel.left.upper_sums(rows.T) for rows in self._rows]
            found = self._surplus.setdefault(kernel.left, frozen(np.concatenate(each)))
        return found

    def twin(self) -> PackedWeights:
        """The same weights for what is kept in `lowered`, which must not lead back here: all is freed with its last reference."""
        twin = object.__new__(PackedWeights)
        twin._fill(lowered={}, **{name: getattr(self, name) for name in PackedWeights.__slots__ if name != "lowered"})
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.unpack(), self.group)

    def __repr__(self) -> str:
        return f"PackedWeights(shape={self.shape}, dtype={self.dtype}, group={self.group})"

    def unpack(self) -> Quantized:
        """The original weights: shape `shape`, type `dtype`, a new array."""
        out, inner, *window = self.shape
        moved: Quantized = np.moveaxis(self.rows.reshape(out, *window, inner), -1, 1).copy()
        return np.bitwise_xor(moved.view(np.uint8), np.uint8(0x80)) if self.dtype == np.uint8 else moved


def packed_depth(kernel: Kernel, depth: int, taps: int) -> int:
    """K of the packed operands: the columns of windows of several taps are gathered, those of one tap packed."""
    layout = kernel.each_call(kernel.right)
    return layout.depth(depth) if taps == 1 else layout.gathered_depth(depth)


def pack_rows(kernel: Kernel, rows: npt.NDArray[np.int8], taps: int) -> npt.NDArray[np.int8]:
    """Pack int8 `rows`, shape (m, k), C-ordered, as the left operand of `kernel` for windows of so many taps."""
    if not kernel.native:
        return rows
    depth = packed_depth(kernel, rows.shape[1], taps)
    whole = rows
    if depth != rows.shape[1]:
        whole = np.zeros((len(rows), depth), np.int8)
        whole[:, : rows.shape[1]] = rows
    return kernel.left.pack(whole, k_axis=1, mn_axis=0)


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
        Name of the kernel to pack for; by default the one that `dispatch.select` chooses. Any kernel may use the result.

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
    chosen = dispatch.select(kernel)
    # Depthwise convolutions are no products.
    if not packed.depthwise:
        packed.for_kernel(chosen)
    return packed


def tile_rows() -> int:
    """Rows of a tile: groups with fewer output channels would leave most of it idle."""
    return max(kernel.mr for kernel in kernels.KERNELS.values())
