"""Where a kernel is tried: a copy of `asm/` with its file in it, the library that is built of that, and the tables that know its row."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from emulation import layout
from lab import contract
from lab.contract import Found
from support import entry

import build
from pyint8dot.engine import kernels, library
from pyint8dot.engine.kernels import Kernel

#: How processes of a trial are told where it is, and of which kernel.
FOLDER, KERNEL = "PYINT8DOT_LAB", "PYINT8DOT_LAB_KERNEL"


def furnish(found: Found, folder: Path) -> Path:
    """Copy the sources of the library into a folder, the kernel and what packs its operands among them; return the kernel's copy."""
    folder.mkdir(parents=True, exist_ok=True)
    own = found.path.parent
    files = {path.name: path for place in dict.fromkeys((entry.ASM, own)) for path in place.glob("*.h")}
    files |= {path.name: path for path in entry.ASM.glob("*.S")}
    files |= {path.name: path for path in (*(maker.path for maker in found.makers), found.path)}
    for stale in {path.name for path in folder.glob("*.[Sh]")} - set(files):
        (folder / stale).unlink()
    for name, path in files.items():
        copy = folder / name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            shutil.copy(path, copy)
    return folder / found.path.name


def product(folder: Path) -> build.Library:
    """The library of all entries that are in a folder, built there."""
    return build.PRODUCT._replace(sources=(folder,), folder=folder)


def alone(folder: Path, name: str) -> build.Library:
    """The library of one entry, for what looks at that one only."""
    single = folder / "alone"
    single.mkdir(exist_ok=True)
    for path in [*folder.glob("*.h"), folder / f"{name}.S"]:
        shutil.copy(path, single)
    return build.Library(f"lib{name}", (single,), single)


def enter(found: Found) -> Kernel:
    """Let the tables know a kernel, as one more of its feature; return its row, which is the one they have where they know it already."""
    row = found.row
    if (known := contract.known(row.name)) is not None:
        return known
    if row.packs_left:
        # Last, so that nothing chooses it that does not ask for it by name.
        kernels.enter(row)
        return row
    # A kernel of rows as they lie takes the place of another one where there are few columns, never of any columns.
    host = next(each for each in kernels.KERNELS.values() if row.features <= each.features)
    kernels.KERNELS[host.name] = replace(host, few=(*host.few, row))
    library.require(row.name)
    return row


def settle(found: Found, folder: Path) -> Kernel:
    """Make a process one whose library and sources are those of a folder, and whose tables know the kernel."""
    row = enter(found)
    entry.FOLDERS[:] = [folder]
    build.PRODUCT = product(folder)
    built = folder / library.path().name
    library.path = lambda: built
    return row


def environment(folder: Path, found: Found, **more: str) -> dict[str, str]:
    """The environment of a process that `settle` is to happen in: nothing steers the choice of kernels, nothing is on several threads."""
    drop = ("PYINT8DOT_KERNEL", "TRACT_DOTPROD_DISABLE", "PYINT8DOT_RECORD", "PYINT8DOT_BUILTIN", "PYTEST_ADDOPTS")
    own = {name: value for name, value in os.environ.items() if name not in drop}
    own["PYTHONPATH"] = os.pathsep.join([str(layout.CHECKOUT), str(layout.CHECKOUT / "tests")])
    own |= {FOLDER: str(folder), KERNEL: found.path.stem, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**own, **more}
