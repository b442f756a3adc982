"""The calls whose instructions are counted, and the program that makes them under emulation.

One row of `CALLS` is one form of a call; another row is all it takes to count another one. As a
program (``calls.py LARGEST KERNEL ...``) it makes every call between two markers, a getppid() each;
the first markers of each kernel have nothing between. It prints a JSON line with the keys in the
order of the calls.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from icount import forms

import pyint8dot

# Calls before the counted ones, and counted ones, of which the smallest is kept. Python's interpreter goes on
# specialising code for some dozens of calls, which shows in small products and is lost in large ones.
WARM, REPEATS = 40, 5
LARGE = 10_000_000
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
# Every form of a call is counted on these: what a call costs beside its product, and a product of one row.
SMALL = SHAPES[:2]
# Ever larger cubes: a multiply-accumulate of the largest must not cost more than one of the smallest.
CUBES: tuple[Shape, ...] = ((256, 256, 256), (1024, 1024, 1024), (2048, 2048, 2048))
# A column and few columns: products that a tile of eight columns must not fill up with padding.
COLUMN: Shape = (100_000, 384, 1)
# Queries, dimensions and vectors of a search, and the most instructions a score that it may take.
SEARCHES: dict[Shape, float] = {(1, 384, 60_000): 50, (16, 384, 60_000): 32, (200, 384, 60_000): 32}
NARROW: Shape = (1000, 384, 16)
# The scores of a transformer's twelve heads.
BATCHED: Shape = (128, 64, 128)
# Channels, side of the image and channels out of a convolution, of ResNet's first stage and of next to nothing.
CONV: Shape = (64, 56, 64)
SMALL_CONV: Shape = (16, 8, 16)
# Channels and side of the image of a depthwise convolution, the first of MobileNetV1.
DEPTHWISE: Shape = (32, 112, 1)


@dataclass(frozen=True)
class Call:
    """One form of a call: what makes it for a shape, on which shapes, and the work it is measured by."""

    make: forms.Make
    shapes: tuple[Shape, ...]
    unit: str  # "MAC": a multiply-accumulate; "byte": k * n; "score": of a query and a vector; "call": one call; "run": one run of a whole model
    macs: int | None = None  # where m * k * n does not say
    # The most instructions of one call on the kernel `BARS_ON`, by shape.
    bars: Mapping[Shape, float] = field(default_factory=dict)
    # What is entered before the call is made, and left after it was counted.
    within: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    # The one kernel that it is counted on, where that is enough.
    only: str | None = None


BARS_ON = "sdot_8x8"
# What a session may add to the call its graph stands for, and the dynamic linear layer's bar, in thousands.
SESSION = 25
DYNAMIC_LINEAR = (44, 60)


def small(square: float, row: float, shapes: tuple[Shape, ...] = SMALL) -> dict[Shape, float]:
    """Return the bars of a form on the two small shapes, given in thousands of instructions."""
    return {shape: 1000 * thousands for shape, thousands in zip(shapes, (square, row), strict=True)}


def each(bars: Mapping[Shape, float]) -> dict[Shape, float]:
    """Return the bars of calls, given in instructions a multiply-accumulate."""
    return {shape: math.prod(shape) * bar for shape, bar in bars.items()}


def form(
    make: forms.Make,
    square: float,
    row: float,
    within: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Call:
    """Return the row of a form that is counted on the two small shapes alone."""
    return Call(make, SMALL, "call", bars=small(square, row), within=within)


def quantised(model: str, shape: Shape, macs: int, millions: float) -> Call:
    """Return the row of a whole model of `models.whole`, with its bar in millions of instructions."""
    return Call(forms.quantised_model(model), (shape,), "run", macs, {shape: 1e6 * millions}, only=BARS_ON)


# A vector is one row, so the small square is one row of it.
VECTOR: tuple[Shape, ...] = ((1, 8, 8), (1, 384, 384))
# Real layers of few rows, with a scale for each column.
FEW_ROWS: dict[Shape, float] = {(7, 384, 384): 0.100, (4, 768, 768): 0.085}

CALLS: dict[str, Call] = {
    "matmul": Call(
        forms.matmul(),
        SHAPES + CUBES + (NARROW, COLUMN),
        "MAC",
        bars=small(11.3, 26.5) | each({NARROW: 0.076, COLUMN: 0.2}),
    ),
    "matmul, out=": form(forms.matmul_out, 16, 31),
    "matmul, kernel=": form(forms.matmul_kernel, 16, 31),
    "matmul, num_threads=1": form(forms.matmul_threads, 16, 31),
    "matmul, in use_kernel": form(forms.matmul(), 16, 31, within=lambda: pyint8dot.use_kernel(forms.chosen())),
    "matmul, in num_threads(1)": form(forms.matmul(), 16, 31, within=lambda: pyint8dot.num_threads(1)),
    "matmul, a uint8": form(forms.matmul(a=forms.uint8), 16, 31),
    "matmul, b uint8": form(forms.matmul(b=forms.packed_uint8), 18, 33),
    "matmul, a and b uint8": form(forms.matmul(forms.uint8, forms.packed_uint8), 20, 35),
    "matmul, a 1-D": Call(forms.matmul(a=forms.vector), VECTOR, "call", bars=small(18, 33, VECTOR)),
    "matmul, a 3-D": form(forms.matmul(a=forms.stack), 18, 33),
    "matmul, b not packed": Call(
        forms.matmul(b=forms.int8),
        (*SMALL, (128, 384, 384), (512, 512, 512), COLUMN),
        "MAC",
        bars=small(30, 100) | each({COLUMN: 0.2}),
    ),
    "matmul, batch of 12": Call(
        forms.matmul(forms.batch, forms.batch), (BATCHED,), "MAC", 12 * math.prod(BATCHED), {BATCHED: 1_300_000}
    ),
    "matmul_integer": form(forms.matmul_integer, 16, 31),
    "matmul_integer, scalar zero points": form(forms.matmul_integer_scalars, 20, 35),
    "matmul_integer, a_zero_point per row": form(forms.matmul_integer_rows, 24, 38),
    "matmul_integer, b_zero_point per column": form(forms.matmul_integer_columns, 26, 42),
    "qlinear_matmul": Call(forms.qlinear_matmul(), SHAPES, "MAC", bars=small(14, 29)),
    "qlinear_matmul, fresh scalars": form(forms.qlinear_matmul_fresh, 18, 33),
    "qlinear_matmul, 0-d arrays": form(forms.qlinear_matmul_0d, 20, 35),
    "qlinear_matmul, b_scale per column": Call(
        forms.qlinear_matmul(forms.column_scales),
        (*SHAPES, *FEW_ROWS),
        "MAC",
        bars=small(20, 36) | each(FEW_ROWS),
    ),
    "qlinear_matmul, b_scale and b_zero_point=0 per column": form(
        forms.qlinear_matmul(forms.column_scales, forms.column_zeros), 24, 40
    ),
    "qlinear_matmul, b_scale and b_zero_point per column": form(
        forms.qlinear_matmul(forms.column_scales, forms.int8), 28, 44
    ),
    "linear": Call(forms.linear, SHAPES, "MAC", bars=small(19, 35)),
    "linear, no bias": form(forms.linear_plain, 17, 33),
    "linear, gelu": Call(forms.linear_gelu, (*SMALL, (128, 384, 1536)), "MAC", bars=small(20, 37)),
    "InferenceSession.run, MatMulInteger": form(forms.session_matmul_integer, 16 + SESSION, 31 + SESSION),
    "InferenceSession.run, QLinearMatMul": form(forms.session_qlinear_matmul, 20 + SESSION, 36 + SESSION),
    "InferenceSession.run, dynamic linear": form(forms.session_dynamic, *DYNAMIC_LINEAR),
    "Index.search": Call(
        forms.search,
        tuple(SEARCHES),
        "score",
        bars={shape: shape[0] * shape[2] * bar for shape, bar in SEARCHES.items()},
    ),
    "qlinear_conv, 3x3": Call(forms.conv, (CONV,), "MAC", 9 * 56 * 56 * 64 * 64, {CONV: 9_000_000}),
    "qlinear_conv, 3x3 of a small image": Call(
        forms.conv, (SMALL_CONV,), "MAC", 9 * 8 * 8 * 16 * 16, {SMALL_CONV: 100_000}
    ),
    "qlinear_conv, depthwise 3x3": Call(
        forms.depthwise, (DEPTHWISE,), "MAC", 9 * 112 * 112 * 32, {DEPTHWISE: 3_200_000}
    ),
    "pack": Call(forms.pack, ((1, 384, 1536),), "byte"),
    "pack, transposed": Call(forms.pack_transposed, ((1, 384, 1536),), "byte"),
    "MiniLM": Call(forms.whole_model("minilm-int8"), ((1, 128, 384),), "run", 1_358_954_496),
    "MiniLM.encode": Call(forms.encode, ((1, 128, 384),), "run", 1_358_954_496),
    "InceptionV1": Call(forms.whole_model("inceptionv1-s8s8"), ((3, 224, 224),), "run", 1_431_556_352),
    # Quantised by a tool that knows nothing of this package; the bar of the last is what onnxruntime takes.
    "MiniLM QDQ": quantised("minilm", (1, 128, 384), 1_358_954_496, 240),
    "ResNet50 QDQ": quantised("resnet50", (3, 224, 224), 4_089_184_256, 420),
    "ShuffleNet QDQ": quantised("shufflenet", (3, 224, 224), 137_000_000, 110),
}


def macs(call: str, shape: Shape) -> int:
    """Return the multiply-accumulates of one call, or what stands for its size where it makes none."""
    return CALLS[call].macs or math.prod(shape)


def work(call: str, shape: Shape) -> int:
    """Return the units of work in one call."""
    m, k, n = shape
    return {"MAC": macs(call, shape), "byte": k * n, "score": m * n, "call": 1, "run": 1}[CALLS[call].unit]


def passes(call: str, shape: Shape) -> tuple[int, int]:
    """Return how often a call is made before it is counted, and counted."""
    return (WARM_LARGE, REPEATS_LARGE) if macs(call, shape) > LARGE else (WARM, REPEATS)


def counted(kernel: str | None = None, largest: int = EVERYTHING) -> list[tuple[str, Shape]]:
    """Return the calls and shapes of at most `largest` multiply-accumulates that are counted on a kernel, or on any."""
    rows = [(call, row) for call, row in CALLS.items() if kernel is None or row.only in (None, kernel)]
    return [(call, shape) for call, row in rows for shape in row.shapes if macs(call, shape) <= largest]


def barred() -> list[tuple[str, Shape]]:
    """Return the calls and shapes that have a bar."""
    return [(call, shape) for call, row in CALLS.items() for shape in row.bars]


def key(call: str, kernel: str, shape: Shape) -> str:
    """Return the key of a count, such as ``matmul, out= sdot_8x8 8x8x8``."""
    return f"{call} {kernel} {'x'.join(map(str, shape))}"


def split(name: str) -> tuple[str, str, Shape]:
    """Return the call, the kernel and the shape of a key."""
    call, kernel, shape = name.rsplit(" ", 2)
    m, k, n = map(int, shape.split("x"))
    return call, kernel, (m, k, n)


def keys(kernels: list[str], largest: int = EVERYTHING) -> list[str]:
    """Return the key of every count."""
    return [key(call, kernel, shape) for kernel in kernels for call, shape in counted(kernel, largest)]


def main(kernels: list[str], largest: int) -> None:
    """Make all calls of the table on each kernel, in a child of its own that begins with everything imported."""
    if Path(pyint8dot.__file__).parents[1] != Path(__file__).resolve().parents[2]:
        raise SystemExit(f"{pyint8dot.__file__} would be counted, which is not of this checkout")
    importlib.import_module("pyint8dot.onnx.zoo")
    for kernel in kernels:
        child = os.fork()
        if not child:
            make(kernel, largest)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"the calls on {kernel} were not all made")
    print(json.dumps(keys(kernels, largest)))


def make(kernel: str, largest: int) -> None:
    """Make all calls on one kernel, which the environment chooses so that the calls themselves say nothing of it."""
    os.environ["PYINT8DOT_KERNEL"] = kernel
    if forms.chosen() != kernel:
        raise SystemExit(f"{kernel} was not chosen")
    marker = os.getppid
    for _ in range(2 * IDLE):
        marker()
    for name, shape in counted(kernel, largest):
        row = CALLS[name]
        warm, repeats = passes(name, shape)
        with row.within():
            call = row.make(*shape)
            for _ in range(warm):
                call()
            for _ in range(repeats):
                marker()
                call()
                marker()


if __name__ == "__main__":
    main(sys.argv[2:], int(sys.argv[1]))
