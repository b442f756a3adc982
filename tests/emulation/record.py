"""A pytest plugin: write down which tests a run collected and what became of each.

``python -m pytest -p tests.emulation.record`` with PYINT8DOT_RECORD naming the file to write. The
driver of ``make test`` compares the records of all runs: a test that none of them ran is an error.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

outcomes: dict[str, str] = {}
optional: set[str] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note every test before others leave some out; measurements are not proof and may be left out."""
    for item in items:
        if "benchmark" not in getattr(item, "fixturenames", ()):
            outcomes[item.nodeid] = "left out"
        if item.get_closest_marker("optional"):
            optional.add(item.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what became of a test: failing beats skipping beats passing over its three phases."""
    if report.nodeid not in outcomes:
        return
    if report.skipped and report.nodeid in optional:
        outcomes[report.nodeid] = f"unavailable: {report.longrepr[2]}"
    elif report.outcome != "passed" or (report.when == "call" and outcomes[report.nodeid] == "left out"):
        outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish() -> None:
    """Write the record."""
    Path(os.environ["PYINT8DOT_RECORD"]).write_text(json.dumps(outcomes))
