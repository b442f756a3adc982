"""The native epilogues against their definitions in numpy, bit for bit, with guard pages and canaries around everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child, epilogue

from pyint8dot.epilogue import ACTIVATIONS

pytestmark = pytest.mark.native

# Rows and columns: none, one, and around the eight (or sixteen) columns of a turn.
SHAPES = [(0, 0), (0, 9), (3, 0), *itertools.product((1, 3), (1, 2, 7, 8, 9, 15, 16, 17, 33))]
PLACES = [("end", 0), ("start", 5)]
ZERO_POINTS = {np.int8: (-128, -1, 0, 5, 127), np.uint8: (0, 1, 128, 255)}


def accumulators(rng, m, n):
    """int32 values of every magnitude, the extremes among them."""
    acc = rng.integers(-(2**31), 2**31, (m, n)) >> rng.integers(0, 32, (m, n))
    acc[rng.random((m, n)) < 0.05] = -(2**31)
    acc[rng.random((m, n)) < 0.05] = 2**31 - 1
    acc[rng.random((m, n)) < 0.05] = 0
    return acc.astype(np.int32)


def scales(rng, count):
    """Positive, negative and zero scales from the smallest to the largest that matter."""
    values = np.exp2(rng.uniform(-40, 12, count)) * rng.choice([-1, 1, 1, 1, 0], count)
    return values.astype(np.float32)


@pytest.mark.parametrize("axis", ["all", "row", "column"])
@pytest.mark.parametrize("dtype", ZERO_POINTS, ids=lambda dtype: dtype.__name__)
def test_requantize(checker, rng, dtype, axis):
    def body(note):
        zero_points = itertools.cycle(ZERO_POINTS[dtype])
        for (m, n), (place, padding) in itertools.product(SHAPES, PLACES):
            zero_point = next(zero_points)
            note(f"({m}, {n}) zero point {zero_point} {place}")
            scale = scales(rng, {"all": 1, "row": m, "column": n}[axis])
            epilogue.requantize(
                accumulators(rng, m, n), scale, axis, zero_point, dtype, place=place, padding=padding
            ).check(checker)

    child.check(body)


@pytest.mark.parametrize("dtype", ZERO_POINTS, ids=lambda dtype: dtype.__name__)
def test_requantize_ties_and_limits(checker, dtype):
    """Halves go to the even neighbour; results just inside and just outside the range of the type."""
    acc = np.arange(-700, 700, dtype=np.int32).reshape(4, 350)

    def body(note):
        for zero_point, scale in itertools.product(ZERO_POINTS[dtype], (0.5, -0.5, 0.25, 1.0, 3e38)):
            note(f"zero point {zero_point} scale {scale}")
            epilogue.requantize(acc, np.float32([scale]), "all", zero_point, dtype).check(checker)

    child.check(body)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_dequantize(checker, rng, act):
    def body(note):
        biases = itertools.cycle(("column", "each", None))
        for (m, n), (place, padding), single in itertools.product(SHAPES, PLACES, (True, False)):
            biased = next(biases)
            note(f"({m}, {n}) {place} single {single} bias {biased}")
            rows, columns = scales(rng, 1 if single else m), scales(rng, n)
            bias = (rng.standard_normal((m, n) if biased == "each" else n) * 3).astype(np.float32) if biased else None
            epilogue.dequantize(accumulators(rng, m, n), rows, columns, bias, act, place=place, padding=padding).check(
                checker
            )

    child.check(body)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_dequantize_where_activations_bend(checker, act):
    """Small values of both signs, both zeros, and the ends of gelu's range."""
    acc = np.arange(-8000, 8000, dtype=np.int32).reshape(4, 4000)
    columns = np.full(4000, 1e-3, np.float32)
    bias = np.where(np.arange(4000) % 2, np.float32(-0.0), np.float32(0.0))

    def body(_):
        for rows in (np.float32([1, -1, 1e-3, 0]), np.float32([-1])):
            epilogue.dequantize(acc, rows, columns, bias, act).check(checker)
            epilogue.dequantize(acc, rows, columns, None, act).check(checker)

    child.check(body)


@pytest.mark.parametrize("policy", epilogue.POLICIES, ids=epilogue.POLICIES.get)
def test_q_scale(checker, rng, policy):
    def body(note):
        for number, ((m, n), (place, padding)) in enumerate(itertools.product(SHAPES, PLACES)):
            multiplier = int(rng.integers(2**30, 2**31)) if number % 3 else int(rng.integers(0, 2**31))
            shift = int(rng.integers(1, 63))
            dtype, low, high, zero_point = (
                (np.int8, -128, 127, -3),
                (np.uint8, 0, 255, 128),
                (np.int8, -5, 9, 2**31 - 1),
            )[number % 3]
            note(f"({m}, {n}) {place} multiplier {multiplier} shift {shift} {dtype.__name__}")
            epilogue.q_scale(
                accumulators(rng, m, n),
                multiplier,
                shift,
                policy,
                zero_point,
                low,
                high,
                dtype,
                place=place,
                padding=padding,
            ).check(checker)

    child.check(body)


@pytest.mark.parametrize("policy", epilogue.POLICIES, ids=epilogue.POLICIES.get)
def test_q_scale_ties(checker, policy):
    """Every tie and its neighbours: at the smallest shift, at common ones, at the largest, where only the extreme int32 reaches one."""
    acc = np.array([[*range(-40, 41), -(2**31), -(2**31) + 1, 2**31 - 1, 2**31 - 2]], np.int32)

    def body(note):
        for multiplier, shift in (
            (1, 1),
            (1, 2),
            (3, 2),
            (1, 4),
            (5, 3),
            (2**30, 31),
            (2**30, 32),
            (2**30, 62),
            (2**30, 61),
            (2**31 - 1, 62),
            (0, 5),
        ):
            note(f"multiplier {multiplier} shift {shift}")
            epilogue.q_scale(acc, multiplier, shift, policy, 0, -128, 127, np.int8).check(checker)

    child.check(body)


def test_quantize_rows(checker, rng):
    def body(note):
        for (m, n), (place, padding) in itertools.product(SHAPES, PLACES):
            note(f"({m}, {n}) {place}")
            x = rng.standard_normal((m, n)) * np.exp2(rng.integers(-140, 120, (m, 1)).astype(float))
            epilogue.QuantizeRows(x.astype(np.float32), place=place, padding=padding).check(checker)

    child.check(body)


def test_quantize_rows_that_are_special(checker):
    """Zeros of both signs, subnormals, the largest float, and where 127 / absmax stops being a float."""
    tiny, largest = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    edge = np.float32(127) / largest
    rows = [[0, -0.0, 0, 0], [tiny / 4, -tiny / 2, 0, 0], [largest, -largest / 2, 1, 0], [edge, -edge / 2, 0, edge / 3]]
    rows += [[edge * 1.001, edge, 0, 0], [edge * 0.999, edge / 2, 0, 0], [-127, 0.5, 1.5, -2.5], [1, 1e-30, -1e-38, 0]]

    def body(_):
        for n in (4, 20):
            x = np.zeros((len(rows), n), np.float32)
            x[:, -4:] = rows
            epilogue.QuantizeRows(x).check(checker)
            epilogue.QuantizeRows(np.full((1, n), -0.0, np.float32)).check(checker)

    child.check(body)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_quantize_rows_reports_what_is_not_finite(checker, rng, value):
    def body(note):
        for n in (1, 3, 16, 21):
            for column in range(n):
                note(f"{value} in column {column} of {n}")
                x = rng.standard_normal((3, n)).astype(np.float32)
                x[1, column] = value
                epilogue.QuantizeRows(x).check(checker)

    child.check(body)
