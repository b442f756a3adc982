"""A search's pass over packed vectors: exact products with the queries, turned to scores, of which only the best so far are kept.

The vectors are the columns of a packed right operand, the queries the rows of the left one. A block of their int32 products
stays in the nearest cache until the entry ``keep_above`` has compared its scores with what each query asks for; `keep_above`
here is its definition in numpy, and what other machines run.
"""

from __future__ import annotations

import functools
import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine import blocks, cpu, portable
from pyint8dot.engine.library import address
from pyint8dot.engine.packers import aligned, pack_into
from pyint8dot.engine.program import END, STATUS, Program, Word, run_entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.layouts import Layout

    Float32 = NDArray[np.float32]

__all__ = ["Kept", "Queries", "keep_above"]

#: Queries that go over the vectors together, at most; fewer where they are long.
MOST_QUERIES = 256

#: Vectors of a block, at least and at most: few enough that its products stay near, enough that a record of a program is little.
LEAST_BLOCK, MOST_BLOCK = 128, 1024

#: Scores that ``keep_above`` compares at a time.
TURN = 16

#: Blocks that one program goes over.
MOST_BLOCKS = 64


class Kept:
    """The scores of each query that are kept so far, and what the next ones must exceed.

    Parameters
    ----------
    factors : ndarray of float32, shape (m,)
        What the scores of each query are multiplied by last, contiguous; finite and not negative.
    room : int
        Scores that a query has room for.
    position : int
        Number of the first vector.

    Attributes
    ----------
    counts : ndarray of int64, shape (m,)
        How many scores each query has kept.
    scores, columns : ndarray of float32 and of int64, shape (m, room)
        The scores and the numbers of their vectors; scores that are not kept are -inf, of any vector.
    least : ndarray of float32, shape (m,)
        Only greater scores are kept.
    """

    __slots__ = ("addresses", "columns", "counts", "factors", "least", "room", "scores", "state")

    def __init__(self, factors: Float32, room: int, position: int) -> None:
        m = len(factors)
        self.factors, self.room = factors, room
        #: The number of the next vector, then the counts.
        self.state = np.zeros(1 + m, np.int64)
        self.state[0] = position
        self.counts = self.state[1:]
        self.least = np.empty(m, np.float32)
        self.least.fill(-np.inf)
        self.scores = np.empty((m, room), np.float32)
        self.scores.fill(-np.inf)
        self.columns = np.zeros((m, room), np.int64)
        parts: tuple[NDArray[Any], ...] = self.state, factors, self.least, self.scores, self.columns
        self.addresses = tuple([address(each) for each in parts])

    @property
    def position(self) -> int:
        """Number of the next vector."""
        return int(self.state[0])


def keep_above(acc: NDArray[np.int32], factors: Float32, kept: Kept) -> bool:
    """Keep the scores of a block of products that exceed what their rows ask for; False, with all as it was, if there is no room.

    Parameters
    ----------
    acc : ndarray of int32, shape (m, n)
        Products of the queries with n vectors.
    factors : ndarray of float32, shape (n,)
        What they are multiplied by first, one per vector; NaN where a vector is not to be found.
    kept : Kept
    """
    m, n = acc.shape
    if (kept.counts > kept.room - n).any():
        return False
    with np.errstate(invalid="ignore"):
        scores = (acc.astype(np.float32) * factors) * kept.factors[:, None]
        above = scores > kept.least[:, None]
    rows, columns = np.nonzero(above)
    found = np.bincount(rows, minlength=m)
    slots = kept.counts[rows] + np.arange(len(rows)) - (np.cumsum(found) - found)[rows]
    kept.scores[rows, slots] = scores[rows, columns]
    kept.columns[rows, slots] = kept.position + columns
    kept.counts += found
    kept.state[0] += n
    return True


class Queries:
    """Queries on a kernel, ready to go over vectors; shared by threads.

    Parameters
    ----------
    kernel : Kernel
    codes : ndarray of int8, shape (m, k)
    factors : ndarray of float32, shape (m,)
    """

    def __init__(self, kernel: Kernel, codes: NDArray[np.int8], factors: Float32) -> None:
        self.kernel, self.codes, self.factors = kernel, codes, factors
        m, self.k = codes.shape
        #: The layouts that vectors may have; None where any will do. Of a kernel that wants one operand complemented it is the
        #: vectors: what that adds is then one sum for each query.
        self.layout: Layout | None = kernel.each_call(kernel.right) if kernel.native else None
        self.block = _block(kernel, m)
        self._packed = codes
        if kernel.native:
            self._packed = aligned(kernel.left.size(self.k, m))
            pack_into(kernel.left, codes.T, self._packed)
        self._start = -kernel.left.upper_sums(codes.T) if kernel.complement else None
        self._address = address(self._packed)
        self._start_address = 0 if self._start is None else address(self._start)

    @staticmethod
    def most(kernel: Kernel, k: int) -> int:
        """How many queries of `k` values should go over the vectors together: they share the second-level cache with products."""
        fitting = blocks.budget() // (2 * max(k, 1))
        return max(kernel.mr, min(MOST_QUERIES, fitting) // kernel.mr * kernel.mr)

    def go_over(self, kept: Kept, layout: Layout, panels: NDArray[np.int8], factors: Float32) -> int:
        """Keep what is best of as many vectors as there are factors; return how many were seen.

        Where that is not all of them, some query has no room for a block more.

        Parameters
        ----------
        kept : Kept
            Made with the factors of these queries, and with room for a block at least.
        layout : Layout
            That of the vectors; `self.layout` where that is not None.
        panels : ndarray of int8
            The vectors from one on that begins a panel, contiguous.
        factors : ndarray of float32
            Theirs, contiguous; NaN for those that are not to be found.
        """
        if self.kernel.native:
            return self._native(kept, layout, panels, factors)
        return self._portable(kept, layout, panels, factors)

    def _native(self, kept: Kept, layout: Layout, panels: NDArray[np.int8], factors: Float32) -> int:
        assert layout == self.layout  # noqa: S101 - the caller has brought the vectors into it
        k, m, room, block = self.k, len(self.codes), kept.room, self.block
        depth = layout.depth(k)
        right, scales = address(panels), address(factors)
        scratch = blocks.take(4 * m * block)
        run = run_entry()
        begun, count = kept.position, len(factors)
        done, whole = 0, count // block
        while done < count:
            some = min(whole, MOST_BLOCKS)
            if some:
                written, seen = _whole_blocks(self.kernel, k, m, room, block), some * block
            else:
                written, some, seen = _last_block(self.kernel, k, m, room, block), 1, count - done
            head = _head(
                self._address,
                right + done * depth,
                scratch,
                seen,
                scales + 4 * done,
                *kept.addresses,
                self._start_address,
            )
            if run(head + written.upto(some)):
                return kept.position - begun
            done += seen
            whole -= some
        return count

    def _portable(self, kept: Kept, layout: Layout, panels: NDArray[np.int8], factors: Float32) -> int:
        count, block = len(factors), max(1, self.block // layout.r) * layout.r
        acc = np.empty((len(self.codes), block), np.int32)
        for done in range(0, count, block):
            n = min(block, count - done)
            at = done * layout.depth(self.k)
            vectors = layout.unpack(panels[at : at + layout.size(self.k, n)], self.k, n)
            portable.gemm(self.codes, vectors, acc[:, :n])
            if not keep_above(acc[:, :n], factors[done : done + n], kept):
                return done
        return count


def _block(kernel: Kernel, m: int) -> int:
    """How many vectors make a block: their products take half of the first-level cache, where that is not too few."""
    unit = math.lcm(kernel.right.r, TURN) if kernel.native else MOST_BLOCK
    near = cpu.caches()[0] // 2 // (4 * m)
    return max(unit, min(MOST_BLOCK, max(LEAST_BLOCK, near)) // unit * unit)


#: The words of the head: packed queries, vectors, products, how many vectors, their factors, then what a `Kept` has, and what the sums of
#: each query start from, or 0.
QUERIES, VECTORS, PRODUCTS, COUNT, FACTORS, STATE, QUERY_FACTORS, LEAST, SCORES, COLUMNS, START = map(Word, range(11))

_head = struct.Struct("11q").pack


class Written(NamedTuple):
    """A program of so many equal blocks, of which any number may be run."""

    head: bytes
    records: bytes
    #: Bytes of the records of a block.
    step: int

    def upto(self, count: int) -> bytes:
        """What follows the head's changing words, for the first `count` blocks."""
        return b"".join((self.head, self.records[: count * self.step], END))


@functools.lru_cache(maxsize=32)
def _whole_blocks(kernel: Kernel, k: int, m: int, room: int, block: int) -> Written:
    """The program of `MOST_BLOCKS` blocks."""
    return _write(kernel, k, m, room, block, MOST_BLOCKS)


@functools.lru_cache(maxsize=32)
def _last_block(kernel: Kernel, k: int, m: int, room: int, block: int) -> Written:
    """The program of a block of as many vectors as the head says."""
    return _write(kernel, k, m, room, block, 0)


def _write(kernel: Kernel, k: int, m: int, room: int, block: int, count: int) -> Written:
    out, depth = Program(), kernel.right.depth(k)
    n = block if count else COUNT
    for i in range(count or 1):
        out.multiply(
            kernel.name, a=QUERIES, b=VECTORS.plus(i * block * depth), c=PRODUCTS, ldc=4 * block, m=m, n=n, k=depth,
            row_start=START if kernel.complement else None,
        )  # fmt: skip
        out.keep_above(
            acc=PRODUCTS, ld_acc=4 * block, m=m, n=n, col_scale=FACTORS.plus(4 * i * block), row_scale=QUERY_FACTORS,
            least=LEAST, counts=STATE.plus(8), scores=SCORES, columns=COLUMNS, room=room, position=STATE, status=STATUS,
        )  # fmt: skip
    records = out.records().removesuffix(END)
    head = out.tail(START.number + 1).removesuffix(records + END)
    return Written(head, records, len(records) // (count or 1))
