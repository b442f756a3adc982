"""Cycles of instructions on a core, by whichever model stands for it: llvm-mca or the rules for in-order cores."""

from __future__ import annotations

import functools

from cycles import inorder, mca
from cycles.cores import Core
from cycles.mca import Time

#: Turns after which a loop is in its steady state, and the turns that are measured: those divide by the numbers of ports that are alike.
WARM, MEASURED = 20, 48


@functools.lru_cache(maxsize=8)
def _times(regions: tuple[tuple[str, ...], ...], model: str, dispatch: int | None, iterations: int) -> list[Time]:
    """Run a model; cores that share one share what it says."""
    return (inorder if dispatch is None else mca).times(regions, model, dispatch, iterations)


def times(regions: list[list[str]], core: Core, iterations: int = 1) -> list[Time]:
    """Return what the core's model says of each list of instructions, run so many times in a row."""
    each = [tuple(region) for region in regions]
    distinct = tuple(dict.fromkeys(each))
    found = dict(zip(distinct, _times(distinct, core.model, core.dispatch, iterations), strict=True))
    return [found[region] for region in each]


def straight(regions: list[list[str]], core: Core) -> list[float]:
    """Return the cycles of each list of instructions, run once."""
    return [time.cycles for time in times(regions, core)]


def repeated(regions: list[list[str]], core: Core) -> list[Time]:
    """Return the cycles of a turn of each list of instructions, run again and again, and how busy it keeps the ports.

    A turn takes no less than the front end needs to deliver it.
    """
    before, after = (times(regions, core, turns) for turns in (WARM, WARM + MEASURED))
    return [
        Time(max((end.cycles - start.cycles) / MEASURED, len(region) / core.front), end.ports)
        for start, end, region in zip(before, after, regions, strict=True)
    ]
