"""The claim about `keep_above`: each row keeps the scores above its least, in the order of their columns, and their columns' numbers.

How many a row has kept is a symbol, so that what happens to a column is proven once for all that may have been kept before it. Where a branch
depends on a score, both ways are walked to where they meet again: one has written the score and its column where the next one belongs and
counts one more, the other has done nothing. What else differs between them is taken as not known from there on.

Sixteen columns are passed over where the greatest of their scores is not above. That no other is above then is taken as given: rounding
keeps order, and a column that is NaN is never above.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from proof import numbers, terms
from proof.claim import Call
from proof.expressions import from_int, mul, values
from proof.guess import same, same_register, unknown
from proof.image import Entry
from proof.induction import Walk
from proof.machine import RETURN, Compared, State, value
from proof.memory import REGION, Region
from proof.numbers import Number, split, within
from proof.operands import X
from proof.programs import expect, word
from proof.terms import ATOMS, Poly, ProofError

KEPT = X(15, 8)
#: Columns that are passed over at once.
TOGETHER = 16
LARGEST = 1 << 40


class Shape(NamedTuple):
    """Rows, columns, and the row that has no room, if one has none."""

    m: int
    n: int
    full: int = -1


class Place(NamedTuple):
    """How far a walk has come: a row, the column that is next, and how many scores the row has kept."""

    row: int
    column: int
    kept: Any


class Rows(Region):
    """Rows of `room` values: whatever is written is noted with its row and its place there."""

    def __init__(self, number: int, name: str, size: int, room: Number) -> None:
        super().__init__(number, name)
        self.size, self.room = size, room
        self.stores: list[tuple[int, Any, Any]] = []

    def copy(self) -> Rows:
        """A copy, which may be written without the original's changing."""
        new = Rows(0, self.name, self.size, self.room)
        new.address, new.stores = self.address, list(self.stores)
        return new

    def load(self, address: Any, count: int) -> list[Any]:
        """Nothing may be read."""
        raise ProofError(f"a read of {self.name}, which may only be written")

    def store(self, address: Any, slots: Any) -> None:
        """Write one value."""
        (name,) = self.room.names
        row, at = split(address - self.address, name)
        if len(slots) != self.size or not isinstance(row, int) or not within(at, 0, self.size * (self.room - 1)):
            raise ProofError(f"a write of {len(slots)} bytes at {self.name} + {address - self.address}")
        self.stores.append((row // self.size, at // self.size, slots))


def shapes(name: str, *, full: bool) -> Iterator[Shape]:
    """Columns through two turns of sixteen and what may be left, few rows, and each row without room."""
    for m in range(4 if full else 3):
        for n in range(3 * TOGETHER + 2) if full else (0, 1, 2, 15, 16, 17, 33):
            yield Shape(m, n)
    for row in range(3):
        for n in (0, 1, 17):
            yield Shape(3, n, row)


def prove(entry: Entry, shape: Shape) -> State:
    """Prove one block of scores for whatever they are, and return the state that the entry left."""
    return Keeping(entry, shape).prove()


class Keeping:
    """One call of the entry."""

    def __init__(self, entry: Entry, shape: Shape) -> None:
        self.call = Call(entry)
        self.walk = Walk(entry)
        self.m, self.n, self.full = shape
        m, n = self.m, self.n
        self.room = numbers.parameter("room", n, LARGEST)
        beyond = numbers.parameter("beyond", 1, LARGEST)
        self.counts = [
            self.room - n + beyond if i == self.full else numbers.parameter(f"count {i}", 0, self.room - n)
            for i in range(m)
        ]
        #: How many each row has kept in the end.
        self.ends = list(self.counts)
        self.acc, self.scale = values("acc", m, n), values("col_scale", n)
        self.row_scale, self.least = values("row_scale", m), values("least", m)
        self.position = numbers.parameter("position", 0, LARGEST)

    def prove(self) -> State:
        """Walk over the entry and look at what it wrote."""
        call, pitch = self.call, 4 * self.n + 8
        acc = call.region("acc")
        for i, line in enumerate(self.acc):
            acc.holds([slot for x in line for slot in x.bytes], i * pitch)
        counts = call.words("counts", self.counts)
        position = call.words("position", [self.position])
        status = call.region("status").takes(8)
        for address, count in ((counts, 8 * self.m), (position, 8)):
            call.memory.regions[address >> REGION].takes(count)
        kept = [
            call.memory.region(name, kind=Rows, size=size, room=self.room)
            for name, size in (("scores", 4), ("columns", 8))
        ]
        fields = [
            acc.address, pitch, self.m, self.n, call.lanes("col_scale", self.scale), call.lanes("row_scale", self.row_scale),
            call.lanes("least", self.least), counts, *(region.address for region in kept), self.room, position, status.address,
        ]  # fmt: skip
        s = call.state
        stack_pointer = s.sp
        s.x[0], s.pc = call.words("args", fields), call.entry.address
        s.__dict__["place"] = Place(-1, self.n, 0)
        self.go(s, RETURN)
        s.check_return(stack_pointer)
        s.steps = self.walk.steps
        if self.full >= 0:
            expect(word(s, status.address), 1, "the status")
            wanted = self.counts
        else:
            if s.memory.regions[status.address >> REGION].data:
                raise ProofError("the status is written")
            if self.m and self.n and s.place[:2] != (self.m - 1, self.n):
                raise ProofError(f"the last column looked at is {s.place}")
            wanted = self.ends
        for i, want in enumerate(wanted):
            expect(word(s, counts + 8 * i), want, f"count {i}")
        expect(word(s, position), self.position + (self.n if self.full < 0 else 0), "the position")
        return s

    def go(self, s: State, stop: int) -> None:
        """Walk on to a place, both ways where a score decides."""
        while s.pc != stop:
            if s.pc == RETURN:
                raise ProofError("two ways do not meet again")
            pc = s.pc
            found = self.decided(s, pc)
            if found is None:
                self.walk.step(s, pc)
                continue
            conditions, target, above = found
            self.walk.step_seen(s, pc)
            # Above is the way on which scores are kept; it goes on to where the other one begins.
            on, past = s.copy(), s.copy()
            on.pc, past.pc = (target, pc + 4) if above else (pc + 4, target)
            if len(conditions) == 1:
                place = self.next_place(s, conditions[0])
                self.go(on, past.pc)
                self.kept(on, past, place)
                end = place._replace(column=place.column + 1)
            else:
                first = self.next_place(s, conditions[0])
                for more in range(1, len(conditions)):
                    self.condition(conditions[more], first.row, first.column + more)
                self.go(on, past.pc)
                end = on.place
                if end[:2] != (first.row, first.column + len(conditions)):
                    raise ProofError(f"columns from {first} on are looked at as far as {end}")
            self.join(s, on, past, end)

    def decided(self, s: State, pc: int) -> tuple[list[Any], int, bool] | None:
        """The scores that a branch depends on, each with what it is compared with; its target; whether it is taken where one is above."""
        _, operands, instruction = self.walk.code.get(pc, (None, (), None))
        mnemonic = instruction.mnemonic if instruction else ""
        if mnemonic in ("b.gt", "b.le") and isinstance(s.flags, Compared):
            return self.compared(s.flags), operands[-1], mnemonic == "b.gt"
        if mnemonic in ("cbz", "tbz") and isinstance(held := s.x[operands[0].number], list):
            lanes = [self.mask(held[2 * i : 2 * i + 2]) for i in range(4)]
            if mnemonic == "cbz":
                return lanes, operands[-1], False
            if operands[1] // 16 < 4:
                return [lanes[operands[1] // 16]], operands[-1], False
        return None

    @staticmethod
    def mask(slots: Any) -> Any:
        """What two bytes say: whether one float is greater than another."""
        poly = slots[0][0] if isinstance(slots[0], tuple) else None
        known = isinstance(poly, Poly) and poly.atom and ATOMS[poly.atom].name == "fcmgt"
        if not known or [slot[0] is poly and slot[1] for slot in slots] != [0, 1]:
            raise ProofError("a mask is something else than a comparison")
        return ATOMS[poly.atom].args

    def compared(self, flags: Compared) -> list[Any]:
        """What a comparison says of the next column, or of the next sixteen: then the greatest of them is compared."""
        a, b = flags
        entry = ATOMS[a[1]] if isinstance(a, tuple) and a[0] == "atom" else None
        leaves = self.leaves(entry.args[0]) if entry and entry.name == "fmul" else []
        if not leaves:
            raise ProofError("what is compared is no score")
        if len(leaves) == 1:
            return [(a, b)]
        factor = entry.args[1] if entry else 0
        found = [(terms.key_of(mul(self.of_key(leaf), self.of_key(factor))), b) for leaf in leaves]
        return sorted(found, key=lambda pair: self.column_of(pair[0]))

    def leaves(self, key: Any) -> list[Any]:
        """What a greatest value is the greatest of."""
        entry = ATOMS[key[1]] if isinstance(key, tuple) and key[0] == "atom" else None
        if entry is None or entry.name != "fmaxnm":
            return [key]
        return [leaf for arg in entry.args for leaf in self.leaves(arg)]

    @staticmethod
    def of_key(key: Any) -> Poly:
        if not isinstance(key, tuple) or key[0] != "atom":
            raise ProofError("what is compared is no score")
        return terms.pure(key[1])

    def score(self, i: int, j: int) -> Any:
        """``(float32(acc) * col_scale) * row_scale``."""
        return mul(mul(from_int(self.acc[i][j]), self.scale[j]), self.row_scale[i])

    def column_of(self, key: Any) -> int:
        """Which column a score is of, as a place in the order of all."""
        known = {terms.key_of(self.score(i, j)): i * self.n + j for i in range(self.m) for j in range(self.n)}
        if key not in known:
            raise ProofError("what is compared is no score")
        return known[key]

    def condition(self, found: Any, i: int, j: int) -> None:
        """Fail where something else is compared than a score with the least of its row."""
        want = terms.key_of(self.score(i, j)), terms.key_of(self.least[i])
        if j >= self.n or tuple(found) != want:
            raise ProofError(f"in the place of the score of row {i}, column {j} something else is compared")

    def next_place(self, s: State, condition: Any) -> Place:
        """The place of the column that is next, whose score has to be the one that is compared."""
        place: Place = s.place
        if place.column == self.n and place.row + 1 < self.m:
            place = Place(place.row + 1, 0, self.counts[place.row + 1])
        if place.column == self.n:
            raise ProofError("more columns are looked at than there are")
        self.condition(condition, place.row, place.column)
        expect(s.number(KEPT), place.kept, "what a row has kept")
        return place

    def kept(self, on: State, past: State, place: Place) -> None:
        """Fail where one of two ways has not written a score and its column where they belong, or the other one has written."""
        i, j, kept = place
        expect(on.number(KEPT), kept + 1, "what a row has kept")
        expect(past.number(KEPT), kept, "what a row has kept")
        regions = zip(self.rows_of(on), self.rows_of(past), strict=True)
        (score, number) = [region.stores[len(before.stores) :] for region, before in regions]
        if [each[:2] for each in (*score, *number)] != [(i, kept), (i, kept)]:
            raise ProofError(
                f"row {i}, column {j}: {len(score)} scores and {len(number)} columns are written, or elsewhere"
            )
        if not terms.equal(value(score[0][2]), self.score(i, j), 4):
            raise ProofError(f"row {i}, column {j}: the score that is kept is another one")
        if number[0][2] != (self.position + j).bytes:
            raise ProofError(f"row {i}, column {j}: the number of the column is {number[0][2][0]}")

    @staticmethod
    def rows_of(s: State) -> list[Rows]:
        """The memory that scores and columns are written to."""
        return [region for region in s.memory.regions.values() if isinstance(region, Rows)]

    def join(self, s: State, on: State, past: State, end: Place) -> None:
        """Go on where two ways meet, with what they have in common."""
        if on.sp != past.sp:
            raise ProofError("the stack pointer differs between two ways")
        for number, region in on.memory.regions.items():
            if not isinstance(region, Rows) and region.data != past.memory.regions[number].data:
                raise ProofError(f"{region.name} differs between two ways")
        s.__dict__.update(on.__dict__)
        for i, (a, b) in enumerate(zip(on.x, past.x, strict=True)):
            if not same_register(a, b):
                s.x[i] = unknown(8).bytes
        for i in range(32):
            if on.v[i] is not past.v[i] and not all(map(same, on.slots(i), past.slots(i))):
                s.put_slots(i, [slot for _ in range(2) for slot in unknown(8).bytes])
        s.flags = None
        count = self.counts[end.row]
        kept = count + numbers.parameter("kept", 0, end.column)
        s.set(KEPT, kept)
        s.__dict__["place"] = end._replace(kept=kept)
        self.ends[end.row] = kept
