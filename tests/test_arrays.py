"""What is taken for an array, and packed matrices in numpy's own hands."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

import pyint8dot
from pyint8dot import (
    PackedI8K4,
    dequantize_linear,
    fuse,
    linear,
    matmul,
    matmul_integer,
    mmm,
    pack,
    pack_conv,
    qlinear_conv,
    qlinear_matmul,
    quantize_linear,
    search,
    use_kernel,
)
from pyint8dot.search import Index

A = np.array([[1, -128], [-3, 4]], np.int8)
B = np.array([[5, -6, 7], [-128, 9, 10]], np.int8)
IMAGE, FILTERS = np.ones((1, 1, 3), np.int8), np.ones((1, 1, 2), np.int8)
PRODUCT = A.astype(np.int32) @ B.astype(np.int32)


class Tensor:
    """An array of another library: nothing but DLPack."""

    def __init__(self, array, device=None):
        self._array, self._device = array, device

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._device or self._array.__dlpack_device__()


# A packed matrix as numpy sees it.


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_a_packed_matrix_is_the_right_operand_of_the_operator(dtype):
    b = pack(B.astype(dtype))
    np.testing.assert_array_equal(A @ b, matmul(A, B.astype(dtype)), strict=True)
    np.testing.assert_array_equal(np.matmul(A, b), A @ b, strict=True)
    np.testing.assert_array_equal(np.dot(A, b), A @ b, strict=True)
    np.testing.assert_array_equal(A[0] @ b, (A @ b)[0], strict=True)
    np.testing.assert_array_equal(Tensor(A) @ b, A @ b, strict=True)
    out = np.zeros((2, 3), np.int32)
    assert np.matmul(A, b, out=out) is out
    np.testing.assert_array_equal(out, A @ b)


def test_other_functions_of_numpy_do_not_take_it():
    """Most would multiply in int8, whose products wrap, or make an array of it at each call."""
    b = pack(B)
    for call in (lambda: A + b, lambda: np.matmul(A, b, dtype=np.int8), lambda: np.equal(A, b)):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError, match=r"numpy\.einsum does not take a PackedMatrix: numpy\.asarray"):
        np.einsum("ij,jk", A, b)
    with pytest.raises(TypeError, match="a must be an array of int8 or uint8, got a PackedMatrix, which can only be b"):
        b @ A


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_an_array_of_a_packed_matrix_is_the_matrix(dtype):
    b = pack(B.astype(dtype))
    found = np.asarray(b)
    np.testing.assert_array_equal(found, B.astype(dtype), strict=True)
    assert found is not np.asarray(b)
    assert found.flags.writeable
    np.testing.assert_array_equal(np.asarray(b, np.float32), B.astype(dtype).astype(np.float32), strict=True)
    assert (np.shape(b), np.ndim(b)) == (B.shape, 2)
    with pytest.raises(ValueError, match="without a copy"):
        b.__array__(copy=False)


def test_the_package_shows_its_names_and_no_others():
    assert sorted(dir(pyint8dot)) == sorted([*pyint8dot.__all__, "__version__"])
    for package in (fuse, search):
        assert dir(package) == sorted(package.__all__)


def test_objects_say_what_they_are_in_a_line():
    with use_kernel("portable") as kernel:
        assert repr(kernel) == "Kernel('portable')"
    large = fuse.AddUnicast(np.zeros((500, 500), np.int8))
    assert repr(large) == "AddUnicast(c=<int8 (500, 500)>)"
    assert repr(fuse.BinScalar(fuse.BinOp.Add, 3)) == "BinScalar(op=BinOp.Add, v=3)"
    for thing in (pack(B), pack_conv(FILTERS), PackedI8K4(8), Index(np.eye(4, dtype=np.float32)), fuse.Clear()):
        assert repr(thing).startswith(f"{type(thing).__name__}(")
        assert len(repr(thing)) < 120


# Operands.


def test_arrays_of_other_libraries():
    np.testing.assert_array_equal(matmul(Tensor(A), Tensor(B)), PRODUCT)
    np.testing.assert_array_equal(pack(Tensor(B)), B)
    x = np.float32([[1, 2]])
    np.testing.assert_array_equal(linear(Tensor(x), B, w_scale=np.float32(1)), linear(x, B, w_scale=np.float32(1)))
    assert len(Index(Tensor(np.eye(4, dtype=np.float32)))) == 4
    # CUDA's own memory is none that a processor reads.
    with pytest.raises(
        TypeError, match=r"a must be in the memory of the processor, got a Tensor on DLPack device \(2, 1\)"
    ):
        matmul(Tensor(A, (2, 1)), B)
    with pytest.raises(TypeError, match="a must say which DLPack device it is on by two numbers, got 7 from a Tensor"):
        matmul(Tensor(A, 7), B)
    with pytest.raises(TypeError, match="a must be int8 or uint8, got float32"):
        matmul(Tensor(x), B)
    with pytest.raises(TypeError, match="b must be of a type that numpy has, got a Tensor that it does not take"):
        matmul(A, Tensor(B.astype(object)))


@pytest.mark.parametrize("name", ["a", "b"])
def test_objects_that_describe_themselves_wrongly(name):
    described = {"shape": "2x2", "typestr": "|i1", "data": (A.ctypes.data, False), "version": 3}
    wrong = type("Wrong", (), {"__array_interface__": described})()
    with pytest.raises(TypeError, match=f"{name} must be an array, got what numpy makes none of: shape"):
        matmul(**{"a": A, "b": B, name: wrong})


@pytest.mark.parametrize("name", ["a", "b"])
def test_lists_have_no_type(name):
    given = {"a": A, "b": B}
    with pytest.raises(TypeError, match=rf"{name} must be int8 or uint8, got int64; np.array\({name}, np.int8\) makes"):
        matmul(**given | {name: given[name].tolist()})
    with pytest.raises(ValueError, match=f"{name} must be an array, got what numpy makes none of"):
        matmul(**given | {name: [[1], [2, 3]]})
    with pytest.raises(ValueError, match="b must be an array, got what numpy makes none of"):
        pack([[1], [2, 3]])
    with pytest.raises(TypeError, match=r"x must be float32, got float64; np.array\(x, np.float32\) makes"):
        linear([[1.0, 2.0]], B, w_scale=1.0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_arrays_that_came_from_another_process(dtype):
    """The types of what is pickled together are one object, and not numpy's own."""
    low = np.iinfo(dtype).min
    sent = np.array([[low, 3], [low + 255, 5]], dtype), np.array([low + 7, low + 200], dtype), np.array(low + 9, dtype)
    a, rows, one = pickle.loads(pickle.dumps(sent, protocol=4))
    assert a.dtype is rows.dtype
    for b in (B, pack(B)):
        np.testing.assert_array_equal(matmul(a, b), matmul(sent[0], B))
        for zero in (rows, one):
            wanted = (sent[0].astype(np.int32) - np.int32(zero).reshape(-1, 1)) @ B
            np.testing.assert_array_equal(matmul_integer(a, b, zero), wanted)
            np.testing.assert_array_equal(
                qlinear_matmul(a, 1.0, zero, b, 1.0, 0, 64.0, 0),
                qlinear_matmul(sent[0], 1.0, zero, B, 1.0, 0, 64.0, 0),
            )


class Liar(np.ndarray):
    """An array that says of itself to be another."""

    shape = property(lambda _: (2, 3))
    ndim = property(lambda _: 2)
    strides = property(lambda _: (12, 4))
    dtype = property(lambda _: np.dtype(np.int32))


def test_what_a_subclass_says_of_itself_moves_no_address():
    room = np.full(64, 7, np.int32)
    for call in (
        lambda out: matmul(A, B, out=out),
        lambda out: matmul(A, pack(B), out=out),
        lambda out: matmul_integer(A, pack(B), 1, out=out),
        lambda out: mmm(A, B, out=out),
        lambda out: linear(A.astype(np.float32), B, w_scale=1.0, out=out),
    ):
        with pytest.raises((TypeError, ValueError), match=r"out must (be float32|have shape \(2, 3\), got \(1,\))"):
            call(room[32:33].view(Liar))
        assert (room == 7).all()
    # One that tells the truth is written to as it is.
    out = np.zeros((2, 3), np.int32).view(type("Mine", (np.ndarray,), {}))
    assert matmul(A, B, out=out) is out
    np.testing.assert_array_equal(np.asarray(out), PRODUCT)


def test_what_looks_like_a_packed_matrix_is_none():
    class Fake:
        shape, dtype, ndim, strides = B.shape, B.dtype, 2, (2**40, 2**40)

        def unpack(self):
            return B

    with pytest.raises(TypeError, match="b must be int8 or uint8, got object"):
        mmm(A, B, [fuse.AddMatMul(A, Fake())])
    for kind in (type(pack(B)), type(pack_conv(FILTERS))):
        with pytest.raises(TypeError, match=f"{kind.__name__} cannot be subclassed"):
            type("Mine", (kind,), {"shape": (2, 1)})


def test_masks_are_not_dropped():
    masked = np.ma.array(A, mask=[[0, 1], [0, 0]])
    hidden = pytest.raises(TypeError, match="must not be a masked array, whose mask would be lost")
    for call in (
        lambda: matmul(masked, B),
        lambda: matmul(A, masked),
        lambda: pack(masked),
        lambda: masked @ pack(B),
        lambda: matmul_integer(A, B, np.ma.array(1)),
        lambda: quantize_linear(np.ma.array([1.5]), 0.5),
    ):
        with hidden:
            call()
    with pytest.raises(TypeError, match="out must be an array of int32, got MaskedArray"):
        matmul(A, B, out=np.ma.zeros((2, 3), np.int32))


@pytest.mark.static
def test_masked_arrays_are_not_imported_to_look_for_them():
    script = "import sys, pyint8dot, numpy as np; pyint8dot.pack(np.ones((2, 2), np.int8)); sys.exit('numpy.ma' in sys.modules)"
    before = subprocess.run(
        [sys.executable, "-c", "import sys, numpy; sys.exit('numpy.ma' in sys.modules)"], check=False
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == before.returncode


def test_nothing_is_no_array():
    for name in ("a", "b"):
        with pytest.raises(TypeError, match=f"{name} must be an array, got None"):
            matmul(**{"a": A, "b": B, name: None})
    with pytest.raises(TypeError, match="b_scale must be an array, got None"):
        qlinear_matmul(A, 1.0, 0, B, None, 0, 1.0, 0)


# Zero points and scales.


@pytest.mark.parametrize("zero_point", [300, -129, 2**80, np.int64(300), np.array([1, 300])])
def test_zero_points_that_do_not_fit(zero_point):
    bad = 300 if isinstance(zero_point, np.ndarray) else zero_point
    wanted = re.escape(f"a_zero_point must be within -128..127, the range of int8, got {bad}")
    for b in (B, pack(B)):
        with pytest.raises(ValueError, match=f"{wanted}$"):
            matmul_integer(A, b, zero_point)


@pytest.mark.parametrize("bad", [0.0, np.float32(-0.0), np.nan, np.inf, -np.inf, 1e-50])
def test_what_is_divided_by_is_finite_and_not_0(bad):
    wrong = pytest.raises(ValueError, match="y_scale must be finite and not 0")
    for b in (B, pack(B)):
        with wrong:
            qlinear_matmul(A, 1.0, 0, b, 1.0, 0, bad, 0)
    with wrong:
        qlinear_conv(IMAGE, 1.0, 0, FILTERS, 1.0, 0, bad, 0)
    if bad != 1e-50:
        with wrong:
            quantize_linear(np.float32([1, 2]), bad)
        with wrong:
            quantize_linear(np.float32([1, 2]), np.array([1.0, bad]), axis=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
@pytest.mark.parametrize("name", ["a_scale", "b_scale"])
def test_scales_are_finite(bad, name):
    scales = {"a_scale": 1.0, "b_scale": np.ones(3), name: bad}
    with pytest.raises(ValueError, match=f"^{name} must be finite in float32, got"):
        qlinear_matmul(A, b=B, y_scale=1.0, a_zero_point=0, b_zero_point=0, y_zero_point=0, **scales)


@pytest.mark.parametrize("zero", [0.0, np.float32(-0.0), np.array(0.0), 1e-50])
def test_no_scale_of_everything_is_0(zero):
    def refused(name):
        return pytest.raises(ValueError, match=f"^{name} must not be 0 in float32, got .*; an array of scales may")

    x = np.ones((1, 2), np.float32)
    for b in (B, pack(B)):
        with refused("a_scale"):
            qlinear_matmul(A, zero, 0, b, 1.0, 0, 1.0, 0)
        with refused("b_scale"):
            qlinear_matmul(A, 1.0, 0, b, zero, 0, 1.0, 0)
        linear(x, b, w_scale=np.ones(3, np.float32))  # what is kept of it does not let the next one by
        with refused("w_scale"):
            linear(x, b, w_scale=zero)
    for w in (FILTERS, pack_conv(FILTERS)):
        with refused("x_scale"):
            qlinear_conv(IMAGE, zero, 0, w, 1.0, 0, 1.0, 0)
        with refused("w_scale"):
            qlinear_conv(IMAGE, 1.0, 0, w, zero, 0, 1.0, 0)
    with refused("x_scale"):
        dequantize_linear(A, np.float32(zero))


def test_what_is_all_0_may_have_the_scale_0_in_an_array():
    ones = np.float32([1, 0, 1])
    y = qlinear_matmul(A, 1.0, 0, B, ones, 0, 1000.0, np.int8(3))
    assert y[:, 1].tolist() == [3, 3]
    y = qlinear_matmul(A, np.float32([0, 1]), 0, B, 1.0, 0, 1.0, np.int8(3))
    assert y[0].tolist() == [3, 3, 3]
    y = linear(np.float32([[1, 2]]), B, w_scale=ones, bias=np.float32([0, 5, 0]))
    assert y[0, 1] == 5
    y = qlinear_conv(IMAGE, 1.0, 0, np.repeat(FILTERS, 2, 0), ones[:2], 0, 1.0, np.int8(3))
    assert y[0].tolist() == [[5, 5], [3, 3]]
    assert dequantize_linear(A, ones[:2], axis=1).tolist() == [[1, 0], [-3, 0]]
