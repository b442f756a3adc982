"""One case: a model that is loaded and run, and what it must not do."""

from __future__ import annotations

import random
import signal
import traceback
import warnings

import numpy as np

from fuzz.mutate import mutated
from pyint8dot import Int8DotError
from pyint8dot.onnx import InferenceSession, RunOptions

MAX_BYTES = 16 << 20
# A run is told to end after so many seconds, as a caller would who does not trust his models: a loop may be endless.
PATIENCE = 2.0


def model_of(seeds: list[bytes], seed: int, index: int) -> bytes:
    """Return the model of a case, the same for the same seed and index."""
    rng = random.Random(f"{seed} {index}")
    return mutated(rng.choice(seeds), rng)


def run(whole: bytes, options: RunOptions | None = None) -> str:
    """Load and run a model, and return `"ran"`, `"refused"`, or what is wrong.

    Parameters
    ----------
    whole : bytes
        The model.
    options : RunOptions, optional
        What ends the run.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            session = InferenceSession(whole, kernel="portable", max_bytes=MAX_BYTES)
            session.run(None, {info.name: _value(info) for info in session.get_inputs()}, options)
    except Int8DotError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return f"memory: {error}"
            cause = cause.__cause__
        return "refused"
    except MemoryError:
        return "memory: " + traceback.format_exc()
    except Exception:  # noqa: BLE001 - this is what it is about
        return "foreign: " + traceback.format_exc()
    return "ran"


def ending() -> RunOptions:
    """Return options that end the run which is under way in this thread when it has taken too long."""
    options = RunOptions()
    signal.signal(signal.SIGALRM, lambda *_: setattr(options, "terminate", True))
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    return options


def _value(info):
    shape = [min(d, 64) if isinstance(d, int) else 2 for d in info.shape]
    if info.dtype is None:
        return [np.ones(shape[:4], np.float32)] if info.type.startswith("seq") else np.ones(shape[:4], np.float32)
    if len(shape) > 8 or np.prod([float(d) for d in shape]) > 1e6:
        shape = [1] * len(shape[:8])
    if info.dtype.kind == "O":
        return np.full(shape, "text", object)
    return np.ones(shape, info.dtype)
