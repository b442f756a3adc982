"""README and pages as the tests read them, and their tables."""

from __future__ import annotations

import re
from pathlib import Path

from icount import tables as counts

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ASM_README = (ROOT / "asm" / "README.md").read_text(encoding="utf-8")
# What is read beside the page of the assembly: the README and its pages, by path.
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in counts.DOCUMENTS
    if path.relative_to(ROOT).as_posix() != "asm/README.md"
}
DOCUMENTS = {**PAGES, "asm/README.md": ASM_README}
TEXT = "\n\n".join(PAGES.values())


def tables(text: str) -> dict[str, list[list[str]]]:
    """The rows below the heading of each table, by the heading's cells joined with a bar."""
    found: dict[str, list[list[str]]] = {}
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        assert "|".join(head) not in found
        assert {len(row) for row in rows} == {len(head)}, head
        found["|".join(head)] = rows
    return found


TABLES = tables(TEXT)


def table(*start: str) -> list[list[str]]:
    """The rows of the one table of README and pages whose heading begins so."""
    found = [rows for name, rows in TABLES.items() if f"{name}|".startswith("|".join(start) + "|")]
    assert len(found) == 1, f"{len(found)} tables begin with the columns {start}"
    return found[0]


def code(cell: str) -> str:
    """What stands in a cell between backticks."""
    [found] = re.findall(r"`([^`]+)`", cell)
    return found


def project() -> dict:
    """The [project] table of pyproject.toml."""
    try:
        import tomllib
    except ImportError:  # Python 3.10; pytest needs this there
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
