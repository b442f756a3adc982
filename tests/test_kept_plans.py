"""Plans that are kept: which calls they serve, and what is looked at before they do."""

from __future__ import annotations

import gc
import importlib
import threading

import numpy as np
import pytest
from support.plans import operands, product, same_bits

import pyint8dot
from pyint8dot import shapes
from pyint8dot.engine import dispatch, kernels, native, operand, packing, recipe

pytestmark = pytest.mark.each_processor

# The function of this name hides it.
linear_module = importlib.import_module("pyint8dot.linear")


def test_a_plan_is_not_used_for_other_parameters(rng):
    a, b = operands(rng, 6, 16, 10)
    packed = packing.pack(b)
    settings = [
        (0.5, 0, 0.25, 0, 4.0, np.int8(0)),
        (0.5, 3, 0.25, 0, 4.0, np.int8(0)),
        (0.5, 3, 0.25, 0, 4.0, np.uint8(0)),
        (0.5, 3, 0.25, 0, 8.0, np.uint8(0)),
        (0.5, 3, 0.25, 2, 8.0, np.uint8(0)),
        (np.float32(0.5), 3, np.full(10, 0.25, np.float32), 0, 8.0, np.uint8(0)),
    ]
    for sa, za, sb, zb, sy, zy in [*settings, *reversed(settings), settings[0], settings[0]]:
        expected = pyint8dot.qlinear_matmul(a, sa, za, b, sb, zb, sy, zy, kernel="portable")
        same_bits(pyint8dot.qlinear_matmul(a, sa, za, packed, sb, zb, sy, zy), expected)
    with pytest.raises(ValueError, match="a_zero_point must be within"):
        pyint8dot.qlinear_matmul(a, 0.5, 300, packed, 0.25, 0, 4.0, np.int8(0))
    # An array may change between two calls, so what was made of it is not kept.
    scale = np.array(0.5)
    pyint8dot.qlinear_matmul(a, scale, 0, packed, 0.25, 0, 4.0, np.int8(0))
    scale[...] = 2
    expected = pyint8dot.qlinear_matmul(a, 2.0, 0, b, 0.25, 0, 4.0, np.int8(0), kernel="portable")
    same_bits(pyint8dot.qlinear_matmul(a, scale, 0, packed, 0.25, 0, 4.0, np.int8(0)), expected)


def test_many_threads_share_the_plans(rng):
    a, b = operands(rng, 10, 24, 16)
    packed, scale = packing.pack(b), np.ones(16, np.float32)
    x = a.astype(np.float32)
    expected = pyint8dot.matmul(a, b, kernel="portable"), pyint8dot.linear(x, b, w_scale=scale, kernel="portable")
    scales = [0.5, 0.25]
    quantised = [pyint8dot.qlinear_matmul(a, s, 0, b, 0.1, 0, 1.0, 0, kernel="portable") for s in scales]
    wrong = []

    def work(which):
        for _ in range(30):
            fine = (pyint8dot.matmul(a, packed) == expected[0]).all()
            fine &= (pyint8dot.linear(x, packed, w_scale=scale) == expected[1]).all()
            fine &= (pyint8dot.qlinear_matmul(a, scales[which], 0, packed, 0.1, 0, 1.0, 0) == quantised[which]).all()
            if not fine:
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_forms_of_a_call_take_the_fast_path(rng, monkeypatch):
    """At its second call each form finds its plan: nothing is checked at length, planned or written again."""
    (a, b), n = operands(rng, 6, 16, 10), 10
    packed, unsigned = packing.pack(b), packing.pack(b.view(np.uint8))
    zeros, row_zeros = rng.integers(-128, 128, n).astype(np.int8), rng.integers(-128, 128, 6).astype(np.int8)
    scale, x, best = rng.random(n).astype(np.float32), a.astype(np.float32), dispatch.select().name
    out, singles = np.empty((6, n), np.int32), [np.array(v) for v in (0.5, np.int8(3), np.int8(1))]
    forms = [
        lambda: pyint8dot.matmul(a, packed),
        lambda: pyint8dot.matmul(a, packed, out=out),
        lambda: pyint8dot.matmul(a, packed, kernel=best),
        lambda: pyint8dot.matmul(a, packed, num_threads=1),
        lambda: pyint8dot.matmul(a.view(np.uint8), packed),
        lambda: pyint8dot.matmul(a, unsigned),
        lambda: pyint8dot.matmul(a[0], packed),
        lambda: pyint8dot.matmul(a.reshape(2, 3, 16), packed),
        lambda: pyint8dot.matmul_integer(a, packed),
        lambda: pyint8dot.matmul_integer(a, packed, np.int8(3), np.int8(4)),
        lambda: pyint8dot.matmul_integer(a, packed, singles[1], singles[2]),
        lambda: pyint8dot.matmul_integer(a, packed, row_zeros),
        lambda: pyint8dot.matmul_integer(a, packed, None, zeros),
        lambda: pyint8dot.matmul_integer(a, packed, row_zeros, zeros),
        lambda: pyint8dot.qlinear_matmul(a, 0.5, 3, packed, 0.25, 0, 4.0, np.int8(1)),
        lambda: pyint8dot.qlinear_matmul(
            a, np.float32(0.5), 3, packed, 0.25, 0, 4.0, np.int8(1), out=np.empty((6, n), np.int8)
        ),
        lambda: pyint8dot.qlinear_matmul(
            a, singles[0], singles[1], packed, singles[0], singles[2], singles[0], singles[2]
        ),
        lambda: pyint8dot.qlinear_matmul(a, 0.5, 3, packed, scale, zeros, 4.0, np.int8(1)),
        lambda: pyint8dot.linear(x, packed, w_scale=scale),
        lambda: pyint8dot.linear(x, packed, w_scale=scale, bias=scale, act="gelu"),
        lambda: pyint8dot.linear(x.reshape(3, 2, 16), packed, w_scale=scale, act="relu"),
    ]
    for form in forms:
        expected = form().copy()
        with monkeypatch.context() as patched:
            patched.setattr(shapes, "operands", lambda *_: pytest.fail("checked at length"))
            patched.setattr(operand.Operand, "plan", lambda *_, **__: pytest.fail("planned again"))

            patched.setattr(linear_module, "float32", lambda *_: pytest.fail("checked at length"))
            same_bits(form(), expected)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        ([[0] * 10] * 6, TypeError, "out must be an array of"),
        (np.zeros((6, 10), np.int16), TypeError, "out must be .*, got int16"),
        (np.zeros((10, 6)), TypeError, "out must be .*, got float64"),
        ((6, 9), ValueError, r"out must have shape \(6, 10\), got \(6, 9\)"),
        ((60,), ValueError, r"out must have shape \(6, 10\), got \(60,\)"),
        ("read-only", ValueError, "out is read-only"),
    ],
)
def test_out_is_checked_before_anything_is_written(rng, packed, out, error, words):
    """Whatever the operator, at its first call and when its plan is there."""
    a, b = operands(rng, 6, 16, 10)
    right, scale, x = packing.pack(b) if packed else b, np.ones(10, np.float32), a.astype(np.float32)
    calls = {
        np.int32: [
            lambda **more: pyint8dot.matmul(a, right, **more),
            lambda **more: pyint8dot.matmul_integer(a, right, 3, **more),
        ],
        np.int8: [lambda **more: pyint8dot.qlinear_matmul(a, 0.5, 0, right, 0.5, 0, 4.0, np.int8(0), **more)],
        np.float32: [lambda **more: pyint8dot.linear(x, right, w_scale=scale, **more)],
    }
    for dtype, forms in calls.items():
        given = out
        if isinstance(out, tuple):
            given = np.full(out, 7, dtype)
        elif isinstance(out, str):
            given = np.full((6, 10), 7, dtype)
            given.setflags(write=False)
        for form in forms:
            for _ in range(2):
                with pytest.raises(error, match=words):
                    form(out=given)
                form()
            if isinstance(given, np.ndarray) and given.dtype == dtype:
                assert (given == 7).all()


@pytest.mark.native
def test_every_operator_runs_on_the_kernel_it_is_asked_for(rng, native_kernel):
    """Told by the layout that the operand was brought into."""
    a, b = operands(rng, 3, 16, 10)
    scale, x = np.ones(10, np.float32), a.astype(np.float32)
    for call in (
        lambda w, **more: pyint8dot.matmul(a, w, **more),
        lambda w, **more: pyint8dot.matmul_integer(a, w, 3, 4, **more),
        lambda w, **more: pyint8dot.qlinear_matmul(a, 0.5, 0, w, scale, 0, 4.0, np.int8(0), **more),
        lambda w, **more: pyint8dot.linear(x, w, w_scale=scale, **more),
    ):
        for _ in range(2):
            by_word, by_block = (packing.PackedMatrix(b, "RowMajor") for _ in range(2))
            call(by_word, kernel=native_kernel)
            with dispatch.use_kernel(native_kernel):
                call(by_block)
            for w in (by_word, by_block):
                assert set(w._store.packed) == {"RowMajor", kernels.KERNELS[native_kernel].right.name}
                assert set(w._operands) == {native_kernel}


@pytest.mark.native
def test_programs_outlive_what_is_let_go(rng, native_kernel):
    """A plan keeps a few programs only; those it still runs must not point to memory that went with the others."""
    a, b = operands(rng, 3, 16, 10)
    w = packing.pack(b.view(np.uint8), kernel=native_kernel)
    unsigned = b.view(np.uint8)
    big = operands(rng, 60, 16, 10)[0]
    expected = [product(a, unsigned), product(big, unsigned)]
    for spacing in range(2 * native.MOST_PROGRAMS):
        out = np.zeros((3, 10 + spacing), np.int32)[:, :10]
        same_bits(pyint8dot.matmul(a, w, out=out, kernel=native_kernel), expected[0])
        same_bits(pyint8dot.matmul(big[: 9 + spacing % 50], w, kernel=native_kernel), expected[1][: 9 + spacing % 50])
    recipe.constant.cache_clear()
    gc.collect()
    junk = [np.full(16 * size, 99, np.int8) for size in range(1, 200)]
    for left, wanted in zip((a, big), expected, strict=True):
        same_bits(pyint8dot.matmul(left, w, kernel=native_kernel), wanted)
        same_bits(pyint8dot.matmul(left, unsigned, kernel=native_kernel), wanted)
    assert junk


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"w_scale": np.ones(10, np.int32)}, TypeError, "w_scale must be floats, got int32"),
        ({"w_scale": np.ones((6, 10), np.float32)}, ValueError, "w_scale must be a scalar or one per column"),
        ({"w_scale": np.ones(11, np.float32)}, ValueError, "w_scale must be a scalar or one per column"),
        ({"bias": np.ones(10, np.int32)}, TypeError, "bias must be float32, got int32"),
        ({"bias": np.ones((6, 10), np.float32)}, ValueError, r"bias must have shape \(10,\), got \(6, 10\)"),
        ({"bias": 1.0}, TypeError, "bias must be float32, got float64"),
        ({"act": "tanh"}, ValueError, "act must be None"),
        ({"act": ["relu"]}, ValueError, "act must be None"),
    ],
)
def test_a_plan_that_is_there_takes_no_operand_that_it_would_not_be_made_for(kernel, rng, wrong, error, words):
    """numpy would broadcast or cast some of these, native code would read beside them: each kernel refuses them alike."""
    a, b = operands(rng, 6, 16, 10)
    w, x, good = (
        packing.pack(b),
        a.astype(np.float32),
        {"w_scale": np.ones(10, np.float32), "bias": np.ones(10, np.float32)},
    )
    for _ in range(2):
        pyint8dot.linear(x, w, kernel=kernel, **good)
        with pytest.raises(error, match=words):
            pyint8dot.linear(x, w, kernel=kernel, **{**good, **wrong})
