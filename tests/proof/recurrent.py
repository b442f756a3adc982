"""The claims about `product_f32` and `lstm`: each value is the expression that `pyint8dot.lstm` has for it, products fused into sums in their order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from proof import terms
from proof.attention import fused
from proof.claim import Call
from proof.elementwise import add, bits, check_bytes_of, div, horner, mul, values
from proof.image import Entry
from proof.machine import State

from pyint8dot import floats
from pyint8dot.engine.lstm import GATES, LANES, PANEL


class Product(NamedTuple):
    """Rows, their length, panels of columns, and whether all rows start from the same values, from their own, or from the result."""

    m: int
    k: int
    panels: int
    start: int


class Walk(NamedTuple):
    """Steps, rows of each, groups of four units, and which forms: 1, no product with the state; 2, lengths; 4, from the end."""

    steps: int
    batch: int
    groups: int
    form: int


def shapes(name: str, *, full: bool) -> Iterator[Product | Walk]:
    """Two turns of each loop and one more, or those at the ends of turns."""
    if name == "product_f32":
        for m in range(10):
            for k in range(10):
                for panels in range(10):
                    if full or (m in (0, 1, 4, 5, 8) and k in (0, 3, 4, 9) and panels in (0, 1, 3, 4, 9)):
                        yield Product(m, k, panels, (m + k + panels) % 3)
        return
    for steps in range(4):
        for batch in range(6 if full else 3):
            for groups in range(6 if full else 3):
                for form in range(8):
                    if full or form == (steps + batch + groups) % 8 or (steps, batch, groups) == (2, 2, 1):
                        yield Walk(steps, batch, groups, form)
    yield Walk(1, 5, 5, 0)


def prove(entry: Entry, shape: Any) -> State:
    """Prove one shape and return the state that the entry left."""
    call = Call(entry)
    (_product if entry.name == "product_f32" else _lstm)(call, shape)
    return call.state


def chain(start: Any, row: list[Any], column: list[Any]) -> Any:
    """``pyint8dot.fma.chain``, the factors in the order of the entries."""
    for x, y in zip(row, column, strict=True):
        start = fused(start, y, x)
    return start


def _product(call: Call, shape: Product) -> None:
    """A row of a result after the other."""
    m, k, panels, kind = shape
    width = PANEL * panels
    a, b, start = values("a", m, k), values("b", panels, k, PANEL), values("start", m if kind else 1, width)
    ld_a, ld_y, ld_start = 4 * k + 8, 4 * width + 12, (0, 4 * width + 20, 4 * width + 12)[kind]
    rows, y = call.region("a"), call.region("y")
    begin = y if kind == 2 else call.region("start")
    for i, line in enumerate(a):
        rows.holds([slot for x in line for slot in x.bytes], i * ld_a)
        y.takes(4 * width, i * ld_y)
    for i, line in enumerate(start):
        begin.holds([slot for x in line for slot in x.bytes], i * ld_start)
    packed = call.lanes("b", [x for panel in b for line in panel for x in line])
    call.run([rows.address, packed, y.address, begin.address, ld_a, ld_y, ld_start, m, k, panels])
    for i, line in enumerate(a):
        first = start[i if kind else 0]
        want = [chain(first[j], line, [b[j // PANEL][p][j % PANEL] for p in range(k)]) for j in range(width)]
        check_bytes_of(call, y, i * ld_y, want, i)


def tanh(x: Any) -> Any:
    """``floats.tanh``."""
    least = terms.extreme("fmin", 4, (x, bits(floats.TANH_LIMIT)))
    x = terms.extreme("fmax", 4, (least, bits(-floats.TANH_LIMIT)))
    square = mul(x, x)
    # Its highest coefficient is 1.
    *lower, third, _ = map(bits, floats.TANH_Q)
    below = add(square, third)
    for coefficient in reversed(lower):
        below = add(mul(below, square), coefficient)
    return div(mul(x, horner(square, floats.TANH_P)), below)


def _lstm(call: Call, shape: Walk) -> None:
    """``pyint8dot.lstm.walk_steps`` for one direction."""
    steps, batch, groups, form = shape
    units, width = LANES * groups, PANEL * groups
    turn = -1 if form & 4 else 1
    ld_x, ld_y = 4 * width + 16, 4 * units + 8
    step_x, step_y = batch * ld_x + 24, batch * ld_y + 40
    x, h, c = values("x", steps, batch, width), values("h", batch, units), values("c", batch, units)
    r = None if form & 1 else values("r", groups, units, PANEL)
    ends = [(t * 2 + 1) % (steps + 2) for t in range(batch)]
    sums, y, state, cell = (call.region(name) for name in ("x", "y", "h", "c"))
    for t in range(steps):
        for i in range(batch):
            at = t * step_x + i * ld_x
            sums.holds([slot for each in x[t][i] for slot in each.bytes], at).takes(4 * width, at)
            y.takes(4 * units, t * step_y + i * ld_y)
    for region, block in ((state, h), (cell, c)):
        region.holds([slot for line in block for each in line for slot in each.bytes]).takes(4 * batch * units)
    packed = None if r is None else call.lanes("r", [each for panel in r for line in panel for each in line])
    first = steps - 1 if turn < 0 and steps else 0
    lengths = call.lanes("lengths", ends) if form & 2 else 0
    places = [
        sums.address + first * step_x,
        y.address + first * step_y,
        packed or 0,
        state.address,
        cell.address,
        lengths,
    ]
    call.run([*places, steps, batch, units, turn * step_x, turn * step_y, ld_x, ld_y, first])
    for t in range(steps)[::turn]:
        before = [list(line) for line in h]
        for i in range(batch):
            if form & 2 and t >= ends[i]:
                check_bytes_of(call, y, t * step_y + i * ld_y, [0] * units, (t, i))
                continue
            for j in range(units):
                gates = []
                for gate in range(GATES):
                    at = j // LANES * PANEL + gate * LANES + j % LANES
                    column = [] if r is None else [r[j // LANES][p][at % PANEL] for p in range(units)]
                    gates.append(tanh(chain(x[t][i][at], before[i] if column else [], column)))
                opened = [add(mul(each, bits(0.5)), bits(0.5)) for each in gates[:3]]
                c[i][j] = add(mul(opened[2], c[i][j]), mul(opened[0], gates[3]))
                h[i][j] = mul(opened[1], tanh(c[i][j]))
            check_bytes_of(call, y, t * step_y + i * ld_y, h[i], (t, i))
    for i in range(batch):
        check_bytes_of(call, state, 4 * i * units, h[i], i)
        check_bytes_of(call, cell, 4 * i * units, c[i], i)
