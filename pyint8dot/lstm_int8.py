"""The steps of an LSTM with int8 weights: the state is quantised by its own range before each product, native or in numpy, bit for bit the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine.lstm import QuantisedWalk
from pyint8dot.engine.native import NativePlan
from pyint8dot.engine.plan import CALL
from pyint8dot.epilogue import dequantize
from pyint8dot.lstm import walk_steps
from pyint8dot.qlinear import matmul_integer
from pyint8dot.quantize import dynamic_quantize_arrays
from pyint8dot.quantized_left import DynamicallyQuantized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from numpy.typing import NDArray

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.packing import PackedMatrix
    from pyint8dot.engine.plan import Output
    from pyint8dot.engine.program import Program
    from pyint8dot.floats import FloatArray

    Values = NDArray[Any]

__all__ = ["QuantisedSteps"]

FLOAT32 = np.dtype(np.float32)


class QuantisedSteps:
    """What walks along the steps once the inputs have been multiplied.

    Parameters
    ----------
    weights : sequence of (PackedMatrix, ndarray of float32, int or ndarray of int32)
        For each direction, columns in the order of panels (`pyint8dot.lstm.panel_columns`): the matrix, shape (units, 4 * units); what one
        unit of each column stands for; its zero point.
    kernel : Kernel
        What multiplies.
    """

    def __init__(
        self, weights: Sequence[tuple[PackedMatrix, FloatArray, int | npt.NDArray[np.int32]]], kernel: Kernel
    ) -> None:
        self._weights, left = weights, DynamicallyQuantized()
        plans = [
            packed.on(kernel).plan(FLOAT32, CALL, zero, epilogue=_Adding(unit), left=left)
            for packed, unit, zero in weights
        ]
        recipes = [plan.recipe for plan in plans if isinstance(plan, NativePlan)]
        self._walk = QuantisedWalk(recipes) if len(recipes) == len(plans) else None

    def __call__(
        self,
        sums: FloatArray,
        y: FloatArray,
        h: FloatArray,
        c: FloatArray,
        lengths: NDArray[np.int32] | None,
        backward: Sequence[bool],
        *,
        native: bool = True,
    ) -> None:
        """Walk along all steps.

        Parameters
        ----------
        sums : ndarray of float32, shape (steps * batch, directions * 4 * units)
            What the inputs add to the gates, columns in the order of panels. They are lost.
        y, h, c, lengths, backward
            As for `pyint8dot.lstm.walk_steps`, C-contiguous and with an element at least.
        native : bool
            Whether native code may walk, which gives the same bits.

        Raises
        ------
        ValueError
            If a state is not finite.
        """
        if not native or self._walk is None:
            steps, count, batch, _ = y.shape
            by_direction = sums.reshape(steps, batch, count, -1).transpose(2, 0, 1, 3)
            walk_steps(by_direction, [_added(*each) for each in self._weights], y, h, c, lengths, backward)
        elif not self._walk(sums, y, h, c, lengths, backward):
            for state in h:
                dynamic_quantize_arrays(state)  # raises, and says what it has found


class _Adding:
    """``(float32(acc) * unit) * scale``, added to what the result holds, as the epilogue of a plan; the scale is that of the state."""

    dtype, spare = FLOAT32, False
    extras: tuple[str, ...] = ()

    def __init__(self, unit: FloatArray) -> None:
        self._unit = unit

    def write(self, program: Program, out: Output) -> None:
        """Append the record to a program."""
        program.dequantize(
            acc=out.acc,
            y=out.y,
            ld_acc=out.ld_acc,
            ld_y=out.ld_y,
            m=out.m,
            n=out.columns,
            row_scale=out.row_scale,
            row_step=0,
            col_scale=self._unit[out.first :],
            bias=out.y,
            act=0,
            ld_bias=out.ld_y,
        )

    def apply(self, acc: Values, y: Values, row_scale: Values | None, extras: Sequence[Values]) -> None:  # noqa: ARG002 - there are none
        """Do the same in numpy."""
        assert row_scale is not None  # noqa: S101 - it comes with the codes
        dequantize(acc, row_scale, self._unit, y.copy(), out=y)


def _added(
    packed: PackedMatrix, unit: FloatArray, zero: int | npt.NDArray[np.int32]
) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """Return what adds the product of a state to sums."""
    point = zero if isinstance(zero, int) else zero.astype(packed.dtype)

    def add(state: FloatArray, start: FloatArray) -> FloatArray:
        codes, scale, state_zero = dynamic_quantize_arrays(state)
        return dequantize(matmul_integer(codes, packed, state_zero, point), scale, unit, start)

    return add
