"""Claims about what goes row by row: each value is the expression that pyint8dot.floats and lrn.py have for it, sums in their order.

Additions and multiplications of two values are written here in the order that the entry has them in; they commute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from proof import terms
from proof.claim import Call, fail
from proof.expressions import Shape, add, bits, check_bytes_of, div, horner, mul, rounded, sub, values
from proof.image import Entry
from proof.machine import State
from proof.memory import Region

from pyint8dot import floats

INFINITY = bits(np.inf)


def root(x: Any) -> Any:
    """``np.sqrt``."""
    return terms.operation("fsqrt", 4, x)


def magnitude(x: Any) -> Any:
    """``np.abs``."""
    return terms.operation("fabs", 4, x)


def total(lanes: Any, row: Any, width: int) -> tuple[Any, Any]:
    """``floats.work.sums_of``: what whole turns add up to lane by lane, then in pairs, and the sum of what is left over."""
    whole = len(row) // width * width
    sums = [0] * width
    for first in range(0, whole, width):
        sums = [add(x, lanes(row[first + i])) for i, x in enumerate(sums)]
    while len(sums) > 4:
        pairs = [sums[i : i + 8] for i in range(0, len(sums), 8)]
        sums = [add(pair[i], pair[4 + i]) for pair in pairs for i in range(4)]
    rest = 0
    for x in row[whole:]:
        rest = add(rest, lanes(x))
    return add(add(sums[0], sums[1]), add(sums[2], sums[3])), rest


def rows_of(call: Call, shape: Shape, size: int = 4) -> tuple[Any, Region, list[int], int]:
    """A float32 block of rows apart, where a result of rows apart goes, the arguments that say so, and bytes between results."""
    m, n = shape.m, shape.n
    x, ld_x, ld_y = values("x", m, n), 4 * n + 8, size * n + 3 * size
    source, y = call.region("x"), call.region("y")
    for i, line in enumerate(x):
        source.holds([slot for each in line for slot in each.bytes], i * ld_x)
        y.takes(size * n, i * ld_y)
    return x, y, [source.address, y.address, ld_x, ld_y, m, n], ld_y


def power(x: Any) -> Any:
    """``floats.powers._exp2_block``: two to a power that is at most 0."""
    magic = bits(floats.EXP2_MAGIC)
    below = terms.extreme("fmax", 4, (x, bits(floats.EXP2_LOWEST)))
    shifted = add(below, magic)
    e = horner(sub(below, sub(shifted, magic)), floats.EXP2_E)
    return mul(mul(e, e), terms.total(4, ((1 << 23, shifted),)))


def exp2_terms(call: Call, shape: Shape) -> None:
    """The powers of the scaled distances to the greatest value, and their sums."""
    x, y, fields, ld_y = rows_of(call, shape)
    (scale,) = values("scale", 1)
    sums = call.region("sums").takes(4 * shape.m)
    call.run([*fields, call.lanes("scale", [scale]), sums.address])
    for i, row in enumerate(x):
        greatest = terms.extreme("fmax", 4, [INFINITY | 1 << 31, *row])
        powers = [power(mul(sub(each, greatest), scale)) for each in row]
        check_bytes_of(call, y, i * ld_y, powers)
        whole, rest = total(lambda each: each, powers, 8)
        check_bytes_of(call, sums, 4 * i, [add(rest, whole)])


def lines_of(call: Call, shape: Shape) -> tuple[Any, Region, list[int]]:
    """A float32 block of rows one behind the other, where a result of such rows goes, and the arguments that say so."""
    m, n = shape.m, shape.n
    x, y = values("x", m, n), call.region("y").takes(4 * m * n)
    return x, y, [call.lanes("x", [each for row in x for each in row]), y.address, m, n]


def divide_rows(call: Call, shape: Shape) -> None:
    """``floats.divide_rows``; the form says whether by the root."""
    x, y, fields = lines_of(call, shape)
    divisors = values("divisor", shape.m)
    call.run([*fields, call.lanes("divisor", divisors), shape.form])
    for i, row in enumerate(x):
        by = root(divisors[i]) if shape.form else divisors[i]
        check_bytes_of(call, y, 4 * i * shape.n, [div(each, by) for each in row])


def deviations(call: Call, shape: Shape) -> None:
    """``floats.deviations``."""
    x, y, fields = lines_of(call, shape)
    variance = call.region("variance").takes(4 * shape.m)
    call.run([*fields, variance.address])
    count = terms.operation("ucvtf", 4, shape.n)
    for i, row in enumerate(x):
        if shape.n:
            mean = div(add(*total(lambda each: each, row, 16)), count)
            away = [sub(each, mean) for each in row]
            check_bytes_of(call, y, 4 * i * shape.n, away)
            want = div(add(*total(lambda each: mul(each, each), away, 16)), count)
            check_bytes_of(call, variance, 4 * i, [want])


def layer_norm(call: Call, shape: Shape) -> None:
    """``floats.layer_norm`` and ``layer_norm_and_scaled``; the form says whether there is a residual, and whether a factor."""
    x, y, fields, ld_y = rows_of(call, shape)
    m, n = shape.m, shape.n
    residual = values("residual", m, n) if shape.form & 1 else None
    factor = values("factor", n) if shape.form & 2 else None
    weight, bias, (eps,) = values("weight", n), values("bias", n), values("eps", 1)
    second, ld_residual, z, ld_z = call.region("residual"), 4 * n + 16, call.region("z"), 4 * n + 20
    for i in range(m):
        if residual:
            second.holds([slot for each in residual[i] for slot in each.bytes], i * ld_residual)
        if factor:
            z.takes(4 * n, i * ld_z)
    fields += [call.lanes("weight", weight), call.lanes("bias", bias), call.lanes("eps", [eps])]
    fields += [second.address if residual is not None else 0, ld_residual]
    call.run([*fields, call.lanes("factor", factor), z.address if factor is not None else 0, ld_z])
    count = terms.operation("ucvtf", 4, n)
    for i, first in enumerate(x):
        if n:
            row = first if residual is None else [add(*pair) for pair in zip(first, residual[i], strict=True)]
            mean = div(add(*total(lambda each: each, row, 16)), count)
            away = [sub(each, mean) for each in row]
            variance = div(add(*total(lambda each: mul(each, each), away, 16)), count)
            inverse = div(bits(1.0), root(add(variance, eps)))
            want = [add(mul(mul(each, inverse), weight[j]), bias[j]) for j, each in enumerate(away)]
            check_bytes_of(call, y, i * ld_y, want)
            if factor:
                check_bytes_of(call, z, i * ld_z, [mul(each, factor[j]) for j, each in enumerate(want)])


def lrn(call: Call, shape: Shape) -> None:
    """``x / (bias + alpha * sum of squares of neighbouring channels) ** 0.75``, the power by two square roots."""
    channels, n, (before, after) = shape.m, shape.n, ((0, 0), (1, 2), (2, 2), (5, 0))[shape.form]
    x = values("x", channels, n)
    y, squares = call.region("y").takes(4 * channels * n), call.region("squares").takes(64 * channels)
    (alpha,), (bias,) = values("alpha", 1), values("bias", 1)
    source = call.lanes("x", [each for line in x for each in line])
    parameters = [call.lanes("alpha", [alpha]), call.lanes("bias", [bias]), squares.address]
    call.run([source, y.address, channels, n, before, after, *parameters])
    for c in range(channels):
        want = []
        for j in range(n):
            first, *others = [
                mul(x[i][j], x[i][j]) for i in range(max(c - before, 0), min(c + after, channels - 1) + 1)
            ]
            for other in others:
                first = add(first, other)
            once = root(add(mul(first, alpha), bias))
            want.append(div(x[c][j], mul(root(once), once)))
        check_bytes_of(call, y, 4 * c * n, want)


def quantize_rows(call: Call, shape: Shape) -> None:
    """``rint(x * (127 / max |x|))`` and ``max |x| / 127``; the form says whether all magnitudes are taken to be below infinity."""
    x, y, fields, ld_y = rows_of(call, shape, 1)
    scales, status = call.region("scale").takes(4 * shape.m), call.region("status").takes(8)
    call.state.choices = [bool(shape.form)]
    call.run([*fields, scales.address, status.address])
    full, yet = bits(127.0), 0
    for i, row in enumerate(x):
        greatest = terms.extreme("fmax", 4, [0, *map(magnitude, row)])
        yet = terms.extreme("fmax", 4, [yet, greatest])
        inverse = div(full, greatest)
        # No row is as small as that and not zero where the quotient is infinite.
        factor = terms.operation("bic", 4, inverse, terms.operation("fcmeq", 4, inverse, INFINITY))
        check_bytes_of(call, y, i * ld_y, [terms.resized(rounded(mul(each, factor)), 1) for each in row], size=1)
        check_bytes_of(call, scales, 4 * i, [div(greatest, full)])
    found = call.found(status, 8, 0)
    if shape.m and call.state.decided != [("mi", terms.key_of(yet), INFINITY)]:
        fail("what the status depends on", terms.key_of(yet), INFINITY)
    if found != (None if shape.form or not shape.m else 1):
        fail("the status", found, 1)


def dynamic_quantize(call: Call, shape: Shape) -> None:
    """``clip(rint(x / scale) + zero_point)``; the form says whether the scale is taken to be finite, and whether to be 0.

    Two things are taken as given, since they follow from float values and not from the order of operations: a quotient is below 384
    in magnitude, since no value is farther from 0 than the range is wide, and a zero point is a code.
    """
    finite, nothing = shape.form > 0, shape.form > 1
    x = [each for row in values("x", shape.m, shape.n) for each in row]
    y = call.region("y").takes(len(x))
    scale, point, status = (
        call.region("scale").takes(4),
        call.region("zero_point").takes(1),
        call.region("status").takes(8),
    )
    full, least = bits(255.0), terms.extreme("fmin", 4, [0, *x])
    width = div(sub(terms.extreme("fmax", 4, [0, *x]), least), full)
    factor = bits(1.0) if nothing else width
    quotient = terms.extreme("fmin", 4, (div(terms.operation("fneg", 4, least), factor), full))
    zero = terms.atom("fcvtns", (terms.key_of(quotient),), 0, 255, 4)
    codes = [terms.atom("fcvtns", (terms.key_of(div(each, factor)),), -384, 384, 4) for each in x]
    call.state.choices = [finite, nothing][: 1 + finite]
    parameters = [scale.address, point.address, status.address]
    call.run([call.lanes("x", x), y.address, shape.m, shape.n, *parameters])
    asked = [("mi", terms.key_of(width), INFINITY), ("eq", terms.key_of(width), 0)]
    if call.state.decided != asked[: 1 + finite]:
        fail("what the scale is compared with", call.state.decided, asked)
    if not finite:
        check_bytes_of(call, status, 0, [1], size=8)
        if any(slot is not None for slot in [*y.find(len(x)), *scale.find(4), *point.find(1)]):
            fail("what is written beside the status", "something", "nothing")
        return
    check_bytes_of(call, scale, 0, [factor])
    check_bytes_of(call, point, 0, [terms.resized(zero, 1)], size=1)
    check_bytes_of(
        call, y, 0, [terms.clamped(1, 0, 255, terms.total(8, ((1, each), (1, zero)))) for each in codes], size=1
    )
    if call.found(status, 8, 0) is not None:
        fail("the status", call.found(status, 8, 0), "left alone")


#: Each entry's definition, the numbers of columns that are proven, and how many forms.
DEFINITIONS: dict[str, tuple[Callable[[Call, Shape], None], range, int]] = {
    "exp2_terms": (exp2_terms, range(48), 1),
    "divide_rows": (divide_rows, range(48), 2),
    "deviations": (deviations, range(48), 1),
    "layer_norm": (layer_norm, range(48), 4),
    "lrn": (lrn, range(16, 50), 4),
    "quantize_rows": (quantize_rows, range(48), 2),
    "dynamic_quantize": (dynamic_quantize, range(48), 3),
}


def shapes(name: str, *, full: bool) -> Iterator[Shape]:
    """The rows that are proven."""
    _, columns, forms = DEFINITIONS[name]
    for m in (0, 1, 2, 3, 6):
        for n in columns:
            for form in range(forms):
                if full or (m < 3 and n % 16 in (0, 1, 8, 15) and form == (m + n) % forms) or (m, n) == (6, 17):
                    yield Shape(m, n, form)


def prove(entry: Entry, shape: Shape) -> State:
    """Prove one block of rows and return the state that the entry left."""
    call = Call(entry)
    DEFINITIONS[entry.name][0](call, shape)
    return call.state
