"""``make icount``: count the instructions of whole calls under emulation and compare with the goldens.

A count covers everything a Python call does: argument checks, the output's allocation, packing, the
kernel. It is exact, the same on every host up to a few instructions of the memory allocator, and so
may be kept in the repository; ``--update`` writes new goldens, which a change has to justify, and the
tables of the documentation with them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from emulation import layout
from icount import calls, tables

from pyint8dot.engine import kernels as engine

HERE = Path(__file__).resolve().parent
GOLDENS = tables.GOLDENS
#: What every plugin includes.
HEADER = HERE / "qemu_plugin.h"
KERNELS = [row.name for row in engine.KERNELS.values() if row.native]
# Counts repeat to about this part of themselves; small calls are mostly Python and the allocator, which
# see addresses that differ from run to run and from machine to machine.
TOLERANCE, SMALL_TOLERANCE, SMALL = 0.005, 0.05, 1_000_000
NEWEST_API = 9


class CannotCountError(Exception):
    """This machine cannot count; the message is one line that says why."""


def tolerance(count: int) -> float:
    """Return the part by which a count may differ from its golden."""
    return SMALL_TOLERANCE if count < SMALL else TOLERANCE


def plugin(source: Path = HERE / "plugin.c") -> Path:
    """Compile a plugin for this machine's qemu and return its path."""
    qemu, compiler = layout.tool("qemu-aarch64"), shlex.split(os.environ.get("HOSTCC", "cc"))
    if layout.kind() != "emulated" or not layout.PYTHON.exists() or qemu is None:
        raise CannotCountError("instructions are counted under emulation: on x86-64 Debian, after `make setup`")
    if shutil.which(compiler[0]) is None:
        raise CannotCountError("counting needs a C compiler for this machine (on Debian: apt-get install gcc)")
    folder = layout.HOME / source.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    said = "it is built without them"
    # qemu takes a plugin only where it claims a version of the interface it knows.
    for api in range(1, NEWEST_API + 1):
        path = compiled(compiler, source, folder / f"{source.stem}-{api}.so", api)
        with tempfile.TemporaryDirectory() as scratch:
            probe = Path(scratch, "probe")
            done = guest(path, probe, ["-c", "pass"], check=False)
            if done.returncode == 0 and probe.exists():
                return path
        said = done.stderr.strip().rpartition("\n")[2] or said
    raise CannotCountError(f"{qemu} takes no plugins: {said}")


def compiled(compiler: list[str], source: Path, path: Path, api: int) -> Path:
    """Compile a plugin for a version of the interface, unless that is done, and return its path."""
    if path.exists() and path.stat().st_mtime > max(each.stat().st_mtime for each in (source, HEADER)):
        return path
    flags = ["-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden", f"-DPLUGIN_API={api}"]
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        made = Path(work, path.name)
        command = [*compiler, *flags, str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotCountError(f"{source.name} does not compile: {done.stderr.strip().partition(chr(10))[0]}")
        made.replace(path)
    return path


def cpu_for(kernel: str) -> str:
    """Return the CPU model that a kernel is counted on, as qemu calls it: the first that has all it needs."""
    needs = engine.KERNELS[kernel].features
    for model in layout.MODELS:
        if needs <= model.features:
            return model.cpu
    raise LookupError(f"no CPU model has what {kernel} needs: {', '.join(sorted(needs))}")


def guest(
    library: Path, out: Path, arguments: list[str], *, check: bool = True, cpu: str = layout.MODELS[0].cpu, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the emulated Python with the plugin, on one thread and with nothing random that can be fixed; `more` is its environment."""
    drop = ("PYINT8DOT_KERNEL", "TRACT_DOTPROD_DISABLE", "PYINT8DOT_BUILTIN")
    environment = {key: value for key, value in os.environ.items() if key not in drop}
    environment.update(QEMU_CPU=cpu, QEMU_PLUGIN=str(library), ICOUNT_OUT=str(out), PYTHONHASHSEED="0")
    environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    # This checkout is counted, whichever the interpreter was set up for.
    environment["PYTHONPATH"] = os.pathsep.join([str(layout.CHECKOUT), str(layout.CHECKOUT / "tests")])
    environment.update(more)
    return subprocess.run(
        [str(layout.PYTHON), *arguments], env=environment, capture_output=True, text=True, check=check
    )


def measure(kernels: list[str] = KERNELS, largest: int = calls.EVERYTHING) -> dict[str, int]:
    """Count every call of `calls.CALLS` on the kernels, up to `largest` multiply-accumulates.

    Returns
    -------
    dict of str to int
        Instructions of one call, by the keys of `calls.keys`.

    Raises
    ------
    CannotCountError
        There is no emulator, or no compiler for its plugin, on this machine.
    """
    library = plugin()
    if largest == calls.EVERYTHING:
        make_models()
    counts: dict[str, int] = {}
    for cpu in (model.cpu for model in layout.MODELS):
        if fitting := [kernel for kernel in kernels if cpu_for(kernel) == cpu]:
            counts |= measure_on(cpu, library, fitting, largest)
    return {name: counts[name] for name in calls.keys(kernels, largest)}


def make_models() -> None:
    """Make the models that are quantised by onnxruntime here, where that runs."""
    try:
        # Needs the extra `onnx`, which nothing else here does.
        from models import whole

        for name in whole.MODELS:
            whole.make(name)
    except ImportError as error:
        raise CannotCountError(f"the quantised models are made by onnxruntime: {error}") from None


def measure_on(cpu: str, library: Path, kernels: list[str], largest: int) -> dict[str, int]:
    """Count every call on the kernels of one CPU model."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "counts")
        done = guest(library, out, [str(HERE / "calls.py"), str(largest), *kernels], check=False, cpu=cpu)
        if done.returncode:
            raise RuntimeError(f"the counted program failed with status {done.returncode}:\n{done.stderr}")
        marks = [int(line) for line in out.read_text().split()]
    # Markers come in pairs, one before and one after each call.
    spans = iter([after - before for before, after in zip(marks[::2], marks[1::2], strict=True)])
    counts: dict[str, int] = {}
    for _, names in itertools.groupby(json.loads(done.stdout), lambda name: calls.split(name)[1]):
        marker = min(itertools.islice(spans, calls.IDLE))
        for name in names:
            call, _, shape = calls.split(name)
            counts[name] = min(itertools.islice(spans, calls.passes(call, shape)[1])) - marker
    if list(spans):
        raise RuntimeError("more markers than calls: something else calls getppid()")
    return counts


def compare(counts: dict[str, int], goldens: dict[str, int]) -> list[str]:
    """Return one line for each count that differs from its golden, lacks one, or is no longer counted."""
    lines = [f"{name}: counted, but not in the goldens" for name in counts if name not in goldens]
    lines += [f"{name}: in the goldens, but not counted" for name in goldens if name not in counts]
    for name, count in counts.items():
        golden = goldens.get(name, count)
        change = count / golden - 1
        if abs(change) > tolerance(golden):
            lines.append(f"{name}: {count:,} instructions, {change:+.1%} against the golden {golden:,}")
    return lines


def table(counts: dict[str, int], goldens: dict[str, int]) -> str:
    """Return the counts as text, with the work they do and the goldens beside them."""
    wide = 2 + max(len(call) for call in calls.CALLS)
    lines = [f"{'call':{wide}}{'kernel':14}{'m x k x n':16}{'instructions':>14}{'a unit':>10}  {'unit':6}{'golden':>9}"]
    for name, count in counts.items():
        call, kernel, shape = calls.split(name)
        unit = calls.CALLS[call].unit
        # Of a whole call or run there is no smaller unit than itself.
        each = "" if unit in ("call", "run") else f"{count / calls.work(call, shape):.4f}"
        change = f"{count / goldens[name] - 1:+.2%}" if name in goldens else "new"
        lines.append(
            f"{call:{wide}}{kernel:14}{'x'.join(map(str, shape)):16}{count:14,}{each:>10}  {unit:6}{change:>9}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Count the instructions of whole calls under emulation.")
    parser.add_argument("--update", action="store_true", help="write new goldens, and the tables of them")
    parser.add_argument(
        "--table", action="store_true", help="count nothing: print the goldens as the documentation's tables"
    )
    options = parser.parse_args()
    goldens = json.loads(GOLDENS.read_text()) if GOLDENS.exists() else {}
    if options.table:
        print(tables.markdown(goldens))
        return 0
    try:
        counts = measure()
    except CannotCountError as error:
        print(f"icount: {error}", file=sys.stderr)
        return 1
    print(table(counts, goldens))
    if options.update:
        # Counts within the tolerance keep their golden, so that an update shows only what changed.
        same = {name for name in counts if name in goldens and not compare({name: counts[name]}, {name: goldens[name]})}
        kept = {name: goldens[name] if name in same else count for name, count in counts.items()}
        GOLDENS.write_text(json.dumps(kept, indent=2) + "\n")
        print(f"goldens updated: {len(kept) - len(same)} of {len(kept)} changed")
        tables.write(kept)
        return 0
    complaints = compare(counts, goldens)
    for line in complaints:
        print(f"CHANGED {line}")
    if complaints:
        print("A changed count needs a reason: `make icount UPDATE=1` takes it over, the commit says why.")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
