"""The part of the demonstration that runs two whole ONNX models on every kernel of this machine and compares the results."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.cli import tables
from pyint8dot.engine import settings
from pyint8dot.engine.dispatch import supported
from pyint8dot.engine.kernels import KERNELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyint8dot.onnx import InferenceSession

__all__ = ["ModelRun", "compare", "run"]

#: Name of the model in the cache, and what it is.
MODELS = {
    "minilm-int8": "all-MiniLM-L6-v2, dynamically quantised, one sequence of 128 tokens",
    "inceptionv1-s8s8": "InceptionV1 with seeded weights, QOperator s8s8, one image",
}
SEED = 7


@dataclass(frozen=True)
class ModelRun:
    """One model on one kernel: what came out, how long it took, and the integer work it was."""

    kernel: str
    outputs: list[np.ndarray[Any, np.dtype[Any]]]
    seconds: float
    macs: int


def feed(session: InferenceSession) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Make an input of the demonstration's size for one of the two models, the same every time."""
    rng = np.random.default_rng(SEED)
    made: dict[str, np.ndarray[Any, np.dtype[Any]]] = {}
    for info in session.get_inputs():
        # The first symbolic dimension is the batch, the second the sequence.
        shape = [n if isinstance(n, int) else 128 if i else 1 for i, n in enumerate(info.shape)]
        if "float" in info.type:
            made[info.name] = rng.standard_normal(shape).astype(np.float32)
        elif "mask" in info.name:
            made[info.name] = np.ones(shape, np.int64)
        else:
            made[info.name] = (
                rng.integers(1000, 30000, shape) if "input_ids" in info.name else np.zeros(shape, np.int64)
            )
    return made


def run(path: str, kernel: str, values: Mapping[str, Any] | None = None) -> ModelRun:
    """Run a model on a kernel and time it; a native kernel gets a run before that, so that all is packed and warm."""
    from pyint8dot.onnx import InferenceSession  # noqa: PLC0415 - an extra

    session = InferenceSession(path, kernel=kernel)
    given = feed(session) if values is None else values
    if KERNELS[kernel].native:
        session.run(None, given)
    with settings.tally() as counted:
        start = time.perf_counter()
        outputs = session.run(None, given)
        seconds = time.perf_counter() - start
    return ModelRun(kernel, outputs, seconds, sum(counted.macs.values()))


def compare() -> bool:
    """Run both models on every kernel that runs here and print the comparison.

    Returns
    -------
    bool
        Whether all kernels gave the same bits, from which follows that every integer product was the same.
    """
    from pyint8dot.onnx.zoo import model_path  # noqa: PLC0415 - an extra

    same = True
    for name, summary in MODELS.items():
        path = str(model_path(name))
        runs = [run(path, kernel) for kernel in supported()]
        first = runs[0]
        tables.heading(f"{summary}: {first.macs:,} integer multiply-accumulates a run")
        rows = []
        for each in runs:
            equal = all(np.array_equal(a, b) for a, b in zip(first.outputs, each.outputs, strict=True))
            same &= equal
            rows.append(
                (each.kernel, each.seconds, each.seconds / first.seconds, "identical" if equal else "DIFFERENT")
            )
        tables.table(("kernel", "seconds", f"times {first.kernel}", f"outputs, against {first.kernel}"), rows)
    if sum(KERNELS[name].native for name in supported()) < 2:
        print("\nFewer than two native kernels run on this machine, so there is no A/B of them here.")
    elif "QEMU_CPU" in os.environ:
        print(
            "\nThis processor is emulated: the seconds say nothing about a real one (`make icount` counts instructions)."
        )
    return same
