"""Runs the native float functions with guard pages and canaries around everything, and says what they have to give."""

from __future__ import annotations

import numpy as np
from support.checked import Checker
from support.epilogue import Array, Call
from support.guard import Rectangle

from pyint8dot import floats


class Exp2Terms(Call):
    """exp2_terms has a second result, the sums."""

    def __init__(self, x: Array, scale: np.float32, *, place: str = "end", padding: int = 0) -> None:
        want, self.want_sums = floats.exp2_terms(x, scale=scale, native=False)
        self.sums = Rectangle(1, len(x), place=place, dtype=np.float32)
        super().__init__("exp2_terms", x, want, [np.float32([scale]), self.sums.buffer], place, padding)

    def check(self, checker: Checker) -> None:
        super().check(checker)
        np.testing.assert_array_equal(self.sums.values[0], self.want_sums[:, 0])
        assert self.sums.damage() == []


def layer_norm(x: Array, weight: Array, bias: Array, eps: float, *, place: str = "end", padding: int = 0) -> Call:
    want = floats.layer_norm(x, weight, bias, eps=eps, native=False)
    return Call("layer_norm", x, want, [weight, bias, np.float32([eps])], place, padding)
