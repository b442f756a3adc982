"""Shapes and values for a kernel, computed from its row of the table: no shape is chosen by hand for one kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pyint8dot.engine.layouts import Layout

# The longest step that a tile of eight rows takes along K in a turn; K is tested around it and its multiples, as around the group.
UNROLL = 16

# Row strides of C that no tile width divides, added to n.
PRIME_PADDING = (1, 7, 13)


class Row(Protocol):
    """What is read of a row of ``pyint8dot.engine.kernels.KERNELS``."""

    @property
    def name(self) -> str: ...
    @property
    def mr(self) -> int: ...
    @property
    def nr(self) -> int: ...
    @property
    def left(self) -> Layout: ...
    @property
    def right(self) -> Layout: ...
    @property
    def complement(self) -> bool: ...


class Shape(NamedTuple):
    m: int
    n: int
    k: int


def around(*sizes: int) -> list[int]:
    """Every size with its two neighbours, in order, none below 1."""
    return sorted({near for size in sizes for near in (size - 1, size, size + 1) if near >= 1})


def empty(row: Row) -> Iterator[Shape]:
    """One or more dimensions are zero; with K = 0 the result is the start values alone."""
    for m, n, k in (
        (0, 0, 0),
        (0, row.nr, row.right.kr),
        (row.mr, 0, row.right.kr),
        (0, 0, row.right.kr),
        (1, 1, 0),
        (row.mr, row.nr, 0),
        (row.mr + 1, row.nr + 1, 0),
    ):
        yield Shape(m, n, k)


def subtile(row: Row) -> Iterator[Shape]:
    """Every tile that is not larger than a full one: each has its own way through the store code."""
    for m in range(1, row.mr + 1):
        for n in range(1, row.nr + 1):
            yield Shape(m, n, row.right.kr + 1)


def edge(row: Row) -> Iterator[Shape]:
    """A full tile and more, with every remainder in m and in n."""
    for extra in range(row.mr):
        yield Shape(row.mr + extra, row.nr + (3 * extra + 1) % row.nr, UNROLL + 1)
    for m in (row.mr - 1, row.mr, row.mr + 1, 3 * row.mr):
        for n in (row.nr - 1, row.nr, row.nr + 1, 3 * row.nr):
            yield Shape(m, n, 2 * row.right.kr)


def depth(row: Row) -> Iterator[Shape]:
    """Every K through two turns of the longest loop, and around larger multiples of it; tiles of every height."""
    for k in (*range(1, 2 * UNROLL + 2), *around(*(times * UNROLL for times in (4, 6, 8, 12)))):
        yield Shape(2 * row.mr - 1, row.nr + 1, k)


def vector(row: Row) -> Iterator[Shape]:
    """One row or one column, the shapes a matrix-vector product would claim."""
    for long in (1, row.mr, 5 * row.nr + 3):
        yield Shape(1, long, 3 * row.right.kr + 1)
        yield Shape(long, 1, 3 * row.right.kr + 1)


def prime(row: Row) -> Iterator[Shape]:
    """Sizes that share no factor with any tile."""
    del row
    yield Shape(13, 17, 19)
    yield Shape(31, 23, 37)
    yield Shape(19, 41, 67)


CLASSES: dict[str, Callable[[Row], Iterator[Shape]]] = {
    made.__name__: made for made in (empty, subtile, edge, depth, vector, prime)
}

Int8 = npt.NDArray[np.int8]


def _random(rng: np.random.Generator, rows: int, k: int) -> Int8:
    return rng.integers(-128, 128, (rows, k), dtype=np.int8)


def _lowest(rng: np.random.Generator, rows: int, k: int) -> Int8:
    return np.full((rows, k), -128, np.int8)


def _highest(rng: np.random.Generator, rows: int, k: int) -> Int8:
    return np.full((rows, k), 127, np.int8)


def _alternating(rng: np.random.Generator, rows: int, k: int) -> Int8:
    """-128 and 127 by turns along both axes: sums that cancel badly, and pairs whose int16 sum would overflow."""
    turns = (np.arange(rows)[:, None] + np.arange(k)) % 2
    return np.where(turns == 0, -128, 127).astype(np.int8)


def _one_hot(rng: np.random.Generator, rows: int, k: int) -> Int8:
    """A single 1 in each row: a wrong result then names the element that was read in its place."""
    hot = np.zeros((rows, k), np.int8)
    if k:
        hot[np.arange(rows), np.arange(rows) % k] = 1
    return hot


# Values of one operand by name; each takes (rng, rows, k).
VALUES: dict[str, Callable[[np.random.Generator, int, int], Int8]] = {
    "random": _random,
    "lowest": _lowest,
    "highest": _highest,
    "alternating": _alternating,
    "one_hot": _one_hot,
}
