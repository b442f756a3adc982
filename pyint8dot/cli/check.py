"""``python -m pyint8dot check``: every kernel that this processor runs, against definitions in numpy's own integers.

The definitions share nothing with the kernels: products are numpy's in 64 bits, and what becomes of them is
`pyint8dot.epilogue`. Shapes go through the edges of each kernel's tile and K group, values are the extremes of their types.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot import epilogue
from pyint8dot.arguments import RANGES, Values
from pyint8dot.cli import tables
from pyint8dot.conv import conv_integer
from pyint8dot.engine.dispatch import kernel_info, supported
from pyint8dot.engine.kernels import EXACT_K, KERNELS, Kernel
from pyint8dot.engine.packing import pack
from pyint8dot.errors import KernelError
from pyint8dot.linear import linear
from pyint8dot.matmul import matmul
from pyint8dot.qlinear import matmul_integer, qlinear_matmul
from pyint8dot.quantize import quantize_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHECKS", "main"]

SEED = 1
TYPES = tuple(RANGES)
#: Both operands' types, in every combination.
PAIRS = tuple(itertools.product(TYPES, TYPES))


class Case(NamedTuple):
    """One call: what it was, what came of it, and what should have."""

    what: str
    got: Values
    want: Values


@dataclass
class Outcome:
    """What the cases of one check gave."""

    cases: int = 0
    different: int = 0
    #: The first case that differs, in words.
    first: str = ""

    def add(self, case: Case) -> None:
        """Compare one case, to the last bit."""
        self.cases += 1
        what, got, want = case
        if got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes():
            return
        self.different += 1
        if not self.first:
            self.first = f"{what}: {difference(got, want)}"

    def __str__(self) -> str:
        return f"{self.different:,} of {self.cases:,} WRONG" if self.different else f"{self.cases:,} exact"


def difference(got: Values, want: Values) -> str:
    """The first element that differs, in words."""
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        return f"{got.dtype} of shape {got.shape} instead of {want.dtype} of shape {want.shape}"
    # As bytes, which tell signed zeros and NaN apart.
    size = want.dtype.itemsize
    bytes_apart = np.frombuffer(got.tobytes(), np.uint8) != np.frombuffer(want.tobytes(), np.uint8)
    at = np.unravel_index(int(bytes_apart.argmax()) // size, want.shape)
    place = ", ".join(map(str, at))
    return f"[{place}] is {got[at]} instead of {want[at]}"


def main(arguments: list[str]) -> int:
    """Check every kernel and print a table.

    Parameters
    ----------
    arguments : list of str
        See ``--help``.

    Returns
    -------
    int
        Exit code: 0 where every result is exact, 1 where one differs, 2 where the environment asks for a kernel that does not run here.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pyint8dot check",
        description="Compare every kernel that this processor runs with numpy's 64-bit integers, on the extremes of int8 and uint8 and "
        "shapes around the kernel's tile. Exit code 1 says that a result differs.",
    )
    parser.parse_args(arguments)
    try:
        return run(supported())
    except KernelError as error:  # the environment asks for a kernel that does not run here
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(names: tuple[str, ...]) -> int:
    """Check kernels by their names, print the table, and return the exit code."""
    info = kernel_info()
    print(f"pyint8dot {info['version']} on {info['machine']}; {info['chosen']} is chosen, because {info['why']}")
    start = time.perf_counter()
    found = {name: {check: _outcome(cases, KERNELS[name]) for check, cases in CHECKS.items()} for name in names}
    seconds = time.perf_counter() - start
    tables.heading("calls and what came of them, bit for bit")
    tables.table(["kernel", *CHECKS], [[name, *row.values()] for name, row in found.items()])
    every = [(name, check, outcome) for name, row in found.items() for check, outcome in row.items()]
    for name, check, outcome in every:
        if outcome.different:
            print(f"{name}, {check}: {outcome.first}")
    wrong = sum(outcome.different for *_, outcome in every)
    total = sum(outcome.cases for *_, outcome in every)
    print(
        f"\n{f'{wrong:,} of {total:,} calls are WRONG' if wrong else f'all {total:,} calls are exact'}, in {seconds:.1f} s"
    )
    return 1 if wrong else 0


def _outcome(cases: Callable[[Kernel, np.random.Generator], Iterator[Case]], kernel: Kernel) -> Outcome:
    outcome = Outcome()
    for case in cases(kernel, np.random.default_rng(SEED)):
        outcome.add(case)
    return outcome


# Operands.

FILLS = ("lowest", "highest", "alternating", "random")


def filled(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any], fill: str) -> Values:
    """An array of the least or the greatest values of a type, of both by turns, or of any."""
    low, high = RANGES[dtype]
    if fill == "random":
        return rng.integers(low, high + 1, shape, dtype)
    if fill == "alternating":
        return np.resize(np.array([low, high], dtype), shape)
    return np.full(shape, low if fill == "lowest" else high, dtype)


def edges(kernel: Kernel) -> list[tuple[int, int, int]]:
    """Shapes (m, k, n) through the edges of a kernel's tile and K group, and of those of its companions."""
    few = [each.most_columns for each in kernel.few]
    rows = {
        1,
        kernel.mr - 1,
        kernel.mr,
        kernel.mr + 1,
        2 * kernel.mr + 3,
        *(each.least_rows + 1 for each in kernel.few),
    }
    columns = {1, kernel.nr - 1, kernel.nr, kernel.nr + 1, 2 * kernel.nr + 3, *few, *(n + 1 for n in few)}
    groups = {each.right.kr for each in (kernel, *kernel.few)}
    depths = {1, 5 * max(groups) + 3, *(group + step for group in groups for step in (-1, 0, 1))}
    return [shape for shape in itertools.product(sorted(rows), sorted(depths), sorted(columns)) if min(shape) > 0]


def product(a: Values, b: Values, za: Any = 0, zb: Any = 0) -> Values:
    """The definition of every product: numpy's 64-bit integers, modulo 2**32."""
    wide: Values = np.matmul(a.astype(np.int64) - za, b.astype(np.int64) - zb)
    return wide.astype(np.int32)


# The checks, each a generator of cases.


def products(kernel: Kernel, rng: np.random.Generator) -> Iterator[Case]:
    """`matmul`: every shape, extremes in every combination, the longest K that is exact, more than one thread."""
    turns = itertools.cycle(itertools.product(FILLS, PAIRS, FILLS))
    for (m, k, n), (left, types, right) in zip(edges(kernel), turns, strict=False):
        a, b = filled(rng, (m, k), types[0], left), filled(rng, (k, n), types[1], right)
        what = f"matmul {m}x{k}x{n}, a {types[0]} {left}, b {types[1]} {right}"
        want = product(a, b)
        yield Case(what, matmul(a, b, kernel=kernel.name), want)
        yield Case(f"{what}, packed", matmul(a, pack(b, kernel=kernel.name), kernel=kernel.name), want)
    m, k, n = kernel.mr + 1, 4 * kernel.right.kr + 3, kernel.nr + 1
    for types, left, right in itertools.product(PAIRS, FILLS, FILLS):
        a, b = filled(rng, (m, k), types[0], left), filled(rng, (k, n), types[1], right)
        what = f"matmul {m}x{k}x{n}, a {types[0]} {left}, b {types[1]} {right}"
        yield Case(what, matmul(a, b, kernel=kernel.name), product(a, b))
    for fill in FILLS:
        a, b = filled(rng, (2, EXACT_K), TYPES[0], fill), filled(rng, (EXACT_K, 1), TYPES[0], fill)
        b = np.broadcast_to(b, (EXACT_K, kernel.nr + 1))
        yield Case(f"matmul of K = {EXACT_K}, {fill}", matmul(a, b, kernel=kernel.name), product(a, b))
    a, b = filled(rng, (257, 129), TYPES[1], "random"), filled(rng, (129, 131), TYPES[0], "random")
    yield Case("matmul on 3 threads", matmul(a, pack(b), kernel=kernel.name, num_threads=3), product(a, b))


def zero_points(kernel: Kernel, rng: np.random.Generator) -> Iterator[Case]:
    """`matmul_integer`: zero points at the ends of their types, for all, per row and per column."""
    m, k, n = kernel.mr + 1, 2 * kernel.right.kr + 1, kernel.nr + 1
    for (left, right), fill in itertools.product(PAIRS, FILLS):
        a, b = filled(rng, (m, k), left, fill), filled(rng, (k, n), right, fill)
        packed = pack(b)
        rows, columns = filled(rng, (m,), left, "random"), filled(rng, (n,), right, "random")
        ends: Iterator[tuple[Any, Any]] = itertools.product((*RANGES[left], rows), (*RANGES[right], columns))
        for za, zb in ends:
            subtracted = za[:, None] if isinstance(za, np.ndarray) else za
            got = matmul_integer(a, packed, za, zb, kernel=kernel.name)
            yield Case(
                f"matmul_integer of {left} and {right} {fill}, less {za} and {zb}", got, product(a, b, subtracted, zb)
            )


def requantised(kernel: Kernel, rng: np.random.Generator) -> Iterator[Case]:
    """`qlinear_matmul`: scales that meet ties and saturate, per tensor and per column, to both types."""
    m, k, n = kernel.mr + 1, 3 * kernel.right.kr + 1, 2 * kernel.nr + 1
    bias = rng.integers(-9999, 9999, n, np.int32)
    columns = rng.uniform(1e-4, 1.0, n).astype(np.float32)
    for (left, right), fill, scale in itertools.product(PAIRS, FILLS, (np.float32(0.5), np.float32(1e-3), columns)):
        a, b = filled(rng, (m, k), left, fill), filled(rng, (k, n), right, fill)
        for dtype, start in itertools.product(TYPES, (None, bias)):
            zero = dtype.type(RANGES[dtype][1] - 3)
            one = np.float32(1)
            got = qlinear_matmul(a, one, 5, b, scale, 7, one, zero, bias=start, kernel=kernel.name)
            sums = product(a, b, 5, 7) + (0 if start is None else start)
            want = epilogue.requantize(sums, scale, int(zero), dtype)
            yield Case(f"qlinear_matmul of {left} and {right} {fill} to {dtype}", got, want)


def layers(kernel: Kernel, rng: np.random.Generator) -> Iterator[Case]:
    """`linear`: rows of zeros, tiny and huge ones, with every activation."""
    for m, k, n in edges(kernel)[::7]:
        x = rng.standard_normal((m, k)).astype(np.float32)
        x[:: max(2, m // 2)] *= np.float32(1e30)
        x[-1] *= 0
        w, scale = filled(rng, (k, n), TYPES[0], "random"), rng.uniform(1e-3, 1, n).astype(np.float32)
        bias = rng.standard_normal(n).astype(np.float32)
        codes, units = quantize_rows(x)
        for act, shift in itertools.product(epilogue.ACTIVATIONS, (None, bias)):
            got = linear(x, pack(w), w_scale=scale, bias=shift, act=act, kernel=kernel.name)
            want = epilogue.dequantize(product(codes, w), units, scale, shift, act)
            yield Case(f"linear {m}x{k}x{n}, act={act!r}", got, want)


def convolutions(kernel: Kernel, rng: np.random.Generator) -> Iterator[Case]:
    """`conv_integer`: windows, strides and padding, in one group, in two, and depthwise."""
    for (channels, out, group), window, stride, types in itertools.product(
        ((1, 1, 1), (3, 9, 1), (8, 8, 2), (17, 17, 17)), (1, 3), (1, 2), PAIRS
    ):
        x = filled(rng, (2, channels, 9, 11), types[0], "random")
        w = filled(rng, (out, channels // group, window, window), types[1], "random")
        edge = [window // 2] * 4
        got = conv_integer(x, w, 3, 5, strides=[stride] * 2, pads=edge, group=group, kernel=kernel.name)
        want = convolved(x.astype(np.int64) - 3, w.astype(np.int64) - 5, stride, window // 2, group)
        yield Case(f"conv_integer of {channels} channels of {types[0]} in {group} groups, window {window}", got, want)


def convolved(x: Values, w: Values, stride: int, pad: int, group: int) -> Values:
    """The definition of a convolution: a product for each place of the window."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    places = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    images, filters = np.split(places, group, axis=1), np.split(w, group)
    parts = [np.einsum("bcyxij,ocij->boyx", image, each) for image, each in zip(images, filters, strict=True)]
    return np.concatenate(parts, axis=1).astype(np.int32)


CHECKS: dict[str, Callable[[Kernel, np.random.Generator], Iterator[Case]]] = {
    "matmul": products,
    "zero points": zero_points,
    "qlinear_matmul": requantised,
    "linear": layers,
    "convolution": convolutions,
}
"""What is checked, by the name that the table has for it."""
