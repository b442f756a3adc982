"""Index: ids and score bits of an int64 reference, ties included, on every kernel and number of threads; adding, removing, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyint8dot.engine import dispatch, scan
from pyint8dot.search import Index, dequantize_embeddings, semantic_search
from pyint8dot.search import scan as rounds
from pyint8dot.search.part import MOST
from pyint8dot.search.vectors import coded

METRICS = ("cosine", "ip")


def reference(vectors, queries, k, metric, ids=None, allowed=None, scales=None):
    """Scores of int64 products, sorted as a whole."""
    ids = np.arange(len(vectors)) if ids is None else np.asarray(ids)
    x, q = coded("x", vectors, None, metric, scales), coded("q", queries, None, metric)
    sums = q.codes.astype(np.int64) @ x.codes.astype(np.int64).T
    scores = (sums.astype(np.int32).astype(np.float32) * x.factors) * q.factors[:, None]
    if allowed is not None:
        keep = np.isin(ids, allowed)
        scores, ids = scores[:, keep], ids[keep]
    order = np.lexsort((np.broadcast_to(ids, scores.shape), -scores), axis=-1)[:, :k]
    missing = max(0, k - order.shape[1])
    pad = ((0, 0), (0, missing))
    found = np.pad(np.take_along_axis(scores, order, 1), pad, constant_values=-np.inf)
    return found, np.pad(ids[order], pad, constant_values=-1)


def agree(found, wanted):
    """Ids, and scores bit for bit."""
    np.testing.assert_array_equal(found[1], wanted[1])
    assert (found[0].dtype, found[1].dtype) == (np.float32, np.int64)
    # -0.0 and 0.0 are the same score.
    np.testing.assert_array_equal(found[0] + 0, wanted[0] + 0)


def floats(rng, n, dim):
    return rng.standard_normal((n, dim)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("n", "dim", "m", "k"), [(1, 1, 1, 1), (13, 7, 3, 5), (900, 70, 17, 10), (3000, 33, 300, 3), (700, 9, 2, 700)]
)
def test_agrees_with_int64(rng, metric, n, dim, m, k):
    x, q = floats(rng, n, dim), floats(rng, m, dim)
    agree(Index(x, metric=metric).search(q, k), reference(x, q, k, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_ties_go_to_the_smaller_id(rng, metric):
    """Ten thousand queries in few dimensions of few values, so that most scores come many times; ids in and out of order."""
    x = rng.integers(-2, 3, (600, 4)).astype(np.int8)
    q = rng.integers(-2, 3, (10_000, 4)).astype(np.int8)
    for ids in (None, rng.permutation(5000)[:600]):
        agree(Index(x, metric=metric, ids=ids).search(q, 7), reference(x, q, 7, metric, ids))


@pytest.mark.parametrize("ids", ["ascending", "descending"])
def test_equal_vectors(ids):
    """All scores are equal, so the first ids are found, wherever they are."""
    n = 2500
    index = Index(np.ones((n, 3), np.float32), ids=np.arange(n) if ids == "ascending" else np.arange(n)[::-1])
    assert index.search(np.ones(3, np.float32), 5)[1].tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("order", [1, -1])
def test_scores_in_order(rng, order):
    """The worst that can come: every vector is better than all before it, and every one is worse."""
    n, k = 6000, 10
    x = np.stack([np.full(n, 127), np.arange(n) // 50], axis=1)[::order].astype(np.int8)
    x[:, 1] = np.clip(np.arange(n)[::order] // 50, 0, 127)
    q = np.int8([[0, 127], [1, 100]])
    agree(Index(x, metric="ip").search(q, k), reference(x, q, k, "ip"))


@pytest.mark.parametrize("name", dispatch.supported())
def test_every_kernel_and_number_of_threads(rng, name):
    x, q = floats(rng, 5000, 40), floats(rng, 19, 40)
    index = Index(x)
    wanted = reference(x, q, 10, "cosine")
    for count in (1, 2, 3):
        agree(index.search(q, 10, kernel=name, num_threads=count), wanted)
    # Vectors come back as they were, whatever layouts they have been in.
    agree(index.search(q, 10), wanted)
    np.testing.assert_array_equal(Index(x).reconstruct(index.ids), index.reconstruct(index.ids))


@given(st.data())
def test_any_sizes(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n, dim, m, k = (data.draw(st.integers(1, most)) for most in (400, 40, 20, 30))
    spread = data.draw(st.sampled_from([1, 3, 127]))
    x, q = (rng.integers(-spread, spread + 1, (rows, dim)).astype(np.int8) for rows in (n, m))
    metric = data.draw(st.sampled_from(METRICS))
    scales = rng.uniform(0, 2, n).astype(np.float32) if data.draw(st.booleans()) else None
    ids = rng.permutation(2 * n)[:n] if data.draw(st.booleans()) else None
    index = Index(
        x[: n // 2],
        metric=metric,
        ids=None if ids is None else ids[: n // 2],
        scales=None if scales is None else scales[: n // 2],
    )
    index.add(x[n // 2 :], None if ids is None else ids[n // 2 :], scales=None if scales is None else scales[n // 2 :])
    allowed = rng.permutation(2 * n)[:n] if data.draw(st.booleans()) else None
    agree(index.search(q, k, filter=allowed), reference(x, q, k, metric, ids, allowed, scales))


def test_scores_are_near_those_of_the_floats(rng):
    """The scales enter: vectors of very different lengths keep their order of inner products."""
    x = floats(rng, 2000, 64) * rng.uniform(0.01, 10, (2000, 1)).astype(np.float32)
    q = floats(rng, 50, 64)
    exact = q @ x.T
    scores, ids = Index(x, metric="ip").search(q, 10)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, ids, 1), rtol=0.03, atol=0.5)
    best = np.argsort(-exact, axis=1)[:, :10]
    assert np.mean([len(set(a) & set(b)) for a, b in zip(ids.tolist(), best.tolist(), strict=True)]) >= 9.5


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("keep", ["float32", "int8"])
def test_rescored(rng, metric, keep):
    x, q = floats(rng, 3000, 48), floats(rng, 60, 48)
    index = Index(x, metric=metric, keep=keep)
    scores, ids = index.search(q, 10, rescore=True)
    wide_x, wide_q = x.astype(np.float64), q.astype(np.float64)
    if metric == "cosine":
        wide_x /= np.linalg.norm(wide_x, axis=1, keepdims=True)
        wide_q /= np.linalg.norm(wide_q, axis=1, keepdims=True)
    exact = wide_q @ wide_x.T
    best = np.argsort(-exact, axis=1)[:, :10]
    assert np.mean([len(set(a) & set(b)) for a, b in zip(ids.tolist(), best.tolist(), strict=True)]) >= 9.9
    np.testing.assert_allclose(scores, np.take_along_axis(exact, ids, 1), rtol=2e-4, atol=2e-4 * np.abs(exact).max())
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_array_equal(
        index.search(q, 10, rescore=True, num_threads=3)[0].view(np.int32), scores.view(np.int32)
    )


def test_rescored_ties_go_to_the_smaller_id():
    """Vectors whose codes differ in score and whose values do not."""
    index = Index(np.float32([[1, 300], [1, 5], [0, 1]]), metric="ip", keep="float32")
    q = np.float32([1, 0])
    assert index.search(q, 2)[1].tolist() == [[1, 0]]
    scores, ids = index.search(q, 2, rescore=True)
    assert (scores.tolist(), ids.tolist()) == ([[1, 1]], [[0, 1]])


def test_second_digits_say_more(rng):
    x = floats(rng, 40, 30)
    one, two = (Index(x, metric="ip", keep=keep).reconstruct(np.arange(40)) for keep in (None, "int8"))
    assert np.abs(two - x).max() < np.abs(one - x).max() / 100
    np.testing.assert_array_equal(Index(x, keep="float32").reconstruct([3, 1]), x[[3, 1]])
    np.testing.assert_allclose(np.linalg.norm(Index(x).reconstruct(5)), 1, rtol=1e-6)


def test_adding_and_removing(rng):
    x, q = floats(rng, 1000, 20), floats(rng, 9, 20)
    index = Index(dim=20)
    assert (len(index), index.nbytes, index.dim, index.metric, index.keep) == (0, 0, 20, "cosine", None)
    for start, end in ((0, 1), (1, 10), (10, 11), (11, 700), (700, 1000)):
        index.add(x[start:end])
    agree(index.search(q, 10), reference(x, q, 10, "cosine"))
    gone = rng.permutation(1000)[:400]
    assert index.remove(gone) == 400
    assert index.remove([*gone[:3], 5000]) == 0
    left = np.setdiff1d(np.arange(1000), gone)
    assert len(index) == 600
    np.testing.assert_array_equal(index.ids, left)
    assert gone[0] not in index
    assert left[0] in index
    agree(index.search(q, 700), reference(x, q, 700, "cosine", allowed=left))
    # More than half of them gone, those that are left move together.
    more = left[:300]
    before = index.nbytes
    assert index.remove(more) == 300
    assert index.nbytes < before
    left = left[300:]
    agree(index.search(q, 10), reference(x, q, 10, "cosine", allowed=left))
    np.testing.assert_array_equal(index.reconstruct(left), Index(x).reconstruct(left))
    # An id that is free again, and numbers that go on.
    index.add(x[gone[:1]], gone[:1])
    index.add(x[0])
    assert index.ids[-2:].tolist() == [gone[0], 1000]
    ids = [*left, gone[0], 1000]
    agree(index.search(q, 400), reference(x[[*left, gone[0], 0]], q, 400, "cosine", ids))
    assert index.remove(index.ids) == 302
    assert index.search(q, 2)[1].tolist() == [[-1, -1]] * 9


def test_more_than_one_part(rng):
    """Parts are limited; a search goes over all of them, with ids that go down at the end."""
    n = MOST + 300
    x = rng.integers(-127, 128, (n, 6)).astype(np.int8)
    ids = np.arange(n)
    ids[-10:] = ids[-10:][::-1]
    index = Index(x, ids=ids)
    q = rng.integers(-127, 128, (5, 6)).astype(np.int8)
    wanted = reference(x, q, 50, "cosine", ids)
    for count in (1, 4):
        agree(index.search(q, 50, num_threads=count), wanted)
    np.testing.assert_array_equal(index.reconstruct([3, n - 1]), index.reconstruct(np.array([3, n - 1])))


def test_filters(rng):
    x, q = floats(rng, 500, 12), floats(rng, 4, 12)
    index = Index(x)
    for allowed in ([], [7], rng.permutation(600)[:100]):
        wanted = reference(x, q, 10, "cosine", allowed=np.array(allowed, np.int64))
        agree(index.search(q, 10, filter=allowed), wanted)
        agree(index.search(q, 10, filter=lambda ids, allowed=allowed: np.isin(ids, allowed)), wanted)
    with pytest.raises(TypeError, match="filter must return bool"):
        index.search(q, filter=lambda ids: ids)
    with pytest.raises(TypeError, match="filter must be integers"):
        index.search(q, filter=np.ones(500, bool))


def test_zero_vectors(rng):
    """Their cosine and their product with anything are 0."""
    x = np.float32([[0, 0], [1, 0], [-1, 0], [1e-40, 0]])
    for metric in METRICS:
        index = Index(x, metric=metric, keep="int8")
        for rescore in (False, True):
            scores, ids = index.search(np.float32([[1, 0], [0, 0]]), 4, rescore=rescore)
            assert ids.tolist() == [[1, 0, 3, 2], [0, 1, 2, 3]]
            assert (scores[0, 1:3] == 0).all()
            assert (scores[1] == 0).all()
            assert np.isfinite(scores).all()
    assert Index(dim=3).search(np.zeros((2, 3), np.float32), 1)[0].tolist() == [[-np.inf]] * 2
    assert Index(dim=3).search(np.zeros((0, 3), np.float32), 4)[1].shape == (0, 4)


def test_float64_and_extreme_codes():
    x = np.array([[-128, -128], [127, 127]], np.int8)
    scores, ids = Index(x, metric="ip", scales=np.float32([0.5, 2])).search(np.int8([[-128, -128]]), 2)
    assert scores.tolist() == [[16384, -65024]]
    assert ids.tolist() == [[0, 1]]
    assert Index(np.eye(3)).search(np.eye(3)[1], 1)[1].tolist() == [[1]]


X = np.eye(4, dtype=np.float32)
WRONG = {
    "no dim": (ValueError, "dim must be given", Index),
    "dim 0": (ValueError, "dim must be at least 1", lambda: Index(dim=0)),
    "dim too large": (ValueError, "from 1 to 131071 dimensions", lambda: Index(dim=131072)),
    "ids without vectors": (ValueError, "belong to vectors", lambda: Index(dim=2, ids=[1])),
    "metric": (ValueError, "metric must be one of", lambda: Index(X, metric="l2")),
    "keep": (ValueError, "keep must be None or one of", lambda: Index(X, keep="float16")),
    "type": (TypeError, "vectors must be floats or int8, got uint8", lambda: Index(X.astype(np.uint8))),
    "rank": (ValueError, "must have shape", lambda: Index(np.zeros((1, 1, 1), np.float32))),
    "no dimension": (ValueError, "must have shape", lambda: Index(np.float32(1))),
    "other dim": (
        ValueError,
        "vectors must have 4 dimensions, got 3",
        lambda: Index(X).add(np.zeros((1, 3), np.float32)),
    ),
    "query dim": (
        ValueError,
        "queries must have 4 dimensions, got 3",
        lambda: Index(X).search(np.zeros((1, 3), np.float32)),
    ),
    "nan": (ValueError, "vectors must be finite, got nan in row 1", lambda: Index(np.float32([[1, 2], [3, np.nan]]))),
    "inf": (ValueError, "queries must be finite, got -inf in row 0", lambda: Index(X).search(X[0] - np.inf)),
    "too large for float32": (ValueError, "must be finite", lambda: Index(np.array([[1e300]]))),
    "too large for scores": (ValueError, r"at most 2\*\*50", lambda: Index(np.float32([[1e30]]), metric="ip")),
    "scales of floats": (ValueError, "scales belong to int8", lambda: Index(X, scales=np.float32(1))),
    "scales' shape": (ValueError, "scales must be a scalar or", lambda: Index(X.astype(np.int8), scales=np.ones(3))),
    "negative scales": (ValueError, "scales must be from 0", lambda: Index(X.astype(np.int8), scales=np.float32(-1))),
    "nan scales": (ValueError, "scales must be from 0", lambda: Index(X.astype(np.int8), scales=np.float32(np.nan))),
    "kept int8": (ValueError, "must be floats where the index keeps", lambda: Index(X.astype(np.int8), keep="int8")),
    "ids' type": (TypeError, "ids must be integers", lambda: Index(X, ids=np.zeros(4))),
    "ids' shape": (ValueError, "ids must have shape", lambda: Index(X, ids=[1, 2])),
    "negative ids": (ValueError, "ids must not be negative, got -1", lambda: Index(X, ids=[-1, 0, 1, 2])),
    "ids twice": (ValueError, "5 is given twice", lambda: Index(X, ids=[5, 1, 5, 2])),
    "ids in use": (ValueError, "2 is in use", lambda: Index(X).add(X, ids=[9, 8, 2, 7])),
    "ids beyond": (ValueError, "must fit int64", lambda: Index(X, ids=np.array([0, 1, 2, 2**63], np.uint64))),
    "k 0": (ValueError, "k must be at least 1, got 0", lambda: Index(X).search(X, 0)),
    "k float": (TypeError, "k must be an int, got float", lambda: Index(X).search(X, 1.0)),
    "k bool": (TypeError, "k must be an int, got bool", lambda: Index(X).search(X, True)),
    "rescore": (ValueError, "rescore needs an index made with keep", lambda: Index(X).search(X, rescore=True)),
    "threads": (ValueError, "num_threads must be from 1", lambda: Index(X).search(X, num_threads=0)),
    "reconstruct": (KeyError, "no vector with the id 9", lambda: Index(X).reconstruct(9)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told(name):
    kind, words, call = WRONG[name]
    with pytest.raises(kind, match=words):
        call()


def test_the_greatest_id_of_all():
    """No id follows it, so that of what comes after it must be given."""
    last = 2**63 - 1
    index = Index(X[:2], ids=[5, last])
    with pytest.raises(ValueError, match=f"ids must be given .*, got None after {last}"):
        index.add(X[2:3])
    assert index.ids.tolist() == [5, last]
    index.add(X[:0])
    index.add(X[2:3], ids=[6])
    assert last in index
    assert last + 1 not in index
    assert -(2**70) not in index


def test_a_failed_add_changes_nothing():
    index = Index(X)
    with pytest.raises(ValueError, match="in use"):
        index.add(X, ids=[7, 8, 9, 0])
    assert index.ids.tolist() == [0, 1, 2, 3]
    assert repr(index) == f"Index(4 vectors, dim=4, metric='cosine', keep=None, nbytes={index.nbytes})"


@pytest.mark.parametrize("keep", ["float32", "int8"])
def test_nothing_to_rescore(rng, keep):
    index = Index(dim=4, keep=keep)
    for _ in range(2):
        scores, ids = index.search(floats(rng, 2, 4), 3, rescore=True)
        assert (ids == -1).all()
        assert (scores == -np.inf).all()
        # The same once all there were are gone.
        index.add(X)
        index.remove(index.ids)


def test_k_beyond_the_size(rng):
    x = floats(rng, 5, 3)
    scores, ids = Index(x).search(x[:2], 10**6)
    assert scores.shape == ids.shape == (2, 10**6)
    agree((scores[:, :8], ids[:, :8]), reference(x, x[:2], 8, "cosine"))
    assert (ids[:, 5:] == -1).all()
    assert (scores[:, 5:] == -np.inf).all()


def test_a_thousand_best_of_many_queries(rng):
    x, q = floats(rng, 4000, 16), floats(rng, 70, 16)
    agree(Index(x).search(q, 1000), reference(x, q, 1000, "cosine"))


def test_memory_does_not_grow_with_the_corpus():
    """What a search keeps depends on queries and k alone."""
    kernel = dispatch.select()
    for m in (1, 16, 256):
        for k in (1, 10, 1000):
            some = min(m, rounds.together(kernel, 384, k))
            assert (
                12 * some * rounds.room(some, k, scan.MOST_BLOCK) <= 2 * rounds.MOST_BYTES + 12 * kernel.mr * 8 * k * 16
            )


def test_the_definition_by_hand():
    state = scan.Kept(np.float32([1, 2]), 4, 10)
    state.least[:] = 2, 7
    assert scan.keep_above(np.int32([[1, 2, 3], [4, 3, 9]]), np.float32([1, 1, np.nan]), state)
    assert scan.keep_above(np.int32([[5], [4]]), np.float32([0.5]), state)
    assert state.position == 14
    assert state.counts.tolist() == [1, 1]
    assert (state.scores[0, 0], state.columns[0, 0]) == (2.5, 13)
    assert (state.scores[1, 0], state.columns[1, 0]) == (8, 10)
    assert not scan.keep_above(np.zeros((2, 4), np.int32), np.ones(4, np.float32), state)
    assert state.position == 14


def test_semantic_search(rng):
    x, q = floats(rng, 300, 24), floats(rng, 3, 24)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    exact = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ unit.T
    for corpus in (x, Index(x, keep="float32")):
        found = semantic_search(q, corpus, top_k=5)
        assert [[each["corpus_id"] for each in row] for row in found] == np.argsort(-exact, axis=1)[:, :5].tolist()
        np.testing.assert_allclose(
            [[each["score"] for each in row] for row in found], -np.sort(-exact, axis=1)[:, :5], rtol=1e-5
        )
    assert [len(row) for row in semantic_search(q, x[:2], top_k=5)] == [2, 2, 2]
    assert semantic_search(q.astype(np.int8), x.astype(np.int8), top_k=1)[0][0].keys() == {"corpus_id", "score"}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_codes_with_a_range_of_each_dimension(rng, dtype):
    """As sentence-transformers makes them: ``floor((x - least) / step)``, less 128 for int8."""
    x = floats(rng, 200, 16) * rng.uniform(0.1, 5, 16).astype(np.float32)
    ranges = np.stack([x.min(axis=0), x.max(axis=0)])
    steps = (ranges[1] - ranges[0]) / 255
    codes = (x - ranges[0]) / steps - (128 if dtype == np.int8 else 0)
    codes = np.floor(codes).astype(dtype)
    assert np.abs(dequantize_embeddings(codes, ranges) - x).max(axis=0) == pytest.approx(steps / 2, rel=0.1)
    with pytest.raises(TypeError, match="int8 or uint8"):
        dequantize_embeddings(x, ranges)
    with pytest.raises(ValueError, match="ranges must have shape"):
        dequantize_embeddings(codes, ranges[:, 1:])
