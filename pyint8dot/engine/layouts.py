"""The packed layouts of the kernels' operands, in numpy: this is their definition.

A packed operand is a row of panels. A panel holds `r` neighbouring columns ("mn" is the operand's m
or n axis, whichever it has beside k), the last panel padded with zero columns. Inside a panel the
values lie K-outer, `kr` values of one
column next to each other, K padded with zeros to a multiple of `kr`::

    element (k, j) of a panel is at  (k // kr) * r * kr  +  j * kr  +  k % kr

`PackedI8K4(r)` has kr = 4, `PackedI8K8(r)` has kr = 8, `PackedFormat(r)` has kr = 1, and `RowMajor` is the plain C-ordered (k,
mn) array, which is one panel as wide as the operand.

A left operand ends otherwise: its last mn % r rows are panels of r / 2, r / 4 ... 1, as the bits of the
remainder say, so that no product is spent on a row that does not exist. That is the layout with ``split=True``.

With ``complement=True`` every byte of the upper half of each K group is complemented, those that fill up K and mn as well. A kernel that
wants one operand so says why at the head of its file.

Each layout has two producers, which agree to the byte: `pack`, from a strided view that is all
there, and `writer`, which is handed the rows of k one after another, as a convolution makes them.
`NATIVE` says which entries of the library do the same.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.arguments import an_int, plain
from pyint8dot.engine import library, program
from pyint8dot.engine.packers import Writer, aligned, moved_to_int8, pack_into, word

if TYPE_CHECKING:
    from collections.abc import Iterator

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


#: What the name of a layout says where it is complemented.
COMPLEMENT = ", complement"


@dataclass(frozen=True, repr=False)
class Layout:
    """A packed layout: panels of `r` columns, with `kr` values of one column next to each other.

    With `split` the last columns are panels of their own, r / 2, r / 4 ... 1 wide, and no column is added. With `complement` the bytes
    of the upper half of each K group are complemented.
    """

    r: int
    split: bool = field(default=False, kw_only=True)
    complement: bool = field(default=False, kw_only=True)
    kr = 1

    def __post_init__(self) -> None:
        if isinstance(self.r, bool) or not isinstance(self.r, (int, np.integer)):
            raise TypeError(f"r must be an int, got {type(self.r).__name__}")
        if self.r < 1:
            raise ValueError(f"r must be at least 1, got {self.r}")
        # The sizes that follow from a numpy integer would overflow.
        object.__setattr__(self, "r", int(self.r))
        if self.split and self.r & (self.r - 1):
            raise ValueError(f"r must be a power of two where the last panels are split, got {self.r}")
        if self.complement and self.kr % 2:
            raise ValueError(f"K groups of {self.kr} have no upper half to be complemented")

    @functools.cached_property
    def name(self) -> str:
        """The layout's name, such as ``"PackedI8K4(8)"``; `layout` turns it back."""
        return f"{type(self).__name__}({self.r}{COMPLEMENT if self.complement else ''})"

    @functools.cached_property
    def native(self) -> Native | None:
        """The entries of the library that pack this layout, or None where only numpy does."""
        return NATIVE.get((type(self).__name__, self.r, self.complement))

    @property
    def packer(self) -> str | None:
        """The entry that packs it from a strided view."""
        return None if self.native is None else self.native.packer

    def flip(self, dtype: np.dtype[Any]) -> int:
        """Return what its packer is to flip in values of a type, so that they are int8 and complemented as the layout is.

        Parameters
        ----------
        dtype : dtype
            int8 or uint8.

        Returns
        -------
        int
            The packer's argument ``flip``, signed: the lower 32 bits belong to the lower half of each K group, the upper to the upper.
        """
        lower = program.FLIP if dtype == np.uint8 else 0
        upper = lower ^ (2**32 - 1) if self.complement else lower
        # Arguments are signed.
        return (upper - 2**32 if upper >> 31 else upper) * 2**32 + lower

    def upper(self, k: int) -> NDArray[np.bool_]:
        """Which of `k` values lie in the upper half of their K group."""
        within: NDArray[np.bool_] = np.arange(k) % self.kr >= self.kr // 2
        return within

    def upper_sums(self, x: Int8Array) -> NDArray[np.int32]:
        """Sums over k of the values of `x`, shape (k, mn), that lie in the upper half of their K group, modulo 2**32."""
        sums: NDArray[np.int32] = x[self.upper(len(x))].sum(axis=0, dtype=np.int32)
        return sums

    def whole(self, mn: int) -> int:
        """`mn` filled up to whole panels."""
        return -(-mn // self.r) * self.r

    def depth(self, k: int) -> int:
        """Bytes of a packed column of `k` values: filled up to whole K groups."""
        return -(-k // self.kr) * self.kr

    def gathered_depth(self, k: int) -> int:
        """The same for the gathering packer, which takes the `k` values by its turn."""
        step = self.kr if self.native is None else self.native.turn
        return -(-k // step) * step

    def __repr__(self) -> str:
        return self.name

    def panels(self, k: int, mn: int) -> tuple[int, int, int, int]:
        """Shape of the packed data of a (k, mn) operand: (panels, groups of k, r, kr)."""
        return -(-mn // self.r), -(-k // self.kr), self.r, self.kr

    def size(self, k: int, mn: int) -> int:
        """Bytes of a packed (k, mn) operand."""
        if self.split:
            return mn * self.depth(k)
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
        TypeError
            `data` is not int8, or a size is no int.
        ValueError
            `data` does not have the size of such an operand.
        """
        data, k, mn = plain("data", data), an_int("k", k), an_int("mn", mn)
        if k < 0 or mn < 0:
            raise ValueError(f"k and mn must not be negative, got k={k}, mn={mn}")
        if data.dtype != np.int8:
            raise TypeError(f"data must be int8, got {data.dtype}")
        if data.shape != (self.size(k, mn),):
            raise ValueError(
                f"data must have shape ({self.size(k, mn)},) for k={k}, mn={mn} in {self.name}, got {data.shape}"
            )
        if self.split:
            return (
                np.concatenate([part.unpack(data[at], k, width) for part, at, width in self.parts(k, mn)], axis=1)
                if mn
                else np.empty((k, 0), np.int8)
            )
        panels, groups, r, kr = self.panels(k, mn)
        data = np.ascontiguousarray(data)
        words = data.view(word(kr)).reshape(panels, groups, r).transpose(1, 0, 2)
        columns = np.ascontiguousarray(words).view(np.int8).reshape(groups, panels * r, kr)
        rows = columns.transpose(0, 2, 1)
        if self.complement:
            rows = rows.copy()
            np.invert(rows[:, kr // 2 :], out=rows[:, kr // 2 :])
        return np.array(rows.reshape(groups * kr, panels * r)[:k, :mn], order="C")

    def parts(self, k: int, mn: int) -> Iterator[tuple[Layout, slice, int]]:
        """Cut a split (k, mn) operand into layouts of their own: whole panels, then each narrower one; where each lies and its columns."""
        width, done = self.r, 0
        while done < mn:
            count = (mn - done) // width * width
            if count:
                at = slice(done * self.depth(k), (done + count) * self.depth(k))
                yield type(self)(width, complement=self.complement), at, count
                done += count
            width //= 2


class PackedI8K4(Layout):
    """Panels of `r` columns with K in groups of four, as SDOT multiplies them.

    Parameters
    ----------
    r : int
        Columns of a panel.
    split : bool
        Whether the last columns are panels of their own, r / 2, r / 4 ... 1 wide, as those of a left operand are.
    complement : bool
        Whether the bytes of the upper half of each K group are complemented.
    """

    kr = 4


class PackedI8K8(Layout):
    """Panels of `r` columns with K in groups of eight, as SMMLA multiplies them.

    Parameters
    ----------
    r : int
        Columns of a panel.
    split : bool
        Whether the last columns are panels of their own, r / 2, r / 4 ... 1 wide, as those of a left operand are.
    """

    kr = 8


class PackedFormat(Layout):
    """Panels of `r` columns, K-major: all columns of one k, then those of the next.

    Parameters
    ----------
    r : int
        Columns of a panel.
    split : bool
        Whether the last columns are panels of their own, r / 2, r / 4 ... 1 wide, as those of a left operand are.
    complement : bool
        Not to be set: a K group of a single value has no upper half.
    """

    kr = 1


class PackedI8K16(Layout):
    """Panels of `r` columns with K in groups of sixteen: with `r` of 1, columns one after the other.

    Parameters
    ----------
    r : int
        Columns of a panel.
    split : bool
        Whether the last columns are panels of their own, r / 2, r / 4 ... 1 wide, as those of a left operand are.
    complement : bool
        Whether the bytes of the upper half of each K group are complemented.
    """

    kr = 16


class RowMajor(Layout):
    """The plain (k, mn) array in C order, which the portable kernel reads."""

    def __init__(self) -> None:
        super().__init__(1)

    @functools.cached_property
    def name(self) -> str:
        """The layout's name."""
        return "RowMajor"

    def panels(self, k: int, mn: int) -> tuple[int, int, int, int]:
        """Shape of the data: one panel as wide as the operand."""
        return 1, k, mn, 1


#: The families of packed layouts by name.
LAYOUTS: dict[str, type[Layout]] = {}


class Native(NamedTuple):
    """The entries of the library that make a layout."""

    #: From a strided view.
    packer: str
    #: From rows that lie anywhere; only right operands come so.
    gatherer: str | None = None
    #: How many k the gatherer takes at a time, a multiple of the K group.
    turn: int = 1
    #: Of images: their channels by K groups, planes whose pixels are panels as they lie.
    interleaver: str | None = None


#: What the library packs, by family, columns of a panel, and whether complemented.
NATIVE: dict[tuple[str, int, bool], Native] = {}


def enter(family: type[Layout], natives: dict[int, Native], complemented: dict[int, Native] | None = None) -> None:
    """Add a row of layouts: a family, and the entries that pack it by columns of a panel, as it is and complemented."""
    LAYOUTS[family.__name__] = family
    for complement, entries in ((False, natives), (True, complemented or {})):
        for r, native in entries.items():
            NATIVE[family.__name__, r, complement] = native
            library.require(*filter(None, (native.packer, native.gatherer, native.interleaver)))


enter(PackedI8K4, {8: Native("pack_i8k4", "gather_i8k4", turn=4, interleaver="interleave_i8k4")})
enter(PackedI8K8, {8: Native("pack_i8k8", "gather_i8k8", turn=8, interleaver="interleave_i8k8")})
enter(PackedFormat, {8: Native("pack_i8", "gather_i8", turn=4)})
# Right operands that are gathered come with each call, and so complemented.
enter(PackedI8K16, {4: Native("pack_i8k16")}, {4: Native("pack_i8k16", "gather_i8k16", turn=16)})


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
    match = re.fullmatch(rf"(\w+)\(([1-9]\d{{0,5}})({COMPLEMENT})?\)", name)
    if match is None or match[1] not in LAYOUTS or (match[3] and LAYOUTS[match[1]].kr % 2):
        known = ", ".join(f"{family}(r)" for family in LAYOUTS)
        raise ValueError(f"unknown layout {name!r}: it must be RowMajor or one of {known}")
    return LAYOUTS[match[1]](int(match[2]), complement=match[3] is not None)


def oriented(x: ArrayLike, k_axis: int, mn_axis: int) -> Int8Array:
    """Return `x` as a view of shape (k, mn), after the checks that `Layout.pack` documents."""
    array = plain("x", x)
    k_axis, mn_axis = an_int("k_axis", k_axis), an_int("mn_axis", mn_axis)
    if array.ndim != 2:
        raise ValueError(f"x must be two-dimensional, got {array.ndim} dimension(s)")
    if array.dtype != np.int8:
        raise TypeError(f"x must be int8, got {array.dtype}")
    axes = range(-2, 2)
    if k_axis not in axes or mn_axis not in axes or (k_axis - mn_axis) % 2 == 0:
        raise ValueError(f"k_axis and mn_axis must be the two axes of x, got k_axis={k_axis!r}, mn_axis={mn_axis!r}")
    return array if k_axis % 2 == 0 else array.T
