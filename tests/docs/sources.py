"""What the site is made of, as Markdown: the README and its pages, a page for each entry of the library, and the functions.

Everything keeps the place it has in the checkout, so that links between documents hold here as they do there.
"""

from __future__ import annotations

import importlib
import json
import re

import numpy as np
from cycles import goldens as modelled
from cycles import tables as rates
from emulation import layout
from icount import calls, tables
from lab import plots
from proof import image, prover
from proof.claims import CLAIMS, UNPROVEN, UNTAKEN
from support import banner

from pyint8dot.engine.kernels import KERNELS, Kernel
from pyint8dot.engine.layouts import Layout, RowMajor

ASM = layout.CHECKOUT / "asm"
#: The pages beside the README, in the order of the menu.
PAGES = ("cpus", "slower", "exact", "proof", "models", "onnx", "search", "settings", "counts", "cycles", "changes")
#: The public modules, and what the menu calls them.
MODULES = {
    "pyint8dot": "Products, convolutions, quantising",
    "pyint8dot.fuse": "Fused operations",
    "pyint8dot.onnx": "ONNX models",
    "pyint8dot.search": "Search",
    "pyint8dot.models": "Sentence embeddings",
}
#: Keys of a contract that stand in lists of code or sentences, not as a text of their own.
SHORT = ("Requires", "Tile", "Packing", "Clobbers", "Unused", "Stack", "Over-read", "Bound")


def sources() -> dict[str, str]:
    """Return every document and picture of the site, by its path."""
    names = ["README.md", "asm/README.md", *(f"asm/docs/{name}.md" for name in PAGES), "asm/docs/counts.svg"]
    found = {name: (layout.CHECKOUT / name).read_text(encoding="utf-8") for name in names}
    found["index.md"] = found.pop("README.md") + menu()
    stems = sorted(path.stem for path in ASM.glob("*.S"))
    found["asm/entries/index.md"] = "\n".join(
        [
            "# Every entry",
            "",
            "One page an entry of the native library: its contract, and its source. What all of them keep, the tile and the layouts stand",
            "on [the assembly's page](../README.md).",
            "",
            "| entry | what it does |",
            "|---|---|",
            *(f"| [`{stem}`]({stem}.md) | {summary(stem)} |" for stem in stems),
            "",
            toctree("", stems, hidden=True),
        ]
    )
    for stem in stems:
        found[f"asm/entries/{stem}.md"] = entry(stem)
        found[f"asm/{stem}.S"] = (ASM / f"{stem}.S").read_text(encoding="utf-8")
    for module in MODULES:
        found[f"api/{module}.md"] = functions(module)
    return found


def menu() -> str:
    """Return the tables of contents that make the site's menu."""
    return "\n".join(
        [
            "",
            toctree("Guide", [f"asm/docs/{name}" for name in PAGES], hidden=True),
            toctree("Reference", [f"api/{module}" for module in MODULES], hidden=True),
            toctree("Assembly", ["asm/README", "asm/entries/index"], hidden=True),
        ]
    )


def toctree(caption: str, documents: list[str], *, hidden: bool) -> str:
    """Return a table of contents in MyST's Markdown."""
    options = [f":caption: {caption}"] * bool(caption) + [":hidden:"] * hidden
    return "\n".join(["```{toctree}", *options, "", *documents, "```", ""])


# The functions.


def functions(module: str) -> str:
    """Return the page of a public module: its text, and every public name by autodoc."""
    found = importlib.import_module(module)
    lines = [f"# {MODULES[module]}", "", "```{eval-rst}"]
    # The first words of a package are those of the README.
    lines += [] if module == "pyint8dot" else [f".. automodule:: {module}", "   :no-members:", ""]
    for name in in_order(found.__all__):
        thing = getattr(found, name)
        if isinstance(thing, type):
            lines += [f".. autoclass:: {module}.{name}", ""]
        elif callable(thing):
            lines += [f".. autofunction:: {module}.{name}", ""]
        elif not hasattr(thing, "__path__"):
            lines += [f".. autodata:: {module}.{name}", ""]
    return "\n".join([*lines, "```", ""])


def in_order(names: list[str]) -> list[str]:
    """Return public names as the README's table has them; those it has not come last, as they were."""
    readme = (layout.CHECKOUT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)
    return sorted(names, key=lambda name: listed.index(name) if name in listed else len(listed))


# The entries.


def summary(stem: str) -> str:
    """Return what the assembly's page says of an entry."""
    [found] = [what for files, what in table("file") if f"`{stem}.S`" in files]
    return found


def entry(stem: str) -> str:
    """Return the page of an entry."""
    contract = banner.parse((ASM / f"{stem}.S").read_text(encoding="utf-8"))
    rows = [row for each in KERNELS.values() for row in (each, *each.few) if row.name == stem]
    parts = [f"# {stem}", f"{summary(stem)[0].upper()}{summary(stem)[1:]}.", "## Contract", text(contract["Computes"])]
    parts.append(text(contract["Prototype"]))
    parts.append("\n".join(f"- **{key}**: ``{one_line(contract[key])}``" for key in SHORT if key in contract))
    parts.append(text(contract["Arguments"]))
    if rows:
        parts += kernel(rows[0])
    parts += ["## Proof", proof(stem)]
    parts += ["## Source", f"```{{literalinclude}} ../{stem}.S\n```", ""]
    return "\n\n".join(parts)


def kernel(row: Kernel) -> list[str]:
    """Return what the page of a kernel has beside its contract: tile, layouts, counts and modelled cycles."""
    parts = []
    if row.nr in LANES:
        parts += ["## Tile", picture_of(plots.tile(tile(row))), f"{LANES[row.nr][1]}."]
        parts.append("[The assembly's page](../README.md#the-tile) says what becomes of the other registers.")
    parts.append("## Layouts")
    parts.append("Bytes of a panel, as `k.j` in hexadecimal: the k and the row or column that each came from.")
    for side, panel in (("Left", row.left), ("Right", row.right)):
        if isinstance(panel, RowMajor):
            parts.append(f"{side} operand: read as it lies.")
        else:
            parts += [f"{side} operand: `{panel.name}`.", text(picture(panel))]
    goldens, cycles = json.loads(tables.GOLDENS.read_text()), modelled.read()
    if row.name in tables.kernels(goldens):
        counted = [[f"`{call}`", *tables.cells(goldens, call, row.name)] for call in tables.COMPARED]
        parts.append("## Counts")
        parts.append(
            "Instructions of whole calls (`make icount`): thousands on the two small shapes, else per multiply-accumulate."
        )
        parts.append(tables.lines(["call", *map(tables.name_of, calls.SHAPES)], counted))
    if row.name in cycles["loops"]:
        parts.append("## Modelled cycles")
        parts.append(
            "Multiply-accumulates a cycle of the main loop, of what the core can make of such products; "
            "[what is modelled and what not](../docs/cycles.md)."
        )
        parts.append(rates.loops({"loops": {row.name: cycles["loops"][row.name]}}))
    return parts


def table(*start: str) -> list[list[str]]:
    """Return heading and rows of the table of the assembly's page whose heading begins so."""
    page = (ASM / "README.md").read_text(encoding="utf-8")
    [found] = re.findall(rf"^\| {re.escape(' | '.join(start))}.*\n(?:\|.*\n)+", page, re.MULTILINE)
    heading, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in found.splitlines()]
    return [heading, *rows]


#: By columns of a tile, how many registers a row has at its end, and what is in them.
LANES = {
    8: (2, "A register holds columns 0 to 3 of a row, the next one columns 4 to 7"),
    4: (4, "A register holds one sum in four parts, which are added up at the end"),
    1: (2, "Two registers hold one sum in eight parts, which are added up at the end"),
}


def tile(row: Kernel) -> list[list[str]]:
    """Return which register, or registers, each sum of a tile is in at its end."""
    count, _ = LANES[row.nr]
    lines = []
    for i in range(row.mr):
        registers = [f"v{16 + count * i + j}" for j in range(count)]
        if count > row.nr:
            lines.append([" and ".join(registers)])
        else:
            lines.append([registers[j * count // row.nr] for j in range(row.nr)])
    return lines


def picture_of(svg: str) -> str:
    """Return a picture as the site shows it, no wider than it is drawn."""
    return f'```{{raw}} html\n<div style="max-width: 24rem">{svg}</div>\n```'


def proof(stem: str) -> str:
    """Return what is proven of an entry: the claim's shapes, and what the last runs of the prover here have said."""
    if stem in UNPROVEN:
        return f"Not proven: {UNPROVEN[stem]}. The suite tests it on values, with guard pages and canaries."
    full, quick = (sum(1 for _ in CLAIMS[stem].shapes(stem, full=each)) for each in (True, False))
    said = [
        f"Claimed for all values of its operands: at {full} shapes by `make prove`, at {quick} by `make test`.",
        "[What that means](../README.md#proven-checked-tested-trusted), and what it does not.",
    ]
    for what, found in (("`make prove`", recalled(stem, full=True)), ("quick run", recalled(stem, full=False))):
        if found is not None:
            counted = [steps for steps, _ in found.runs]
            length = len(image.entries()[stem].code) // 4
            said.append(
                f"The last {what} on this library: **proven**, {found.shapes} shapes, which take from {min(counted)} to {max(counted)} "
                f"instructions; the entry itself has {length}."
            )
    if not said[2:]:
        said.append("The prover has not run on this library here.")
    if stem in UNTAKEN:
        said.append(f"{UNTAKEN[stem][0]} of its instructions are taken at none: {UNTAKEN[stem][1]}.")
    return "\n".join(said)


def recalled(stem: str, *, full: bool) -> prover.Proof | None:
    """Return what a run of the prover has left of an entry of the library, where there is one."""
    return prover.recalled(stem, full=full) if image.LIBRARY.is_file() else None


def picture(panel: Layout) -> str:
    """Return the first bytes of a panel, each as the k and the row or column it came from."""
    shown = type(panel)(panel.r)
    k = max(16 // panel.r, 1) * (panel.kr if panel.kr > 1 else 2)
    k = -(-min(k, 16) // panel.kr) * panel.kr
    values = np.array([[16 * p + j for j in range(panel.r)] for p in range(k)], np.uint8).view(np.int8)
    packed = shown.pack(values, k_axis=0, mn_axis=1).view(np.uint8)[:64]
    lines = [packed[i : i + 16] for i in range(0, packed.size, 16)]
    return "\n".join(
        f"{16 * i:02x}: " + " ".join(f"{v >> 4:x}.{v & 15:x}" for v in line) for i, line in enumerate(lines)
    )


def text(content: str) -> str:
    """Return a block of text as it is."""
    return f"```text\n{content}\n```"


def one_line(content: str) -> str:
    """Return text of several lines as one."""
    return re.sub(r"\s+", " ", content)
