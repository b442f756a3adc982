"""Where the time of a run goes: products, packing, epilogues, other native code, numpy, onnx's reference and Python."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyint8dot.engine.trace import Recorder
    from pyint8dot.onnx.program import Step
    from pyint8dot.onnx.session import InferenceSession

NUMPY, REFERENCE, PYTHON = "numpy", "onnx reference", "Python"

TERMS = (*trace.NATIVE, NUMPY, REFERENCE, PYTHON)
"""What time is spent on, in the order of a table."""


@dataclass(frozen=True)
class Profile:
    """Where the time of a run goes.

    Attributes
    ----------
    runs : int
        How many runs the times are the mean of.
    by_op : dict
        Seconds of each term, for each operator of the lowered graph, the dearest first.
    between : float
        Seconds between the nodes.
    """

    runs: int
    by_op: dict[str, dict[str, float]]
    between: float

    def terms(self) -> dict[str, float]:
        """Return the seconds of each term."""
        total = dict.fromkeys(TERMS, 0.0) | {PYTHON: self.between}
        for parts in self.by_op.values():
            for term, seconds in parts.items():
                total[term] += seconds
        return total

    def __str__(self) -> str:
        terms = self.terms()
        whole = sum(terms.values()) or 1.0
        lines = [f"{'a run spends its time on':26}{'ms':>10}{'%':>7}"]
        lines += [f"{term:26}{1e3 * seconds:10.3f}{100 * seconds / whole:7.1f}" for term, seconds in terms.items()]
        return "\n".join(lines)


def measure(session: InferenceSession, feed: Mapping[str, np.ndarray], runs: int, recorder: Recorder) -> Profile:
    """Run a session and time what its nodes do.

    Parameters
    ----------
    session : InferenceSession
        Made while `recorder` was recording, for one thread.
    feed : mapping
        Its inputs.
    runs : int
        At least 1, after one that is not counted.
    recorder : Recorder
        Times native code.

    Returns
    -------
    Profile
        Time in a node that is neither native nor the reference's is numpy's where nothing in it is native, else Python's.
    """
    found: dict[str, dict[str, float]] = {}
    plain = [step.function for step in session.steps]
    try:
        session.run(None, feed)
        for step in session.steps:
            step.function = _timed(step, recorder, found.setdefault(step.node.op, dict.fromkeys(TERMS, 0.0)))
        before, spent = time.perf_counter(), recorder.spent
        for _ in range(runs):
            session.run(None, feed)
        whole = time.perf_counter() - before - (recorder.spent - spent)
    finally:
        for step, function in zip(session.steps, plain, strict=True):
            step.function = function
    # What is in no node; native time is no part of `whole`.
    inside = sum(seconds for parts in found.values() for term, seconds in parts.items() if term not in trace.NATIVE)
    means = {op: {term: seconds / runs for term, seconds in parts.items()} for op, parts in found.items()}
    ordered = dict(sorted(means.items(), key=lambda item: -sum(item[1].values())))
    return Profile(runs, ordered, max(0.0, whole - inside) / runs)


def _timed(step: Step, recorder: Recorder, parts: dict[str, float]) -> Callable[..., Any]:
    """Return the function of a step that adds its time to `parts`."""
    function, by = step.function, step.by

    def run(*arguments: Any) -> Any:
        native, spent, began = dict(recorder.seconds), recorder.spent, time.perf_counter()
        result = function(*arguments)
        inside = recorder.spent - spent
        rest = time.perf_counter() - began - inside
        for term, seconds in recorder.seconds.items():
            parts[term] += seconds - native[term]
        parts[REFERENCE if by == REFERENCE else PYTHON if inside else NUMPY] += rest
        return result

    return run
