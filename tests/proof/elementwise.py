"""Claims about what works value by value: each is the expression that numpy has for it, its float operations in the same order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from proof import numbers, terms
from proof.claim import Call, check_bytes
from proof.expressions import (
    Rows,
    Shape,
    add,
    bits,
    check_bytes_of,
    code,
    code_by_sum,
    div,
    from_int,
    horner,
    mul,
    rounded,
    sub,
    values,
)
from proof.image import Entry
from proof.machine import State
from support.rows import INTERLEAVERS

from pyint8dot import floats


def gelu(x: Any) -> Any:
    """``floats.activations._gelu_block``."""
    magnitude = terms.operation("fabs", 4, x)
    r = horner(terms.extreme("fmin", 4, (magnitude, bits(floats.GELU_LIMIT))), floats.GELU_R)
    for _ in range(5):
        r = mul(r, r)
    return add(mul(x, bits(0.5)), mul(magnitude, sub(bits(0.5), r)))


class Block:
    """What many of them have: an int32 block of rows apart, and a result of rows apart."""

    def __init__(self, call: Call, m: Any, n: Any, size: int) -> None:
        self.acc = values("acc", m, n)
        source = Rows(call, "acc", (m, n), 4, 8, self.acc)
        self.y = Rows(call, "y", (m, n), size, 5 * size)
        self.fields = [source.address, self.y.address, source.pitch, self.y.pitch, m, n]

    def check(self, call: Call, want: Callable[[Any, Any], Any]) -> None:
        """Fail where a result is another one than it should be."""
        self.y.check(want)


#: Zero points of int8 and of uint8, among them the least and the greatest.
ZERO_POINTS = {0: (-128, -1, 0, 3, 127), 1: (0, 1, 127, 128, 255)}


def requantize(call: Call, shape: Shape) -> None:
    """``clip(rint(float32(acc) * scale) + zero_point)``."""
    number, form = divmod(shape.form, 6)
    unsigned, scales = form % 2, form // 2
    zero_point = ZERO_POINTS[unsigned][number]
    block = Block(call, shape.m, shape.n, 1)
    scale = values("scale", shape.n if scales == 2 else shape.m if scales == 1 else 1)
    at = {0: lambda i, j: 0, 1: lambda i, j: i, 2: lambda i, j: j}[scales]
    call.run(
        [*block.fields, call.lanes("scale", scale), 4 * (scales == 1), int(scales == 2), zero_point, unsigned],
    )
    block.check(call, lambda i, j: code_by_sum(mul(from_int(block.acc[i][j]), scale[at(i, j)]), zero_point, unsigned))


def dequantize(call: Call, shape: Shape) -> None:
    """``act((float32(acc) * col_scale) * row_scale + bias)``."""
    act, form = divmod(shape.form, 6)
    per_row, biases = form % 2, form // 2
    block = Block(call, shape.m, shape.n, 4)
    row_scale, col_scale = values("row_scale", shape.m if per_row else 1), values("col_scale", shape.n)
    fields = [call.lanes("row_scale", row_scale), 4 * per_row, call.lanes("col_scale", col_scale)]
    # No bias, one value per column, or a row for each row.
    if biases == 2:
        bias = values("bias", shape.m, shape.n)
        rows = Rows(call, "bias", (shape.m, shape.n), 4, 12, bias)
        fields += [rows.address, act, rows.pitch]
    else:
        bias = values("bias", shape.n) if biases else None
        fields += [call.lanes("bias", bias), act, 0]
    call.run([*block.fields, *fields])

    def want(i: int, j: int) -> Any:
        x = mul(mul(from_int(block.acc[i][j]), col_scale[j]), row_scale[i * per_row])
        # x + -0.0 is x; that is how the entry has no bias.
        x = add(x, bits(-0.0) if not biases else bias[j] if biases == 1 else bias[i][j])
        # Without an activation, as max(x, -inf), which is x.
        return {0: x, 1: terms.extreme("fmax", 4, (x, 0)), 2: gelu(x)}[act]

    block.check(call, want)


def settled(product: Any, shift: int, policy: int) -> Any:
    """What sends a tie to where a policy has it, added to a product before half a unit is added and the floor is taken.

    `tests/test_proof.py` shows of every remainder that this rounds to nearest, ties by the policy; policies are numbered from 1 as in
    the contract: Zero, Away, MinusInf, PlusInf, Even, Odd.
    """
    odd = terms.operation("and", 8, terms.operation("sshl", 8, product, -shift % 256), 1)
    parts = {
        1: ((1, terms.operation("cmge", 8, product, 0)),),
        2: ((1, terms.operation("sshr", 8, product, 63)),),
        5: ((1, odd),),
        6: ((-1, odd),),
    }.get(policy, ())
    return terms.total(8, ((1, product), *parts), const=-1 if policy in (3, 5) else 0)


def q_scale(call: Call, shape: Shape) -> None:
    """``clamp(round(acc * multiplier / 2**shift) + zero_point)``, low byte."""
    number, policy = divmod(shape.form, 6)
    shift, zero_point = ((1, 3), (31, -77), (62, 2**31 - 1))[number]
    block = Block(call, shape.m, shape.n, 1)
    multiplier, low, high = (2**30 + 12345) >> number, -100, 200
    call.run([*block.fields, multiplier, shift, policy + 1, zero_point, low, high])

    def want(i: int, j: int) -> Any:
        product = terms.total(8, (), ((1, block.acc[i][j], multiplier),))
        quotient = terms.operation("srshl", 8, settled(product, shift, policy + 1), -shift % 256)
        total = terms.total(4, ((1, quotient),), const=zero_point)
        least = terms.extreme("smax", 4, (total, low % 2**32))
        return terms.resized(terms.extreme("smin", 4, (least, high)), 1)

    block.check(call, want)


def add_outer(call: Call, shape: Shape) -> None:
    """``C += u * v``; with one row v may be C itself."""
    m, n = shape.m, shape.n
    c, pitch = values("c", m, n), 4 * n + 4
    u = values("u", m)
    region = call.region("c")
    for i, line in enumerate(c):
        region.holds([slot for x in line for slot in x.bytes], i * pitch).takes(4 * n, i * pitch)
    same = shape.form and m == 1
    v = c[0] if same else values("v", n)
    call.run([region.address, pitch, m, n, call.lanes("u", u), region.address if same else call.lanes("v", v)])
    for i in range(m):
        check_bytes_of(
            call, region, i * pitch, [terms.total(4, ((1, c[i][j]),), ((1, u[i], v[j]),)) for j in range(n)], i
        )


def column_start(call: Call, shape: Shape) -> None:
    """``base + z * v``, z an int8, or a uint8 less 128."""
    n, unsigned, based = shape.n, shape.form & 1, shape.form >> 1
    zero = terms.signed_input("z", 1)
    base, v = values("base", n) if based else None, values("v", n)
    start = Rows(call, "start", (1, n), 4)
    point = call.input("zero_point", [terms.moved(zero, 128) if unsigned else zero])
    fields = [call.lanes("base", base), n, point, 0x80 * unsigned, call.lanes("v", v)]
    call.run([start.address, *fields])
    start.check(lambda _, j: terms.total(4, ((1, base[j]),) if base else (), ((1, zero, v[j]),)))


def column_scale(call: Call, shape: Shape) -> None:
    """``x * scale``."""
    x, (scale,) = values("x", shape.n), values("scale", 1)
    y = Rows(call, "y", (1, shape.n), 4)
    call.run([call.lanes("x", x), y.address, shape.n, call.lanes("scale", [scale])])
    y.check(lambda _, j: mul(x[j], scale))


def quantize_linear(call: Call, shape: Shape) -> None:
    """``clip(rint(x / scale) + zero_point)``."""
    number, unsigned = divmod(shape.form, 2)
    zero_point = ZERO_POINTS[unsigned][number]
    x, (scale,) = values("x", shape.n), values("scale", 1)
    y = Rows(call, "y", (1, shape.n), 1)
    call.run([call.lanes("x", x), y.address, shape.n, call.lanes("scale", [scale]), zero_point, unsigned])
    y.check(lambda _, j: code(rounded(div(x[j], scale)), zero_point, unsigned))


def dequantize_linear(call: Call, shape: Shape) -> None:
    """``float32(x - zero_point) * scale``."""
    number, unsigned = divmod(shape.form, 2)
    zero_point = ZERO_POINTS[unsigned][number]
    (scale,) = values("scale", 1)

    def x(_: int, j: Any) -> Any:
        return terms.moved(terms.signed_input("x", 1, j), 128 * unsigned)

    n = shape.n
    lying = call.plane("x", (1, n), 1, x).address if numbers.BOUNDS else call.input("x", [x(0, j) for j in range(n)])
    y = Rows(call, "y", (1, n), 4)
    call.run([lying, y.address, n, call.lanes("scale", [scale]), zero_point, unsigned])
    y.check(lambda _, j: mul(from_int(terms.total(4, ((1, x(0, j)),), const=-zero_point)), scale))


def hard_sigmoid(call: Call, shape: Shape) -> None:
    """``clip(x * alpha + beta, 0, 1)``, in the second form times ``x``."""
    x, (alpha, beta) = values("x", shape.n), values("line", 2)
    y = Rows(call, "y", (1, shape.n), 4)
    call.run([call.lanes("x", x), y.address, shape.n, call.lanes("line", [alpha, beta]), shape.form])

    def want(_: int, j: Any) -> Any:
        least = terms.extreme("fmax", 4, (add(mul(x[j], alpha), beta), 0))
        clipped = terms.extreme("fmin", 4, (least, bits(1)))
        return mul(clipped, x[j]) if shape.form else clipped

    y.check(want)


def lookup(call: Call, shape: Shape) -> None:
    """``table[x]``: the table of any bytes, each byte of x every number that it can be, one form a rotation of them."""
    table = [terms.signed_input("table", 1, i) for i in range(256)]
    x = [(shape.form + 37 * j) % 256 for j in range(shape.n)]
    y = call.region("y").takes(shape.n)
    call.run([call.input("x", x), y.address, shape.n, call.input("table", table)])
    check_bytes(y, [table[each] for each in x], shape)


def combine(call: Call, shape: Shape) -> None:
    """``clip(rint((p + q) / scale) + zero_point)`` or the same of ``p * q``; q codes or floats, its rows apart or one for all."""
    m, n = shape.m, shape.n
    unsigned, rest = shape.form % 8, shape.form // 8
    floats_, product, repeated = rest & 1, rest >> 1 & 1, rest >> 2
    kinds = [unsigned & 1, unsigned >> 1 & 1, unsigned >> 2]
    zeros = [ZERO_POINTS[kind][(3 * n + m + i) % 5] for i, kind in enumerate(kinds)]
    scales = values("scale", 3)

    def meaning(moved: Any, which: int) -> Any:
        return mul(from_int(terms.total(4, ((1, moved),), const=128 * kinds[which] - zeros[which])), scales[which])

    a = [[terms.signed_input("a", 1, i, j) for j in range(n)] for i in range(m)]
    wide = 1 if repeated else m
    size = 4 if floats_ else 1
    b = [[terms.signed_input("b", size, i, j) for j in range(n)] for i in range(wide)]
    left, right = call.region("a"), call.region("b")
    y = call.region("y").takes(m * n)
    ld = 0 if repeated else size * n + 8
    for i, line in enumerate(a):
        left.holds([slot for x in line for slot in terms.moved(x, 128 * kinds[0]).bytes], i * n)
    for i, line in enumerate(b):
        slots = [x if floats_ else terms.moved(x, 128 * kinds[1]) for x in line]
        right.holds([slot for x in slots for slot in x.bytes], i * ld)
    fields = [left.address, right.address, y.address, ld, m, n, call.lanes("scale", scales), *zeros]
    call.run([*fields, unsigned, floats_ + 2 * product])
    for i in range(m):
        want = []
        for j in range(n):
            q = b[0 if repeated else i][j]
            t = (mul if product else add)(meaning(a[i][j], 0), q if floats_ else meaning(q, 1))
            want.append(code(rounded(div(t, scales[2])), zeros[2], kinds[2]))
        check_bytes_of(call, y, i * n, want, i, size=1)


def copy_planes(call: Call, shape: Shape) -> None:
    """``x[p][i][step * j]``, the top bit turned over where that is asked for."""
    _copy(call, shape, 1, shape.form >> 1)


def interleave(call: Call, shape: Shape) -> None:
    """``x[kr * p + q][i][step * j]`` for each q of a K group, one beside the other, likewise."""
    _copy(call, shape, INTERLEAVERS[call.entry.name].kr, 1 + (shape.form >> 1))


def _copy(call: Call, shape: Shape, group: int, step: int) -> None:
    # Without rows there are planes or none.
    planes, flipped = 2 if shape.m or shape.n % 2 else 0, shape.form & 1
    rows, n = shape.m, shape.n
    row_x, row_y = max(n - 1, 0) * step + 4, n * group + 3
    plane_x, plane_y = row_x * rows + 2, row_y * rows + 5
    source, y = call.region("x"), call.region("y")
    want = {}
    for p, i in itertools.product(range(planes), range(rows)):
        lines = []
        for channel in range(p * group, (p + 1) * group):
            line = [terms.signed_input("x", 1, channel, i, j * (step > 0)) for j in range(n)]
            # Between two of them lie others, which may be read.
            lying = [terms.signed_input("between", 1, channel, i, at) for at in range(max(n - 1, 0) * step + (n > 0))]
            lying[:: step or 1] = [terms.moved(x, 128 * flipped) for x in (line if step else line[:1])]
            source.holds(lying, channel * plane_x + i * row_x)
            lines.append(line)
        y.takes(n * group, p * plane_y + i * row_y)
        want[p * plane_y + i * row_y] = [line[j] for j in range(n) for line in lines]
    call.run([source.address, y.address, planes, rows, n, plane_x, plane_y, row_x, row_y, step, 0x80 * flipped])
    for at, line in want.items():
        check_bytes_of(call, y, at, line, size=1)


#: Each entry's definition, the columns that its turn takes, whether it has rows, and how many forms.
DEFINITIONS: dict[str, tuple[Callable[[Call, Shape], None], int, bool, int]] = {
    "requantize": (requantize, 16, True, 30),
    "dequantize": (dequantize, 8, True, 18),
    "q_scale": (q_scale, 8, True, 18),
    "add_outer": (add_outer, 8, True, 2),
    "column_start": (column_start, 8, False, 4),
    "column_scale": (column_scale, 8, False, 1),
    "quantize_linear": (quantize_linear, 16, False, 10),
    "dequantize_linear": (dequantize_linear, 16, False, 10),
    "hard_sigmoid": (hard_sigmoid, 16, False, 2),
    "lookup": (lookup, 32, False, 256),
    "combine": (combine, 16, True, 64),
    "copy_planes": (copy_planes, 64, True, 8),
    **dict.fromkeys(INTERLEAVERS, (interleave, 16, True, 8)),
}


#: How many turns and rows more there may be.
LARGEST = 1 << 27

#: So many forms are few.
FEW = 8

#: Those of them that are proven for any number of columns, and of rows where they have some.
ANY = (
    "requantize", "dequantize", "q_scale", "column_start", "column_scale", "quantize_linear", "dequantize_linear", "hard_sigmoid",
)  # fmt: skip


def shapes(name: str, *, full: bool) -> Iterator[Shape]:
    """The blocks that are proven: every number of columns through two turns and what may be left, each form; few rows."""
    _, turn, rows, forms = DEFINITIONS[name]
    for m in (0, 1, 2, 3) if rows else (1,):
        for n in range(3 * turn):
            # In a quick run each size has one form, or every second of few; forms that are as many as bytes have values are gone through
            # for one size.
            every = 1 if forms < 256 or n == turn + 1 else 16
            some = range(n % 2, forms, 2) if forms <= FEW else ((5 * n + 3 * m) % forms,)
            for form in range(n % every, forms, every) if full else some if m < 3 else ():
                yield Shape(m, n, form)
    if name in ANY:
        # More columns than a turn has and any number of turns, or fewer; one row and any number of rows.
        for n in range(1 if rows else turn, 2 * turn) if full else (turn, 2 * turn - 1):
            for form in range(forms) if full else (5 * n % forms,):
                yield Shape(1, n, form, ("m" if rows else "") + ("n" if n >= turn else ""))


def prove(entry: Entry, shape: Shape) -> State:
    """Prove one block and return the state that the entry left."""
    call = Call(entry)
    definition, turn, _, _ = DEFINITIONS[entry.name]
    if "n" in shape.more:
        shape = shape._replace(n=shape.n + turn * numbers.parameter("n", 0, LARGEST))
    if "m" in shape.more:
        shape = shape._replace(m=shape.m + numbers.parameter("m", 0, LARGEST))
    definition(call, shape)
    return call.state
