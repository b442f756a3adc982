"""Proves entries shape by shape, and keeps what was proven by the bytes of the entry and of the prover itself."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from proof.claims import CLAIMS
from proof.image import Entry, entries
from proof.machine import State
from proof.terms import ProofError

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
KEPT = CHECKOUT / ".arm64" / "proofs"


class Proof(NamedTuple):
    """What was proven of an entry."""

    seconds: float
    #: For each shape how many instructions it took, and which, as pairs of first and last by distance from the start of the entry.
    runs: list[tuple[int, list[tuple[int, int]]]]

    @property
    def shapes(self) -> int:
        """How many shapes were proven."""
        return len(self.runs)

    @property
    def instructions(self) -> int:
        """How many instructions that took."""
        return sum(steps for steps, _ in self.runs)

    def reach(self, at: int) -> list[int]:
        """The shapes, by number, that take the instruction at a distance from the start; the cheapest first."""
        found = [i for i, (_, spans) in enumerate(self.runs) if any(first <= at <= last for first, last in spans)]
        return sorted(found, key=lambda i: self.runs[i][0])

    def untaken(self, entry: Entry) -> list[int]:
        """The instructions that no shape takes."""
        taken = {at for _, spans in self.runs for first, last in spans for at in range(first, last + 4, 4)}
        return sorted(set(range(0, len(entry.code), 4)) - taken)


@functools.cache
def _sources() -> bytes:
    """A digest of all that a verdict depends on beside the entry."""
    digest = hashlib.sha256()
    for path in sorted([*HERE.glob("*.py"), *(CHECKOUT / "tests" / "support").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.digest()


def prove(entry: Entry, *, full: bool) -> Proof:
    """Prove an entry for all of its shapes, or for those of a quick run; ProofError says which is not as claimed."""
    start, runs = time.process_time(), []
    claim = CLAIMS[entry.name]
    for shape in claim.shapes(entry.name, full=full):
        state = shown(entry, shape)
        runs.append((state.steps, spans(sorted(at - entry.address for at in state.seen))))
    return Proof(round(time.process_time() - start, 1), runs)


def shown(entry: Entry, shape: Any) -> State:
    """Prove one shape; ProofError names it."""
    try:
        state: State = CLAIMS[entry.name].prove(entry, shape)
    except ProofError as error:
        raise ProofError(f"{entry.name}, {shape}: {error}") from None
    return state


def spans(places: list[int]) -> list[tuple[int, int]]:
    """Places of instructions in rising order as pairs of first and last."""
    firsts = [at for i, at in enumerate(places) if not i or places[i - 1] != at - 4]
    lasts = [at for i, at in enumerate(places) if i + 1 == len(places) or places[i + 1] != at + 4]
    return list(zip(firsts, lasts, strict=True))


def kept(name: str, *, full: bool, folder: Path = KEPT) -> Proof:
    """The same by name, from the last run where neither the entry nor the prover has changed since."""
    known = recalled(name, full=full, folder=folder)
    if known is not None:
        return known
    proof = prove(entries()[name], full=full)
    folder.mkdir(parents=True, exist_ok=True)
    kept_in(name, full, folder).write_text(json.dumps({"digest": _digest(name, full), "proof": proof._asdict()}))
    return proof


def recalled(name: str, *, full: bool, folder: Path = KEPT) -> Proof | None:
    """What the last run proved, or None where there was none since the entry or the prover changed."""
    file = kept_in(name, full, folder)
    if not file.is_file():
        return None
    known = json.loads(file.read_text())
    return Proof(**known["proof"]) if known["digest"] == _digest(name, full) else None


def kept_in(name: str, full: bool, folder: Path) -> Path:
    """Where what was proven of an entry is kept."""
    return folder / f"{name}{'-full' if full else ''}.json"


def _digest(name: str, full: bool) -> str:
    """A digest of all that a proof depends on."""
    return hashlib.sha256(_sources() + repr((entries()[name], full)).encode()).hexdigest()
