"""Quantisation as the first step of a plan, by rows or of the whole operand: native, and in numpy with the same bits. Private to the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.quantize import dynamic_quantize_arrays, rows_by_numpy

if TYPE_CHECKING:
    from pyint8dot.arguments import Values
    from pyint8dot.engine.program import Argument, Program

__all__ = ["DynamicallyQuantized", "QuantizedRows"]


class QuantizedRows:
    """`quantize_rows` as the first step of a plan."""

    dtype, codes, whole = np.dtype(np.float32), np.dtype(np.int8), False

    def write(
        self, program: Program, *, x: Argument, ld_x: Argument, q: Argument, m: Argument, k: int, scale: Argument,
        zero_point: Argument, status: Argument,
    ) -> None:  # fmt: skip
        """Append the record to a program; there is no zero point."""
        del zero_point
        program.quantize_rows(x=x, q=q, ld_x=ld_x, ld_q=k, m=m, k=k, scale=scale, status=status)

    def apply(self, x: Values) -> tuple[Values, Values, None] | None:
        """Do the same in numpy; None where a row is not finite."""
        return (*rows_by_numpy(x), None) if np.isfinite(x).all() else None


class DynamicallyQuantized:
    """`dynamic_quantize_linear` as the first step of a plan."""

    dtype, codes, whole = np.dtype(np.float32), np.dtype(np.uint8), True

    def write(
        self, program: Program, *, x: Argument, ld_x: Argument, q: Argument, m: Argument, k: int, scale: Argument,
        zero_point: Argument, status: Argument,
    ) -> None:  # fmt: skip
        """Append the record to a program; rows lie one after the other."""
        del ld_x
        program.dynamic_quantize(x=x, y=q, m=m, k=k, scale=scale, zero_point=zero_point, status=status)

    def apply(self, x: Values) -> tuple[Values, Values, Values] | None:
        """Do the same in numpy; None where the scale is not finite."""
        try:
            return dynamic_quantize_arrays(x, native=False)
        except ValueError:
            return None
