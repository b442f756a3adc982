"""What is kept of modelled cycles: of which loops and calls, and how numbers are compared with what was kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cycles.cores import Core
from support import depthwise, rows

GOLDENS = Path(__file__).resolve().parent / "goldens.json"
#: By how much a number may differ from its golden.
TOLERANCE = 0.02
#: The entries that make products of integers: kernels, those that take their place where columns are few or lie in planes, convolutions.
ENTRIES = [*(row.name for row in (*rows.NATIVE, *rows.FEW)), *rows.PLANES, *depthwise.STEMS]
#: The forms of whole calls and their shapes.
FORMS = (
    ("matmul", "1x384x384"),
    ("matmul", "128x384x1536"),
    ("qlinear_matmul", "128x384x1536"),
    ("matmul", "512x512x512"),
)

#: Numbers by names, or more such tables.
Numbers = dict[str, Any]


def chosen(core: Core) -> str:
    """Return the kernel that a processor of such cores alone gets."""
    name = core.name.lower().replace(" ", "-")
    fits = (row for row in rows.NATIVE if row.features <= core.features and (not row.cores or name in row.cores))
    return next(fits).name


def read() -> Numbers:
    """Return what is kept."""
    return json.loads(GOLDENS.read_text(encoding="utf-8"))


def flat(numbers: Numbers, start: str = "") -> dict[str, float]:
    """Return every number of a table of tables, by the names that lead to it."""
    found: dict[str, float] = {}
    for name, value in numbers.items():
        found |= flat(value, f"{start}{name}, ") if isinstance(value, dict) else {f"{start}{name}": value}
    return found


def compare(numbers: Numbers, kept: Numbers) -> list[str]:
    """Return a line for each number that differs from its golden, lacks one, or is no longer modelled."""
    new, old = flat(numbers), flat(kept)
    lines = [f"{name}: modelled, but not in the goldens" for name in new if name not in old]
    lines += [f"{name}: in the goldens, but not modelled" for name in old if name not in new]
    for name in new.keys() & old.keys():
        if not holds(new[name], old[name]):
            lines.append(f"{name}: {new[name]:,}, {new[name] / old[name] - 1:+.1%} against the golden {old[name]:,}")
    return sorted(lines)


def holds(number: float, kept: float) -> bool:
    """Whether a number is its golden."""
    return abs(number / kept - 1) <= TOLERANCE


def renewed(numbers: Numbers, kept: Numbers) -> Numbers:
    """Return new goldens: what holds stays as it is, so that they show only what changed."""
    found = {}
    for name, value in numbers.items():
        if isinstance(value, dict):
            found[name] = renewed(value, kept.get(name, {}))
        else:
            found[name] = kept[name] if name in kept and holds(value, kept[name]) else value
    return found
