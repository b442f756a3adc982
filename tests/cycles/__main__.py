"""``make cycles``: model the main loops and whole calls, and compare with the goldens; ``--update`` writes them and the tables."""

from __future__ import annotations

import argparse
import json
import sys

from cycles import goldens, measure, tables
from cycles.mca import MissingError
from icount.measure import CannotCountError


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Model the cycles of main loops and whole calls.")
    parser.add_argument("--update", action="store_true", help="write new goldens, and the tables of them")
    options = parser.parse_args()
    kept = goldens.read() if goldens.GOLDENS.exists() else {}
    try:
        loops = measure.loops()
        print(tables.loops({"loops": loops}), flush=True)
        found = {"loops": loops, "calls": measure.whole()}
    except (CannotCountError, MissingError) as error:
        print(f"cycles: {error}", file=sys.stderr)
        return 1
    print(tables.whole(found))
    complaints = goldens.compare(found, kept)
    for line in complaints:
        print(f"CHANGED {line}")
    if options.update:
        new = goldens.renewed(found, kept)
        goldens.GOLDENS.write_text(json.dumps(new, indent=1) + "\n", encoding="utf-8")
        tables.write(new)
        print(f"goldens updated: {len(complaints)} changed")
        return 0
    if complaints:
        print("A changed number needs a reason: `make cycles UPDATE=1` takes it over, the commit says why.")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
