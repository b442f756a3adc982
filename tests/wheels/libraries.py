"""What each system asks of the library, looked at in the file itself: nothing is run.

`CHECKS` has a function for each target of build.py. It takes the file, raises AssertionError where something is not as it has to
be, and returns what it has seen, in a few words each.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import lief
from support import entry

from pyint8dot.engine import library

# Of what is odd it speaks in exceptions as well.
lief.logging.disable()

ENTRIES = {library.PREFIX + stem for stem in entry.sources()}
# Those with a frame, which Windows does not unwind unless told how.
FRAMED = {
    library.PREFIX + stem
    for stem, path in entry.sources().items()
    if re.search(r"^function \w+, framed$", path.read_text(), re.MULTILINE)
}


def _same(what: str, found: Iterable[str], wanted: set[str]) -> str:
    found = set(found)
    assert found == wanted, f"{what}: {', '.join(sorted(found ^ wanted))} on one side only"
    return f"{len(wanted)} {what}"


def linux(file: Path) -> list[str]:
    """An ELF library that needs nothing and whose stack is not executable."""
    image = lief.ELF.parse(file)
    assert image.header.machine_type == lief.ELF.ARCH.AARCH64
    seen = [_same("exports", (symbol.name for symbol in image.exported_symbols), ENTRIES)]
    assert not list(image.imported_symbols)
    assert not list(image.libraries)
    (stack,) = (segment for segment in image.segments if segment.type == lief.ELF.Segment.TYPE.GNU_STACK)
    assert not stack.has(lief.ELF.Segment.FLAGS.X)
    both = lief.ELF.Segment.FLAGS.W, lief.ELF.Segment.FLAGS.X
    assert not [segment for segment in image.segments if all(map(segment.has, both))]
    return [*seen, "no imports", "no executable stack"]


def macos(file: Path) -> list[str]:
    """A Mach-O library for macOS 11 that is signed, as Apple's processors demand."""
    fat = lief.MachO.parse(file)  # has to live as long as what it holds
    (image,) = fat
    assert image.header.cpu_type == lief.MachO.Header.CPU_TYPE.ARM64
    assert image.header.file_type == lief.MachO.Header.FILE_TYPE.DYLIB
    # Linkers add names of their own: the first two of what a dylib has, the third of what it may call.
    exported = {symbol.name for symbol in image.exported_symbols} - {"___dso_handle", "__mh_dylib_header"}
    seen = [_same("exports", exported, {f"_{name}" for name in ENTRIES})]
    assert {symbol.name for symbol in image.imported_symbols} <= {"dyld_stub_binder"}
    needed = [found.name for found in image.libraries if found.command != lief.MachO.LoadCommand.TYPE.ID_DYLIB]
    assert set(needed) <= {"/usr/lib/libSystem.B.dylib"}
    assert image.get(lief.MachO.LoadCommand.TYPE.ID_DYLIB).name == f"@rpath/{file.name}"
    oldest = image.build_version.minos
    assert oldest[:2] == [11, 0], f"it asks for macOS {oldest}"
    return [*seen, "no imports", "for macOS 11.0 and later", signature(file)]


def signature(file: Path) -> str:
    """The signature without a signer that arm64 macOS wants: the hash of every page, compared here with the page."""
    data = file.read_bytes()
    fat = lief.MachO.parse(file)
    found = fat.at(0).code_signature
    end = found.data_offset
    blob = data[end : end + found.data_size]
    magic, _, count = struct.unpack_from(">III", blob)
    assert magic == 0xFADE0CC0
    directories = [offset for kind, offset in struct.iter_unpack(">II", blob[12 : 12 + 8 * count]) if kind == 0]
    (at,) = directories
    fields = struct.unpack_from(">9I4B", blob, at)
    magic, _, _, flags, hashes, _, _, pages, limit, size, kind, _, page = fields
    assert (magic, size, kind, limit) == (0xFADE0C02, 32, 2, end)
    assert flags & 2, "it is not signed ad hoc"
    for number in range(pages):
        piece = data[number << page : min(number + 1 << page, limit)]
        place = at + hashes + size * number
        assert hashlib.sha256(piece).digest() == blob[place : place + size], f"page {number} is not what was signed"
    assert pages == -(-limit >> page)
    return f"signed ad hoc, {pages} pages as signed"


def windows(file: Path) -> list[str]:
    """A library of Windows that needs nothing, lies anywhere, and says how its frames are unwound."""
    image = lief.PE.parse(file)
    assert image.header.machine == lief.PE.Header.MACHINE_TYPES.ARM64
    exports = {found.name: found.address for found in image.get_export().entries}
    seen = [_same("exports", exports, ENTRIES)]
    assert not image.has_imports
    assert not image.has_relocations
    wanted = lief.PE.OptionalHeader.DLL_CHARACTERISTICS
    for flag in (wanted.DYNAMIC_BASE, wanted.NX_COMPAT, wanted.HIGH_ENTROPY_VA):
        assert image.optional_header.has(flag), flag
    flags = lief.PE.Section.CHARACTERISTICS
    for section in image.sections:
        assert not all(map(section.has_characteristic, (flags.MEM_WRITE, flags.MEM_EXECUTE)))
    unwound = bytes(image.get_section(".pdata").content) if image.get_section(".pdata") else b""
    names = {address: name for name, address in exports.items()}
    begins = [begin for begin, how in struct.iter_unpack("<II", unwound) if begin]
    seen.append(_same("frames that can be unwound", (names[begin] for begin in begins), FRAMED))
    return [*seen, "no imports", "nothing writable is executable"]


CHECKS: dict[str, Callable[[Path], list[str]]] = {
    "linux-aarch64": linux,
    "macos-arm64": macos,
    "windows-arm64": windows,
}
