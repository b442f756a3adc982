"""The documents say what the code does: tables are compared, links followed, pictures made again."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess

import numpy as np
import pytest
from icount import picture
from icount import tables as counts
from support import entry
from support.documents import ASM_README, DOCUMENTS, PAGES, README, ROOT, TEXT, code, project, table, tables

import pyint8dot
from pyint8dot import __main__ as command_line
from pyint8dot.engine import kernels
from pyint8dot.engine.packing import PackedFormat, PackedI8K4

GOLDENS = json.loads(counts.GOLDENS.read_text())

static = pytest.mark.static


# The pages.


@static
def test_the_readme_is_short():
    assert len(README.splitlines()) <= 250


@static
@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_to_files_and_headings(path):
    """Links between documents, and those to a heading by the name that GitHub and the site give it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[path]):
        file, _, heading = target.partition("#")
        found = ((ROOT / path).parent / file).resolve()
        assert found.is_file(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings], target


@static
@pytest.mark.parametrize("path", DOCUMENTS)
def test_powers_are_not_taken_for_markup(path):
    """Two stars open bold text, and close it at the next power."""
    prose = re.sub(r"^```.*?^```|`[^`]*`", "", DOCUMENTS[path], flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"\w\*\*\w", prose) == []


@static
def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\(([^)#\s]+)", README))
    assert {path for path in DOCUMENTS if path != "README.md"} <= linked


# The tables.


@static
def test_every_kernel_has_its_line():
    rows = [
        [
            f"`{row.name}`",
            " ".join(f"`{each}`" for each in sorted(row.features)) or "nothing",
            f"{row.mr} x {row.nr}",
            f"`{row.right.name}`",
        ]
        for row in kernels.KERNELS.values()
    ]
    assert [row[:4] for row in table("kernel", "needs")] == rows


@static
def test_the_processors_of_the_readme_have_kernels_of_the_table():
    named = [code(row[1]) for row in table("processor", "kernel")]
    asked_for = {code(row[0]) for row in table("kernel", "needs") if row[4].startswith("request")}
    assert sorted(named) == sorted(set(kernels.KERNELS) - asked_for)


@static
def test_every_companion_has_its_line():
    rows = [
        [
            f"`{few.name}`",
            f"`{row.name}`",
            f"at most {few.most_columns}" + (f", of {few.least_rows} rows and more" if few.least_rows else ""),
            f"`{few.right.name}`",
        ]
        for row in kernels.KERNELS.values()
        for few in row.few
    ]
    assert table("companion") == rows
    assert not {code(row[0]) for row in rows} & set(kernels.KERNELS)


@static
def test_the_first_changes_are_those_of_the_next_version():
    """The first entry is of this version, unreleased as long as it is one in the making, and the README has its summary."""
    entries = re.findall(r"^(?:Unreleased \()?(\d+(?:\.\d+)+)\)?: ?", PAGES["asm/docs/changes.md"], re.MULTILINE)
    assert entries[0] in README.split("## Changes")[1].split("\n## ")[0]
    version, making, _ = pyint8dot.__version__.partition(".dev")
    assert version == entries[0]
    assert bool(making) == (f"Unreleased ({version})" in PAGES["asm/docs/changes.md"])
    parts = [tuple(map(int, entry.split("."))) for entry in entries]
    assert parts == sorted(parts, reverse=True)


def environment_variables(source: str) -> set[str]:
    """The environment variables a module reads, and the ones it names in constants."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    read = {str(value) for name, value in constants.items() if name.endswith("_VARIABLE")}
    for node in ast.walk(tree):
        key = None
        if (
            isinstance(node, ast.Call)
            and node.args
            and re.search(r"environ\.(get|setdefault|pop)$|getenv$", ast.unparse(node.func))
        ):
            key = node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
            key = node.slice
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]).endswith("environ"):
            key = node.left
        if isinstance(key, ast.Constant):
            read.add(str(key.value))
        elif isinstance(key, ast.Name) and key.id in constants:
            read.add(str(constants[key.id]))
    return read


@static
def test_every_environment_variable_is_listed():
    sources = [*sorted((ROOT / "pyint8dot").rglob("*.py")), ROOT / "build.py"]
    read = set().union(*(environment_variables(path.read_text()) for path in sources))
    assert {"PYINT8DOT_KERNEL", "OMP_NUM_THREADS", "CC"} <= read
    assert sorted(code(row[0]) for row in table("environment variable")) == sorted(read)


def is_error(name: str) -> bool:
    found = getattr(pyint8dot, name)
    return inspect.isclass(found) and issubclass(found, Exception)


@static
def test_every_public_name_is_listed():
    errors = [name for name in pyint8dot.__all__ if is_error(name)]
    assert sorted(code(row[0]) for row in table("error")) == sorted(errors)
    assert sorted(code(row[0]) for row in table("name")) == sorted(set(pyint8dot.__all__) - set(errors))


@static
def test_every_command_is_listed():
    listed = [code(row[0]) for row in table("command", "what it prints")]
    assert listed == [f"python -m pyint8dot {name}" for name in command_line.COMMANDS]


@static
def test_every_extra_is_listed():
    extras = project()["optional-dependencies"]
    listed = [name for row in table("extra") for name in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(listed) == sorted(extras)
    commands = re.findall(r"^pip install (?:--no-deps )?(.*)$", TEXT, re.MULTILINE)
    named = " ".join(line for line in commands if line != ".").split()
    assert sorted(named) == sorted([".", *(re.split(r"[<>=]", wanted)[0] for wanted in extras["models"])])


@static
def test_make_targets_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    assert [code(row[0]) for row in table("command", "what it does")] == [f"make {target}" for target in targets]
    assert set(re.findall(r"\bmake ([a-z]+)", " ".join(re.findall(r"`[^`\n]+`", TEXT)))) <= set(targets)
    assert {line for line in README.splitlines() if line.startswith("make ")} <= {
        f"make {target}" for target in targets
    }
    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^ *make ([a-z]+) +\S", helped, re.MULTILINE) == targets


@static
def test_workflows_call_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        steps = re.findall(r"^ *(?:- run: )?make ([a-z ]+?)(?: PYTHON=\S+)?;?$", path.read_text(), re.MULTILINE)
        called = {target for step in steps for target in step.split()}
        assert called
        assert called <= targets


@static
def test_bounds_are_the_largest_exact_k():
    """Largest magnitude of a product by sign; -2**31 fits int32 and 2**31 does not."""
    limits = {"int8": (-128, 127), "uint8": (0, 255)}
    rows = {}
    for first, second in (("int8", "int8"), ("uint8", "int8"), ("uint8", "uint8")):
        products = [x * y for x in limits[first] for y in limits[second]]
        low, high = min(products), max(products)
        rows[f"{first} x {second}"] = min((2**31 - 1) // high, 2**31 // -low if low < 0 else 2**40)
    assert {row[0]: int(row[1]) for row in table("operands")} == rows


@static
def test_files_that_are_named_exist():
    named = re.findall(r"`((?:asm|tests|pyint8dot)/[\w/.]+\.\w+)`", "\n".join(DOCUMENTS.values()))
    assert len(named) > 9
    assert [name for name in named if not (ROOT / name).exists() and "<" not in name] == []


# Counts.


@static
def test_counts_are_the_goldens():
    """How the tables are made is tested with the other tools of counting."""
    assert counts.differences("\n\n".join(DOCUMENTS.values()), GOLDENS) == []


@static
def test_the_counts_have_a_page_and_a_picture():
    for piece in (counts.beside, counts.smaller, counts.models, counts.forms, counts.searches):
        assert piece(GOLDENS) in PAGES["asm/docs/counts.md"]
    assert picture.svg(GOLDENS) == counts.PICTURE.read_text(encoding="utf-8")
    assert "](asm/docs/counts.svg)" in README


@static
def test_the_picture_has_every_bar():
    bars = picture.rows(GOLDENS)
    assert list(bars) == list(counts.COMPARED)
    drawn = picture.svg(GOLDENS)
    for call, found in bars.items():
        # The cells of the table in the column of the shape.
        column = counts.calls.SHAPES.index(picture.SHAPE) + 1
        rows = [line.split("|") for line in counts.beside(GOLDENS).splitlines()]
        [ours] = [row for row in rows if f"`{call}`" in row[1] and "**" in row[1]]
        assert found[0] == ("pyint8dot", float(ours[column + 1]))
        for name, count in found:
            assert f">{name}</text>" in drawn
            assert f">{count:.4f}</text>" in drawn


# The assembly's README.


@static
def test_every_assembly_file_is_listed():
    [files] = [rows for name, rows in tables(ASM_README).items() if name.startswith("file|")]
    listed = [name for row in files for name in re.findall(r"`([^`]+)`", row[0])]
    present = [path.name for folder in entry.FOLDERS for path in folder.iterdir() if path.suffix in (".S", ".h")]
    assert len(set(listed)) == len(listed)
    assert (set(present) - set(listed), set(listed) - set(present)) == (set(), set())


@static
@pytest.mark.parametrize("layout", [PackedI8K4(8), PackedFormat(8)], ids=str)
def test_pictures_of_the_layouts(layout):
    """The bytes of a packed panel, each shown as the k and the column it came from."""
    part = ASM_README.split(f"`{type(layout).__name__}(r)`, for")[1]
    picture = re.search(r"(?:^    [0-9a-f]{2}: .*\n)+", part, re.MULTILINE)[0].splitlines()
    k = 16 * len(picture) // layout.r
    operand = np.array([[16 * p + j for j in range(layout.r)] for p in range(k)], np.int8)
    packed = layout.pack(operand, k_axis=0, mn_axis=1)
    assert packed.size == 16 * len(picture)
    drawn = [re.findall(r"([0-9a-f])\.([0-9a-f])", line.partition(":")[2]) for line in picture]
    assert [[int(p + j, 16) for p, j in line] for line in drawn] == packed.reshape(-1, 16).tolist()
    assert [line.split(":")[0].strip() for line in picture] == [f"{16 * i:02x}" for i in range(len(picture))]
