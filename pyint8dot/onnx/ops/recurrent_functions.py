"""The activations that LSTM, GRU and RNN name, each with the alpha and beta it takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from pyint8dot import floats
from pyint8dot.onnx.ops.activations import elu, sigmoid, softplus

Activation: TypeAlias = "Callable[[np.ndarray], np.ndarray]"

# Each function and what it takes, with the values where the node has none; None where it must have one.
_FUNCTIONS: dict[str, tuple[Callable[..., np.ndarray], dict[str, float | None]]] = {
    "affine": (lambda x, alpha, beta: alpha * x + beta, {"alpha": None, "beta": None}),
    "elu": (elu, {"alpha": 1.0}),
    "hardsigmoid": (floats.hard_sigmoid, {"alpha": 0.2, "beta": 0.5}),
    "leakyrelu": (lambda x, alpha: np.where(x < 0, alpha * x, x), {"alpha": 0.01}),
    "relu": (lambda x: np.maximum(x, 0), {}),
    "scaledtanh": (lambda x, alpha, beta: alpha * np.tanh(beta * x), {"alpha": None, "beta": None}),
    "sigmoid": (sigmoid, {}),
    "softplus": (softplus, {}),
    "softsign": (lambda x: x / (1 + np.abs(x)), {}),
    "tanh": (np.tanh, {}),
    "thresholdedrelu": (lambda x, alpha: np.where(x >= alpha, x, x.dtype.type(0)), {"alpha": 1.0}),
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
        function, takes = _FUNCTIONS[name.lower()]
        taken = {}
        for which, default in takes.items():
            value = left[which].pop(0) if left[which] else default
            if value is None:
                raise ValueError(f"activation_{which} must have a value for {name}, which has no default")
            taken[which] = float(value)
        found.append(functools.partial(function, **taken) if taken else function)
    return found
