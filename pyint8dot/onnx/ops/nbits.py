"""MatMulNBits: weights of 2, 4 or 8 bits with a scale for each block of a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyint8dot import epilogue, pack
from pyint8dot.engine import settings
from pyint8dot.engine.operand import choice, deep_plan
from pyint8dot.engine.plan import Plan
from pyint8dot.epilogue import AddedDequantization
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.contrib.writer import MICROSOFT
from pyint8dot.onnx.errors import ModelError
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.ops.neural import product
from pyint8dot.onnx.registry import Function, Site, operator
from pyint8dot.quantized_left import QuantizedRows

# The accuracy level that allows activations of 8 bits.
_INT8_LEVEL = 4


class _Weights:
    """Where the codes lie, and what they stand for."""

    def __init__(self, site: Site) -> None:
        self.k, self.n = int(site.attr("K")), int(site.attr("N"))
        self.bits, self.block = int(site.attr("bits", 4)), int(site.attr("block_size"))
        if self.bits not in (2, 4, 8):
            raise ModelError(f"{site.node}: bits must be 2, 4 or 8, got {self.bits}")
        if self.block < 1 or self.k < 1 or self.n < 1:
            raise ModelError(f"{site.node}: K, N and block_size must be positive")
        self.blocks = -(-self.k // self.block)
        check_shape((self.blocks * self.block, self.n), 4, site.max_bytes, site.what)

    def codes(self, b: np.ndarray) -> np.ndarray:
        """Unpack the codes: uint8 of shape (n, blocks, block), the last block with what fills it up."""
        wanted = self.n * self.blocks * self.block * self.bits // 8
        if b.dtype != np.uint8 or b.size != wanted:
            raise ValueError(f"B must hold {wanted} bytes of uint8, got {b.dtype} of shape {b.shape}")
        return self._unpacked(b.reshape(-1)).reshape(self.n, self.blocks, self.block)

    def _unpacked(self, packed: np.ndarray) -> np.ndarray:
        """Take bytes apart along the last axis, the low bits first."""
        if self.bits == 8:
            return packed
        pieces = [packed >> shift & (1 << self.bits) - 1 for shift in range(0, 8, self.bits)]
        return np.stack(pieces, axis=-1).reshape(*packed.shape[:-1], -1)

    def zeros(self, zero_points: np.ndarray | None) -> np.ndarray:
        """Return what is subtracted from the codes, as (n, blocks) or without a dimension."""
        if zero_points is None:
            return np.asarray(1 << (self.bits - 1), np.int16)
        if zero_points.dtype != np.uint8:
            return zero_points.reshape(self.n, self.blocks).astype(np.float32)
        rows = self._unpacked(zero_points.reshape(self.n, -1))
        return rows[:, : self.blocks].astype(np.int16)

    def floats(
        self, b: np.ndarray, scales: np.ndarray, zero_points: np.ndarray | None, groups: np.ndarray | None
    ) -> np.ndarray:
        """Return the weights as float32, shape (k, n)."""
        codes = self.codes(b).reshape(self.n, -1)[:, : self.k]
        each = np.arange(self.k) // self.block if groups is None else groups.reshape(-1)[: self.k]
        zeros = np.broadcast_to(self.zeros(zero_points), (self.n, self.blocks))
        w = codes.astype(np.float32)
        w -= zeros[:, each]
        w *= scales.reshape(self.n, self.blocks).astype(np.float32)[:, each]
        return np.ascontiguousarray(w.T)


def _row(site: Site, weights: _Weights) -> np.ndarray | None:
    """Return the bias where it is a constant row of float32."""
    bias = site.const(5)
    plain = bias is not None and bias.dtype == np.float32 and bias.shape == (weights.n,)
    return np.ascontiguousarray(bias) if plain else None


def _finishes(site: Site, weights: _Weights) -> bool:
    """Tell whether the product on int8 kernels has the bias and the activation in it, if there are any."""
    return not site.has(5) or _row(site, weights) is not None


def _by_blocks(site: Site, weights: _Weights) -> Callable[[np.ndarray], np.ndarray | None] | None:
    """Return the product with each row of a block quantised to int8, or None where the codes do not fit int8.

    The product gives None for rows that are not finite.
    """
    b, scales, zero_points = site.const(1), site.const(2), site.const(3)
    if b is None or scales is None or (site.has(3) and zero_points is None) or site.has(4):
        return None
    zeros = weights.zeros(zero_points)
    if zeros.dtype.kind == "f":
        return None
    codes = weights.codes(b).astype(np.int16) - (zeros[..., None] if zeros.ndim else zeros)
    if codes.min() < -128 or codes.max() > 127:
        return None
    kernel, count = site.kernel, site.num_threads
    columns = scales.reshape(weights.n, weights.blocks).astype(np.float32)
    epilogues = [
        AddedDequantization(np.ascontiguousarray(columns[:, i]), first=i == 0) for i in range(weights.blocks - 1)
    ]
    bias, act = (_row(site, weights), site.attr("act")) if _finishes(site, weights) else (None, None)
    last = np.ascontiguousarray(columns[:, -1])
    epilogues.append(AddedDequantization(last, first=not epilogues, bias=bias, act=act))
    # The last block ends where K does.
    deep = np.ascontiguousarray(codes.reshape(weights.n, -1)[:, : weights.k].T).astype(np.int8)
    blocks = [pack(deep[i : i + weights.block], kernel=kernel) for i in range(0, weights.k, weights.block)]
    plans: dict[str, Plan] = {}

    def run(x: np.ndarray) -> np.ndarray | None:
        chosen, threads = choice(kernel, count)
        plan = plans.get(chosen.name)
        if plan is None:
            plan = plans[chosen.name] = deep_plan([block.on(chosen) for block in blocks], epilogues, QuantizedRows())
        y = plan.offer(x, None, threads)
        if y is not None:
            settings.count(chosen.name, x.size * weights.n)
        return y

    return run


@operator("MatMulNBits", domain=MICROSOFT)
@operator("MatMulNBits", domain=FUSED)
def _matmul_nbits(site: Site) -> Function | None:
    """Exact by the dequantised weights, or on int8 kernels where the model's accuracy_level asks for no more.

    Patterns give it an attribute `act`, the activation of the result.
    """
    weights = _Weights(site)
    limit, what = site.max_bytes, site.what
    quantised = _by_blocks(site, weights) if site.attr("accuracy_level", 0) == _INT8_LEVEL else None
    known: np.ndarray | None = None
    if quantised is None and site.all_constant(1, 2, 3, 4):
        b, scales = site.const(1), site.const(2)
        if b is not None and scales is not None:
            known = weights.floats(b, scales, site.const(3), site.const(4))
    if known is not None or quantised is not None:
        site.absorb(1)
    if quantised is not None:
        site.by = site.kernel_name
        site.steady = _finishes(site, weights)
    finished, act = _finishes(site, weights), site.attr("act")

    def run(
        a: np.ndarray, b: np.ndarray | None, scales: np.ndarray, zero_points: np.ndarray | None = None,
        groups: np.ndarray | None = None, bias: np.ndarray | None = None,
    ) -> Any:  # fmt: skip
        if a.ndim < 1 or a.shape[-1] != weights.k:
            raise ValueError(f"A must have {weights.k} columns, got shape {a.shape}")
        shape = (*a.shape[:-1], weights.n)
        check_shape(shape, 4, limit, what)
        rows = np.ascontiguousarray(a.reshape(-1, weights.k), np.float32)
        y = None if quantised is None else quantised(rows)
        if y is not None and finished:
            return y.reshape(shape).astype(a.dtype, copy=False)
        if y is None:
            w = known
            if w is None:
                codes = site.const(1) if b is None else b
                assert codes is not None  # noqa: S101 - it is given, or was absorbed
                w = weights.floats(codes, scales, zero_points, groups)
            y = product(rows, w)
        if bias is not None:
            y += bias
        return epilogue.activate(y, act).reshape(shape).astype(a.dtype, copy=False)

    return run
