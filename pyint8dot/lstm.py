"""LSTM of float32, its steps walked in native code or, bit for bit the same, in numpy.

The products with the inputs are one for all steps. Every sum is a chain from its bias on, first over the inputs, then over the state, of
fused multiply-adds (`pyint8dot.fma`). sigmoid(x) is tanh(x / 2) / 2 + 1 / 2: with what belongs to three of the four gates halved
beforehand, which is exact, one tanh (`pyint8dot.floats`) serves them all.

Weights lie as the native loop reads them. Four units at a time have a panel of 16 columns: four of the input gate, four of the output gate,
four of the forget gate, four of the cell. The number is filled up with copies of the last unit, whose states nothing depends on: they are
multiplied by zeros, and are no numbers only where that of the last unit is none. Units of zeros would make NaN of an infinity.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyint8dot.engine import lstm as native_code
from pyint8dot.engine.lstm import GATES, LANES, PANEL
from pyint8dot.floats import HALF, tanh
from pyint8dot.floats.work import contiguous
from pyint8dot.fma import chain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pyint8dot.floats import FloatArray

__all__ = ["FACTORS", "Weights", "initial_states", "limited", "lstm", "pack_weights", "panel_columns", "walk_steps"]

#: What the weights of each gate are multiplied by: those of the input, output and forget gates are halved.
FACTORS = np.array([0.5, 0.5, 0.5, 1], np.float32)


class Weights(NamedTuple):
    """The weights of an LSTM as native code reads them; see `pack_weights`."""

    #: Panels of all directions for the inputs, (panels, inputs, 16).
    of_inputs: FloatArray
    #: What the sums start from, (panels * 16,).
    bias: FloatArray
    #: Panels of each direction for the state, (directions, panels, units, 16).
    of_states: FloatArray
    #: Units of a direction, without those that fill up.
    hidden: int


def pack_weights(w: FloatArray, r: FloatArray, bias: FloatArray | None) -> Weights:
    """Bring weights as ONNX has them into the order of the native loop.

    Parameters
    ----------
    w : ndarray of float32, shape (directions, 4 * hidden, inputs)
        Multiply the inputs; gates in the order of ONNX: input, output, forget, cell.
    r : ndarray of float32, shape (directions, 4 * hidden, hidden)
        Multiply the state.
    bias : ndarray of float32, shape (directions, 8 * hidden), optional
        That of the inputs, then that of the state.

    Returns
    -------
    Weights

    Raises
    ------
    TypeError
        If an array is not float32.
    ValueError
        If shapes do not fit each other.

    Examples
    --------
    >>> w, r = np.ones((1, 12, 2), np.float32), np.ones((1, 12, 3), np.float32)
    >>> pack_weights(w, r, None).of_states.shape
    (1, 1, 4, 16)
    """
    for name, array in (("w", w), ("r", r), ("bias", bias)):
        if array is not None and array.dtype != np.float32:
            raise TypeError(f"{name} must be float32, got {array.dtype}")
    if w.ndim != 3 or r.ndim != 3:
        raise ValueError(f"w and r must have 3 dimensions, got shapes {w.shape} and {r.shape}")
    count, _, hidden = r.shape
    if r.shape[1] != GATES * hidden or w.shape[:2] != r.shape[:2]:
        raise ValueError(
            f"w and r must have {(count, GATES * hidden)} rows by direction, got {w.shape[:2]} and {r.shape[:2]}"
        )
    if bias is not None and bias.shape != (count, 2 * GATES * hidden):
        raise ValueError(f"bias must have shape {(count, 2 * GATES * hidden)}, got {bias.shape}")
    both = np.zeros((count, GATES * hidden, 1), np.float32)
    if bias is not None:
        both[..., 0] = bias[:, : GATES * hidden] + bias[:, GATES * hidden :]
    inputs, start, states = (_panels(each, hidden) for each in (w, both, r))
    filled = np.zeros((*states.shape[:2], states.shape[1] * LANES, PANEL), np.float32)
    filled[:, :, :hidden] = states
    return Weights(inputs.reshape(count * inputs.shape[1], *inputs.shape[2:]), start.reshape(-1), filled, hidden)


def _panels(matrix: FloatArray, hidden: int) -> FloatArray:
    """Return rows of gates, (directions, 4 * hidden, k), as (directions, panels, k, 16)."""
    count, _, k = matrix.shape
    groups = -(-hidden // LANES)
    filled = np.zeros((count, GATES, groups * LANES, k), np.float32)
    np.multiply(matrix.reshape(count, GATES, hidden, k), FACTORS[:, None, None], out=filled[:, :, :hidden])
    filled[:, :, hidden:] = filled[:, :, hidden - 1 : hidden]
    split = filled.reshape(count, GATES, groups, LANES, k)
    return np.ascontiguousarray(split.transpose(0, 2, 4, 1, 3)).reshape(count, groups, k, PANEL)


def lstm(
    x: FloatArray,
    weights: Weights,
    h: FloatArray | None = None,
    c: FloatArray | None = None,
    lengths: NDArray[np.integer] | None = None,
    *,
    backward: Sequence[bool] = (False,),
    native: bool = True,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Walk along the steps of an LSTM with sigmoid gates and tanh.

    Parameters
    ----------
    x : ndarray of float32, shape (steps, batch, inputs)
        The inputs.
    weights : Weights
        From `pack_weights`.
    h, c : ndarray of float32, shape (directions, batch, hidden), optional
        State and cell before the first step; 0 by default.
    lengths : ndarray of int, shape (batch,), optional
        The steps of each row; those beyond have results of 0 and leave its state alone.
    backward : sequence of bool
        For each direction whether it walks from the last step to the first.
    native : bool
        Whether native code may be used, which gives the same bits.

    Returns
    -------
    y : ndarray of float32, shape (steps, directions, batch, hidden)
        The states.
    h, c : ndarray of float32, shape (directions, batch, hidden)
        State and cell after the last step.

    Raises
    ------
    TypeError
        If an array has another type.
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> packed = pack_weights(np.zeros((1, 4, 1), np.float32), np.zeros((1, 4, 1), np.float32), np.full((1, 8), 9, np.float32))
    >>> y, h, c = lstm(np.zeros((2, 1, 1), np.float32), packed)
    >>> c
    array([[[2.]]], dtype=float32)
    """
    of_inputs, bias, of_states, hidden = weights
    count, _, units, _ = of_states.shape
    if type(x) is not np.ndarray or x.dtype != np.float32:
        raise TypeError(f"x must be a float32 array, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim != 3 or x.shape[2] != of_inputs.shape[1]:
        raise ValueError(f"x must have shape {('steps', 'batch', of_inputs.shape[1])}, got {x.shape}")
    if len(backward) != count:
        raise ValueError(f"backward must have an entry for each of {count} directions, got {len(backward)}")
    steps, batch, _ = x.shape
    state, cell = initial_states(h, c, (count, batch, hidden), units)
    lengths = None if lengths is None else limited(lengths, steps, batch)
    y = np.empty((steps, count, batch, units), np.float32)
    if y.size == 0:
        y = y[..., :hidden]
    elif not native or not native_code.walk(
        contiguous(x), of_inputs, bias, of_states, y, state, cell, lengths, tuple(backward)
    ):
        _define(x, weights, y, state, cell, lengths, backward)
    if hidden < units:
        y, state, cell = (np.ascontiguousarray(each[..., :hidden]) for each in (y, state, cell))
    return y, state, cell


def limited(lengths: NDArray[np.integer], steps: int, batch: int) -> NDArray[np.int32]:
    """Return lengths of rows as native code reads them.

    Parameters
    ----------
    lengths : ndarray of int, shape (batch,)
        As for `lstm`.
    steps, batch : int
        How many there are.

    Returns
    -------
    ndarray of int32, shape (batch,)

    Raises
    ------
    ValueError
        If they are no integers, or there are more or fewer.

    Examples
    --------
    >>> limited(np.array([2, 9]), 3, 2)
    array([2, 3], dtype=int32)
    """
    if lengths.dtype.kind not in "iu" or lengths.shape != (batch,):
        raise ValueError(f"lengths must be integers of shape {(batch,)}, got {lengths.dtype} {lengths.shape}")
    ends: NDArray[np.int32] = np.clip(lengths, 0, steps).astype(np.int32)
    return ends


def panel_columns(hidden: int) -> NDArray[np.intp]:
    """Return which of the columns of all gates, in the order of ONNX, stands where in panels.

    Parameters
    ----------
    hidden : int
        A multiple of 4.

    Returns
    -------
    ndarray of int, shape (4 * hidden,)

    Examples
    --------
    >>> panel_columns(8)[:8]
    array([ 0,  1,  2,  3,  8,  9, 10, 11])
    """
    columns: NDArray[np.intp] = np.arange(GATES * hidden).reshape(GATES, -1, LANES).swapaxes(0, 1).reshape(-1)
    return columns


def initial_states(
    h: FloatArray | None, c: FloatArray | None, shape: tuple[int, ...], units: int
) -> tuple[FloatArray, FloatArray]:
    """Return new arrays of state and cell before the first step, which a walk may write over.

    Parameters
    ----------
    h, c : ndarray of float32, optional
        As for `lstm`.
    shape : (int, int, int)
        What theirs has to be.
    units : int
        How many the last dimension is filled up to.

    Returns
    -------
    (ndarray of float32, ndarray of float32)

    Raises
    ------
    TypeError, ValueError
        As `lstm`.

    Examples
    --------
    >>> initial_states(None, np.ones((1, 1, 1), np.float32), (1, 1, 1), 2)
    (array([[[0., 0.]]], dtype=float32), array([[[1., 0.]]], dtype=float32))
    """
    return _state("h", h, shape, units), _state("c", c, shape, units)


def _state(name: str, given: FloatArray | None, shape: tuple[int, ...], units: int) -> FloatArray:
    """Return a state to be written over, filled up to so many units."""
    wide = (shape[0], shape[1], units)
    if given is None:
        return np.zeros(wide, np.float32)
    if given.dtype != np.float32:
        raise TypeError(f"{name} must be float32, got {given.dtype}")
    if given.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {given.shape}")
    if shape[2] == units:
        return np.array(given, order="C")
    state = np.zeros(wide, np.float32)
    state[..., : shape[2]] = given
    return state


def _define(
    x: FloatArray,
    weights: Weights,
    y: FloatArray,
    h: FloatArray,
    c: FloatArray,
    lengths: NDArray[np.int32] | None,
    backward: Sequence[bool],
) -> None:
    """The definition: the order of the operations is that of native code."""
    steps, count, batch, _ = y.shape
    rows = x.reshape(steps * batch, x.shape[2])
    with np.errstate(all="ignore"):
        sums = _product(weights.of_inputs, rows, np.broadcast_to(weights.bias, (len(rows), weights.bias.size)))
    of_states = [functools.partial(_product, panels) for panels in weights.of_states]
    walk_steps(sums.reshape(steps, batch, count, -1).transpose(2, 0, 1, 3), of_states, y, h, c, lengths, backward)


def walk_steps(
    sums: Sequence[FloatArray] | FloatArray,
    of_states: Sequence[Callable[..., FloatArray]],
    y: FloatArray,
    h: FloatArray,
    c: FloatArray,
    lengths: NDArray[np.int32] | None,
    backward: Sequence[bool],
) -> None:
    """Walk along the steps in numpy, as the native entry defines it.

    Parameters
    ----------
    sums : sequence of ndarray of float32, each of shape (steps, batch, 4 * units)
        For each direction what the inputs add to the gates, columns in the order of panels.
    of_states : sequence of callable
        For each direction what takes the state and such sums of a step, and returns their sum with the product of the state.
    y, h, c : ndarray of float32
        Where results, states and cells go, the last two replacing those before the first step; shapes as those of `lstm`.
    lengths : ndarray of int32, optional
        As for `lstm`.
    backward : sequence of bool
        As for `lstm`.

    Examples
    --------
    >>> y, h, c = np.empty((1, 1, 1, 4), np.float32), np.zeros((1, 1, 4), np.float32), np.ones((1, 1, 4), np.float32)
    >>> walk_steps(np.zeros((1, 1, 1, 16), np.float32), [lambda state, start: start], y, h, c, None, [False])
    >>> c
    array([[[0.5, 0.5, 0.5, 0.5]]], dtype=float32)
    """
    steps, _, batch, units = y.shape
    with np.errstate(all="ignore"):
        for d, reverse in enumerate(backward):
            for t in reversed(range(steps)) if reverse else range(steps):
                gates = of_states[d](h[d], sums[d][t])
                i, o, f, g = _by_gate(tanh(gates), units)
                i, o, f = (each * HALF + HALF for each in (i, o, f))
                cell = f * c[d] + i * g
                state = o * tanh(cell)
                inside = np.ones((batch, 1), bool) if lengths is None else (t < lengths)[:, None]
                y[t, d] = np.where(inside, state, 0)
                h[d], c[d] = np.where(inside, state, h[d]), np.where(inside, cell, c[d])


def _by_gate(columns: FloatArray, units: int) -> FloatArray:
    """Return what is in the order of panels gate by gate, (4, rows, units)."""
    split = columns.reshape(len(columns), units // LANES, GATES, LANES)
    gates: FloatArray = split.transpose(2, 0, 1, 3).reshape(GATES, len(columns), units)
    return gates


def _product(panels: FloatArray, rows: FloatArray, start: FloatArray) -> FloatArray:
    """``start + rows @ panels``, each sum a chain in the order of k."""
    columns = panels.transpose(1, 0, 2).reshape(panels.shape[1], 1, start.shape[-1])
    return chain(start, rows.T[:, :, None], columns)
