"""tract's named cases of quantised convolutions, with the results written out.

tract keeps images in four formats; here all are (batch, channels, *spatial). Its scales are those of the input, the weights and the
output, its zero points likewise.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pyint8dot import conv

pytestmark = pytest.mark.each_processor

I8, U8 = np.int8, np.uint8


def case(x, w, wanted, *, x_type=I8, w_type=I8, y_type=I8, zero=(0, 0, 0), scale=(1.0, 1.0, 1.0), bias=None, group=1):
    """One problem: nested lists of x, w and the result; zero points and scales in the order x, w, y."""
    return {
        "x": np.array(x, x_type),
        "w": np.array(w, w_type),
        "wanted": np.array(wanted),
        "y_type": y_type,
        "zero": zero,
        "scale": scale,
        "bias": bias,
        "group": group,
    }


def zeros(*shape):
    return np.zeros(shape, int).tolist()


CASES = {
    "trivial_0": case([[[0]]], [[[0]]], [[[0]]]),
    "trivial_1": case([[[2]]], [[[64]]], [[[127]]]),
    "trivial_2": case([[[-13, 26]]], [[[8, -2]]], [[[-128]]]),
    "trivial_3": case([[[0], [0]]], zeros(2, 2, 1), [[[0], [0]]]),
    "trivial_4": case([[[0], [1]]], [*zeros(7, 2, 1), [[0], [1]]], [[*zeros(7, 1), [1]]]),
    "scale_per_channel_0": case([[[0]]], [[[0]], [[7]]], [[[0], [7]]], zero=(-2, 0, 0), scale=(1.0, [1.0, 0.5], 1.0)),
    "scale_per_channel_1": case([[[0]]], [[[0]], [[7]]], [[[0], [0]]], scale=(1.0, [1.0, 0.5], 1.0)),
    "a0_0": case([[[1]]], [[[0]]], [[[0]]]),
    "a0_b0_0": case([[[0, 0]]], [[[0]]], [[[-6, -6]]], zero=(-3, 2, 0)),
    "kernel_zp": case([[[1]]], [[[0]]], [[[-1]]], zero=(0, 1, 0)),
    "a0": case([[[0]]], [[[-1]]], [[[1]]], zero=(1, 0, 0)),
    "b0_0": case([[[0, 0, 0]]], [[[0, 0]]], [[[0, 0]]], zero=(0, 1, 0)),
    "b0_1": case([[[0, 0, 0, 0, -20, 0]]], [[[0, 0]]], [[[0, 0, 0, 40, 40]]], zero=(0, 2, 0)),
    "shape_0": case([[[[0, 0]]]], [[[[0]]]], [[[[0, 0]]]]),
    "batch_0": case(zeros(3, 1, 2), [[[0, 0]]], zeros(3, 1, 1)),
    "batch_1": case(zeros(2, 1, 1), [[[1]]], zeros(2, 1, 1)),
    "batch_vec_scale": case(zeros(2, 1, 2), zeros(2, 1, 1), zeros(2, 2, 2), scale=(1.0, [1.0, 1.0], 1.0)),
    "scale_0": case([[[-1]]], [[[1]]], [[[0]]], scale=(1.0, 1.0, 9.274534)),
    "scale_1": case([[[41]]], [[[1]]], [[[36]]], scale=(1.0, 1.0, 1.1400417)),
    "scale_2": case([[[-1]]], [[[2]]], [[[-1]]], scale=(0.5, 1.0, 1.0)),
    "scale_3": case([[[0]]], [[[0]]], [[[9]]], scale=(0.5, 1.0, 2.0), bias=[35]),
    "c0_0": case([[[0]]], [[[0]]], [[[1]]], zero=(0, 0, 1)),
    "group_0": case([[[0], [0]]], [[[0]], [[0]]], [[[0], [0]]], group=2),
    "group_1": case([[[0], [0]]], [[[1]], [[0]]], [[[-1], [0]]], zero=(1, 0, 0), group=2),
    "group_2": case([[[0], [0]]], [[[0]], [[1]]], [[[0], [-1]]], zero=(1, 0, 0), group=2),
    "rounding_0": case([[[4]]], [[[-5]]], [[[-68]]], zero=(2, 0, 0), scale=(2.0, 0.5, 2.0), bias=[-125]),
    "rounding_on_arm": case([[[1]]], [[[0]], [[-15]]], [[[0], [-11]]], scale=(1.0, 1.0, 1.3759452)),
    "bias_1": case(zeros(1, 1, 1, 1), zeros(2, 1, 1, 1), [[[[1]], [[2]]]], bias=[1, 2]),
    "bias_2": case([[[0]]], zeros(2, 1, 1), [[[0], [1]]], bias=[0, 1]),
    "bias_3": case(
        [[[0, 0]]], [*zeros(4, 1, 2), [[0, -1]]], [[[0], [0], [0], [0], [-1]]], zero=(-1, 0, 0), bias=[0] * 5
    ),
    "bias_4": case(zeros(1, 1, 1, 1), zeros(2, 1, 1, 1), [[[[0]], [[1]]]], bias=[0, 1]),
    "bias_5": case(zeros(1, 1, 1, 1), zeros(1, 1, 1, 1), [[[[1]]]], bias=[1]),
    "bias_in_chw": case([[[0]]], zeros(2, 1, 1), [[[0], [0]]], bias=[0, 0]),
    "bias_with_batch": case([[[0]]], zeros(1, 1, 1), [[[1]]], bias=[1]),
    "bias_vec_with_batch": case([[[0]]], zeros(2, 1, 1), [[[0], [1]]], bias=[0, 1]),
    "asan_0": case([[[0], [0]]], zeros(5, 2, 1), zeros(1, 5, 1)),
    "tflite_per_axis_0": case([[[0]]], zeros(2, 1, 1), zeros(1, 2, 1), scale=(1.0, [1.0, 1.0], 1.0)),
    "tflite_per_axis_1": case([[[[0, 0]]]], zeros(2, 1, 1, 2), zeros(1, 2, 1, 1), scale=(1.0, [1.0, 1.0], 1.0)),
    "tflite_per_axis_nchw_0": case([[[0]]], zeros(2, 1, 1), zeros(1, 2, 1), scale=(1.0, [1.0, 1.0], 1.0)),
    "tflite_per_axis_nchw_1": case([[[0, 0]]], zeros(2, 1, 2), zeros(1, 2, 1), scale=(1.0, [1.0, 1.0], 1.0)),
    "i8_u8": case([[[0]]], [[[0]]], [[[0]]], x_type=U8, y_type=U8),
    "i8_u8_0": case([[[0]]], [[[1]]], [[[0]]], x_type=U8, y_type=U8, zero=(0, -1, 0), scale=(1.0, 1.0, 0.5)),
    "i8_u8_ascale": case([[[0]]], [[[0]]], [[[0]]], x_type=U8, y_type=U8, scale=(1.0, 2.0, 1.0)),
    "i8_u8_d0": case([[[1]]], [[[-3]]], [[[0]]], x_type=U8, y_type=U8, zero=(1, 0, 0)),
    "i8_u8_c0": case([[[4]]], [[[1]]], [[[6]]], x_type=U8, y_type=U8, zero=(0, 0, 2)),
    "i8_u8_sat_0": case([[[1]]], [[[-1]]], [[[0]]], x_type=U8, y_type=U8),
    "i8_u8_weird_0": case([[[0]]], [[[-1]]], [[[3]]], x_type=U8, y_type=U8, zero=(1, 0, 2)),
    "i8_u8_scales_0": case([[[0]]], [[[-1]]], [[[8]]], x_type=U8, y_type=U8, zero=(1, 0, 0), scale=(4.0, 2.0, 1.0)),
    "u8_i8_0": case([[[0]]], [[[0]]], [[[0]]], w_type=U8),
    "u8_i8_1": case([[[-9, 0]]], [[[0, 0]]], [[[0]]], w_type=U8),
    "u8_i8_2": case([[[0]]], [[[0]], [[0]]], [[[0], [0]]], w_type=U8),
    "u8_u8_i8_0": case([[[0]]], [[[4]]], [[[-24]]], w_type=U8, zero=(6, 0, 0)),
    "many_qps_0": case(
        [[[0]]], [[[1]]], [[[0]]], x_type=U8, w_type=U8, y_type=U8, zero=(1, 0, 2), scale=(2.0, 2.0, 1.0)
    ),
    "i32_output_0": case([[[0]]], [[[0]]], [[[0]]], y_type=np.int32, zero=(1, 0, 0)),
    "i32_output_1": case([[[94]]], [[[20]]], [[[893]]], y_type=np.int32, zero=(0, 1, 0), scale=(0.25, 1.0, 0.5)),
    "bin_by_scalar_and_bin_unicast_selection_0": case(
        zeros(2, 2, 4, 4), [[[[1]]], [[[0]]]], [[[[3] * 4] * 4, [[0] * 4] * 4]] * 2, zero=(-3, 0, 0), group=2
    ),
    "timeout_0": case(zeros(1, 3, 1), zeros(18, 1, 1), zeros(1, 18, 1), scale=(0.5, [1.0] * 18, 0.5), group=3),
}


@pytest.mark.parametrize("name", CASES)
def test_conv_q(kernel, name):
    problem = CASES[name]
    zx, zw, zy = problem["zero"]
    sx, sw, sy = problem["scale"]
    x, w, group = problem["x"], problem["w"], problem["group"]
    acc = conv.conv_integer(x, w, zx, zw, group=group, kernel=kernel)
    if problem["y_type"] is np.int32:
        # An int32 result is the plain sums; their scale is the caller's to apply.
        factor = Fraction(sx) * Fraction(sw) / Fraction(sy)
        scaled = [round(int(value) * factor) for value in acc.flat]
        assert scaled == problem["wanted"].ravel().tolist()
        return
    bias = None if problem["bias"] is None else np.array(problem["bias"], np.int32)
    y = conv.qlinear_conv(
        x, sx, zx, w, np.float32(sw), zw, sy, problem["y_type"](zy), bias, group=group, kernel=kernel
    )  # fmt: skip
    assert y.dtype == problem["y_type"]
    np.testing.assert_array_equal(y, problem["wanted"])
    packed = conv.pack_conv(w, group=group, kernel=kernel)
    again = conv.qlinear_conv(x, sx, zx, packed, np.float32(sw), zw, sy, problem["y_type"](zy), bias, kernel=kernel)
    np.testing.assert_array_equal(again, y)


def test_all_of_them_are_here():
    """tract's 56, and one that it has commented out."""
    assert len(CASES) == 57
