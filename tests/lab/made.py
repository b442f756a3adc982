"""The program whose cycles are modelled: ``-m lab.made FOLDER KERNEL NAME FORM SHAPE`` makes one call between two markers.

FOLDER is where KERNEL is tried, NAME the kernel to call, FORM a form of `icount.calls` or ``entry``, the entry alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

from icount import calls
from lab import contract, counted, room
from support import rows
from support.program import Program, Record

from pyint8dot.engine import library


def main(folder: str, kernel: str, name: str, form: str, shape: str) -> None:
    """Make the call until nothing changes any more, and once between the markers."""
    own = room.settle(contract.read(Path(folder, f"{kernel}.S")), Path(folder))
    os.environ["PYINT8DOT_KERNEL"] = name
    m, k, n = map(int, shape.split("x"))
    if form == counted.ALONE:
        row = next(row for row in (own, *rows.NATIVE, *rows.FEW) if row.name == name)
        addresses = library.load().addresses
        fields, kept = counted.laid_out(row, (m, k, n))
        program = Program([Record(addresses[name], fields)])
        run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(addresses["run"])
        call = functools.partial(run, ctypes.c_void_p(program.argument))
    else:
        kept = []
        call = calls.CALLS[form].make(m, k, n)
    for _ in range(calls.passes(counted.WHOLE, (m, k, n))[0]):
        call()
    os.getppid()
    call()
    os.getppid()
    del kept


if __name__ == "__main__":
    main(*sys.argv[1:])
