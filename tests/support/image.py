"""A library of macOS or Windows, read and mapped where it does not belong: into a process of Linux on AArch64.

The library calls nothing and has nothing to relocate, so all that a loader has to do for it is to put its sections at their
places. What else dyld and the loader of Windows do (signatures, page sizes, unwinding) is not tried here.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Section(NamedTuple):
    """A piece of the file and the address it belongs to, counted from where the image begins."""

    name: str
    address: int
    data: bytes


class Layout(NamedTuple):
    """What a loader needs to know: the bytes of address space, what goes where, and the exports by name."""

    size: int
    sections: list[Section]
    exports: dict[str, int]


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def _portable_executable(data: bytes) -> Layout:
    """Read a library of Windows."""
    header = struct.unpack_from("<I", data, 0x3C)[0]
    assert data[header : header + 4] == b"PE\0\0"
    machine, count, size = struct.unpack_from("<HH12xH", data, header + 4)
    optional = header + 24
    assert (machine, *struct.unpack_from("<H", data, optional)) == (0xAA64, 0x20B)
    directories = [struct.unpack_from("<II", data, optional + 112 + 8 * index) for index in range(16)]
    assert directories[1] == directories[5] == directories[13] == (0, 0), "it imports or is to be relocated"
    sections = []
    for index in range(count):
        fields = struct.unpack_from("<8sIIII", data, optional + size + 40 * index)
        name, used, address, stored, offset = fields
        sections.append(Section(name.rstrip(b"\0").decode(), address, data[offset : offset + min(used, stored)]))
    image = _memory(struct.unpack_from("<I", data, optional + 56)[0], sections)
    names, *tables = struct.unpack_from("<4I", image, directories[0][0] + 24)
    functions, texts, ordinals = (
        np.frombuffer(image, kind, names, at) for kind, at in zip(("<u4", "<u4", "<u2"), tables, strict=True)
    )
    exports = {_text(image, text): int(functions[ordinal]) for text, ordinal in zip(texts, ordinals, strict=True)}
    return Layout(len(image), sections, exports)


def _mach_o(data: bytes) -> Layout:
    """Read a library of macOS. A `_` is before each name of C there."""
    magic, machine, _, _, count = struct.unpack_from("<5I", data)
    assert (magic, machine) == (0xFEEDFACF, 0x0100000C)
    at, size, sections, exports = 32, 0, [], {}
    for _ in range(count):
        command, length = struct.unpack_from("<II", data, at)
        if command == 0x19:  # LC_SEGMENT_64
            place, extent, offset, stored = struct.unpack_from("<4Q", data, at + 24)
            size = max(size, place + extent)
            sections.append(Section(_text(data[at + 8 : at + 24] + b"\0", 0), place, data[offset : offset + stored]))
        elif command == 0x2:  # LC_SYMTAB
            symbols, number, texts, _ = struct.unpack_from("<4I", data, at + 8)
            for name, kind, _, _, value in struct.iter_unpack("<IBBHQ", data[symbols : symbols + 16 * number]):
                if kind & 0xF == 0xF:  # external, and of a section
                    exports[_text(data, texts + name).removeprefix("_")] = value
        at += length
    return Layout(size, sections, exports)


def _memory(size: int, sections: list[Section]) -> bytes:
    memory = bytearray(size)
    for section in sections:
        memory[section.address : section.address + len(section.data)] = section.data
    return bytes(memory)


def read(file: Path) -> Layout:
    """Read what a loader has to know of a library."""
    data = file.read_bytes()
    return _portable_executable(data) if data[:2] == b"MZ" else _mach_o(data)


MAPPED: list[mmap.mmap] = []


class Image:
    """A library mapped into this process, with its entries as attributes, like a `ctypes.CDLL`."""

    def __init__(self, file: str) -> None:
        layout = read(Path(file))
        self._exports = layout.exports
        with tempfile.TemporaryFile() as stream:
            # From a file, because the caches of instructions then hold what lies there, on every processor.
            stream.write(_memory(layout.size, layout.sections))
            stream.flush()
            protection = mmap.PROT_READ | mmap.PROT_EXEC
            self._map = mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE, protection)
        # Like any library it stays where it is for as long as the process runs.
        MAPPED.append(self._map)
        self._begin = int(np.frombuffer(self._map, np.uint8).ctypes.data)

    def __getattr__(self, name: str) -> Any:
        if name not in self._exports:
            raise AttributeError(name)
        return ctypes.CFUNCTYPE(ctypes.c_int64)(self._begin + self._exports[name])
