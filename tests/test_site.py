"""The sources of the site that `make docs` makes: every document is in the menu, every link holds, every public name has its place."""

from __future__ import annotations

import importlib
import json
import posixpath
import re

import pytest
from docs import sources
from icount import tables
from proof.claims import CLAIMS, UNPROVEN
from support import entry

from pyint8dot.engine import library
from pyint8dot.engine.kernels import KERNELS

pytest.importorskip("onnx")
pytestmark = pytest.mark.static

SOURCES = sources.sources()
DOCUMENTS = {path: text for path, text in SOURCES.items() if path.endswith(".md")}
NATIVE = {row.name: row for each in KERNELS.values() if each.native for row in (each, *each.few)}


def in_menu(path: str) -> list[str]:
    """The documents that the tables of contents of one name."""
    found = re.findall(r"^```\{toctree\}\n(.*?)^```", SOURCES[path], re.MULTILINE | re.DOTALL)
    names = [line for block in found for line in block.splitlines() if line and not line.startswith(":")]
    return [posixpath.join(posixpath.dirname(path), f"{name}.md") for name in names]


def test_every_document_is_in_the_menu_once():
    named = [name for path in DOCUMENTS for name in in_menu(path)]
    assert sorted([*named, "index.md"]) == sorted(DOCUMENTS)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_and_files_hold(path):
    text = DOCUMENTS[path]
    targets = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r"\{literalinclude\} (\S+)", text)
    for target in targets:
        assert posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) in SOURCES, target


def test_every_page_beside_the_readme_is_on_the_site():
    assert {f"{name}.md" for name in sources.PAGES} == {path.name for path in tables.PAGES.glob("*.md")}


@pytest.mark.parametrize("module", sources.MODULES)
def test_every_public_name_is_on_its_page(module):
    listed = re.findall(rf"^\.\. auto\w+:: {re.escape(module)}\.(\w+)$", DOCUMENTS[f"api/{module}.md"], re.MULTILINE)
    found = importlib.import_module(module)
    # Modules have pages of their own.
    assert sorted(listed) == sorted(name for name in found.__all__ if not hasattr(getattr(found, name), "__path__"))


def test_every_entry_has_its_page():
    for stem in entry.sources():
        page = DOCUMENTS[f"asm/entries/{stem}.md"]
        for key in ("Computes", "Prototype", "Arguments"):
            assert entry.contract(stem)[key] in page
        assert f"**Requires**: ``{entry.contract(stem)['Requires']}``" in page


@pytest.mark.parametrize("name", NATIVE)
def test_a_kernel_has_tile_layouts_and_counts(name):
    page = DOCUMENTS[f"asm/entries/{name}.md"]
    row = NATIVE[name]
    assert re.findall(r">row (\d+)</text>", page) == [str(i) for i in range(row.mr)]
    assert len(set(re.findall(r">(v\d+(?: and v\d+)?)</text>", page))) == row.mr * {8: 2, 4: 4, 1: 1}[row.nr]
    assert f"`{row.right.name}`" in page
    goldens = json.loads(tables.GOLDENS.read_text())
    if name in KERNELS:
        for call in tables.COMPARED:
            assert " | ".join([f"| `{call}`", *tables.cells(goldens, call, name)]) in page


@pytest.mark.parametrize("stem", library.ENTRIES)
def test_a_page_says_what_is_proven(stem):
    """Why not, or at how many shapes; and of a run on this library what it has found."""
    page = DOCUMENTS[f"asm/entries/{stem}.md"]
    [said] = re.findall(r"^## Proof\n\n(.*?)\n\n## ", page, re.MULTILINE | re.DOTALL)
    if stem in UNPROVEN:
        assert f"Not proven: {UNPROVEN[stem]}." in said
    else:
        shapes = sum(1 for _ in CLAIMS[stem].shapes(stem, full=True))
        assert f"at {shapes} shapes by `make prove`" in said
        assert ("**proven**" in said) != ("has not run" in said)


@pytest.mark.parametrize("name", ["PackedI8K4(8)", "PackedI8K8(8)", "PackedFormat(8)", "PackedI8K16(4)"])
def test_pictures_are_those_of_the_assembly_page(name):
    """That page's pictures are held to the packers themselves."""
    [panel] = {row.right for row in NATIVE.values() if row.right.name == name}
    drawn = [line.split() for line in sources.picture(panel).splitlines()]
    page = [line.split() for line in re.findall(r"^    [0-9a-f]{2}: .*$", DOCUMENTS["asm/README.md"], re.MULTILINE)]
    assert any(page[i : i + len(drawn)] == drawn for i in range(len(page)))
