"""Finding out what the processor can do, with the system's answers put in its mouth."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

import pytest

from pyint8dot.engine import cpu

ASIMD, DOTPROD, I8MM = 1 << 1, 1 << 20, 1 << 13


def hwcaps(hwcap: int, hwcap2: int = 0):
    return {cpu.AT_HWCAP: hwcap, cpu.AT_HWCAP2: hwcap2}.get


@pytest.mark.parametrize(
    ("hwcap", "hwcap2", "expected"),
    [
        (ASIMD, 0, {"asimd"}),
        (ASIMD | DOTPROD, 0, {"asimd", "dotprod"}),
        (ASIMD | DOTPROD, I8MM, {"asimd", "dotprod", "i8mm"}),
        # The same bit numbers in the other word mean something else.
        (ASIMD | I8MM, DOTPROD, {"asimd"}),
        ((1 << 64) - 1 - DOTPROD, (1 << 64) - 1, {"asimd", "i8mm"}),
        # A system that says nothing still runs on a processor with Advanced SIMD.
        (0, 0, {"asimd"}),
    ],
)
@pytest.mark.parametrize("system", ["linux", "android"])
def test_linux_reads_the_auxiliary_vector(system, hwcap, hwcap2, expected):
    assert cpu.detect(system, auxval=hwcaps(hwcap, hwcap2)) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, {"asimd"}),
        ({"hw.optional.arm.FEAT_DotProd": 1}, {"asimd", "dotprod"}),
        ({"hw.optional.arm.FEAT_DotProd": 0, "hw.optional.arm.FEAT_I8MM": 1}, {"asimd", "i8mm"}),
        ({"hw.optional.arm.FEAT_DotProd": 1, "hw.optional.arm.FEAT_I8MM": 1}, {"asimd", "dotprod", "i8mm"}),
    ],
)
def test_macos_asks_sysctl(answers, expected):
    assert cpu.detect("darwin", sysctl=lambda name: answers.get(name, 0)) == expected


@pytest.mark.parametrize("system", ["freebsd13", "freebsd14"])
def test_freebsd_has_the_bits_of_linux_in_entries_of_its_own(system):
    words = {25: ASIMD | DOTPROD, 26: I8MM}
    assert cpu.detect(system, auxval=words.get) == {"asimd", "dotprod", "i8mm"}
    assert cpu.detect(system, auxval={25: ASIMD, 26: 0, 16: DOTPROD}.get) == {"asimd"}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (set(), {"asimd"}),
        ({43}, {"asimd", "dotprod"}),
        ({43, 66}, {"asimd", "dotprod", "i8mm"}),
        # Other features that the same function tells.
        ({19, 34, 44, 46, 47, 58, 67, 68}, {"asimd"}),
    ],
)
def test_windows_tells_each_feature(numbers, expected):
    assert cpu.detect("win32", present=numbers.__contains__) == expected


@pytest.mark.parametrize("system", ["freebsd14", "win32", "sunos5"])
def test_systems_that_do_not_answer_get_the_baseline(system):
    assert cpu.detect(system) == {"asimd"}


@pytest.mark.parametrize(
    ("machine", "maxsize", "byteorder", "expected"),
    [
        ("aarch64", 2**63 - 1, "little", True),
        ("arm64", 2**63 - 1, "little", True),
        ("ARM64", 2**63 - 1, "little", True),
        # A 32-bit Python on a 64-bit kernel: the word means other features there.
        ("aarch64", 2**31 - 1, "little", False),
        ("aarch64", 2**63 - 1, "big", False),
        ("aarch64_be", 2**63 - 1, "big", False),
        ("armv7l", 2**31 - 1, "little", False),
        ("x86_64", 2**63 - 1, "little", False),
        ("", 2**63 - 1, "little", False),
    ],
)
def test_which_processes_are_aarch64(monkeypatch, machine, maxsize, byteorder, expected):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "maxsize", maxsize)
    monkeypatch.setattr(sys, "byteorder", byteorder)
    assert cpu.is_aarch64() is expected


@pytest.mark.parametrize(("built_for", "expected"), [("win-arm64", True), ("win-amd64", False), ("win32", False)])
def test_on_windows_the_process_counts_and_not_the_machine(monkeypatch, built_for, expected):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(platform, "machine", lambda: "ARM64")
    monkeypatch.setattr(cpu.sysconfig, "get_platform", lambda: built_for)
    assert cpu.is_aarch64() is expected


def test_no_features_off_aarch64(monkeypatch, fresh):
    monkeypatch.setattr(cpu, "is_aarch64", lambda: False)
    assert cpu.features() == frozenset()


def test_features_are_found_once(monkeypatch, fresh):
    calls = []
    monkeypatch.setattr(cpu, "is_aarch64", lambda: True)
    monkeypatch.setattr(cpu, "detect", lambda system: calls.append(system) or frozenset({"asimd"}))
    assert cpu.features() == cpu.features() == {"asimd"}
    assert calls == [sys.platform]


def test_features_of_this_machine(fresh):
    """The real probe on the machine at hand: nothing, or at least the baseline."""
    found = cpu.features()
    assert isinstance(found, frozenset)
    assert found <= {"asimd", "dotprod", "i8mm"}
    assert ("asimd" in found) == cpu.is_aarch64()


# Models of the emulator and what their processors have, from Arm's manuals of these cores.
MODELS = {
    "cortex-a35": {"asimd"},
    "cortex-a53": {"asimd"},
    "cortex-a57": {"asimd"},
    "cortex-a72": {"asimd"},
    "cortex-a76": {"asimd", "dotprod"},
    "neoverse-n1": {"asimd", "dotprod"},
}


@pytest.mark.native
def test_features_of_a_known_model(fresh):
    model = os.environ.get("QEMU_CPU", "")
    if model in MODELS:
        assert cpu.features() == MODELS[model]


@pytest.mark.native
@pytest.mark.parametrize("entry", [cpu.AT_HWCAP, cpu.AT_HWCAP2])
def test_function_and_file_agree(entry):
    """The two ways to the auxiliary vector are independent; on a system that has both they tell the same."""
    vector = cpu.read_auxv_file(cpu.Path("/proc/self/auxv"))
    if vector:
        assert vector.get(entry, 0) == cpu.read_auxval(entry)
    else:
        assert not sys.platform.startswith("linux")


class FakeFunction:
    """Stands in for a C function: it can be given types, and calls a Python function."""

    def __init__(self, body):
        self.body = body
        self.argtypes = None
        self.restype = ctypes.c_int

    def __call__(self, *args):
        assert self.argtypes is not None
        assert len(args) == len(self.argtypes)
        return self.body(*args)


class FakeLibc:
    def __init__(self, **functions):
        vars(self).update({name: FakeFunction(body) for name, body in functions.items()})


def test_getauxval_is_called_with_64_bits(tmp_path):
    libc = FakeLibc(getauxval=lambda entry: (1 << 40) + entry)
    assert cpu.read_auxval(26, libc=libc, auxv=tmp_path / "none") == (1 << 40) + 26
    assert libc.getauxval.restype is ctypes.c_ulong
    assert libc.getauxval.argtypes == (ctypes.c_ulong,)


@pytest.fixture
def auxv(tmp_path):
    """A stored auxiliary vector, ended by a zero entry and a torn one, which must not matter."""
    path = tmp_path / "auxv"
    path.write_bytes(struct.pack("=6Q", 16, ASIMD | DOTPROD, 26, I8MM, 0, 0) + b"\1\2\3")
    return path


def test_musl_without_getauxval_reads_the_file(auxv):
    """An old musl, or a statically linked interpreter, has no getauxval to look up."""
    read = lambda entry: cpu.read_auxval(entry, libc=FakeLibc(), auxv=auxv)  # noqa: E731
    assert cpu.detect("linux", auxval=read) == {"asimd", "dotprod", "i8mm"}


def test_no_dynamic_loader_reads_the_file(monkeypatch, auxv):
    def refuse(name):
        raise OSError("Dynamic loading not supported")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert cpu.read_auxval(16, auxv=auxv) == ASIMD | DOTPROD
    assert cpu.read_auxval(33, auxv=auxv) == 0


def test_nothing_to_read_is_zero(tmp_path):
    assert cpu.read_auxval(16, libc=FakeLibc(), auxv=tmp_path / "none") == 0
    (tmp_path / "empty").write_bytes(b"")
    assert cpu.read_auxval(16, libc=FakeLibc(), auxv=tmp_path / "empty") == 0


@pytest.mark.parametrize("code", ["<I", "<Q"])
def test_sysctl_of_both_widths(code):
    def sysctlbyname(name, value, size, new, new_size):
        assert (name, new, new_size) == (b"hw.optional.arm.FEAT_DotProd", None, 0)
        ctypes.memmove(ctypes.addressof(value._obj), struct.pack(code, 1), struct.calcsize(code))
        size._obj.value = struct.calcsize(code)
        return 0

    libc = FakeLibc(sysctlbyname=sysctlbyname)
    assert cpu.read_sysctl("hw.optional.arm.FEAT_DotProd", libc=libc) == 1
    assert libc.sysctlbyname.restype is ctypes.c_int


def test_unknown_sysctl_is_zero():
    assert cpu.read_sysctl("hw.none", libc=FakeLibc(sysctlbyname=lambda *_: -1)) == 0
    assert cpu.read_sysctl("hw.none", libc=FakeLibc()) == 0


KIB = 1024


def no_answer(name: str) -> int:
    return 0


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, cpu.DEFAULT_CACHES),
        ({"SC_LEVEL1_DCACHE_SIZE": 64 * KIB, "SC_LEVEL2_CACHE_SIZE": 1024 * KIB}, (64 * KIB, 1024 * KIB)),
        ({"SC_LEVEL1_DCACHE_SIZE": 64 * KIB}, (64 * KIB, cpu.DEFAULT_CACHES[1])),
        # Absurd answers count as none.
        ({"SC_LEVEL1_DCACHE_SIZE": -1, "SC_LEVEL2_CACHE_SIZE": 1}, cpu.DEFAULT_CACHES),
        ({"SC_LEVEL1_DCACHE_SIZE": 1 << 40, "SC_LEVEL2_CACHE_SIZE": 1 << 40}, cpu.DEFAULT_CACHES),
    ],
)
def test_cache_sizes_from_sysconf(tmp_path, answers, expected):
    ask = lambda name: answers.get(name, 0)  # noqa: E731
    assert cpu.measure_caches("linux", sysconf=ask, directory=tmp_path) == expected


def listed_cache(directory, index, level, kind, size):
    folder = directory / f"index{index}"
    folder.mkdir()
    for name, text in (("level", level), ("type", kind), ("size", size)):
        (folder / name).write_text(f"{text}\n")


def test_cache_sizes_from_the_list_below_sys(tmp_path):
    listed_cache(tmp_path, 0, 1, "Data", "64K")
    listed_cache(tmp_path, 1, 1, "Instruction", "128K")
    listed_cache(tmp_path, 2, 2, "Unified", "2M")
    listed_cache(tmp_path, 3, 3, "Unified", "1G")
    listed_cache(tmp_path, 4, "what", "Unified", "?")
    (tmp_path / "index5").mkdir()
    assert cpu.read_cache_directory(tmp_path) == {1: 64 * KIB, 2: 2048 * KIB, 3: 1 << 30}
    assert cpu.measure_caches("linux", sysconf=no_answer, directory=tmp_path) == (64 * KIB, 2048 * KIB)


def test_cache_sizes_of_a_mac_are_those_of_its_performance_cores():
    plain = {"hw.l1dcachesize": 64 * KIB, "hw.l2cachesize": 4096 * KIB}
    cores = {"hw.perflevel0.l1dcachesize": 128 * KIB, "hw.perflevel0.l2cachesize": 16384 * KIB}
    assert cpu.measure_caches("darwin", sysctl=lambda name: plain.get(name, 0)) == (64 * KIB, 4096 * KIB)
    assert cpu.measure_caches("darwin", sysctl=lambda name: (plain | cores).get(name, 0)) == (128 * KIB, 16384 * KIB)
    assert cpu.measure_caches("darwin", sysctl=no_answer) == cpu.DEFAULT_CACHES


def test_windows_is_asked_for_a_feature_by_its_number():
    kernel32 = FakeLibc(IsProcessorFeaturePresent=lambda number: 5 if number == 43 else 0)
    assert cpu.read_processor_feature(43, kernel32=kernel32) is True
    assert cpu.read_processor_feature(66, kernel32=kernel32) is False
    assert cpu.read_processor_feature(43, kernel32=FakeLibc()) is False
    assert cpu.read_processor_feature(43) is False or sys.platform == "win32"


def test_elf_aux_info_fills_a_word_and_says_whether_it_did():
    def fill(entry, into, size):
        assert size == ctypes.sizeof(ctypes.c_ulong)
        if entry != 25:
            return 2
        into._obj.value = 1 << 20
        return 0

    assert cpu.read_elf_aux_info(25, libc=FakeLibc(elf_aux_info=fill)) == 1 << 20
    assert cpu.read_elf_aux_info(26, libc=FakeLibc(elf_aux_info=fill)) == 0
    assert cpu.read_elf_aux_info(25, libc=FakeLibc()) == 0


def processor_information(*records: tuple[int, int, int, int], works: bool = True):
    """A kernel32 that lists what it is given: what a record is of, level, bytes, type."""
    # The structure as winnt.h has it: a mask of processors, what it is, and a union of 16 bytes.
    data = b"".join(
        struct.pack("<QII", 3, what, 0) + struct.pack("<BBHII", level, 8, 64, count, kind) + bytes(4)
        for what, level, count, kind in records
    )

    def tell(buffer, size):
        enough = buffer is not None and size._obj.value >= len(data)
        size._obj.value = len(data)
        if enough and works:
            ctypes.memmove(buffer, data, len(data))
        return int(enough and works)

    return FakeLibc(GetLogicalProcessorInformation=tell)


def test_cache_sizes_of_windows_are_those_of_the_fastest_cores():
    unified, instructions, data = 0, 1, 2
    kernel32 = processor_information(
        (0, 0, 1, 0),  # a core
        (2, 1, 32 * KIB, data), (2, 1, 256 * KIB, instructions), (2, 2, 256 * KIB, unified),
        (2, 1, 96 * KIB, data), (2, 2, 12288 * KIB, unified), (2, 3, 65536 * KIB, unified),
    )  # fmt: skip
    listed = cpu.read_windows_caches(kernel32=kernel32)
    assert listed == ([96 * KIB, 32 * KIB], [12288 * KIB, 256 * KIB])
    assert cpu.measure_caches("win32", windows=lambda: listed) == (96 * KIB, 12288 * KIB)
    for silent in (FakeLibc(), processor_information(), processor_information((2, 1, 1, 2), works=False)):
        assert cpu.read_windows_caches(kernel32=silent) == ([], [])
    assert cpu.measure_caches("win32", windows=lambda: ([], [])) == cpu.DEFAULT_CACHES


def test_cache_sizes_of_this_machine(fresh):
    l1d, l2 = cpu.caches()
    assert l1d in cpu.PLAUSIBLE_L1D
    assert l2 in cpu.PLAUSIBLE_L2


def test_unknown_sysconf_name_is_zero():
    assert cpu.read_sysconf("SC_THERE_IS_NO_SUCH_NAME") == 0
