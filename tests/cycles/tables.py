"""The tables of modelled cycles in the documentation, made from the goldens: ``python -m cycles.tables`` writes them anew."""

from __future__ import annotations

import math

from cycles.cores import CORES
from cycles.goldens import FORMS, Numbers, chosen, read
from emulation import layout
from icount import tables

PAGE = layout.CHECKOUT / "asm" / "docs" / "cycles.md"


def rate(number: float) -> str:
    """Return multiply-accumulates a cycle with three digits."""
    return f"{number:.3g}"


def cell(row: Numbers, core: str) -> str:
    """Return what a loop makes of what a core can, nothing where the core has not what it needs."""
    if core not in row["cycles"]:
        return ""
    return f"{rate(row['macs'] / row['cycles'][core])} of {rate(row['limits'][core])}"


def loops(numbers: Numbers) -> str:
    """Return the table of main loops: multiply-accumulates a cycle, of what the core can make of such products."""
    rows = [
        [f"`{name}`", f"{row['instructions']} / {row['macs']}", *(cell(row, core) for core in CORES)]
        for name, row in numbers["loops"].items()
    ]
    return tables.lines(["main loop of", "instructions / MACs a turn", *CORES], rows)


def whole(numbers: Numbers) -> str:
    """Return the table of whole calls: multiply-accumulates a cycle."""
    rows = [["kernel", "", *(f"`{chosen(core)}`" for core in CORES.values())]]
    for form, shape in FORMS:
        macs = math.prod(map(int, shape.split("x")))
        cells = []
        for name, core in CORES.items():
            cells.append(rate(macs / numbers["calls"][f"{form} {chosen(core)} {shape}"]["cycles"][name]))
        rows.append([f"`{form}`", shape, *cells])
    return tables.lines(["whole call", "m x k x n", *CORES], rows)


def models() -> str:
    """Return the table of the cores and what models each."""
    rows = []
    for core in CORES.values():
        simulator = f"llvm-mca's `{core.model}`, `-dispatch={core.dispatch}`"
        model = "the rules for in-order cores" if core.in_order else simulator
        rows.append([core.name, model, str(core.front), core.stands_for])
    return tables.lines(["core", "modelled by", "instructions delivered a cycle", "really the model of"], rows)


def pieces(numbers: Numbers) -> list[str]:
    """Return everything the page has of the goldens and of the table of cores."""
    return [loops(numbers), whole(numbers), models()]


def write(numbers: Numbers) -> None:
    """Write the tables into their page."""
    PAGE.write_text(tables.replaced(PAGE.read_text(encoding="utf-8"), pieces(numbers)), encoding="utf-8")


if __name__ == "__main__":
    write(read())
