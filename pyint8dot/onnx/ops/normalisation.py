"""Normalisations by groups of channels, and sums of products by an equation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.contrib.writer import MICROSOFT
from pyint8dot.onnx.ops.activations import wide
from pyint8dot.onnx.ops.neural import product
from pyint8dot.onnx.registry import FLOATS, Function, Site, operator

_NUMBERS = (*FLOATS, *(np.dtype(t) for t in "bBhHiIqQ"))


def _normalised(x: np.ndarray, epsilon: float) -> np.ndarray:
    """Take the mean of rows away and divide by their spread."""
    y = x - x.mean(axis=-1, keepdims=True)
    spread = np.mean(np.square(y), axis=-1, keepdims=True)
    y /= np.sqrt(spread + x.dtype.type(epsilon))
    return np.asarray(y)


@operator("GroupNormalization", domain=MICROSOFT)
@operator("InstanceNormalization", "GroupNormalization")
def _group_normalization(site: Site) -> Function | None:
    if site.dtype(0) not in FLOATS:
        return None
    epsilon, fixed = site.attr("epsilon", 1e-5), site.attr("num_groups")
    # Until opset 21, when a node is given to com.microsoft on loading, a scale belonged to a group.
    by_group = site.node.op == "GroupNormalization" and site.opset < 21

    def run(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> Any:
        n, c = x.shape[:2]
        groups = fixed or c
        y = _normalised(wide(x).reshape(n, groups, math.prod(x.shape[1:]) // groups), epsilon).reshape(x.shape)
        each = (1, -1, *[1] * (x.ndim - 2))
        if by_group:
            scale, bias = (np.repeat(v, c // groups) for v in (scale, bias))
        y = y * scale.reshape(each)
        y += bias.reshape(each)
        return y.astype(x.dtype, copy=False)

    return run


@operator("LpNormalization")
def _lp_normalization(site: Site) -> Function | None:
    axis, power = site.attr("axis", -1), site.attr("p", 2)

    def run(x: np.ndarray) -> Any:
        norm = np.sum(np.abs(x), axis, keepdims=True) if power == 1 else np.sqrt(np.sum(x * x, axis, keepdims=True))
        return np.divide(x, norm, out=np.zeros_like(x), where=norm != 0)

    return run if site.dtype(0) in FLOATS else None


@operator("Einsum")
def _einsum(site: Site) -> Function | None:
    if site.dtype(0) is None or site.dtype(0) not in _NUMBERS:
        return None
    equation = site.attr("equation").replace(" ", "")
    limit, what = site.max_bytes, site.what
    as_product = _as_product(equation)

    def run(*operands: np.ndarray) -> Any:
        if as_product is not None and operands[0].dtype.kind == "f":
            return as_product(*operands, limit, what)
        check_shape(_result_shape(equation, operands), operands[0].itemsize, limit, what)
        # Steps in between are no larger than this either.
        order: Any = ("greedy", limit // 8) if len(operands) > 1 else False
        found = np.einsum(equation, *map(wide, operands), optimize=order)
        return np.array(found, operands[0].dtype)

    return run


def _result_shape(equation: str, operands: tuple[np.ndarray, ...]) -> list[int]:
    """Work out the shape of the sum, of the operands' own where the equation does not say."""
    left, arrow, result = equation.partition("->")
    sizes: dict[str, int] = {}
    lead: tuple[int, ...] = ()
    for term, operand in zip(left.split(","), operands, strict=True):
        before, dots, after = term.partition("...")
        if not dots and len(term) != operand.ndim:
            raise ValueError(
                f"an operand of {operand.ndim} dimensions does not fit {term!r} in the equation {equation!r}"
            )
        sizes.update(zip(before, operand.shape, strict=False))
        sizes.update(zip(after[::-1], operand.shape[::-1], strict=False))
        if dots:
            lead = np.broadcast_shapes(lead, operand.shape[len(before) : operand.ndim - len(after)])
    if not arrow:
        names = left.replace(",", "").replace(".", "")
        result = "..." + "".join(sorted(n for n in set(names) if names.count(n) == 1))
    return [*(lead if "..." in result else ()), *(sizes[n] for n in result.replace(".", ""))]


def _as_product(equation: str) -> Function | None:
    """Return the function of an equation that is a batch of matrix products, None of any other."""
    if "." in equation or "->" not in equation or equation.count(",") != 1:
        return None
    left, result = equation.split("->")
    a, b = left.split(",")
    if any(len(set(term)) < len(term) for term in (a, b, result)) or not set(result) <= set(a + b):
        return None
    batch = [i for i in result if i in a and i in b]
    rows = [i for i in result if i in a and i not in b]
    columns = [i for i in result if i in b and i not in a]
    inner = [i for i in a if i in b and i not in result]
    if len(a) != len(batch) + len(rows) + len(inner) or len(b) != len(batch) + len(columns) + len(inner):
        return None

    def run(x: np.ndarray, y: np.ndarray, limit: int, what: str) -> Any:
        if x.ndim != len(a) or y.ndim != len(b):
            raise ValueError(f"operands of {x.ndim} and {y.ndim} dimensions do not fit the equation {equation!r}")
        sizes = dict(zip(b, y.shape, strict=True)) | dict(zip(a, x.shape, strict=True))
        if any(sizes[i] != d for i, d in zip(b, y.shape, strict=True)):
            raise ValueError(f"operands of shape {x.shape} and {y.shape} do not fit the equation {equation!r}")
        check_shape([sizes[i] for i in result], x.itemsize, limit, what)

        def length(names: list[str]) -> int:
            return math.prod(sizes[i] for i in names)

        left_side = x.transpose([a.index(i) for i in (*batch, *rows, *inner)])
        right_side = y.transpose([b.index(i) for i in (*batch, *inner, *columns)])
        found = product(
            left_side.reshape(length(batch), length(rows), length(inner)),
            right_side.reshape(length(batch), length(inner), length(columns)),
        )
        order = [*batch, *rows, *columns]
        found = found.reshape([sizes[i] for i in order]).transpose([order.index(i) for i in result])
        return np.ascontiguousarray(found)

    return run
