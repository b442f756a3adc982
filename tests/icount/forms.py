"""What makes each form of a call: a function of m, k and n that makes the operands and returns the call.

Everything that is not the call itself is done before it is counted: operands, packing, parameters,
sessions. Values are the same every time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import pyint8dot

Make = Callable[[int, int, int], Callable[[], object]]
# What makes one operand or parameter of the lengths it is given.
Operand = Callable[..., Any]

# Sets of parameters made for a call that never sees one of them twice: more than a small call is made.
FRESH = 100


# Operands.


def int8(*shape: int) -> np.ndarray:
    """Return int8 values over the whole range, the same every time."""
    return np.random.default_rng(sum(shape)).integers(-128, 128, shape, dtype=np.int8)


def uint8(*shape: int) -> np.ndarray:
    """Return uint8 values over the whole range, the same every time."""
    return int8(*shape).view(np.uint8)


def float32(*shape: int) -> np.ndarray:
    """Return float32 values from -8 to 8, the same every time."""
    return int8(*shape).astype(np.float32) / 16


def packed(k: int, n: int) -> pyint8dot.PackedMatrix:
    """Return int8 weights, packed."""
    return pyint8dot.pack(int8(k, n))


def packed_uint8(k: int, n: int) -> pyint8dot.PackedMatrix:
    """Return uint8 weights, packed."""
    return pyint8dot.pack(uint8(k, n))


def vector(_m: int, k: int) -> np.ndarray:
    """Return the one row of a product of a vector."""
    return int8(k)


def stack(m: int, k: int) -> np.ndarray:
    """Return `m` rows in two matrices, or in one where they cannot be halved."""
    return int8(m, k).reshape(1 if m % 2 else 2, -1, k)


def batch(rows: int, columns: int) -> np.ndarray:
    """Return twelve matrices."""
    return int8(12, rows, columns)


def chosen() -> str:
    """Return the name of the kernel that calls run on."""
    return str(pyint8dot.kernel_info()["chosen"])


# matmul, matmul_integer.


def matmul(a: Operand = int8, b: Operand = packed) -> Make:
    """`matmul`; with `b` packed, what a layer with fixed weights costs."""

    def make(m: int, k: int, n: int) -> Callable[[], object]:
        left, right = a(m, k), b(k, n)
        return lambda: pyint8dot.matmul(left, right)

    return make


def matmul_out(m: int, k: int, n: int) -> Callable[[], object]:
    """`matmul` into an array that is there."""
    a, b, c = int8(m, k), packed(k, n), np.empty((m, n), np.int32)
    return lambda: pyint8dot.matmul(a, b, out=c)


def matmul_kernel(m: int, k: int, n: int) -> Callable[[], object]:
    """`matmul` on the kernel that is named, which is the one that would be chosen."""
    a, b, name = int8(m, k), packed(k, n), chosen()
    return lambda: pyint8dot.matmul(a, b, kernel=name)


def matmul_threads(m: int, k: int, n: int) -> Callable[[], object]:
    """`matmul` with a number of threads."""
    a, b = int8(m, k), packed(k, n)
    return lambda: pyint8dot.matmul(a, b, num_threads=1)


def matmul_integer(m: int, k: int, n: int) -> Callable[[], object]:
    """`matmul_integer` without zero points."""
    a, b = int8(m, k), packed(k, n)
    return lambda: pyint8dot.matmul_integer(a, b)


def matmul_integer_scalars(m: int, k: int, n: int) -> Callable[[], object]:
    """`matmul_integer` with one zero point for each operand."""
    a, b, a_zero, b_zero = int8(m, k), packed(k, n), np.int8(3), np.int8(-5)
    return lambda: pyint8dot.matmul_integer(a, b, a_zero, b_zero)


def matmul_integer_rows(m: int, k: int, n: int) -> Callable[[], object]:
    """`matmul_integer` with a zero point for each row of `a`."""
    a, b, a_zero = int8(m, k), packed(k, n), int8(m)
    return lambda: pyint8dot.matmul_integer(a, b, a_zero)


def matmul_integer_columns(m: int, k: int, n: int) -> Callable[[], object]:
    """`matmul_integer` with a zero point for each column of `b`."""
    a, b, b_zero = int8(m, k), packed(k, n), int8(n)
    return lambda: pyint8dot.matmul_integer(a, b, None, b_zero)


# qlinear_matmul.


def quarter(_n: int) -> np.float32:
    """Return a scale."""
    return np.float32(0.25)


def zero(_n: int) -> np.int8:
    """Return a zero point."""
    return np.int8(0)


def column_scales(n: int) -> np.ndarray:
    """Return a scale for each of `n` columns."""
    return np.linspace(0.125, 0.25, n, dtype=np.float32)


def column_zeros(n: int) -> np.ndarray:
    """Return a zero point for each of `n` columns, all zero."""
    return np.zeros(n, np.int8)


def qlinear_matmul(b_scale: Operand = quarter, b_zero_point: Operand = zero) -> Make:
    """`qlinear_matmul` to int8 with `b` packed; parameters are scalars where nothing else is asked for, the same at each call."""

    def make(m: int, k: int, n: int) -> Callable[[], object]:
        a, b, a_scale, y_scale, at_zero = int8(m, k), packed(k, n), np.float32(0.5), np.float32(100), np.int8(0)
        scale, zero_point = b_scale(n), b_zero_point(n)
        return lambda: pyint8dot.qlinear_matmul(a, a_scale, at_zero, b, scale, zero_point, y_scale, at_zero)

    return make


def parameters(kind: Callable[[float, type], Any]) -> tuple[Any, ...]:
    """Return scale and zero point of `a`, `b` and `y`, each made by `kind` of a value and a type."""
    return tuple(
        kind(value, dtype) for scale in (0.5, 0.25, 100) for value, dtype in ((scale, np.float32), (0, np.int8))
    )


def qlinear_matmul_fresh(m: int, k: int, n: int) -> Callable[[], object]:
    """`qlinear_matmul` with scalars that are equal and other objects at each call."""
    a, b = int8(m, k), packed(k, n)
    sets = [parameters(lambda value, dtype: dtype(value)) for _ in range(FRESH)]
    arguments = iter([(a, a_scale, a_zero, b, *others) for a_scale, a_zero, *others in sets])
    return lambda: pyint8dot.qlinear_matmul(*next(arguments))


def qlinear_matmul_0d(m: int, k: int, n: int) -> Callable[[], object]:
    """`qlinear_matmul` with arrays of no dimension, the same at each call."""
    a, b = int8(m, k), packed(k, n)
    a_scale, a_zero, b_scale, b_zero, y_scale, y_zero = parameters(np.array)
    return lambda: pyint8dot.qlinear_matmul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)


# linear.


def linear(m: int, k: int, n: int) -> Callable[[], object]:
    """`linear`: float32 rows quantised, multiplied, brought back to float32, with a bias."""
    x, w = float32(m, k), packed(k, n)
    w_scale, bias = np.full(n, 1 / 64, np.float32), np.ones(n, np.float32)
    return lambda: pyint8dot.linear(x, w, w_scale=w_scale, bias=bias)


def linear_plain(m: int, k: int, n: int) -> Callable[[], object]:
    """`linear` with nothing but the scales of the weights."""
    x, w, w_scale = float32(m, k), packed(k, n), np.full(n, 1 / 64, np.float32)
    return lambda: pyint8dot.linear(x, w, w_scale=w_scale)


def linear_gelu(m: int, k: int, n: int) -> Callable[[], object]:
    """`linear` with the activation of a transformer."""
    x, w = float32(m, k), packed(k, n)
    w_scale, bias = np.full(n, 1 / 64, np.float32), np.ones(n, np.float32)
    return lambda: pyint8dot.linear(x, w, w_scale=w_scale, bias=bias, act="gelu")


# qlinear_conv.


def conv(channels: int, size: int, outputs: int) -> Callable[[], object]:
    """`qlinear_conv` of an image of so many channels and pixels a side with 3x3 windows, to so many channels."""
    x, w = int8(1, channels, size, size), pyint8dot.pack_conv(int8(outputs, channels, 3, 3))
    w_scale, bias, zero_point = column_scales(outputs), np.ones(outputs, np.int32), np.int8(0)
    return lambda: pyint8dot.qlinear_conv(
        x, np.float32(0.5), zero_point, w, w_scale, zero_point, np.float32(9), zero_point, bias, pads=[1, 1, 1, 1]
    )


def depthwise(channels: int, size: int, _n: int) -> Callable[[], object]:
    """`qlinear_conv` of an image of so many channels and pixels a side, each channel with a 3x3 window of its own."""
    x, w, zero_point = (
        int8(1, channels, size, size),
        pyint8dot.pack_conv(int8(channels, 1, 3, 3), group=channels),
        np.int8(0),
    )
    w_scale, bias = column_scales(channels), np.ones(channels, np.int32)
    return lambda: pyint8dot.qlinear_conv(
        x, np.float32(0.5), zero_point, w, w_scale, zero_point, np.float32(9), zero_point, bias, pads=[1, 1, 1, 1]
    )


# pack.


def search(m: int, k: int, n: int) -> Callable[[], object]:
    """`Index.search` of `m` queries for the ten best of `n` vectors."""
    from pyint8dot.search import Index

    index, queries = Index(int8(n, k)), float32(m, k)
    return lambda: index.search(queries)


def pack(_m: int, k: int, n: int) -> Callable[[], object]:
    """`pack` of a row-major matrix."""
    b = int8(k, n)
    return lambda: pyint8dot.pack(b)


def pack_transposed(_m: int, k: int, n: int) -> Callable[[], object]:
    """`pack` of a transposed matrix, as weights often come."""
    b = int8(n, k).T
    return lambda: pyint8dot.pack(b)


# ONNX. Its modules are imported by what uses them: under emulation that alone takes seconds.


def session_matmul_integer(m: int, k: int, n: int) -> Callable[[], object]:
    """`InferenceSession.run` of a graph of one MatMulInteger without zero points, its weights a constant."""
    from pyint8dot.onnx.zoo.builder import Builder

    graph = Builder("MatMulInteger")
    graph.input("a", np.int8, ["m", k])
    graph.add("MatMulInteger", ["a", graph.constant("b", int8(k, n))], "y")
    graph.output("y", np.int32, ["m", n])
    return run(graph.model(), a=int8(m, k))


def session_qlinear_matmul(m: int, k: int, n: int) -> Callable[[], object]:
    """`InferenceSession.run` of a graph of one QLinearMatMul, its weights constant with a scale for each column."""
    from pyint8dot.onnx.zoo.builder import Builder

    graph = Builder("QLinearMatMul")
    graph.input("a", np.int8, ["m", k])
    constants = {
        "a_scale": np.float32(0.5),
        "a_zero_point": np.int8(0),
        "b": int8(k, n),
        "b_scale": column_scales(n),
        "b_zero_point": column_zeros(n),
        "y_scale": np.float32(100),
        "y_zero_point": np.int8(0),
    }
    graph.add("QLinearMatMul", ["a", *itertools.starmap(graph.constant, constants.items())], "y")
    graph.output("y", np.int8, ["m", n])
    return run(graph.model(), a=int8(m, k))


def session_dynamic(m: int, k: int, n: int) -> Callable[[], object]:
    """`InferenceSession.run` of a linear layer quantised as onnxruntime's quantize_dynamic does it.

    DynamicQuantizeLinear, MatMulInteger with both zero points, Cast, Mul by the product of the
    scales, Add of the bias; one scale for all weights, which is that tool's default.
    """
    from pyint8dot.onnx.zoo import quantizer
    from pyint8dot.onnx.zoo.builder import Builder

    graph = Builder("linear")
    graph.input("x", np.float32, ["m", k])
    product = graph.add("MatMul", ["x", graph.constant("w", float32(k, n))], "product")
    graph.add("Add", [product, graph.constant("bias", np.ones(n, np.float32))], "y")
    graph.output("y", np.float32, ["m", n])
    return run(quantizer.dynamic(graph.model(), per_channel=False), x=float32(m, k))


def run(model: Any, **feed: np.ndarray) -> Callable[[], object]:
    """Return the run of a session of an ONNX model."""
    from pyint8dot.onnx import InferenceSession

    session = InferenceSession(model.SerializeToString())
    return lambda: session.run(None, feed)


def whole_model(name: str) -> Make:
    """Return what makes one run of an ONNX model of the demonstration, everything between its inputs and outputs."""

    def make(*_shape: int) -> Callable[[], object]:
        from pyint8dot.cli import compare_models
        from pyint8dot.onnx import InferenceSession
        from pyint8dot.onnx.zoo import model_path

        session = InferenceSession(model_path(name))
        feed = compare_models.feed(session)
        return lambda: session.run(None, feed)

    return make


def quantised_model(name: str) -> Make:
    """Return what makes one run of a model of `models.whole`, whose file is there."""

    def make(*_shape: int) -> Callable[[], object]:
        from models import whole

        from pyint8dot.onnx import InferenceSession

        session, feed = InferenceSession(whole.make(name)), whole.feed(name)
        return lambda: session.run(None, feed)

    return make


def encode(*_shape: int) -> Callable[[], object]:
    """`MiniLM.encode` of one text of 128 tokens, from its words to a vector."""
    from pyint8dot.models import MiniLM

    model = MiniLM.load()
    return lambda: model.encode("word " * 126)
