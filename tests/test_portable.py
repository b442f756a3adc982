"""The portable product against int64, at the edge of what float32 represents and past what int32 does."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyint8dot.engine import portable


def wrapped(a, b):
    """The product in int64, taken modulo 2**32."""
    return (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)


def product(a, b):
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    out = np.full(shape, 0x55555555, np.int32)
    assert portable.gemm(a, b, out) is None
    return out


def random(rng, *shape):
    return rng.integers(-128, 128, shape, dtype=np.int8)


@pytest.mark.parametrize("n", [0, 1, 5, 8, 33])
@pytest.mark.parametrize("k", [0, 1, 3, 64, 129])
@pytest.mark.parametrize("m", [0, 1, 4, 8, 31])
def test_shapes(rng, m, k, n):
    a, b = random(rng, m, k), random(rng, k, n)
    assert np.array_equal(product(a, b), wrapped(a, b))


@given(
    data=st.data(), shape=st.tuples(*[st.integers(0, 20)] * 3), steps=st.tuples(*[st.sampled_from([-2, -1, 1, 3])] * 6)
)
def test_any_strides(data, shape, steps):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    m, k, n = shape
    order = data.draw(st.sampled_from("CF"))

    def view(rows, columns, dtype, down, across):
        base = np.asarray(rng.integers(-128, 128, (rows * abs(down), columns * abs(across))).astype(dtype), order=order)
        return base[::down, ::across]

    a = view(m, k, np.int8, steps[0], steps[1])
    b = view(k, n, np.int8, steps[2], steps[3])
    out = view(m, n, np.int32, steps[4], steps[5])
    portable.gemm(a, b, out)
    assert np.array_equal(out, wrapped(a, b))


def test_the_chunk_is_as_long_as_float32_allows():
    """The largest sum of a chunk is the last of the consecutive integers of float32; one value more would not be."""
    largest = portable.CHUNK * 128 * 128
    assert largest == 2**24
    assert np.float32(largest - 1) != np.float32(largest)
    assert np.float32(largest + 1) == np.float32(largest)


@pytest.mark.parametrize("k", [1023, 1024, 1025, 2047, 2048, 2049, 5000, 131071])
@pytest.mark.parametrize(("x", "y"), [(-128, -128), (-128, 127), (127, 127)])
def test_extreme_values_at_the_edges_of_the_chunks(k, x, y):
    a = np.full((2, k), x, np.int8)
    b = np.full((k, 3), y, np.int8)
    assert np.array_equal(product(a, b), np.full((2, 3), k * x * y, np.int64).astype(np.int32))


@pytest.mark.parametrize("k", [1023, 1024, 1025])
def test_the_last_bit_of_a_full_chunk(k):
    """Sums just below 2**24 that are odd: they would lose their last bit if a partial sum were rounded."""
    a = np.full((1, k), -128, np.int8)
    b = np.full((k, 1), -128, np.int8)
    a[0, k // 2], b[k // 2, 0] = 1, 1
    assert product(a, b)[0, 0] == (k - 1) * 2**14 + 1


def test_alternating_signs(rng):
    k = 4096
    a = np.full((3, k), -128, np.int8)
    b = np.where(np.arange(k)[:, None] % 2, -128, 127).astype(np.int8).repeat(5, axis=1)
    assert np.array_equal(product(a, b), wrapped(a, b))


@pytest.mark.parametrize("k", [131071, 131072, 131073, 200000, 262144])
def test_it_is_exact_up_to_the_bound_and_wraps_past_it(k):
    exact = k * 2**14
    c = product(np.full((1, k), -128, np.int8), np.full((k, 1), -128, np.int8))[0, 0]
    assert (c == exact) == (k <= 131071)
    assert c == (exact + 2**31) % 2**32 - 2**31


def test_one_hot(rng):
    a = random(rng, 6, 1500)
    for k in (0, 1023, 1024, 1499):
        b = np.zeros((1500, 1), np.int8)
        b[k] = 1
        assert np.array_equal(product(a, b)[:, 0], a[:, k])


@pytest.mark.parametrize(("m", "n"), [(1025, 3), (3, 1025), (1030, 1027)])
def test_more_than_a_block(rng, m, n):
    a, b = random(rng, m, 40), random(rng, 40, n)
    assert np.array_equal(product(a, b), wrapped(a, b))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 4, 5), (3, 5, 6)),
        ((3, 4, 5), (5, 6)),
        ((4, 5), (3, 5, 6)),
        ((2, 1, 4, 5), (3, 5, 6)),
        ((0, 4, 5), (5, 6)),
        ((3, 4, 0), (3, 0, 6)),
        ((3, 0, 5), (3, 5, 6)),
        ((2, 3, 4, 2000), (2, 1, 2000, 3)),
    ],
)
def test_stacks(rng, left, right):
    a, b = random(rng, *left), random(rng, *right)
    assert np.array_equal(product(a, b), wrapped(a, b))


def test_large_stacks_go_one_by_one(rng, monkeypatch):
    monkeypatch.setattr(portable, "BLOCK", 8)
    a, b = random(rng, 2, 3, 70, 300), random(rng, 3, 300, 50)
    assert np.array_equal(product(a, b), wrapped(a, b))


def test_flags_of_discarded_lanes_are_no_warning(rng, monkeypatch):
    """Some BLAS kernels leave "divided by zero" behind though no value of the product has to do with it."""
    real = np.matmul

    def matmul(a, b):
        np.divide(np.ones(4, np.float32), np.zeros(4, np.float32))
        return real(a, b)

    monkeypatch.setattr(np, "matmul", matmul)
    a, b = random(rng, 8, 8), random(rng, 8, 8)
    assert np.array_equal(product(a, b), wrapped(a, b))


def test_operands_stay_as_they_are(rng):
    a, b = random(rng, 5, 2000), random(rng, 2000, 5)
    before = a.copy(), b.copy()
    a.setflags(write=False)
    b.setflags(write=False)
    product(a, b)
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])


def test_memory_does_not_grow_with_the_operands(rng):
    """The float32 copies are those of a block, not of operands four times as wide."""
    a, b = random(rng, 8, 3000), random(rng, 3000, 4096)
    out = np.empty((8, 4096), np.int32)
    tracemalloc.start()
    try:
        portable.gemm(a, b, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20 < 4 * b.size
