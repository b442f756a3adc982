"""`hard_sigmoid`: points of a line between two bounds, which stand for a sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyint8dot.engine import elementwise


def hard_sigmoid(
    x: npt.NDArray[Any], alpha: float, beta: float, *, times: bool = False, native: bool = True
) -> npt.NDArray[Any]:
    """Points of a line, at 0 and 1 beyond them.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Any shape.
    alpha, beta : float
        The line, ``x * alpha + beta``.
    times : bool
        Whether the result is multiplied by `x`.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    ndarray
        Of the type and shape of `x`.
    """
    # With 0 for -0.0 no point of the line is -0.0, of which and 0 either is the greater.
    beta += 0.0
    if native and x.dtype == np.float32:
        found = elementwise.hard_sigmoid(x, alpha, beta, times=times)
        if found is not None:
            return found
    kind = x.dtype.type
    y = np.asarray(x * kind(alpha))
    y += kind(beta)
    np.clip(y, kind(0), kind(1), out=y)
    if times:
        y *= x
    return y
