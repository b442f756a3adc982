"""``make test`` and ``make bench``: the test suite on every processor this machine has or can emulate.

On x86-64 Debian that is the emulated CPU models and this machine's own Python, two at a time, and the tests of the
entries once more on the libraries of macOS and Windows; on an Arm host, or where nothing can be emulated, this machine's
own Python alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from emulation import control, layout
from support import rows

import build

REPORTS = layout.HOME / "reports"
# The targets of other systems, whose libraries the loader of the tests maps.
FOREIGN = sorted(set(build.TARGETS) - {"linux-aarch64"})
# The tests that call the entries themselves, and so those worth running on the libraries of other systems as well. One of two
# placements of buffers does, the code being the same.
ENTRY_TESTS = ("abi", "run", "gather", "native_floats", "packing", "kernels")
LESS = "not -start] and not one_hot"
FIRST_BEAT, BEAT = 5, 30  # seconds to the first line of progress, and between two


@dataclass(frozen=True)
class Run:
    """One run of the suite: where, and what its processor has of the features that kernels need (None: not known)."""

    name: str
    python: Path
    cpu: str | None = None
    features: frozenset[str] | None = None
    #: Whether small products run on the builtin; else on ctypes, as on interpreters that are not known.
    builtin: bool = True
    #: Whether single entries of the library are called in it.
    entries: bool = True
    #: The features of processors whose runs carry out the tests that need no more: code is the same on all that run it.
    shown: frozenset[str] | None = None
    #: The target whose library takes the place of this machine's, of another system; only the entries are tested then.
    image: str | None = None

    @property
    def chooses(self) -> str | None:
        """The kernel it has to choose, or None for any."""
        return None if self.features is None else rows.best(self.features).name

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes; what could steer the choice of a kernel is left out."""
        drop = (
            "QEMU_CPU",
            "QEMU_PLUGIN",
            "PYINT8DOT_KERNEL",
            "TRACT_DOTPROD_DISABLE",
            "PYINT8DOT_BUILTIN",
            "PYTEST_ADDOPTS",
        )
        own = {key: value for key, value in os.environ.items() if key not in drop}
        own.update(PATH=f"{layout.TOOLS / 'bin'}:{own['PATH']}", PYTHONUNBUFFERED="1")
        # Two runs at a time on two processors: more threads of BLAS only wait for each other.
        own.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", PYINT8DOT_RECORD=str(self.record))
        own.update({} if self.builtin else {"PYINT8DOT_BUILTIN": "0"})
        if self.image:
            own["PYINT8DOT_IMAGE"] = str(build.path_of(build.PRODUCT, self.image))
            own["PYTHONPATH"] = str(layout.CHECKOUT / "tests")
        return {**own, "QEMU_CPU": self.cpu} if self.cpu else own

    @property
    def tests(self) -> list[str]:
        """What pytest is told beyond what every run is: nothing where the whole suite runs."""
        if not self.image:
            return []
        return ["-p", "support.image_plugin", "-k", LESS, *(f"tests/test_{name}.py" for name in ENTRY_TESTS)]

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return REPORTS / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """Where the list of its tests goes."""
        return REPORTS / f"{self.name}.json"


def runs(kind: str) -> list[Run]:
    """Return the runs of a machine of this kind, the longest first."""
    if kind != "emulated":
        return [Run("host", layout.HOST_PYTHON)]
    emulated = []
    shown: list[frozenset[str] | None] = [None]
    for model in layout.MODELS[:-1]:
        emulated.append(Run(model.name, layout.PYTHON, model.cpu, model.features, shown=shown[-1]))
        shown.append(model.features)
    # The last has what the one before it has, and SVE, which only numpy uses. So it goes through the same tests, without the
    # builtin, and without the calls of single entries: neither has a part in those.
    last, able = layout.MODELS[-1], layout.MODELS[-2]
    emulated.append(
        Run(last.name, layout.PYTHON, last.cpu, last.features, builtin=False, entries=False, shown=shown[-2])
    )
    images = [Run(target, layout.PYTHON, able.cpu, able.features, image=target) for target in FOREIGN]
    return [*emulated, *images, Run("host", layout.HOST_PYTHON, None, frozenset())]


def clock(began: float) -> str:
    """Return the time since then as minutes and seconds."""
    return "{:3.0f}:{:02.0f}".format(*divmod(int(time.monotonic() - began), 60))


def pytest(run: Run, arguments: list[str]) -> int:
    """Run pytest once, its output in the run's log, and return its exit status."""
    command = [str(run.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.emulation.record"]
    command += [] if run.entries else ["--no-entries"]
    command += [] if run.shown is None else [f"--shown={','.join(sorted(run.shown))}"]
    run.record.unlink(missing_ok=True)
    with run.log.open("w") as log:
        return subprocess.run(
            [*command, *run.tests, *arguments],
            cwd=layout.CHECKOUT,
            env=run.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode


def progress(run: Run) -> str:
    """Return how far a run is, as pytest's last percentage."""
    found = re.findall(r"\[ *(\d+%)\]", run.log.read_text(errors="replace")) if run.log.exists() else []
    return found[-1] if found else "starting"


def ending(run: Run, status: int) -> str:
    """Return pytest's closing line, or how the run died."""
    text = run.log.read_text(errors="replace")
    died = re.search(r"^.*(Fatal Python error: .*)$", text, re.MULTILINE)
    if died or status < 0:
        return f"DIED with exit status {status}" + (f" ({died[1]})" if died else "")
    return text.strip().rpartition("\n")[2]


def suite(planned: list[Run], arguments: list[str]) -> dict[str, int]:
    """Run the suite everywhere, two at a time, saying now and then how far it is."""
    began = time.monotonic()
    busy: list[Run] = []
    done = threading.Event()

    def one(run: Run) -> int:
        busy.append(run)
        print(f"[{clock(began)}] {run.name}: started", flush=True)
        status = pytest(run, arguments)
        busy.remove(run)
        print(f"[{clock(began)}] {run.name}: {ending(run, status)}", flush=True)
        return status

    def beat() -> None:
        pause = FIRST_BEAT
        while not done.wait(pause):
            pause = BEAT
            print(f"[{clock(began)}] " + ", ".join(f"{run.name} {progress(run)}" for run in list(busy)), flush=True)

    threading.Thread(target=beat, daemon=True).start()
    with ThreadPoolExecutor(2) as pool:
        statuses = dict(zip((run.name for run in planned), pool.map(one, planned), strict=True))
    done.set()
    return statuses


def never_ran(planned: list[Run]) -> tuple[list[str], list[str]]:
    """Return the tests that some run collected and no run carried out: without and with an excuse.

    The excuse is the marker ``optional``: the test needs a program that a machine may lack.
    """
    seen: dict[str, set[str]] = {}
    for run in planned:
        for test, outcome in (json.loads(run.record.read_text()) if run.record.exists() else {}).items():
            seen.setdefault(test, set()).add(outcome)
    unrun = {test: outcomes for test, outcomes in sorted(seen.items()) if not outcomes & {"passed", "failed"}}
    excuses = {test: why for test, outcomes in unrun.items() for why in outcomes if why.startswith("unavailable")}
    return [test for test in unrun if test not in excuses], [f"{test}: {why}" for test, why in excuses.items()]


def count(run: Run) -> Counter[str]:
    """Return the numbers of pytest's closing line, by word."""
    closing = run.log.read_text(errors="replace").strip().rpartition("\n")[2]
    found = re.findall(r"(\d+) (passed|failed|error|skipped|deselected)", closing)
    return Counter({word: int(number) for number, word in found})


def trouble(run: Run) -> str:
    """Return what a failed run printed, without the dots before its first report."""
    text = run.log.read_text(errors="replace")
    marks = ("= ERRORS =", "= FAILURES =", "Fatal Python error:")
    starts = [place for place in map(text.find, marks) if place >= 0]
    return text[text.rfind("\n", 0, min(starts)) + 1 :] if starts else text


def test(arguments: list[str]) -> int:
    """Run the suite and the controls; return 0 where all of it holds."""
    kind = layout.kind()
    planned = runs(kind)
    REPORTS.mkdir(parents=True, exist_ok=True)
    print(f"test: {len(planned)} runs, two at a time: {', '.join(run.name for run in planned)}", flush=True)
    for run in planned:
        if run.image and build.build(build.PRODUCT, run.image) is None:
            raise SystemExit(build.no_toolchain(run.image))
    whole = [run for run in planned if not run.image]
    complaints = control.check(whole) if kind == "emulated" else []
    statuses = suite(planned, arguments)

    for run in planned:
        if statuses[run.name]:
            print(
                f"\n===== {run.name}: exit status {statuses[run.name]}, whole output in {run.log} =====\n{trouble(run)}"
            )
    if not arguments:
        unrun, excused = never_ran(whole)
        for line in excused:
            print(f"not run on this machine: {line}")
        if kind == "emulated":
            complaints += [f"ran on no processor: {test}" for test in unrun]
        elif unrun:
            print(f"{len(unrun)} tests need another processor than this one")

    passed = 0
    failed = len(complaints)
    print(f"\n{'run':14}{'chose':12}{'passed':>8}{'failed':>8}{'errors':>8}{'skipped':>9}{'left out':>10}")
    for run in planned:
        row = count(run)
        passed += row["passed"]
        # A run that died has failed although pytest counted nothing.
        failed += max(row["failed"] + row["error"], int(statuses[run.name] != 0))
        cells = f"{row['passed']:8}{row['failed']:8}{row['error']:8}{row['skipped']:9}{row['deselected']:10}"
        print(f"{run.name:14}{control.chosen(run):12}{cells}")
    for complaint in complaints:
        print(f"FAILED {complaint}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def bench(arguments: list[str]) -> int:
    """Measure on the best processor there is."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if layout.kind() == "emulated":
        cpu = environment.setdefault("QEMU_CPU", "neoverse-n1")
        print(f"emulated {cpu}: the ratios show the work done, the times are the emulator's and no Arm processor's")
    command = [str(layout.PYTHON), "-m", "pytest", "-p", "no:cacheprovider", "--benchmark-only", *arguments]
    return subprocess.run(command, cwd=layout.CHECKOUT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit({"test": test, "bench": bench}[sys.argv[1]](sys.argv[2:]))
