"""Candidates scored again, from the float32 vectors or from two int8 digits; the same bits on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.search.vectors import BASE, second_digits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyint8dot.search.scan import Best, Corpus
    from pyint8dot.search.vectors import Coded

    Float64 = NDArray[np.float64]
    Int64 = NDArray[np.int64]

__all__ = ["rescored", "rows_of"]


def rescored(corpus: Corpus, queries: Coded, best: Best, metric: str, keep: str) -> NDArray[np.float32]:
    """The scores of candidates by what the index has kept of its vectors, `keep`."""
    wide = _values(queries.codes, queries.values, keep)
    units = _units(wide, queries.factors, metric, keep)
    scores = np.empty(best.scores.shape, np.float32)
    for row, columns in enumerate(best.columns):
        rows, factors = rows_of(corpus, columns, wide.shape[1], keep)
        products = total(rows * wide[row])
        scores[row] = (products * _units(rows, factors, metric, keep)) * units[row]
    return scores


def rows_of(corpus: Corpus, numbers: Int64, dim: int, keep: str | None) -> tuple[Float64, NDArray[np.float32]]:
    """Vectors of `dim` values by their numbers: what is kept of them, as `_values` has it, or their codes; and their factors."""
    values, factors = np.empty((len(numbers), dim)), np.empty(len(numbers), np.float32)
    for i, part in enumerate(corpus.parts):
        here = (numbers >= corpus.starts[i]) & (numbers < corpus.starts[i + 1])
        if here.any():
            columns = numbers[here] - corpus.starts[i]
            factors[here] = part.factors[columns]
            if keep == "float32":
                values[here] = part.more[keep][columns]
            else:
                values[here] = part.codes_of(columns)
                if keep == "int8":
                    values[here] = values[here] * BASE + part.more[keep][columns]
    return values, factors


def _values(codes: NDArray[np.int8], values: NDArray[np.float32] | None, keep: str) -> Float64:
    """Vectors as they are multiplied: float32 values as they are, codes in units of the second digit."""
    if keep == "float32":
        return (codes if values is None else values).astype(np.float64)
    wide = codes.astype(np.float64) * BASE
    return wide if values is None else wide + second_digits(values, codes)


def _units(values: Float64, factors: NDArray[np.float32], metric: str, keep: str) -> Float64:
    """What the products of such vectors are multiplied by: for a cosine 1 / their length, 0 where that is 0."""
    if metric == "cosine":
        lengths = np.sqrt(total(values * values))
        return np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return factors.astype(np.float64) / BASE if keep == "int8" else np.ones(len(values))


def total(terms: NDArray[Any]) -> Float64:
    """The sum over the last axis, of halves added to halves: an order that no machine changes, as a sum of numpy's may be."""
    while terms.shape[-1] > 1:
        half, odd = divmod(terms.shape[-1], 2)
        added = terms[..., :half] + terms[..., half : 2 * half]
        if odd:
            added[..., 0] += terms[..., -1]
        terms = added
    return terms[..., 0]
