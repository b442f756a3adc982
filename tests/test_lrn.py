"""Local response normalisation: the entry against its definition in numpy, bit for bit, and the definition against float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child, float_call

from pyint8dot import lrn
from pyint8dot.lrn import local_response_normalisation


@pytest.mark.native
def test_entry(checker, rng):
    """Windows of one channel, of some, and of more than there are; pixels in whole turns and beyond."""

    def body(note):
        pixels = (16, 17, 31, 32, 40, 53)
        for number, (channels, size) in enumerate(itertools.product((0, 1, 2, 5, 9), (1, 2, 3, 5, 8, 20))):
            note(f"{channels} channels, {size}")
            x = rng.standard_normal((channels, pixels[number % 6])) * np.exp2(rng.integers(-20, 20))
            for place in ("end", "start"):
                float_call.Lrn(x.astype(np.float32), size, 0.3, 1.5, place=place).check(checker)

    child.check(body)


@pytest.mark.native
def test_entry_with_special_values(checker):
    """Zeros of both signs, subnormals, squares that overflow or vanish, and infinity, by which infinity is divided."""
    values = np.float32([0, -0.0, 1e-45, 1e-30, 1e25, -3e38, np.inf, -np.inf, 2, -1])

    def body(note):
        for bias, turn in itertools.product((1.0, 1e-30), range(10)):
            note(f"{bias} {turn}")
            float_call.Lrn(np.resize(np.roll(values, turn), (3, 23)), 3, 0.5, bias).check(checker)

    child.check(body)


@pytest.mark.parametrize(
    "shape", [(2, 7, 5, 9), (1, 3, 4, 4), (1, 6, 3, 5), (2, 5, 40), (3, 4), (0, 2, 4, 4), (1, 0, 4, 4)]
)
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_both_ways(rng, shape, beta):
    """Of planes too small for the entry as well, of other powers, and however the array lies."""
    x = rng.standard_normal(shape, np.float32)
    for size, image in itertools.product((1, 2, 5), (x, np.asfortranarray(x), x[..., ::-1], x.astype(np.float64))):
        found, wanted = (
            local_response_normalisation(image, size, 0.3, beta, 1.5, native=native) for native in (True, False)
        )
        assert found.dtype == image.dtype
        np.testing.assert_array_equal(found, wanted)
        square = np.pad(image.astype(np.float64) ** 2, [(0, 0), ((size - 1) // 2, size // 2), *[(0, 0)] * (x.ndim - 2)])
        total = sum(square[:, i : i + shape[1]] for i in range(size))
        np.testing.assert_allclose(found, image / (1.5 + 0.3 / size * total) ** beta, rtol=1e-6)


@pytest.mark.native
def test_it_is_native(rng, monkeypatch):
    monkeypatch.setattr(np, "sqrt", None)
    x = rng.standard_normal((2, 6, 5, 7), np.float32)
    assert local_response_normalisation(x, 5, 1e-4, lrn.ROOTS, 1.0).shape == x.shape
