"""What set-up leaves out of what it has fetched, and what it keeps only once: nothing here reads the rest."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

#: In an unpacked cross compiler and qemu: no sanitisers, no optimisation while linking, no other machine than AArch64.
TOOLS = (
    "usr/share/*",
    "usr/bin/*-lto-dump*", "usr/bin/*-dwp", "usr/bin/*-gcov*",
    "usr/lib/gcc-cross/*/*/lto1", "usr/lib/gcc-cross/*/*/lib*san*", "usr/aarch64-linux-gnu/lib/lib*san*",
    "usr/bin/qemu-[!a]*", "usr/bin/qemu-a[!a]*", "usr/bin/qemu-aarch64_be",
)  # fmt: skip
#: In an unpacked system.
USERLAND = ("usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/zoneinfo", "usr/share/info")
#: Among Python packages: the suites that come with them, and of zig what it needs for C++ and systems that nothing is made for.
PACKAGES = (
    "*/tests", "*/*/tests", "*/*/*/tests",
    "mypyc",
    "ziglang/doc", "ziglang/lib/libcxx*", "ziglang/lib/libtsan", "ziglang/lib/libc/mingw", "ziglang/lib/libc/wasi",
    "ziglang/lib/libc/glibc", "ziglang/lib/libc/freebsd", "ziglang/lib/libc/netbsd", "ziglang/lib/libc/openbsd",
    "ziglang/lib/libc/include/*bsd*", "ziglang/lib/libc/include/*windows*", "ziglang/lib/libc/include/*glibc*",
    "ziglang/lib/libc/include/*-linux-gnu*", "ziglang/lib/libc/include/*wasi*",
)  # fmt: skip
#: Of the libraries that LLVM's programs need, and of LLVM once these are out of the way: nothing that is no library.
LIBRARIES = ("etc", "sbin", "usr/bin", "usr/sbin", "usr/include", "usr/share", "usr/lib/llvm-*", "var")
#: Files from this size on are worth a look whether another package has the same.
LEAST = 4096


def drop(folder: Path, patterns: tuple[str, ...]) -> None:
    """Remove what the patterns find in a folder; what they do not find harms nothing."""
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def share(folder: Path, other: Path) -> None:
    """Make those files of a folder that another one has in the same place, byte for byte, links to the same contents.

    Packages of Python alone, and models, are the same for this machine and for the emulated one.
    """
    for path in folder.rglob("*"):
        twin = other / path.relative_to(folder)
        if path.is_symlink() or not path.is_file() or not twin.is_file() or path.stat().st_size < LEAST:
            continue
        if path.samefile(twin) or not filecmp.cmp(path, twin, shallow=False):
            continue
        # Linked beside its place and renamed in: whoever is interrupted has the one or the other.
        part = path.with_name(path.name + ".part")
        os.link(twin, part)
        part.replace(path)
