"""Attention and the fused multiply-add: their definitions against exact numbers, and native code against the definition, bit for bit."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from support import child, float_call
from support.quantized import many

from pyint8dot.attention import attention, to_base_2
from pyint8dot.engine import heads, library
from pyint8dot.fma import add_product

F32 = np.float32
TINY = 2.0**-149

# Queries, keys, elements and columns in every place of a block of eight and of four, and more than one block of each.
SIZES = [
    (1, 1, 1, 1),
    (8, 8, 4, 8),
    (9, 7, 5, 9),
    (7, 9, 3, 17),
    (17, 4, 8, 1),
    (3, 21, 0, 4),
    (0, 3, 2, 8),
    (2, 3, 2, 0),
]
MASKS = ["none", "shared", "own"]


def case(rng, sizes, masks, count=2, spread=1.0):
    """Queries, keys, values and mask of some heads, (heads, rows, columns) each."""
    m, n, d, width = sizes
    q, k, v = (rng.standard_normal((count, *shape)).astype(F32) for shape in ((m, d), (n, d), (n, width)))
    shape = {"none": None, "shared": (count, 1, n), "own": (count, m, n)}[masks]
    mask = None if shape is None else rng.choice(F32([0, -3, 0.5, -3e38, -np.inf]), shape, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    if mask is not None:
        mask[..., :1] = 1  # something is seen
    return q * F32(spread), k, v, mask


@pytest.mark.native
@pytest.mark.parametrize("masks", MASKS)
def test_native_code_gives_the_definition(checker, rng, masks):
    def body(note):
        for sizes, (place, padding) in itertools.product(SIZES, (("end", 0), ("start", 3))):
            note(f"{sizes} {place}")
            float_call.Attention(*case(rng, sizes, masks), 0.3, place=place, padding=padding).check(checker)

    child.check(body)


@pytest.mark.native
def test_random_sizes(checker, rng):
    def body(note):
        for number in range(many(100)):
            sizes = tuple(map(int, rng.integers((1, 1, 1, 1), (20, 40, 20, 20))))
            note(f"{sizes}")
            given = case(rng, sizes, MASKS[number % 3], spread=float(rng.choice([1e-20, 1, 30])))
            float_call.Attention(*given, 1.0, place=("end", "start")[number % 2]).check(checker)

    child.check(body)


def everything(q, k, v, mask, **options):
    """Views as they come of projections, broadcast heads, reversed rows, columns apart, a result in another order."""
    yield attention(q, k, v, mask, scale=0.3, **options)
    one = np.broadcast_to(k[:, :1], k.shape)
    yield attention(q, one, v[:, :, ::-1], None, **options)
    yield attention(np.asfortranarray(q), k[..., ::-1], np.asfortranarray(v), mask, scale=2.0, **options)
    out = np.empty((q.shape[0], q.shape[2], q.shape[1], v.shape[3]), F32)
    attention(q, k, v, None if mask is None else mask[:1], out=out.swapaxes(1, 2), **options)
    yield out


@pytest.mark.parametrize("masks", MASKS)
def test_both_ways_give_the_same_bits(rng, masks):
    m, n, d, width = 9, 11, 6, 10
    q, k, v = (rng.standard_normal((2, rows, 3, size)).astype(F32) for rows, size in ((m, d), (n, d), (n, width)))
    mask = {
        "none": None,
        "shared": F32([0, -1e4])[rng.integers(0, 2, (2, 1, 1, n))],
        "own": rng.standard_normal((m, n)),
    }[masks]
    given = [x.swapaxes(1, 2) for x in (q, k, v)]
    mask = None if mask is None else mask.astype(F32)
    for one, other in zip(everything(*given, mask), everything(*given, mask, native=False), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.native
def test_native_code_is_used(rng, monkeypatch):
    used = []
    real = heads.run_entry()
    monkeypatch.setattr(heads, "run_entry", lambda: lambda head: used.append(1) or real(head))
    q, k, v, mask = (None if x is None else x[None] for x in case(rng, (3, 5, 4, 8), "shared"))
    attention(q, k, v, mask)
    assert used == [1]
    attention(q, k, v, mask, native=False)
    assert used == [1]
    assert library.status() is None


def test_against_float64(rng):
    q, k, v, mask = (x[None] for x in case(rng, (13, 50, 32, 16), "own"))
    scores = q.astype(float) * 0.2 @ k.astype(float).swapaxes(2, 3) + to_base_2(mask)
    powers = np.exp2(scores - scores.max(axis=-1, keepdims=True))
    want = powers @ v / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(attention(q, k, v, to_base_2(mask), scale=0.2), want, rtol=0, atol=1e-6)


def test_special_masks(rng):
    q, k, v, _ = (None if x is None else x[None] for x in case(rng, (4, 5, 3, 2), "none"))
    plain = attention(q, k, v)
    zeros = np.zeros((1, 5), F32)
    np.testing.assert_array_equal(attention(q, k, v, zeros), plain)
    # The lowest float hides a key, and hides none where it stands everywhere; minus infinity there leaves nothing.
    lowest = np.finfo(F32).min
    assert np.ptp(attention(q, k, v, np.where(np.arange(5) == 2, zeros, lowest)) - v[:, :, 2:3]) == 0
    mean = np.broadcast_to(v.mean(axis=2, keepdims=True), plain.shape)
    np.testing.assert_allclose(attention(q, k, v, zeros + lowest), mean, rtol=0, atol=1e-6)
    assert np.isnan(attention(q, k, v, zeros - np.inf)).all()
    np.testing.assert_array_equal(to_base_2(F32([lowest, -np.inf, 0, 1])), F32([lowest, -np.inf, 0, np.log2(np.e)]))


def bad_calls():
    q, k, v = (np.zeros((1, 2, rows, 3), F32) for rows in (4, 5, 5))
    wide = np.zeros((1, 2, 9, 3), F32)
    return {
        "k must be float32, got float64": ((q, k.astype(float), v), {}),
        "mask must be float32, got bool": ((q, k, v, np.zeros(5, bool)), {}),
        "v must have 4 dimensions, got 3": ((q, k, v[0]), {}),
        r"k must have shape \(1, 2, 'n', 3\) for q of shape \(1, 2, 4, 3\), got \(1, 2, 5, 2\)": ((q, k[..., :2], v), {}),
        r"v must have shape \(1, 2, 5, 'width'\) for k of shape \(1, 2, 5, 3\), got \(1, 2, 4, 3\)": ((q, k, v[:, :, :4]), {}),
        "k must have at least one row, got none": ((q, k[:, :, :0], v[:, :, :0]), {}),
        r"mask must broadcast to shape \(1, 2, 4, 5\), got \(4, 4\)": ((q, k, v, np.zeros((4, 4), F32)), {}),
        r"out must have shape \(1, 2, 4, 3\), got \(1, 2, 9, 3\)": ((q, k, v), {"out": wide}),
        "out must not overlap q": ((wide[:, :, 5:], k, v), {"out": wide[:, :, :4]}),
    }  # fmt: skip


@pytest.mark.parametrize("message", bad_calls())
def test_bad_calls(message):
    arguments, options = bad_calls()[message]
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        attention(*arguments, **options)


# The fused multiply-add.


def rounded(exact):
    """A fraction rounded once to float32, to nearest, ties to even."""
    if exact == 0:
        return F32(0)
    # Whole units of the last place: 24 bits, or what subnormals have.
    size = abs(exact)
    power = max(size.numerator.bit_length() - size.denominator.bit_length() - 1, -126)
    while size >= Fraction(2) ** (power + 1):
        power += 1
    unit = Fraction(2) ** (power - 23)
    whole = round(exact / unit)  # Python rounds ties to even
    result = whole * unit
    return F32(np.copysign(np.inf, float(whole))) if abs(result) >= 2**128 else F32(float(result))


def fused(total, x, y):
    wide = np.broadcast_arrays(*(np.asarray(each, F32).astype(float) for each in (total, x, y)))
    result = wide[0].copy()
    add_product(result, wide[1], wide[2], (np.empty_like(result), np.empty(result.shape, np.int64)))
    return result


def test_multiply_add_is_rounded_once(rng):
    """Random numbers whose bits often cancel or end in a tie, subnormals and overflow among them."""
    count = many(4000)
    exponents = rng.integers(-75, 64, (2, count))
    x, y = (np.ldexp(rng.integers(-(2**24), 2**24, count) | 1, e - 23).astype(F32) for e in exponents)
    exact = x.astype(float) * y.astype(float)
    # A total near a tie: half a unit of the product's last place away, or far smaller or larger.
    total = (np.ldexp(rng.integers(-8, 9, count), np.frexp(exact)[1] - rng.integers(0, 60, count))).astype(F32)
    total[::3] = (-exact[::3]).astype(F32)
    with np.errstate(over="ignore"):
        got = fused(total, x, y)
    for t, a, b, found in zip(total, x, y, got, strict=True):
        if np.isfinite(t):
            assert found == rounded(Fraction(float(t)) + Fraction(float(a)) * Fraction(float(b))), (t, a, b)


@pytest.mark.parametrize(
    ("total", "x", "y"),
    [
        # A tie of float32 that a part beyond float64 decides, on either side, for an even and an odd neighbour.
        (1, 2.0**-24 * (1 + 2.0**-23), 1 - 2.0**-23),
        (1, 2.0**-24 * (1 - 2.0**-24), 1 + 2.0**-23),
        (1 + 2.0**-23, 2.0**-24 * (1 - 2.0**-24), 1 + 2.0**-23),
        (-1, -(2.0**-24) * (1 + 2.0**-23), 1 - 2.0**-23),
        (2.0**60, 2.0**36, 1),
        (2.0**60, 2.0**36 * (1 + 2.0**-23), 1 - 2.0**-23),
        # The same where the result is subnormal, and where it is the largest.
        (2.0**-127, 2.0**-75 * (1 + 2.0**-23), 2.0**-75),
        (3 * TINY, 2.0**-75, 2.0**-75 * (1 - 2.0**-24)),
        (float(np.finfo(F32).max), 2.0**52, 2.0**51 * (1 - 2.0**-24)),
        (0, 2.0**-75, 2.0**-75),
    ],
)
def test_multiply_add_at_ties(total, x, y):
    total, x, y = F32(total), F32(x), F32(y)
    with np.errstate(over="ignore"):
        [got] = fused([total], [x], [y])
    assert got == rounded(Fraction(float(total)) + Fraction(float(x)) * Fraction(float(y)))
