"""What a row of the tables says stands nowhere else in the package: no name of a kernel, a layout or a packer, no size of a tile."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from support import rows

import pyint8dot
from pyint8dot.engine import kernels

pytestmark = pytest.mark.static

PACKAGE = Path(pyint8dot.__file__).parent

# Where the rows are.
TABLES = {"engine/kernels.py", "engine/layouts.py"}
# Where two families of layouts are offered under their names.
PUBLIC = {"__init__.py", "engine/packing.py"}
# Where sizes are decided: what is made there follows tiles and panels.
DECIDING = (
    "engine/native.py",
    "engine/operand.py",
    "engine/packing.py",
    "engine/plan.py",
    "engine/recipe.py",
    "convolution/*.py",
)

FAMILIES = {family.__name__ for family in rows.FAMILIES} | {"RowMajor"}
NAMES = FAMILIES | {*kernels.KERNELS, *(row.name for row in rows.FEW), *rows.PACKERS, *rows.GATHERERS}
# Within a longer text they tell as well, but for the one that is a word of English.
WORDS = re.compile(rf"\b({'|'.join(sorted(NAMES - {rows.PORTABLE.name}))})\b")
# Tiles and panels; powers of two up to four are the sizes of types as well.
SIZES = {size for row in rows.NATIVE for size in (row.mr, row.nr, row.left.r, row.right.r)} - {1, 2, 4}

FILES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def code(tree: ast.AST):
    """The nodes of a module but for docstrings and the list of its names."""
    for node in ast.iter_child_nodes(tree):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        listing = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if not docstring and not listing:
            yield node
            yield from code(node)


def test_there_is_something_to_look_for():
    assert {*TABLES, *PUBLIC} <= set(FILES)
    assert {8} <= SIZES
    assert "PackedI8K4" in FAMILIES


@pytest.mark.parametrize("file", sorted(set(FILES) - TABLES))
def test_no_name_stands_outside_the_rows(file):
    texts = [node.value for node in code(FILES[file]) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [text for text in texts if text in NAMES or WORDS.search(text)] == []
    if file not in PUBLIC:
        used = {node.id for node in code(FILES[file]) if isinstance(node, ast.Name)}
        used |= {node.attr for node in code(FILES[file]) if isinstance(node, ast.Attribute)}
        assert used & FAMILIES == set()


@pytest.mark.parametrize("pattern", DECIDING)
def test_no_size_stands_outside_the_rows(pattern):
    files = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob(pattern)]
    assert files
    for file in files:
        numbers = [node for node in code(FILES[file]) if isinstance(node, ast.Constant) and type(node.value) is int]
        assert [f"{file}:{node.lineno}" for node in numbers if node.value in SIZES] == []
