"""Wall-clock of whole products, grouped by shape: every kernel of this machine beside numpy in float32 and in int32.

Under emulation the times are the emulator's: their ratios show the work that is done, and no processor's speed. A plain
`pytest` runs the small shapes once, unmeasured; `pytest --benchmark-only` measures all of them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import EMULATED
from support import views

from pyint8dot import matmul, pack

# (m, k, n): a tile, the layers of MiniLM at one token and at 128, a square; then the six of tract's qmmm_i8 bench.
SHAPES = [
    (8, 8, 8),
    (1, 384, 384),
    (128, 384, 384),
    (128, 384, 1536),
    (128, 1536, 384),
    (512, 512, 512),
    (256, 256, 256),
    (1024, 1024, 1024),
    (128, 768, 768),
    (384, 768, 768),
    (64, 2048, 2048),
]

# Measuring time of one entry and shape in seconds, and the most rounds within it: numpy's int32 alone would take minutes.
BUDGET = 1.0
MOST_ROUNDS = 5 if EMULATED else 50
# What numpy's slowest product does in a second, to plan the rounds: a low guess costs rounds, a high one time.
MACS_PER_SECOND = 1e8 if EMULATED else 1e9

NUMPY = {"numpy_float32": np.float32, "numpy_int32": np.int32}


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def bench_shape(request):
    return request.param


@pytest.fixture
def operands(bench_shape, rng):
    m, k, n = bench_shape
    return views.filled(rng, (m, k), np.int8), views.filled(rng, (k, n), np.int8)


def measure(benchmark, shape, function, *arguments):
    """Measure calls of ``function`` in the group of the shape, as many rounds as fit the budget."""
    m, k, n = shape
    benchmark.group = "x".join(map(str, shape))
    benchmark.extra_info["macs"] = m * n * k
    rounds = int(min(max(BUDGET * MACS_PER_SECOND / (m * n * k), 1), MOST_ROUNDS))
    return benchmark.pedantic(function, arguments, rounds=rounds, iterations=1, warmup_rounds=1 if rounds > 1 else 0)


def test_kernel(benchmark, bench_shape, operands, kernel):
    """B packed before, A packed in the call."""
    a, b = operands
    packed = pack(b, kernel=kernel)
    got = measure(benchmark, bench_shape, lambda: matmul(a, packed, kernel=kernel))
    np.testing.assert_array_equal(got[:1], views.product(a[:1], b))


def test_kernel_packing_both(benchmark, bench_shape, operands, kernel):
    """Both operands packed in the call."""
    a, b = operands
    got = measure(benchmark, bench_shape, lambda: matmul(a, b, kernel=kernel))
    np.testing.assert_array_equal(got[:1], views.product(a[:1], b))


@pytest.mark.parametrize("name", NUMPY)
def test_numpy(benchmark, bench_shape, operands, name):
    """numpy's own product of operands converted before."""
    a, b = (operand.astype(NUMPY[name]) for operand in operands)
    got = measure(benchmark, bench_shape, np.matmul, a, b)
    assert got.dtype == NUMPY[name]


ROOT = Path(__file__).resolve().parents[1]


def pytest_in_a_child(*arguments):
    """What a run of pytest prints, its blank lines left out."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return [line for line in done.stdout.splitlines() if line.strip()]


@pytest.mark.static
def test_the_tables_come_last_and_fit_a_screen():
    lines = pytest_in_a_child("--benchmark-only", "tests/test_bench.py", "tests/test_fuse.py", "-k", "8x8x8 or fuse")
    assert not [line for line in lines if "SKIPPED" in line]
    assert any(re.fullmatch(r"left out: [1-9]\d* tests measure nothing: .*", line) for line in lines)
    [start] = [number for number, line in enumerate(lines) if "benchmark '8x8x8'" in line]
    table = lines[start:]
    assert max(map(len, table)) <= 130
    rows = [line for line in table if line.startswith("test_")]
    assert {"test_kernel", "test_kernel_packing_both", "test_numpy"} == {row.split("[")[0] for row in rows}
    # Rule, names, rule, rows, rule, two lines of legend under its name, and pytest's own last line.
    assert len(table) == 3 + len(rows) + 1 + 3 + 1
    assert re.search(r"\d+ passed, \d+ deselected", table[-1])


@pytest.mark.static
def test_other_runs_say_why_a_test_was_skipped(tmp_path):
    (tmp_path / "test_it.py").write_text("import pytest\n\ndef test_it():\n    pytest.skip('because of the weather')\n")
    lines = pytest_in_a_child(tmp_path / "test_it.py")
    assert any("SKIPPED" in line and "because of the weather" in line for line in lines)
