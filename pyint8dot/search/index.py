"""`Index`: exact search among int8 vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyint8dot.engine.operand import choice
from pyint8dot.engine.scan import Queries
from pyint8dot.search import files
from pyint8dot.search.arguments import as_ids, mask_of, positive
from pyint8dot.search.collection import Vectors
from pyint8dot.search.part import native_layout
from pyint8dot.search.rescore import rescored, rows_of
from pyint8dot.search.scan import Best, best_of, first_of, together
from pyint8dot.search.vectors import BASE, coded

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

__all__ = ["Index"]


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


class Index(Vectors):
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
        values, factors = rows_of(self._corpus(), numbers, self._dim, self._keep)
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
