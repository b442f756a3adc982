"""Operands for plans, their product from the definition, and a comparison bit by bit."""

from __future__ import annotations

import numpy as np


def operands(rng, m, k, n, dtype=np.int8):
    info = np.iinfo(dtype)
    a = rng.integers(info.min, info.max + 1, (m, k)).astype(dtype)
    a[rng.random((m, k)) < 0.2] = info.min
    return a, rng.integers(-128, 128, (k, n)).astype(np.int8)


def same_bits(y, expected):
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y.view(f"u{y.itemsize}"), expected.view(f"u{y.itemsize}"))


def product(a, b):
    return (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
