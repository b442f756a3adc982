"""LSTMs and the products they are made of: native against numpy, bit for bit, and numpy against float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child, recurrent_call

from pyint8dot import floats, pack
from pyint8dot.conv1d import Convolution1d
from pyint8dot.engine import dispatch
from pyint8dot.lstm import initial_states, lstm, pack_weights
from pyint8dot.lstm_int8 import QuantisedSteps

PLACES = [("end", 0), ("start", 3)]


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def weights(rng, count, inputs, hidden, *, biased=True):
    bias = normal(rng, count, 8 * hidden) if biased else None
    return normal(rng, count, 4 * hidden, inputs), normal(rng, count, 4 * hidden, hidden), bias


def bits(arrays):
    return [np.ascontiguousarray(array).view(np.int32) for array in arrays]


@pytest.mark.native
def test_product(checker, rng):
    def body(note):
        for m, k, panels in itertools.product((0, 1, 3, 4, 5, 9), (0, 1, 3, 4, 9, 16), (0, 1, 3, 4, 5, 9)):
            note(f"({m}, {k}) by {panels}")
            place, padding = PLACES[(m + k + panels) % 2]
            a, b = normal(rng, m, k), normal(rng, k, 16 * panels)
            start = normal(rng, m, 16 * panels) if (m + k) % 2 else normal(rng, 16 * panels)
            recurrent_call.Product(a, b, start, place=place, padding=padding).check(checker)

    child.check(body)


@pytest.mark.native
def test_steps(checker, rng):
    def body(note):
        cases = itertools.product((0, 1, 3), (0, 1, 4, 6), (0, 1, 4, 5), (False, True))
        for number, (steps, batch, groups, backward) in enumerate(cases):
            note(f"{steps} steps of {batch} by {groups}, {backward}")
            place, padding = PLACES[number // 2 % 2]
            r = normal(rng, groups, 4 * groups, 16) if number % 5 else None
            h, c = normal(rng, batch, 4 * groups), 2 * normal(rng, batch, 4 * groups)
            lengths = rng.integers(0, steps + 1, batch) if number % 3 else None
            recurrent_call.Steps(
                normal(rng, steps, batch, 16 * groups),
                r,
                h,
                c,
                lengths,
                backward=backward,
                place=place,
                padding=padding,
            ).check(checker)

    child.check(body)


@pytest.mark.native
def test_steps_with_special_values(checker):
    """Zeros of both signs, subnormals, what saturates, infinities and NaN, each in every gate, as state and as cell."""
    values = np.float32([0, -0.0, 1e-45, -1e-38, 7.9, -7.94, 30, -1e38, np.inf, -np.inf, np.nan, 1])

    def body(note):
        for turn in range(len(values)):
            note(f"{turn}")
            sums = np.resize(np.roll(values, turn), (1, 2, 64))
            h, c = np.resize(np.roll(values, 2 * turn), (2, 16)), np.resize(values, (2, 16))
            recurrent_call.Steps(sums, None, h, c).check(checker)
            recurrent_call.Steps(sums, np.ones((4, 16, 16), np.float32), h, c).check(checker)

    child.check(body)


@pytest.mark.parametrize("backward", [(False,), (True,), (False, True)])
def test_both_ways(rng, backward):
    """Numbers of units that fill no panel, rows of all lengths, and states given or not."""
    count = len(backward)
    sizes = itertools.product((0, 1, 4), (0, 1, 5), (0, 1, 6), (1, 4, 7, 21))
    for number, (steps, batch, inputs, hidden) in enumerate(sizes):
        packed = pack_weights(*weights(rng, count, inputs, hidden, biased=number % 4 > 0))
        x = normal(rng, steps, inputs, batch).swapaxes(1, 2)
        states = [normal(rng, count, batch, hidden) if number % 3 else None for _ in range(2)]
        lengths = rng.integers(0, steps + 2, batch) if number % 2 else None
        found, wanted = (
            lstm(x, packed, *states, lengths, backward=backward, native=native) for native in (True, False)
        )
        assert found[0].shape == (steps, count, batch, hidden)
        for one, other in zip(bits(found), bits(wanted), strict=True):
            np.testing.assert_array_equal(one, other)


def test_is_the_lstm_of_its_formula(rng):
    w, r, bias = weights(rng, 2, 6, 9)
    x, h, c = normal(rng, 5, 3, 6), normal(rng, 2, 3, 9), normal(rng, 2, 3, 9)
    lengths = np.array([5, 0, 3])
    y, last_h, last_c = lstm(x, pack_weights(w, r, bias), h, c, lengths, backward=(False, True))

    def sigmoid(value):
        return 1 / (1 + np.exp(-value))

    for d, row in itertools.product(range(2), range(3)):
        state, cell = (each[d, row].astype(np.float64) for each in (h, c))
        steps = range(lengths[row])
        wanted = np.zeros((5, 9))
        for t in reversed(steps) if d else steps:
            i, o, f, g = np.split(w[d] @ x[t, row] + r[d] @ state + bias[d, :36] + bias[d, 36:], 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            state = wanted[t] = sigmoid(o) * np.tanh(cell)
        np.testing.assert_allclose(y[:, d, row], wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(last_h[d, row], state, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(last_c[d, row], cell, rtol=1e-4, atol=1e-5)


def test_gates_saturate_and_nan_stays_in_its_row(rng):
    w, r, bias = weights(rng, 1, 2, 4)
    x = np.float32([[[np.inf, 0], [1, 2], [np.nan, 0]]])
    y, _, c = lstm(x, pack_weights(np.abs(w), np.abs(r), bias))
    np.testing.assert_array_equal(c[0, 0], np.ones(4, np.float32))
    np.testing.assert_array_equal(y[0, 0, 0], floats.tanh(np.ones(4, np.float32)))
    assert np.isfinite(y[0, 0, 1]).all()
    assert np.isnan(y[0, 0, 2]).all()


@pytest.mark.parametrize("native", [True, False])
def test_what_fills_up_panels_makes_no_nan_of_infinities(rng, native):
    """As an input, and as a state before the first step; every weight times them is an infinity of one sign."""
    w, r, bias = (np.abs(each) for each in weights(rng, 2, 2, 5))
    x, h = normal(rng, 4, 2, 2), np.zeros((2, 2, 5), np.float32)
    x[1, 0, 0], h[:, 1, 4] = np.inf, np.inf
    found = lstm(x, pack_weights(w, r, bias), h, backward=(False, True), native=native)
    assert all(np.isfinite(each).all() for each in found)


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("x", lambda x: x.astype(np.float64), TypeError),
        ("x", lambda x: x[..., :1], ValueError),
        ("x", lambda x: x[0], ValueError),
        ("h", lambda h: h[:, :1], ValueError),
        ("h", lambda h: h.astype(np.float16), TypeError),
        ("c", lambda c: c[..., :1], ValueError),
        ("lengths", lambda n: n[:1], ValueError),
        ("lengths", lambda n: n.astype(np.float32), ValueError),
        ("backward", lambda _: (False, True), ValueError),
    ],
)
def test_wrong_operands_are_refused(rng, name, change, error):
    operands = {
        "x": normal(rng, 2, 3, 5),
        "h": normal(rng, 1, 3, 4),
        "c": normal(rng, 1, 3, 4),
        "lengths": np.array([1, 2, 0]),
        "backward": (False,),
    }
    packed = pack_weights(*weights(rng, 1, 5, 4))
    with pytest.raises(error, match=name):
        lstm(weights=packed, **{**operands, name: change(operands[name])})


@pytest.mark.parametrize("number", range(3))
def test_wrong_weights_are_refused(rng, number):
    right = weights(rng, 1, 5, 4)
    for change, error in ((lambda a: a.astype(np.float64), TypeError), (lambda a: a[:, 1:], ValueError)):
        with pytest.raises(error):
            pack_weights(*(change(each) if i == number else each for i, each in enumerate(right)))


def quantised(rng, count, units, *, zero):
    """Steps whose weights have a zero point for all columns, or one for each."""
    made = []
    for _ in range(count):
        matrix = pack(rng.integers(-128, 128, (units, 4 * units)).astype(np.int8))
        unit = rng.uniform(0.001, 0.02, 4 * units).astype(np.float32)
        points = rng.integers(-9, 9, 4 * units).astype(np.int32) if zero is None else zero
        made.append((matrix, unit, points))
    return QuantisedSteps(made, dispatch.select(None))


@pytest.mark.parametrize("zero", [0, 5, None])
@pytest.mark.parametrize("backward", [(True,), (False, True)])
def test_quantised_steps_both_ways(rng, zero, backward):
    """Of more steps than a program has, too."""
    count = len(backward)
    for steps, batch, units in ((1, 1, 4), (3, 5, 20), (130, 1, 8)):
        walk = quantised(rng, count, units, zero=zero)
        sums = normal(rng, steps * batch, count * 4 * units)
        lengths = rng.integers(0, steps + 1, batch).astype(np.int32) if units == 20 else None
        h, c = normal(rng, count, batch, units), normal(rng, count, batch, units)
        results = []
        for native in (True, False):
            y = np.empty((steps, count, batch, units), np.float32)
            state, cell = initial_states(h, c, h.shape, units)
            walk(sums.copy(), y, state, cell, lengths, backward, native=native)
            results.append(bits([y, state, cell]))
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("native", [True, False])
def test_states_that_are_not_finite_cannot_be_quantised(rng, native):
    walk = quantised(rng, 1, 4, zero=0)
    h, c = np.full((1, 1, 4), np.nan, np.float32), np.zeros((1, 1, 4), np.float32)
    with pytest.raises(ValueError, match="finite"):
        walk(normal(rng, 1, 16), np.empty((1, 1, 1, 4), np.float32), h, c, None, (False,), native=native)


def test_convolutions_along_one_axis_both_ways(rng):
    cases = itertools.product((0, 1, 3), (1, 5), (1, 9, 20), (1, 16, 21), (1, 3), (1, 2), ((0, 0), (1, 2)))
    for batch, channels, positions, n, taps, stride, pads in cases:
        outs = (positions + sum(pads) - taps) // stride + 1
        if outs < 0:
            continue
        w, x = normal(rng, n, channels, taps), normal(rng, batch, channels, positions)
        bias = normal(rng, n) if positions % 2 else None
        convolve = Convolution1d(w, bias)
        found, wanted = (convolve(x, stride, pads, outs, native=native) for native in (True, False))
        np.testing.assert_array_equal(*bits([found, wanted]))
        padded = np.pad(x, [(0, 0), (0, 0), pads])
        for o in range(outs):
            window = padded[:, None, :, o * stride : o * stride + taps]
            whole = np.sum(window * w, axis=(2, 3), dtype=np.float64) + (0 if bias is None else bias)
            np.testing.assert_allclose(found[:, :, o], whole, rtol=1e-4, atol=1e-5)
