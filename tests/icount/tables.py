"""The tables of counts in the documentation: made from the goldens, compared with it, and written into it.

``python -m icount.tables --write`` writes the tables anew, each in the place it has, and the picture of the README. What other
libraries take was counted once and stands in `peers.json`, in the units of the tables.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

from emulation import layout
from icount import calls

HERE = Path(__file__).resolve().parent
GOLDENS = HERE / "goldens.json"
PAGES = layout.CHECKOUT / "asm" / "docs"
#: What has the tables: each stands in one of these.
DOCUMENTS = [layout.CHECKOUT / "README.md", layout.CHECKOUT / "asm" / "README.md", *sorted(PAGES.glob("*.md"))]
PICTURE = PAGES / "counts.svg"
#: By call, the name of what is compared with it, and its cells.
PEERS: dict[str, dict[str, list[str]]] = json.loads((HERE / "peers.json").read_text())
#: The calls that are compared with other libraries, on all of `calls.SHAPES`, and what they make.
COMPARED = {"matmul": "int32 out", "qlinear_matmul": "int8 out", "linear": "float32 in and out"}
#: The kernel that every 64-bit Arm runs; ratios are its counts by those of `calls.BARS_ON`.
BASELINE = "smlal_8x8"
#: How the line begins that says where another library takes less.
SMALLER = "Smaller than ours: "

Goldens = dict[str, int]


# The tables.


def beside(goldens: Goldens) -> str:
    """Return the table of whole calls beside those of other libraries."""
    rows = []
    for call, made in COMPARED.items():
        rows.append([f"**`{call}`**, {made}", *cells(goldens, call, calls.BARS_ON)])
        rows += [[name, *theirs] for name, theirs in PEERS[call].items()]
    return lines(["m x k x n", *map(name_of, calls.SHAPES)], rows)


def smaller(goldens: Goldens) -> str:
    """Return the line that names every cell of another library in which it takes less than ours."""
    found = [
        f"{name} at {name_of(shape)}"
        for call in COMPARED
        for name, theirs in PEERS[call].items()
        for shape, cell, ours in zip(calls.SHAPES, theirs, cells(goldens, call, calls.BARS_ON), strict=True)
        if float(cell) < float(ours)
    ]
    return f"{SMALLER}{', '.join(found) or 'none'}."


def models(goldens: Goldens) -> str:
    """Return the table of whole models on every kernel, in millions of instructions."""
    names = kernels(goldens)
    rows = []
    for call, row in calls.CALLS.items():
        if row.unit == "run":
            found = {name: goldens.get(calls.key(call, name, row.shapes[0])) for name in names}
            base, best = found.get(BASELINE), found.get(calls.BARS_ON)
            theirs = PEERS.get(call, {"onnxruntime": [""]})["onnxruntime"]
            counts = ("" if count is None else f"{count / 1e6:.0f}" for count in found.values())
            rows.append([call, *counts, f"{base / best:.2f}" if base and best else "", *theirs])
    return lines(["model", *(f"`{name}`" for name in names), "ratio", "onnxruntime"], rows)


def sizes(goldens: Goldens) -> str:
    """Return the table of `matmul` on every kernel, and how many times the instructions of SDOT the baseline takes."""
    rows = [[f"`{name}`", *cells(goldens, "matmul", name)] for name in kernels(goldens)]
    ratios = (
        goldens[calls.key("matmul", BASELINE, shape)] / golden(goldens, "matmul", shape) for shape in calls.SHAPES
    )
    rows.append(["ratio", *(f"{ratio:.1f}" for ratio in ratios)])
    return lines(["kernel", *map(name_of, calls.SHAPES)], rows)


def others(goldens: Goldens) -> str:
    """Return the table of the calls that are in no other table, on every kernel, by unit of work."""
    names = kernels(goldens)
    elsewhere = {(call, shape) for call in COMPARED for shape in calls.SHAPES} | set(calls.barred())
    rows = []
    for call, shape in calls.counted():
        unit = calls.CALLS[call].unit
        if unit != "run" and (call, shape) not in elsewhere:
            counts = (f"{goldens[calls.key(call, name, shape)] / calls.work(call, shape):.4f}" for name in names)
            rows.append([marked(call), name_of(shape), unit, *counts])
    return lines(["call", "m x k x n", "unit", *(f"`{name}`" for name in names)], rows)


def forms(goldens: Goldens) -> str:
    """Return the table of the forms on the two small shapes, in thousands of instructions."""
    heading = [cell for shape in calls.SMALL for cell in (name_of(shape), "bar")]
    rows = []
    for call, row in calls.CALLS.items():
        shapes = small_shapes(call)
        if not shapes:
            continue
        found = []
        for shape, shown in zip(shapes, calls.SMALL, strict=True):
            # A vector cannot have the rows that the heading says.
            note = "" if shape == shown else f" ({name_of(shape)})"
            found += [f"{golden(goldens, call, shape) / 1000:.1f}{note}", f"{row.bars[shape] / 1000:g}"]
        rows.append([marked(call), *found])
    return lines(["form", *heading], rows)


def further(goldens: Goldens) -> str:
    """Return the table of the further shapes that have a bar, in instructions a multiply-accumulate."""
    rows = []
    for call, shape in calls.barred():
        if shape in small_shapes(call) or calls.CALLS[call].unit != "MAC":
            continue
        work, bar = calls.work(call, shape), calls.CALLS[call].bars[shape]
        rows.append([marked(call), name_of(shape), f"{golden(goldens, call, shape) / work:.4f}", f"{bar / work:.4g}"])
    return lines(["form", "m x k x n", "instructions per MAC", "bar"], rows)


def searches(goldens: Goldens) -> str:
    """Return the table of a search on every kernel, in instructions a score, and the bar of one of them."""
    names = kernels(goldens)
    [(call, row)] = [(call, row) for call, row in calls.CALLS.items() if row.unit == "score"]
    rows = []
    for shape in row.shapes:
        work = calls.work(call, shape)
        counts = (f"{goldens[calls.key(call, name, shape)] / work:.1f}" for name in names)
        rows.append([f"{shape[0]}", *counts, f"{row.bars[shape] / work:g}"])
    return lines(["queries", *(f"`{name}`" for name in names), f"bar, `{calls.BARS_ON}`"], rows)


def pieces(goldens: Goldens) -> list[str]:
    """Return everything the documents have of the goldens: the tables, and the line `smaller`."""
    return [piece(goldens) for piece in (beside, smaller, models, sizes, forms, further, others, searches)]


def markdown(goldens: Goldens) -> str:
    """Return all of them as one text."""
    return "\n\n".join(pieces(goldens))


# A text that holds them.


def place(text: list[str], piece: str) -> slice:
    """Return where a piece stands in the lines of a text, an empty slice where it does not.

    A table is found by its heading, the line `smaller` by its beginning.

    Raises
    ------
    LookupError
        It stands there twice.
    """
    first = piece.partition("\n")[0]
    head = SMALLER if first.startswith(SMALLER) else first
    found = [i for i, line in enumerate(text) if line.startswith(head)]
    if len(found) > 1:
        raise LookupError(f"{len(found)} lines begin with {head!r}")
    if not found:
        return slice(0, 0)
    [start] = found
    end = start + 1
    while end < len(text) and text[end].startswith("|"):
        end += 1
    return slice(start, end)


def differences(text: str, goldens: Goldens) -> list[str]:
    """Return the lines in which the counts of a text differ from the goldens.

    A line that the text has too much begins with a minus, one that it lacks with a plus; of a table
    that is not there every line is lacking.
    """
    there = text.splitlines()
    return [
        line
        for piece in pieces(goldens)
        for line in difflib.ndiff(there[place(there, piece)], piece.splitlines())
        if line[0] in "-+"
    ]


def rewritten(text: str, goldens: Goldens) -> str:
    """Return a text in which those tables that it has are made anew from the goldens."""
    there = text.splitlines()
    for piece in pieces(goldens):
        at = place(there, piece)
        if there[at]:
            there[at] = piece.splitlines()
    return "\n".join([*there, ""])


def write(goldens: Goldens) -> None:
    """Write the tables into the documents, and the picture.

    Raises
    ------
    LookupError
        A table is in none of them, or there twice. The others have been written.
    """
    from icount import picture  # which draws what this module knows

    texts = [rewritten(path.read_text(encoding="utf-8"), goldens) for path in DOCUMENTS]
    for path, text in zip(DOCUMENTS, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    PICTURE.write_text(picture.svg(goldens), encoding="utf-8")
    if missing := differences("".join(texts), goldens):
        raise LookupError(f"no document has the table that begins with {missing[0][2:]!r}")


# Parts of tables.


def kernels(goldens: Goldens) -> list[str]:
    """Return the kernels that were counted, best first."""
    return list(dict.fromkeys(calls.split(name)[1] for name in goldens))


def cells(goldens: Goldens, call: str, kernel: str) -> list[str]:
    """Return the counts of a call on all of `calls.SHAPES`: thousands on the two small ones, else by unit of work."""
    counts = [goldens[calls.key(call, kernel, shape)] for shape in calls.SHAPES]
    return [
        f"{count / 1000:.1f}" if shape in calls.SMALL else f"{count / calls.work(call, shape):.4f}"
        for count, shape in zip(counts, calls.SHAPES, strict=True)
    ]


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
    first, *rest = [f"| {' | '.join(row)} |" for row in (heading, *rows)]
    return "\n".join([first, "|---" * len(heading) + "|", *rest])


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Print the tables of counts.")
    parser.add_argument("--write", action="store_true", help="write them into the documents instead")
    goldens = json.loads(GOLDENS.read_text())
    if parser.parse_args().write:
        write(goldens)
    else:
        print(markdown(goldens))
    return 0


if __name__ == "__main__":
    sys.exit(main())
