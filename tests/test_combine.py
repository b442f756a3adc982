"""Native sums and products of what codes stand for, quantised again, against numpy's operators one after the other, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import child, float_call

from pyint8dot.engine import elementwise, library

KINDS = (np.int8, np.uint8)
FORMS = list(itertools.product(KINDS, (*KINDS, np.float32), KINDS, (False, True)))
# Ties, sums beyond 16 and 32 bits, and scales that nobody should have.
SCALES = np.float32(
    [
        [1, 1, 2],
        [0.5, 0.25, 1],
        [0.3, 0.07, 0.11],
        [1e30, 1e30, 1],
        [1, -1, -3],
        [0, 1, 0],
        [np.inf, 1, 1],
        [1, 1, np.nan],
    ]
)


def operands(rng, form, shape, *, repeated):
    """Codes over the whole range, floats around it, and zero points at the ends of theirs and between."""
    a_type, b_type, y_type, _ = form
    a = rng.integers(0, 256, shape, np.uint8).view(a_type)
    wide = shape[1:] if repeated else shape
    if b_type is np.float32:
        b = (rng.standard_normal(wide) * 20).astype(np.float32)
    else:
        b = rng.integers(0, 256, wide, np.uint8).view(b_type)
    points = [rng.choice(np.uint8([0, 3, 128, 255])).view(kind) for kind in (a_type, y_type)]
    middle = np.int8(0) if b_type is np.float32 else rng.choice(np.uint8([0, 7, 128, 255])).view(b_type)
    return a, b, (points[0], middle, points[1])


@pytest.mark.native
@pytest.mark.parametrize(
    "form", FORMS, ids=lambda form: "-".join(getattr(part, "__name__", str(part)) for part in form)
)
def test_entry(checker, rng, form):
    def body(note):
        shapes = [(0, 5), (3, 0), (1, 1), (1, 15), (2, 16), (1, 17), (3, 33), (1, 47), (2, 50)]
        for number, (shape, repeated) in enumerate(itertools.product(shapes, (False, True))):
            note(f"{shape} {repeated}")
            a, b, zeros = operands(rng, form, shape, repeated=repeated)
            scales, place = SCALES[number % len(SCALES)], ("end", "start")[number % 2]
            float_call.Combine(a, b, scales, zeros, product=form[3], place=place).check(checker)

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_every_pair_of_codes(checker, scales, product):
    """All 65,536 of them."""

    def body(_note):
        codes = np.arange(256, dtype=np.uint8)
        a, b = (np.ascontiguousarray(each) for each in np.meshgrid(codes, codes, indexing="ij"))
        float_call.Combine(a, b.view(np.int8), scales, (np.uint8(100), np.int8(-3), np.int8(5)), product=product).check(
            checker
        )

    child.check(body)


@pytest.mark.native
@pytest.mark.parametrize("form", FORMS[::5], ids=str)
def test_shapes(rng, form):
    """Whatever is repeated, and however it lies; the caller is told where the first of two would have to be."""
    y_type, product = form[2], form[3]
    scales = np.float32([0.3, 0.2, 0.5])
    for left, right in (
        ((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((2, 3, 4), (1, 3, 4)), ((2, 3, 4), (3, 1)), ((2, 3, 4), ()),
        ((), ()), ((2, 0), (2, 1)), ((70, 80), (70, 80)), ((2, 3, 4), (1, 1, 1)),
        ((2, 3, 4, 5), (2, 1, 1, 5)), ((3, 2, 4, 5), (3, 1, 4, 5)), ((2, 3, 4, 5), (2, 3, 1, 5)), ((2, 3, 4), (2, 1, 1)),
        ((2, 3, 4, 5), (3, 1, 5)), ((0, 3, 5), (0, 1, 5)), ((300, 2, 3), (300, 1, 3)),
    ):  # fmt: skip
        a, b, zeros = operands(rng, form, (1, *left), repeated=False)
        a, b = a[0], np.resize(b, right) if np.prod(right) else b[0][:, :1]
        made = elementwise.Combined(
            (a.dtype, b.dtype, np.dtype(y_type)), tuple(scales), tuple(map(int, zeros)), product=product
        )
        for x, other in ((a, b), (a.T, np.broadcast_to(b, a.shape).T)):
            y = made(x, other)
            wanted = float_call.combined(x, other, scales, zeros, product=product)
            assert (y.dtype, y.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_array_equal(y, wanted)
    assert made(a[:1], np.repeat(a, 2, axis=0).astype(b.dtype)) is None


def test_without_a_library(monkeypatch):
    monkeypatch.setattr(library, "status", lambda: "there is none")
    int8 = np.dtype(np.int8)
    x = np.int8([1, 2])
    assert elementwise.Combined((int8, int8, int8), (1, 1, 1), (0, 0, 0), product=False)(x, x) is None
