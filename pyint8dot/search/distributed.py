"""A search over several machines, on Dask: the same ids and score bits as those of one index.

A shard is a saved index in a folder that every worker can read. A worker opens it at its first search and keeps it, so that nothing but
queries and finds moves. Searches are tasks and not actors: a task that a worker takes along when it dies is run again by another
one, which opens the shard itself, where an actor would be lost.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.arguments import plain
from pyint8dot.search.arguments import positive
from pyint8dot.search.files import HEADER
from pyint8dot.search.index import Candidates, Index
from pyint8dot.search.scan import first_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import numpy.typing as npt
    from distributed import Client

__all__ = ["ShardedIndex"]

#: Shards that a worker keeps open.
MOST_OPEN = 64


@functools.lru_cache(MOST_OPEN)
def _opened(path: str, token: str, *, mmap: bool) -> Index:
    """The shard at a path; `token` changes with what is saved there."""
    del token
    return Index.open(path, mmap=mmap, verify=not mmap)


def _describe(path: str) -> tuple[int, int, str, str | None, str]:
    """Length, dimension, metric and what is kept of the index at a path, and what tells it from another one there."""
    index = Index.open(path, verify=False)
    return len(index), index.dim, index.metric, index.keep, (Path(path) / HEADER).read_text()


def _search(
    path: str, token: str, mmap: bool, queries: npt.NDArray[Any], wanted: int, rescore: bool, num_threads: int, allowed: Any
) -> Candidates:  # fmt: skip
    """The best of one shard."""
    index = _opened(path, token, mmap=mmap)
    found = index._candidates(queries, min(wanted, len(index)), rescore, num_threads, allowed, None)  # noqa: SLF001 - of this package
    fine = np.concatenate([each.fine for each in found if each.fine is not None]) if rescore else None
    return Candidates(
        np.concatenate([each.scores for each in found]), np.concatenate([each.ids for each in found]), fine
    )


def _merge(wanted: int, *found: Candidates) -> Candidates:
    """The best of several shards."""
    scores, ids = (np.concatenate([each[i] for each in found], axis=1) for i in (0, 1))
    # Fine scores are put in the order of the others, which decides who is rescored.
    places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    best, order = first_of(scores, places, ids, wanted)
    fine = None
    if found[0].fine is not None:
        fine = np.take_along_axis(np.concatenate([each.fine for each in found], axis=1), order, 1)
    return Candidates(best, np.take_along_axis(ids, order, 1), fine)


class ShardedIndex:
    """Search over indices that workers of a Dask cluster open, each its own.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    paths : sequence of str or path-like
        Folders of saved indices of one dimension, metric and `keep`, readable by every worker; about one per worker. No id may be in two.
    num_threads : int
        Threads that a worker uses for one shard. 1 by default, because a worker may search several at once.
    mmap : bool
        Leave the vectors on the disk; see `Index.open`.

    Raises
    ------
    ValueError
        There is no path, or the indices differ in kind.
    """

    def __init__(
        self, client: Client, paths: Sequence[str | PathLike[str]], *, num_threads: int = 1, mmap: bool = False
    ) -> None:
        self._client = client
        self._paths = [str(path) for path in paths]
        if not self._paths:
            raise ValueError("paths must name at least one index")
        self._num_threads, self._mmap = positive("num_threads", num_threads), mmap
        told = client.gather(client.map(_describe, self._paths, pure=False))  # type: ignore[no-untyped-call]
        kinds = {each[1:4] for each in told}
        if len(kinds) > 1:
            raise ValueError(f"paths must be indices of one dimension, metric and keep, got {sorted(map(str, kinds))}")
        [(self.dim, self.metric, self.keep)] = kinds
        self._size: int = sum(each[0] for each in told)
        self._tokens = [each[4] for each in told]

    def __len__(self) -> int:
        return self._size

    def search(
        self,
        queries: npt.ArrayLike,
        k: int = 10,
        *,
        rescore: bool = False,
        rescore_multiplier: int = 4,
        filter: Any = None,  # noqa: A002 - as in `Index`
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Find the `k` vectors of the highest score of all shards for each query, as `Index.search` does.

        Parameters
        ----------
        queries : array_like of float or int8, shape (m, dim) or (dim,)
        k : int
        rescore : bool
        rescore_multiplier : int
        filter : array_like of int or callable, optional

        Returns
        -------
        scores : ndarray of float32, shape (m, k)
        ids : ndarray of int64, shape (m, k)

        Raises
        ------
        TypeError, ValueError
            As of `Index.search`.
        """
        k, multiplier = positive("k", k), positive("rescore_multiplier", rescore_multiplier)
        if rescore and self.keep is None:
            raise ValueError('rescore needs indices made with keep="float32" or keep="int8"')
        rows = plain("queries", queries)
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.shape[:1] == (0,):
            # Nothing to ask the workers; an index without vectors checks what it is given and answers alike.
            return Index(dim=self.dim, metric=self.metric).search(rows, k)
        wanted = min(k * multiplier if rescore else k, max(1, self._size))
        workers = sorted(self._client.scheduler_info(n_workers=-1)["workers"])
        futures = []
        for i, (path, token) in enumerate(zip(self._paths, self._tokens, strict=True)):
            # The same worker each time, which has the shard open, as long as it is there.
            near = [workers[i % len(workers)]] if workers else None
            futures.append(
                self._client.submit(
                    _search,
                    path,
                    token,
                    self._mmap,
                    rows,
                    wanted,
                    rescore,
                    self._num_threads,
                    filter,
                    pure=False,
                    workers=near,
                    allow_other_workers=True,
                )
            )
        # Two by two, so that no worker has the finds of all.
        while len(futures) > 1:
            pairs = [futures[i : i + 2] for i in range(0, len(futures), 2)]
            futures = [self._client.submit(_merge, wanted, *pair, pure=False) for pair in pairs]
        found: Candidates = futures[0].result()
        scores, ids = found.best(k)
        missing = k - scores.shape[1]
        if missing <= 0:
            return scores, ids
        pad = ((0, 0), (0, missing))
        return np.pad(scores, pad, constant_values=-np.inf), np.pad(ids, pad, constant_values=-1)
