"""What this processor can do: its instruction-set features, which cores it has, and the sizes of their caches.

Nothing here raises: a question the system does not answer is answered with "no", or with a cautious
default.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import struct
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["caches", "cores", "features", "is_aarch64"]

AT_HWCAP = 16
AT_HWCAP2 = 26

# Name of a feature, the auxiliary vector entry that announces it, its bit there (Linux,
# asm/hwcap.h).
HWCAP_BITS = (
    ("asimd", AT_HWCAP, 1),
    ("dotprod", AT_HWCAP, 20),
    ("i8mm", AT_HWCAP2, 13),
)

# Name of a feature and the sysctl that announces it (macOS 12 and later).
SYSCTL_NAMES = (
    ("dotprod", "hw.optional.arm.FEAT_DotProd"),
    ("i8mm", "hw.optional.arm.FEAT_I8MM"),
)

# Cores by what identifies them, implementer and part: those a kernel asks for, and those worth a name.
CORES = {
    (0x41, 0xD03): "cortex-a53",
    (0x41, 0xD05): "cortex-a55",
    (0x41, 0xD08): "cortex-a72",
    (0x41, 0xD0B): "cortex-a76",
    (0x41, 0xD0C): "neoverse-n1",
    (0x41, 0xD40): "neoverse-v1",
    (0x41, 0xD46): "cortex-a510",
    (0x41, 0xD49): "neoverse-n2",
    (0x41, 0xD4F): "neoverse-v2",
    (0x41, 0xD80): "cortex-a520",
}
UNKNOWN_CORE = "unknown"

# Name of a feature and what Windows calls it by (PF_ARM_V82_..._INSTRUCTIONS_AVAILABLE of winnt.h).
WINDOWS_FEATURES = (
    ("dotprod", 43),
    ("i8mm", 66),
)

# FreeBSD has the bits of Linux; the first word has another number there, the second the same.
FREEBSD_AT_HWCAP = 25

DEFAULT_CACHES = (32 * 1024, 512 * 1024)
# Sizes outside these bounds are taken for a system that does not know, as virtual machines and
# emulators often do not.
PLAUSIBLE_L1D = range(4 * 1024, 1024 * 1024 + 1)
PLAUSIBLE_L2 = range(64 * 1024, 256 * 1024 * 1024 + 1)
CPU_DIRECTORY = Path("/sys/devices/system/cpu")
CACHE_DIRECTORY = CPU_DIRECTORY / "cpu0" / "cache"
CPUINFO = Path("/proc/cpuinfo")

# A cache is one sort of the records of GetLogicalProcessorInformation, which begin alike.
WINDOWS_RECORD = struct.Struct("<QI4xBBHII4x")  # processors, what it is; of a cache level, ways, line, bytes, type
WINDOWS_CACHE = 2
WINDOWS_INSTRUCTIONS = 1

Sysctl = Callable[[str], int]
Auxval = Callable[[int], int]


@functools.cache
def features() -> frozenset[str]:
    """Names of the instruction-set features this process may use.

    Returns
    -------
    frozenset of str
        Some of ``"asimd"``, ``"dotprod"`` and ``"i8mm"``; empty where this is not a 64-bit Arm
        process.

    Examples
    --------
    >>> features() <= {"asimd", "dotprod", "i8mm"}
    True
    """
    if not is_aarch64():
        return frozenset()
    return detect(sys.platform)


@functools.cache
def cores() -> frozenset[str]:
    """Names of the cores this process may run on.

    Returns
    -------
    frozenset of str
        Such as ``"cortex-a55"``, more than one where there are big and little cores. A core without a
        name here is its implementer and part, as ``"0x61-0x022"``, and ``"unknown"`` where the system
        does not say. Empty where nobody needs to know: off Linux no kernel is made for some cores only.

    Examples
    --------
    >>> all(isinstance(name, str) for name in cores())
    True
    """
    if not is_aarch64():
        return frozenset()
    return identify_cores(sys.platform)


@functools.cache
def caches() -> tuple[int, int]:
    """Sizes in bytes of the first-level data cache and of the second-level cache of one core.

    Returns
    -------
    tuple of int
        ``(l1d, l2)``. What the system does not say, or says absurdly, is 32 KiB and 512 KiB.
    """
    return measure_caches(sys.platform)


def is_aarch64() -> bool:
    """Tell whether this is a 64-bit little-endian Arm process; a 32-bit Python on a 64-bit kernel is not."""
    if sys.platform == "win32":
        # Windows names the machine even to the process of another one that it emulates.
        return sysconfig.get_platform() == "win-arm64"
    return platform.machine().lower() in ("aarch64", "arm64") and sys.maxsize > 2**32 and sys.byteorder == "little"


def detect(
    system: str,
    *,
    auxval: Auxval | None = None,
    sysctl: Sysctl | None = None,
    present: Callable[[int], bool] | None = None,
) -> frozenset[str]:
    """Features of an AArch64 machine under the operating system `system`, spelled as `sys.platform`.

    `auxval`, `sysctl` and `present` stand in for the system's own answers in tests.
    """
    # Advanced SIMD is part of every AArch64 system that runs Python, so it needs no announcement.
    found = {"asimd"}
    if system in ("linux", "android"):
        ask = auxval or read_auxval
        words = {entry: ask(entry) for entry in (AT_HWCAP, AT_HWCAP2)}
        found.update(name for name, entry, bit in HWCAP_BITS if words[entry] >> bit & 1)
    elif system.startswith("freebsd"):
        ask = auxval or read_elf_aux_info
        words = {AT_HWCAP: ask(FREEBSD_AT_HWCAP), AT_HWCAP2: ask(AT_HWCAP2)}
        found.update(name for name, entry, bit in HWCAP_BITS if words[entry] >> bit & 1)
    elif system == "darwin":
        read = sysctl or read_sysctl
        found.update(name for name, key in SYSCTL_NAMES if read(key) == 1)
    elif system == "win32":
        has = present or read_processor_feature
        found.update(name for name, number in WINDOWS_FEATURES if has(number))
    return frozenset(found)


def read_auxval(entry: int, *, libc: Any = None, auxv: Path = Path("/proc/self/auxv")) -> int:
    """Value of one entry of the auxiliary vector, 0 where there is none.

    glibc (2.16) and musl (1.1) both export getauxval to the whole process; the file serves what
    does neither.
    """
    try:
        getauxval = (libc or ctypes.CDLL(None)).getauxval
    except (AttributeError, OSError, TypeError):
        return read_auxv_file(auxv).get(entry, 0)
    getauxval.argtypes = (ctypes.c_ulong,)
    getauxval.restype = ctypes.c_ulong
    return int(getauxval(entry))


def read_elf_aux_info(entry: int, *, libc: Any = None) -> int:
    """Value of one entry of FreeBSD's auxiliary vector, 0 where there is none."""
    try:
        elf_aux_info = (libc or ctypes.CDLL(None)).elf_aux_info
    except (AttributeError, OSError, TypeError):
        return 0
    elf_aux_info.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    elf_aux_info.restype = ctypes.c_int
    value = ctypes.c_ulong(0)
    if elf_aux_info(entry, ctypes.byref(value), ctypes.sizeof(value)) != 0:
        return 0
    return int(value.value)


def read_processor_feature(number: int, *, kernel32: Any = None) -> bool:
    """Whether Windows announces a feature of the processor; no where it cannot be asked."""
    try:
        is_present = (kernel32 or ctypes.CDLL("kernel32")).IsProcessorFeaturePresent
    except (AttributeError, OSError):
        return False
    is_present.argtypes = (ctypes.c_uint32,)
    is_present.restype = ctypes.c_int
    return bool(is_present(number))


def read_windows_caches(*, kernel32: Any = None) -> tuple[list[int], list[int]]:
    """Bytes of the first- and second-level caches for data that Windows lists, the largest first."""
    found: tuple[list[int], list[int]] = [], []
    try:
        tell = (kernel32 or ctypes.CDLL("kernel32")).GetLogicalProcessorInformation
    except (AttributeError, OSError):
        return found
    tell.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    tell.restype = ctypes.c_int
    # Asked without memory it says how much it wants.
    size = ctypes.c_uint32(0)
    tell(None, ctypes.byref(size))
    records = ctypes.create_string_buffer(size.value)
    if not tell(records, ctypes.byref(size)):
        return found
    whole = min(size.value, len(records)) // WINDOWS_RECORD.size * WINDOWS_RECORD.size
    for _, what, level, _, _, count, kind in WINDOWS_RECORD.iter_unpack(records.raw[:whole]):
        if what == WINDOWS_CACHE and kind != WINDOWS_INSTRUCTIONS and level in (1, 2):
            found[level - 1].append(count)
    return sorted(found[0], reverse=True), sorted(found[1], reverse=True)


def read_auxv_file(path: Path) -> Mapping[int, int]:
    """Entries of an auxiliary vector stored as pairs of 64-bit words; empty when it cannot be read."""
    try:
        raw = path.read_bytes()
    except OSError:
        return {}
    return dict(struct.iter_unpack("=QQ", raw[: len(raw) // 16 * 16]))


def read_sysctl(name: str, *, libc: Any = None) -> int:
    """Integer value of a macOS sysctl of 4 or 8 bytes, 0 where there is none."""
    try:
        sysctlbyname = (libc or ctypes.CDLL(None)).sysctlbyname
    except (AttributeError, OSError, TypeError):
        return 0
    sysctlbyname.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    sysctlbyname.restype = ctypes.c_int
    # A 4-byte answer fills the low half of the zeroed word, so one buffer serves both widths on a
    # little-endian machine.
    value = ctypes.c_uint64(0)
    size = ctypes.c_size_t(ctypes.sizeof(value))
    if sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0) != 0:
        return 0
    return int(value.value)


def identify_cores(
    system: str,
    *,
    affinity: Callable[[], Iterable[int]] | None = None,
    directory: Path = CPU_DIRECTORY,
    cpuinfo: Path = CPUINFO,
) -> frozenset[str]:
    """Names of the cores of an AArch64 machine under `system`; the other arguments stand in for its answers in tests.

    What identifies a core is a register that tells of the core it is read on, so Linux lists it for all of them: below /sys
    since 4.7, and in /proc/cpuinfo, which alone is that of the emulated processor under qemu-user.
    """
    if system not in ("linux", "android"):
        return frozenset()
    found = {number: read_midr(directory / f"cpu{number}") for number in (affinity or read_affinity)()}
    if None in found.values():
        listed = read_cpuinfo_cores(cpuinfo)
        found = {number: core or listed.get(number) for number, core in found.items()}
    return frozenset(
        UNKNOWN_CORE if core is None else CORES.get(core, "{:#04x}-{:#05x}".format(*core)) for core in found.values()
    )


def read_affinity() -> Iterable[int]:
    """Numbers of the processors that this process may run on, none where the system does not say."""
    try:
        return os.sched_getaffinity(0)
    except (AttributeError, OSError):
        return ()


def read_midr(directory: Path) -> tuple[int, int] | None:
    """Implementer and part of one processor, from the folder that Linux keeps of it below /sys."""
    try:
        midr = int((directory / "regs" / "identification" / "midr_el1").read_text(), 16)
    except (OSError, ValueError):
        return None
    return midr >> 24 & 0xFF, midr >> 4 & 0xFFF


def read_cpuinfo_cores(path: Path) -> dict[int, tuple[int, int]]:
    """Implementer and part of each processor that /proc/cpuinfo lists so; a paragraph is a processor."""
    try:
        paragraphs = path.read_text(errors="replace").split("\n\n")
    except OSError:
        return {}
    pattern = r"^processor\s*: (\d+)$.*^CPU implementer\s*: (0x[0-9a-f]+)$.*^CPU part\s*: (0x[0-9a-f]+)$"
    found = (re.search(pattern, paragraph, re.MULTILINE | re.DOTALL) for paragraph in paragraphs)
    return {int(match[1]): (int(match[2], 16), int(match[3], 16)) for match in found if match}


def measure_caches(
    system: str,
    *,
    sysctl: Sysctl | None = None,
    sysconf: Callable[[str], int] | None = None,
    directory: Path = CACHE_DIRECTORY,
    windows: Callable[[], tuple[list[int], list[int]]] | None = None,
) -> tuple[int, int]:
    """Cache sizes under the operating system `system`; the other arguments stand in for its answers in tests."""
    l1d: list[int] = []
    l2: list[int] = []
    if system == "darwin":
        read = sysctl or read_sysctl
        # perflevel0 are the performance cores; the plain names describe the efficiency cores on
        # Apple silicon.
        l1d = [read("hw.perflevel0.l1dcachesize"), read("hw.l1dcachesize")]
        l2 = [read("hw.perflevel0.l2cachesize"), read("hw.l2cachesize")]
    elif system == "win32":
        # The largest are those of the fastest cores, where there are several kinds.
        l1d, l2 = (windows or read_windows_caches)()
    else:
        ask = sysconf or read_sysconf
        listed = read_cache_directory(directory)
        l1d = [ask("SC_LEVEL1_DCACHE_SIZE"), listed.get(1, 0)]
        l2 = [ask("SC_LEVEL2_CACHE_SIZE"), listed.get(2, 0)]
    return (
        next((size for size in l1d if size in PLAUSIBLE_L1D), DEFAULT_CACHES[0]),
        next((size for size in l2 if size in PLAUSIBLE_L2), DEFAULT_CACHES[1]),
    )


def read_sysconf(name: str) -> int:
    """Value of a sysconf variable, 0 where the system does not know it."""
    try:
        return os.sysconf(name)
    except (AttributeError, OSError, ValueError):
        return 0


def read_cache_directory(directory: Path) -> dict[int, int]:
    """Bytes of the data or unified cache of each level, as Linux lists them below /sys."""
    listed = (read_cache_index(index) for index in sorted(directory.glob("index*")))
    return dict(entry for entry in listed if entry is not None)


def read_cache_index(index: Path) -> tuple[int, int] | None:
    """Level and bytes of one listed cache; None for an instruction cache or an unreadable entry."""
    try:
        if (index / "type").read_text().strip() == "Instruction":
            return None
        level = int((index / "level").read_text())
        size = (index / "size").read_text().strip()
        return level, int(size.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(size[-1:], 0)
    except (OSError, ValueError):
        return None
