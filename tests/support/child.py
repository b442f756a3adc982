"""Runs native code in a forked child, so that a fault is a result to look at and not the end of the test run."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import NamedTuple, NoReturn


class Outcome(NamedTuple):
    """How a child ended: the name of the signal that killed it or None, the text of its exception or "", its last note."""

    signal: str | None
    error: str
    note: str

    @property
    def ok(self) -> bool:
        return self.signal is None and not self.error


def run(body: Callable[[Callable[[str], None]], None]) -> Outcome:
    """Call ``body(note)`` in a child; ``note(text)`` says what is about to be tried, in case it is the last thing heard."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn about a fork beside threads; the child calls nothing that a thread could hold a lock for.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(body, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        heard = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    *notes, error = heard.split("\0") if "\0" in heard else ("", "")
    killed = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else None
    if killed is None and os.WEXITSTATUS(status) != 0 and not error:
        error = f"the child ended with status {os.WEXITSTATUS(status)}"
    return Outcome(killed, error, notes[-1])


def _child(body: Callable[[Callable[[str], None]], None], writing: int) -> NoReturn:
    """Run the body, send notes and the error text through the pipe, and leave without running anybody's clean-up."""
    status = 0
    try:
        # The signal is expected by the parent: no report and no core file from here.
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        body(lambda text: _send(writing, text + "\0"))
    except BaseException:  # noqa: BLE001 - whatever it is, the parent is told
        status = 1
        _send(writing, traceback.format_exc())
    finally:
        os._exit(status)


def _send(pipe: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(pipe, data) :]


def check(body: Callable[[Callable[[str], None]], None]) -> None:
    """Run ``body`` in a child and fail, with its last note, if it raised or was killed."""
    outcome = run(body)
    assert outcome.signal is None, f"killed by {outcome.signal} at {outcome.note or 'the start'}"
    assert not outcome.error, f"at {outcome.note or 'the start'}:\n{outcome.error}"
