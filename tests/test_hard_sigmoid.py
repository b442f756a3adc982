"""HardSigmoid and HardSwish: the entry against the definition in numpy, bit for bit, and that against float64."""

from __future__ import annotations

import numpy as np
import pytest
from support import child, float_call

from pyint8dot.floats import hard_sigmoid

F32 = np.float32


@pytest.mark.native
@pytest.mark.parametrize("times", [False, True])
def test_entry(checker, rng, times):
    """Whole turns and what is left of them."""

    def body(note):
        for n in (*range(20), 31, 32, 33, 64, 70):
            for place in ("end", "start"):
                note(f"{n} {place}")
                x = (4 * rng.standard_normal(n)).astype(F32)
                float_call.hard_sigmoid(x, 1 / 6, 0.5, times=times, place=place).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("times", [False, True])
def test_entry_with_special_values(checker, times):
    """Zeros of both signs, also at the lower end, subnormals, infinity, also times 0, and what is no number."""
    x = np.resize(np.float32([0, -0.0, 1e-45, -1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan, 3, -3]), 37)

    def body(note):
        for line in ((1 / 6, 0.5), (1, 0), (1, -0.0), (-2, 0), (0, 0.5), (3e38, -3e38), (np.inf, 1), (1, np.nan)):
            note(f"{line}")
            float_call.hard_sigmoid(x, *line, times=times).check(checker)

    child.check(body)


@pytest.mark.parametrize("times", [False, True])
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 4, 5), (2000,)], ids=str)
def test_both_ways(rng, times, shape):
    """However the array lies, and of float64, which is never native."""
    x = np.asarray(4 * rng.standard_normal(shape))
    wanted = np.clip(0.3 * x + 0.4, 0, 1) * (x if times else 1)
    np.testing.assert_array_equal(hard_sigmoid(x, 0.3, 0.4, times=times), wanted)
    for given in (x.astype(F32), np.asfortranarray(x.astype(F32))):
        found, other = (hard_sigmoid(given, 0.3, 0.4, times=times, native=native) for native in (True, False))
        assert (found.dtype, found.shape) == (F32, given.shape)
        np.testing.assert_array_equal(found, other)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.native
def test_it_is_native(rng, monkeypatch):
    monkeypatch.setattr(np, "clip", None)
    assert hard_sigmoid(rng.standard_normal((3, 7), F32), 0.2, 0.5).shape == (3, 7)
