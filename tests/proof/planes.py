"""Claims about products whose right operand lies in planes: as `products` has them, of K groups that a table of runs finds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from proof import beyond, numbers, products, terms
from proof.beyond import LARGEST
from proof.claim import Call, fail
from proof.image import Entry
from proof.machine import State, value
from support import layouts, rows

from pyint8dot.engine.kernels import Kernel

#: The kernel of each entry.
KERNELS: dict[str, Kernel] = rows.PLANES

#: How often a row's start value is there.
COPIES = 8

#: The depth of runs that kernels have code of their own for.
RUN = 32


class Shape(NamedTuple):
    """A product: its sizes, k being the depth of one of so many runs, and how C and the planes lie."""

    m: int
    n: int
    k: int
    count: int = 1
    #: C from its last row upwards, and planes and runs from the last ones to the first.
    upward: bool = False
    #: Sizes that any number of turns more is added to, of "mnk", and of the runs, "r".
    more: str = ""


def shapes(name: str, *, full: bool) -> Iterator[Shape]:
    """The products that are proven, all of them or those of a quick run."""
    row = KERNELS[name]
    group = row.right.kr
    # Every size through two tiles and one more; then every depth of a run for each height of tile.
    for m in range(2 * row.mr + 2):
        for n in range(2 * row.nr + 2):
            for way in range(2):
                if full or (((3 * m + n) % 11 == 0 or m == n) and (m + n) % 2 == way):
                    k = (0, group, RUN, 3 * group)[(m + 2 * n + way) % 4]
                    yield Shape(m, n, k, 1 + (m + way) % 3, bool(way))
    for height in (8, 4, 2, 1):
        most = products.DEPTHS[height]
        some = {0, 1, 3, most // 2, most // 2 + 3, most - 1, RUN // group}
        for groups in range(most) if full else sorted(some):
            yield Shape(height, row.nr + groups % 2, group * groups, 1 + groups % 3, bool(groups % 2))
    yield from _beyond(row, full=full)


def _beyond(row: Kernel, *, full: bool) -> Iterator[Shape]:
    """Any depth of a run, any number of runs, any m and n."""
    group, mr, nr = row.right.kr, row.mr, row.nr
    for height in (8, 4, 2, 1):
        turn = _step(row, height) // group
        # From one more than a turn on, since a single one may be the depth that has code of its own.
        for groups in range(turn + 1, 2 * turn + 1) if full else (2 * turn,):
            yield Shape(height, nr + 1, group * groups, 1, groups % 2 > 0, "k")
        for count in (2, 3):
            for groups in (1, RUN // group, 2 * RUN // group + 1) if full else (RUN // group,):
                yield Shape(height, nr + 1, group * groups, count, groups % 2 > 0, "r")
    for m, n, more in [*((m, nr, "m") for m in range(mr, 2 * mr)), *((mr, nr + n, "n") for n in range(1, nr + 1))]:
        if full or m == 2 * mr - 1 or n == nr + 3:
            for k in (group, RUN):
                yield Shape(m, n, k, 2, m % 2 > 0, more)
    for rest in range(mr) if full else (mr - 1,):
        yield Shape(mr + rest, nr + 1 + rest % nr, RUN, 2, False, "mn")
    for count in (2, 3) if full else ():
        yield Shape(2 * mr - 1, nr + 4 - count, RUN, count, True, "mnr")


def _step(row: Kernel, height: int) -> int:
    """What the depth of a run is taken in steps of where it is any."""
    return products.DEPTHS.get(height, products.DEPTHS[8]) // 2 * row.right.kr


def prove(entry: Entry, shape: Shape) -> State:
    """Prove one product and return the state it left; ProofError says what is not as the contract has it."""
    return _any_size(entry, shape) if shape.more else _listed(entry, shape)


def _listed(entry: Entry, shape: Shape) -> State:
    """A product of these sizes, the planes of every run apart from each other and from those of other runs."""
    row = KERNELS[entry.name]
    group = row.right.kr
    m, n, k, count, upward, _ = shape
    columns = -(-n // row.nr) * row.nr
    call = Call(entry)
    a = [[products._byte("A", i, p) for p in range(count * k)] for i in range(m)]
    sign = -1 if upward else 1
    plane = sign * (group * columns + 8)
    # So far apart that no run reaches another.
    runs = [sign * (r * (k // group + 1) * abs(plane) - 40) for r in range(count)]
    b = call.region("b")
    for r, p in itertools.product(range(count), range(0, k, group)):
        line = [products._byte("B", r * k + p + q, j) for j in range(columns) for q in range(group)]
        b.holds(line, runs[r] + p // group * plane)
    pitch = 4 * n + 12
    c = call.region("C")
    for i in range(m):
        c.takes(4 * n, i * pitch)
    last = (m - 1) * pitch if upward and m else 0
    start = [_start(i) for i in range(m)]
    call.run([
        call.input("a", products._panels(a, layouts.panel_rows(m, row.mr), group)), b.address, c.address + last,
        -pitch if upward else pitch, m, n, k, call.lanes("row_start", [each for each in start for _ in range(COPIES)]),
        plane, call.words("runs", runs), count,
    ])  # fmt: skip
    for i, j in itertools.product(range(m), range(n)):
        found = call.found(c, 4, last + sign * i * pitch + 4 * j)
        want = terms.total(4, ((1, start[i]),), [(1, a[i][p], products._byte("B", p, j)) for p in range(count * k)])
        if found is None or not terms.equal(found, want, 4):
            fail(f"C[{i}][{j}] of {shape}", found, want)
    return call.state


def _any_size(entry: Entry, shape: Shape) -> State:
    """A product of m + mr u by n + nr w, of r + 2 x runs of k + passes y, for all u, w, x and y that the shape says may be more.

    Planes are any distance apart, and every run begins a plane behind the end of the one before it, so that they are one operand of rows.
    """
    row = KERNELS[entry.name]
    group = row.right.kr
    call = Call(entry)
    steps = {"m": row.mr, "n": row.nr, "k": _step(row, shape.m), "r": 2}
    m, n, k, count = (
        size + (steps[each] * numbers.parameter(each, 0, LARGEST // steps[each]) if each in shape.more else 0)
        for each, size in zip("mnkr", shape[:4], strict=True)
    )
    depth = count * k
    ldc, plane = numbers.parameter("ldc"), numbers.parameter("plane")
    c = call.plane("C", (m, n), 4, pitch=ldc)
    columns = (n + row.nr - 1) // row.nr * row.nr
    b = call.plane(
        "b", (depth // group, columns * group), 1,
        lambda g, at: products._byte("B", g * group + at % group, at // group), plane,
    )  # fmt: skip
    runs = call.plane("runs", (1, count), 8, lambda _, r: r * (k // group) * plane)
    heights = [(row.mr, m // row.mr), *((height, 1) for height in layouts.panel_rows(shape.m % row.mr, row.mr))]
    a = call.panels("a", heights, depth, group, lambda i, p: products._byte("A", i, p))
    row_start = call.plane("row_start", (1, COPIES * m), 4, lambda _, i: _start(i // COPIES))
    up = shape.upward
    call.run([
        a.address, b.address, c.address + (m - 1) * ldc if up else c.address, -ldc if up else ldc, m, n, k,
        row_start.address, plane, runs.address, count,
    ])  # fmt: skip
    for i, j, slots in call.written(c).stores:
        line = m - 1 - i if up else i
        for at in range(len(slots) // 4):
            found = value(slots[4 * at : 4 * at + 4])
            sums, pairs = beyond.over_depth(row, (line, j + at), depth, found)
            want = terms.total(4, [(1, _start(line)), *sums], pairs)
            if not terms.equal(found, want, 4):
                fail(f"C[{i}][{j + at}] of {shape}", found, want)
    return call.state


def _start(i: Any) -> Any:
    return terms.signed_input("row_start", 4, i)
