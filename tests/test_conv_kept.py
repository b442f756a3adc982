"""What a convolution keeps is its own: neither later changes of its arguments nor copies reach it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from support.convolution import exact
from support.quantized import operand

from pyint8dot.conv import Convolution, Quantization, conv_integer, pack_conv

pytestmark = pytest.mark.each_processor


@pytest.mark.parametrize("change", [list, np.array], ids=["list", "array"])
def test_attributes_that_are_changed_after_a_call(kernel, rng, change):
    """Neither what was made of them nor what is known of the call before changes with them."""
    w = pack_conv(operand(rng, np.int8, (8, 8, 3, 3)))
    small, large = operand(rng, np.int8, (1, 8, 9, 9)), operand(rng, np.int8, (1, 8, 10, 11))
    pads, strides = change([1, 2, 2, 1]), change([1, 1])
    made = Convolution(w, np.int8, pads=pads, strides=strides)
    conv_integer(small, w, pads=pads, strides=strides, kernel=kernel)
    wanted = exact(large, w.unpack(), pads=[1, 2, 2, 1])
    pads[:], strides[:] = [0] * 4, [2, 2]
    np.testing.assert_array_equal(made(large, kernel=kernel), wanted)
    y = conv_integer(large, w, pads=change([1, 2, 2, 1]), strides=change([1, 1]), kernel=kernel)
    np.testing.assert_array_equal(y, wanted)
    y = conv_integer(large, w, pads=pads, strides=strides, kernel=kernel)
    np.testing.assert_array_equal(y, exact(large, w.unpack(), strides=[2, 2]))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["copy", "pickle"]
)
def test_copies_of_a_convolution_that_has_run(kernel, rng, copied):
    x, w = operand(rng, np.int8, (1, 8, 9, 9)), operand(rng, np.int8, (8, 8, 3, 3))
    made = Convolution(w, np.int8, 3, quantization=Quantization(0.5, 0.5, 40.0, np.uint8(7)), pads=[1, 1, 1, 1])
    y = made(x, kernel=kernel)
    again = copied(made)
    np.testing.assert_array_equal(again(x, kernel=kernel), y)
    np.testing.assert_array_equal(again(x, 5, kernel=kernel), made(x, 5, kernel=kernel))
