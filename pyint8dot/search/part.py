"""A part of an index: vectors packed for a kernel, with what else is known of each. An index is a row of parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import dispatch, kernels, packers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyint8dot.engine.layouts import Layout
    from pyint8dot.search.vectors import Codes, Float32

__all__ = ["MOST", "Part", "native_layout"]

#: Vectors of a part that grows; a search goes from part to part, so they are not small, and growing one copies it.
MOST = 65536

LEAST = 256


def native_layout() -> Layout:
    """The layout that the best native kernel of this machine reads, or of all kernels where none runs here."""
    rows = [kernels.KERNELS[name] for name in dispatch.supported()] + list(kernels.KERNELS.values())
    return next(row.each_call(row.right) for row in rows if row.native)


class Part:
    """So many vectors, their panels one after the other.

    Parameters
    ----------
    dim : int
    layout : Layout
    more : dict of str to dtype
        What is kept of each vector beside its codes, as rows of `dim` values, by name.
    """

    def __init__(self, dim: int, layout: Layout, more: dict[str, np.dtype[Any]]) -> None:
        self.dim = dim
        self.count = 0
        self.dead = 0
        #: Whether the panels are those of a file and stay as they are.
        self.mapped = False
        #: The layout and the vectors in it: a pair, since a search in another thread may see it replaced.
        self.packed: tuple[Layout, Codes] = layout, packers.aligned(0)
        #: NaN for a vector that was removed.
        self.factors: Float32 = np.empty(0, np.float32)
        self.ids: NDArray[np.int64] = np.empty(0, np.int64)
        self.more: dict[str, NDArray[Any]] = {name: np.empty((0, dim), dtype) for name, dtype in more.items()}
        #: The file of each array, where it is as that has it; that of the vectors by the layout they have there.
        self.files: dict[str, Any] = {}
        self._order: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def layout(self) -> Layout:
        """The layout of the vectors."""
        return self.packed[0]

    @property
    def panels(self) -> Codes:
        """The packed vectors, which may be followed by room for more."""
        return self.packed[1]

    @property
    def room(self) -> int:
        """How many vectors may still be added."""
        return 0 if self.mapped else MOST - self.count

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays: list[NDArray[Any]] = [self.panels, self.factors, self.ids, *self.more.values()]
        return sum(each.nbytes for each in arrays)

    def append(self, codes: Codes, factors: Float32, ids: NDArray[np.int64], more: dict[str, NDArray[Any]]) -> None:
        """Add vectors, at most as many as there is room for."""
        end = self.count + len(codes)
        self._grow(end)
        # The last panel is made anew where it is not full.
        start = self.count - self.count % self.layout.r
        if start < self.count:
            codes = np.concatenate([self.codes(start, self.count), codes])
        at = start * self.layout.depth(self.dim)
        size = self.layout.size(self.dim, end - start)
        packers.pack_into(self.layout, codes.T, self.panels[at : at + size])
        self.factors[self.count : end] = factors
        self.ids[self.count : end] = ids
        for name, rows in more.items():
            self.more[name][self.count : end] = rows
        self.count = end
        self.changed()

    def _grow(self, end: int) -> None:
        if end <= len(self.ids):
            return
        room = min(MOST, max(LEAST, end, 2 * len(self.ids)))
        panels = packers.aligned(self.layout.size(self.dim, room))
        panels[: len(self.panels)] = self.panels
        self.packed = self.layout, panels
        self.factors = _longer(self.factors, room)
        self.ids = _longer(self.ids, room)
        self.more = {name: _longer(rows, room) for name, rows in self.more.items()}

    def changed(self, *names: str) -> None:
        """Say that these arrays are not what their files have any more; all of them where none is named."""
        for name in names or tuple(self.files):
            self.files.pop(name, None)
        self._order = None

    def codes(self, start: int, end: int) -> Codes:
        """The codes of vectors from one to another, shape (end - start, dim)."""
        layout, panels = self.packed
        first = start - start % layout.r
        at = first * layout.depth(self.dim)
        data = panels[at : at + layout.size(self.dim, end - first)]
        return np.ascontiguousarray(layout.unpack(data, self.dim, end - first).T[start - first :])

    def codes_of(self, columns: NDArray[np.int64]) -> Codes:
        """The codes of some vectors, shape (len(columns), dim)."""
        layout, data = self.packed
        r = layout.r
        panels = data[: layout.size(self.dim, self.count)].reshape(layout.panels(self.dim, self.count))
        codes: Codes = panels[columns // r, :, columns % r].reshape(len(columns), -1)[:, : self.dim]
        if layout.complement:
            # Indexing has made a copy.
            codes[:, layout.upper(self.dim)] ^= -1
        return codes

    def taken(self, layout: Layout | None, start: int, end: int) -> tuple[Layout, Codes]:
        """Vectors from one that begins a panel to another in `layout`, or in the one they have where that is None."""
        have, panels = self.packed
        if layout is None or layout.name == have.name:
            return have, panels[start * have.depth(self.dim) :]
        if self.mapped:
            return layout, layout.pack(self.codes(start, end), k_axis=1, mn_axis=0)
        return layout, self.convert(layout)[start * layout.depth(self.dim) :]

    def convert(self, layout: Layout) -> Codes:
        """Bring the vectors into another layout; two threads that come together make the same."""
        panels = packers.aligned(layout.size(self.dim, len(self.ids)))
        # Panels of both layouts begin at multiples of this.
        step = math.lcm(layout.r, self.layout.r) * LEAST
        for start in range(0, self.count, step):
            end = min(start + step, self.count)
            at = start * layout.depth(self.dim)
            packers.pack_into(layout, self.codes(start, end).T, panels[at : at + layout.size(self.dim, end - start)])
        self.packed = layout, panels
        return panels

    def alive(self) -> NDArray[np.bool_]:
        """Which vectors have not been removed."""
        return ~np.isnan(self.factors[: self.count])

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The column of each id, -1 for those that are not here."""
        if self._order is None:
            columns = np.flatnonzero(self.alive())
            there = self.ids[: self.count][columns]
            order = np.argsort(there, kind="stable")
            self._order = there[order], columns[order]
        known, columns = self._order
        if not len(known):
            return np.full(len(ids), -1, np.int64)
        slots = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[slots] == ids, columns[slots], -1)

    def remove(self, columns: NDArray[np.int64]) -> None:
        """Remove vectors."""
        if not self.factors.flags.writeable:
            self.factors = self.factors.copy()
        self.factors[columns] = np.nan
        self.dead += len(columns)
        self.changed("factors")

    def without_dead(self) -> Part:
        """A part of the vectors that have not been removed."""
        made = Part(self.dim, self.layout, {name: rows.dtype for name, rows in self.more.items()})
        columns = np.flatnonzero(self.alive())
        made._grow(len(columns))
        for start in range(0, len(columns), LEAST * self.layout.r):
            some = columns[start : start + LEAST * self.layout.r]
            made.append(
                self.codes_of(some), self.factors[some], self.ids[some], {name: rows[some] for name, rows in self.more.items()}
            )  # fmt: skip
        return made


def _longer(rows: NDArray[Any], room: int) -> NDArray[Any]:
    grown = np.empty((room, *rows.shape[1:]), rows.dtype)
    grown[: len(rows)] = rows
    return grown
