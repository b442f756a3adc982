"""The native softmax terms and layer normalisation against their definitions in numpy, bit for bit, with guard pages around everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child, float_call
from support.entry import Entry

from pyint8dot import floats

SHAPES = [(0, 0), (0, 9), *itertools.product((1, 3), (1, 2, 7, 8, 9, 15, 16, 17, 33, 64))]
PLACES = [("end", 0), ("start", 5)]


def rows(rng, m, n, spread=8):
    return (rng.standard_normal((m, n)) * spread).astype(np.float32)


@pytest.mark.native
def test_exp2_terms(checker, rng):
    def body(note):
        for (m, n), (place, padding), spread in itertools.product(SHAPES, PLACES, (1, 60)):
            note(f"({m}, {n}) {place} {spread}")
            scale = np.float32(1 if spread == 60 else floats.LOG2_E)
            float_call.Exp2Terms(rows(rng, m, n, spread), scale, place=place, padding=padding).check(checker)

    child.check(body)


@pytest.mark.native
def test_exp2_terms_of_special_values(checker):
    x = np.float32(
        [
            [0, -126, -126.5, -127, -200, -np.inf, 3, 1e-40, -0.0],
            [np.inf, 0, 1, 2, 3, 4, 5, 6, 7],
            [np.nan, *range(8)],
            [-np.inf] * 9,
        ]
    )

    def body(note):
        for row in range(4):
            note(f"row {row}")
            call = float_call.Exp2Terms(x[row : row + 1], np.float32(1))
            if np.isfinite(call.want).all():
                call.check(checker)
            else:
                # Which NaN is left open.
                assert Entry("exp2_terms").call(checker, call.argument) + call.y.damage() == []
                np.testing.assert_array_equal(call.y.values, call.want)

    child.check(body)


@pytest.mark.native
def test_layer_norm(checker, rng):
    def body(note):
        for (m, n), (place, padding) in itertools.product(SHAPES, PLACES):
            note(f"({m}, {n}) {place}")
            x, weight, bias = rows(rng, m, n) + np.float32(3), rows(rng, 1, n)[0], rows(rng, 1, n)[0]
            float_call.layer_norm(x, weight, bias, 1e-5, place=place, padding=padding).check(checker)

    child.check(body)


@pytest.mark.parametrize("n", [1, 7, 8, 20, 384])
def test_both_ways_give_the_same_bits(rng, n):
    x, weight, bias = rows(rng, 6, n), rows(rng, 1, n)[0], rows(rng, 1, n)[0]
    strided, ones = np.asfortranarray(x), np.ones(6, np.float32)

    def everything(native):
        return [
            *floats.exp2_terms(x, native=native),
            *floats.exp2_terms(strided, native=native),
            floats.layer_norm(x, weight, bias, native=native),
            floats.layer_norm(x, weight, None, native=native),
            floats.layer_norm(strided, weight[::-1], bias, native=native),
            floats.layer_norm(x.T, ones, None, native=native),
        ]

    for one, other in zip(everything(True), everything(False), strict=True):
        np.testing.assert_array_equal(one, other)
