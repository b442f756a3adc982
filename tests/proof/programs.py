"""Claims about what calls other entries: each is called with the arguments that its record names, in order, until one sets the status.

What is called is taken to keep to the calling convention and to write what it is given to write: scratch and status of all that lies here.
Fields and words are symbols, as are the addresses of entries; which kind each argument has, the claim goes through.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from proof import numbers, terms
from proof.claim import Call
from proof.image import Entry
from proof.machine import State, whole
from proof.memory import REGION
from proof.terms import ProofError

#: Arguments of a record, words of a head that records name, the words that may be array objects, and bytes of scratch.
FIELDS, WORDS, OBJECTS, SCRATCH = 14, 15, 11, 16384
#: The words that `run` fills in, and the one that says where records are.
SCRATCH_WORD, STATUS_WORD, RECORDS_WORD = 5, 11, 14
#: What a stack grows by at once at most, so that its end is met.
PAGE = 4096
#: What each takes of the stack at most, as its contract says.
STACK = {"run": 16688, "run_builtin": 16864}


class Shape(NamedTuple):
    """A program: for each record the kinds of its arguments, and what its head holds."""

    kinds: tuple[tuple[int, ...], ...] = ()
    #: Which words are array objects, as bits, and where in an object the pointer to its data is.
    objects: int = 0
    at: int = 16
    scratch: bool = False
    #: Records elsewhere than behind the head.
    apart: bool = False
    #: The record that sets the status, if one does.
    stops: int = -1


class Builtin(NamedTuple):
    """A call of the builtin: how many arguments, whether it lets go of the lock, and whether the status is set."""

    count: int
    unlocks: bool
    fails: bool


def one_kind(argument: int, kind: int) -> tuple[int, ...]:
    """Kinds of a record of which one argument is more than its field."""
    return tuple(kind if i == argument else 0 for i in range(FIELDS))


def shapes(name: str, *, full: bool) -> Iterator[Any]:
    """The programs that are proven: every kind of every argument, alone and beside every other one's; every set of array objects."""
    if name == "run_builtin":
        yield from (Builtin(*each) for each in itertools.product((3, 4, 5), (False, True), (False, True)))
        return
    status = one_kind(13, 1 + STATUS_WORD)
    for scratch, apart in itertools.product((False, True), repeat=2):
        for count in range(4):
            for stops in range(-1, count):
                yield Shape((status,) * count, scratch=scratch, apart=apart, stops=stops)
        for argument in range(FIELDS):
            yield Shape(tuple(one_kind(argument, kind) for kind in range(WORDS + 1)), scratch=scratch, apart=apart)
    # Every argument more than its field.
    turned = tuple(tuple((i + j) % (WORDS + 1) for i in range(FIELDS)) for j in range(WORDS + 1))
    yield Shape(turned)
    kinds = list(itertools.product(range(1, WORDS + 1), repeat=2))
    for first, second in itertools.combinations(range(FIELDS), 2):
        if full or (first + 3 * second) % 17 == 0:
            yield Shape(
                tuple(tuple(a if i == first else b if i == second else 0 for i in range(FIELDS)) for a, b in kinds)
            )
    every = tuple(1 + i if i < OBJECTS else 0 for i in range(FIELDS))
    for objects in range(1 << OBJECTS):
        if not objects >> SCRATCH_WORD & 1 and (full or objects % 61 == 0 or objects & (objects - 1) == 0):
            yield Shape((every,), objects, (8, 16, 40)[objects % 3], scratch=True)


def prove(entry: Entry, shape: Any) -> State:
    """Prove one program, and return the state that the entry left."""
    return (prove_program if isinstance(shape, Shape) else prove_builtin)(entry, shape)


def anything(name: str) -> Any:
    """A number of 64 bits that may be any."""
    return numbers.parameter(name)


def something(name: str) -> Any:
    """A number that is not zero."""
    return numbers.parameter(name, 1, numbers.LIMIT // 2)


def word(s: State, address: int) -> Any:
    """A word of memory: a number, or one that depends on parameters."""
    slots = s.memory.load(address, 8)
    if all(type(slot) is int for slot in slots):
        return int.from_bytes(bytes(slots), "little")
    return whole(slots)


def expect(found: Any, want: Any, what: str) -> None:
    """Fail where a number is another one."""
    if not (found % 2**64 == want % 2**64 if type(found) is type(want) is int else found == want):
        raise ProofError(f"{what} is {found}, not {want}")


def prove_program(entry: Entry, shape: Shape) -> State:
    """Prove that `run` calls what the records of a program say."""
    call = Call(entry, STACK["run"])
    entries = [something(f"entry {i}") for i in range(len(shape.kinds))]
    fields = [[anything(f"field {i} {j}") for j in range(FIELDS)] for i in range(len(shape.kinds))]
    packed = [sum(kind << 4 * j for j, kind in enumerate(kinds)) for kinds in shape.kinds]
    records = [each for one in zip(entries, fields, packed, strict=True) for each in (one[0], *one[1], one[2])] + [0]
    words: list[Any] = [anything(f"word {i}") for i in range(WORDS)]
    if shape.scratch:
        words[SCRATCH_WORD] = something("scratch")
    # The words as the head has them, and as records are to see them.
    head = list(words)
    head[SCRATCH_WORD] = words[SCRATCH_WORD] if shape.scratch else 0
    for i in range(OBJECTS):
        if shape.objects >> i & 1:
            head[i] = call.region(f"object {i}").holds(words[i].bytes, shape.at).address
    words[RECORDS_WORD] = head[RECORDS_WORD] = call.words("records", records) if shape.apart else 0
    program = call.words("program", [*head, shape.objects | shape.at << 32, *([] if shape.apart else records)])
    top, status = call.state.sp, something("status")
    where: dict[str, int] = {}
    calls = 0

    def called(s: State, target: Any) -> None:
        nonlocal calls
        if calls == len(entries):
            raise ProofError("more is called than there are records")
        expect(target, entries[calls], f"what record {calls} calls")
        begin = s.number_of(0)
        for i, kind in enumerate(shape.kinds[calls]):
            found, own = word(s, begin + 8 * i), fields[calls][i]
            want = own + words[kind - 1] if kind else own
            if kind in (1 + SCRATCH_WORD, 1 + STATUS_WORD) and not (kind == 1 + SCRATCH_WORD and shape.scratch):
                # Somewhere on the stack, and always there.
                place = found - own
                name = "scratch" if kind == 1 + SCRATCH_WORD else "status"
                if type(place) is not int:
                    raise ProofError(f"{name} is {place}, which is no place on the stack")
                want = own + where.setdefault(name, place)
            expect(found, want, f"argument {i} of record {calls}, of kind {kind},")
        lend(s, begin, top, where)
        last = calls == shape.stops
        if "status" in where:
            expect(word(s, where["status"]), 0, "the status before a call")
            if last:
                s.memory.store(where["status"], status.bytes)
        calls += 1
        s.x[0] = terms.signed_input("result", 8, calls).bytes

    call.state.called = called
    call.walk(program)
    expect(calls, len(entries) if shape.stops < 0 else shape.stops + 1, "the number of calls")
    expect(call.state.number_of(0), 0 if shape.stops < 0 else status, "the status that is returned")
    return call.state


def lend(s: State, begin: int, top: int, where: dict[str, int]) -> None:
    """See that scratch and status are apart from all that a caller needs, and write to scratch as what is called may."""
    places = [(begin, begin + 8 * FIELDS)]
    if "status" in where:
        places.append((where["status"], where["status"] + 8))
    if "scratch" in where:
        places.append((where["scratch"], where["scratch"] + SCRATCH))
    for (_, end), (start, _) in itertools.pairwise(sorted(places)):
        if end > start:
            raise ProofError("arguments, status and scratch overlap")
    if max(places)[1] > top or begin < s.sp:
        raise ProofError("arguments, status or scratch lie beyond the frame")
    if any(place % 8 for place, _ in places):
        raise ProofError("arguments, status or scratch are not aligned")
    if "scratch" in where and not where.get("written"):
        where["written"] = 1
        stack = s.memory.regions[top >> REGION]
        for page in range(where["scratch"], where["scratch"] + SCRATCH, PAGE):
            if set(stack.find(PAGE, page - stack.address)) == {None}:
                raise ProofError("a page of scratch is not touched before it is lent")
        s.memory.store(where["scratch"], terms.signed_input("scratch", 8).bytes * (SCRATCH // 8))


def prove_builtin(entry: Entry, shape: Builtin) -> State:
    """Prove that `run_builtin` hands the fields of its objects to `run`, and returns the right object with one more reference."""
    call = Call(entry, STACK["run_builtin"])
    run, release, acquire, token = (something(name) for name in ("run", "let go", "take", "token"))
    rows, pitch, stride = (anything(name) for name in ("rows", "stride_m", "stride_k"))
    counts = {name: anything(f"references of {name}") for name in ("self", "records")}
    data = [anything(f"data {i}") for i in range(4)]
    own = call.region("self").holds(counts["self"].bytes).takes(8)
    for i, field in enumerate((run, release if shape.unlocks else 0, acquire if shape.unlocks else 0)):
        own.holds(field.bytes if field else [0] * 8, 32 + 8 * i)
    records = call.region("records").holds(counts["records"].bytes).takes(8)
    objects = [call.region(f"array {i}").holds(each.bytes, 16) for i, each in enumerate(data)]
    for at, fields in ((32, [rows]), (40, [pitch, stride])):
        objects[0].holds(call.words(f"of the left one at {at}", fields).to_bytes(8, "little"), at)
    order = [records, *objects][: shape.count]
    arguments = call.words("arguments", [each.address for each in order])
    status = something("status") if shape.fails else 0
    done: list[str] = []

    def called(s: State, target: Any) -> None:
        names = {release: "let go", acquire: "take", run: "run"}
        name = names.get(target, "")
        done.append(name)
        if name == "let go":
            s.x[0] = token
            # Objects may change from here on, and so are not to be looked at.
            lent.update({each.address: each.data for each in (*objects, records)})
            for each in (*objects, records):
                each.data = {}
        elif name == "take":
            expect(s.number_of(0), token, "what the lock is taken with")
            for each in (*objects, records):
                each.data = lent[each.address]
        elif name == "run":
            head = s.number_of(0)
            few = [data[i] if shape.count > i else 0 for i in range(4)]
            extra = [data[2] if shape.count > 3 else 0, data[3] if shape.count > 4 else 0]
            want = [*few[:2], rows, stride, pitch, 0, *extra, 0, 0, 0, 0, 0, 0, records.address + 32, 0]
            for i, each in enumerate(want):
                expect(word(s, head + 8 * i), each, f"word {i} of the head")
            s.x[0] = status

    lent: dict[int, Any] = {}
    call.state.called = called
    call.state.x[1:3] = arguments, shape.count
    call.walk(own.address)
    if done != (["let go", "run", "take"] if shape.unlocks else ["run"]):
        raise ProofError(f"{done} are called")
    returned = "records" if shape.fails else "self"
    expect(call.state.number_of(0), {"self": own, "records": records}[returned].address, "what is returned")
    for name, each in (("self", own), ("records", records)):
        expect(word(call.state, each.address), counts[name] + (name == returned), f"references of {name}")
    return call.state
