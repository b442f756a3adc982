"""`Index`: exact search among int8 vectors."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyint8dot.engine.operand import choice
from pyint8dot.engine.scan import Queries
from pyint8dot.search import files
from pyint8dot.search.arguments import as_ids, mask_of, positive
from pyint8dot.search.part import Part, native_layout
from pyint8dot.search.rescore import rescored, rows_of
from pyint8dot.search.scan import Best, Corpus, best_of, first_of, together
from pyint8dot.search.vectors import BASE, KEEPS, METRICS, Coded, coded, second_digits

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from pyint8dot.search.vectors import Keep, Metric

__all__ = ["Index"]

#: What rescoring keeps of each vector.
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "int8": np.dtype(np.int8)}

#: Vectors that are made int8 and packed together, so that adding many takes little more than they do.
BATCH = 16384


class Candidates(NamedTuple):
    """What is found for some queries, best first by the codes alone."""

    scores: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    #: The scores by what the index keeps of its vectors, where they are asked for.
    fine: npt.NDArray[np.float32] | None

    def best(self, k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Scores and ids of the first `k`, by the fine scores where there are some."""
        if self.fine is None:
            return self.scores[:, :k], self.ids[:, :k]
        return first_of(self.fine, self.ids, self.ids, k)


class Index:
    """Exact search for the nearest of many vectors, each kept as int8.

    Every vector is compared with every query: products are exact in int32, and a score is the float32 product
    ``(product * factor of the vector) * factor of the query``. float32 vectors are quantised one by one, symmetrically, so that no
    calibration is needed. Ids and scores are the same bit for bit on every machine, kernel and number of threads.

    Parameters
    ----------
    vectors : array_like of float or int8, shape (n, dim), optional
        Vectors to begin with; see `add`.
    dim : int, optional
        Length of a vector, where there are none to begin with.
    metric : {"cosine", "ip"}
        What a score is: the cosine of the angle, or the inner product.
    ids : array_like of int, shape (n,), optional
        Their ids; by default 0, 1, 2 ...
    scales : array_like of float, scalar or shape (n,), optional
        Of int8 vectors: what their values are multiplied by. 1 by default; a cosine does not depend on them.
    keep : {None, "float32", "int8"}
        What is kept beside the codes so that `search` can rescore: the float32 vectors, or a second int8 digit of each value, which
        makes 2 dim + 12 bytes a vector.

    Raises
    ------
    TypeError, ValueError
        As `add`; or neither `vectors` nor `dim` is given, or `metric` or `keep` is none of those.

    Examples
    --------
    >>> index = Index(np.float32([[1, 0], [0, 1], [1, 1]]))
    >>> scores, ids = index.search(np.float32([2, 1]), k=2)
    >>> ids
    array([[2, 0]])
    >>> scores.round(2)
    array([[0.95, 0.89]], dtype=float32)
    """

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
        first = np.asarray(vectors)
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
        return isinstance(id_, (int, np.integer)) and bool(self._find(np.array([id_], np.int64))[0] >= 0)

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
        array = np.asarray(vectors)
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
            return np.arange(self._next, self._next + n)
        given = as_ids(ids)
        if given.shape != (n,):
            raise ValueError(f"ids must have shape {(n,)}, one a vector, got {given.shape}")
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

    # What it tells.

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        *,
        rescore: bool = False,
        rescore_multiplier: int = 4,
        num_threads: int | None = None,
        filter: npt.ArrayLike | Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]] | None = None,  # noqa: A002 - as elsewhere
        kernel: str | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Find the `k` vectors of the highest score for each query. Searches may run in several threads at once.

        Parameters
        ----------
        queries : array_like of float or int8, shape (m, dim) or (dim,)
            Floats are quantised as vectors are.
        k : int
            How many to find, at least 1.
        rescore : bool
            Find `rescore_multiplier` times as many and score them again from what the index keeps: see `keep`.
        rescore_multiplier : int
            At least 1.
        num_threads : int, optional
            How many threads share the vectors; by default as `pyint8dot.get_num_threads` says.
        filter : array_like of int or callable, optional
            The ids that may be found, or what tells of an array of ids which of them may be.
        kernel : str, optional
            Name of the kernel.

        Returns
        -------
        scores : ndarray of float32, shape (m, k)
            Best first; -inf where there are fewer vectors than `k`.
        ids : ndarray of int64, shape (m, k)
            Of equal scores the smaller id comes first; -1 where there are fewer vectors than `k`.

        Raises
        ------
        TypeError
            An argument has a wrong type.
        ValueError
            `queries` are not finite or have another dimension, `k` or another number is out of range, or `rescore` is asked of an index
            that keeps nothing for it.
        """
        k, multiplier = positive("k", k), positive("rescore_multiplier", rescore_multiplier)
        if rescore and self._keep is None:
            raise ValueError('rescore needs an index made with keep="float32" or keep="int8"')
        there = len(self)
        # No place is asked for that cannot be filled: k may be anything.
        wanted = min(k * multiplier if rescore else k, there)
        found = self._candidates(queries, wanted, rescore, num_threads, filter, kernel)
        places = [each.best(k) for each in found]
        if len(places) == 1 and places[0][0].shape[1] == k:
            return places[0]
        m = sum(len(ids) for _, ids in places)
        all_scores, all_ids = np.full((m, k), -np.inf, np.float32), np.full((m, k), -1, np.int64)
        row = 0
        for scores, ids in places:
            # Fewer than k where there are fewer vectors, or fewer that the filter lets through.
            at, width = slice(row, row + len(ids)), ids.shape[1]
            all_scores[at, :width], all_ids[at, :width] = scores, ids
            row += len(ids)
        return all_scores, all_ids

    def _candidates(
        self, queries: npt.ArrayLike, wanted: int, rescore: bool, num_threads: int | None, allowed: Any, kernel: str | None
    ) -> list[Candidates]:  # fmt: skip
        """Scores and ids of the `wanted` best by the codes, for some queries after the others, and their scores by what is kept."""
        made = coded("queries", queries, self._dim, self._metric)
        mask = mask_of(allowed)
        chosen, count = choice(kernel, num_threads)
        corpus = self._corpus()
        step = together(chosen, self._dim, max(1, wanted))
        found = []
        for start in range(0, len(made.codes), step):
            some = made.rows(start, start + step)
            best = Best(np.empty((len(some.codes), 0), np.float32), np.empty((len(some.codes), 0), np.int64))
            if wanted:
                best = best_of(corpus, Queries(chosen, some.codes, some.factors), wanted, mask, count)
            fine = rescored(corpus, some, best, self._metric, self._keep) if rescore and self._keep else None
            found.append(Candidates(best.scores, corpus.ids(best.columns), fine))
        return found

    def reconstruct(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return vectors as they are compared: from the float32 vectors or both digits where those are kept, else from the codes.

        Parameters
        ----------
        ids : int or array_like of int, shape (n,)

        Returns
        -------
        ndarray of float32, shape (dim,) or (n, dim)
            For a cosine, vectors that are known by their codes alone have length 1.

        Raises
        ------
        TypeError
            `ids` are no integers.
        KeyError
            An id is not in the index.
        """
        wanted = as_ids(ids)
        flat = wanted.reshape(-1)
        numbers = self._find(flat)
        if (numbers < 0).any():
            raise KeyError(f"there is no vector with the id {flat[numbers < 0][0]}")
        values, factors = rows_of(self._corpus(), numbers, self._keep)
        if self._keep == "int8":
            values = values / BASE
        if self._keep != "float32":
            values = values * factors.astype(np.float64)[:, None]
        return values.astype(np.float32).reshape(*wanted.shape, self._dim)

    # Files.

    def save(self, path: str | PathLike[str]) -> None:
        """Write the index to a folder, as `pyint8dot.search.files` describes; nothing else may change it meanwhile.

        What the folder has of it already is not written again: after `open` and `add` that is all but the new vectors. Until everything
        else is written, `open` finds what was there before.

        Parameters
        ----------
        path : str or path-like
            The folder; it is made where there is none.
        """
        with self._lock:
            contents = files.Contents(
                self._dim, self._metric, self._keep, self._ascending, self._next, self._parts
            )  # fmt: skip
            files.write(Path(path), contents)

    @classmethod
    def open(cls, path: str | PathLike[str], *, mmap: bool = True, verify: bool = True) -> Index:
        """Open an index that was saved.

        Parameters
        ----------
        path : str or path-like
            The folder.
        mmap : bool
            Leave the vectors on the disk and read what a search comes by, so that they may be more than fit the memory. Those that were
            saved for another kernel are packed anew at every search then; without it once, when they are loaded.
        verify : bool
            Read every file to see that it is as it was written. Their sizes are looked at in any case.

        Returns
        -------
        Index

        Raises
        ------
        FileNotFoundError
            There is no index.
        IndexFileError
            A file is missing, or not as it was written; this is a ValueError.
        """
        contents = files.read(Path(path), mmap=mmap, verify=verify)
        made = cls(dim=contents.dim, metric=contents.metric, keep=contents.keep)  # type: ignore[arg-type]  # names that were checked
        made._ascending, made._next = contents.ascending, contents.following
        made._parts = [part for part in contents.parts if part.count]
        if not mmap:
            layout = native_layout()
            for part in made._parts:
                part.taken(layout, 0, part.count)
        return made

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
