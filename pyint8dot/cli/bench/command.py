"""The command line of the bench: its arguments, its table, and the files it writes."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pyint8dot.cli import tables
from pyint8dot.cli.bench import contenders, machine, plot
from pyint8dot.cli.bench.contenders import CALLS, PEERS, Problem, Shape
from pyint8dot.cli.bench.measure import WARM_UP, Result, results
from pyint8dot.engine import dispatch, threads
from pyint8dot.errors import Int8DotError

__all__ = ["main"]

SHAPES: tuple[Shape, ...] = (
    (1, 384, 384),
    (128, 384, 384),
    (128, 384, 1536),
    (128, 1536, 384),
    (512, 512, 512),
    (1024, 1024, 1024),
)
SECONDS = 0.5
LONGEST = 3600.0
# Operands and results beyond this many values are a slip of the finger rather than a bench.
LARGEST = 1 << 28
BASELINE = "numpy_float32"

METHOD = (
    "GOP/s: thousand million operations a second, 2 * m * k * n of them in a product of (m, k) and (k, n), in the best and in "
    "the median call. Whole calls from Python, the right operand packed before. Every result was compared with the "
    "portable kernel's, value by value, before and after it was measured."
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with exit code 2."""
        self.exit(2, f"pyint8dot bench: {message}\n")


def parser() -> Parser:
    """Return the parser of the command line."""
    found = Parser(
        prog="python -m pyint8dot bench",
        description="Measure whole calls on this machine, in thousand million operations a second (2*m*k*n each).",
        epilog="numpy's BLAS follows --threads where threadpoolctl is installed; else it has the threads it was started with "
        "(OPENBLAS_NUM_THREADS, OMP_NUM_THREADS). Exit code 1 says that a kernel's result was wrong, 2 that an argument was.",
    )
    found.add_argument(
        "--shapes",
        nargs="+",
        type=_shape,
        default=list(SHAPES),
        metavar="MxKxN",
        help="by default " + ", ".join(map(_name, SHAPES)),
    )
    found.add_argument(
        "--kernels",
        nargs="+",
        type=_kernel,
        metavar="NAME",
        help="kernels of this package; by default all that run here",
    )
    found.add_argument(
        "--peers", nargs="*", choices=list(PEERS), metavar="NAME", help=f"others, by default all: {', '.join(PEERS)}"
    )
    found.add_argument(
        "--calls",
        nargs="+",
        choices=CALLS,
        default=["matmul"],
        metavar="NAME",
        help=f"functions, by default the first: {', '.join(CALLS)}",
    )
    found.add_argument(
        "--threads",
        nargs="+",
        type=_threads,
        metavar="N",
        help="threads of one product; by default as many as the package uses without being told",
    )
    found.add_argument(
        "--seconds", type=_seconds, default=SECONDS, metavar="S", help="time for each line (default %(default)s)"
    )
    found.add_argument("--json", metavar="FILE", type=_json_file, help="write JSON; - prints it instead of the tables")
    found.add_argument("--plot", metavar="FILE.png", type=plot_file, help="draw a picture (png, svg or pdf)")
    return found


#: Version of the JSON: raised when a field goes or means something else, not when one is added.
SCHEMA = 1


def main(arguments: list[str]) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : list of str
        See ``--help``.

    Returns
    -------
    int
        Exit code: 1 if a kernel's result is wrong, 2 if a file cannot be written, an extra is missing, or the
        environment asks for a kernel that does not run here. Wrong arguments leave with 2 by SystemExit.
    """
    options = parser().parse_args(arguments)
    try:
        if options.plot is not None:
            plot.require()
        return _run(options)
    except BrokenPipeError:
        # Nobody reads on, which is nothing to be told.
        raise
    except (Int8DotError, ModuleNotFoundError, OSError) as error:
        print(f"pyint8dot bench: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    quiet = options.json == "-"
    counts = list(dict.fromkeys(options.threads or [threads.get_num_threads()]))
    wanted = [PEERS[name] for name in dict.fromkeys(PEERS if options.peers is None else options.peers)]
    absent = {peer.name: why for peer in wanted if (why := contenders.absence(peer)) is not None}
    running = [contenders.own(name) for name in dict.fromkeys(options.kernels or dispatch.supported())]
    running += [peer for peer in wanted if peer.name not in absent]
    described = machine.describe()
    if not quiet:
        for line in machine.lines(described):
            print(line)
        for name, why in absent.items():
            print(f"{name}: {why}")
        print(METHOD)

    found: list[Result] = []
    for call in dict.fromkeys(options.calls):
        for shape in dict.fromkeys(options.shapes):
            rows = list(results(running, Problem(call, shape), counts, options.seconds))
            found += rows
            if not quiet:
                _show(call, shape, rows)
    if not quiet and described["emulated"]:
        print(f"\nEMULATED: {machine.NOTHING_PROVED}")

    report = _report(options, counts, described, absent, found)
    if quiet:
        print(report, end="")
    elif options.json is not None:
        write_whole(options.json, lambda part: part.write_text(report))
    if options.plot is not None:
        form = options.plot.suffix[1:].lower()
        write_whole(options.plot, lambda part: plot.draw(part, form, found, described))
    return 1 if any(one.ours and one.status == "wrong" for one in found) else 0


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and rename it in, so that it is never there by half.

    Parameters
    ----------
    path : Path
        The file; an older one is replaced.
    write : callable
        Called with the path to write to.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _show(call: str, shape: Shape, rows: Sequence[Result]) -> None:
    """Print the table of one call and shape, and what could not be measured."""
    tables.heading(f"{call} {_name(shape)}")
    measured = [one for one in rows if one.status == "exact"]
    base = {one.threads: one.best for one in measured if one.contender == BASELINE}
    columns = ["contender", "threads", "GOP/s best", "GOP/s median", "best ms", "calls"]
    cells: list[list[object]] = [
        [
            one.contender,
            "BLAS" if one.threads is None else one.threads,
            one.gops(one.best),
            one.gops(one.median),
            one.best * 1e3,
            len(one.seconds),
        ]
        for one in measured
    ]
    if base:
        columns.append(f"times {BASELINE}")
        for one, row in zip(measured, cells, strict=True):
            # Beside as many threads as it has; where numpy's are not known, beside the one row there is.
            row.append(base.get(one.threads, next(iter(base.values()))) / one.best)
    tables.table(columns, cells)
    for line in (*_speed_ups(measured), *(f"{_who(one)}: {one.status}, {one.why}" for one in rows if one.why)):
        print(line)


def _speed_ups(measured: Sequence[Result]) -> Iterable[str]:
    """Say what more threads brought to each contender."""
    first: dict[str, Result] = {}
    for one in measured:
        alone = first.setdefault(one.contender, one)
        if alone is not one:
            yield f"{_who(one)}: {alone.best / one.best:.3g} times as fast as {alone.threads}"


def _who(one: Result) -> str:
    return f"{one.contender}, {one.threads} threads" if one.threads not in (None, 1) else one.contender


def _report(
    options: argparse.Namespace,
    counts: Sequence[int],
    described: Mapping[str, Any],
    absent: Mapping[str, str],
    found: Sequence[Result],
) -> str:
    """Everything as JSON."""
    whole = {
        "schema": SCHEMA,
        "machine": described,
        "method": {"seconds": options.seconds, "warm_up": WARM_UP * options.seconds, "threads": counts, "text": METHOD},
        "absent": absent,
        "results": [_row(one) for one in found],
    }
    return json.dumps(whole, indent=2) + "\n"


def _row(one: Result) -> dict[str, Any]:
    row: dict[str, Any] = {
        "call": one.call,
        "shape": list(one.shape),
        "contender": one.contender,
        "ours": one.ours,
        "threads": one.threads,
        "status": one.status,
        "why": one.why,
    }
    if one.seconds:
        row |= {
            "calls": len(one.seconds),
            "best_seconds": one.best,
            "median_seconds": one.median,
            "gops_best": one.gops(one.best),
            "gops_median": one.gops(one.median),
        }
    return row


def _name(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _shape(text: str) -> Shape:
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})x(\d{1,9})", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"a shape is MxKxN, such as 128x384x1536, got {text!r}")
    m, k, n = map(int, match.groups())
    if min(m, k, n) < 1 or max(m * k, k * n, m * n) > LARGEST:
        raise argparse.ArgumentTypeError(
            f"each size must be at least 1 and each matrix at most {LARGEST:,} values, got {text}"
        )
    return m, k, n


def _kernel(text: str) -> str:
    try:
        return dispatch.select(text).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _threads(text: str) -> int:
    try:
        return threads.checked(int(text), "the number of threads")
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            str(error) if text.lstrip("-").isdecimal() else f"the number of threads must be an int, got {text!r}"
        ) from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= LONGEST:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {LONGEST:g} seconds, got {text!r}")
    return value


def _json_file(text: str) -> Path | str:
    return text if text == "-" else _writable(text)


def plot_file(text: str) -> Path:
    """Return the name of a picture, or refuse what could not be drawn there before anything is measured."""
    path = _writable(text)
    if path.suffix.lower() not in plot.SUFFIXES:
        raise argparse.ArgumentTypeError(f"the name must end in {', '.join(plot.SUFFIXES)}, got {text!r}")
    return path


def _writable(text: str) -> Path:
    """Refuse what could not be written before anything is measured."""
    path = Path(text)
    if not path.name or path.is_dir():
        raise argparse.ArgumentTypeError(f"must be the name of a file, got {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    if not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write in the folder {str(path.parent)!r}")
    return path
