"""The calls whose instructions are counted, and the program that makes them under emulation.

One row of `CALLS` is one kind of call; another row is all it takes to count another one. As a
program (``calls.py KERNEL LARGEST``) it makes every call between two markers, a getppid() each, and
prints a JSON line with the keys in the order of the calls.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import pyint8dot

# Calls before the counted ones, and counted ones, of which the smallest is kept. Python's interpreter goes on
# specialising code for some dozens of calls, which shows in small products and is lost in large ones.
WARM, REPEATS = 40, 5
LARGE = 1_000_000
WARM_LARGE, REPEATS_LARGE = 1, 2
EVERYTHING = 1 << 62
IDLE = 5  # pairs of markers with nothing between

Shape = tuple[int, int, int]  # m, k, n

SHAPES: tuple[Shape, ...] = (
    (8, 8, 8),
    (1, 384, 384),
    (128, 384, 384),
    (128, 384, 1536),
    (128, 1536, 384),
    (512, 512, 512),
    (64, 2048, 2048),
)


def int8(*shape: int) -> np.ndarray:
    """Return int8 values over the whole range, the same every time."""
    return np.random.default_rng(sum(shape)).integers(-128, 128, shape, dtype=np.int8)


def matmul(m: int, k: int, n: int) -> Callable[[], object]:
    """`matmul` with a packed right operand: what a layer with fixed weights costs."""
    a, b = int8(m, k), pyint8dot.pack(int8(k, n))
    return lambda: pyint8dot.matmul(a, b)


def qlinear_matmul(m: int, k: int, n: int) -> Callable[[], object]:
    """`qlinear_matmul` to int8 with a packed right operand, one scale and zero point for each matrix."""
    a, b = int8(m, k), pyint8dot.pack(int8(k, n))
    a_scale, b_scale, y_scale, zero = np.float32(0.5), np.float32(0.25), np.float32(100), np.int8(0)
    return lambda: pyint8dot.qlinear_matmul(a, a_scale, zero, b, b_scale, zero, y_scale, zero)


def linear(m: int, k: int, n: int) -> Callable[[], object]:
    """`linear`: float32 rows quantised, multiplied, brought back to float32, with a bias."""
    x, w = int8(m, k).astype(np.float32) / 16, pyint8dot.pack(int8(k, n))
    w_scale, bias = np.full(n, 1 / 64, np.float32), np.ones(n, np.float32)
    return lambda: pyint8dot.linear(x, w, w_scale=w_scale, bias=bias)


def linear_gelu(m: int, k: int, n: int) -> Callable[[], object]:
    """`linear` with the activation of a transformer."""
    x, w = int8(m, k).astype(np.float32) / 16, pyint8dot.pack(int8(k, n))
    w_scale, bias = np.full(n, 1 / 64, np.float32), np.ones(n, np.float32)
    return lambda: pyint8dot.linear(x, w, w_scale=w_scale, bias=bias, act="gelu")


def pack(_m: int, k: int, n: int) -> Callable[[], object]:
    """`pack` of a row-major matrix."""
    b = int8(k, n)
    return lambda: pyint8dot.pack(b)


def pack_transposed(_m: int, k: int, n: int) -> Callable[[], object]:
    """`pack` of a transposed matrix, as weights often come."""
    b = int8(n, k).T
    return lambda: pyint8dot.pack(b)


def matmul_unpacked(m: int, k: int, n: int) -> Callable[[], object]:
    """`matmul` of two plain arrays, packing included."""
    a, b = int8(m, k), int8(k, n)
    return lambda: pyint8dot.matmul(a, b)


def model(name: str) -> Callable[[int, int, int], Callable[[], object]]:
    """Return what makes one run of an ONNX model of the demonstration, everything between its inputs and outputs."""

    def make(*_shape: int) -> Callable[[], object]:
        from pyint8dot.cli import compare_models
        from pyint8dot.onnx import InferenceSession
        from pyint8dot.onnx.zoo import model_path

        session = InferenceSession(model_path(name))
        feed = compare_models.feed(session)
        return lambda: session.run(None, feed)

    return make


@dataclass(frozen=True)
class Call:
    """One kind of call: what makes it for a shape, on which shapes, and the work it is measured by."""

    make: Callable[[int, int, int], Callable[[], object]]
    shapes: tuple[Shape, ...]
    unit: str  # "MAC": m * k * n; "byte": k * n; "run": one
    macs: int | None = None  # where m * k * n does not say


# Ever larger cubes: a multiply-accumulate of the largest must not cost more than one of the smallest.
CUBES: tuple[Shape, ...] = ((256, 256, 256), (1024, 1024, 1024), (2048, 2048, 2048))

CALLS: dict[str, Call] = {
    "matmul": Call(matmul, SHAPES + CUBES, "MAC"),
    "qlinear_matmul": Call(qlinear_matmul, SHAPES, "MAC"),
    "linear": Call(linear, SHAPES, "MAC"),
    "linear, gelu": Call(linear_gelu, ((128, 384, 1536),), "MAC"),
    "pack": Call(pack, ((1, 384, 1536),), "byte"),
    "pack, transposed": Call(pack_transposed, ((1, 384, 1536),), "byte"),
    "MiniLM": Call(model("minilm-int8"), ((1, 128, 384),), "run", 1_358_954_496),
    "InceptionV1": Call(model("inceptionv1-s8s8"), ((3, 224, 224),), "run", 1_431_556_352),
    "matmul, b not packed": Call(matmul_unpacked, ((128, 384, 384), (512, 512, 512)), "MAC"),
}


def work(call: str, shape: Shape) -> int:
    """Return the units of work in one call."""
    m, k, n = shape
    return {"MAC": m * k * n, "byte": k * n, "run": 1}[CALLS[call].unit]


def macs(call: str, shape: Shape) -> int:
    """Return the multiply-accumulates of one call, or what stands for its size where it makes none."""
    return CALLS[call].macs or math.prod(shape)


def passes(call: str, shape: Shape) -> tuple[int, int]:
    """Return how often a call is made before it is counted, and counted."""
    return (WARM_LARGE, REPEATS_LARGE) if macs(call, shape) > LARGE else (WARM, REPEATS)


def counted(largest: int = EVERYTHING) -> list[tuple[str, Shape]]:
    """Return the calls and shapes of at most `largest` multiply-accumulates."""
    return [(call, shape) for call, row in CALLS.items() for shape in row.shapes if macs(call, shape) <= largest]


def keys(kernels: list[str], largest: int = EVERYTHING) -> list[str]:
    """Return the key of every count, such as ``matmul sdot_8x8 128x384x384``."""
    return [f"{call} {kernel} {'x'.join(map(str, shape))}" for kernel in kernels for call, shape in counted(largest)]


def main(kernel: str, largest: int) -> None:
    """Make all calls of the table on `kernel`, which the environment has chosen; the first markers have nothing between."""
    marker = os.getppid
    for _ in range(2 * IDLE):
        marker()
    if pyint8dot.kernel_info()["chosen"] != kernel:
        raise SystemExit(f"{kernel} was not chosen")
    for name, shape in counted(largest):
        call = CALLS[name].make(*shape)
        warm, repeats = passes(name, shape)
        for _ in range(warm):
            call()
        for _ in range(repeats):
            marker()
            call()
            marker()
    print(json.dumps(keys([kernel], largest)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
