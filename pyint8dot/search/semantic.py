"""What users of sentence-transformers have at hand: its `semantic_search`, and the way back from its `quantize_embeddings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyint8dot.arguments import plain
from pyint8dot.search.index import Index

if TYPE_CHECKING:
    from pyint8dot.search.vectors import Metric

__all__ = ["dequantize_embeddings", "semantic_search"]

#: The steps of a range of each dimension that `quantize_embeddings` makes, and where it puts the first.
STEPS, FIRST = 255, -128


def semantic_search(
    query_embeddings: npt.ArrayLike,
    corpus_embeddings: npt.ArrayLike | Index,
    top_k: int = 10,
    *,
    metric: Metric = "cosine",
    num_threads: int | None = None,
) -> list[list[dict[str, Any]]]:
    """Find the embeddings of a corpus that are nearest to each query, as `sentence_transformers.util.semantic_search` does.

    Float embeddings are searched as int8 and the best rescored as they are.

    Parameters
    ----------
    query_embeddings : array_like of float or int8, shape (m, dim) or (dim,)
    corpus_embeddings : array_like of float or int8, shape (n, dim), or Index
        An index saves the work of quantising and packing at every call, and brings its own metric.
    top_k : int
        How many to find for each query.
    metric : {"cosine", "ip"}
        What a score is.
    num_threads : int, optional
        How many threads share the corpus.

    Returns
    -------
    list of list of dict
        For each query its finds, best first, with the keys ``"corpus_id"`` (int) and ``"score"`` (float).

    Examples
    --------
    >>> semantic_search(np.float32([[1, 2]]), np.float32([[1, 0], [0, 1]]), top_k=1)[0][0]["corpus_id"]
    1
    """
    if isinstance(corpus_embeddings, Index):
        index = corpus_embeddings
    else:
        corpus = plain("corpus_embeddings", corpus_embeddings)
        index = Index(corpus, metric=metric, keep="float32" if corpus.dtype.kind == "f" else None)
    scores, ids = index.search(query_embeddings, top_k, rescore=index.keep is not None, num_threads=num_threads)
    return [
        [{"corpus_id": id_, "score": score} for id_, score in zip(*each, strict=True) if id_ >= 0]
        for each in zip(ids.tolist(), scores.tolist(), strict=True)
    ]


def dequantize_embeddings(embeddings: npt.ArrayLike, ranges: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the values that int8 or uint8 embeddings of `sentence_transformers.quantize_embeddings` stand for.

    Its codes have a range of their own in each dimension, so that products of codes are not those of vectors; an `Index` of the
    values, each vector quantised by itself, has the products.

    Parameters
    ----------
    embeddings : array_like of int8 or uint8, shape (..., dim)
    ranges : array_like of float, shape (2, dim)
        Least and greatest value of each dimension, as given to or found by `quantize_embeddings`.

    Returns
    -------
    ndarray of float32

    Raises
    ------
    TypeError
        `embeddings` are neither int8 nor uint8.
    ValueError
        `ranges` have another shape.

    Examples
    --------
    >>> dequantize_embeddings(np.int8([[-128, 0]]), np.float32([[0, -1], [255, 1]])).round(2)
    array([[0.5 , 0.01]], dtype=float32)
    """
    codes, limits = np.asarray(embeddings), np.asarray(ranges, np.float32)
    if codes.dtype not in (np.int8, np.uint8):
        raise TypeError(f"embeddings must be int8 or uint8, got {codes.dtype}")
    if codes.ndim == 0 or limits.shape != (2, codes.shape[-1]):
        raise ValueError(f"ranges must have shape (2, dim) for embeddings of shape {codes.shape}, got {limits.shape}")
    first = FIRST if codes.dtype == np.int8 else 0
    # Codes are rounded down, so that a value lies half a step above its code on average.
    steps = codes.astype(np.float32) - np.float32(first - 0.5)
    result: npt.NDArray[np.float32] = limits[0] + steps * ((limits[1] - limits[0]) / np.float32(STEPS))
    return result
