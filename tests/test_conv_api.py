"""Convolutions as objects and functions: constants kept, weights packed, `out`, threads, what reaches the kernels, and errors."""

from __future__ import annotations

import gc
import itertools
import pickle
import threading
import time
import weakref

import numpy as np
import pytest
from support.convolution import exact, requantized
from support.quantized import many, operand

from pyint8dot import conv
from pyint8dot.conv import conv_integer, pack_conv, qlinear_conv
from pyint8dot.convolution import geometry, im2col, program
from pyint8dot.convolution.lowering import Lowered
from pyint8dot.engine import dispatch, kernels, settings
from pyint8dot.errors import KernelError

pytestmark = pytest.mark.each_processor

QUANTIZATION = conv.Quantization(1.0, 1.0, 1.0, 0)


def test_constants_once_images_often(kernel, rng):
    """One `Convolution` for images of many sizes, layouts and zero points."""
    for group, inner in ((1, 3), (2, 2), (4, 1)):
        w = operand(rng, np.uint8, (group * 2, inner, 3, 2))
        zw, bias = operand(rng, np.uint8, (group * 2,)), rng.integers(-999, 999, group * 2).astype(np.int32)
        attributes = {"strides": [2, 1], "pads": [1, 0, 1, 1], "group": group}
        scale = conv.Quantization(0.02, 0.03, 0.5, np.int8(-7))
        sums = conv.Convolution(w, np.int8, 5, zw, bias=bias, **attributes)
        bytes_ = conv.Convolution(
            pack_conv(w, group=group), np.int8, 5, zw, bias=bias, quantization=scale, **attributes
        )
        for size in ((4, 5), (9, 9), (4, 5), (1, 2)):
            x = operand(rng, np.int8, (2, group * inner, *size))
            for image in (x, np.asfortranarray(x), x[::-1], x[:, :, ::-1, ::-1]):
                for zx in (None, -128, 17):
                    wanted = exact(image, w, 5 if zx is None else zx, zw, **attributes) + bias[:, None, None]
                    np.testing.assert_array_equal(sums(image, zx, kernel=kernel), wanted)
                    y = requantized(wanted, np.float32(0.02) * np.float32(0.03) / np.float32(0.5), -7, np.int8)
                    np.testing.assert_array_equal(bytes_(image, zx, kernel=kernel), y)
    with pytest.raises(TypeError, match="x must be int8, got uint8"):
        sums(x.view(np.uint8))
    with pytest.raises(ValueError, match=r"x_zero_point must be within -128\.\.127"):
        sums(x, 128)
    with pytest.raises(TypeError, match="x must be int8 or uint8, got float32"):
        conv.Convolution(w, np.float32)


@pytest.mark.parametrize("group", [1, 8])
def test_constants_are_kept_with_packed_weights(kernel, rng, monkeypatch, group):
    """Calls that bring the same constants lower them once; one changed in place, or of another type, is another one."""
    lowered = []
    monkeypatch.setattr(conv, "Lowered", lambda **fields: lowered.append(1) or Lowered(**fields))
    x, w = operand(rng, np.int8, (1, 8, 5, 5)), operand(rng, np.int8, (8, 8 // group, 3, 3))
    packed = pack_conv(w, group=group, kernel=kernel)
    scales, zeros, bias = rng.random(8).astype(np.float32), operand(rng, np.int8, (8,)), np.arange(8, dtype=np.int32)
    single, zero = np.array(0.5, np.float32), np.array(3, np.int8)

    def check(zy, new, bias=bias):
        arguments = (scales, zeros, np.float32(90), zy, bias)
        wanted = qlinear_conv(x, single, zero, w, *arguments, group=group, kernel=kernel)
        lowered.clear()
        for _ in range(2):
            y = qlinear_conv(x, single, zero, packed, *arguments, kernel=kernel)
            assert y.dtype == wanted.dtype
            np.testing.assert_array_equal(y, wanted)
        assert len(lowered) == new

    check(np.int8(9), 1)
    check(np.int8(9), 0)
    check(np.uint8(9), 1)
    before = bias.copy()
    bias += 5000
    check(np.uint8(9), 0, before)
    for array in (scales, zeros, bias, single, zero):
        array[...] = array[::-1].copy() if array.ndim else array + array.dtype.type(1)
        check(np.uint8(9), 1)
    sums = conv_integer(x, packed, zero, zeros, kernel=kernel)
    np.testing.assert_array_equal(sums, exact(x, w, int(zero), zeros, group=group))
    x = x.view(np.uint8)
    check(np.uint8(9), 1)


def test_kept_constants_neither_pile_up_nor_keep_weights_alive(rng):
    x, w = operand(rng, np.int8, (1, 2, 4, 4)), pack_conv(operand(rng, np.int8, (3, 2, 2, 2)))
    for scale in range(1, 40):
        qlinear_conv(x, float(scale), 0, w, 1.0, 0, 50.0, 0)
    assert 0 < len(w.lowered) <= conv.MOST_LOWERED
    rows = weakref.ref(w.rows)
    collects = gc.isenabled()
    gc.disable()
    try:
        del w
        assert rows() is None, "something that leads back to the weights is kept with them"
    finally:
        if collects:
            gc.enable()


def test_programs_do_not_pile_up(rng):
    """However many sizes of images come, the weights keep a bounded number of programs for them."""
    w = pack_conv(operand(rng, np.int8, (3, 2, 2)))
    for size in range(2, 80):
        x = operand(rng, np.int8, (1, 2, size))
        np.testing.assert_array_equal(conv_integer(x, w), exact(x, w.unpack()))
    assert len(w.programs) <= program.MOST_PROGRAMS


def test_copies_of_the_image_are_paid_for_by_products(native_kernel):
    """Columns of the window have grids of their own where enough rows of weights, or sums, are spared columns between the rows."""
    x = np.zeros((1, 1, 56, 56), np.int8)
    for rows, quantization, apart in (
        (64, QUANTIZATION, False),
        (192, QUANTIZATION, True),
        (64, None, True),
        (4, None, False),
    ):
        w = pack_conv(np.ones((rows, 1, 3, 3), np.int8), kernel=native_kernel)
        conv.Convolution(w, np.int8, quantization=quantization, pads=[1] * 4)(x, kernel=native_kernel)
        assert [key.place.apart for key in w.programs] == [apart]


def test_column_operand_is_the_matrix_of_windows(rng):
    """What reaches the kernel is the packed matrix of windows, though no such matrix was made."""
    x = operand(rng, np.int8, (5, 6, 7))
    forms = (
        {},
        {"strides": [2, 1], "pads": [1, 2, 0, 1]},
        {"dilations": [2, 2]},
        {"strides": [1, 3], "dilations": [1, 2]},
    )
    for attributes, apart in itertools.product(forms, (False, True)):
        geo = geometry.geometry((6, 7), (3, 2), **attributes)
        geo = geo.taken_apart if apart else geo
        assert not (apart and geo.gains_apart)
        laid = im2col.grids(x, geo, 77)
        padded = np.pad(x, [(0, 0), *zip(geo.begin, geo.end, strict=True)], constant_values=77)
        (down, across), (high, wide) = geo.dilations, geo.out
        seen = [
            padded[:, i * down :: geo.strides[0], j * across :: geo.strides[1]][:, :high, :wide]
            for i, j in itertools.product(range(3), range(2))
        ]
        matrix = np.concatenate(seen)
        for layout in {row.right for row in kernels.KERNELS.values()}:
            data = im2col.columns(laid, geo, slice(1, geo.out[0]), layout)
            count = geo.columns(geo.out[0] - 1)
            unpacked = layout.unpack(data, 30, count)
            for p in range(geo.out[0] - 1):
                row = unpacked[:, p * geo.pitch :][:, : geo.out[1]]
                np.testing.assert_array_equal(row, matrix[:, p + 1])
        sums = im2col.column_sums(laid, geo)
        for p in range(geo.out[0]):
            wanted = matrix[:, p].sum(axis=0, dtype=np.int32)
            np.testing.assert_array_equal(sums[p * geo.pitch :][: geo.out[1]], wanted)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_many_grids_and_taps_at_once_are_the_same_one_by_one(rng, monkeypatch, dtype):
    """A large window has thousands of grids and taps; numpy lays them out together, with the same bytes as one after another."""
    for _ in range(60):
        kernel, strides = rng.integers(1, 8, 2).tolist(), rng.integers(1, 7, 2).tolist()
        dilations, pads = rng.integers(1, 4, 2).tolist(), rng.integers(0, 6, 4).tolist()
        spatial = tuple(int(rng.integers((k - 1) * d + 1, 30)) for k, d in zip(kernel, dilations, strict=True))
        geo = geometry.geometry(spatial, tuple(kernel), strides=strides, dilations=dilations, pads=pads)
        x = operand(rng, dtype, (3, *spatial))
        rows, layout = slice(0, geo.out[0]), next(iter(kernels.KERNELS.values())).right
        made = []
        for few, taps, written in ((10**9, 10**9, 1), (0, 0, 1), (0, 0, 1 << 20)):
            monkeypatch.setattr(im2col, "FEW_PHASES", few)
            monkeypatch.setattr(im2col, "SPARSE", 10**9)
            monkeypatch.setattr(im2col, "MANY_TAPS", taps)
            monkeypatch.setattr(im2col, "WRITTEN", written)
            laid = im2col.grids(x, geo, -5, native=False)
            made.append((laid, im2col.columns(laid, geo, rows, layout) if laid.dtype == np.int8 else laid))
        for laid, data in made[1:]:
            np.testing.assert_array_equal(laid, made[0][0])
            np.testing.assert_array_equal(data, made[0][1])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_grids_are_the_same_both_ways(rng, dtype):
    """Native copies of one and two dimensions against numpy's; a geometry taken apart has the grids as well."""
    for _ in range(many(200)):
        d = int(rng.integers(1, 4))
        kernel, strides, dilations = (rng.integers(1, top, d).tolist() for top in (5, 5, 4))
        spatial = tuple(int(rng.integers((k - 1) * s + 1, 90)) for k, s in zip(kernel, dilations, strict=True))[-d:]
        spatial = tuple(min(size, 12) if d == 3 else size for size in spatial)
        if any((k - 1) * s >= size for k, s, size in zip(kernel, dilations, spatial, strict=True)):
            continue
        pads = rng.integers(0, 6, 2 * d).tolist()
        geo = geometry.geometry(spatial, tuple(kernel), strides=strides, dilations=dilations, pads=pads)
        x = operand(rng, dtype, (3, *spatial))
        for place in (geo, geo.taken_apart) if d == 2 else (geo,):
            for image in (x, x[..., ::-1]):
                found, wanted = (im2col.grids(image, place, -5, native=native) for native in (True, False))
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("group", [1, 6])
def test_grids_as_large_as_the_image_that_are_not_the_image(rng, kernel, group):
    """A window of one row with as many columns before as it sees behind; steps that leave as many pixels out as padding adds."""
    for size, window, attributes in (
        ((20, 24), (1, 3), {"pads": [0, 1, 0, 1]}),
        ((20, 24), (1, 3), {"pads": [0, 2, 0, 0]}),
        ((20, 80), (4, 4), {"pads": [1, 1, 1, 1], "strides": [4, 4]}),
        ((20, 80), (1, 4), {"pads": [0, 1, 0, 1], "strides": [1, 4]}),
        ((80,), (4,), {"pads": [1, 1], "strides": [4]}),
    ):
        x, w = (
            operand(rng, np.int8, (1, 6, *size)),
            operand(rng, np.int8, (18 if group == 1 else 6, 6 // group, *window)),
        )
        wanted = exact(x, w, 3, group=group, **attributes)
        np.testing.assert_array_equal(conv_integer(x, w, 3, group=group, kernel=kernel, **attributes), wanted)


def test_a_large_window_takes_no_more_time_than_its_weights(rng, kernel):
    x, w = operand(rng, np.uint8, (1, 1, 165, 320)), operand(rng, np.int8, (2, 1, 160, 160))
    before = time.process_time()
    y = conv_integer(x, w, 7, strides=[160, 160], kernel=kernel)
    # A search through the 25600 grids for every weight took some seconds, and forty under emulation.
    assert time.process_time() - before < 4
    windows = x[0, 0, :160].reshape(160, 2, 160).transpose(1, 0, 2).astype(int) - 7
    np.testing.assert_array_equal(y[0, :, 0], np.einsum("pij,cij->cp", windows, w[:, 0].astype(int)))


def test_pointwise_copies_nothing(rng):
    """With a 1x1 window and stride 1 the packer reads the image itself."""
    for dtype in (np.int8, np.uint8):
        x = operand(rng, dtype, (6, 4, 5))
        laid = im2col.grids(x, geometry.geometry((4, 5), (1, 1)), 0)
        assert np.shares_memory(laid, x)
        assert laid.shape == (1, 6, 20)


def test_packed_weights(kernel, rng):
    x, w = operand(rng, np.uint8, (2, 6, 8, 8)), operand(rng, np.uint8, (10, 3, 3, 2))
    packed = pack_conv(w, group=2, kernel=kernel)
    assert (packed.shape, packed.dtype, packed.group) == (w.shape, w.dtype, 2)
    np.testing.assert_array_equal(packed.unpack(), w)
    wanted = exact(x, w, 3, 130, group=2)
    restored = pickle.loads(pickle.dumps(packed))
    assert repr(restored) == repr(packed) == "PackedWeights(shape=(10, 3, 3, 2), dtype=uint8, group=2)"
    for weights in (packed, restored):
        for name in dispatch.supported():
            np.testing.assert_array_equal(conv_integer(x, weights, 3, 130, kernel=name), wanted)
            np.testing.assert_array_equal(conv_integer(x, weights, 3, 130, group=2, kernel=name), wanted)
    w[:] = 0
    np.testing.assert_array_equal(conv_integer(x, packed, 3, 130), wanted)


def test_packed_weights_in_many_threads(rng):
    x, w = operand(rng, np.int8, (1, 4, 9, 9)), operand(rng, np.int8, (8, 4, 3, 3))
    packed, wanted, wrong = conv.PackedWeights(w, 1), exact(x, w, 5), []

    def work():
        for name in dispatch.supported() * 5:
            equal = np.array_equal(conv_integer(x, packed, 5, kernel=name), wanted)
            wrong.extend([name] * (not equal))

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_out(kernel, rng):
    x, w = operand(rng, np.int8, (2, 3, 6, 6)), operand(rng, np.int8, (4, 3, 3, 3))
    wanted = exact(x, w, 2)
    out = np.zeros((2, 4, 4, 8), np.int32)[..., ::2]
    assert conv_integer(x, w, 2, out=out, kernel=kernel) is out
    np.testing.assert_array_equal(out, wanted)
    same = operand(rng, np.int8, (1, 3, 6, 6))
    square = operand(rng, np.int8, (3, 3, 1, 1))
    wanted = qlinear_conv(same, 1.0, 0, square, 1.0, 0, 50.0, 0)
    assert qlinear_conv(same, 1.0, 0, square, 1.0, 0, 50.0, 0, out=same, kernel=kernel) is same
    np.testing.assert_array_equal(same, wanted)


def test_inputs_are_left_alone(rng):
    x, w = operand(rng, np.uint8, (1, 2, 5, 5)), operand(rng, np.uint8, (3, 2, 1, 1))
    before = x.copy(), w.copy()
    for array in (x, w):
        array.flags.writeable = False
    conv_integer(x, w, 1, 2)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(w, before[1])


def test_products_are_counted(kernel, rng):
    """The kernel that was asked for ran, and the work is that of the convolution."""
    with settings.tally() as counted:
        conv_integer(operand(rng, np.int8, (2, 4, 6, 6)), operand(rng, np.int8, (6, 2, 3, 3)), group=2, kernel=kernel)
    assert counted.macs == {kernel: 2 * 6 * 4 * 4 * 2 * 9}


X = np.zeros((1, 4, 5, 6), np.int8)
W = np.zeros((2, 4, 3, 3), np.int8)
BAD = [
    (TypeError, "x must be int8 or uint8, got float32", {"x": X.astype(np.float32)}),
    (TypeError, "w must be int8 or uint8, got int32", {"w": W.astype(np.int32)}),
    (ValueError, r"w must have shape \(channels out, channels in / group, \*kernel\), got \(2, 4\)", {"w": W[:, :, 0, 0]}),
    (ValueError, "w must have no empty kernel axis", {"w": W[:, :, :0]}),
    (ValueError, r"x must have 4 dimensions, as many as w, got shape \(4, 5, 6\)", {"x": X[0]}),
    (ValueError, r"x must have 4 channels for w of shape \(2, 4, 3, 3\) and group 1, got shape", {"x": X[:, :3]}),
    (ValueError, "group must divide the 2 output channels of w, got 3", {"group": 3}),
    (ValueError, "group must divide the 2 output channels of w, got 0", {"group": 0}),
    (TypeError, "group must be an int, got float", {"group": 1.0}),
    (ValueError, "x must have 8 channels", {"group": 2}),
    (ValueError, "group must be 1, as w was packed, got 2", {"group": 2, "w": conv.PackedWeights(W, 1)}),
    (ValueError, r"strides must hold 2 integers, got shape \(1,\)", {"strides": [1]}),
    (ValueError, r"strides must be at least 1, got \[0, 1\]", {"strides": [0, 1]}),
    (ValueError, r"strides must be at most 2147483647, got \[4611686018427387904, 1\]", {"strides": [2**62, 1]}),
    (ValueError, "auto_pad must be one of NOTSET, SAME_UPPER, SAME_LOWER, VALID, got \\[\\]", {"auto_pad": []}),
    (ValueError, "kernel_shape must be that of w, \\[3, 3\\], got 3", {"kernel_shape": 3}),
    (TypeError, "dilations must be integers, got float64", {"dilations": [1.0, 1.0]}),
    (ValueError, r"pads must hold 4 integers, got shape \(2,\)", {"pads": [1, 1]}),
    (ValueError, r"pads must be at least 0, got \[-1, 0, 0, 0\]", {"pads": [-1, 0, 0, 0]}),
    (ValueError, "auto_pad must be one of NOTSET, SAME_UPPER, SAME_LOWER, VALID, got 'SAME'", {"auto_pad": "SAME"}),
    (ValueError, "pads must be left out with auto_pad='VALID'", {"auto_pad": "VALID", "pads": [1, 1, 1, 1]}),
    (ValueError, "kernel_shape must be that of w, \\[3, 3\\], got \\[1, 1\\]", {"kernel_shape": [1, 1]}),
    (ValueError, "along spatial axis 0 the window spans 7 and x with its padding 5", {"dilations": [3, 1]}),
    (ValueError, r"x_zero_point must be a scalar, got shape \(4,\)", {"x_zero_point": [0] * 4}),
    (ValueError, r"x_zero_point must be within -128\.\.127, the range of int8, got 200", {"x_zero_point": 200}),
    (ValueError, r"w_zero_point must be a scalar or one per output channel, shape \(2,\), got \(3,\)", {"w_zero_point": [0] * 3}),
    (TypeError, "w_zero_point must be integers that fit int8, got float64", {"w_zero_point": 0.0}),
    (ValueError, r"out must have shape \(1, 2, 3, 4\)", {"out": np.zeros((1, 2, 3, 3), np.int32)}),
    (TypeError, "out must be int32, got int8", {"out": np.zeros((1, 2, 3, 4), np.int8)}),
    (KernelError, "no such kernel", {"kernel": "avx"}),
    (ValueError, "num_threads must be from 1", {"num_threads": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "changes"), BAD, ids=[message[:45] for _, message, _ in BAD])
def test_errors(error, message, changes):
    with pytest.raises(error, match=message):
        conv_integer(**{"x": X, "w": W} | changes)


def test_qlinear_errors():
    def call(sx=1.0, sw=1.0, sy=1.0, zy=0, bias=None):
        return qlinear_conv(X, sx, 0, W, sw, 0, sy, zy, bias)

    with pytest.raises(ValueError, match=r"x_scale must be a scalar, got shape \(4,\)"):
        call(sx=np.ones(4))
    with pytest.raises(
        ValueError, match=r"w_scale must be a scalar or one per output channel, shape \(2,\), got \(4,\)"
    ):
        call(sw=np.ones(4))
    with pytest.raises(TypeError, match="y_scale must be floats, got int64"):
        call(sy=np.int64(1))
    with pytest.raises(ValueError, match="y_scale must be finite and not 0 in float32, got 0"):
        call(sy=0.0)
    with pytest.raises(ValueError, match=r"x_scale \* w_scale / y_scale must be finite in float32, got inf"):
        call(sy=1e-45)
    with pytest.raises(ValueError, match=r"y_zero_point must be within -128\.\.127"):
        call(zy=300)
    with pytest.raises(TypeError, match="bias must be int32, got int64"):
        call(bias=np.zeros(2, np.int64))
    with pytest.raises(ValueError, match=r"bias must have shape \(2,\), got \(4,\)"):
        call(bias=np.zeros(4, np.int32))


def test_weights_cannot_be_changed():
    """Native code believes their shape: nothing a user can set may make it read elsewhere."""
    w = pack_conv(np.ones((4, 2, 3, 3), np.int8))
    for name in ("shape", "dtype", "group", "rows", "row_sums", "programs", "lowered", "new"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(w, name, (400000, 2, 3, 3))
    with pytest.raises(AttributeError, match="immutable"):
        del w.shape
    with pytest.raises(AttributeError, match="immutable"):
        w.__init__(np.ones((4, 2, 3, 3), np.int8), 1)
    for array in (w.rows, w.row_sums):
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            array.setflags(write=True)
    assert conv_integer(np.ones((1, 2, 3, 3), np.int8), w).ravel().tolist() == [18] * 4
