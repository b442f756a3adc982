"""The libraries of macOS and Windows: what they export and promise, and that they are the library of Linux word for word.

So what the suite says of the one it says of the others. Besides, `make test` runs the tests of the entries on them, mapped into
the emulated Python by `support.image`.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from support import image
from support.image import Layout, Section

import build
from pyint8dot.engine import library

lief = pytest.importorskip("lief")

from wheels import libraries  # noqa: E402

pytestmark = pytest.mark.static

LINUX = "linux-aarch64"
FOREIGN = sorted(set(build.TARGETS) - {LINUX})


def built(target: str) -> Path:
    """The library for a target, brought up to date where this host has a toolchain for it."""
    file = build.build(build.PRODUCT, target)
    if file is None:
        pytest.skip(build.no_toolchain(target))
    return file


@pytest.fixture(scope="module", params=FOREIGN)
def target(request):
    return request.param


@pytest.fixture(scope="module")
def elf():
    """The library of Linux: its layout, and the bytes of each entry."""
    with built(LINUX).open("rb") as stream:
        file = ELFFile(stream)
        parts = [
            Section("", part["p_vaddr"], part.data()) for part in file.iter_segments() if part["p_type"] == "PT_LOAD"
        ]
        symbols = [symbol for symbol in file.get_section_by_name(".dynsym").iter_symbols() if symbol.name]
    exports = {symbol.name: symbol["st_value"] for symbol in symbols}
    return Layout(0, parts, exports), {symbol.name: symbol["st_size"] for symbol in symbols}


@pytest.mark.parametrize("name", build.TARGETS)
def test_it_is_what_its_system_asks_for(name):
    assert libraries.CHECKS[name](built(name))


def at(layout: Layout, address: int, count: int) -> bytes:
    """So many bytes from an address on, or as many as there are."""
    for section in layout.sections:
        if section.address <= address < section.address + len(section.data):
            return section.data[address - section.address :][:count]
    raise AssertionError(f"nothing lies at {address:#x}")


def constant(layout: Layout, address: int) -> int | None:
    """The address that an `adrp` with its `add` makes, or None for any other instruction."""
    adrp, add = struct.unpack("<II", at(layout, address, 8).ljust(8, b"\0"))
    if adrp & 0x9F000000 != 0x90000000:
        return None
    assert add & 0xFFC00000 == 0x91000000
    pages = (adrp >> 5 & 0x7FFFF) << 2 | adrp >> 29 & 3
    assert pages < 1 << 20, "constants lie behind the code"
    return (address & ~0xFFF) + (pages << 12) + (add >> 10 & 0xFFF)


def differences(ours: Layout, sizes: dict[str, int], other: Layout) -> list[str]:
    """Where two libraries have other instructions, or constants; how far the constants are away is their own affair."""
    found, constants = [], {}
    for name, size in sizes.items():
        numbers = zip(
            *(struct.unpack(f"<{size // 4}I", at(one, one.exports[name], size)) for one in (ours, other)), strict=True
        )
        distance = 0
        for offset, words in enumerate(numbers):
            places = [one.exports[name] + 4 * offset for one in (ours, other)]
            addresses = [constant(one, place) for one, place in zip((ours, other), places, strict=True)]
            if addresses[0] is not None:
                distance = 2
                constants[addresses[0]] = addresses[1]
            # Of both instructions all counts but the number in them.
            mask = 0xFFFFFFFF if not distance else 0x9F00001F if distance == 2 else 0xFFC003FF
            if words[0] & mask != words[1] & mask:
                found.append(f"{name}+{4 * offset}: {words[0]:#x} and {words[1]:#x}")
            distance = max(0, distance - 1)
    assert constants, "no entry has a constant"
    bounds = sorted(constants)
    for begin, end in zip(bounds, [*bounds[1:], bounds[-1] + 16], strict=True):
        # Zeros fill up to the next, which may be nearer elsewhere.
        data = at(ours, begin, end - begin).rstrip(b"\0")
        if constants[begin] is None or data != at(other, constants[begin], len(data)):
            found.append(f"constant at {begin:#x}")
    return found


def test_entries_are_those_of_linux(elf, target):
    layout, sizes = elf
    assert differences(layout, sizes, image.read(built(target))) == []


@pytest.mark.parametrize("stem", library.ENTRIES)
def test_a_planted_nop_is_seen(elf, target, stem):
    """In each entry, in the place of its second instruction; the first is the landing pad."""
    layout, sizes = elf
    other = image.read(built(target))
    address = other.exports[library.PREFIX + stem] + 4
    planted = [
        section._replace(
            data=section.data[: address - section.address]
            + b"\x1f\x20\x03\xd5"
            + section.data[address - section.address + 4 :]
        )
        if section.address <= address < section.address + len(section.data)
        else section
        for section in other.sections
    ]
    (found,) = differences(layout, sizes, other._replace(sections=planted))
    assert found.startswith(f"{library.PREFIX}{stem}+4: ")


def test_a_damaged_page_is_not_what_was_signed(tmp_path):
    data = bytearray(built("macos-arm64").read_bytes())
    data[0x2000] ^= 1
    damaged = tmp_path / "libpyint8dot.dylib"
    damaged.write_bytes(data)
    with pytest.raises(AssertionError, match="page 0 is not what was signed"):
        libraries.signature(damaged)


def test_windows_unwinds_each_frame_to_its_last_byte(elf):
    """The record of each names its length, and the last of the codes of its prologue is that of the landing pad."""
    _, sizes = elf
    other = image.read(built("windows-arm64"))
    (table,) = (section.data for section in other.sections if section.name == ".pdata")
    names = {address: name for name, address in other.exports.items()}
    for begin, record in struct.iter_unpack("<II", table):
        assert record & 3 == 0, "the codes lie in the table itself"
        header, codes = struct.unpack("<I64s", at(other, record, 68).ljust(68))
        assert 4 * (header & 0x3FFFF) == sizes[names[begin]]
        # One epilogue, which ends the function and whose codes follow those of the prologue: nop for the landing pad, and the end.
        assert header >> 21 & 1
        assert codes[: header >> 22 & 31].endswith(b"\xe3\xe4")
