"""matmul() against numpy's in 64-bit integers: shapes, memory layouts, types, `out`, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support import views

from pyint8dot import KernelError, matmul, pack
from pyint8dot.engine import blocks, dispatch, kernels, settings

pytestmark = pytest.mark.each_processor

TYPES = (np.int8, np.uint8)
MIXES = [(a, b) for a in TYPES for b in TYPES]
MIX_IDS = [f"{a.__name__}-{b.__name__}" for a, b in MIXES]

# numpy.matmul's own rules, sizes of zero, one-dimensional operands, stacks and broadcasting included.
shapes = npst.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, min_side=0, max_side=19)
sizes = st.integers(0, 19)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def operand(draw, shape):
    """An array of a shape, of either type, any values and any memory layout."""
    values = draw(st.sampled_from(["random", "random", "lowest", "highest"]))
    array = views.filled(np.random.default_rng(draw(seeds)), shape, draw(st.sampled_from(TYPES)), values)
    layout = draw(st.sampled_from(sorted(views.LAYOUTS)))
    note(f"{array.dtype}{shape} {values} {layout}")
    return views.LAYOUTS[layout](array)


@st.composite
def operands(draw):
    """Two arrays that numpy.matmul takes."""
    return [draw(operand(shape)) for shape in draw(shapes).input_shapes]


@st.composite
def operands_to_pack(draw):
    """Two arrays that numpy.matmul takes, the right one of two dimensions."""
    k, n = draw(sizes), draw(sizes)
    lead = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    return draw(operand((*lead, k))), draw(operand((k, n)))


@given(pair=operands())
def test_any_operands(kernel, pair):
    a, b = pair
    before = a.tobytes(), b.tobytes()
    c = matmul(a, b, kernel=kernel)
    # As numpy's, the product of two vectors is a scalar.
    assert type(c) is (np.int32 if a.ndim == b.ndim == 1 else np.ndarray)
    assert c.dtype == np.int32
    want = views.product(a, b)
    assert c.shape == want.shape
    np.testing.assert_array_equal(c, want)
    assert (a.tobytes(), b.tobytes()) == before


@given(pair=operands(), layout=st.sampled_from(views.WRITABLE))
def test_out_of_any_layout(kernel, pair, layout):
    a, b = pair
    want = views.product(a, b)
    out = views.LAYOUTS[layout](np.full(want.shape, 7, np.int32)) if want.ndim else np.array(7, np.int32)
    sea = out.base if out.base is not None else out
    outside = sea.size - out.size
    assert matmul(a, b, out=out, kernel=kernel) is out
    np.testing.assert_array_equal(out, want)
    # Every cell of the larger array that `out` is cut from, but those of `out`, still holds what it held.
    out[...] = -1
    assert np.count_nonzero(sea != -1) == outside


@given(seed=seeds, m=st.integers(1, 12), k=st.integers(1, 12), n=st.integers(1, 12), data=st.data())
def test_out_may_overlap_the_operands(kernel, seed, m, k, n, data):
    """`out`, a and b are cut from one block of bytes wherever they happen to fall."""
    block = np.random.default_rng(seed).integers(0, 256, 4 * 12 * 12 + 64, dtype=np.uint8)

    def cut(dtype, shape):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        start = data.draw(st.integers(0, block.size - size))
        return block[start : start + size].view(dtype).reshape(shape)

    a, b, out = cut(np.int8, (m, k)), cut(np.uint8, (k, n)), cut(np.int32, (m, n))
    want = views.product(a, b)
    assert matmul(a, b, out=out, kernel=kernel) is out
    np.testing.assert_array_equal(out, want)


@given(seed=seeds, m=st.integers(0, 40), k=st.integers(0, 300), n=st.integers(0, 40), mix=st.sampled_from(MIXES))
def test_larger_shapes(kernel, seed, m, k, n, mix):
    rng = np.random.default_rng(seed)
    a, b = views.filled(rng, (m, k), mix[0]), views.filled(rng, (k, n), mix[1])
    np.testing.assert_array_equal(matmul(a, b, kernel=kernel), views.product(a, b), strict=True)


@given(pair=operands_to_pack())
def test_packed_operand(kernel, pair):
    """A packed b gives what the array gives, on the kernel it was packed for and on every other one, again and again."""
    a, b = pair
    packed = pack(b, kernel=kernel)
    want = views.product(a, b)
    for name in (kernel, *dispatch.supported(), kernel):
        np.testing.assert_array_equal(matmul(a, packed, kernel=name), want, strict=True)


# The longest K that is exact whatever the values, as the documentation of matmul says.
BOUNDS = {("int8", "int8"): 131071, ("uint8", "int8"): 65793, ("int8", "uint8"): 65793, ("uint8", "uint8"): 33025}


@pytest.mark.parametrize(("left", "right"), MIXES, ids=MIX_IDS)
def test_exact_to_the_bound_and_wrapping_beyond(kernel, left, right):
    bound = BOUNDS[left.__name__, right.__name__]
    extremes = [(x, y) for x in _limits(left) for y in _limits(right)]
    largest = max((x * y for x, y in extremes), key=abs)
    # The bound is the true one: one more step of the fastest growing sum leaves int32.
    assert -(2**31) <= largest * bound < 2**31
    assert not -(2**31) <= largest * (bound + 1) < 2**31
    for k in (bound, bound + 1, 2 * bound + 3):
        for x, y in extremes:
            got = matmul(np.full((1, k), x, left), np.full((k, 1), y, right), kernel=kernel)
            assert got.item() == (x * y * k + 2**31) % 2**32 - 2**31


def _limits(dtype):
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


@pytest.mark.parametrize(("left", "right"), MIXES, ids=MIX_IDS)
def test_long_k_of_random_values(kernel, rng, left, right):
    a, b = views.filled(rng, (3, 70001), left), views.filled(rng, (70001, 2), right)
    np.testing.assert_array_equal(matmul(a, b, kernel=kernel), views.product(a, b))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 64), (64, 1), (1, 7), (7, 1), (2, 64), (64, 2), (8, 8), (9, 17)])
@pytest.mark.parametrize("k", [1, 4, 64])
def test_shape_never_changes_the_kernel(m, n, k):
    """One row or one column runs on the kernel that everything runs on."""
    with settings.tally() as counted:
        matmul(np.ones((m, k), np.int8), np.ones((k, n), np.int8))
        matmul(np.ones((m, k), np.int8), pack(np.ones((k, n), np.int8)))
    assert counted.macs == {dispatch.select().name: 2 * m * n * k}


def test_tally_names_the_kernel_asked_for(kernel):
    a = np.ones((5, 6), np.int8)
    with settings.tally() as counted:
        matmul(a, a.T, kernel=kernel)
    with settings.tally() as by_context, dispatch.use_kernel(kernel):
        matmul(a, a.T)
    assert counted.macs == by_context.macs == {kernel: 5 * 5 * 6}


@pytest.mark.parametrize("budget", [1, 700, 5000])
@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
def test_blocks_and_threads_do_not_show(kernel, rng, monkeypatch, budget, num_threads):
    """However the result is cut into blocks and shared among threads, its bits are the same."""
    monkeypatch.setattr(blocks, "budget", lambda: budget)
    monkeypatch.setattr(blocks, "LEAST_WORK", 1)
    for m, n, k in ((1, 1, 3), (1, 300, 20), (300, 1, 20), (67, 35, 33), (8, 64, 64), (5, 90, 129)):
        a, b = views.filled(rng, (m, k), np.uint8), views.filled(rng, (k, n), np.int8)
        got = matmul(a, b, kernel=kernel, num_threads=num_threads)
        np.testing.assert_array_equal(got, views.product(a, b))
        out = np.zeros((2 * m, n), np.int32)
        matmul(a, pack(b), out=out[::-2], kernel=kernel, num_threads=num_threads)
        np.testing.assert_array_equal(out[::-2], got)
        assert not out[::2].any()


def test_stack_with_one_packed_matrix(kernel, rng):
    a, b = views.filled(rng, (2, 3, 4, 5), np.int8), views.filled(rng, (5, 6), np.uint8)
    np.testing.assert_array_equal(matmul(a, pack(b), kernel=kernel), views.product(a, b), strict=True)
    np.testing.assert_array_equal(matmul(a[0, 0, 0], pack(b), kernel=kernel), views.product(a[0, 0, 0], b), strict=True)


REFUSED = (
    "bool",
    "int16",
    "uint16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "object",
    "U1",
    "M8[s]",
)


@pytest.mark.parametrize("dtype", REFUSED)
@pytest.mark.parametrize("position", [0, 1])
def test_other_types_are_refused(kernel, dtype, position):
    """No type is cast, not even one that would fit; the message names the operand, its type and what is taken."""
    pair = [np.zeros((2, 2), np.int8), np.zeros((2, 2), np.int8)]
    pair[position] = np.zeros((2, 2), dtype)
    message = rf"{'ab'[position]} must be int8 or uint8, got {np.dtype(dtype)}"
    with pytest.raises(TypeError) as caught:
        matmul(*pair, kernel=kernel)
    assert message in str(caught.value)


def test_lists_of_python_integers_are_refused():
    with pytest.raises(TypeError, match="a must be int8 or uint8, got int64"):
        matmul([[1, 2]], np.zeros((2, 2), np.int8))


@pytest.mark.parametrize("position", [0, 1])
def test_scalars_are_refused(position):
    pair = [np.zeros((2, 2), np.int8), np.zeros((2, 2), np.int8)]
    pair[position] = np.int8(3)
    with pytest.raises(ValueError, match=f"{'ab'[position]} must have at least one dimension"):
        matmul(*pair)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (4, 5)),
        ((3,), (4,)),
        ((2, 3), (4,)),
        ((3,), (4, 2)),
        ((2, 0), (1, 2)),
        ((2, 2, 3), (2, 2, 3)),
        ((2, 4, 3), (3, 3, 4)),
        ((1, 2), (1, 2)),
    ],
)
def test_shapes_that_do_not_fit(kernel, a, b):
    """numpy refuses the same shapes, with the same type of error."""
    left, right = np.zeros(a, np.int8), np.zeros(b, np.int8)
    with pytest.raises(ValueError, match=r"matmul|broadcast"):
        np.matmul(left, right)
    with pytest.raises(ValueError) as caught:
        matmul(left, right, kernel=kernel)
    assert str(a) in str(caught.value)
    assert str(b) in str(caught.value)


def test_packed_shape_that_does_not_fit(kernel):
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(4, 5\)"):
        matmul(np.zeros((2, 3), np.int8), pack(np.zeros((4, 5), np.int8)), kernel=kernel)


def test_packed_matrix_cannot_be_a():
    packed = pack(np.zeros((2, 2), np.int8))
    with pytest.raises(TypeError, match="a must be an array of int8 or uint8, got a PackedMatrix"):
        matmul(packed, np.zeros((2, 2), np.int8))


def _frozen():
    array = np.zeros((2, 5), np.int32)
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.zeros((2, 5), np.int64), TypeError, "out must be int32, got int64"),
        (np.zeros((2, 5), np.uint32), TypeError, "out must be int32, got uint32"),
        (np.zeros((2, 5), np.float32), TypeError, "out must be int32, got float32"),
        (np.zeros((2, 5), ">i4"), TypeError, "out must be int32, got >i4"),
        ([[0] * 5] * 2, TypeError, "out must be an array of int32, got list"),
        (np.zeros((2, 4), np.int32), ValueError, "out must have shape (2, 5), got (2, 4)"),
        (np.zeros((5, 2), np.int32), ValueError, "out must have shape (2, 5), got (5, 2)"),
        (np.zeros((1, 2, 5), np.int32), ValueError, "out must have shape (2, 5), got (1, 2, 5)"),
        (np.zeros(10, np.int32), ValueError, "out must have shape (2, 5), got (10,)"),
        (_frozen(), ValueError, "out is read-only"),
    ],
)
def test_out_is_strict(kernel, out, error, words):
    with pytest.raises(error) as caught:
        matmul(np.ones((2, 3), np.int8), np.ones((3, 5), np.int8), out=out, kernel=kernel)
    assert words in str(caught.value)
    assert not np.any(out)


def test_unknown_kernel():
    with pytest.raises(KernelError, match=r"'fast'.*no such kernel.*portable"):
        matmul(np.zeros((1, 1), np.int8), np.zeros((1, 1), np.int8), kernel="fast")


@pytest.mark.parametrize("name", [*(row.name for row in kernels.KERNELS.values() if row.native)])
def test_kernel_that_cannot_run_is_an_error(name):
    """A name of the table that this machine cannot run is refused with the reason, before any instruction of it runs."""
    a = np.ones((2, 2), np.int8)
    if name in dispatch.supported():
        assert matmul(a, a, kernel=name).tolist() == [[2, 2], [2, 2]]
        return
    with pytest.raises(KernelError) as caught:
        matmul(a, a, kernel=name)
    assert name in str(caught.value)
    assert dispatch.why_not(kernels.KERNELS[name]) in str(caught.value)


@pytest.mark.parametrize(
    ("count", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_thread_counts_are_checked(count, error):
    a = np.zeros((1, 1), np.int8)
    with pytest.raises(error, match="num_threads"):
        matmul(a, a, num_threads=count)


def test_as_many_dimensions_as_numpy_has(kernel):
    """Stacks of the most dimensions multiply; where the result would need one more, the error says so."""
    most = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
    a, b = np.full((1,) * (most - 2) + (2, 3), 2, np.int8), np.full((3, 4), 3, np.int8)
    for right in (b, pack(b), np.broadcast_to(b, (1,) * (most - 2) + b.shape)):
        c = matmul(a, right, kernel=kernel)
        assert c.shape == (*a.shape[:-1], 4)
        assert (c == 18).all()
