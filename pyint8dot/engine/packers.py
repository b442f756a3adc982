"""What fills a packed layout: numpy, which is the definition, and the library where it has an entry for the layout."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pyint8dot.engine import library, program
from pyint8dot.engine.library import address
from pyint8dot.engine.program import LEFT, LEFT_STRIDE_K, LEFT_STRIDE_M, RESULT, RIGHT, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    Int8Array = NDArray[np.int8]

__all__ = ["FEW_BYTES", "Writer", "aligned", "moved_to_int8", "pack_by_numpy", "pack_into", "word"]


class Layout(Protocol):
    """What is asked of a layout here; `pyint8dot.engine.layouts` has them."""

    kr: int

    @property
    def r(self) -> int: ...
    @property
    def split(self) -> bool: ...
    @property
    def complement(self) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def packer(self) -> str | None: ...
    def flip(self, dtype: np.dtype[Any]) -> int: ...
    def size(self, k: int, mn: int) -> int: ...
    def panels(self, k: int, mn: int) -> tuple[int, int, int, int]: ...
    def parts(self, k: int, mn: int) -> Iterator[tuple[Layout, slice, int]]: ...


#: Items of so many bytes move as one number.
_WORDS: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.int8),
    2: np.dtype(np.int16),
    4: np.dtype(np.int32),
    8: np.dtype(np.int64),
}

#: Bytes of an operand that are packed sooner than numpy has made a copy, however they lie.
FEW_BYTES = 512

#: Packed buffers begin on a cache line, so that no load of a kernel straddles two.
ALIGNMENT = 64


def moved_to_int8(x: NDArray[Any]) -> Int8Array:
    """Return int8 or uint8 `x` as int8: uint8 values are moved down by 128, which flipping the top bit does exactly."""
    if x.dtype == np.uint8:
        x = np.bitwise_xor(x, np.uint8(0x80)).view(np.int8)
    return x


def word(kr: int) -> np.dtype[Any]:
    """The type of one item of a layout: `kr` bytes."""
    return _WORDS.get(kr, np.dtype((np.void, kr)))


def aligned(size: int) -> Int8Array:
    """Return an uninitialised int8 array of `size` bytes that begins on a cache line."""
    store = np.empty(size + ALIGNMENT - 1, np.int8)
    start = -address(store) % ALIGNMENT
    return store[start : start + size]


@functools.lru_cache(maxsize=64)
def _tail(packer: str, split: bool, flip: int, *, objects: bool) -> bytes:
    """The program of a packer behind the words of its head: matrices of all sizes share it, with K in the place of B."""
    out = program.Program()
    out.pack(
        packer, source=LEFT, packed=RESULT, k=RIGHT, mn=ROWS, stride_k=LEFT_STRIDE_K, stride_mn=LEFT_STRIDE_M,
        split=int(split), flip=flip,
    )  # fmt: skip
    return out.tail(RIGHT.number + 1, (LEFT, RESULT) if objects else ())


_head = struct.Struct(f"{RIGHT.number + 1}q").pack


def pack_into(layout: Layout, x: NDArray[Any], out: Int8Array) -> None:
    """Fill `out` with the packed form of `x`.

    Parameters
    ----------
    layout : Layout
    x : ndarray of int8 or uint8, shape (k, mn)
        Any strides; uint8 is moved to int8.
    out : ndarray of int8, shape (layout.size(k, mn),)
        Contiguous and writeable.

    Raises
    ------
    TypeError
        `out` is not int8.
    ValueError
        `out` has another shape, is not contiguous or is read-only.
    """
    k, mn = x.shape
    size = layout.size(k, mn)
    if out.dtype != np.int8:
        raise TypeError(f"out must be int8, got {out.dtype}")
    if out.shape != (size,):
        raise ValueError(f"out must have shape {(size,)}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if not out.flags.c_contiguous:
        raise ValueError("out must be contiguous")
    if not size:
        return  # also where k or mn is beyond what an address can be
    if layout.packer is not None and library.status() is None:
        if 1 not in x.strides and x.size > FEW_BYTES:
            # Byte by byte it is packed in several times as many instructions as numpy copies it.
            x = np.ascontiguousarray(x)
        tail = _tail(layout.packer, layout.split, layout.flip(x.dtype), objects=library.LAYOUT_KNOWN)
        at = id if library.LAYOUT_KNOWN else address
        stride_k, stride_mn = x.strides
        program.run_entry()(_head(at(x), at(out), mn, stride_k, stride_mn, 0, 0, 0, k) + tail)
    else:
        pack_by_numpy(layout, moved_to_int8(x), out)


def pack_by_numpy(layout: Layout, x: Int8Array, out: Int8Array) -> None:
    """Do what `pack_into` promises, in numpy."""
    k, mn = x.shape
    if layout.split:
        done = 0
        for part, at, width in layout.parts(k, mn):
            pack_by_numpy(part, x[:, done : done + width], out[at])
            done += width
        return
    shape = layout.panels(k, mn)
    groups, kr = k // layout.kr, layout.kr
    target = out.reshape(shape)
    _fill(target[:, :groups], x[: groups * kr])
    if groups < shape[1]:
        # The last, partial group of k becomes a whole one of its own, with zeros below.
        rest = np.zeros((kr, mn), np.int8)
        rest[: k - groups * kr] = x[groups * kr :]
        _fill(target[:, groups:], rest)
    if layout.complement:
        complement_upper(target)


def complement_upper(packed: Int8Array) -> None:
    """Complement the upper half of each K group of packed bytes, shape (..., kr), in place."""
    upper = packed[..., packed.shape[-1] // 2 :]
    np.invert(upper, out=upper)


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
        target[whole, :, mn - whole * r :] = 0


def _words(x: Int8Array, groups: int, kr: int) -> NDArray[Any]:
    """Return `x`, shape (groups * kr, mn), as (groups, mn) items, each the kr values of one column and group."""
    if kr == 1:
        return x
    mn = x.shape[1]
    if x.strides[0] == 1 and x.shape[0] > 1:
        words: NDArray[Any] = x.T.view(word(kr)).T
        return words
    mixed = np.empty((groups, mn, kr), np.int8)
    for i in range(kr):
        mixed[:, :, i] = x[i::kr]
    return mixed.view(word(kr))[:, :, 0]


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
        if layout.complement:
            complement_upper(self._target)
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
            if self.layout.complement and i >= kr // 2:
                lane = ~lane
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
