"""Mutated models: each runs, or is refused with an error of this package, in time and within its memory."""

from __future__ import annotations

import signal
import time

import pytest
from fuzz import case
from fuzz.seeds import seeds

pytestmark = pytest.mark.static
CASES = 2000


def test_the_models_that_are_mutated_run():
    assert [case.run(whole) for whole in seeds()] == ["ran"] * len(seeds())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers of the system")
def test_mutated_models_run_or_are_refused(request):
    """`make fuzz N=100000` goes through more of them, those of onnx's node tests too, and survives what ends a process."""
    models, seed = seeds(), request.config.option.seed
    before = signal.getsignal(signal.SIGALRM)
    told = {"ran": 0, "refused": 0}
    try:
        for index in range(CASES):
            began = time.process_time()
            words = case.run(case.model_of(models, seed, index), case.ending())
            assert words in told, f"seed {seed}, case {index}: {words}"
            assert time.process_time() - began < 10, f"seed {seed}, case {index} took too long"
            told[words] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # Mutations that break everything, or nothing, would show nothing.
    assert min(told.values()) > CASES // 20


def test_a_case_tells_what_is_wrong(monkeypatch):
    for error, words in ((KeyError("x"), "foreign"), (MemoryError(), "memory"), (OSError("disk"), "foreign")):
        monkeypatch.setattr(case, "InferenceSession", lambda *_, told=error, **__: (_ for _ in ()).throw(told))
        assert case.run(b"").startswith(words)
