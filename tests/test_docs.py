"""README.md, asm/README.md and the docstrings say what the code does: examples run, tables are compared, pictures are made again."""

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
from icount import tables as counts
from support import entry

import pyint8dot
from pyint8dot import __main__ as command_line
from pyint8dot.engine import cpu, kernels
from pyint8dot.engine.packing import PackedFormat, PackedI8K4

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ASM_README = (ROOT / "asm" / "README.md").read_text(encoding="utf-8")
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


TABLES = tables(README)


def table(*start: str) -> list[list[str]]:
    """The rows of the one table of the README whose heading begins so."""
    found = [rows for name, rows in TABLES.items() if f"{name}|".startswith("|".join(start) + "|")]
    assert len(found) == 1, f"{len(found)} tables of the README begin with the columns {start}"
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


# The code of the README.

BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
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


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> dict:
    """The names that the blocks without extras leave, each tried in the order of the README."""
    left: dict = {}
    # Some write files.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        for block in BLOCKS:
            if not extra(block):
                seen = run(block, left)
                assert [printed for printed, _ in seen] == [promised for _, promised in seen]
                assert len(seen) == promises(block)
    return left


def test_the_code_runs_and_prints_what_it_says(names):
    assert "matmul" in names
    assert len([block for block in BLOCKS if not extra(block)]) >= 4


@pytest.mark.parametrize("module", sorted(EXTRAS))
def test_the_code_that_needs_an_extra_runs(module, names):
    blocks = [block for block in BLOCKS if extra(block) == EXTRAS[module]]
    assert blocks
    pytest.importorskip(EXTRAS[module])
    for block in blocks:
        seen = run(block, dict(names))
        assert [printed for printed, _ in seen] == [promised for _, promised in seen]
        assert len(seen) == promises(block) > 0


def test_a_wrong_promise_is_noticed():
    assert run("print(1 + 1)  # 3\nprint(0)\nprint(5)  # for example 6", {}) == [("2", "3")]


@static
def test_code_stands_before_prose():
    assert re.match(r"# pyint8dot\n\n```python\n", README)
    assert len(BLOCKS[0].splitlines()) <= 12


# The tables of the README.


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
    """The entry for what is not released yet stands before that of the version this is."""
    entries = re.findall(r"^(?:Unreleased \()?(\d+(?:\.\d+)+)\)?: ?", README.split("## Changes")[1], re.MULTILINE)
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
    assert sorted(code(row[0]) for row in table("extra")) == sorted(extras)
    commands = re.findall(r"^pip install (?:--no-deps )?(.*)$", README, re.MULTILINE)
    named = " ".join(line for line in commands if line != ".").split()
    assert sorted(named) == sorted([".", *(re.split(r"[<>=]", wanted)[0] for wanted in extras["models"])])


@static
def test_make_targets_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    assert [code(row[0]) for row in table("command", "what it does")] == [f"make {target}" for target in targets]
    assert set(re.findall(r"\bmake ([a-z]+)", " ".join(re.findall(r"`[^`\n]+`", README)))) <= set(targets)
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
@pytest.mark.parametrize("text", [README, ASM_README], ids=["README.md", "asm/README.md"])
def test_files_that_are_named_exist(text):
    named = re.findall(r"`((?:asm|tests|pyint8dot)/[\w/.]+\.\w+)`", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists() and "<" not in name] == []


# Counts.


@static
def test_counts_are_the_goldens():
    """How the tables are made is tested with the other tools of counting."""
    assert counts.differences(README + ASM_README, GOLDENS) == []


@static
def test_the_readme_compares_with_other_libraries_and_has_every_form():
    for piece in (counts.beside, counts.smaller, counts.models, counts.forms):
        assert piece(GOLDENS) in README


# Memory.

CONSTANT = 16 * 1024  # bytes, as the README says


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
    assert f"{percent} % for {k} x {n}" in " ".join(README.split())


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
