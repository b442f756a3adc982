"""How the bench measures: check the result, warm up, repeat within a budget of time, check again."""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from pyint8dot.cli.bench.contenders import Contender, Made, Problem, Shape

__all__ = ["Result", "blas_limit", "difference", "measure", "results", "timed"]

FEWEST = 3
"""Measured calls, however small the budget."""
WARM_UP = 0.2
"""Part of the budget that goes by unmeasured first: caches, thread pools and the interpreter settle."""


@dataclass(frozen=True)
class Result:
    """One contender at one call, shape and number of threads.

    Attributes
    ----------
    call : str
    shape : tuple of int
        m, k, n.
    contender : str
    ours : bool
        Whether it is a kernel of this package.
    threads : int or None
        None where numpy's BLAS has as many as it was started with.
    status : {"exact", "wrong", "failed", "left out"}
        Only an exact result is measured.
    why : str
        What is wrong; empty for an exact one.
    seconds : tuple of float
        Time of every measured call, in their order.
    """

    call: str
    shape: Shape
    contender: str
    ours: bool
    threads: int | None
    status: str
    why: str = ""
    seconds: tuple[float, ...] = ()

    @property
    def best(self) -> float:
        """Shortest time in seconds."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Median time in seconds."""
        return statistics.median(self.seconds)

    def gops(self, seconds: float) -> float:
        """Thousand million operations a second: 2 * m * k * n in `seconds`."""
        m, k, n = self.shape
        return 2 * m * k * n / seconds / 1e9


def timed(function: Made, budget: float) -> tuple[float, ...]:
    """Call a function again and again until `budget` seconds are over.

    Parameters
    ----------
    function : callable
        Without arguments.
    budget : float
        Seconds; a fifth as much again goes to the warm-up.

    Returns
    -------
    tuple of float
        Seconds of each call, at least `FEWEST`.
    """
    clock = time.perf_counter
    end = clock() + WARM_UP * budget
    while True:
        function()
        if clock() >= end:
            break
    seconds: list[float] = []
    end = clock() + budget
    now = 0.0
    while len(seconds) < FEWEST or now < end:
        start = clock()
        function()
        now = clock()
        seconds.append(now - start)
    return tuple(seconds)


def difference(got: object, expected: npt.NDArray[Any]) -> str:
    """Say how a result differs from the expected one; nothing where every value is equal."""
    array = np.asarray(got)
    if array.shape != expected.shape:
        return f"shape {array.shape} instead of {expected.shape}"
    count = int(np.count_nonzero(array != expected))
    return f"{count:,} of {expected.size:,} values differ" if count else ""


def measure(contender: Contender, problem: Problem, threads: int | None, budget: float) -> Result:
    """Measure one contender, if its result is exact.

    Parameters
    ----------
    contender : Contender
    problem : Problem
    threads : int or None
        Threads it is told to use; None leaves numpy's BLAS as it is.
    budget : float
        Seconds.

    Returns
    -------
    Result
    """
    m, k, n = problem.shape

    def result(status: str, why: str = "", seconds: tuple[float, ...] = ()) -> Result:
        return Result(problem.call, problem.shape, contender.name, contender.ours, threads, status, why, seconds)

    if contender.most_macs is not None and m * k * n > contender.most_macs:
        return result("left out", f"too slow for more than {contender.most_macs:,} multiplications")
    limit: AbstractContextManager[object] = contextlib.nullcontext()
    if contender.threads == "blas" and threads is not None:
        limit = blas_limit(threads)
    expected = problem.expected
    with limit:
        try:
            function = contender.make(problem, threads or 1)
            wrong = difference(function(), expected)
            seconds = () if wrong else timed(function, budget)
            wrong = wrong or difference(function(), expected)
        except Exception as error:
            # Another library's trouble is a line of the table; our own is a bug that must be seen.
            if contender.ours:
                raise
            return result("failed", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    return result("wrong", wrong) if wrong else result("exact", seconds=seconds)


def results(
    contenders: Sequence[Contender], problem: Problem, threads: Sequence[int], budget: float
) -> Iterator[Result]:
    """Measure every contender that has the call of `problem`, at each number of threads it can be told."""
    controlled = blas_controlled()
    for contender in contenders:
        if problem.call not in contender.makers:
            continue
        counts: Sequence[int | None] = threads
        if contender.threads == "one":
            counts = (1,)
        elif contender.threads == "blas" and not controlled:
            counts = (None,)
        for count in counts:
            yield measure(contender, problem, count, budget)


def blas_controlled() -> bool:
    """Whether the threads of numpy's BLAS can be set here: threadpoolctl is installed and knows the BLAS."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return False
    return any(pool["user_api"] == "blas" for pool in import_module("threadpoolctl").threadpool_info())


@contextlib.contextmanager
def blas_limit(threads: int) -> Iterator[None]:
    """Give numpy's BLAS `threads` threads inside a ``with`` block."""
    with import_module("threadpoolctl").threadpool_limits(threads, user_api="blas"):
        yield
