"""`python -m pyint8dot run MODEL.onnx`: run a model once or more, and say what each operator cost on what kernel."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.cli.bench import machine
from pyint8dot.cli.bench.command import plot_file, write_whole
from pyint8dot.cli.bench.plot import require
from pyint8dot.cli.command import carried_out
from pyint8dot.engine import trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyint8dot.engine.trace import Recorder
    from pyint8dot.onnx import InferenceSession, TensorInfo

SEED = 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="python -m pyint8dot run",
        description="Run an ONNX model, its int8 products on the kernels of this package.",
        epilog="Inputs that are not given are filled with seeded noise (floats) or ones (integers).",
    )
    found.add_argument("model", metavar="MODEL.onnx")
    found.add_argument("--input", action="append", default=[], metavar="NAME=FILE.npy", help="an input's values")
    found.add_argument(
        "--dim", action="append", default=[], metavar="NAME=SIZE", help="size of a symbolic dimension (1)"
    )
    found.add_argument(
        "--output", action="append", default=[], metavar="NAME=FILE.npy", help="where to write an output"
    )
    found.add_argument("--kernel", help="name of the kernel; by default the best one of this machine")
    found.add_argument("--threads", type=int, metavar="N", help="threads of one product")
    found.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="runs, after one that is not counted if above 1"
    )
    found.add_argument(
        "--profile",
        action="store_true",
        help="print where the time goes, by operator and node, and into products, packing, epilogues and the rest, on one thread",
    )
    found.add_argument(
        "--plot", metavar="FILE.png", type=plot_file, help="draw the profile by operator (png, svg or pdf)"
    )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after ``run``; by default those of the process.

    Returns
    -------
    int
        0, or 2 where the model, an input or a file is wrong; the reason is printed to the standard error.
    """
    return carried_out(_run, parser().parse_args(argv))


def _run(arguments: argparse.Namespace) -> None:
    profiled = arguments.profile or arguments.plot is not None
    if arguments.plot is not None:
        require()
    if profiled and (arguments.threads or 1) != 1:
        raise ValueError(f"--profile is of one thread, got --threads {arguments.threads}")
    with trace.recording() if profiled else contextlib.nullcontext() as recorder:
        _run_model(arguments, recorder)


def _run_model(arguments: argparse.Namespace, recorder: Recorder | None) -> None:
    """Run the model, and profile it where there is a recorder."""
    # Only this command needs the onnx package.
    from pyint8dot.onnx import InferenceSession  # noqa: PLC0415 - an extra

    if arguments.repeat < 1:
        raise ValueError(f"--repeat must be at least 1, got {arguments.repeat}")
    files, targets = _pairs("--input", arguments.input), _pairs("--output", arguments.output)
    dims = {name: _size(name, size) for name, size in _pairs("--dim", arguments.dim).items()}
    count = arguments.threads if recorder is None else 1
    session = InferenceSession(arguments.model, kernel=arguments.kernel, num_threads=count)
    known = {info.name for info in session.get_inputs()}
    if unknown := set(files) - known:
        raise ValueError(f"the model has no input {min(unknown)!r}; it has {', '.join(sorted(known))}")
    symbols = {size for info in session.get_inputs() for size in info.shape if isinstance(size, str)}
    if unknown := set(dims) - symbols:
        raise ValueError(f"the model has no dimension {min(unknown)!r}; it has {', '.join(sorted(symbols)) or 'none'}")
    feed = {
        info.name: _loaded(files[info.name]) if info.name in files else _filling(info, dims)
        for info in session.get_inputs()
    }
    names = [info.name for info in session.get_outputs()]
    if unknown := set(targets) - set(names):
        raise ValueError(f"the model has no output {min(unknown)!r}; it has {', '.join(names)}")
    if arguments.repeat > 1:
        session.run(None, feed)
        session.reset_report()
    for _ in range(arguments.repeat):
        results = session.run(None, feed)
    for name, value in zip(names, results, strict=True):
        print(f"output {name}: {_summary(value)}")
        if name in targets:
            np.save(Path(targets[name]), value)
    _print_report(session, recorder is not None)
    if recorder is not None:
        _profile(session, feed, recorder, arguments)


def _profile(
    session: InferenceSession, feed: dict[str, np.ndarray], recorder: Recorder, arguments: argparse.Namespace
) -> None:
    from pyint8dot.cli.run_plot import draw  # noqa: PLC0415 - it needs the onnx package
    from pyint8dot.onnx.profile import measure  # noqa: PLC0415 - an extra

    profile = measure(session, feed, arguments.repeat, recorder)
    print(f"\n{profile}")
    if arguments.plot is not None:
        title = f"{Path(arguments.model).name} on {session.kernel}"
        if machine.describe()["emulated"]:
            title = f"EMULATED. {machine.NOTHING_PROVED}\n{title}"
        form = arguments.plot.suffix[1:].lower()
        write_whole(arguments.plot, lambda part: draw(part, form, profile, title))


def _print_report(session: InferenceSession, profile: bool) -> None:
    report = session.report()
    print(report.table(nodes=True) if profile else report.table().splitlines()[0])
    if report.reference_ops():
        print("by onnx's reference implementation, slowly: " + ", ".join(report.reference_ops()))


def _pairs(option: str, items: Sequence[str]) -> dict[str, str]:
    found = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name or not value:
            raise ValueError(f"{option} must be NAME=VALUE, got {item!r}")
        found[name] = value
    return found


def _size(name: str, size: str) -> int:
    if not (size.isascii() and size.isdecimal()):
        raise ValueError(f"--dim {name} must be a number that is not negative, got {size!r}")
    return int(size)


def _loaded(file: str) -> np.ndarray:
    try:
        with Path(file).open("rb") as opened:
            array: np.ndarray = np.lib.format.read_array(opened, allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the head of such a file is read as Python's source, which fails in many ways
        raise ValueError(f"{file} must hold one array of numbers, as numpy.save writes it: {error}") from error
    return array


def _filling(info: TensorInfo, dims: dict[str, int]) -> np.ndarray:
    if info.dtype is None or not info.ranked:
        raise ValueError(f"input {info.name!r} of type {info.type} must be given with --input")
    shape = [size if isinstance(size, int) else dims.get(size or "", 1) for size in info.shape]
    if info.dtype.kind == "f":
        return np.random.default_rng(SEED).standard_normal(shape).astype(info.dtype)
    return np.ones(shape, info.dtype)


def _summary(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    text = f"{value.dtype} {list(value.shape)}"
    if value.size and value.dtype.kind in "fiu":
        text += f", {value.min():.6g} to {value.max():.6g}, mean {value.mean(dtype=np.float64):.6g}"
    return text
