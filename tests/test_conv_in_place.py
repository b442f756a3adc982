"""Convolutions whose windows are read where the image lies: against int64, whatever cuts the image up, and only where they are faster."""

from __future__ import annotations

import numpy as np
import pytest
from support.convolution import exact, requantized
from support.quantized import RANGE, many, operand

from pyint8dot.conv import conv_integer, pack_conv, qlinear_conv
from pyint8dot.convolution import planes, program
from pyint8dot.convolution.geometry import known_geometry
from pyint8dot.engine import cpu, dispatch, kernels

pytestmark = [pytest.mark.native, pytest.mark.each_processor]


@pytest.fixture(params=[row.name for row in kernels.KERNELS.values() if row.planes])
def reading(request):
    """The name of every kernel that reads windows in place; left out where the processor lacks its feature."""
    if request.param not in dispatch.supported():
        pytest.skip(f"this processor does not run {request.param}")
    return request.param


@pytest.fixture
def made(monkeypatch):
    """The programs that are made, of either kind."""
    found = []
    for kind in (program.InPlace, program.Gathered):
        make = kind.make
        monkeypatch.setattr(kind, "make", lambda self, make=make: found.append(self) or make(self))
    return found


def case(rng, group_of_k):
    """Operands and attributes of a small convolution of one or two dimensions whose channels are whole K groups."""
    d = int(rng.choice([1, 2, 2, 2]))
    group = int(rng.choice([1, 1, 2]))
    inner = group_of_k * int(rng.choice([1, 2, 3, 4, 8, 16]))
    outer = int(rng.choice([8, 9, 15, 16, 31]))
    window = rng.integers(1, 4, d)
    window[-1] = max(window[-1], 2)
    strides, dilations, pads = rng.choice([1, 1, 2, 3], d), rng.choice([1, 1, 2], d), rng.integers(0, 3, 2 * d)
    reach = (window - 1) * dilations + 1
    # Rows of whole panels among them, which are multiplied one by one.
    wanted = rng.choice([1, 5, 8, 16, 17], d)
    size = np.maximum(1, (wanted - 1) * strides + reach - pads[:d] - pads[d:])
    kinds = list(RANGE)
    x = operand(rng, kinds[rng.integers(2)], (int(rng.integers(1, 3)), group * inner, *size))
    w = operand(rng, kinds[rng.integers(2)], (group * outer, inner, *window))
    if rng.random() < 0.2:
        x = x[..., ::-1]
    zero = w.dtype.type(128 if w.dtype == np.uint8 else 0)
    attributes = {"group": group, "strides": strides.tolist(), "dilations": dilations.tolist(), "pads": pads.tolist()}
    return x, w, operand(rng, x.dtype, ()), zero, attributes


@pytest.mark.parametrize("caches", [(256, 1024), (65536, 1 << 20)])
def test_random(reading, rng, monkeypatch, made, caches):
    """However small the caches, on however many threads, with sums or codes for results."""
    monkeypatch.setattr(cpu, "caches", lambda: caches)
    group_of_k = kernels.KERNELS[reading].right.kr
    for _ in range(many(150)):
        x, w, zx, zw, attributes = case(rng, group_of_k)
        weights = pack_conv(w, group=attributes["group"], kernel=reading)
        said = f"{x.shape} {w.shape} {attributes}"
        wanted = exact(x, w, zx, zw, **attributes)
        for threads in (1, 3):
            y = conv_integer(x, weights, zx, zw, **attributes, kernel=reading, num_threads=threads)
            np.testing.assert_array_equal(y, wanted, err_msg=said)
            y = qlinear_conv(
                x, 0.1, zx, weights, 0.1, zw, 9.0, np.uint8(3), **attributes, kernel=reading, num_threads=threads
            )
            scale = np.float32(0.1) * np.float32(0.1) / np.float32(9)
            np.testing.assert_array_equal(y, requantized(wanted, scale, 3, np.uint8), err_msg=said)
    kinds = [type(one) for one in made]
    assert kinds.count(program.InPlace) > len(kinds) // 2


def test_extremes(reading):
    """The largest sums there are, with padding of -128 too."""
    x, w = np.full((1, 64, 9, 16), -128, np.int8), np.full((16, 64, 3, 3), -128, np.int8)
    y = conv_integer(x, w, pads=[1, 1, 1, 1], kernel=reading)
    np.testing.assert_array_equal(y, exact(x, w, pads=[1, 1, 1, 1]))
    assert y.max() == 9 * 64 * 128 * 128


@pytest.mark.parametrize(
    ("shape", "window", "zero", "kind"),
    [
        ((64, 56, 56), (64, 64, 3, 3), 0, program.InPlace),
        ((64, 56, 56), (64, 64, 3, 3), 1, program.Gathered),
        ((64, 56, 56), (64, 64, 1, 1), 0, program.Gathered),
        ((3, 56, 56), (64, 3, 3, 3), 0, program.Gathered),
        ((64, 14, 14), (planes.MOST_ROWS + 8, 64, 3, 3), 0, program.Gathered),
        ((16, 5, 5, 5), (16, 16, 2, 2, 2), 0, program.Gathered),
    ],
)
def test_which_way(reading, made, shape, window, zero, kind):
    """Weights without zero points, more than one tap, whole K groups, not too many rows, at most two dimensions."""
    conv_integer(np.ones((1, *shape), np.int8), np.ones(window, np.int8), 0, zero, kernel=reading)
    assert [type(one) for one in made] == [kind]


def test_strips_are_no_larger_than_they_should_be(reading):
    """Working memory does not grow with the image."""
    kernel = kernels.KERNELS[reading]
    scratch = []
    for size in (256, 1024):
        place = known_geometry((size, 256), (3, 3), None, (1, 1, 1, 1), None, "NOTSET")
        weights = pack_conv(np.ones((16, 64, 3, 3), np.int8), kernel=reading)
        key = program.Key(place, kernel, False, False, program.Last(0, False), 1, True)
        scratch.append(program.InPlace(weights, key).scratch())
    assert scratch[0] == scratch[1] < 1 << 20


def test_another_zero_point_makes_no_other_program(reading, made, rng):
    """What padding holds comes with the call."""
    x, w = operand(rng, np.uint8, (1, 16, 9, 9)), pack_conv(operand(rng, np.int8, (8, 16, 3, 3)), kernel=reading)
    for zero in (0, 3, 255):
        y = conv_integer(x, w, zero, pads=[1, 1, 1, 1], kernel=reading)
        np.testing.assert_array_equal(y, exact(x, w.unpack(), zero, pads=[1, 1, 1, 1]))
    assert len(made) == 1
