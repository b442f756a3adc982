"""Quantised convolutions with ONNX's names and semantics: the checks and the public functions.

`pyint8dot.convolution.lowering` does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot import known
from pyint8dot.arguments import (
    bias_vector,
    check_out,
    factors,
    output_dtype,
    product_scale,
    quantized,
    scalar,
    scales,
    zero_points,
)
from pyint8dot.convolution import latest
from pyint8dot.convolution.geometry import known_geometry, owned
from pyint8dot.convolution.lowering import Lowered, Rescale
from pyint8dot.convolution.weights import PackedWeights, pack_conv
from pyint8dot.engine import dispatch, threads
from pyint8dot.engine.moves import contiguous

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyint8dot.arguments import Quantized, Values

__all__ = ["Convolution", "PackedWeights", "Quantization", "conv_integer", "pack_conv", "qlinear_conv"]

#: Convolutions kept with one set of weights: scales that change from image to image must not fill the memory.
MOST_LOWERED = 8


class Quantization(NamedTuple):
    """What makes the result of a convolution int8 or uint8: the arguments of `qlinear_conv` by these names."""

    x_scale: npt.ArrayLike
    w_scale: npt.ArrayLike
    y_scale: npt.ArrayLike
    y_zero_point: npt.ArrayLike | None


class Convolution:
    """A convolution whose constants are checked and packed once, for many images.

    Parameters
    ----------
    w : array_like of int8 or uint8, shape (channels out, channels / group, *kernel), or PackedWeights
    x_dtype : dtype
        int8 or uint8: the type of the images.
    x_zero_point, w_zero_point : array_like of integers, optional
        As for `conv_integer`.
    bias : array_like of int32, shape (channels out,), optional
    quantization : Quantization, optional
        With it the result is that of `qlinear_conv`, without that of `conv_integer`.
    strides, pads, dilations, group, auto_pad, kernel_shape
        As for `conv_integer`.

    Raises
    ------
    TypeError, ValueError
        As `conv_integer` and `qlinear_conv`.

    Examples
    --------
    >>> sums = Convolution(np.ones((1, 1, 2), np.int8), np.int8)
    >>> sums(np.array([[[1, 2, 3]]], np.int8))
    array([[[3, 5]]], dtype=int32)
    """

    def __init__(
        self,
        w: npt.ArrayLike | PackedWeights,
        x_dtype: npt.DTypeLike,
        x_zero_point: npt.ArrayLike | None = None,
        w_zero_point: npt.ArrayLike | None = None,
        *,
        bias: npt.ArrayLike | None = None,
        quantization: Quantization | None = None,
        strides: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        group: int = 1,
        auto_pad: str = "NOTSET",
        kernel_shape: Sequence[int] | None = None,
    ) -> None:
        self.x_dtype = quantized("x", np.empty(0, x_dtype)).dtype
        weights = self.weights = w if isinstance(w, PackedWeights) else PackedWeights(w, group)
        if group not in (1, weights.group):
            raise ValueError(f"group must be {weights.group}, as w was packed, got {group}")
        window = weights.shape[2:]
        if kernel_shape is not None and owned(kernel_shape) != window:
            raise ValueError(f"kernel_shape must be that of w, {list(window)}, got {kernel_shape}")
        # Their owner may change lists.
        self._attributes = owned(strides), owned(pads), owned(dilations), auto_pad
        self._last: tuple[tuple[int, ...], Any] = ((), None)
        # Packed weights keep what was made of them and of constants that are told apart; an array's weights are new each time.
        constants = known.key((x_zero_point, w_zero_point, bias, *(quantization or ()))) if weights is w else None
        found: Lowered | None = None if constants is None else weights.lowered.get((self.x_dtype, constants))
        if found is None:
            lone = weights if constants is None else weights.twin()
            found = self._lower(lone, x_zero_point, w_zero_point, bias, quantization)
            if constants is not None:
                if len(weights.lowered) >= MOST_LOWERED:
                    weights.lowered.clear()
                weights.lowered[self.x_dtype, constants] = found
        self._lowered = self._latest = found
        # Whatever is kept with the weights must not lead back to them.
        self.weights = found.weights

    def _lower(
        self,
        weights: PackedWeights,
        x_zero_point: npt.ArrayLike | None,
        w_zero_point: npt.ArrayLike | None,
        bias: npt.ArrayLike | None,
        quantization: Quantization | None,
    ) -> Lowered:
        """Check the constants; of those that are arrays it has copies, since their owner may change them."""
        channels = weights.shape[0]
        w_zero = zero_points("w_zero_point", w_zero_point, weights.dtype)
        w_zero = _per_channel("w_zero_point", w_zero, channels) - np.int32(128 * (weights.dtype == np.uint8))
        start = bias_vector("bias", bias, channels, np.int32)
        return Lowered(
            weights=weights,
            x_zero=self._x_zero(x_zero_point),
            w_zero=np.broadcast_to(w_zero, channels),
            bias=np.zeros(channels, np.int32) if start is None else start.astype(np.int32),
            rescale=None if quantization is None else self._rescale(quantization),
        )

    def _x_zero(self, value: npt.ArrayLike | None) -> int:
        """The zero point of the images as int8, checked."""
        zero = scalar("x_zero_point", zero_points("x_zero_point", value, self.x_dtype))
        return int(zero) - 128 * (self.x_dtype == np.uint8)

    def _rescale(self, wanted: Quantization) -> Rescale:
        """Check scales and zero point of the result and combine the former."""
        dtype = output_dtype(wanted.y_zero_point, self.x_dtype)
        zero = scalar("y_zero_point", zero_points("y_zero_point", wanted.y_zero_point, dtype))
        channels = self.weights.shape[0]
        factor = product_scale(
            scalar("x_scale", factors("x_scale", wanted.x_scale)),
            _per_channel("w_scale", factors("w_scale", wanted.w_scale), channels),
            scalar("y_scale", scales("y_scale", wanted.y_scale)),
            ("x_scale", "w_scale", "y_scale"),
        )
        return Rescale(np.ascontiguousarray(np.broadcast_to(factor, channels)), int(zero), dtype)

    def __call__(
        self,
        x: npt.ArrayLike,
        x_zero_point: npt.ArrayLike | None = None,
        *,
        out: Values | None = None,
        kernel: str | None = None,
        num_threads: int | None = None,
    ) -> Values:
        """Convolve images.

        Parameters
        ----------
        x : array_like of `x_dtype`, shape (batch, channels, *spatial)
        x_zero_point : array_like of integers, optional
            A scalar that takes the place of the one given before: dynamic quantisation has another one for each `x`.
        out, kernel, num_threads
            As for `conv_integer`.

        Returns
        -------
        ndarray of int32, or with a quantization int8 or uint8, shape (batch, channels out, *spatial out)

        Raises
        ------
        TypeError, ValueError
            As `conv_integer` and `qlinear_conv`.
        """
        image = quantized("x", x)
        if image.dtype != self.x_dtype:
            raise TypeError(f"x must be {self.x_dtype}, got {image.dtype}")
        shape, weights = image.shape, self.weights
        if len(shape) != len(weights.shape):
            raise ValueError(f"x must have {len(weights.shape)} dimensions, as many as w, got shape {shape}")
        inner = weights.shape[1] * weights.group
        if shape[1] != inner:
            raise ValueError(
                f"x must have {inner} channels for w of shape {weights.shape} and group {weights.group}, got shape {shape}"
            )
        # Images tend to come in one size. Read once, so that other threads never see a mixture.
        spatial, place = self._last
        if shape[2:] != spatial:
            place = known_geometry(shape[2:], weights.shape[2:], *self._attributes)
            self._last = shape[2:], place
        if out is not None:
            check_out(out, (shape[0], weights.shape[0], *place.out), self._lowered.dtype)
        count = threads.get_num_threads() if num_threads is None else threads.checked(num_threads)
        lowered = self._lowered
        if x_zero_point is not None:
            zero = self._x_zero(x_zero_point)
            # The zero point, too, tends to be that of the image before.
            lowered = self._latest
            if lowered.x_zero != zero:
                lowered = self._latest = lowered.with_x_zero(zero)
        y = lowered.apply(contiguous(image), place, dispatch.select(kernel), count)
        if out is None:
            return y
        # Only now: an `out` that overlaps x must not change under the convolution.
        out[...] = y
        return out


def _prepared(
    w: npt.ArrayLike | PackedWeights, x_dtype: np.dtype[Any], constants: tuple[Any, ...], attributes: tuple[Any, ...]
) -> Convolution:
    """Return the convolution for a call; with packed weights that of the call before, where all else is the same.

    `constants` are the zero points, the bias and the quantization, `attributes` strides, pads, dilations, auto_pad, group and the window.
    """
    x_zero_point, w_zero_point, bias, quantization = constants
    kept = w.lowered if isinstance(w, PackedWeights) else None
    values = x_zero_point, w_zero_point, bias, *(quantization or ())
    if kept is not None:
        found: Convolution | None = latest.find(kept, x_dtype, values, attributes)
        if found is not None:
            return found
    strides, pads, dilations, auto_pad, group, kernel_shape = attributes
    made = Convolution(
        w, x_dtype, x_zero_point, w_zero_point, bias=bias, quantization=quantization, strides=strides, pads=pads,
        dilations=dilations, group=group, auto_pad=auto_pad, kernel_shape=kernel_shape,
    )  # fmt: skip
    if kept is not None:
        latest.keep(kept, x_dtype, values, attributes, made)
    return made


def conv_integer(
    x: npt.ArrayLike,
    w: npt.ArrayLike | PackedWeights,
    x_zero_point: npt.ArrayLike | None = None,
    w_zero_point: npt.ArrayLike | None = None,
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Sequence[int] | None = None,
    out: npt.NDArray[np.int32] | None = None,
    kernel: str | None = None,
    num_threads: int | None = None,
) -> npt.NDArray[np.int32]:
    """Convolve quantised values: the int32 convolution of ``x - x_zero_point`` with ``w - w_zero_point`` (ONNX ConvInteger).

    Parameters
    ----------
    x : array_like of int8 or uint8, shape (batch, channels, *spatial)
        One, two, three or more spatial dimensions.
    w : array_like of int8 or uint8, shape (channels out, channels / group, *kernel), or PackedWeights
    x_zero_point : array_like of integers, optional
        A scalar that fits the type of `x`; default 0. It is also what padding holds.
    w_zero_point : array_like of integers, optional
        A scalar, or one per output channel; fits the type of `w`; default 0.
    strides, dilations : sequence of int, optional
        One a spatial dimension; default 1.
    pads : sequence of int, optional
        Pixels added before each spatial dimension, then those after each; default 0.
    group : int
        Groups that the channels fall into. `PackedWeights` bring their own.
    auto_pad : {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"}
        Computes `pads`: SAME so that the output has ``ceil(size / stride)`` pixels, the odd one at the end or at the beginning.
    kernel_shape : sequence of int, optional
        Must be that of `w` where it is given.
    out : ndarray of int32, optional
        Where to write; of exactly the shape of the result.
    kernel : str, optional
        Name of the matrix kernel to run; by default the best this machine has.
    num_threads : int, optional
        How many threads to use.

    Returns
    -------
    ndarray of int32, shape (batch, channels out, *spatial out)
        Exact; wraps modulo 2**32 where the sum does not fit.

    Raises
    ------
    TypeError
        If an argument has another type than those above.
    ValueError
        If shapes or attributes do not fit, or a zero point is out of range.

    Examples
    --------
    >>> x = np.arange(2, 11, dtype=np.uint8).reshape(1, 1, 3, 3)
    >>> conv_integer(x, np.ones((1, 1, 2, 2), np.uint8), np.uint8(1))
    array([[[[12, 16],
             [24, 28]]]], dtype=int32)
    """
    image = quantized("x", x)
    constants = x_zero_point, w_zero_point, None, None
    convolution = _prepared(w, image.dtype, constants, (strides, pads, dilations, auto_pad, group, kernel_shape))
    return convolution(image, out=out, kernel=kernel, num_threads=num_threads)


def qlinear_conv(
    x: npt.ArrayLike,
    x_scale: npt.ArrayLike,
    x_zero_point: npt.ArrayLike | None,
    w: npt.ArrayLike | PackedWeights,
    w_scale: npt.ArrayLike,
    w_zero_point: npt.ArrayLike | None,
    y_scale: npt.ArrayLike,
    y_zero_point: npt.ArrayLike | None,
    bias: npt.ArrayLike | None = None,
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Sequence[int] | None = None,
    out: Quantized | None = None,
    kernel: str | None = None,
    num_threads: int | None = None,
) -> Quantized:
    """Convolve quantised values and quantise the result again (ONNX QLinearConv).

    ``y = saturate(rint(float32(acc) * (x_scale * w_scale / y_scale)) + y_zero_point)`` where `acc` is what `conv_integer` gives, plus
    `bias`. Ties go to even; each float step is rounded to float32.

    Parameters
    ----------
    x : array_like of int8 or uint8, shape (batch, channels, *spatial)
    x_scale, x_zero_point : array_like
        A scalar each.
    w : array_like of int8 or uint8, shape (channels out, channels / group, *kernel), or PackedWeights
    w_scale, w_zero_point : array_like
        A scalar each, or one per output channel; among scales of channels 0 is that of a channel of zeros.
    y_scale, y_zero_point : array_like
        A scalar each. The type of a typed `y_zero_point`, int8 or uint8, is that of the result; otherwise it is that of `x`.
    bias : array_like of int32, shape (channels out,), optional
        Added to the products, so in units of ``x_scale * w_scale``.
    strides, pads, dilations, group, auto_pad, kernel_shape, kernel, num_threads
        As for `conv_integer`.
    out : ndarray of int8 or uint8, optional
        Where to write; of exactly the shape and type of the result.

    Returns
    -------
    ndarray of int8 or uint8, shape (batch, channels out, *spatial out)

    Raises
    ------
    TypeError
        If an argument has another type than those above.
    ValueError
        If shapes or attributes do not fit, a zero point is out of range, `y_scale` or a scalar scale is 0, or the scales or what they
        combine to are not finite in float32.

    Examples
    --------
    >>> x = np.array([[[1, 2, 3]]], np.int8)
    >>> w = np.array([[[1, 1]]], np.int8)
    >>> qlinear_conv(x, 1.0, 0, w, 0.5, 0, 0.25, np.int8(-1))
    array([[[5, 9]]], dtype=int8)
    """
    image = quantized("x", x)
    constants = x_zero_point, w_zero_point, bias, Quantization(x_scale, w_scale, y_scale, y_zero_point)
    convolution = _prepared(w, image.dtype, constants, (strides, pads, dilations, auto_pad, group, kernel_shape))
    return convolution(image, out=out, kernel=kernel, num_threads=num_threads)


def _per_channel(name: str, value: Values, channels: int) -> Values:
    """`value` as 0-d or of shape (channels,)."""
    if value.size == 1:
        return value.reshape(())
    if value.shape != (channels,):
        raise ValueError(f"{name} must be a scalar or one per output channel, shape {(channels,)}, got {value.shape}")
    return value
