"""The documents say what the code does: examples run, tables are compared, pictures are made again."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from icount import picture
from icount import tables as counts
from support import entry

import pyint8dot
from pyint8dot import __main__ as command_line
from pyint8dot.engine import cpu, kernels
from pyint8dot.engine.packing import PackedFormat, PackedI8K4

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ASM_README = (ROOT / "asm" / "README.md").read_text(encoding="utf-8")
#: What is read beside the page of the assembly: the README and its pages, by path.
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in counts.DOCUMENTS
    if path.relative_to(ROOT).as_posix() != "asm/README.md"
}
DOCUMENTS = {**PAGES, "asm/README.md": ASM_README}
TEXT = "\n\n".join(PAGES.values())
GOLDENS = json.loads(counts.GOLDENS.read_text())

static = pytest.mark.static


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


# The code of the pages.


def blocks_of(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


BLOCKS = {path: blocks for path, text in PAGES.items() if (blocks := blocks_of(text))}
# What a block imports, and the distribution that this needs beside numpy.
EXTRAS = {"pyint8dot.models": "tokenizers", "pyint8dot.onnx": "onnx"}


def extra(block: str) -> str:
    """The module that a block needs and a plain installation lacks, or nothing."""
    return next((needs for module, needs in EXTRAS.items() if f"from {module} import" in block), "")


def run(source: str, names: dict) -> list[tuple[str, str]]:
    """Run a block; return what each print() with a comment printed, and that comment."""
    lines = source.splitlines()
    seen: list[tuple[str, str]] = []

    def record(*values: object) -> None:
        _, comment, promised = lines[sys._getframe(1).f_lineno - 1].partition("  # ")
        if comment and not promised.startswith("for example"):
            seen.append((" ".join(map(str, values)), promised))

    names["print"] = record
    exec(compile(source, "README.md", "exec"), names)
    return seen


def promises(source: str) -> int:
    """How many lines of a block say what they print."""
    return len(re.findall(r"^\s*print\(.*\)  # (?!for example)", source, re.MULTILINE))


@pytest.mark.parametrize("path", BLOCKS)
def test_the_code_runs_and_prints_what_it_says(path, tmp_path, monkeypatch):
    """A page's blocks run one after the other, those that need an extra where it is installed."""
    names: dict = {}
    monkeypatch.chdir(tmp_path)  # some write files
    for block in BLOCKS[path]:
        if extra(block):
            pytest.importorskip(extra(block))
        seen = run(block, names)
        assert [printed for printed, _ in seen] == [promised for _, promised in seen]
        assert len(seen) == promises(block)


def test_most_pages_have_code():
    assert "README.md" in BLOCKS
    assert len(BLOCKS) >= 6
    assert {extra(block) for blocks in BLOCKS.values() for block in blocks} == {"", *EXTRAS.values()}
    # The README runs without any extra.
    assert not any(map(extra, BLOCKS["README.md"]))


def test_a_wrong_promise_is_noticed():
    assert run("print(1 + 1)  # 3\nprint(0)\nprint(5)  # for example 6", {}) == [("2", "3")]


@static
def test_code_stands_on_the_first_screen():
    before, _, _ = README.partition("```python\n")
    assert before.startswith("# pyint8dot\n\n")
    assert len(before.splitlines()) <= 8
    assert len(BLOCKS["README.md"][0].splitlines()) <= 12


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
    """The entry for what is not released yet stands before that of the version this is, and the README has its summary."""
    entries = re.findall(r"^(?:Unreleased \()?(\d+(?:\.\d+)+)\)?: ?", PAGES["asm/docs/changes.md"], re.MULTILINE)
    assert entries[0] in README.split("## Changes")[1].split("\n## ")[0]
    assert pyint8dot.__version__ in entries[:2]
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


# Memory.

CONSTANT = 16 * 1024  # bytes, as the documents say


def peak(call) -> int:
    """Bytes that a thread's first call takes beside its result."""
    found = []

    def work() -> None:
        tracemalloc.start()
        result = call()
        found.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
        tracemalloc.stop()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.native
def test_memory_of_a_call(native_kernel):
    m, k, n = 256, 384, 512
    a, b = np.ones((m, k), np.int8), pyint8dot.pack(np.ones((k, n), np.int8), kernel=native_kernel)
    x = a.astype(np.float32)
    half = cpu.caches()[1] // 2
    products = {
        "matmul": (lambda: pyint8dot.matmul(a, b, kernel=native_kernel), m * k),
        "linear": (lambda: pyint8dot.linear(x, b, w_scale=np.float32(1), kernel=native_kernel), half),
        "qlinear_matmul": (lambda: pyint8dot.qlinear_matmul(a, 1.0, 0, b, 1.0, 0, 1.0, 0, kernel=native_kernel), half),
    }
    for name, (call, block) in products.items():
        call()  # what is made once per process, and the sums of the columns
        assert peak(call) <= block + CONSTANT, name


@pytest.mark.parametrize(("k", "n", "percent"), [(384, 1536, "1.0"), (512, 512, "0.8"), (2048, 2048, "0.2")])
def test_memory_of_a_packed_matrix(k, n, percent, kernel):
    packed = pyint8dot.pack(np.zeros((k, n), np.int8), kernel=kernel)
    assert f"{100 * (packed.nbytes / (k * n) - 1):.1f}" == percent
    assert f"{percent} % for {k} x {n}" in " ".join(TEXT.split())


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
