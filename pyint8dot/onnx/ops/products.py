"""Quantised matrix products: ONNX's own, and the fused one that patterns make of them, on this package's kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pyint8dot import epilogue, qlinear, quantize
from pyint8dot.engine import dispatch, settings, tape, threads
from pyint8dot.engine.packing import PackedMatrix, pack
from pyint8dot.linear import ScaledProduct
from pyint8dot.onnx.bounds import check_broadcast
from pyint8dot.onnx.graph import FUSED
from pyint8dot.onnx.ops.neural import check_matmul, most_elements
from pyint8dot.onnx.registry import FLOATS, INT8, Function, Site, any_scale, operator

UINT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)


def _packed(site: Site, index: int) -> PackedMatrix | None:
    """The right operand, packed once, where it is a constant matrix."""
    b = site.const(index)
    if b is None or b.ndim != 2 or b.dtype not in INT8:
        return None
    site.absorb(index)
    return pack(b, kernel=site.kernel)


def _constant(site: Site, index: int) -> Any:
    """Return a constant input, a single number as a numpy scalar: products keep what they make of what cannot change."""
    one = site.single(index)
    return site.const(index) if one is None else one


@operator("MatMulInteger")
def _matmul_integer(site: Site) -> Function | None:
    site.by = site.kernel_name
    kernel, count, limit, what = site.kernel, site.num_threads, site.max_bytes, site.what
    packed = _packed(site, 1)
    if packed is None or not site.all_constant(3):

        def general(a: np.ndarray, b: Any, za: np.ndarray | None = None, zb: np.ndarray | None = None) -> Any:
            right = packed if packed is not None else b
            check_matmul(a, right, 4, limit, what)
            return np.asarray(qlinear.matmul_integer(a, right, za, zb, kernel=kernel, num_threads=count))

        return general
    # A zero point of 0 is as none.
    a_zero, b_zero = (
        None if isinstance(z, np.integer) and z == 0 else z for z in (_constant(site, 2), _constant(site, 3))
    )
    site.steady = site.all_constant(2)
    fixed, weights, most = site.all_constant(2), packed, most_elements(packed.shape, 4, limit)

    def run(a: np.ndarray, _b: Any = None, za: Any = None, *_: Any) -> Any:
        if a.size > most:
            check_matmul(a, weights, 4, limit, what)
        return qlinear.matmul_integer(a, weights, a_zero if fixed else za, b_zero, kernel=kernel, num_threads=count)

    return run


@operator("MatMulFloat", domain=FUSED)
def _matmul_float(site: Site) -> Function | None:
    """Inputs a, b, zero point of a, zero point of b, scale, bias: the scaled product in float32, by ONNX's own steps.

    The attribute `unit` is a constant by which the scale is multiplied first. Where `a` is float32, DynamicQuantizeLinear
    makes a, its zero point and the scale of it.
    """
    site.by = site.kernel_name
    kind, packed = site.dtype(0), _packed(site, 1)
    dynamic = kind == FLOAT32
    codes = UINT8 if dynamic else kind
    scaled = None if packed is None or codes is None else _scaled(site, packed, codes)
    steps = _by_steps(site, packed)
    product = steps if scaled is None else _planned(scaled, codes, steps)
    # Zero point and scale are operands of the plan; by steps, no result is native.
    site.steady = scaled is not None
    if not dynamic:
        return product
    whole = None if scaled is None else scaled.make(FLOAT32)

    def run(x: np.ndarray, b: Any, _za: None, zb: Any, _scale: None, *bias: np.ndarray) -> Any:
        if whole is not None and scaled is not None and x.dtype is FLOAT32 and scaled.serves(x):
            y = whole(x, scaled.workers())
            if y is not None:
                return y
        quantised, scale, zero_point = quantize.dynamic_quantize_arrays(x)
        return product(quantised, b, zero_point, zb, scale, *bias)

    return run


def _by_steps(site: Site, packed: PackedMatrix | None) -> Function:
    """Return the function of MatMulFloat for any operands; see there."""
    kernel, count, limit, what = site.kernel, site.num_threads, site.max_bytes, site.what
    act, unit = site.attr("act"), site.attr("unit")

    def run(
        a: np.ndarray, b: Any, za: Any = None, zb: Any = None, scale: Any = None, bias: np.ndarray | None = None
    ) -> Any:
        right = packed if packed is not None else b
        check_matmul(a, right, 4, limit, what)
        acc = qlinear.matmul_integer(a, right, za, zb, kernel=kernel, num_threads=count)
        if unit is not None:
            check_broadcast((scale, unit), limit, what)
            scale = scale * unit
        y = np.asarray(acc.astype(np.float32) * scale)
        if bias is not None:
            y = y + bias
        return epilogue.activate(y, act)

    return run


class _Scaled(NamedTuple):
    """A MatMulFloat whose weights and bias are constants that fit each other."""

    #: Makes the product for left operands of a type.
    make: Callable[[np.dtype[Any]], ScaledProduct]
    #: Whether the scale is a constant, which the product knows.
    fixed: bool
    #: Dimensions that an operand has at least, for the result to have as many.
    ndim: int
    most: int
    threads: int | None

    def serves(self, a: np.ndarray) -> bool:
        """Whether the result for this operand has its dimensions and is not too large."""
        return a.ndim >= self.ndim and a.size <= self.most

    def workers(self) -> int:
        """How many threads a product uses now."""
        return threads.get_num_threads() if self.threads is None else self.threads


def _scaled(site: Site, packed: PackedMatrix, codes: np.dtype[Any]) -> _Scaled | None:
    """Return what is constant of a MatMulFloat, or None where something is not."""
    if not site.all_constant(3, 5) or codes not in INT8:
        return None
    n = packed.shape[1]
    zb, bias, scale, unit = site.const(3), site.const(5), site.const(4), site.attr("unit")
    known = np.asarray(np.multiply(*(np.float32(1) if c is None else c for c in (scale, unit))))
    column_zero: Any = 0
    if zb is not None and zb.any():
        column_zero = int(zb.reshape(())) if zb.size == 1 else zb.reshape(-1).astype(np.int32)
    along = known.size == 1 or (known.size == n and known.shape[-1] == n)
    zero_fits = zb is None or (zb.dtype == packed.dtype and np.size(column_zero) in (1, n))
    bias_fits = bias is None or (bias.shape == (n,) and bias.dtype == FLOAT32)
    if known.dtype != FLOAT32 or not (along and zero_fits and bias_fits):
        return None
    columns = np.array(np.broadcast_to(known.reshape(-1), n))
    right, act = packed.on(dispatch.select(site.kernel)), site.attr("act")

    def make(dtype: np.dtype[Any]) -> ScaledProduct:
        return ScaledProduct(right, dtype, column_zero, columns, bias, act)

    most = most_elements(packed.shape, 4, site.max_bytes)
    return _Scaled(make, scale is not None, max(2, known.ndim), most, site.num_threads)


def _planned(scaled: _Scaled, codes: np.dtype[Any] | None, steps: Function) -> Function:
    """Return the function of MatMulFloat for plain operands of codes, which leaves all others to `steps`."""
    assert codes is not None  # noqa: S101 - the product is of this type
    product, no_zero, one = scaled.make(codes), np.zeros((), codes), np.ones((), FLOAT32)
    fixed = scaled.fixed

    def run(
        a: np.ndarray, b: Any, za: Any = None, zb: Any = None, scale: Any = None, bias: np.ndarray | None = None
    ) -> Any:
        zero = no_zero if za is None else za
        factor = one if fixed else scale
        if a.dtype is codes and scaled.serves(a) and zero.size == factor.size == 1 and factor.ndim < 2:
            y = product(a, scaled.workers(), zero.reshape(()), factor.reshape(()))
            if y is not None:
                return y
        return steps(a, b, za, zb, scale, bias)

    return run


@operator("QLinearMatMul", domain=FUSED)
@operator("QLinearMatMul")
def _qlinear_matmul(site: Site) -> Function | None:
    """ONNX's, and that of two tensors whose result is written in the order that a Transpose after it asked for."""
    site.by, perm = site.kernel_name, site.attr("perm") if site.node.domain == FUSED else None
    if site.dtype(1) not in FLOATS or (kind := site.dtype(0)) not in INT8:
        return None
    kernel, count, limit, what = site.kernel, site.num_threads, site.max_bytes, site.what
    packed = _packed(site, 3) if perm is None else None
    if packed is None or not site.all_constant(1, 2, 4, 5, 6, 7, 8):
        pairs, b_type = None, site.dtype(3)
        if b_type is not None and site.all_constant(1, 2, 4, 5, 6, 7) and not site.has(8):
            # Here too parameters that do not fit are an error of the run.
            with contextlib.suppress(TypeError, ValueError):
                parameters = [_constant(site, index) for index in (1, 2, 4, 5, 6, 7)]
                pairs = qlinear.constant_pairs(dispatch.select(kernel), (kind, b_type), parameters, perm)
                site.steady = packed is None and pairs is not None

        def general(
            a: np.ndarray, sa: np.ndarray, za: np.ndarray, b: Any, sb: np.ndarray, zb: np.ndarray,
            sy: np.ndarray, zy: np.ndarray, bias: np.ndarray | None = None,
        ) -> Any:  # fmt: skip
            right = packed if packed is not None else b
            check_matmul(a, right, 4, limit, what)
            if pairs is not None and packed is None:
                y = pairs(a, b, threads.get_num_threads() if count is None else count)
                if y is not None:
                    return y
                # A right operand that is packed beforehand is no constant.
                tape.shared()
            y = np.asarray(
                qlinear.qlinear_matmul(
                    a, any_scale(sa), za, right, any_scale(sb), zb, sy, zy, bias=bias, kernel=kernel, num_threads=count
                )
            )
            return y if perm is None else np.ascontiguousarray(y.transpose(perm))

        return general
    sa, za, sb, zb, sy, zy = (_constant(site, index) for index in (1, 2, 4, 5, 6, 7))
    sa, sb, bias = any_scale(sa), any_scale(sb), site.const(8)
    weights, most = packed, most_elements(packed.shape, 4, limit)
    site.steady = True
    plan = None
    # Parameters that do not fit are an error of the run, which names the node.
    with contextlib.suppress(TypeError, ValueError):
        assert kind is not None  # noqa: S101 - it is one of the two
        plan = qlinear.constant_plan(packed, dispatch.select(kernel), kind, (sa, za, sb, zb, sy, zy), bias)

    def run(a: np.ndarray, *_: Any) -> Any:
        if a.size > most:
            check_matmul(a, weights, 4, limit, what)
        if plan is not None and a.dtype is kind and settings.current().tally is None:
            y = plan.offer(a, None, threads.get_num_threads() if count is None else count)
            if y is not None:
                return y
        return qlinear.qlinear_matmul(a, sa, za, weights, sb, zb, sy, zy, bias=bias, kernel=kernel, num_threads=count)

    return run
