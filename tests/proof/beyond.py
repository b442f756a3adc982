"""Claims about products of any size: the loops over k, rows and columns are proven once, as steps, and C is the formula for all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proof import guess, numbers, products, terms
from proof.claim import Call, fail
from proof.image import Entry
from proof.machine import State, value
from proof.numbers import Number
from proof.terms import Poly, ProofError
from support import layouts

from pyint8dot.engine.kernels import Kernel

#: No k is greater, and no m or n times a row of a tile; the contract's bound of k is far below.
LARGEST = 1 << 27


def shapes(row: Kernel, *, other: bool, full: bool) -> Iterator[products.Shape]:
    """The shapes beyond any number: all depths of each height of tile, all m and n, and all three at once for some remainders."""
    mr, nr, group = row.mr, row.nr, row.right.kr if row.packs_left else 1
    for height in (1 << bit for bit in range(mr.bit_length())):
        turn = step_of(row, products.Shape(height, nr, 0, more="k")) // group
        for rest in range(turn) if full else (turn - 1,):
            # A whole panel and one of a single column.
            yield products.Shape(
                height, nr + 1, group * (turn + rest), rest % 3 > 0, rest % 2 > 0, rest % 5 == 0, other, "k"
            )
    # What fills no tile as often as it is, more than that with any number of tiles; of columns a whole panel is one that ends.
    for m, m_more in [*((m, "") for m in range(mr)), *((mr + rest, "m") for rest in range(mr))]:
        for n, n_more in [*((n, "") for n in range(nr + 1)), *((nr + 1 + rest, "n") for rest in range(nr))]:
            if (full or (m, n) == (2 * mr - 1, 2 * nr - 1)) and m_more + n_more:
                for start in range(4) if full else (3,):
                    groups = (m + n + start) % 3
                    yield products.Shape(
                        m, n, group * groups, bool(start & 1), bool(start & 2), start == 1, other, m_more + n_more
                    )
    if full:
        turn = step_of(row, products.Shape(0, 0, 0, more="mnk")) // group
        for rest in range(turn // 4, turn, turn // 2):
            k = group * (turn + rest + rest // (turn // 2))
            yield products.Shape(2 * mr - 1, nr + 1 + rest % nr, k, rest % 16 < 8, rest % 3 > 0, False, other, "mnk")


def step_of(row: Kernel, shape: products.Shape) -> int:
    """What k is taken in steps of where it is any: whole passes of every loop that the shape has."""
    if not row.packs_left:
        return 64
    return products.DEPTHS.get(1 if "m" in shape.more else shape.m, products.DEPTHS[8]) // 2 * row.right.kr


def prove(entry: Entry, shape: products.Shape) -> State:
    """Prove a product of m + mr u by n + nr w, k + passes r, for all u, w and r that the shape says may be more."""
    row = products.KERNELS[entry.name]
    call = Call(entry)
    steps = {"k": step_of(row, shape) if "k" in shape.more else 1, "n": row.nr, "m": row.mr}
    m, n, k = (
        getattr(shape, size)
        + (steps[size] * numbers.parameter(size, 0, LARGEST // steps[size]) if size in shape.more else 0)
        for size in "mnk"
    )
    ldc = numbers.parameter("ldc")
    group = row.right.kr
    depth = (k + group - 1) // group * group
    columns = (n + row.nr - 1) // row.nr
    c = call.plane("C", (m, n), 4, pitch=ldc)

    def of_b(j: Any, p: Any) -> Any:
        # A packed A has whole K groups, so that B's are filled up beside another one only.
        return products._byte("B", p, j) if row.packs_left or numbers.sign(p - k) < 0 else 0

    b = call.panels("b", [(row.nr, columns)], depth, group, of_b)
    starts = [
        call.plane(name, (1, size), 4, lambda _, i, name=name: terms.signed_input(name, 4, i)) if wanted else None
        for name, size, wanted in (("row_start", m, shape.row_start), ("col_start", row.nr * columns, shape.col_start))
    ]
    last = (m - 1) * ldc if shape.upward else 0
    fields = [
        0, b.address, c.address + last, -ldc if shape.upward else ldc, m, n, k,
        *(start.address if start else 0 for start in starts),
    ]  # fmt: skip
    if row.packs_left:
        heights = [(row.mr, m // row.mr), *((height, 1) for height in layouts.panel_rows(shape.m % row.mr, row.mr))]
        if not row.left.split:
            # A last panel that is not split is filled up.
            heights = [(row.mr, (m + row.mr - 1) // row.mr)]

        def of_a(i: Any, p: Any) -> Any:
            return products._byte("A", i, p) if row.left.split or numbers.sign(i - m) < 0 else 0

        a = call.panels("a", heights, k, row.left.kr, of_a)
        fields[0] = a.address
    else:
        lda = numbers.parameter("lda")
        # A uint8 lies there as what it is moved to, plus 128.
        lying = call.plane(
            "a", (m, k), 1, lambda i, p: terms.moved(products._byte("A", i, p), 128 * shape.other), pitch=lda
        )
        fields[0] = lying.address + ((m - 1) * lda if shape.upward else 0)
        fields += [-lda if shape.upward else lda, products.FLIP if shape.other else 0]
    call.run(fields)
    for i, j, slots in call.written(c).stores:
        # Rows of C, and of A where it is read as it lies, are counted from the first that lies there.
        line = m - 1 - i if shape.upward else i
        of_a = line if row.packs_left else i
        for at in range(len(slots) // 4):
            found = value(slots[4 * at : 4 * at + 4])
            begun = [
                (1, terms.signed_input(start.name, 4, x))
                for start, x in zip(starts, (line, j + at), strict=True)
                if start
            ]
            sums, pairs = over_depth(row, (of_a, j + at), k, found)
            want = terms.total(4, [*begun, *sums], pairs)
            if not terms.equal(found, want, 4):
                fail(f"C[{i}][{j + at}] of {shape}", found, want)
    return call.state


def over_depth(row: Kernel, cell: tuple[Any, Any], k: Any, found: Any) -> tuple[list[Any], list[Any]]:
    """The sum over k of a row of A and a column of B: what stands in sums over turns, and the products before and after them.

    Of what was found it is looked up where turns begin and what each takes; whatever these are, this is the sum over all of k.
    """
    i, j = cell

    def sign(p: Any) -> int:
        # An operand that is complemented is -1 - x; the surplus makes the product with it one with -x.
        return -1 if row.complement and p % row.right.kr >= row.right.kr // 2 else 1

    first = after = 0
    sums = []
    for turns, begin, step in _turns(found)[:1]:
        first, after = begin, begin + step * turns
        for p in range(begin, begin + step):
            place = Number(p, {(guess.BOUND,): step})
            sums.append((sign(place), guess.series([("A", i, place), ("B", place, j)], turns, 4)))
    left = k - after
    if not isinstance(left, int) or left < 0:
        raise ProofError(f"of {k} products there are {after} in turns")
    places = [*range(first), *(after + x for x in range(left))]
    return sums, [(sign(p), products._byte("A", i, p), products._byte("B", p, j)) for p in places]


def _turns(found: Any) -> list[tuple[Any, int, int]]:
    """The sums over turns in a cell that was found: how many turns, where the first one begins in k, and how much of it each takes."""
    if not isinstance(found, Poly):
        return []
    places = [
        (atom.args[1], factor[1])
        for atom in (terms.ATOMS[key & terms.LOW] for key in found.expand())
        if atom.name == "sum over #"
        for factor in atom.args[0]
        if factor[0] == "B" and isinstance(factor[1], Number)
    ]
    return sorted(((turns, p.const, p.split(guess.BOUND)[0]) for turns, p in places), key=lambda one: one[1])
