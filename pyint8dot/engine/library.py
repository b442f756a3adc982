"""Finds and loads the native library, and tells where its entries are.

Python calls only one of them, which calls the others as a program says::

    int64_t pyint8dot_run(const int64_t *program);

The pointer is declared `c_char_p`, because a `bytes` object made by one `struct.pack` is then the whole argument: no ctypes
array or structure is built for a call, which is by far the cheapest call that ctypes has. (A bytes object keeps its data
16-byte aligned and NUL bytes in it do no harm.)
"""

from __future__ import annotations

import ctypes
import functools
import platform
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyint8dot.engine import cpu
from pyint8dot.errors import LibraryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ENTRIES", "PREFIX", "Library", "address", "load", "open_library", "path", "require", "status"]

#: Entry = prefix + stem; the library exports exactly these.
PREFIX = "pyint8dot_"
#: Filled by what uses them: the rows of kernels and of layouts, and the builders of programs.
ENTRIES: list[str] = []


def require(*stems: str) -> None:
    """Say that the library has to have these entries."""
    ENTRIES.extend(stem for stem in stems if stem not in ENTRIES)


FIX = (
    "build it with `make build` in a checkout, or, where there is a C compiler, install the package again: "
    "`pip install --force-reinstall --no-deps --no-cache-dir pyint8dot` (from a checkout `.` for the name)"
)


class Library:
    """The loaded native library.

    Attributes
    ----------
    path : pathlib.Path
        The file it came from.
    run : callable
        The entry that runs programs: it takes one as bytes and returns a status.
    addresses : dict of str to int
        Address in memory of each entry, by stem.
    """

    __slots__ = ("addresses", "path", "run")

    def __init__(self, path: Path, run: Callable[[bytes], int], addresses: dict[str, int]) -> None:
        self.path, self.run, self.addresses = path, run, addresses

    def __repr__(self) -> str:
        return f"Library({str(self.path)!r})"


def path() -> Path:
    """Where the native library of this package belongs."""
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    return Path(__file__).parents[1] / "lib" / f"libpyint8dot.{suffix}"


def load() -> Library:
    """Load the native library, once per process.

    Returns
    -------
    Library

    Raises
    ------
    LibraryError
        This is not an AArch64 machine, or the file is missing, or not loadable, or lacks an entry.
        The message names the file and what mends it.
    """
    found = _loaded()
    if isinstance(found, str):
        raise LibraryError(found)
    return found


def status() -> str | None:
    """Why there is no native library here, or None where it is loaded."""
    found = _loaded()
    return found if isinstance(found, str) else None


@functools.cache
def _loaded() -> Library | str:
    if not cpu.is_aarch64():
        return (
            f"the native library is AArch64 code and this process runs on {platform.machine() or 'an unknown machine'}"
        )
    try:
        return open_library(path())
    except LibraryError as error:
        return str(error)


def open_library(
    file: Path, entries: Sequence[str] = ENTRIES, *, opener: Callable[[str], Any] | None = None
) -> Library:
    """Load the library `file` and type its `entries`; `opener` stands in for the system's loader in tests.

    Raises
    ------
    LibraryError
        With one of three messages: missing file, not loadable, missing entry.
    """
    if not file.is_file():
        raise LibraryError(f"the native library is missing: there is no {file}; {FIX}")
    try:
        native = (opener or ctypes.CDLL)(str(file))
    except OSError as error:
        raise LibraryError(f"the native library {file} cannot be loaded: {describe(file)} ({error}); {FIX}") from error
    functions: dict[str, Any] = {}
    for stem in entries:
        try:
            function = getattr(native, PREFIX + stem)
        except AttributeError as error:
            raise LibraryError(
                f"the native library {file} has no entry {PREFIX + stem}: it belongs to another version; {FIX}"
            ) from error
        functions[stem] = function
    run = functions["run"]
    run.argtypes, run.restype = (ctypes.c_char_p,), ctypes.c_int64
    return Library(file, run, {stem: ctypes.cast(f, ctypes.c_void_p).value or 0 for stem, f in functions.items()})


# e_machine of ELF, cputype of Mach-O and Machine of PE for the machines one is likely to meet.
ELF_MACHINES = {3: "x86", 40: "32-bit Arm", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
MACHO_MACHINES = {0x01000007: "x86-64", 0x0100000C: "AArch64"}
PE_MACHINES = {0x8664: "x86-64", 0xAA64: "AArch64"}


def describe(file: Path) -> str:
    """Say in a few words what sort of binary `file` is, for a message about one that does not load."""
    try:
        with file.open("rb") as stream:
            head = stream.read(1024)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if len(head) >= 20 and head[:4] == b"\x7fELF":
        machine = ELF_MACHINES.get(struct.unpack_from("<H", head, 18)[0], "another machine")
        return f"it is an ELF library for {machine}"
    if len(head) >= 20 and head[:4] == b"\xcf\xfa\xed\xfe":
        machine = MACHO_MACHINES.get(struct.unpack_from("<I", head, 4)[0], "another machine")
        return f"it is a Mach-O library for {machine}"
    # The header of Windows lies where the word at 60 of the one of DOS says.
    at = struct.unpack_from("<I", head, 60)[0] if len(head) >= 64 and head[:2] == b"MZ" else 0
    if at and head[at : at + 4] == b"PE\0\0" and len(head) >= at + 6:
        machine = PE_MACHINES.get(struct.unpack_from("<H", head, at + 4)[0], "another machine")
        return f"it is a Windows library for {machine}"
    return "it is not a shared library"


def _address_by_ctypes(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


# The data pointer is the first field of numpy's array object, right after the object header.
# Reading it there costs a hundredth of `array.ctypes.data`, which builds two Python objects, and
# unlike `c_char.from_buffer` it takes read-only and strided arrays. It is used only where it has
# just been seen to agree.
DATA_OFFSET = object.__basicsize__


def _address_by_layout(array: NDArray[Any]) -> int:
    return ctypes.c_size_t.from_address(id(array) + DATA_OFFSET).value


def _layout_agrees() -> bool:
    if sys.implementation.name != "cpython":
        return False
    base = np.arange(24, dtype=np.int32).reshape(4, 6)
    frozen = base.copy()
    frozen.setflags(write=False)
    probes = (base, base[1:, 2:], base[::-1, ::-2], base.T, frozen, np.empty((0, 3), np.int8), np.zeros(()))
    return all(_address_by_layout(probe) == probe.ctypes.data for probe in probes)


#: Whether ``id(array) + DATA_OFFSET`` is where an array keeps the address of its data.
LAYOUT_KNOWN = _layout_agrees()

#: Address of an array's data.
address: Callable[[NDArray[Any]], int] = _address_by_layout if LAYOUT_KNOWN else _address_by_ctypes
