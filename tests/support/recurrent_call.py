"""Runs the products and steps of an LSTM with guard pages and canaries around everything, and says what they have to give."""

from __future__ import annotations

import numpy as np
from support.checked import Checker
from support.entry import Entry
from support.epilogue import Array, same_bits
from support.guard import Guarded, Rectangle, guarded_input, guarded_rows

from pyint8dot import lstm
from pyint8dot.engine.lstm import LANES, PANEL
from pyint8dot.fma import chain


class _Call:
    """One call of an entry: its arguments, what it reads, and each result beside what it has to be."""

    def __init__(self, stem: str, place: str) -> None:
        self.stem, self.place = stem, place
        self._kept: list[Guarded] = []
        self.results: list[tuple[Rectangle, Array]] = []
        self.argument = 0

    def reads(self, array: Array) -> int:
        """The address of a copy that cannot be written."""
        self._kept.append(guarded_input(array, self.place))
        return self._kept[-1].address

    def reads_rows(self, rows: Array, padding: int) -> tuple[int, int]:
        """The same of rows apart, and the bytes from one to the next."""
        memory, step = guarded_rows(rows, padding, self.place)
        self._kept.append(memory)
        return memory.address, step

    def writes(self, want: Array, padding: int = 0, before: Array | None = None) -> tuple[int, int]:
        """The address of a result, rows apart, and the bytes from one to the next."""
        made = Rectangle(*want.shape, want.shape[1] + padding, self.place, np.float32)
        if before is not None:
            made.values[...] = before
        self.results.append((made, want))
        return made.address, 4 * made.stride

    def calls(self, fields: list[int]) -> None:
        """Put the arguments where the entry is to find them."""
        self.argument = self.reads(np.array(fields, np.int64))

    def check(self, checker: Checker) -> None:
        """Run it and fail on a result of other bits, a cell outside, a spoilt register."""
        problems = Entry(self.stem).call(checker, self.argument)
        for made, want in self.results:
            # Which NaN is left open.
            same = np.array_equal(made.values, want, equal_nan=True)
            problems += made.damage() + ([] if same and np.isnan(want).any() else same_bits(made.values, want))
        assert not problems, "\n".join([self.stem, *problems])


class Product(_Call):
    """One call of product_f32: ``start + a @ b``, b of shape (k, 16 * panels), `start` a row for all, or one for each, in place."""

    def __init__(self, a: Array, b: Array, start: Array, *, place: str = "end", padding: int = 0) -> None:
        super().__init__("product_f32", place)
        (m, k), n = a.shape, b.shape[1]
        want = chain(np.broadcast_to(start, (m, n)), a.T[:, :, None], b[:, None])
        at_a, ld_a = self.reads_rows(a, padding)
        panels = self.reads(b.reshape(k, n // PANEL, PANEL).swapaxes(0, 1))
        own = start.ndim == 2
        y, ld_y = self.writes(want, padding, start if own else None)
        begin, ld_start = (y, ld_y) if own else (self.reads(start), 0)
        self.calls([at_a, panels, y, begin, ld_a, ld_y, ld_start, m, k, n // PANEL])


class Steps(_Call):
    """One call of lstm on sums of shape (steps, batch, 4 * units), with `r` of shape (panels, units, 16) or without."""

    def __init__(
        self,
        sums: Array,
        r: Array | None,
        h: Array,
        c: Array,
        lengths: Array | None = None,
        *,
        backward: bool = False,
        place: str = "end",
        padding: int = 0,
    ) -> None:
        super().__init__("lstm", place)
        steps, batch, width = sums.shape
        units = width // PANEL * LANES
        y, last_h, last_c = np.empty((steps, 1, batch, units), np.float32), h[None].copy(), c[None].copy()

        def product(state: Array, start: Array) -> Array:
            return start if r is None else chain(start, state.T[:, :, None], r.swapaxes(0, 1).reshape(units, 1, width))

        lstm.walk_steps(sums[None], [product], y, last_h, last_c, lengths, [backward])
        rows = Rectangle(steps * batch, width, width + padding, place, np.float32)
        rows.values[...] = sums.reshape(steps * batch, width)
        self.sums = rows
        at_y, ld_y = self.writes(y.reshape(steps * batch, units), padding)
        at_h, _ = self.writes(last_h[0], before=h)
        at_c, _ = self.writes(last_c[0], before=c)
        packed = 0 if r is None else self.reads(r)
        ends = 0 if lengths is None else self.reads(lengths.astype(np.int32))
        ld_x, first, turn = 4 * rows.stride, max(steps - 1, 0) if backward else 0, -1 if backward else 1
        step_x, step_y = batch * ld_x, batch * ld_y
        places = [rows.address + first * step_x, at_y + first * step_y, packed, at_h, at_c, ends]
        self.calls([*places, steps, batch, units, turn * step_x, turn * step_y, ld_x, ld_y, first])

    def check(self, checker: Checker) -> None:
        super().check(checker)
        assert self.sums.damage() == []
