"""The float32 functions between the integer products of a transformer: `gelu`, `softmax`, `layer_norm`, `erf` and `tanh`.

Every exponential here is built from float32 additions, multiplications, minima and maxima in a fixed order, each rounded once: no fused
multiply-add, no call into the C library. Sums along a row have a fixed order too, that of a loop over whole vector registers, and look at
that row alone. So every function gives the same bits on every machine, and the native forms of some, `exp2_terms`, `softmax`, `layer_norm`,
`deviations` and `divide_rows`, are checked against numpy exactly.

Method. With ``a = min(|x|, 6)``, ``R`` a polynomial of degree 5 and ``R(a)**32`` close to the normal tail ``Phi(-a)``,

    gelu(x) = x * Phi(x) = x / 2 + |x| * (1/2 - R(a)**32)

A high power of a short polynomial follows the steep tail, as in Abramowitz and Stegun 7.1.28 (which uses the power -16); here the power is
positive, so nothing is divided. ``2**y`` is ``2**n * E(y - n)**2`` with n the nearest integer and E of degree 4; the power of two comes from
the exponent bits. erf and tanh are odd rational functions. The coefficients are minimax fits, by linear programming and for tanh by weighted
least squares, rounded to float32; the bounds below are the largest errors found over every float32 of the stated range.
"""

from pyint8dot.floats.activations import GELU_LIMIT, GELU_R, TANH_LIMIT, TANH_P, TANH_Q, erf, gelu, relu, tanh
from pyint8dot.floats.lines import hard_sigmoid
from pyint8dot.floats.normalisation import layer_norm, layer_norm_and_scaled
from pyint8dot.floats.powers import EXP2_E, EXP2_LOWEST, EXP2_MAGIC, LOG2_E, exp2, exp2_terms, softmax
from pyint8dot.floats.rows import deviations, divide_rows
from pyint8dot.floats.work import BLOCK, HALF, ONE, FloatArray

__all__ = [
    "BLOCK", "EXP2_E", "EXP2_LOWEST", "EXP2_MAGIC", "GELU_LIMIT", "GELU_R", "HALF", "LOG2_E", "ONE", "TANH_LIMIT", "TANH_P", "TANH_Q",
    "FloatArray", "deviations", "divide_rows", "erf", "exp2", "exp2_terms", "gelu", "hard_sigmoid", "layer_norm", "layer_norm_and_scaled", "relu", "softmax",
    "tanh",
]  # fmt: skip
