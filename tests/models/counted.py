"""What the guest of `models.counts` runs: warm runs of the models of a folder between two markers, a getppid() each.

``counted.py FOLDER RUNTIME``, where the runtime is ours or onnxruntime's. Each model runs in a child of its own, that begins with
everything imported and with markers that have nothing between. It prints a JSON line with the numbers of the models in the order of
the runs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

IDLE = 5  # pairs of markers with nothing between
# The second run of a session is recorded; from the third on it is as fast as it gets.
WARM, REPEATS = 3, 1


def ours(path: Path) -> Any:
    """Open a model by this package."""
    from pyint8dot.onnx import InferenceSession

    return InferenceSession(str(path), num_threads=1)


def onnxruntime(path: Path) -> Any:
    """Open a model by onnxruntime on one thread, with all its optimisations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


RUNTIMES: dict[str, Callable[[Path], Any]] = {"ours": ours, "onnxruntime": onnxruntime}


def run(path: Path, runtime: str) -> None:
    """Run a model with the feed beside it."""
    marker = os.getppid
    for _ in range(2 * IDLE):
        marker()
    session = RUNTIMES[runtime](path)
    with np.load(path.with_suffix(".npz")) as stored:
        feed = dict(stored)
    for _ in range(WARM):
        session.run(None, feed)
    for _ in range(REPEATS):
        marker()
        session.run(None, feed)
        marker()


def main(folder: Path, runtime: str) -> None:
    """Run every model of the folder."""
    importlib.import_module({"ours": "pyint8dot.onnx"}.get(runtime, runtime))
    paths = sorted(folder.glob("*.onnx"))
    for path in paths:
        child = os.fork()
        if not child:
            run(path, runtime)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{path.name} did not run")
    print(json.dumps([int(path.stem) for path in paths]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
