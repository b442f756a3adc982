"""The program that is traced: ``made.py FORM SHAPE KERNEL`` makes one form of `icount.calls` between two markers."""

from __future__ import annotations

import os
import sys

from icount import calls, forms


def main(form: str, shape: str, kernel: str) -> None:
    """Make the call until nothing changes any more, and once between the markers."""
    os.environ["PYINT8DOT_KERNEL"] = kernel
    if forms.chosen() != kernel:
        raise SystemExit(f"{kernel} was not chosen")
    m, k, n = map(int, shape.split("x"))
    row = calls.CALLS[form]
    warm, _ = calls.passes(form, (m, k, n))
    with row.within():
        call = row.make(m, k, n)
        for _ in range(warm):
            call()
        os.getppid()
        call()
        os.getppid()


if __name__ == "__main__":
    main(*sys.argv[1:])
