"""What a loop does to the state of the processor from turn to turn: guessed from two of them, and what a step has to bear out."""

from __future__ import annotations

import itertools
from typing import Any

from proof import numbers, terms
from proof.machine import MASK, Measured, State
from proof.numbers import Number
from proof.operands import V
from proof.terms import ATOMS, LOW, PAIR, Poly, ProofError

#: What a parameter is called within a sum over it.
BOUND = "#"
_UNKNOWN = itertools.count()


class Guess:
    """What a loop does with each register from turn to turn."""

    def __init__(self, first: State, second: State) -> None:
        #: By general register: by how much it moves, or the distances of the bytes it holds, or None where that is not known.
        self.x = [_move(a, b) for a, b in zip(first.x, second.x, strict=True)]
        self.sp = second.sp == first.sp
        self.flags = first.flags, second.flags
        #: By vector register: the size of its lanes, and each lane's distances.
        self.v: list[tuple[int, list[Any]]] = []
        for number in range(32):
            if first.v[number] is second.v[number]:
                size = first.v[number][0]
                self.v.append((size, [()] * (16 // size)))
                continue
            size = second.v[number][0]
            pairs = zip(_lanes(first, number, size), _lanes(second, number, size), strict=True)
            self.v.append((size, [_distance(a, b) for a, b in pairs]))

    def state(self, first: State, t: Any, sums: Any = None) -> State:
        """The state at some turn; behind all turns with what registers that are not known have become."""
        s = first.copy()
        for i, move in enumerate(self.x):
            s.x[i] = unknown(8).bytes if move is None else _moved_register(first.x[i], move, t)
        a, b = self.flags
        if isinstance(a, Measured) and isinstance(b, Measured):
            s.flags = Measured(a.a + (b.a - a.a) * t, a.b + (b.b - a.b) * t, a.added)
        else:
            # They are not looked at before they are set again, or that is an error.
            s.flags = None
        for number, (size, distances) in enumerate(self.v):
            if all(distance == () for distance in distances):
                continue
            lanes = _lanes(first, number, size)
            found = []
            for i, (lane, distance) in enumerate(zip(lanes, distances, strict=True)):
                if distance is None:
                    found.append(sums[number, i] if sums is not None else unknown(size))
                else:
                    found.append(_further(lane, distance, t))
            s.v[number] = size, found
        return s

    def refuted(self, before: State, after: State, t: Number) -> bool:
        """Whether a turn does not bear this out; what it does not is taken as not known from then on."""
        if not self.sp or after.sp != before.sp:
            raise ProofError("a loop moves the stack pointer")
        again = False
        for i, move in enumerate(self.x):
            if move is not None and not same_register(_moved_register(before.x[i], move, 1), after.x[i]):
                self.x[i] = None
                again = True
        a, b = self.flags
        if isinstance(a, Measured) and isinstance(b, Measured):
            moved = Measured(before.flags.a + (b.a - a.a), before.flags.b + (b.b - a.b), a.added)
            if not isinstance(after.flags, Measured) or tuple(moved) != tuple(after.flags):
                raise ProofError(f"what ends a loop moves from {before.flags} to {after.flags} in a turn")
        for number, (size, distances) in enumerate(self.v):
            if after.v[number] is before.v[number] and all(distance == () for distance in distances):
                continue
            old, new = _lanes(before, number, size), _lanes(after, number, size)
            for i, distance in enumerate(distances):
                if distance is not None and not same(_further(old[i], distance, 1), new[i]):
                    distances[i] = None
                    again = True
        for number, region in before.memory.regions.items():
            if region.writable and region.data != after.memory.regions[number].data:
                raise ProofError(f"a loop changes {region.name}")
        return again

    def sums(self, before: State, after: State, first: State, name: str, turns: Any) -> dict[tuple[int, int], Any]:
        """What lanes that were not known are behind the loop: what they began with and what every turn adds, or not known."""
        found = {}
        most = numbers.most(turns) or 0
        places: dict[Any, Any] = {}
        for number, (size, distances) in enumerate(self.v):
            if None not in distances:
                continue
            begun, old, new = _lanes(first, number, size), _lanes(before, number, size), _lanes(after, number, size)
            for i, distance in enumerate(distances):
                if distance is None:
                    added = _added(old[i], new[i], size, name, turns, most, places)
                    found[number, i] = unknown(size) if added is None else terms.total(size, [(1, begun[i]), *added])
        return found


def _added(
    old: Any, new: Any, size: int, name: str, turns: Any, most: int, places: dict[Any, Any]
) -> list[tuple[int, Any]] | None:
    """The sums over all turns of what a turn adds to a lane, None where it does something else."""
    if not isinstance(new, Poly):
        return None
    monomials = terms.total(size, [(1, new), (-1, old)])
    if isinstance(monomials, int):
        return [] if not monomials else None
    monomials.expand()
    if monomials.const:
        return None
    parts = []
    for key, factor in monomials.terms.items():
        atoms = [ATOMS[number] for number in (key & LOW, key >> PAIR) if number]
        low, high = Poly(size, 0, {key: 1}).bounds()
        names = []
        for atom in atoms:
            if atom.name == "unknown" or not all(type(arg) in (int, Number) for arg in atom.args):
                return None
            for arg in atom.args:
                if arg not in places:
                    places[arg] = numbers.replaced(arg, name, Number(0, {(BOUND,): 1}))
            names.append((atom.name, *(places[arg] for arg in atom.args)))
        parts.append((factor, series(names, turns, size, (most * low, most * high))))
    return parts


def series(factors: Any, turns: Any, size: int, bounds: tuple[int, int] = (0, 0)) -> Poly:
    """The sum of a product of operands' values over so many turns, in each of which `BOUND` is the number of the turn.

    What it lies between has to be known where the sum is made; to name it again is enough for all else.
    """
    one, *more = factors
    ordered = (one, *more) if not more or one[0] < more[0][0] else tuple(sorted(factors, key=str))
    return terms.atom("sum over #", (ordered, turns), min(bounds[0], 0), max(bounds[1], 0), size)


def unknown(size: int) -> Poly:
    return terms.signed_input("unknown", size, next(_UNKNOWN))


def _lanes(s: State, number: int, size: int) -> list[Any]:
    """The lanes of a vector register; its bytes as slots where they are of one byte."""
    return list(s.slots(number)) if size == 1 else s.lanes(V(number, size, 16 // size))


def same(a: Any, b: Any) -> bool:
    """Whether two lanes or slots are the same."""
    if a is b:
        return True
    if isinstance(a, tuple) and isinstance(b, tuple):
        return a[1] == b[1] and a[0].width == b[0].width and a[0].key == b[0].key
    if isinstance(a, Poly) and isinstance(b, Poly):
        return a.width == b.width and a.key == b.key
    return type(a) is int and type(b) is int and a == b


def _distance(a: Any, b: Any) -> tuple[Any, ...] | None:
    """By how much the place moves of the operand's value that a lane or slot is: nothing where it stays, None where it is something else."""
    if same(a, b):
        return ()
    if isinstance(a, tuple) and isinstance(b, tuple) and a[1] == b[1]:
        a, b = a[0], b[0]
    if not (isinstance(a, Poly) and isinstance(b, Poly) and a.atom and b.atom and a.width == b.width):
        return None
    one, other = ATOMS[a.atom], ATOMS[b.atom]
    alike = one.name == other.name and len(one.args) == len(other.args) and one.name != "unknown"
    if not alike or not all(type(arg) in (int, Number) for arg in (*one.args, *other.args)):
        return None
    return tuple(there - here for here, there in zip(one.args, other.args, strict=True))


def _further(lane: Any, distance: Any, t: Any) -> Any:
    """The value that lies t times so far away."""
    if distance == ():
        return lane
    if isinstance(lane, tuple):
        return (_further(lane[0], distance, t), lane[1])
    atom = ATOMS[lane.atom]
    place = tuple(arg + by * t for arg, by in zip(atom.args, distance, strict=True))
    return terms.atom(atom.name, place, atom.lo, atom.hi, lane.width)


def _move(a: Any, b: Any) -> Any:
    if type(a) in (int, Number) and type(b) in (int, Number):
        return numbers.centred(b - a) if type(a) is type(b) is int else b - a
    if type(a) in (int, Number) or type(b) in (int, Number):
        return None
    found = [_distance(p, q) for p, q in zip(a, b, strict=True)]
    return None if None in found else found


def _moved_register(held: Any, move: Any, t: Any) -> Any:
    if isinstance(move, list):
        return [_further(slot, distance, t) for slot, distance in zip(held, move, strict=True)]
    moved = (numbers.centred(held) if type(held) is int else held) + move * t
    return moved & MASK if type(moved) is int else moved


def same_register(a: Any, b: Any) -> bool:
    if type(a) in (int, Number) or type(b) in (int, Number):
        return type(a) is type(b) and bool(a == b)
    return all(same(p, q) for p, q in zip(a, b, strict=True))
