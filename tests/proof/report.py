"""What is proven of each entry, in words and without proving it again, and the table of the page on proofs."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from emulation import layout
from proof.claims import CLAIMS, UNPROVEN

PAGE = layout.CHECKOUT / "asm" / "docs" / "proof.md"
#: What the table on the page begins and ends with.
HEAD = "| entry | shapes | of any | instructions | seconds | mutants |\n|---|--:|---|--:|--:|--:|\n"
#: What letters of a shape stand for.
SIZES = {"m": "rows", "n": "columns", "k": "depth"}


class Status(NamedTuple):
    """What `make prove` proves of an entry: nothing, and why, or how many shapes, and what is any in how many of them."""

    entry: str
    #: Why nothing is proven; empty where something is.
    unproven: str
    shapes: int
    #: By what is any, "rows and columns" say, how many of the shapes.
    beyond: dict[str, int]

    @property
    def words(self) -> str:
        """The same in a sentence."""
        if self.unproven:
            return f"Not proven: {self.unproven}."
        beyond = f", of which {listed(self.beyond)}" if self.beyond else ""
        return f"Proven for {self.shapes:,} shapes{beyond}."


def joined(words: list[str]) -> str:
    """Words as one says them."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def listed(beyond: dict[str, int]) -> str:
    """What is any in how many shapes, in words."""
    return ", ".join(f"{count:,} of any {what}" for what, count in beyond.items())


def status(name: str) -> Status:
    """What `make prove` proves of an entry; nothing is proven for it."""
    if name in UNPROVEN:
        return Status(name, UNPROVEN[name], 0, {})
    counts: Counter[Any] = Counter(getattr(shape, "more", "") for shape in CLAIMS[name].shapes(name, full=True))
    beyond = {
        joined([SIZES[letter] for letter in "mnk" if letter in more]): count
        for more, count in sorted(counts.items(), key=lambda item: (len(item[0]), item[0]))
        if more
    }
    return Status(name, "", counts.total(), beyond)


def row(name: str, proof: Any, refused: int, tried: int) -> str:
    """A line of the table; figures that were not counted are left open."""
    beyond = ", ".join(f"{what} {count:,}" for what, count in status(name).beyond.items()) or "-"
    figures = [f"{proof.instructions:,}", f"{proof.seconds:,.0f}"] if proof else ["-", "-"]
    return f"| `{name}` | {status(name).shapes:,} | {beyond} | {' | '.join(figures)} | {refused} of {tried} |"


def write(rows: list[str], total: str) -> None:
    """Put a table and what stands under it in the place that they have on the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, after = text.partition(HEAD)
    _, _, after = after.partition("<!-- end of the table -->")
    lines = [*rows, "", total, "", "<!-- end of the table -->"]
    PAGE.write_text(before + HEAD + "\n".join(lines) + after, encoding="utf-8")
