"""Claims about products: every cell of C is the polynomial of the contract's formula in the bytes of A and B, modulo 2^32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from proof import beyond, terms
from proof.claim import Call, fail
from proof.image import Entry
from proof.machine import State
from proof.terms import Poly
from support import layouts, rows

from pyint8dot.engine.kernels import Kernel

#: Every product of the library by its entry.
KERNELS: dict[str, Kernel] = {row.name: row for row in [*rows.NATIVE, *rows.FEW]}

#: Moves uint8 to int8 where rows are read as they lie.
FLIP = 0x80808080


class Shape(NamedTuple):
    """A product: its sizes, which start values it has, and how its rows lie."""

    m: int
    n: int
    k: int
    row_start: bool = True
    col_start: bool = True
    #: C from its last row upwards, and A likewise where it is read as it lies.
    upward: bool = False
    #: The operand that is complemented, for a kernel that wants one to be; or A is uint8, for one that reads it as it lies.
    other: bool = False
    #: Sizes that any number of turns more is added to, of "mnk".
    more: str = ""


#: K groups of a tile of so many rows that a pass of its longest loop takes, which is two turns, and all that a pass may leave.
DEPTHS = {1: 64, 2: 32, 4: 32, 8: 16}


def shapes(name: str, *, full: bool) -> Iterator[Shape]:
    """The products that are proven of a kernel, all of them or those of a quick run."""
    row = KERNELS[name]
    group = row.right.kr if row.packs_left else 1
    others = (False, True) if row.complement or not row.packs_left else (False,)
    for other in others:
        # Every size through two tiles and one more, with every way to begin; then every depth for each height of tile.
        for m in range(2 * row.mr + 2):
            for n in range(2 * row.nr + 2):
                if full:
                    for start in range(4):
                        groups = (m + n + start) % 3
                        yield Shape(m, n, group * groups, bool(start & 1), bool(start & 2), start == 1, other)
                elif (3 * m + n) % 11 == 0 or m == n:
                    start = (m + 2 * n) % 4
                    yield Shape(m, n, group * (n % 2), bool(start & 1), bool(start & 2), start == 1, other)
        for height in sorted({*(1 << bit for bit in range(row.mr.bit_length())), row.mr}):
            most = DEPTHS.get(height, DEPTHS[8]) if row.packs_left else 128
            # At 3 only columns have start values, at 1 both, at the others rows or neither.
            some = {0, 1, 3, most // 2, most // 2 + 3, most - 1}
            for groups in range(most) if full else sorted(some):
                yield Shape(height, row.nr + groups % 2, group * groups, groups % 3 > 0, groups % 2 > 0, other=other)
        yield from beyond.shapes(row, other=other, full=full)


class Cell(NamedTuple):
    """An element of C after a call: where it is, what lies there (None where nothing was written), and the contract's polynomial."""

    row: int
    column: int
    #: Where its first byte lies in memory.
    address: int
    found: Any
    want: Any

    @property
    def right(self) -> bool:
        """Whether it is what the contract wants."""
        return self.found is not None and terms.equal(self.found, self.want, 4)


def prove(entry: Entry, shape: Shape) -> State:
    """Prove one product and return the state it left; ProofError says what is not as the contract has it."""
    if shape.more:
        return beyond.prove(entry, shape)
    call, cells = called(entry, shape)
    for cell in cells:
        if not cell.right:
            fail(f"C[{cell.row}][{cell.column}] of {shape}", cell.found, cell.want)
    return call.state


def called(entry: Entry, shape: Shape, watch: Callable[[Call], None] | None = None) -> tuple[Call, Iterator[Cell]]:
    """One call on memory of symbols, and the elements of C that it left; `watch` is handed the call before it runs."""
    row = KERNELS[entry.name]
    m, n, k = shape.m, shape.n, shape.k
    call = Call(entry)
    if watch is not None:
        watch(call)
    a = [[_byte("A", i, p) for p in range(k)] for i in range(m)]
    depth = layouts.padded_k(k, row.right.kr)
    panels = -(-n // row.nr) * row.nr
    b = [[_byte("B", p, j) if p < k else 0 for j in range(panels)] for p in range(depth)]

    pitch = 4 * n + 12
    c = call.region("C")
    for i in range(m):
        c.takes(4 * n, i * pitch)
    last = (m - 1) * pitch if shape.upward and m else 0
    row_start = [terms.signed_input("row_start", 4, i) for i in range(m)] if shape.row_start else None
    col_start = [terms.signed_input("col_start", 4, j) for j in range(panels)] if shape.col_start else None
    fields = [
        0,
        call.input(
            "b",
            _panels(
                [[b[p][j] for p in range(depth)] for j in range(panels)], [row.nr] * (panels // row.nr), row.right.kr
            ),
        ),
        c.address + last,
        -pitch if shape.upward else pitch,
        m,
        n,
        k,
        call.lanes("row_start", row_start),
        call.lanes("col_start", col_start),
    ]
    if row.packs_left:
        # A last panel that is not split is filled up.
        rest = [] if row.left.split else [[0] * k] * (-m % row.mr)
        heights = layouts.panel_rows(m + len(rest), row.mr)
        fields[0] = call.input("a", _panels(a + rest, heights, row.left.kr))
    else:
        lda = k + 5
        lying = call.region("a")
        for i in range(m):
            # A uint8 lies there as what it is moved to, plus 128.
            lying.holds([terms.moved(x, 128) for x in a[i]] if shape.other else a[i], i * lda)
        end = (m - 1) * lda if shape.upward and m else 0
        fields[0] = lying.address + end
        fields += [-lda if shape.upward else lda, FLIP if shape.other else 0]
        if shape.upward:
            a.reverse()
    call.run(fields)
    return call, _cells(row, shape, a, b, call, c, last, pitch, row_start, col_start)


def _cells(row, shape, a, b, call, c, last, pitch, row_start, col_start):
    """The elements of C one after the other, each with the contract's polynomial."""
    m, n, k = shape.m, shape.n, shape.k
    left, right = _values(row, shape, a, b)
    upper = layouts.upper(k, row.right.kr) if row.complement else [False] * k
    for i in range(m):
        at = last - i * pitch if shape.upward else i * pitch
        for j in range(n):
            starts = [(1, start[index]) for start, index in ((row_start, i), (col_start, j)) if start is not None]
            pairs = [(1, left[i][p], right[p][j]) for p in range(k)]
            surplus = [(1, right[p][j] if not shape.other else left[i][p], 1) for p in range(k) if upper[p]]
            want = terms.total(4, starts, pairs + surplus)
            yield Cell(i, j, c.address + at + 4 * j, call.found(c, 4, at + 4 * j), want)


def _byte(name: str, *place: int) -> Poly:
    return terms.signed_input(name, 1, *place)


def _values(row, shape, a, b):
    """What the contract's formula calls A and B, where the bytes that lie there are complemented."""
    if not row.complement:
        return a, b
    upper = layouts.upper(shape.k, row.right.kr)
    if shape.other:
        return a, [[terms.moved(y, -1, -1) if upper[p] else y for y in line] for p, line in enumerate(b)]
    return [[terms.moved(x, -1, -1) if upper[p] else x for p, x in enumerate(line)] for line in a], b


def _panels(lines, heights, group):
    """The bytes of packed panels: element (k, j) of a panel of r at ``(k // group) * r * group + j * group + k % group``."""
    packed, start = [], 0
    for height in heights:
        panel = lines[start : start + height]
        start += height
        depth = len(panel[0])
        for first in range(0, depth, group):
            for line in panel:
                packed.extend(line[first : first + group])
    return packed
