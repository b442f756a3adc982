"""The native depthwise convolution: the entry against its definition, and whole convolutions against the numpy form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child, rows
from support.convolution import exact
from support.depthwise import STEMS, Call
from support.quantized import many, operand

from pyint8dot.conv import Convolution, Quantization, conv_integer, pack_conv, qlinear_conv
from pyint8dot.convolution import depthwise, geometry, im2col, lowering

ROWS = (0, 1, 2, 3, 4, 5, 7, 9)
COLUMNS = (0, 1, 2, 3, 7, 8, 13, 15, 16, 17, 31, 32, 50)
KINDS = [(None, 0, np.int32), (0.003, -5, np.int8), (0.003, 250, np.uint8)]
PORTABLE = rows.PORTABLE.name


def taps(rng, stem, count):
    """Weights of so many groups over all that an entry takes, which is as many bits as it multiplies."""
    low, high = (-255, 256) if STEMS[stem] == 1 else (-128, 128)
    return rng.integers(low, high, (count, STEMS[stem]))


def steps(stem):
    """Steps along a row and between taps: all whose pixels lie within a register."""
    if STEMS[stem] == 1:
        return [(1, 1)]
    reach = (depthwise.LEAST - 1) // (depthwise.SHARED - 1)
    return [(step, spread) for step in range(1, reach) for spread in range(1, reach + 1 - step)]


@pytest.mark.native
@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize(("scale", "zero_point", "dtype"), KINDS, ids=[np.dtype(kind[2]).name for kind in KINDS])
def test_shapes(checker, rng, stem, scale, zero_point, dtype):
    """Whole and cut tiles of both axes, rows close together and apart, taps before and behind the pixel."""
    ways = itertools.cycle(steps(stem))

    def body(note):
        for number, (m, n) in enumerate(itertools.product(ROWS, COLUMNS)):
            for place in ("end", "start"):
                count = number % 11
                step, spread = next(ways)
                note(f"({m}, {n}) {count} taps {place} {step} {spread}")
                weights, offsets = taps(rng, stem, count), rng.integers(-40, 200, count)
                options = {"ld_x": (n, 19, 64)[number % 3], "padding": number % 4, "place": place}
                Call(
                    stem, rng, m, n, weights, offsets, scale, zero_point, dtype, step=step, spread=spread, **options
                ).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("pixels", [-128, 127])
def test_extremes(checker, rng, stem, pixels):
    def body(note):
        for count, weight in itertools.product((1, 2, 25), (-255, -128, 127, 255)):
            if STEMS[stem] > 1 and abs(weight) > 128:
                continue
            note(f"{count} of {weight}")
            weights, offsets = np.full((count, STEMS[stem]), weight), np.arange(count)
            Call(stem, rng, 5, 35, weights, offsets, pixels=pixels).check(checker)
            for scale in (1e-4, 3.4e38, -3.4e38, 0.0):
                Call(stem, rng, 5, 35, weights, offsets, scale, -128, np.int8, pixels=pixels).check(checker)
                Call(stem, rng, 5, 35, weights, offsets, scale, 255, np.uint8, pixels=pixels).check(checker)

    child.check(body)


def random_case(rng):
    """Operands and attributes of a depthwise convolution in one to three dimensions, wide ones among them."""
    d = int(rng.integers(1, 4))
    group, multiplier = int(rng.integers(2, 6)), int(rng.integers(1, 3))
    window, strides, dilations = rng.integers(1, 6, d), rng.integers(1, 4, d), rng.integers(1, 3, d)
    pads = rng.integers(0, 3, 2 * d)
    least = np.maximum(1, (window - 1) * dilations + 1 - pads[:d] - pads[d:])
    size = least + rng.integers(0, (60, 40, 8)[d - 1], d)
    kinds = rng.choice([np.int8, np.uint8], 2)
    x, w = operand(rng, kinds[0], (2, group, *size)), operand(rng, kinds[1], (group * multiplier, 1, *window))
    attributes = {"strides": strides.tolist(), "dilations": dilations.tolist(), "pads": pads.tolist(), "group": group}
    return x, w, operand(rng, kinds[0], ()), operand(rng, kinds[1], rng.choice([1, group * multiplier], 1)), attributes


def test_both_ways_give_the_same(kernel, rng):
    """The kernel at hand, the numpy form and the definition, on one thread and on several."""
    for _ in range(many(300)):
        x, w, zx, zw, attributes = random_case(rng)
        options = {"kernel": kernel, "num_threads": int(rng.integers(1, 4))}
        label = f"{x.dtype} {x.shape} {w.dtype} {w.shape} {attributes}"
        wanted = exact(x, w, zx, zw, **attributes)
        np.testing.assert_array_equal(conv_integer(x, w, zx, zw, **attributes, **options), wanted, label)
        channels = len(w)
        kind = rng.choice([np.int8, np.uint8])
        given = [np.float32(0.05), zx, w, rng.uniform(0.01, 0.1, channels).astype(np.float32), zw]
        given += [
            np.float32(rng.uniform(0.5, 20)),
            operand(rng, kind, ()),
            rng.integers(-9999, 9999, channels, np.int32),
        ]
        y = qlinear_conv(x, *given, **attributes, **options)
        assert y.dtype == kind
        np.testing.assert_array_equal(y, qlinear_conv(x, *given, **attributes, kernel=PORTABLE), label)


@pytest.mark.native
def test_it_is_native(native_kernel, rng, monkeypatch):
    """No sum of shifted images where the library does it, and one program for images of one size."""
    monkeypatch.setattr(lowering.Lowered, "_shifted", None)
    w = pack_conv(operand(rng, np.int8, (6, 1, 3, 3)), group=3, kernel=native_kernel)
    rescale = Quantization(0.1, 0.1, 9.0, np.int8(3))
    for x_dtype, quantization in itertools.product((np.int8, np.uint8), (None, rescale)):
        convolution = Convolution(w, x_dtype, quantization=quantization, pads=[1] * 4)
        for _ in range(3):
            convolution(operand(rng, x_dtype, (2, 3, 9, 21)), kernel=native_kernel, num_threads=1)
    assert len(w.programs) == 2
    for size in range(depthwise.MOST_PROGRAMS + 3):
        conv_integer(operand(rng, np.int8, (1, 3, 5, 5 + size)), w, kernel=native_kernel)
    assert len(w.programs) <= depthwise.MOST_PROGRAMS


@pytest.mark.native
def test_both_forms_give_the_same(native_kernel, rng, monkeypatch):
    """Taps four by four, which weights with a zero point do not fit, and one by one on the same kernel."""
    for _ in range(many(100)):
        x, w, zx, _, attributes = random_case(rng)
        zw = 128 if w.dtype == np.uint8 else 0
        made = []
        for found in (depthwise.four_by_four, lambda _place: None):
            depthwise.form.cache_clear()
            monkeypatch.setattr(depthwise, "four_by_four", found)
            made.append(conv_integer(x, w, zx, zw, **attributes, kernel=native_kernel))
            monkeypatch.undo()
        depthwise.form.cache_clear()
        np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("row", rows.NATIVE, ids=lambda row: row.name)
def test_the_form_follows_the_kernel(row):
    """Taps four by four where it has dot products, the weights are int8, and the taps of four columns lie within a register."""
    place = geometry.geometry((9, 20), (3, 3))
    spread = geometry.geometry((9, 40), (3, 3), dilations=[1, 5])
    dots = depthwise.FEATURE in row.features
    for narrow, wide, expected in ((True, place, dots), (False, place, False), (True, spread, False)):
        assert (depthwise.form(wide, row, narrow).pattern is not None) == expected


@pytest.mark.native
def test_short_rows_have_room(native_kernel, rng):
    """Rows of fewer pixels than are read at a time are laid out with so many more behind them."""
    for size in (1, 2, 15, 16, 17):
        geo = geometry.geometry((3, size), (1, 1))
        beyond = depthwise.one_by_one(geo).beyond
        assert beyond == max(0, depthwise.LEAST - size)
        x = operand(rng, np.int8, (1, 2, 3, size))
        laid = im2col.grids(x[0], geo, 0, beyond)
        assert np.shares_memory(laid, x) == (size >= depthwise.LEAST)
        w = operand(rng, np.int8, (2, 1, 1, 1))
        np.testing.assert_array_equal(conv_integer(x, w, group=2, kernel=native_kernel), exact(x, w, group=2))
