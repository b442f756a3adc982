"""Instructions of one warm run of models, ours and onnxruntime's, counted under emulation as `make icount` counts calls.

onnxruntime's AArch64 wheel is among those that set-up unpacks: Magika, one of the clients of the tests, brings it along.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from emulation import layout
from icount.measure import CannotCountError, guest, plugin

from models import counted

# Those that have what most processors of the last years have, dot products alone, and int8 matrix products too, or neither.
CPUS = {model.name: model.cpu for model in layout.MODELS if model.name in ("neoverse-n1", "i8mm", "cortex-a72")}

#: A model and its inputs.
Fed = tuple[onnx.ModelProto, dict[str, np.ndarray]]


def million(
    models: Mapping[str, Fed], cpu: str, runtimes: tuple[str, ...] = tuple(counted.RUNTIMES)
) -> dict[str, dict[str, float]]:
    """Count one warm run of each model.

    Parameters
    ----------
    models : mapping of str to (onnx.ModelProto, dict)
        Models and their inputs, by name.
    cpu : str
        The processor, one of `CPUS`.
    runtimes : tuple of str
        Which of `counted.RUNTIMES` run them.

    Returns
    -------
    dict of str to dict of str to float
        Million instructions by name and runtime.

    Raises
    ------
    CannotCountError
        There is no emulator, or no compiler for its plugin, on this machine, or no AArch64 onnxruntime.
    """
    if "onnxruntime" in runtimes and not (layout.SITE / "onnxruntime").is_dir():
        raise CannotCountError("there is no AArch64 onnxruntime in .arm64/site")
    library = plugin()
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    with tempfile.TemporaryDirectory() as folder:
        # Files are numbered, since names of forms are not names of files.
        for number, (model, feed) in enumerate(models.values()):
            onnx.save(model, Path(folder, f"{number}.onnx"))
            np.savez(Path(folder, f"{number}.npz"), allow_pickle=False, **feed)
        out = Path(folder, "counts")
        for runtime in runtimes:
            done = guest(library, out, [counted.__file__, folder, runtime], check=False, cpu=CPUS[cpu])
            if done.returncode:
                raise RuntimeError(f"{runtime} failed with status {done.returncode}:\n{done.stderr}")
            marks = [int(line) for line in out.read_text().split()]
            spans = iter([after - before for before, after in zip(marks[::2], marks[1::2], strict=True)])
            names = list(models)
            for number in json.loads(done.stdout.splitlines()[-1]):
                marker = min(itertools.islice(spans, counted.IDLE))
                found[names[number]][runtime] = (min(itertools.islice(spans, counted.REPEATS)) - marker) / 1e6
    return found
