"""Programs for the entry ``run``: the words of a head, and one method for each entry of the library.

A program is a string of bytes: a head, then a record for each entry to call. What an argument is, a number, the address of
an array that the program keeps alive, or a word of the head that is known only when it runs, is said here by name and
encoded in one place; the contract at the head of ``asm/run.S`` has the bits, and a test holds each method below against the
contract of its entry.
"""

from __future__ import annotations

import inspect
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.library import address

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["FLIP", "STACK_SCRATCH", "Program", "Word"]

#: Moves uint8 to int8 when a packer xors it into every word.
FLIP = 0x80808080

#: Bytes of scratch that a program finds on the stack.
STACK_SCRATCH = 16384

#: Words of the head and of a record; fields of a record.
WORDS, FIELDS = 16, 14

#: Where the head says where the records lie, if not behind it, and which of its words are array objects.
RECORDS, OBJECTS = 14, 15

END = bytes(8)

_ZEROS = (0,) * FIELDS

_record = struct.Struct(f"{WORDS}q").pack
_objects = struct.Struct("II").pack


class Word(NamedTuple):
    """A word of the head, and what is added to it."""

    number: int
    offset: int = 0

    def plus(self, offset: int) -> Word:
        """The same with so much more added to it."""
        return Word(self.number, self.offset + offset)


# What a program may find in its head. The words that change from call to call come first.
(
    LEFT,
    RESULT,
    ROWS,
    LEFT_STRIDE_K,
    LEFT_STRIDE_M,
    SCRATCH,
    FIRST,
    SECOND,
    RIGHT,
    RIGHT_STRIDE_K,
    RIGHT_STRIDE_N,
    STATUS,
) = map(Word, range(12))

#: A number, an array whose address it is, a word of the head, or nothing, which is a null pointer.
Argument: TypeAlias = "int | NDArray[Any] | Word | None"


class Program:
    """The records of a program in the order they run.

    Every method is an entry of the library and takes its arguments by the names of its contract.
    """

    def __init__(self) -> None:
        self._records: list[bytes] = []
        #: What the records point to and somebody has to keep alive.
        self.keep: list[NDArray[Any]] = []
        #: The entry of the last record.
        self._last = ""

    def _add(self, entry: str, *arguments: Argument) -> None:
        self._last = entry
        fields = []
        kinds = 0
        for argument in arguments:
            kind = type(argument)
            if kind is int:
                fields.append(argument)
            elif kind is Word:
                number, offset = argument  # type: ignore[misc]  # a tuple of two
                kinds |= (1 + number) << 4 * len(fields)
                fields.append(offset)
            elif argument is None:
                fields.append(0)
            else:
                assert isinstance(argument, np.ndarray)  # noqa: S101 - nothing else is an argument
                fields.append(address(argument))
                self.keep.append(argument)
        # The kinds fill 56 bits, so the word is not negative.
        missing = FIELDS - len(fields)
        self._records.append(_record(library.load().addresses[entry], *fields, *_ZEROS[:missing], kinds))

    def repeat(self, times: int, **steps: int) -> None:
        """Make the last record one of `times`, in each of which the arguments named here are so much more than in the one before."""
        names = list(inspect.signature(getattr(self, self._last)).parameters)
        records = np.tile(np.frombuffer(self._records.pop(), np.int64), (times, 1))
        for name, step in steps.items():
            records[:, 1 + names.index(name)] += step * np.arange(times)
        self._records.append(records.tobytes())

    def repeat_all(self, times: int, moves: dict[Word, int]) -> None:
        """Make all records so far `times` as many, what they find by a word of `moves` being so much further on each time."""
        records = np.frombuffer(b"".join(self._records), np.int64).reshape(-1, WORDS)
        every = np.tile(records, (times, 1, 1))
        turn = np.arange(times)[:, None]
        for field in range(FIELDS):
            kinds = records[:, -1] >> 4 * field & 15
            for word, step in moves.items():
                every[:, kinds == 1 + word.number, 1 + field] += step * turn
        self._records = [every.tobytes()]

    def tail(self, given: int, objects: tuple[Word, ...] = ()) -> bytes:
        """All of the program behind the first `given` words of its head, of which some are array objects."""
        bits = sum(1 << word.number for word in objects)
        return bytes(8 * (OBJECTS - given)) + _objects(bits, library.DATA_OFFSET) + self.records()

    def records(self) -> bytes:
        """The program without its head."""
        return b"".join(self._records) + END

    def run(self) -> int:
        """Run a program that needs no word of its head, and return its status."""
        status: int = run_entry()(self.tail(0))
        return status

    # The products.

    def multiply(
        self, kernel: str, *, a: Argument, b: Argument, c: Argument, ldc: Argument, m: Argument, n: Argument, k: Argument,
        row_start: Argument = None, col_start: Argument = None,
    ) -> None:  # fmt: skip
        """``C = A @ B + row_start + col_start`` of packed operands, by the entry of a kernel."""
        self._add(kernel, a, b, c, ldc, m, n, k, row_start, col_start)

    def multiply_rows(
        self, kernel: str, *, a: Argument, b: Argument, c: Argument, ldc: Argument, m: Argument, n: Argument, k: Argument,
        row_start: Argument = None, col_start: Argument = None, lda: Argument, flip: Argument,
    ) -> None:  # fmt: skip
        """The same of a left operand as it lies, its rows `lda` bytes apart, by the entry of a kernel for few columns."""
        self._add(kernel, a, b, c, ldc, m, n, k, row_start, col_start, lda, flip)

    def multiply_planes(
        self, entry: str, *, a: Argument, b: Argument, c: Argument, ldc: Argument, m: Argument, n: Argument, k: Argument,
        row_start: Argument, plane: Argument, runs: Argument, count: Argument,
    ) -> None:  # fmt: skip
        """``C = A @ B + row_start`` of a right operand in planes, read where each run of K groups begins, by an entry for that."""
        self._add(entry, a, b, c, ldc, m, n, k, row_start, plane, runs, count)

    def add_outer(self, *, c: Argument, ldc: Argument, m: Argument, n: Argument, u: Argument, v: Argument) -> None:
        """``C[i][j] += u[i] * v[j]`` in int32."""
        self._add("add_outer", c, ldc, m, n, u, v)

    def column_start(
        self, *, start: Argument, base: Argument, n: Argument, zero_point: Argument, flip: Argument, v: Argument
    ) -> None:
        """What sums start from per column, for a zero point of the left operand that is known only when the program runs."""
        self._add("column_start", start, base, n, zero_point, flip, v)

    def depthwise(
        self, *, x: Argument, y: Argument, ld_x: Argument, ld_y: Argument, m: Argument, n: Argument, taps: Argument,
        offsets: Argument, weights: Argument, start: Argument, scale: Argument, zero_point: Argument, unsigned: Argument,
    ) -> None:  # fmt: skip
        """The convolution of one channel with a window of its own, requantised where there is a scale."""
        self._add("depthwise", x, y, ld_x, ld_y, m, n, taps, offsets, weights, start, scale, zero_point, unsigned)

    def depthwise_sdot(
        self, *, x: Argument, y: Argument, ld_x: Argument, ld_y: Argument, m: Argument, n: Argument, taps: Argument,
        offsets: Argument, weights: Argument, start: Argument, scale: Argument, zero_point: Argument, unsigned: Argument,
        pattern: Argument,
    ) -> None:  # fmt: skip
        """The same of taps in groups of four, which the pattern takes out of the pixels; for FEAT_DotProd."""
        self._add(
            "depthwise_sdot", x, y, ld_x, ld_y, m, n, taps, offsets, weights, start, scale, zero_point, unsigned, pattern
        )  # fmt: skip

    def depthwise_f32(
        self, *, x: Argument, y: Argument, ld_x: Argument, ld_y: Argument, m: Argument, n: Argument, step: Argument,
        taps: Argument, offsets: Argument, weights: Argument, start: Argument,
    ) -> None:  # fmt: skip
        """The convolution of one channel of float32 with a window of its own."""
        self._add("depthwise_f32", x, y, ld_x, ld_y, m, n, step, taps, offsets, weights, start)

    # What packs.

    def copy_planes(
        self, *, x: Argument, y: Argument, planes: Argument, rows: Argument, n: Argument, plane_x: Argument,
        plane_y: Argument, row_x: Argument, row_y: Argument, step: Argument, flip: Argument,
    ) -> None:  # fmt: skip
        """Bytes of planes of rows, some of each row, or the same one for all of a row, to where they lie otherwise."""
        self._add("copy_planes", x, y, planes, rows, n, plane_x, plane_y, row_x, row_y, step, flip)

    def interleave(
        self, entry: str, *, x: Argument, y: Argument, groups: Argument, rows: Argument, n: Argument, plane_x: Argument,
        plane_y: Argument, row_x: Argument, row_y: Argument, step: Argument, flip: Argument,
    ) -> None:  # fmt: skip
        """The same of the channels of an image, a K group of them side by side in each pixel, by the entry for that group."""
        self._add(entry, x, y, groups, rows, n, plane_x, plane_y, row_x, row_y, step, flip)

    def pack(
        self, packer: str | None, *, source: Argument, packed: Argument, k: Argument, mn: Argument, stride_k: Argument,
        stride_mn: Argument, split: Argument, flip: Argument,
    ) -> None:  # fmt: skip
        """Pack a strided matrix, by the packer of a layout."""
        assert packer is not None  # noqa: S101 - a layout that the library packs
        self._add(packer, source, packed, k, mn, stride_k, stride_mn, split, flip)

    def gather(
        self, gatherer: str | None, *, base: Argument, packed: Argument, k: Argument, mn: Argument, table: Argument
    ) -> None:
        """Pack rows that lie anywhere, by the gatherer of a layout."""
        assert gatherer is not None  # noqa: S101 - the layout of a right operand
        self._add(gatherer, base, packed, k, mn, table)

    def quantize_rows(
        self, *, x: Argument, q: Argument, ld_x: Argument, ld_q: Argument, m: Argument, k: Argument, scale: Argument, status: Argument,
    ) -> None:  # fmt: skip
        """float32 rows to int8 rows and their scales."""
        self._add("quantize_rows", x, q, ld_x, ld_q, m, k, scale, status)

    def dynamic_quantize(
        self, *, x: Argument, y: Argument, m: Argument, k: Argument, scale: Argument, zero_point: Argument, status: Argument,
    ) -> None:  # fmt: skip
        """float32 values to uint8 codes, and the scale and zero point that their range asks for."""
        self._add("dynamic_quantize", x, y, m, k, scale, zero_point, status)

    # Functions of single values.

    def quantize_linear(
        self, *, x: Argument, y: Argument, n: Argument, scale: Argument, zero_point: Argument, unsigned: Argument
    ) -> None:
        """float32 values to int8 or uint8 codes by one scale and zero point."""
        self._add("quantize_linear", x, y, n, scale, zero_point, unsigned)

    def dequantize_linear(
        self, *, x: Argument, y: Argument, n: Argument, scale: Argument, zero_point: Argument, unsigned: Argument
    ) -> None:
        """int8 or uint8 codes to float32 values by one scale and zero point."""
        self._add("dequantize_linear", x, y, n, scale, zero_point, unsigned)

    def lookup(self, *, x: Argument, y: Argument, n: Argument, table: Argument) -> None:
        """Bytes to what a table of 256 has for them."""
        self._add("lookup", x, y, n, table)

    def combine(
        self, *, a: Argument, b: Argument, y: Argument, ld_b: Argument, m: Argument, n: Argument, scales: Argument,
        a_zero: Argument, b_zero: Argument, y_zero: Argument, unsigned: Argument, form: Argument,
    ) -> None:  # fmt: skip
        """Sums or products of what int8 or uint8 codes stand for, or of that and float32 values, to codes again."""
        self._add("combine", a, b, y, ld_b, m, n, scales, a_zero, b_zero, y_zero, unsigned, form)

    def hard_sigmoid(self, *, x: Argument, y: Argument, n: Argument, line: Argument, times: Argument) -> None:
        """Points of a line, at 0 and 1 beyond them, maybe times the values themselves."""
        self._add("hard_sigmoid", x, y, n, line, times)

    # Windows, and neighbouring channels.

    def max_pool(
        self, entry: str, *, x: Argument, y: Argument, planes: Argument, geometry: Argument, line: Argument
    ) -> None:
        """The maxima of windows over planes, by the entry for the kind of value."""
        self._add(entry, x, y, planes, geometry, line)

    def average_pool(
        self, *, x: Argument, y: Argument, planes: Argument, geometry: Argument, factors: Argument, zero_point: Argument,
        flip_x: Argument, flip_y: Argument, line: Argument,
    ) -> None:  # fmt: skip
        """The sums of windows over planes of codes, by float32 factors to codes again."""
        self._add("average_pool", x, y, planes, geometry, factors, zero_point, flip_x, flip_y, line)

    def lrn(
        self, *, x: Argument, y: Argument, channels: Argument, n: Argument, before: Argument, after: Argument,
        alpha: Argument, bias: Argument, squares: Argument,
    ) -> None:  # fmt: skip
        """Local response normalisation with the power of three quarters."""
        self._add("lrn", x, y, channels, n, before, after, alpha, bias, squares)

    # What turns sums into results.

    def column_scale(self, *, x: Argument, y: Argument, n: Argument, scale: Argument) -> None:
        """Factors per column, times a scale that is known only when the program runs."""
        self._add("column_scale", x, y, n, scale)

    def requantize(
        self, *, acc: Argument, y: Argument, ld_acc: Argument, ld_y: Argument, m: Argument, n: Argument, scale: Argument,
        row_step: Argument, per_column: Argument, zero_point: Argument, unsigned: Argument,
    ) -> None:  # fmt: skip
        """int32 to int8 or uint8 by float32 factors."""
        self._add("requantize", acc, y, ld_acc, ld_y, m, n, scale, row_step, per_column, zero_point, unsigned)

    def dequantize(
        self, *, acc: Argument, y: Argument, ld_acc: Argument, ld_y: Argument, m: Argument, n: Argument,
        row_scale: Argument, row_step: Argument, col_scale: Argument, bias: Argument, act: Argument,
        ld_bias: Argument = 0,
    ) -> None:  # fmt: skip
        """int32 to float32 by scales per row and per column, bias and activation."""
        self._add("dequantize", acc, y, ld_acc, ld_y, m, n, row_scale, row_step, col_scale, bias, act, ld_bias)

    def q_scale(
        self, *, acc: Argument, y: Argument, ld_acc: Argument, ld_y: Argument, m: Argument, n: Argument,
        multiplier: Argument, shift: Argument, policy: Argument, zero_point: Argument, low: Argument, high: Argument,
    ) -> None:  # fmt: skip
        """int32 to int8 by tract's fixed-point chain."""
        self._add("q_scale", acc, y, ld_acc, ld_y, m, n, multiplier, shift, policy, zero_point, low, high)

    def keep_above(
        self, *, acc: Argument, ld_acc: Argument, m: Argument, n: Argument, col_scale: Argument, row_scale: Argument,
        least: Argument, counts: Argument, scores: Argument, columns: Argument, room: Argument, position: Argument,
        status: Argument,
    ) -> None:  # fmt: skip
        """int32 to the float32 scores that exceed what their row asks for, and the numbers of their columns."""
        self._add(
            "keep_above", acc, ld_acc, m, n, col_scale, row_scale, least, counts, scores, columns, room, position, status
        )  # fmt: skip

    # Functions of float32 rows.

    def attention(
        self, *, q: Argument, k: Argument, v: Argument, y: Argument, mask: Argument, scale: Argument, geometry: Argument,
        scratch: Argument,
    ) -> None:  # fmt: skip
        """Softmax to the base 2 of products of queries and keys, times the values, head by head."""
        self._add("attention", q, k, v, y, mask, scale, geometry, scratch)

    def exp2_terms(
        self, *, x: Argument, y: Argument, ld_x: Argument, ld_y: Argument, m: Argument, n: Argument, scale: Argument, sums: Argument,
    ) -> None:  # fmt: skip
        """Numerators and sums of a softmax."""
        self._add("exp2_terms", x, y, ld_x, ld_y, m, n, scale, sums)

    def layer_norm(
        self, *, x: Argument, y: Argument, ld_x: Argument, ld_y: Argument, m: Argument, n: Argument, weight: Argument,
        bias: Argument, eps: Argument, residual: Argument = None, ld_residual: Argument = 0, factor: Argument = None,
        z: Argument = None, ld_z: Argument = 0,
    ) -> None:  # fmt: skip
        """Layer normalisation, of a sum with a residual where there is one; the same times a factor where there is one."""
        self._add(
            "layer_norm", x, y, ld_x, ld_y, m, n, weight, bias, eps, residual, ld_residual, factor, z, ld_z
        )  # fmt: skip

    def divide_rows(
        self, *, x: Argument, y: Argument, m: Argument, n: Argument, divisor: Argument, root: Argument
    ) -> None:
        """Each row by a number of its own, or by the root of it."""
        self._add("divide_rows", x, y, m, n, divisor, root)

    def deviations(self, *, x: Argument, y: Argument, m: Argument, n: Argument, variance: Argument) -> None:
        """Distances to the mean of the row, and the mean of their squares."""
        self._add("deviations", x, y, m, n, variance)

    def product_f32(
        self, *, a: Argument, b: Argument, y: Argument, start: Argument, ld_a: Argument, ld_y: Argument, ld_start: Argument,
        m: Argument, k: Argument, panels: Argument,
    ) -> None:  # fmt: skip
        """Rows times panels of 16 columns, added to what there is, each sum a chain of fused multiply-adds."""
        self._add("product_f32", a, b, y, start, ld_a, ld_y, ld_start, m, k, panels)

    def lstm(
        self, *, x: Argument, y: Argument, r: Argument, h: Argument, c: Argument, lengths: Argument, steps: Argument, batch: Argument,
        units: Argument, step_x: Argument, step_y: Argument, ld_x: Argument, ld_y: Argument, time: Argument,
    ) -> None:  # fmt: skip
        """The steps of an LSTM in one direction, from the sums that its inputs have."""
        self._add("lstm", x, y, r, h, c, lengths, steps, batch, units, step_x, step_y, ld_x, ld_y, time)


#: The methods whose entry has their own name; kernels, packers and gatherers are named by their rows.
OWN_ENTRIES = (
    "add_outer", "depthwise", "depthwise_sdot", "depthwise_f32", "copy_planes", "column_start", "column_scale", "quantize_rows", "dynamic_quantize",
    "requantize", "dequantize", "quantize_linear", "dequantize_linear", "lookup", "combine", "hard_sigmoid", "average_pool", "lrn", "q_scale", "keep_above", "attention",
    "exp2_terms", "divide_rows", "layer_norm", "deviations", "product_f32", "lstm",
)  # fmt: skip
#: Maxima of windows, by type.
MAX_POOLS = {np.dtype(np.int8): "max_pool_i8", np.dtype(np.uint8): "max_pool_u8", np.dtype(np.float32): "max_pool_f32"}
library.require("run", *OWN_ENTRIES, *MAX_POOLS.values())


def run_entry() -> Callable[[bytes], int]:
    """The entry that runs a program."""
    return library.load().run
