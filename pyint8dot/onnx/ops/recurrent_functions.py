"""The activations that LSTM, GRU and RNN name, each with the alpha and beta it takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from pyint8dot import floats
from pyint8dot.onnx.ops.activations import elu, sigmoid, softplus

Activation: TypeAlias = "Callable[[np.ndarray], np.ndarray]"

# What alpha and beta are where the node has none; None where it must have one.  A function takes those it names here only.
_TAKES: dict[str, dict[str, float | None]] = {
    "affine": {"alpha": None, "beta": None},
    "elu": {"alpha": 1.0},
    "hardsigmoid": {"alpha": 0.2, "beta": 0.5},
    "leakyrelu": {"alpha": 0.01},
    "relu": {},
    "scaledtanh": {"alpha": None, "beta": None},
    "sigmoid": {},
    "softplus": {},
    "softsign": {},
    "tanh": {},
    "thresholdedrelu": {"alpha": 1.0},
}
_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "elu": elu,
    "hardsigmoid": floats.hard_sigmoid,
    "leakyrelu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "relu": lambda x: np.maximum(x, 0),
    "scaledtanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "sigmoid": sigmoid,
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "thresholdedrelu": lambda x, alpha: np.where(x >= alpha, x, x.dtype.type(0)),
}


def functions(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    """Return the functions of these names.

    Parameters
    ----------
    names : sequence of str
        As ONNX has them, in any case.
    alphas, betas : sequence of float
        The node's activation_alpha and activation_beta: the functions that take one have them in turn, and their defaults after the last.

    Returns
    -------
    list of callable
        Each takes an array of floats and returns one of its type.

    Raises
    ------
    ValueError
        If there is no such function, or one that has no default is left without.

    Examples
    --------
    >>> double, tanh = functions(["Affine", "Tanh"], [2.0], [1.0])
    >>> double(np.float32([0, 3]))
    array([1., 7.], dtype=float32)
    """
    left = {"alpha": list(alphas), "beta": list(betas)}
    found: list[Activation] = []
    for name in names:
        if name.lower() not in _FUNCTIONS:
            raise ValueError(f"activations must be of {', '.join(sorted(_FUNCTIONS))}, got {name}")
        taken = {}
        for which, default in _TAKES[name.lower()].items():
            value = left[which].pop(0) if left[which] else default
            if value is None:
                raise ValueError(f"activation_{which} must have a value for {name}, which has no default")
            taken[which] = float(value)
        function = _FUNCTIONS[name.lower()]
        found.append(functools.partial(function, **taken) if taken else function)
    return found
