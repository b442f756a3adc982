"""Float layers: products, normalisations and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyint8dot import floats
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.registry import FLOATS, Function, Site, operator


def check_matmul(a: np.ndarray, b: Any, itemsize: int, limit: int, what: str) -> None:
    """Refuse a product that would be too large; shapes that do not fit are left to the product itself.

    Parameters
    ----------
    a, b : ndarray or PackedMatrix
        The operands.
    itemsize : int
        Bytes of one element of the result.
    limit : int
        The most that is allowed.
    what : str
        The node, for the message.
    """
    rows, columns = a.shape, b.shape
    if len(rows) < 2 or len(columns) < 2:
        return
    batch: tuple[int, ...] = rows[:-2]
    if len(columns) > 2 and columns[:-2] != batch:
        batch = np.broadcast_shapes(batch, columns[:-2])
    if math.prod(batch) * rows[-2] * columns[-1] * itemsize > limit:
        check_shape((*batch, rows[-2], columns[-1]), itemsize, limit, what)


def most_elements(shape: tuple[int, ...], itemsize: int, limit: int) -> int:
    """Return how many elements the left operand of a product may have without a closer look at the size of the result.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the right operand.
    itemsize : int
        Bytes of one element of the result.
    limit : int
        The most bytes that are allowed.

    Returns
    -------
    int
        -1 where the number of elements does not tell how many rows there are.
    """
    k, n = shape
    return limit * k // (itemsize * max(n, 1)) if k else -1


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`numpy.matmul`, that of float16 by way of float32, for which there is a fast product.

    Parameters
    ----------
    a, b : ndarray
        The operands.

    Returns
    -------
    ndarray
        Of the operands' type.
    """
    with np.errstate(all="ignore"):  # infinity and what is too large are no errors in ONNX
        if a.dtype == b.dtype == np.float16:
            return np.asarray(np.matmul(a.astype(np.float32), b.astype(np.float32)), np.float16)
        return np.asarray(np.matmul(a, b))


@operator("MatMul")
def _matmul(site: Site) -> Function | None:
    limit, what = site.max_bytes, site.what

    def run(a: np.ndarray, b: np.ndarray) -> Any:
        check_matmul(a, b, a.itemsize, limit, what)
        return product(a, b)

    return run


@operator("MatMulTranspose", domain=FUSED)
def _matmul_transpose(site: Site) -> Function | None:
    """Write the product straight into the memory order that the Transpose after it asks for."""
    perm: list[int] = site.attr("perm")
    back = np.argsort(perm)
    limit, what = site.max_bytes, site.what

    def run(a: np.ndarray, b: np.ndarray) -> Any:
        check_matmul(a, b, a.itemsize, limit, what)
        if a.ndim != len(perm) or a.shape[:-2] != b.shape[:-2]:
            return np.matmul(a, b).transpose(perm)
        shape = (*a.shape[:-1], b.shape[-1])
        y = np.empty([shape[p] for p in perm], a.dtype)
        np.matmul(a, b, out=y.transpose(back))
        return y

    return run


@operator("Gemm")
def _gemm(site: Site) -> Function | None:
    alpha, beta = site.attr("alpha", 1.0), site.attr("beta", 1.0)
    trans_a, trans_b = site.attr("transA", 0), site.attr("transB", 0)
    limit, what = site.max_bytes, site.what

    def run(a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None) -> Any:
        a, b = (a.T if trans_a else a), (b.T if trans_b else b)
        check_matmul(a, b, a.itemsize, limit, what)
        y = product(a, b)
        if alpha != 1.0:
            y = (y * alpha).astype(a.dtype)
        if c is not None:
            y += c if beta == 1.0 else (c * beta).astype(a.dtype)
        return y

    return run


@operator("Softmax", "LogSoftmax")
def _softmax(site: Site) -> Function | None:
    log = site.node.op == "LogSoftmax"
    old = site.opset < 13
    axis = site.attr("axis", 1 if old else -1)
    over = bool(site.overwrite)
    # The axes of an old one are the last.
    last = old or axis in (-1, (site.graph.rank(site.node.inputs[0]) or 0) - 1)
    if last and not log and site.dtype(0) == np.float32:
        site.native(steady=True)

    def along(x: np.ndarray, at: int) -> np.ndarray:
        if not log and x.dtype == np.float32 and at in (-1, x.ndim - 1):
            return floats.softmax(x, out=x if over else None)
        kind = x.dtype
        x = x.astype(np.float32) if kind == np.float16 else x
        with np.errstate(all="ignore"):  # rows of infinities are NaN, as in ONNX
            y = x - x.max(axis=at, keepdims=True, initial=-np.inf)
            if log:
                y -= np.log(np.sum(np.exp(y), axis=at, keepdims=True))
                return np.asarray(y, kind)
            np.exp(y, out=y)
            y /= np.sum(y, axis=at, keepdims=True)
            return np.asarray(y, kind)

    def run(x: np.ndarray) -> Any:
        if not old:
            return along(x, axis)
        return along(_rows(x, axis), 1).reshape(x.shape)

    return run if site.dtype(0) in FLOATS else None


def _rows(x: np.ndarray, axis: int) -> np.ndarray:
    """Bring the axes from `axis` on together, which are one for softmax and its like before opset 13."""
    rows = math.prod(x.shape[: axis % x.ndim if x.ndim else 0])
    return x.reshape(rows, x.size // rows if rows else 0)


@operator("Hardmax")
def _hardmax(site: Site) -> Function | None:
    old = site.opset < 13
    axis = site.attr("axis", 1 if old else -1)

    def run(x: np.ndarray) -> Any:
        values, at = (_rows(x, axis), 1) if old else (x, axis)
        y = np.zeros_like(values)
        if values.size:
            np.put_along_axis(y, values.argmax(at, keepdims=True), 1, at)
        return y.reshape(x.shape)

    return run if site.dtype(0) in FLOATS else None


@operator("LayerNormalization")
def layer_normalization(site: Site) -> Function | None:
    """Also of the operator that onnxruntime has had before ONNX. Anything but float64 is computed in float32."""
    if site.attr("stash_type", 1) != 1:
        return None
    axis, epsilon = site.attr("axis", -1), site.attr("epsilon", 1e-5)
    alone = len(site.node.outputs) == 1
    if alone and site.dtype(0) == np.float32 and axis in (-1, (site.graph.rank(site.node.inputs[0]) or 0) - 1):
        site.native(steady=True)

    def run(x: np.ndarray, scale: np.ndarray, bias: np.ndarray | None = None) -> Any:
        vectors = all(v is None or v.shape == x.shape[-1:] for v in (scale, bias))
        if alone and axis in (-1, x.ndim - 1) and vectors and x.dtype == np.float32:
            return floats.layer_norm(x, scale, bias, eps=epsilon)
        axes = tuple(range(axis % x.ndim, x.ndim))
        wide = np.asarray(x, np.promote_types(x.dtype, np.float32))
        mean = wide.mean(axis=axes, keepdims=True)
        y = wide - mean
        inverse = 1 / np.sqrt(np.mean(np.square(y), axis=axes, keepdims=True) + np.float32(epsilon))
        y *= inverse
        y = y.astype(x.dtype, copy=False) * scale
        if bias is not None:
            y = y + bias
        return y if alone else (y, mean, inverse)[: len(site.node.outputs)]

    return run


@operator("BatchNormalization")
def _batch_normalization(site: Site) -> Function | None:
    if len([o for o in site.node.outputs if o]) > 1 or site.attr("training_mode", 0):
        return None
    if site.opset < 7 or not site.attr("spatial", 1):
        return None  # training is another attribute, or every element has a mean of its own
    epsilon = site.attr("epsilon", 1e-5)

    def run(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray) -> Any:
        factor = (scale / np.sqrt(var + epsilon)).astype(x.dtype)
        shape = (-1, *([1] * (x.ndim - 2)))
        y = x * factor.reshape(shape)
        y += (bias - mean * factor).astype(x.dtype).reshape(shape)
        return y

    return run
