"""Operators that move data or make shapes: mostly views, with sizes worked out before anything is allocated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyint8dot.engine import moves, tape
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.registry import INT8, Function, Site, operator


@operator("Identity")
def _identity(_: Site) -> Function | None:
    return lambda x: x


@operator("Dropout")
def _dropout(site: Site) -> Function | None:
    if len([o for o in site.node.outputs if o]) > 1:
        return None
    if site.has(2) and (site.const(2) is None or bool(site.const(2))):
        return None  # training mode
    return lambda x, *_: x


@operator("Constant")
def _constant(site: Site) -> Function | None:
    attrs = site.node.attrs
    if isinstance(attrs.get("value"), np.ndarray):
        value = attrs["value"]
    elif "value_float" in attrs or "value_floats" in attrs:
        value = np.asarray(attrs.get("value_float", attrs.get("value_floats")), np.float32)
    elif "value_int" in attrs or "value_ints" in attrs:
        value = np.asarray(attrs.get("value_int", attrs.get("value_ints")), np.int64)
    else:
        return None
    return lambda: value


@operator("ConstantOfShape")
def _constant_of_shape(site: Site) -> Function | None:
    value = site.attr("value", np.zeros(1, np.float32)).reshape(())
    limit, what = site.max_bytes, site.what

    def run(shape: np.ndarray) -> Any:
        dims = shape.tolist()
        check_shape(dims, value.dtype.itemsize, limit, what)
        return np.full(dims, value, value.dtype)

    return run


@operator("Shape")
def _shape(site: Site) -> Function | None:
    start, end = site.attr("start", 0), site.attr("end")
    return lambda x: np.array(x.shape[start:end], np.int64)


@operator("Size")
def _size(_: Site) -> Function | None:
    return lambda x: np.array(x.size, np.int64)


@operator("Reshape")
def _reshape(site: Site) -> Function | None:
    keep_zero = bool(site.attr("allowzero", 0))
    if site.opset < 5:
        return None

    def target(shape: list[int], old: tuple[int, ...]) -> list[int]:
        return shape if keep_zero else [old[i] if d == 0 else d for i, d in enumerate(shape)]

    fixed = site.ints(1)
    if fixed is not None and (keep_zero or 0 not in fixed):
        dims = tuple(fixed)
        site.steady = True
        return lambda x, _: moves.reshaped(x, dims)
    if fixed is not None:
        site.steady = True
        return lambda x, _: moves.reshaped(x, target(fixed, x.shape))
    return lambda x, shape: x.reshape(target(shape.tolist(), x.shape))


@operator("Flatten")
def _flatten(site: Site) -> Function | None:
    axis = site.attr("axis", 1)

    def run(x: np.ndarray) -> Any:
        at = axis + x.ndim if axis < 0 else axis
        return moves.reshaped(x, (math.prod(x.shape[:at]), math.prod(x.shape[at:])))

    site.steady = True
    return run


@operator("Transpose")
def _transpose(site: Site) -> Function | None:
    perm = site.attr("perm")
    return lambda x: x.transpose(perm)


@operator("Squeeze")
def _squeeze(site: Site) -> Function | None:
    fixed = site.attr("axes")

    def run(x: np.ndarray, axes: np.ndarray | None = None) -> Any:
        chosen = fixed if axes is None else axes.reshape(-1).tolist()
        return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))

    return run


@operator("Unsqueeze")
def _unsqueeze(site: Site) -> Function | None:
    fixed: list[int] = site.attr("axes", [])

    def run(x: np.ndarray, axes: np.ndarray | None = None) -> Any:
        return np.expand_dims(x, tuple(fixed if axes is None else axes.reshape(-1).tolist()))

    return run


@operator("Concat")
def _concat(site: Site) -> Function | None:
    axis, limit, what = site.attr("axis", 1), site.max_bytes, site.what

    def run(*parts: np.ndarray) -> Any:
        size = sum([part.nbytes for part in parts])
        if size > limit:
            check_shape([size], 1, limit, what)
        found = moves.joined(parts, axis) if tape.TAPES else None
        return np.concatenate(parts, axis) if found is None else found

    # Sizes and the like, which others compute with, stay numpy's.
    site.steady = site.dtype(0) in (*INT8, np.float32)
    return run


@operator("Split")
def _split(site: Site) -> Function | None:
    # Outputs that nobody reads are gone from the node, but pieces like the others.
    axis, pieces = site.attr("axis", 0), len(site.node.outputs if site.node.proto is None else site.node.proto.output)
    fixed = site.attr("split")

    def run(x: np.ndarray, sizes: np.ndarray | None = None) -> Any:
        lengths = fixed if sizes is None else sizes.tolist()
        extent = x.shape[axis]
        if lengths is None:
            each = -(-extent // pieces)
            lengths = [max(0, min(each, extent - i * each)) for i in range(pieces)]
        if sum(lengths) != extent or len(lengths) != pieces:
            raise ValueError(f"cannot split {extent} along axis {axis} into {pieces} pieces of {lengths}")
        return tuple(np.split(x, np.cumsum(lengths)[:-1], axis))

    return run


@operator("Slice")
def _slice(site: Site) -> Function | None:
    if site.opset < 10:
        fixed = _slices(site.attr("starts"), site.attr("ends"), site.attr("axes"), None)
        return lambda x: x[_index(x.shape, fixed)]

    def run(
        x: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        axes: np.ndarray | None = None,
        steps: np.ndarray | None = None,
    ) -> Any:
        chosen = _slices(
            starts.tolist(),
            ends.tolist(),
            None if axes is None else axes.tolist(),
            None if steps is None else steps.tolist(),
        )
        return x[_index(x.shape, chosen)]

    return run


# Ends that stand for "to the end" in either direction, as onnxruntime has it.
_ENDS = (np.iinfo(np.int32).max, np.iinfo(np.int64).max)


def _slices(
    starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None
) -> dict[int, tuple[int, int, int]]:
    """Start, end and step of each axis that is cut."""
    found = {}
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        found[axes[i] if axes else i] = start, end, steps[i] if steps else 1
    return found


def _index(shape: tuple[int, ...], chosen: dict[int, tuple[int, int, int]]) -> tuple[slice, ...]:
    """Python's slices for ONNX's, which count alike but backwards begin within the axis wherever they are said to begin."""
    index = [slice(None)] * len(shape)
    for axis, (start, end, step) in chosen.items():
        if step < 0:
            index[axis] = slice(max(start, -shape[axis]), None if end in _ENDS else end, step)
        else:
            index[axis] = slice(start, end, step)
    return tuple(index)


@operator("Gather")
def _gather(site: Site) -> Function | None:
    axis, limit, what = site.attr("axis", 0), site.max_bytes, site.what

    def run(data: np.ndarray, indices: np.ndarray) -> Any:
        if data.size * indices.size * data.itemsize > limit:
            at = axis % data.ndim
            check_shape((*data.shape[:at], *indices.shape, *data.shape[at + 1 :]), data.itemsize, limit, what)
        return np.asarray(data.take(indices, axis))

    return run


@operator("Expand")
def _expand(site: Site) -> Function | None:
    limit, what = site.max_bytes, site.what

    def run(x: np.ndarray, shape: np.ndarray) -> Any:
        dims = shape.tolist()
        check_shape(dims, x.itemsize, limit, what)
        dims = list(np.broadcast_shapes(x.shape, tuple(dims)))
        check_shape(dims, x.itemsize, limit, what)
        # A copy: a view that repeats elements could not be written over later.
        return np.broadcast_to(x, dims).copy()

    return run


@operator("Tile")
def _tile(site: Site) -> Function | None:
    limit, what = site.max_bytes, site.what

    def run(x: np.ndarray, repeats: np.ndarray) -> Any:
        times = repeats.tolist()
        if len(times) != x.ndim:
            raise ValueError(f"repeats must have one entry for each of {x.ndim} dimensions, got {times}")
        check_shape([d * t for d, t in zip(x.shape, times, strict=True)], x.itemsize, limit, what)
        return np.tile(x, times)

    return run if site.opset >= 6 else None


@operator("Range")
def _range(site: Site) -> Function | None:
    limit, what = site.max_bytes, site.what

    def run(start: np.ndarray, stop: np.ndarray, step: np.ndarray) -> Any:
        first, last, by = start.item(), stop.item(), step.item()
        if by == 0:
            raise ValueError("the step of a range must not be 0")
        count = max(0, math.ceil((last - first) / by))
        check_shape([count], start.itemsize, limit, what)
        return (first + by * np.arange(count)).astype(start.dtype)

    return run


@operator("Pad")
def _pad(site: Site) -> Function | None:
    mode, limit, what = site.attr("mode", "constant"), site.max_bytes, site.what
    if mode not in ("constant", "edge", "reflect", "wrap") or site.opset < 2:
        return None
    old = (site.attr("pads"), site.attr("value", 0.0)) if site.opset < 11 else None

    def run(
        x: np.ndarray, pads: np.ndarray | None = None, value: np.ndarray | None = None, axes: np.ndarray | None = None
    ) -> Any:
        chosen = range(x.ndim) if axes is None else [a % x.ndim for a in axes.tolist()]
        amounts, fill = old or (pads.tolist(), 0 if value is None else value.item())  # type: ignore[union-attr]
        before, after = [0] * x.ndim, [0] * x.ndim
        for i, axis in enumerate(chosen):
            before[axis], after[axis] = amounts[i], amounts[i + len(chosen)]
        dims = [b + d + a for b, d, a in zip(before, x.shape, after, strict=True)]
        check_shape(dims, x.itemsize, limit, what)
        # A negative amount cuts off.
        x = x[tuple(slice(max(0, -b), d + min(0, a)) for b, d, a in zip(before, x.shape, after, strict=True))]
        widths = [(max(0, b), max(0, a)) for b, a in zip(before, after, strict=True)]
        if mode != "constant":
            return np.pad(x, widths, mode)
        return np.pad(x, widths, constant_values=x.dtype.type(fill))

    return run
