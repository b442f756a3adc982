"""Instructions of one warm run of a model, ours and onnxruntime's, counted under emulation as `make icount` counts calls.

onnxruntime's AArch64 wheel is among those that set-up unpacks: Magika, one of the clients of the tests, brings it along.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from emulation import layout
from icount.measure import CannotCountError, guest, plugin

from models import counted

# Those that have what most processors of the last years have: dot products alone, and int8 matrix products too.
CPUS = {model.name: model.cpu for model in layout.MODELS if model.name in ("neoverse-n1", "i8mm")}


def million(
    model: onnx.ModelProto, feed: dict[str, np.ndarray], cpu: str, runtimes: tuple[str, ...] = tuple(counted.RUNTIMES)
) -> dict[str, float]:
    """Count one warm run.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    feed : dict of str to numpy.ndarray
        Its inputs.
    cpu : str
        The processor, one of `CPUS`.
    runtimes : tuple of str
        Which of `counted.RUNTIMES` run it.

    Returns
    -------
    dict of str to float
        Million instructions by runtime.

    Raises
    ------
    CannotCountError
        There is no emulator, or no compiler for its plugin, on this machine, or no AArch64 onnxruntime.
    """
    if "onnxruntime" in runtimes and not (layout.SITE / "onnxruntime").is_dir():
        raise CannotCountError("there is no AArch64 onnxruntime in .arm64/site")
    library = plugin()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder, "model.onnx"))
        np.savez(Path(folder, "model.npz"), **feed)
        out = Path(folder, "counts")
        for runtime in runtimes:
            done = guest(library, out, [counted.__file__, folder, runtime], check=False, cpu=CPUS[cpu])
            if done.returncode:
                raise RuntimeError(f"{runtime} failed with status {done.returncode}:\n{done.stderr}")
            marks = [int(line) for line in out.read_text().split()]
            spans = [after - before for before, after in zip(marks[::2], marks[1::2], strict=True)]
            found[runtime] = (min(spans[counted.IDLE :]) - min(spans[: counted.IDLE])) / 1e6
    return found
