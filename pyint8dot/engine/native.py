"""Plans on the native library: a program of packing, product, zero points and epilogue, written once and run block by block."""

from __future__ import annotations

import functools
import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine import blocks, builtin, library, program, tape, threads
from pyint8dot.engine.blocks import EXTENDED, Written, take
from pyint8dot.engine.blocks import pack_extended as _extended
from pyint8dot.engine.library import address
from pyint8dot.engine.moves import contiguous
from pyint8dot.engine.packers import FEW_BYTES
from pyint8dot.engine.plan import CALL, COLUMN, ROW, overlaps
from pyint8dot.engine.recipe import Key

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyint8dot.engine.plan import Array, Extra
    from pyint8dot.engine.recipe import Recipe

__all__ = ["BOTH", "NativePlan", "pack_both"]

# The words of a head that change: those of the commonest call, and those of one that brings B as well; see also `Written.run`.
PLAIN, BOTH = 5, 11
_plain, pack_both = (struct.Struct(f"{count}q").pack for count in (PLAIN, BOTH))

#: Programs kept with one plan: results whose rows lie in many ways must not fill the memory.
MOST_PROGRAMS = 64

#: Shape and type of operands that a program does not read.
NOTHING = ((None, None, None), (None, None, None))

# Named here, since the commonest call is mostly look-ups.
_array, _empty = np.ndarray, np.empty
_tapes = tape.TAPES


class Single(NamedTuple):
    """A program for one block behind the words of its head that change, its scratch, and what keeps alive what it points to."""

    tail: bytes
    scratch: int
    written: Written


class Places(NamedTuple):
    """Where the arrays of a call lie; 0 for those there are none of."""

    left: int
    result: int
    first: int
    second: int


class NativePlan:
    """A product on a native kernel: see `pyint8dot.engine.plan.Plan`."""

    __slots__ = (
        "_block", "_built", "_few", "_first_shape", "_first_strides", "_first_type", "_held", "_holding", "_item", "_kept", "_ld",
        "_letting_go", "_most", "_objects", "_otherwise", "_plain", "_programs", "_records", "_run", "_second_shape",
        "_second_strides", "_second_type", "_singles", "_small", "_strict", "_unshared", "_whole", "_words", "dtype", "k", "n",
        "recipe", "tall",
    )  # fmt: skip

    def __init__(self, recipe: Recipe, otherwise: Callable[[], NativePlan] | None = None) -> None:
        #: What makes the plan for a left operand whose K is not contiguous, where this one reads it as it lies.
        self._otherwise = otherwise
        #: The plan that takes the place of this one for so many rows and more, if K is contiguous.
        self.tall: tuple[int, Callable[[], NativePlan]] | None = None
        #: What its programs are written by.
        self.recipe = recipe
        kernel, right, left = recipe.kernel, recipe.right, recipe.left
        self.k, self.n, self._item = recipe.k, right.n, recipe.operand.itemsize
        self.dtype = recipe.dtype
        self._ld = self.n * self.dtype.itemsize
        self._objects = recipe.objects
        wanted = [_wanted(extra, self.n) for extra in recipe.extras]
        first, second = [*wanted, *NOTHING][:2]
        self._first_shape, self._first_type, self._first_strides = first
        self._second_shape, self._second_type, self._second_strides = second
        # Which words of the head change from call to call.
        self._words = BOTH if right.packed is None else EXTENDED if recipe.extras else PLAIN
        self._plain = self._words == PLAIN
        #: Whether K must be contiguous.
        self._strict = left is not None or not kernel.packs_left
        #: Rows of A that are so few bytes that they are best packed as they lie; none where K must be contiguous in any case.
        self._few = 0 if left is not None else FEW_BYTES // max(1, self.k)
        self._whole = left is not None and left.whole
        self._run = program.run_entry()
        self._programs: dict[Key, Written] = {}
        #: The programs of single blocks, by rows.
        self._singles: dict[int, Single] = {}
        # Where B comes with each call it is packed once per block, so that few blocks are better than small ones.
        near = kernel.left.depth(right.k) if kernel.packs_left and right.packed is not None else 0
        self._block = blocks.block_rows(kernel, recipe.row_bytes, near, self.k * self.n)
        # The smallest products find their scratch on the stack, where a call costs least, and run on a builtin.
        self._most = recipe.rows_within(program.STACK_SCRATCH) if library.LAYOUT_KNOWN else -1
        row_macs = max(1, self.k * self.n)
        #: Rows of which a single thread is enough, whoever has more.
        self._unshared = (2 * blocks.LEAST_WORK - 1) // row_macs
        #: Rows for a builtin, and of them those for the one that holds the lock.
        self._built, self._held, self._small, self._records = -1, -1, b"", b""
        quick = builtin.quick()
        if self._most >= 0:
            written = self._program(Key(self._most, 0, self.n, self._ld))
            self._small = written.tail(self._words, self._objects)
            # What it points to must outlive the programs that are let go.
            self._kept = written
            if quick is not None and right.packed is not None:
                self._built = self._most
                self._held = min(self._most, builtin.HELD_CYCLES * kernel.rate // row_macs)
                self._holding, self._letting_go = map(tuple, quick)
                self._records = written.records()

    def _program(self, key: Key) -> Written:
        """The program for `key`, written when it is first asked for."""
        found = self._programs.get(key)
        if found is None:
            if len(self._programs) >= MOST_PROGRAMS:
                self._programs.clear()
            found = self._programs[key] = self.recipe.write(key)
        return found

    def offer(
        self, a: Array, out: Array | None, count: int, first: Array | None = None, second: Array | None = None
    ) -> Array | None:
        """Serve as `Plan.offer`."""
        shape = a.shape
        rank = len(shape)
        n = self.n
        built = False
        wrong: Any
        result: tuple[int, ...]
        if rank == 2:
            m, k = shape
            result = (m, n)
            if self.tall is None or m < self.tall[0]:
                built = not _tapes and (m <= self._held or (m <= self._built and (count == 1 or m <= self._unshared)))
            if not built or self._strict or m > self._few:
                stride_m, stride_k = a.strides
                if stride_k != self._item and self._copies(m, stride_m):
                    a = contiguous(a)
                    stride_m, stride_k = a.strides
        elif rank == 1:
            k = shape[0]
            m, stride_m, result = 1, 0, (n,)
            stride_k = a.strides[0]
            if stride_k != self._item and self._copies(1, 0):
                a = contiguous(a)
                stride_k = a.strides[0]
        elif rank:
            a = contiguous(a)
            k = shape[-1]
            stride_k = self._item
            m, stride_m, result = math.prod(shape[:-1]), k * stride_k, (*shape[:-1], n)
        else:
            return None
        if k != self.k:
            return None
        if self._strict and stride_k != self._item and k > 1:
            return None if self._otherwise is None else self._otherwise().offer(a, out, count, first, second)
        if self.tall is not None and m >= self.tall[0] and stride_k == self._item:
            return self.tall[1]().offer(a, out, count, first, second)
        plain = self._plain
        if not plain:
            # What is handed over beside the left operand must be what the program reads.
            wide = (m,) if self._first_shape is None else self._first_shape
            if type(first) is not _array or first.dtype is not self._first_type or first.shape != wide:
                return None
            if first.strides != self._first_strides:
                return None
            if self._second_type is not None:
                wide = (m,) if self._second_shape is None else self._second_shape
                if type(second) is not _array or second.dtype is not self._second_type or second.shape != wide:
                    return None
                if second.strides != self._second_strides:
                    return None
        elif self._whole:
            # Its rows are read one after the other, whatever the strides say.
            a = contiguous(a)
            if not self._one_piece(m, count):
                return None
        if out is None:
            y = _empty(result, self.dtype)
        elif type(out) is not _array or out.dtype is not self.dtype or out.shape != result or not out.flags.writeable:
            return None
        elif self._serves(out, a, m, count, first, second):
            y = out
        else:
            made = self.offer(a, None, count, first, second)
            if made is not None:
                out[...] = made
            return None if made is None else out
        if built:
            run, fine = self._holding if m <= self._held else self._letting_go
            if plain:
                wrong = run(self._records, a, y) is not fine
            elif second is None:
                wrong = run(self._records, a, y, first) is not fine
            else:
                wrong = run(self._records, a, y, first, second) is not fine
        elif m <= self._most and (count == 1 or m <= self._unshared) and not _tapes:
            if plain:
                wrong = self._run(_plain(id(a), id(y), m, stride_k, stride_m) + self._small)
            else:
                head = _extended(id(a), id(y), m, stride_k, stride_m, 0, id(first), id(second))
                wrong = self._run(head + self._small)
        elif count == 1 and m <= self._block and (single := self._singles.get(m)) is not None and not _tapes:
            head = _extended(id(a), id(y), m, stride_k, stride_m, take(single.scratch), id(first), id(second))
            wrong = self._run(head + single.tail)
        else:
            wrong = self._blocks(a, y, (m, stride_k, stride_m), self._ld, count, first, second)
        return None if wrong else y

    def _copies(self, m: int, stride_m: int) -> bool:
        """Whether an operand whose K is not contiguous is brought into order before: byte by byte it is packed several times as slowly."""
        if self.recipe.left is not None:
            return self.k > 1
        return stride_m != self._item and m > self._few

    def _one_piece(self, m: int, count: int) -> bool:
        """Whether an operand that is quantised in one piece is multiplied by one thread in one block."""
        return (count == 1 or m <= self._unshared) and m <= self._block

    def _serves(
        self, out: Array, a: Array, m: int, count: int, first: Array | None, second: Array | None
    ) -> bool:  # fmt: skip
        """Whether a result may be written to `out` as it is made."""
        if not out.flags.c_contiguous:
            return False
        # What is packed or quantised as a whole is read before anything is written, and may be written over.
        if m <= self._most and first is None and (self.recipe.reads_first):
            return True
        # Rows that are not finite must be found before the first row is written: by a single program.
        one = m <= self._block and count == 1
        once = one and self.recipe.reads_first
        return (self.recipe.left is None or once) and not overlaps(out, a, first, second)

    def into(self, a: Array, y: Array, count: int, first: Array | None = None, second: Array | None = None) -> bool:
        """Serve as `Plan.into`."""
        assert not self._whole  # noqa: S101 - such a plan is only offered operands
        stride_m, stride_k = a.strides
        if stride_k != self._item and self._copies(len(a), stride_m):
            a = contiguous(a)
            stride_m, stride_k = a.strides
        if self._otherwise is not None and stride_k != self._item and self.k > 1:
            return self._otherwise().into(a, y, count, first, second)
        if self.tall is not None and len(a) >= self.tall[0] and stride_k == self._item:
            return self.tall[1]().into(a, y, count, first, second)
        return not self._blocks(a, y, (len(a), stride_k, stride_m), y.strides[0], count, first, second)

    def _single(self, m: int, ld: int) -> Single:
        """The program for `m` rows in one block; whoever runs it holds it meanwhile."""
        if ld == self._ld:
            found = self._singles.get(m)
            if found is not None:
                return found
        written = self._program(Key(self._rows(m), 0, self.n, ld))
        words = self._words if self._words == BOTH else EXTENDED
        made = Single(written.tail(words, self._objects), written.scratch, written)
        if ld == self._ld:
            if len(self._singles) >= MOST_PROGRAMS:
                self._singles.clear()
            self._singles[m] = made
        return made

    def _rows(self, m: int) -> int:
        """Rows to make room for: programs of a few sizes serve all blocks."""
        tile = self.recipe.kernel.mr
        return min(self._block, tile << (max(m - 1, 0) // tile).bit_length())

    def _blocks(
        self,
        a: Array,
        y: Array,
        rows: tuple[int, int, int],
        ld: int,
        count: int,
        first: Array | None,
        second: Array | None,
    ) -> int:
        """Run block by block, on `count` threads; return whether anything was wrong."""
        m, stride_k, stride_m = rows
        if m <= self._unshared:
            count = 1
        if _tapes:
            tape.touch((a, first, second), (y,))
        elif count == 1 and m <= self._block and library.LAYOUT_KNOWN:
            single = self._single(m, ld)
            head = _extended(id(a), id(y), m, stride_k, stride_m, take(single.scratch), id(first), id(second))
            return self._run(head + single.tail)
        at = Places(address(a), address(y), *(0 if extra is None else address(extra) for extra in (first, second)))
        if count == 1:
            return self._share(blocks.Share(0, m, 0, self.n), at, stride_k, stride_m, ld)
        wrong: list[int] = []

        def work(share: blocks.Share) -> None:
            if self._share(share, at, stride_k, stride_m, ld):
                wrong.append(share.row)

        mine = blocks.shares(m, self.n, m * self.n * self.k, count, self.recipe.kernel.mr, self.recipe.kernel.nr)
        threads.run([functools.partial(work, share) for share in mine])
        return len(wrong)

    def _share(self, share: blocks.Share, at: Places, stride_k: int, stride_m: int, ld: int) -> int:
        """Run the blocks of one thread one after the other, up to the first that goes wrong; return whether one did."""
        start, end, column, columns = share
        if start == end:
            return 0
        length, tile = end - start, self.recipe.kernel.mr
        rows = self._rows(length)
        written = self._program(Key(rows, column, columns, ld))
        run, tail, scratch = self._run, written.tail(EXTENDED, ()), take(written.scratch)
        left, result, first, second = at
        left += start * stride_m
        result += start * ld + column * self.dtype.itemsize
        # As even as tiles allow: a last block of few rows would read all of B for them.
        rows = tile * -(-length // (tile * -(-length // rows)))
        # What an extra operand has one value per row for moves on with the rows.
        skipped, steps = {ROW: 4 * start, COLUMN: 4 * column, CALL: 0}, {ROW: 4 * rows}
        first_step = second_step = 0
        if first:
            along = self.recipe.extras[0].along
            first += skipped[along]
            first_step = steps.get(along, 0)
        if second:
            along = self.recipe.extras[1].along
            second += skipped[along]
            second_step = steps.get(along, 0)
        left_step, result_step = rows * stride_m, rows * ld
        for row in range(start, end, rows):
            count = min(rows, end - row)
            if _tapes:
                lying = [tape.At(each) for each in (left, result, first, second)]
                written.note([*lying[:2], count, stride_k, stride_m, 0, *lying[2:]])
            if run(_extended(left, result, count, stride_k, stride_m, scratch, first, second) + tail):
                return 1
            left += left_step
            result += result_step
            first += first_step
            second += second_step
        return 0


def _wanted(extra: Extra, n: int) -> tuple[tuple[int, ...] | None, np.dtype[Any], tuple[int, ...]]:
    """Shape, type and strides that an extra operand has to have; no shape where that depends on the rows."""
    shape = None if extra.along == ROW else extra.shape(0, n)
    return shape, extra.dtype, () if extra.along == CALL else (extra.dtype.itemsize,)
