"""Convolutions for tests: the definition in int64, and random problems."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from support import quantized
from support.quantized import operand

Values = npt.NDArray[Any]


def exact(
    x: Values,
    w: Values,
    zx: Any = 0,
    zw: Any = 0,
    *,
    strides: list[int] | None = None,
    pads: list[int] | None = None,
    dilations: list[int] | None = None,
    group: int = 1,
) -> npt.NDArray[np.int32]:
    """The convolution in int64, offset of the window by offset, wrapped to int32."""
    d = x.ndim - 2
    strides, dilations, pads = strides or [1] * d, dilations or [1] * d, pads or [0] * (2 * d)
    weights = w.astype(np.int64) - np.asarray(zw, np.int64).reshape([-1] + [1] * (d + 1))
    margins = [(0, 0), (0, 0), *zip(pads[:d], pads[d:], strict=True)]
    image = np.pad(x.astype(np.int64) - int(zx), margins)
    reach = [(k - 1) * s + 1 for k, s in zip(w.shape[2:], dilations, strict=True)]
    out = [(size - r) // s + 1 for size, r, s in zip(image.shape[2:], reach, strides, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    inner, outer = w.shape[1], w.shape[0] // group
    for offset in itertools.product(*map(range, w.shape[2:])):
        cut = tuple(
            slice(o * s, o * s + (n - 1) * step + 1, step)
            for o, s, n, step in zip(offset, dilations, out, strides, strict=True)
        )
        for g in range(group):
            seen = image[(slice(None), slice(g * inner, (g + 1) * inner), *cut)]
            taps = weights[(slice(g * outer, (g + 1) * outer), slice(None), *offset)]
            y[:, g * outer : (g + 1) * outer] += np.moveaxis(np.tensordot(taps, seen, (1, 1)), 0, 1)
    return y.astype(np.int32)


def requantized(acc: Values, scale: npt.ArrayLike, zero_point: int, dtype: npt.DTypeLike) -> npt.NDArray[np.int64]:
    """`quantized.requantized` of the sums of a convolution; `scale` has one value or one per channel."""
    factor = np.asarray(scale, np.float32).reshape([-1] + [1] * (acc.ndim - 2))
    return quantized.requantized(acc, factor, zero_point, dtype)


def random_case(rng: np.random.Generator) -> tuple[Values, Values, Values, Values, dict[str, Any]]:
    """Operands, zero points and attributes of a small convolution in one to three dimensions."""
    d = int(rng.choice([1, 2, 2, 2, 3]))
    group = int(rng.choice([1, 1, 1, 2, 3, 4]))
    inner = int(rng.choice([1, 1, 2, 3, 4, 5, 8]))
    outer = int(rng.choice([1, 1, 2, 3, 8, 9]))
    window = rng.integers(1, 4, d)
    attributes: dict[str, Any] = {"group": group}
    strides, dilations, pads = np.ones(d, int), np.ones(d, int), np.zeros(2 * d, int)
    if rng.random() < 0.4:
        strides = rng.integers(1, 4, d)
        attributes["strides"] = strides.tolist()
    if rng.random() < 0.4:
        dilations = rng.integers(1, 4, d)
        attributes["dilations"] = dilations.tolist()
    if rng.random() < 0.5:
        pads = rng.integers(0, 4, 2 * d)
        attributes["pads"] = pads.tolist()
    reach = (window - 1) * dilations + 1
    least = np.maximum(1, reach - pads[:d] - pads[d:])
    size = least + rng.integers(0, 7, d)
    kinds = list(quantized.RANGE)
    x = operand(rng, kinds[rng.integers(2)], (int(rng.integers(1, 3)), group * inner, *size))
    w = operand(rng, kinds[rng.integers(2)], (group * outer, inner, *window))
    if rng.random() < 0.3:
        x = x[..., ::-1]
    zx = operand(rng, x.dtype, ())
    zw = operand(rng, w.dtype, [(), (1,), (group * outer,)][rng.integers(0, 3)])
    return x, w, zx, zw, attributes
