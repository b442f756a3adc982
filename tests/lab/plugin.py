"""A plugin of pytest that puts a kernel on trial before anything has read the tables, and writes down what became of its tests.

``-p lab.plugin``; ``PYINT8DOT_LAB`` is the folder that `room.furnish` made, ``PYINT8DOT_LAB_KERNEL`` the kernel, and ``LAB_RECORD`` the
file that the outcomes go to. Of parametrised tests only those about the kernel and its packers are left.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lab import contract, room

from pyint8dot.engine.kernels import Kernel

PLACE = Path(os.environ[room.FOLDER])
FOUND = contract.read(PLACE / f"{os.environ[room.KERNEL]}.S")
room.settle(FOUND, PLACE)
OWN = {FOUND.row.name, *(maker.path.stem for maker in FOUND.makers)}

outcomes: dict[str, dict[str, Any]] = {}


def named(value: object) -> str:
    """The kernel or entry that a parameter is about."""
    if isinstance(value, Path):
        return value.stem
    return value.name if isinstance(value, Kernel) else str(value)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are about other entries."""
    kept = [item for item in items if _about(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _about(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is None or bool(OWN & set(map(named, callspec.params.values())))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what became of a test: the worst of its three phases."""
    known = outcomes.get(report.nodeid, {"outcome": "passed", "text": "", "seconds": 0.0})
    text = "" if report.passed else report.longreprtext
    if not report.passed:
        known |= {"outcome": report.outcome, "text": text}
    known["seconds"] += report.duration
    outcomes[report.nodeid] = known


def pytest_sessionfinish() -> None:
    """Write the record."""
    Path(os.environ["LAB_RECORD"]).write_text(json.dumps(outcomes))
