"""Scaling with rounding: tract's q_scale cases, every tie, and the ends of the range, against fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fused import INT32_MAX, INT32_MIN, rounded, scaled, wrap

from pyint8dot.fuse import (
    QScale,
    RoundingPolicy,
    RoundingShiftRight,
    Scaler,
    ShiftLeft,
    apply,
    requantize_ops,
    rounding,
)

POLICIES = list(RoundingPolicy)
# One tile of small values on both sides of zero, as tract has it, then the ends of the range.
TILE = [*range(-32, 32)]
ENDS = [INT32_MIN, INT32_MIN + 1, INT32_MIN + 2, -(2**30), -(2**30) - 1, 2**30, 2**30 + 1, INT32_MAX - 1, INT32_MAX]

policies = st.sampled_from(POLICIES)
int32s = st.integers(INT32_MIN, INT32_MAX)
# Half of the numbers are small, where ties are.
values = st.lists(st.integers(-20, 19) | int32s, min_size=1, max_size=64)
# 2**-5 .. 2**4 times something in (0, 1], the factor 1 included.
scales = st.builds(math.ldexp, st.just(1.0) | st.floats(2.0**-20, 1.0, width=32), st.integers(-5, 4))

by_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name.lower())


def run(xs: list[int], op: object) -> list[int]:
    acc = np.array([xs], np.int32)
    result: list[int] = apply(acc, [op])[0].tolist()
    return result


# x / 2 for x = -5 .. 5, written by hand: this table checks the fractions as well.
HALVES = {
    RoundingPolicy.Zero: [-2, -2, -1, -1, 0, 0, 0, 1, 1, 2, 2],
    RoundingPolicy.Away: [-3, -2, -2, -1, -1, 0, 1, 1, 2, 2, 3],
    RoundingPolicy.MinusInf: [-3, -2, -2, -1, -1, 0, 0, 1, 1, 2, 2],
    RoundingPolicy.PlusInf: [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3],
    RoundingPolicy.Even: [-2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2],
    RoundingPolicy.Odd: [-3, -2, -1, -1, -1, 0, 1, 1, 1, 2, 3],
}


@by_policy
def test_halves(policy):
    xs = list(range(-5, 6))
    assert [rounded(Fraction(x, 2), policy) for x in xs] == HALVES[policy]
    assert run(xs, Scaler(0.5, policy)) == HALVES[policy]
    assert run(xs, RoundingShiftRight(1, policy)) == HALVES[policy]
    assert run(xs, QScale(0, policy, 2**30)) == HALVES[policy]


SCALES = {"halfpos": 0.5, "pot": 0.25, "nonpot": 0.2, "bigpot": 4.0, "bignonpot": 14.0}


@by_policy
@pytest.mark.parametrize("name", SCALES)
def test_return_q_scale(name, policy):
    scaler = Scaler(SCALES[name], policy)
    exact = Fraction(scaler.scale)
    expected = [scaled(x, exact, policy) for x in TILE + ENDS]
    assert run(TILE + ENDS, scaler) == expected
    assert run(TILE + ENDS, scaler.as_op()) == expected


@by_policy
def test_return_q_scale_halfneg(policy):
    with pytest.raises(ValueError, match=r"scale must not be negative, got -0\.5"):
        Scaler(-0.5, policy)


def test_return_c_scale_bigpot():
    assert run(TILE, ShiftLeft(1)) == [2 * x for x in TILE]


@given(values, scales, policies)
def test_return_q_scale_prop(xs, scale, policy):
    scaler = Scaler(scale, policy)
    assert run(xs, scaler) == [scaled(x, Fraction(scaler.scale), policy) for x in xs]


@given(values, st.integers(-70, 70), policies, st.integers(0, INT32_MAX))
def test_q_scale_of_any_multiplier_and_shift(xs, shift, policy, multiplier):
    exact = Fraction(multiplier) / Fraction(2) ** (31 + shift)
    assert run(xs, QScale(shift, policy, multiplier)) == [scaled(x, exact, policy) for x in xs]


@given(values, st.integers(0, 70), policies)
def test_rounding_shift_right_prop(xs, shift, policy):
    assert run(xs, RoundingShiftRight(shift, policy)) == [scaled(x, Fraction(1, 2**shift), policy) for x in xs]


@given(values, st.integers(0, 70))
def test_shift_left_wraps(xs, shift):
    assert run(xs, ShiftLeft(shift)) == [wrap(x * 2**shift) for x in xs]


@by_policy
@pytest.mark.parametrize("shift", [1, 2, 7, 30, 31])
def test_ties_of_every_shift(policy, shift):
    # Odd multiples of half a unit and their two neighbours, by shift alone and by multiplier.
    half = 2 ** (shift - 1)
    ties = [sign * k * half for k in (1, 3, 5, 7) for sign in (-1, 1)]
    xs = [x for tie in ties for x in (tie - 1, tie, tie + 1) if INT32_MIN <= x <= INT32_MAX]
    expected = [scaled(x, Fraction(1, 2**shift), policy) for x in xs]
    assert run(xs, RoundingShiftRight(shift, policy)) == expected
    assert run(xs, QScale(shift - 1, policy, 2**30)) == expected


@by_policy
@pytest.mark.parametrize("multiplier", [0, 1, 2**30, 2**31 - 1])
@pytest.mark.parametrize("shift", [-255, -63, -32, -31, -30, -1, 0, 1, 29, 30, 31, 32, 33, 34, 255])
def test_ends_of_the_range(policy, multiplier, shift):
    exact = Fraction(multiplier) / Fraction(2) ** (31 + shift)
    assert run(ENDS, QScale(shift, policy, multiplier)) == [scaled(x, exact, policy) for x in ENDS]


@by_policy
def test_a_shift_to_the_left_does_not_saturate(policy):
    assert run([2**30, INT32_MIN, 1], Scaler(4.0, policy)) == [0, 0, 4]
    assert run([2**30 + 1], QScale(-33, policy, 2**30)) == [wrap((2**30 + 1) * 2**32)]


@by_policy
def test_the_steps_of_a_large_array_leave_no_seam(policy, monkeypatch):
    monkeypatch.setattr(rounding, "_CHUNK", 16)
    xs = np.arange(-150, 150, dtype=np.int32).reshape(30, 10)
    expected = [scaled(x, Fraction(1, 4), policy) for x in xs.ravel().tolist()]
    for acc in (xs.copy(), np.asfortranarray(xs), np.repeat(xs, 2, axis=1)[:, ::2], xs[::-1].copy()[::-1]):
        assert apply(acc, [Scaler(0.25, policy)]).ravel().tolist() == expected


@given(st.floats(2.0**-126, 2.0**127, width=32))
def test_scaler_is_exact(scale):
    scaler = Scaler(scale, RoundingPolicy.Even)
    if scaler.multiplier is None:
        assert Fraction(2) ** -scaler.shift == Fraction(scale)
    else:
        assert 2**30 <= scaler.multiplier < 2**31
        assert Fraction(scaler.multiplier) / Fraction(2) ** (31 + scaler.shift) == Fraction(scale)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (0.0, ShiftLeft(0)),
        (-0.0, ShiftLeft(0)),
        (1.0, ShiftLeft(0)),
        (0.5, RoundingShiftRight(1, RoundingPolicy.Odd)),
        (0.25, RoundingShiftRight(2, RoundingPolicy.Odd)),
        (4.0, ShiftLeft(2)),
        (14.0, QScale(-4, RoundingPolicy.Odd, 14 * 2**27)),
        (0.75, QScale(0, RoundingPolicy.Odd, 3 * 2**29)),
        (3, QScale(-2, RoundingPolicy.Odd, 3 * 2**29)),
        (np.float32(1.5), QScale(-1, RoundingPolicy.Odd, 3 * 2**29)),
        (Fraction(3, 8), QScale(1, RoundingPolicy.Odd, 3 * 2**29)),
        (2.0**-149, RoundingShiftRight(149, RoundingPolicy.Odd)),
    ],
)
def test_scaler_stands_for_an_op(scale, expected):
    assert Scaler(scale, RoundingPolicy.Odd).as_op() == expected


def test_a_scale_is_rounded_to_float32():
    assert Scaler(0.1, RoundingPolicy.Even) == Scaler(np.float32(0.1), RoundingPolicy.Even)
    assert Scaler(0.1, RoundingPolicy.Even).scale == float(np.float32(0.1))


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        (-1e-9, ValueError, "scale must not be negative"),
        (-1e-60, ValueError, "scale must not be negative"),
        (1e-60, ValueError, "too small for float32"),
        (1e60, ValueError, "scale must be finite in float32"),
        (math.inf, ValueError, "scale must be finite in float32"),
        (math.nan, ValueError, "scale must be finite in float32"),
        ("0.5", TypeError, "scale must be a real number, got str"),
        (True, TypeError, "scale must be a real number, got bool"),
        (np.array([0.5]), TypeError, "scale must be a real number, got ndarray"),
        (None, TypeError, "scale must be a real number, got NoneType"),
    ],
)
def test_scaler_refuses(scale, error, message):
    with pytest.raises(error, match=message):
        Scaler(scale, RoundingPolicy.Even)


EVEN = RoundingPolicy.Even


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: QScale(0, EVEN, -1), ValueError, "multiplier must be from 0 to 2147483647, got -1"),
        (lambda: QScale(0, EVEN, 2**31), ValueError, "multiplier must be from 0 to 2147483647"),
        (lambda: QScale(0, EVEN, 1.0), TypeError, "multiplier must be an integer, got float"),
        (lambda: QScale(256, EVEN, 1), ValueError, "shift must be from -255 to 255, got 256"),
        (lambda: QScale(-256, EVEN, 1), ValueError, "shift must be from -255 to 255, got -256"),
        (lambda: QScale(True, EVEN, 1), TypeError, "shift must be an integer, got bool"),
        (lambda: QScale(0, 5, 1), TypeError, "policy must be a RoundingPolicy, got int"),
        (lambda: RoundingShiftRight(-1, EVEN), ValueError, "shift must be from 0 to 255, got -1"),
        (lambda: RoundingShiftRight(1, "Even"), TypeError, "policy must be a RoundingPolicy, got str"),
        (lambda: ShiftLeft(-1), ValueError, "shift must be from 0 to 255, got -1"),
        (lambda: ShiftLeft(None), TypeError, "shift must be an integer, got NoneType"),
        (lambda: Scaler(0.5, 5), TypeError, "policy must be a RoundingPolicy, got int"),
    ],
)
def test_operands_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


@given(values, scales, policies, st.integers(-128, 127))
def test_requantize_ops(xs, scale, policy, zero_point):
    scaler = Scaler(scale / 64, policy)
    acc = apply(np.array([xs], np.int32), requantize_ops(scaler, zero_point))
    exact = Fraction(scaler.scale)
    assert acc[0].tolist() == [min(max(scaled(x, exact, policy) + zero_point, -128), 127) for x in xs]
