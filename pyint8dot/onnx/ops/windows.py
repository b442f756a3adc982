"""Sliding windows over the spatial axes: averages, local response normalisation, and the float convolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyint8dot.conv1d import MOST_BYTES, PANEL, Convolution1d
from pyint8dot.depthwise import depthwise
from pyint8dot.engine import library, pool
from pyint8dot.lrn import ROOTS, local_response_normalisation
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.ops.neural import product
from pyint8dot.onnx.registry import Function, Site, operator


class Window:
    """Where the windows of a pooling or convolution lie.

    Parameters
    ----------
    site : Site
        The node, for its attributes.
    kernel : sequence of int or None
        Length of the window along each spatial axis.
    """

    def __init__(self, site: Site, kernel: Sequence[int] | None) -> None:
        if kernel is None:
            raise ValueError(f"{site.node}: attribute kernel_shape is missing")
        rank = len(kernel)
        self.kernel = list(kernel)
        self.strides: list[int] = site.attr("strides") or [1] * rank
        self.dilations: list[int] = site.attr("dilations") or [1] * rank
        self.pads: list[int] = site.attr("pads") or [0] * (2 * rank)
        self.auto_pad: str = site.attr("auto_pad", "NOTSET")
        self.ceil = bool(site.attr("ceil_mode", 0))
        self.limit, self.what = site.max_bytes, site.what
        if len(self.strides) != rank or len(self.dilations) != rank or len(self.pads) != 2 * rank:
            raise ValueError(f"strides, dilations and pads do not fit a window of {rank} dimensions")
        if min([*self.kernel, *self.strides, *self.dilations], default=1) < 1 or min(self.pads, default=0) < 0:
            raise ValueError("window, strides and dilations must be positive, pads must not be negative")

    def place(self, spatial: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the length of the result along each axis, and the padding before and after the input."""
        outs, pads = [], []
        rank = len(self.kernel)
        if len(spatial) != rank:
            raise ValueError(f"a window of {rank} dimensions does not fit an input of {len(spatial)} spatial ones")
        for i, size in enumerate(spatial):
            stride = self.strides[i]
            reach = (self.kernel[i] - 1) * self.dilations[i] + 1
            before, after = self.pads[i], self.pads[i + rank]
            if self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
                out = -(-size // stride)
                total = max(0, (out - 1) * stride + reach - size)
                small = total // 2
                before, after = (small, total - small) if self.auto_pad == "SAME_UPPER" else (total - small, small)
            else:
                if self.auto_pad == "VALID":
                    before = after = 0
                room = size + before + after - reach
                out = (-(-room // stride) if self.ceil else room // stride) + 1
                # A window that would start in the padding at the end is not taken.
                if self.ceil and (out - 1) * stride >= size + before:
                    out -= 1
                after = max(after, (out - 1) * stride + reach - size - before)
            outs.append(max(0, out))
            pads.append((before, after))
        return outs, pads

    def is_whole(self, spatial: Sequence[int], pads: list[tuple[int, int]]) -> bool:
        """Tell whether there is one window, and it is the input."""
        return list(spatial) == self.kernel and max(self.dilations) == 1 and not any(map(any, pads))

    def axes(self, spatial: Sequence[int], outs: list[int], pads: list[tuple[int, int]]) -> list[pool.Axis]:
        """Return each axis of the windows as the native code takes it, from what `place` found."""
        return [
            pool.Axis(size, out, taps, stride, dilation, before)
            for size, out, taps, stride, dilation, (before, _) in zip(
                spatial, outs, self.kernel, self.strides, self.dilations, pads, strict=True
            )
        ]

    def padded(self, x: np.ndarray, pads: list[tuple[int, int]]) -> list[int]:
        """Return the shape of `x` with its spatial axes padded, which has to be within the limit."""
        shape = [*x.shape[:2], *(d + b + a for d, (b, a) in zip(x.shape[2:], pads, strict=True))]
        check_shape(shape, x.itemsize, self.limit, self.what)
        return shape

    def pad(self, x: np.ndarray, pads: list[tuple[int, int]], value: float) -> np.ndarray:
        """Return `x` with its spatial axes padded."""
        if not any(b or a for b, a in pads):
            return x
        shape = self.padded(x, pads)
        padded = np.full(shape, value, x.dtype)
        inside: tuple[Any, ...] = (..., *(slice(b, b + d) for d, (b, _) in zip(x.shape[2:], pads, strict=True)))
        padded[inside] = x
        return padded


# Pixels of a plane whose sum may be taken one by one.
_SHORT = 1 << 10
# Operations on single numbers.
MOST_WORK = 1 << 33


def slide(x: np.ndarray, window: Window, outs: list[int], combine: np.ufunc) -> np.ndarray:
    """Combine the elements of every window, one axis after the other.

    Along each axis every position is combined with its neighbours in one flat loop over the whole array, whatever the
    strides: long loops are worth more than the positions that are thrown away. Where a window runs over the end of its
    axis the result is meaningless, and not picked.

    Parameters
    ----------
    x : ndarray, shape (n, c, ...)
        The padded input.
    window : Window
        The windows.
    outs : list of int
        Length of the result along each spatial axis.
    combine : ufunc
        `np.maximum` or `np.add`.

    Returns
    -------
    ndarray, shape (n, c, *outs)
    """
    if 0 in x.shape or 0 in outs:
        return np.zeros((*x.shape[:2], *outs), x.dtype)
    if sum(window.kernel) * x.size > MOST_WORK:
        raise ValueError(f"windows of {window.kernel} over {list(x.shape)} would take minutes")
    if math.prod(outs) == 1:
        # A single window is a reduction. With the planes side by side its loops are long.
        whole = np.ascontiguousarray(x.reshape(math.prod(x.shape[:2]), -1).T).reshape(*x.shape[2:], -1)
        for count, spread in zip(window.kernel, window.dilations, strict=True):
            whole = functools.reduce(combine, whole[: (count - 1) * spread + 1 : spread])
        return np.array(whole).reshape(*x.shape[:2], *outs)
    if len(outs) == 1 and window.strides[0] > 1:
        # Most of what a flat loop makes would be thrown away.
        (count,), (step,), (spread,) = window.kernel, window.strides, window.dilations
        reach = (outs[0] - 1) * step + 1
        parts = [x[..., j * spread : j * spread + reach : step] for j in range(count)]
        return functools.reduce(combine, parts) if count > 1 else parts[0].copy()
    full = x
    for axis, (count, spread) in enumerate(zip(window.kernel, window.dilations, strict=True)):
        flat = np.ascontiguousarray(full).reshape(-1)
        step = spread * math.prod(full.shape[axis + 3 :])
        length = flat.size - (count - 1) * step
        if count > 1 and length > 0:
            # Of full size, so that it has the shape of x; in its tail no window starts.
            found = np.empty(flat.size, x.dtype)
            found[length:] = 0
            combine(flat[:length], flat[step : step + length], out=found[:length])
            for j in range(2, count):
                combine(found[:length], flat[j * step : j * step + length], out=found[:length])
            full = found.reshape(full.shape)
    at: tuple[Any, ...] = (..., *(slice(0, (n - 1) * s + 1, s) for n, s in zip(outs, window.strides, strict=True)))
    if window.strides[-1] == 2 and full.itemsize == 1 and full.shape[-1] % 2 == 0 and full.flags.c_contiguous:
        # Every second byte is the low one of a little-endian pair, and narrowing is faster than striding.
        at = (*at[:-1], slice(0, outs[-1]))
        pairs = full.view("<u2")[at]
        return np.asarray(pairs.astype(np.uint8)).view(x.dtype)
    return np.asarray(full[at].copy())


@operator("AveragePool")
def _average_pool(site: Site) -> Function | None:
    window = Window(site, site.attr("kernel_shape"))
    with_pads = bool(site.attr("count_include_pad", 0))
    # Of the last size: where the windows lie, what they hold unless one holds the plane, and the bytes of a plane of results.
    known: dict[tuple[int, ...], tuple[list[int], list[tuple[int, int]], np.ndarray | None, int]] = {}

    def run(x: np.ndarray) -> Any:
        spatial = x.shape[2:]
        found = known.get(spatial)
        if found is None:
            outs, pads = window.place(spatial)
            check_shape((*x.shape[:2], *outs), x.itemsize, window.limit, window.what)
            held = None if window.is_whole(spatial, pads) else counts(window, spatial, with_pads, x.dtype)
            # One number for all is divided by faster.
            if held is not None and held.size and (held == held.flat[0]).all():
                held = held.reshape(-1)[:1]
            known.clear()
            found = known[spatial] = outs, pads, held, x.itemsize * math.prod(outs)
        outs, pads, held, size = found
        if x.shape[0] * x.shape[1] * size > window.limit:
            check_shape((*x.shape[:2], *outs), x.itemsize, window.limit, window.what)
        if held is None:
            return _mean_of_planes(x)
        total = slide(window.pad(x, pads, 0), window, outs, np.add)
        if held.size == 1 and held.flat[0]:
            total /= held
            return total
        # A window in the padding alone has no average.
        with np.errstate(invalid="ignore"):
            total /= held
        return total

    return run


def counts(window: Window, spatial: Sequence[int], with_pads: bool, dtype: Any) -> np.ndarray:
    """Return how many elements each window of an average holds, shape (1, 1, *outs).

    Parameters
    ----------
    window : Window
        The windows.
    spatial : sequence of int
        Sizes of the input.
    with_pads : bool
        Whether those of the padding count.
    dtype : dtype
        Of the result.

    Returns
    -------
    ndarray
    """
    outs, pads = window.place(spatial)
    ones = np.ones((1, 1, *spatial), dtype)
    if with_pads:
        # The declared padding counts; what ceil_mode adds behind it does not.
        declared = _declared(window, pads)
        ones = window.pad(ones, declared, 1)
        pads = [(b - d[0], a - d[1]) for (b, a), d in zip(pads, declared, strict=True)]
    return slide(window.pad(ones, pads, 0), window, outs, np.add)


def _declared(window: Window, pads: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if window.auto_pad != "NOTSET":
        return pads
    rank = len(window.kernel)
    return [(window.pads[i], min(window.pads[i + rank], pads[i][1])) for i in range(rank)]


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(site: Site) -> Function | None:
    if site.node.op == "GlobalAveragePool":
        return _mean_of_planes
    return lambda x: np.max(x, axis=tuple(range(2, x.ndim)), keepdims=True)


def _mean_of_planes(x: np.ndarray) -> Any:
    length = math.prod(x.shape[2:])
    if x.dtype != np.float32 or not 0 < length <= _SHORT:
        return np.asarray(np.mean(x, axis=tuple(range(2, x.ndim)), keepdims=True), x.dtype)
    # A product with ones adds up rows several times as fast as numpy does, but long ones less precisely.
    total: np.ndarray = x.reshape(-1, length) @ np.ones(length, np.float32)
    total /= np.float32(length)
    return total.reshape(*x.shape[:2], *[1] * (x.ndim - 2))


@operator("LRN")
def _lrn(site: Site) -> Function | None:
    size, alpha = site.attr("size"), site.attr("alpha", 1e-4)
    beta, bias = site.attr("beta", 0.75), site.attr("bias", 1.0)
    if size < 1:
        raise ValueError(f"{site.node}: size must be positive, got {size}")
    if beta == ROOTS and site.dtype(0) == np.float32:
        site.native(steady=True)
    return lambda x: local_response_normalisation(x, size, alpha, beta, bias)


def _is_depthwise(dtype: Any, w: np.ndarray, group: int) -> bool:
    """Tell whether each channel of an input of this type has windows of its own, which are no product."""
    return group > 1 and w.ndim > 2 and w.shape[1] == 1 and dtype == w.dtype == np.float32


@operator("Conv")
def _conv(site: Site) -> Function | None:
    group = site.attr("group", 1)
    weights, shape = site.const(1), site.attr("kernel_shape")
    # Weights that are fed say the window themselves where no attribute does.
    fixed = None if weights is None and shape is None else Window(site, shape if weights is None else weights.shape[2:])
    along = None if fixed is None else _along(site, fixed)
    if along is not None:
        return along
    if weights is not None and _is_depthwise(site.dtype(0), weights, group) and weights.ndim < 5:
        site.native(steady=True)

    def run(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> Any:
        window = fixed or Window(site, w.shape[2:])
        if list(w.shape[2:]) != window.kernel:
            raise ValueError(f"weights {w.shape} do not have the window {window.kernel}")
        if x.shape[1] != w.shape[1] * group or w.shape[0] % group:
            raise ValueError(f"weights {w.shape} in {group} groups do not fit an input of shape {x.shape}")
        outs, pads = window.place(x.shape[2:])
        check_shape((x.shape[0], w.shape[0], *outs), x.itemsize, window.limit, window.what)
        if _is_depthwise(x.dtype, w, group) and (bias is None or bias.dtype == x.dtype):
            window.padded(x, pads)
            return depthwise(x, w, bias, window.axes(x.shape[2:], outs, pads))
        columns = (x.shape[0], x.shape[1], *window.kernel, *outs)
        check_shape(columns, x.itemsize, window.limit, window.what)
        padded = window.pad(x, pads, 0)
        rank = len(outs)
        strides = padded.strides
        view = np.lib.stride_tricks.as_strided(
            padded,
            columns,
            (
                *strides[:2],
                *(s * d for s, d in zip(strides[2:], window.dilations, strict=True)),
                *(s * d for s, d in zip(strides[2:], window.strides, strict=True)),
            ),
            writeable=False,
        )
        depth = math.prod(w.shape[1:])
        patches = view.reshape(x.shape[0], group, depth, math.prod(outs))
        y = product(w.reshape(group, w.shape[0] // group, depth), patches)
        y = y.reshape(x.shape[0], w.shape[0], *outs)
        if bias is not None:
            y += bias.reshape(-1, *([1] * rank))
        return y

    return run


def _along(site: Site, window: Window) -> Function | None:
    """Return the convolution along one axis that native code has, where this is one."""
    weights, bias = site.const(1), site.const(2)
    plain = len(window.kernel) == 1 and window.dilations == [1] and site.attr("group", 1) == 1
    if not plain or weights is None or not site.all_constant(2) or library.status() is not None:
        return None
    if weights.dtype != np.float32 or (bias is not None and bias.shape != weights.shape[:1]):
        return None
    # Every four rows read all weights again: those that leave a second-level cache are numpy's.
    if -(-len(weights) // PANEL) * PANEL * math.prod(weights.shape[1:]) * weights.itemsize > MOST_BYTES:
        return None
    site.native()
    convolve = Convolution1d(weights, bias)
    site.absorb(1)
    site.absorb(2)
    count, channels, stride = convolve.n, convolve.channels, window.strides[0]

    def run(x: np.ndarray, *_: Any) -> Any:
        if x.ndim != 3 or x.shape[1] != channels:
            raise ValueError(f"weights {weights.shape} in 1 groups do not fit an input of shape {x.shape}")
        batch, _, positions = x.shape
        (outs,), (pads,) = window.place((positions,))
        most = batch * max(channels * (positions + sum(pads)), -(-count // PANEL) * PANEL * outs)
        if most * x.itemsize > window.limit:
            check_shape((batch, count, outs), x.itemsize, window.limit, window.what)
            check_shape((batch, channels, positions + sum(pads)), x.itemsize, window.limit, window.what)
        return convolve(x, stride, pads, outs)

    return run
