"""The float32 convolution along one axis with few weights, native or, bit for bit the same, in numpy.

With the channels of each position side by side, the window of a result is a piece of memory: a convolution is a product of rows that
overlap. Every sum is a chain from its bias on, tap by tap and channel by channel, of fused multiply-adds (`pyint8dot.fma`).
"""

from __future__ import annotations

import functools

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.blocks import Written
from pyint8dot.engine.program import FIRST, LEFT, RESULT, SECOND, Program
from pyint8dot.fma import FloatArray, chain

__all__ = ["MOST_BYTES", "Convolution1d"]

#: Columns of a panel, and bytes of a number.
PANEL, ITEM = 16, 4

#: Bytes of panels that stay in a second-level cache: every four rows read all of them again.
MOST_BYTES = 1 << 18

#: Sizes whose programs are kept.
MOST_PROGRAMS = 64


class Convolution1d:
    """A convolution whose weights are known.

    Parameters
    ----------
    w : ndarray of float32, shape (n, channels, taps)
        The weights.
    bias : ndarray of float32, shape (n,), optional
        What the sums start from; 0 by default.
    """

    def __init__(self, w: FloatArray, bias: FloatArray | None) -> None:
        self.n, self.channels, self.taps = w.shape
        panels = -(-self.n // PANEL)
        filled = np.zeros((panels * PANEL, self.taps * self.channels), np.float32)
        filled[: self.n] = w.swapaxes(1, 2).reshape(self.n, -1)
        #: (panels, k, 16)
        self.panels: FloatArray = np.ascontiguousarray(filled.reshape(panels, PANEL, -1).swapaxes(1, 2))
        self.start: FloatArray = np.zeros(panels * PANEL, np.float32)
        if bias is not None:
            self.start[: self.n] = bias

    def __call__(
        self, x: FloatArray, stride: int, pads: tuple[int, int], outs: int, *, native: bool = True
    ) -> FloatArray:
        """Convolve.

        Parameters
        ----------
        x : ndarray of float32, shape (batch, channels, positions)
            The input.
        stride : int
            From a window to the next.
        pads : (int, int)
            Zeros before and after the positions.
        outs : int
            How many windows there are, all within what is padded.
        native : bool
            Whether native code may be used, which gives the same bits.

        Returns
        -------
        ndarray of float32, shape (batch, n, outs)
            The channels of a position lie side by side in memory.
        """
        batch, channels, positions = x.shape
        before, after = pads
        rows: FloatArray = np.zeros((batch, before + positions + after, channels), np.float32)
        rows[:, before : before + positions] = x.swapaxes(1, 2)
        y: FloatArray = np.empty((batch, outs, self.start.size), np.float32)
        if y.size:
            written = (
                _written(batch, rows.shape[1], channels, self.taps, stride, outs, len(self.panels)) if native else None
            )
            if written is None:
                self._define(rows, stride, y)
            else:
                written.run(rows, y, self.panels, self.start)
        found: FloatArray = y[:, :, : self.n].swapaxes(1, 2)
        return found

    def _define(self, rows: FloatArray, stride: int, y: FloatArray) -> None:
        """The definition: the order of the operations is that of native code."""
        outs, width = y.shape[1:]
        windows = np.lib.stride_tricks.sliding_window_view(rows, self.taps, 1)[:, ::stride][:, :outs]
        terms = windows.transpose(3, 2, 0, 1).reshape(-1, len(rows), outs, 1)
        columns = self.panels.swapaxes(0, 1).reshape(-1, 1, 1, width)
        with np.errstate(all="ignore"):
            y[...] = chain(np.broadcast_to(self.start, y.shape), terms, columns)


@functools.lru_cache(MOST_PROGRAMS)
def _written(
    batch: int, positions: int, channels: int, taps: int, stride: int, outs: int, panels: int
) -> Written | None:
    """The program for arrays of these sizes, or None where there is no library."""
    if library.status() is not None:
        return None
    program = Program()
    row = ITEM * PANEL * panels
    program.product_f32(
        a=LEFT,
        b=FIRST,
        y=RESULT,
        start=SECOND,
        ld_a=ITEM * stride * channels,
        ld_y=row,
        ld_start=0,
        m=outs,
        k=taps * channels,
        panels=panels,
    )
    program.repeat(batch, a=ITEM * positions * channels, y=outs * row)
    return Written(program, 0)
