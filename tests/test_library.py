"""Finding and loading the native library, and what is said when it cannot be."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import subprocess
import sys
from ctypes.util import find_library

import numpy as np
import pytest

from pyint8dot.engine import cpu, library, program
from pyint8dot.errors import Int8DotError, LibraryError

on_aarch64 = pytest.mark.native


@pytest.fixture
def pretended(monkeypatch):
    """Pretend to be another machine or to have another library; forget it afterwards."""
    library._loaded.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    library._loaded.cache_clear()


def test_error_families():
    assert issubclass(LibraryError, Int8DotError)
    assert issubclass(LibraryError, OSError)


def test_the_library_is_looked_for_inside_the_package(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert library.path().parts[-3:] == ("pyint8dot", "lib", "libpyint8dot.so")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert library.path().parts[-3:] == ("pyint8dot", "lib", "libpyint8dot.dylib")
    monkeypatch.setattr(sys, "platform", "win32")
    assert library.path().parts[-3:] == ("pyint8dot", "lib", "libpyint8dot.dll")


def test_missing_file_says_where_and_what_to_do(tmp_path):
    file = tmp_path / "libpyint8dot.so"
    with pytest.raises(LibraryError, match=r"missing: there is no .*libpyint8dot\.so; build it with `make build`"):
        library.open_library(file)


def test_a_directory_is_no_library(tmp_path):
    with pytest.raises(LibraryError, match="is missing"):
        library.open_library(tmp_path)


def elf(machine: int) -> bytes:
    return b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(44)


def macho(machine: int) -> bytes:
    return struct.pack("<IIII", 0xFEEDFACF, machine, 0, 6) + bytes(16)


def pe(machine: int) -> bytes:
    return b"MZ" + bytes(58) + struct.pack("<I", 80) + bytes(16) + b"PE\0\0" + struct.pack("<H", machine)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is not a shared library"),
        (b"\x7fELF", "it is not a shared library"),
        (b"no library at all, just text", "it is not a shared library"),
        (elf(243), "it is an ELF library for RISC-V"),
        (elf(40), "it is an ELF library for 32-bit Arm"),
        (elf(9), "it is an ELF library for another machine"),
        (macho(0x01000007), "it is a Mach-O library for x86-64"),
        (macho(0x01000012), "it is a Mach-O library for another machine"),
        (pe(0x8664), "it is a Windows library for x86-64"),
        (pe(0x14C), "it is a Windows library for another machine"),
        (pe(0x14C)[:84], "it is not a shared library"),
    ],
)
def test_wrong_file_says_what_it_is(tmp_path, content, words):
    file = tmp_path / "libpyint8dot.so"
    file.write_bytes(content)
    with pytest.raises(LibraryError, match=f"cannot be loaded: {words}") as caught:
        library.open_library(file)
    assert str(file) in str(caught.value)
    assert "make build" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_unreadable_file_is_described(tmp_path):
    assert library.describe(tmp_path / "none").startswith("it cannot be read: ")


def some_library() -> str:
    """A shared library that any process can load and that has none of our entries."""
    return find_library("m") or find_library("c") or ctypes.util.find_library("System") or pytest.fail("no C library")


def test_missing_entry_names_it(monkeypatch, tmp_path):
    file = tmp_path / "libpyint8dot.so"
    file.write_bytes(elf(183))
    name = some_library()
    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda _: real(name))
    with pytest.raises(LibraryError, match="has no entry pyint8dot_run: it belongs to another version") as caught:
        library.open_library(file, ("run",))
    assert "make build" in str(caught.value)


class FakeNative:
    """A loaded library whose entries note the bytes they are called with."""

    def __init__(self):
        self.calls = []
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
        for stem in library.ENTRIES:
            function = prototype(lambda fields, stem=stem: self.calls.append((stem, ctypes.string_at(fields, 16))) or 7)
            setattr(self, library.PREFIX + stem, function)


def test_run_gets_its_signature_and_every_entry_an_address(monkeypatch, tmp_path):
    """The callee sees the very bytes of the argument, NUL bytes included, at an address fit for int64 loads."""
    file = tmp_path / "libpyint8dot.so"
    file.write_bytes(elf(183))
    native = FakeNative()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: native)
    loaded = library.open_library(file)
    assert loaded.path == file
    assert str(file) in repr(loaded)
    assert set(loaded.addresses) == set(library.ENTRIES)
    fields = struct.pack("=2q", 0, 1 << 40)
    assert loaded.run.argtypes == (ctypes.c_char_p,)
    assert loaded.run.restype is ctypes.c_int64
    assert loaded.run(fields) == 7
    assert native.calls == [("run", fields)]
    for stem in library.ENTRIES:
        assert loaded.addresses[stem] == ctypes.cast(getattr(native, library.PREFIX + stem), ctypes.c_void_p).value != 0


def test_entries_refuse_other_arguments(monkeypatch, tmp_path):
    file = tmp_path / "libpyint8dot.so"
    file.write_bytes(elf(183))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeNative())
    function = library.open_library(file).run
    for wrong in (1, 1.0, "text", np.zeros(2, np.int64)):
        with pytest.raises(ctypes.ArgumentError):
            function(wrong)


def test_bytes_lie_where_int64_may_be_loaded():
    for size in range(8, 800, 8):
        data = bytes(size)
        assert (ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0) % 8 == 0


def test_nothing_is_loaded_off_aarch64(pretended):
    """A stranger's machine must not even try: the file may exist, built for another machine."""
    pretended.setattr(cpu, "is_aarch64", lambda: False)
    pretended.setattr(platform, "machine", lambda: "x86_64")
    pretended.setattr(library, "open_library", lambda _: pytest.fail("it was opened"))
    with pytest.raises(LibraryError, match="AArch64 code and this process runs on x86_64"):
        library.load()
    assert library.status() == "the native library is AArch64 code and this process runs on x86_64"


def test_status_and_load_tell_the_same_story(pretended, tmp_path):
    pretended.setattr(cpu, "is_aarch64", lambda: True)
    pretended.setattr(library, "path", lambda: tmp_path / "libpyint8dot.so")
    with pytest.raises(LibraryError) as caught:
        library.load()
    assert library.status() == str(caught.value)


def test_it_is_opened_once(pretended):
    opened = []
    pretended.setattr(cpu, "is_aarch64", lambda: True)
    pretended.setattr(library, "open_library", lambda file: opened.append(file) or library.Library(file, None, {}))
    assert library.load() is library.load()
    assert library.status() is None
    assert opened == [library.path()]


@on_aarch64
def test_the_built_library_loads():
    loaded = library.load()
    assert library.status() is None
    assert loaded.path == library.path()
    assert len({loaded.addresses[stem] for stem in library.ENTRIES}) == len(library.ENTRIES)
    assert 0 not in loaded.addresses.values()
    # A program of no records does nothing, and comes back.
    assert program.Program().run() == 0


def test_importing_the_package_loads_nothing():
    """A broken or missing library must never keep the package from being imported."""
    code = (
        "import ctypes, sys\n"
        "from pyint8dot.engine import cpu, kernels, library, packing, portable\n"
        "import json; print(json.dumps(library._loaded.cache_info().currsize))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == 0


FIRST_USE = """
import os, platform, sys, warnings
from pathlib import Path
platform.machine = lambda: {machine!r}
sys.platform = "linux"
from pyint8dot.engine import library
library.path = lambda: Path("nowhere", "libpyint8dot.so")
import numpy as np
import pyint8dot
ones = np.ones((3, 3), np.int8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        assert pyint8dot.matmul(ones, {b}, **{options}).tolist() == [[3] * 3] * 3
for one in caught:
    print(one.category.__name__, os.path.basename(one.filename), one.message)
"""


def warned(machine="aarch64", b="ones", environment=None, **options):
    """The warnings of two products on a machine without the library."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE.format(machine=machine, b=b, options=options)],
        env={name: value for name, value in os.environ.items() if name != "PYINT8DOT_KERNEL"} | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("b", ["ones", "pyint8dot.pack(ones)"])
def test_the_first_use_without_the_library_warns_once_and_says_what_to_do(b):
    (said,) = warned(b=b)
    assert said.startswith("RuntimeWarning <string> products run many times slower")
    assert "missing: there is no nowhere" in said
    assert library.FIX in said


def test_nobody_is_warned_who_has_no_kernels_or_asked_for_the_slow_one():
    assert warned("x86_64") == []
    assert warned(kernel="portable") == []
    assert warned(environment={"PYINT8DOT_KERNEL": "portable"}) == []


def some_arrays():
    base = np.arange(5 * 7 * 3, dtype=np.int8).reshape(5, 7, 3)
    frozen = base.copy()
    frozen.setflags(write=False)
    yield "plain", base
    yield "offset", base[2:, 3:, 1:]
    yield "reversed", base[::-1, ::-2]
    yield "transposed", base.T
    yield "broadcast", np.broadcast_to(base[0, 0, 0], (4, 4))
    yield "read-only", frozen
    yield "empty", base[:0]
    yield "empty of its own", np.empty((0, 9), np.int32)
    yield "zero-dimensional", np.zeros((), np.int8)
    yield "foreign memory", np.frombuffer(b"12345678", np.int8)
    yield "subclass", base[0].view(np.recarray)
    yield "float64", np.ones(9)


@pytest.mark.parametrize(
    ("what", "array"), list(some_arrays()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_address_is_that_of_the_first_element(what, array):
    assert library.address(array) == array.ctypes.data
    assert library._address_by_ctypes(array) == array.ctypes.data


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="other interpreters lay objects out in other ways")
def test_the_fast_way_is_in_use_on_cpython():
    assert library.address is library._address_by_layout


@pytest.mark.parametrize("offset", [0, 24, 40])
def test_another_object_layout_is_noticed(monkeypatch, offset):
    """Fields at other offsets of an array object are readable words, just not the data pointer."""
    monkeypatch.setattr(library, "DATA_OFFSET", offset)
    assert not library._layout_agrees()


def test_one_disagreement_is_enough(monkeypatch):
    right = library._address_by_ctypes
    monkeypatch.setattr(library, "_address_by_layout", lambda array: right(array) + (not array.flags.writeable))
    assert not library._layout_agrees()


def test_other_interpreters_are_not_guessed_at(monkeypatch):
    monkeypatch.setattr(sys.implementation, "name", "pypy")
    assert not library._layout_agrees()
