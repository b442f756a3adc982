"""The vectors of an index: what is kept of each, adding and removing."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyint8dot.arguments import plain
from pyint8dot.search.arguments import as_ids, positive
from pyint8dot.search.part import Part, native_layout
from pyint8dot.search.scan import Corpus
from pyint8dot.search.vectors import KEEPS, METRICS, Coded, coded, second_digits

if TYPE_CHECKING:
    from pyint8dot.search.vectors import Keep, Metric

__all__ = ["Vectors"]

#: What rescoring keeps of each vector.
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "int8": np.dtype(np.int8)}

#: The greatest id.
MOST_ID = np.iinfo(np.int64).max

#: Vectors that are made int8 and packed together, so that adding many takes little more than they do.
BATCH = 16384


class Vectors:
    """What `pyint8dot.search.Index` goes over; it documents the parameters."""

    def __init__(
        self,
        vectors: npt.ArrayLike | None = None,
        *,
        dim: int | None = None,
        metric: Metric = "cosine",
        ids: npt.ArrayLike | None = None,
        scales: npt.ArrayLike | None = None,
        keep: Keep | None = None,
    ) -> None:
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
        if keep is not None and keep not in KEEPS:
            raise ValueError(f"keep must be None or one of {', '.join(KEEPS)}, got {keep!r}")
        self._metric: str = metric
        self._keep: str | None = keep
        self._parts: list[Part] = []
        self._ascending = True
        self._next = 0
        self._lock = threading.Lock()
        #: What searches go over, made anew after a change.
        self._seen: Corpus | None = None
        if vectors is None:
            if dim is None:
                raise ValueError("dim must be given where vectors are not")
            if ids is not None or scales is not None:
                raise ValueError("ids and scales belong to vectors, of which there are none")
            self._dim = positive("dim", dim)
            coded("vectors", np.empty((0, self._dim), np.float32), self._dim, metric)
            return
        first = plain("vectors", vectors)
        self._dim = positive("dim", dim) if dim is not None else first.shape[-1] if first.ndim else 0
        self.add(first, ids, scales=scales)

    # What it is.

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def metric(self) -> str:
        """What a score is: ``"cosine"`` or ``"ip"``."""
        return self._metric

    @property
    def keep(self) -> str | None:
        """What is kept beside the codes: None, ``"float32"`` or ``"int8"``."""
        return self._keep

    def __len__(self) -> int:
        return sum(part.count - part.dead for part in self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes that all vectors take, in memory or in mapped files, with room for those to come."""
        return sum(part.nbytes for part in self._parts)

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The ids in the order they were added, a new array."""
        return np.concatenate([np.empty(0, np.int64), *(part.ids[: part.count][part.alive()] for part in self._parts)])

    def __repr__(self) -> str:
        return f"Index({len(self)} vectors, dim={self._dim}, metric={self._metric!r}, keep={self._keep!r}, nbytes={self.nbytes})"

    def __contains__(self, id_: object) -> bool:
        # No id is beyond int64, and numpy makes no array of such a number.
        if not isinstance(id_, (int, np.integer)) or not 0 <= id_ <= MOST_ID:
            return False
        return bool(self._find(np.array([id_], np.int64))[0] >= 0)

    # What changes it.

    def add(
        self, vectors: npt.ArrayLike, ids: npt.ArrayLike | None = None, *, scales: npt.ArrayLike | None = None
    ) -> None:
        """Add vectors. No search may run meanwhile.

        Parameters
        ----------
        vectors : array_like of float or int8, shape (n, dim) or (dim,)
            Floats are made float32 and quantised; they must be finite. int8 vectors are taken as they are.
        ids : array_like of int, shape (n,), optional
            Their ids, from 0 on and not in use; by default they follow the greatest so far.
        scales : array_like of float, scalar or shape (n,), optional
            Of int8 vectors: what their values are multiplied by; 1 by default.

        Raises
        ------
        TypeError
            `vectors` are neither floats nor int8, or `ids` are no integers.
        ValueError
            A shape is wrong, a value is not finite or beyond 2**50, an id is negative or in use, or the index rescores and `vectors`
            are int8, of which there is nothing more to keep.
        """
        array = plain("vectors", vectors)
        array = array[None] if array.ndim == 1 else array
        made = coded("vectors", array, self._dim, self._metric, scales)
        if self._keep is not None and made.values is None:
            raise ValueError(f"vectors must be floats where the index keeps {self._keep} for rescoring, got int8")
        chosen = self._new_ids(ids, len(made.codes))
        with self._lock:
            for start in range(0, len(made.codes), BATCH):
                at = slice(start, start + BATCH)
                self._append(made.codes[at], made.factors[at], chosen[at], self._more(made, at))
            if len(chosen):
                rising = bool((chosen[1:] > chosen[:-1]).all()) and int(chosen[0]) >= self._next
                self._ascending = self._ascending and rising
                self._next = max(self._next, int(chosen.max()) + 1)
            self._seen = None

    def _more(self, made: Coded, at: slice) -> dict[str, npt.NDArray[Any]]:
        if self._keep is None or made.values is None:
            return {}
        values, codes = made.values[at], made.codes[at]
        return {self._keep: values if self._keep == "float32" else second_digits(values, codes)}

    def _append(self, codes: Any, factors: Any, ids: Any, more: dict[str, npt.NDArray[Any]]) -> None:
        done = 0
        while done < len(codes):
            if not self._parts or not self._parts[-1].room:
                kept = {} if self._keep is None else {self._keep: DTYPES[self._keep]}
                self._parts.append(Part(self._dim, native_layout(), kept))
            part = self._parts[-1]
            end = done + min(part.room, len(codes) - done)
            part.append(
                codes[done:end], factors[done:end], ids[done:end], {n: rows[done:end] for n, rows in more.items()}
            )
            done = end

    def _new_ids(self, ids: npt.ArrayLike | None, n: int) -> npt.NDArray[np.int64]:
        if ids is None:
            if self._next + n > MOST_ID + 1:
                raise ValueError(
                    f"ids must be given where none follow the greatest so far, got None after {self._next - 1}"
                )
            return np.arange(self._next, self._next + n)
        given = as_ids(ids)
        if given.shape != (n,):
            raise ValueError(f"ids must have shape {(n,)}, one per vector, got {given.shape}")
        if n and given.min() < 0:
            raise ValueError(f"ids must not be negative, got {given.min()}")
        ordered = np.sort(given)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        # Ids above all there are cannot be in use.
        used = given[self._find(given) >= 0] if n and ordered[0] < self._next else given[:0]
        for found, why in ((twice, "given twice"), (used, "in use")):
            if len(found):
                raise ValueError(f"ids must be new, and {found[0]} is {why}")
        return given

    def remove(self, ids: npt.ArrayLike) -> int:
        """Remove vectors by their ids. No search may run meanwhile.

        Parameters
        ----------
        ids : array_like of int
            Those that are not in the index do not matter.

        Returns
        -------
        int
            How many were removed.

        Raises
        ------
        TypeError
            `ids` are no integers.
        """
        wanted = np.unique(as_ids(ids))
        removed = 0
        with self._lock:
            for i, part in enumerate(self._parts):
                columns = part.find(wanted)
                columns = columns[columns >= 0]
                if len(columns):
                    part.remove(columns)
                    removed += len(columns)
                    # Half of what is searched being of no use is enough.
                    if 2 * part.dead > part.count and not part.mapped:
                        self._parts[i] = part.without_dead()
            self._parts = [part for part in self._parts if part.count]
            self._seen = None
        return removed

    def _corpus(self) -> Corpus:
        found = self._seen
        if found is None:
            parts = tuple(self._parts)
            starts = list(itertools.accumulate((part.count for part in parts), initial=0))
            found = self._seen = Corpus(parts, starts, self._ascending)
        return found

    def _find(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The number of each id, -1 for those that are not there."""
        numbers = np.full(len(ids), -1, np.int64)
        start = 0
        for part in self._parts:
            columns = part.find(ids)
            numbers = np.where(columns >= 0, columns + start, numbers)
            start += part.count
        return numbers
