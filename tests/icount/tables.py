"""The goldens of the forms as the README's Markdown tables, and the comparison of a text with them."""

from __future__ import annotations

import difflib
import itertools

from icount import calls

Goldens = dict[str, int]


def forms(goldens: Goldens) -> str:
    """Return the table of the forms on the two small shapes, in thousands of instructions."""
    heading = [cell for shape in calls.SMALL for cell in (name_of(shape), "bar")]
    rows = []
    for call, row in calls.CALLS.items():
        shapes = small_shapes(call)
        if not shapes:
            continue
        cells = []
        for shape, shown in zip(shapes, calls.SMALL, strict=True):
            # A vector cannot have the rows that the heading says.
            note = "" if shape == shown else f" ({name_of(shape)})"
            cells += [f"{golden(goldens, call, shape) / 1000:.1f}{note}", f"{row.bars[shape] / 1000:g}"]
        rows.append([marked(call), *cells])
    return lines(["form", *heading], rows)


def further(goldens: Goldens) -> str:
    """Return the table of the further shapes that have a bar, in instructions a multiply-accumulate."""
    rows = []
    for call, shape in calls.barred():
        if shape in small_shapes(call):
            continue
        work, bar = calls.work(call, shape), calls.CALLS[call].bars[shape]
        rows.append([marked(call), name_of(shape), f"{golden(goldens, call, shape) / work:.4f}", f"{bar / work:.4g}"])
    return lines(["form", "m x k x n", "instructions a MAC", "bar"], rows)


def markdown(goldens: Goldens) -> str:
    """Return both tables."""
    return f"{forms(goldens)}\n\n{further(goldens)}"


def differences(text: str, goldens: Goldens) -> list[str]:
    """Return the lines in which the tables of a text differ from those of the goldens.

    A line that the text has too much begins with a minus, one that it lacks with a plus; of a table
    that is not there every line is lacking.
    """
    there = text.splitlines()
    found: list[str] = []
    for table in (forms(goldens), further(goldens)):
        wanted = table.splitlines()
        start = there.index(wanted[0]) if wanted[0] in there else len(there)
        block = list(itertools.takewhile(lambda line: line.startswith("|"), there[start:]))
        found += [line for line in difflib.ndiff(block, wanted) if line[0] in "-+"]
    return found


def small_shapes(call: str) -> tuple[calls.Shape, ...]:
    """Return the shapes that stand for the two small ones, if a call is counted on them with bars."""
    row = calls.CALLS[call]
    return next((small for small in (calls.SMALL, calls.VECTOR) if set(small) <= set(row.bars)), ())


def golden(goldens: Goldens, call: str, shape: calls.Shape) -> int:
    """Return a golden of the kernel that the bars are for."""
    return goldens[calls.key(call, calls.BARS_ON, shape)]


def name_of(shape: calls.Shape) -> str:
    """Return a shape as the headings have it."""
    return "x".join(map(str, shape))


def marked(call: str) -> str:
    """Return the name of a call with its function as code."""
    function, comma, rest = call.partition(",")
    return f"`{function}`{comma}{rest}"


def lines(heading: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    first, *rest = [f"| {' | '.join(cells)} |" for cells in (heading, *rows)]
    return "\n".join([first, "|---" * len(heading) + "|", *rest])
