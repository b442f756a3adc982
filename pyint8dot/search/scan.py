"""The k best of all vectors for each of some queries: rounds over the parts of an index, in one thread or several.

A round sees several times as many vectors as all before it together, so that each brings few scores that beat the k-th best of
those: about 30 for k = 10. What they are is sorted in numpy after the round, or when some query's room is full, as it is all the
time where vectors lie in ascending order of score.
"""

from __future__ import annotations

import bisect
import copy
import functools
import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyint8dot.engine import settings, threads
from pyint8dot.engine.blocks import LEAST_WORK, cut
from pyint8dot.engine.scan import Kept, Queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.search.part import Part
    from pyint8dot.search.vectors import Float32

    Int64 = NDArray[np.int64]
    Mask = Callable[[Int64], NDArray[np.bool_]]

__all__ = ["Best", "Corpus", "best_of", "first_of", "together"]

#: How many times as many vectors a round ends at as it begins at. Small rounds keep fewer scores, and their number counts where few
#: of those are sorted together.
LEAST_GROWTH, MOST_GROWTH = 4, 16

#: The first round, all of whose scores are kept and sorted, is of so many times the growth, or of k vectors.
FIRST_ROUND = 16

#: Scores that a query has room for beside the k best and a block, in what a round brings where the order of vectors is not that of scores.
ROOM = 1.5

#: Bytes that such scores and their columns take, for the queries that go over the vectors together.
MOST_BYTES = 1 << 24

#: A filter looks at so many ids at a time.
PIECE = 65536


class Best(NamedTuple):
    """The best of each query: scores in descending order, and the numbers of their vectors."""

    scores: Float32
    columns: Int64


class Corpus(NamedTuple):
    """The vectors of an index, numbered through all its parts."""

    parts: Sequence[Part]
    #: The number of each part's first vector, and at the end that of all.
    starts: list[int]
    #: Whether later vectors have greater ids.
    ascending: bool

    @property
    def size(self) -> int:
        """How many vectors there are, removed ones included."""
        return self.starts[-1]

    def part_of(self, number: int) -> int:
        """The part of a vector."""
        return bisect.bisect_right(self.starts, number) - 1

    def ids(self, numbers: Int64) -> Int64:
        """Ids of vectors."""
        if len(self.parts) == 1:
            return self.parts[0].ids[numbers]
        found = np.empty(numbers.shape, np.int64)
        for i, part in enumerate(self.parts):
            here = (numbers >= self.starts[i]) & (numbers < self.starts[i + 1])
            if here.any():
                found[here] = part.ids[numbers[here] - self.starts[i]]
        return found

    def edges(self, count: int, queries: Queries) -> list[tuple[int, int]]:
        """Cut all vectors into at most `count` ranges, as even as they come, that begin with panels."""
        if count == 1:
            return [(0, self.size)] if self.size else []
        edges = [0]
        for start, _ in cut(self.size, count, 1)[1:]:
            i = self.part_of(start)
            r = panel(self.parts[i], queries)
            first = self.starts[i]
            edges.append(first + (start - first) // r * r)
        edges.append(self.size)
        return [(start, end) for start, end in itertools.pairwise(edges) if start < end]


def panel(part: Part, queries: Queries) -> int:
    """Vectors of a panel, as the queries see the part."""
    return (queries.layout or part.layout).r


def growth(m: int, k: int) -> int:
    """How many times as many vectors a round ends at as it begins at."""
    return min(MOST_GROWTH, max(LEAST_GROWTH, 1024 // (m * k)))


def room(m: int, k: int, block: int) -> int:
    """How many scores a query should have room for."""
    return k + int(ROOM * growth(m, k) * max(k, 8)) + block


def together(kernel: Kernel, dim: int, k: int) -> int:
    """How many queries should go over the vectors together."""
    most = MOST_BYTES // (12 * room(MOST_BYTES, k, 0)) // kernel.mr * kernel.mr
    return min(Queries.most(kernel, dim), max(kernel.mr, most))


def best_of(corpus: Corpus, queries: Queries, k: int, mask: Mask | None, count: int) -> Best:
    """The `k` best of all vectors for each query, on at most `count` threads.

    Fewer of them where `mask` leaves fewer: as many for every query.

    Parameters
    ----------
    corpus : Corpus
    queries : Queries
    k : int
    mask : callable, optional
        Which of some ids may be found.
    count : int
    """
    if queries.layout is None:
        # Another search may bring the parts into another layout meanwhile, whose panels begin elsewhere.
        corpus = corpus._replace(parts=[copy.copy(part) for part in corpus.parts])
    count = min(count, max(1, corpus.size * queries.codes.size // LEAST_WORK))
    ranges = corpus.edges(count, queries)
    found: list[Best | None] = [None] * len(ranges)

    def work(i: int) -> None:
        found[i] = _best_in(corpus, queries, k, mask, *ranges[i])

    settings.count(queries.kernel.name, corpus.size * queries.codes.size)
    threads.run([functools.partial(work, i) for i in range(len(ranges))])
    there = [each for each in found if each is not None]
    if len(there) == 1:
        return there[0]
    scores, columns = (np.concatenate(each, axis=1) for each in zip(*there, strict=True))
    return ranked(scores, columns, corpus, k)


def _best_in(corpus: Corpus, queries: Queries, k: int, mask: Mask | None, start: int, end: int) -> Best:
    """The same of the vectors from `start`, which begins a panel, to `end`."""
    k = min(k, end - start)
    m = len(queries.codes)
    kept = Kept(queries.factors, room(m, k, queries.block), start)
    grow = growth(m, k)
    position, goal = start, start + max(FIRST_ROUND * grow, k)
    while True:
        i = corpus.part_of(position)
        part, first = corpus.parts[i], corpus.starts[i]
        # A round ends with a block, the first one with a panel.
        whole = panel(part, queries)
        if position > start:
            whole = math.lcm(whole, queries.block)
        reach = -(-(goal - position) // whole) * whole
        if mask is not None:
            reach = min(reach, -(-PIECE // whole) * whole)
        stop = min(end, first + part.count, position + reach)
        layout, panels = part.taken(queries.layout, position - first, stop - first)
        factors = part.factors[position - first : stop - first]
        if mask is not None:
            factors = np.where(mask(part.ids[position - first : stop - first]), factors, np.float32(np.nan))
        position += queries.go_over(kept, layout, panels, factors)
        if position == end:
            return _ranked(kept, corpus, k)[0]
        if position >= goal or position < stop:
            _sort(kept, corpus, k)
            goal = max(goal, start + grow * (position - start))


def _sort(kept: Kept, corpus: Corpus, k: int) -> None:
    """Keep the `k` best of each query only, and ask of later ones that they are better than the last of them."""
    best, scores, columns = _ranked(kept, corpus, k)
    # Where a query has kept fewer scores than another, -inf is in the places between.
    scores.fill(-np.inf)
    found = best.scores.shape[1]
    scores[:, :found], columns[:, :found] = best
    kept.counts.fill(found)
    if found == k:
        # Where ids do not ascend, the next one may be the smaller at the same score.
        last = best.scores[:, k - 1]
        kept.least[:] = last if corpus.ascending else np.nextafter(last, np.float32(-np.inf))


def _ranked(kept: Kept, corpus: Corpus, k: int) -> tuple[Best, Float32, Int64]:
    """The `k` best of each query, and the places of all that are kept."""
    width = kept.counts.max()
    scores, columns = kept.scores[:, :width], kept.columns[:, :width]
    return ranked(scores, columns, corpus, k), scores, columns


def ranked(scores: Float32, columns: Int64, corpus: Corpus, k: int) -> Best:
    """The first `k` of each row, best first and of equal scores the smaller id.

    Of equal scores the smaller column must come first, as it does of what is kept: where ids ascend they are in order then.
    """
    return first_of(scores, columns, None if corpus.ascending else corpus.ids(columns), k)


def first_of(scores: Float32, columns: Int64, ids: Int64 | None, k: int) -> Best:
    """The first `k` of each row, best first and of equal scores the smaller id, or the one that came before where there are none."""
    if ids is None:
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    else:
        order = np.lexsort((ids, -scores), axis=-1)[:, :k]
    # What `take_along_axis` does in many more steps.
    rows = np.arange(len(scores))[:, None]
    return Best(scores[rows, order], columns[rows, order])
