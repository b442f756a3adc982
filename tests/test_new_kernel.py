"""Adding a kernel is writing `.S` files and rows, and nothing else: one is added, and the suite takes it for one of its own.

The kernel lies in `tests/support/new_kernel`. It is copied and built together with the others, and pytest is started again with a
plugin that enters its rows before anything reads the tables. What is said of it nowhere else, in the README and in the counts, has
to be missed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import build

TEMPLATES = build.ROOT / "tests" / "support" / "new_kernel"
KERNEL = "smull_6x4"
ENTRIES = {path.stem for path in TEMPLATES.glob("*.S")}

# The tests that are about one kernel or layout have its name in theirs.
ITS_OWN = f"({KERNEL} or I8K2 or i8k2)"

# Choice, packing, products, convolution, and every promise of the assembly. New interpreters do not know the new rows.
NATIVE_FILES = (
    "test_kernels.py", "test_abi.py", "test_gather.py", "test_run.py", "test_dispatch.py", "test_packed_matrix.py",
    "test_recipe.py", "test_matmul.py", "test_qmm.py", "test_linear.py", "test_conv.py",
)  # fmt: skip
NATIVE_TESTS = f"{ITS_OWN} and not child_process or checker or every_entry"
STATIC_FILES = ("test_asm_source.py", "test_elf.py", "test_program.py", "test_packing.py")

# What has to be written beside files and rows: lines in the documents, and counts.
GATES = {
    "test_docs.py::test_every_kernel_has_its_line",
    "test_docs.py::test_the_processors_of_the_readme_have_kernels_of_the_table",
    "test_docs.py::test_every_assembly_file_is_listed",
    "test_icount.py::test_every_call_of_every_native_kernel_has_a_golden",
}


class Outcome(NamedTuple):
    """What a run of pytest said: the tests that passed and those that failed, and all of its output."""

    passed: set[str]
    failed: set[str]
    output: str

    def files(self) -> set[str]:
        """The files that something passed of."""
        return {name.partition("::")[0] for name in self.passed}


def suite(folder: Path, files: tuple[str, ...], *options: str) -> Outcome:
    """Run tests of the suite in a new interpreter that knows the kernel in `folder`."""
    drop = ("PYINT8DOT_KERNEL", "TRACT_DOTPROD_DISABLE", "PYINT8DOT_RECORD", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    environment["PYTHONPATH"] = os.pathsep.join([str(build.ROOT), str(build.ROOT / "tests")])
    environment["NEW_KERNEL"] = str(folder)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "support.new_kernel.plugin",
        "-rpfE",
    ]
    done = subprocess.run(
        [*command, *options, *(f"tests/{file}" for file in files)],
        cwd=build.ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    output = done.stdout + done.stderr
    passed, failed = (
        set(re.findall(rf"^(?:{word}) tests/(\S+)", output, re.MULTILINE)) for word in ("PASSED", "FAILED|ERROR")
    )
    assert done.returncode == int(bool(failed)), output
    return Outcome(passed, failed, output)


def make(folder: Path) -> None:
    """Build the library of all kernels and the one in `folder`, there."""
    product = build.PRODUCT._replace(sources=(*build.PRODUCT.sources, folder), folder=folder)
    if build.build(product) is None:
        pytest.skip(build.no_toolchain(build.default_target()))


@pytest.fixture
def folder(tmp_path):
    """A copy of the new kernel with its packers and rows."""
    copy = tmp_path / "new_kernel"
    copy.mkdir()
    for path in (*TEMPLATES.glob("*.[Sh]"), TEMPLATES / "rows.py"):
        shutil.copy(path, copy)
    return copy


@pytest.mark.native
def test_the_suite_takes_it_for_one_of_its_own(folder):
    make(folder)
    outcome = suite(folder, NATIVE_FILES, "-k", NATIVE_TESTS)
    assert not outcome.failed, outcome.output
    assert outcome.files() == set(NATIVE_FILES)
    assert ENTRIES - {entry for entry in ENTRIES for name in outcome.passed if entry in name} == set()


@pytest.mark.native
def test_a_wrong_lane_is_named(folder):
    """The third of three columns is stored from another lane: kernel, shape, row and column are in the report."""
    source = folder / f"{KERNEL}.S"
    right = "ext     v\\sum\\().16b, v\\sum\\().16b, v\\sum\\().16b, #8"
    assert source.read_text().count(right) == 1
    source.write_text(source.read_text().replace(right, right.replace("#8", "#4")))
    make(folder)
    outcome = suite(folder, ("test_kernels.py",), "-k", f"test_shapes and {KERNEL} and subtile", "--seed", "1")
    assert f"test_kernels.py::test_shapes[{KERNEL}-subtile-end]" in outcome.failed
    reports = re.findall(
        rf"{KERNEL}, m=(\d+), n=(\d+), k=\d+\nE\s+\d+ wrong cells of \d+, the first in row (\d+), column (\d+): ",
        outcome.output,
    )
    assert reports, outcome.output
    for m, n, row, column in (map(int, report) for report in reports):
        assert (row, column, n % 4) == (0, n - 1, 3), (m, n)


@pytest.mark.static
def test_its_files_agree_with_its_rows(folder):
    """Contracts, the rules of the sources and of the built library, the records of programs, the definition of its layouts."""
    for package in ("capstone", "elftools"):
        pytest.importorskip(package, reason=f"the built library is read with {package}")
    outcome = suite(folder, STATIC_FILES, "-k", ITS_OWN)
    assert not outcome.failed, outcome.output
    assert outcome.files() == set(STATIC_FILES)


@pytest.mark.static
def test_what_is_not_written_of_it_is_missed(folder):
    """Its line among the kernels, its files among the assembly, its counts: the suite fails for each, and says for what."""
    outcome = suite(folder, tuple(sorted(GATES)))
    assert outcome.failed == GATES
    assert f"`{KERNEL}`" in outcome.output
    assert f"{KERNEL}.S" in outcome.output
    assert f"matmul {KERNEL} 8x8x8" in outcome.output
