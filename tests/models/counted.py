"""What the guest of `models.counts` runs: warm runs of the models of a folder between two markers, a getppid() each.

``counted.py FOLDER RUNTIME``, where the runtime is ours or onnxruntime's. The first markers have nothing between. It prints a JSON
line with the names of the models in the order of the runs.
"""

from __future__ import annotations

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


def main(folder: Path, runtime: str) -> None:
    """Run every model of the folder, each with the feed beside it."""
    marker = os.getppid
    for _ in range(2 * IDLE):
        marker()
    names = []
    for path in sorted(folder.glob("*.onnx")):
        session = RUNTIMES[runtime](path)
        with np.load(path.with_suffix(".npz")) as stored:
            feed = dict(stored)
        for _ in range(WARM):
            session.run(None, feed)
        for _ in range(REPEATS):
            marker()
            session.run(None, feed)
            marker()
        names.append(path.stem)
    print(json.dumps(names))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
