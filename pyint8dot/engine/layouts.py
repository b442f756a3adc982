"""The packed layouts of the kernels' operands, in numpy: this is their definition.

A packed operand is a row of panels. A panel holds `r` neighbouring columns ("mn" is the operand's m
or n axis, whichever it has beside k), the last panel padded with zero columns. Inside a panel the
values lie K-outer, `kr` values of one
column next to each other, K padded with zeros to a multiple of `kr`::

    element (k, j) of a panel is at  (k // kr) * r * kr  +  j * kr  +  k % kr

`PackedI8K4(r)` has kr = 4, `PackedFormat(r)` has kr = 1, and `RowMajor` is the plain C-ordered (k,
mn) array, which is one panel as wide as the operand.

Each layout has two producers, which agree to the byte: `pack`, from a strided view that is all
there, and `writer`, which is handed the rows of k one after another, as a convolution makes them.
"""

from __future__ import annotations

import functools
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.library import address

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Int8Array = NDArray[np.int8]

__all__ = [
    "LAYOUTS",
    "Layout",
    "PackedFormat",
    "PackedI8K4",
    "RowMajor",
    "Writer",
    "aligned",
    "layout",
    "moved_to_int8",
    "pack_into",
]

#: The native packer of a layout, by its (kr, r).
PACKERS = {(4, 8): "pack_i8k4", (1, 8): "pack_i8"}

#: Moves uint8 to int8 when a packer xors it into every word.
FLIP = 0x80808080

_PACK = struct.Struct("=8q")

#: Packed buffers begin on a cache line, so that no load of a kernel straddles two.
ALIGNMENT = 64


def moved_to_int8(x: NDArray[Any]) -> Int8Array:
    """Return int8 or uint8 `x` as int8: uint8 values are moved down by 128, which flipping the top bit does exactly."""
    if x.dtype == np.uint8:
        x = np.bitwise_xor(x, np.uint8(0x80)).view(np.int8)
    return x


def aligned(size: int) -> Int8Array:
    """Return an uninitialised int8 array of `size` bytes that begins on a cache line."""
    store = np.empty(size + ALIGNMENT - 1, np.int8)
    start = -address(store) % ALIGNMENT
    return store[start : start + size]


@dataclass(frozen=True, repr=False)
class Layout:
    """A packed layout: panels of `r` columns, with `kr` values of one column next to each other."""

    r: int
    kr = 1

    def __post_init__(self) -> None:
        if isinstance(self.r, bool) or not isinstance(self.r, (int, np.integer)):
            raise TypeError(f"r must be an int, got {type(self.r).__name__}")
        if self.r < 1:
            raise ValueError(f"r must be at least 1, got {self.r}")
        # The sizes that follow from a numpy integer would overflow.
        object.__setattr__(self, "r", int(self.r))

    @property
    def name(self) -> str:
        """The layout's name, such as ``"PackedI8K4(8)"``; `layout` turns it back."""
        return f"{type(self).__name__}({self.r})"

    def __repr__(self) -> str:
        return self.name

    def panels(self, k: int, mn: int) -> tuple[int, int, int, int]:
        """Shape of the packed data of a (k, mn) operand: (panels, groups of k, r, kr)."""
        return -(-mn // self.r), -(-k // self.kr), self.r, self.kr

    def size(self, k: int, mn: int) -> int:
        """Bytes of a packed (k, mn) operand."""
        panels, groups, r, kr = self.panels(k, mn)
        return panels * groups * r * kr

    def pack(self, x: ArrayLike, *, k_axis: int, mn_axis: int) -> Int8Array:
        """Pack a two-dimensional int8 array.

        Parameters
        ----------
        x : array_like of int8, two-dimensional
            The operand, with any strides.
        k_axis, mn_axis : int
            Which axis of `x` is k and which is the other; negative numbers count from the last.

        Returns
        -------
        ndarray of int8, shape (size(k, mn),)
            The packed bytes.

        Raises
        ------
        TypeError
            `x` is not int8.
        ValueError
            `x` is not two-dimensional, or the axes are not its two axes.

        Examples
        --------
        >>> PackedFormat(2).pack(np.array([[1, 2, 3], [4, 5, 6]], np.int8), k_axis=0, mn_axis=1)
        array([1, 2, 4, 5, 3, 0, 6, 0], dtype=int8)
        """
        view = oriented(x, k_axis, mn_axis)
        out = aligned(self.size(*view.shape))
        pack_into(self, view, out)
        return out

    def writer(self, k: int, mn: int) -> Writer:
        """Return a writer of a (k, mn) operand that takes the rows of k one after another."""
        return Writer(self, k, mn)

    def unpack(self, data: Int8Array, k: int, mn: int) -> Int8Array:
        """Return the (k, mn) operand that packed `data` holds, as a new C-ordered array.

        Raises
        ------
        ValueError
            `data` does not have the size of such an operand.
        """
        if data.shape != (self.size(k, mn),):
            raise ValueError(
                f"data must have shape ({self.size(k, mn)},) for k={k}, mn={mn} in {self.name}, got {data.shape}"
            )
        panels, groups, r, kr = self.panels(k, mn)
        data = np.ascontiguousarray(data)
        words = (data.view(np.int32) if kr == 4 else data).reshape(panels, groups, r).transpose(1, 0, 2)
        columns = np.ascontiguousarray(words).view(np.int8).reshape(groups, panels * r, kr)
        rows = np.empty((groups, kr, panels * r), np.int8)
        for i in range(kr):
            rows[:, i] = columns[:, :, i]
        return np.array(rows.reshape(groups * kr, panels * r)[:k, :mn], order="C")


class PackedI8K4(Layout):
    """Panels of `r` columns with K in groups of four, as SDOT multiplies them.

    Parameters
    ----------
    r : int
        Columns of a panel.
    """

    kr = 4


class PackedFormat(Layout):
    """Panels of `r` columns, K-major: all columns of one k, then those of the next.

    Parameters
    ----------
    r : int
        Columns of a panel.
    """


class RowMajor(Layout):
    """The plain (k, mn) array in C order, which the portable kernel reads."""

    def __init__(self) -> None:
        super().__init__(1)

    @property
    def name(self) -> str:
        """The layout's name."""
        return "RowMajor"

    def panels(self, k: int, mn: int) -> tuple[int, int, int, int]:
        """Shape of the data: one panel as wide as the operand."""
        return 1, k, mn, 1


LAYOUTS: dict[str, type[PackedI8K4 | PackedFormat]] = {"PackedI8K4": PackedI8K4, "PackedFormat": PackedFormat}


@functools.cache
def layout(name: str) -> Layout:
    """Return the layout called `name`, such as ``"PackedI8K4(8)"`` or ``"RowMajor"``.

    Raises
    ------
    ValueError
        There is no such layout.
    """
    if name == "RowMajor":
        return RowMajor()
    match = re.fullmatch(r"(\w+)\(([1-9]\d{0,5})\)", name)
    if match is None or match[1] not in LAYOUTS:
        raise ValueError(f"unknown layout {name!r}: it must be RowMajor, PackedI8K4(r) or PackedFormat(r)")
    return LAYOUTS[match[1]](int(match[2]))


def oriented(x: ArrayLike, k_axis: int, mn_axis: int) -> Int8Array:
    """Return `x` as a view of shape (k, mn), after the checks that `Layout.pack` documents."""
    array = np.asarray(x)
    if array.ndim != 2:
        raise ValueError(f"x must be two-dimensional, got {array.ndim} dimension(s)")
    if array.dtype != np.int8:
        raise TypeError(f"x must be int8, got {array.dtype}")
    if {k_axis % 2, mn_axis % 2} != {0, 1} or not (-2 <= k_axis < 2 and -2 <= mn_axis < 2):
        raise ValueError(f"k_axis and mn_axis must be the two axes of x, got k_axis={k_axis}, mn_axis={mn_axis}")
    return array if k_axis % 2 == 0 else array.T


def pack_into(layout: Layout, x: NDArray[Any], out: Int8Array) -> None:
    """Fill `out`, all of `layout.size(k, mn)` bytes of it, with the packed form of `x`.

    The native packers make the panels of 8 that the kernels read; everything else, and every
    machine without them, is served by numpy.

    Parameters
    ----------
    layout : Layout
    x : ndarray of int8 or uint8, shape (k, mn)
        Any strides; uint8 is moved to int8.
    out : ndarray of int8, contiguous
    """
    stem = PACKERS.get((layout.kr, layout.r))
    if stem is not None and library.status() is None:
        flip = FLIP if x.dtype == np.uint8 else 0
        fields = (address(x), address(out), *x.shape, *x.strides, 0, flip)
        library.load().function(stem)(_PACK.pack(*fields))
    else:
        pack_by_numpy(layout, moved_to_int8(x), out)


def pack_by_numpy(layout: Layout, x: Int8Array, out: Int8Array) -> None:
    """Do what `pack_into` promises, in numpy."""
    k, mn = x.shape
    shape = layout.panels(k, mn)
    groups, kr = k // layout.kr, layout.kr
    target = out.reshape(shape)
    _fill(target[:, :groups], x[: groups * kr])
    if groups < shape[1]:
        # The last, partial group of k becomes a whole one of its own, with zeros below.
        rest = np.zeros((kr, mn), np.int8)
        rest[: k - groups * kr] = x[groups * kr :]
        _fill(target[:, groups:], rest)


def _fill(target: Int8Array, x: Int8Array) -> None:
    """Pack `x`, whose k is a multiple of kr, into `target` of shape (panels, groups, r, kr)."""
    panels, groups, r, kr = target.shape
    mn = x.shape[1]
    whole = mn // r if r else 0
    words = _words(x, groups, kr)
    wide = target.reshape(panels, groups, r * kr) if kr == 1 else target
    cells = wide.view(words.dtype).reshape(panels, groups, r)
    if whole == 1:
        cells[0] = words[:, :r]
    elif mn > 1 and words.strides[1] == words.itemsize:
        # Neighbouring columns are neighbours in memory, so a whole panel row moves as one opaque
        # item.
        row = np.dtype((np.void, r * kr))
        cells.view(row)[:whole, :, 0] = words[:, : whole * r].view(row).T
    else:
        for j in range(r):
            cells[:whole, :, j] = words[:, j : whole * r : r].T
    if whole < panels:
        cells[whole, :, : mn - whole * r] = words[:, whole * r :]
        cells[whole, :, mn - whole * r :] = 0


def _words(x: Int8Array, groups: int, kr: int) -> NDArray[Any]:
    """Return `x`, shape (groups * kr, mn), as (groups, mn) items, each the kr values of one column and group."""
    if kr == 1:
        return x
    mn = x.shape[1]
    if x.strides[0] == 1 and x.shape[0] > 1:
        words: NDArray[Any] = x.T.view(np.int32).T
        return words
    mixed = np.empty((groups, mn, kr), np.int8)
    for i in range(kr):
        mixed[:, :, i] = x[i::kr]
    return mixed.view(np.int32)[:, :, 0]


class Writer:
    """Packs a (k, mn) operand that arrives row of k by row of k.

    Made by `Layout.writer`.
    """

    __slots__ = ("_data", "_done", "_target", "k", "layout", "mn")

    def __init__(self, layout: Layout, k: int, mn: int) -> None:
        if k < 0 or mn < 0:
            raise ValueError(f"k and mn must not be negative, got k={k}, mn={mn}")
        self.layout, self.k, self.mn = layout, k, mn
        self._data = aligned(layout.size(k, mn))
        self._data.fill(0)
        self._target = self._data.reshape(layout.panels(k, mn))
        self._done = 0

    def write(self, rows: ArrayLike) -> None:
        """Add the next row of k, or the next block of rows.

        Parameters
        ----------
        rows : array_like of int8, shape (mn,) or (any, mn)

        Raises
        ------
        TypeError
            `rows` is not int8.
        ValueError
            `rows` has another length, or there are more rows than `k`.
        """
        block = np.asarray(rows)
        if block.dtype != np.int8:
            raise TypeError(f"rows must be int8, got {block.dtype}")
        if block.ndim not in (1, 2) or block.shape[-1] != self.mn:
            raise ValueError(f"rows must have shape ({self.mn},) or (any, {self.mn}), got {block.shape}")
        block = block[None] if block.ndim == 1 else block
        count = block.shape[0]
        if self._done + count > self.k:
            raise ValueError(f"rows must be {self.k} in all, got {self._done + count}")
        _, _, r, kr = self.layout.panels(self.k, self.mn)
        whole = self.mn // r if r else 0
        split = whole * r
        for i in range(kr):
            # The rows whose place in their group of k is i, and the groups they belong to.
            lane = block[(i - self._done) % kr :: kr]
            first = -(-(self._done - i) // kr)
            groups = slice(first, first + lane.shape[0])
            self._target[:whole, groups, :, i] = lane[:, :split].reshape(lane.shape[0], whole, r).transpose(1, 0, 2)
            if split < self.mn:
                self._target[whole, groups, : self.mn - split, i] = lane[:, split:]
        self._done += count

    def finish(self) -> Int8Array:
        """Return the packed bytes, shape (size(k, mn),).

        Raises
        ------
        ValueError
            Fewer than `k` rows have been written.
        """
        if self._done != self.k:
            raise ValueError(f"rows must be {self.k} in all, got {self._done}")
        return self._data
