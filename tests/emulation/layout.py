"""Where things lie under ``.arm64/``, what this machine is, and the CPU models it can emulate."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
HOME = CHECKOUT / ".arm64"
HOST = HOME / "host"  # a virtual environment of this machine's own Python
PYTHON = HOME / "bin" / "python"  # the interpreter everything else uses
ROOT = HOME / "root"  # the AArch64 userland, unpacked, never installed
SITE = HOME / "site"  # the AArch64 wheels
CPUS = HOME / "cpu"  # one `qemu -L` folder a CPU model
TOOLS = HOME / "tools"  # programs of this machine that the system has not
SPHINX = HOME / "sphinx"  # what `make docs` needs beside HOST
LLVM = HOME / "llvm"  # the disassembler and the simulator of `make cycles`
HOST_PYTHON = HOST / "bin" / "python"


class Model(NamedTuple):
    """A CPU model: how runs and counts call it, how qemu does, and what it has of the features that kernels need."""

    name: str
    cpu: str  # the value of QEMU_CPU; up to its first comma it names the folder in CPUS
    features: frozenset[str]


# From the weakest to the strongest: each kernel is counted on the first that has all it needs. SVE and SME are of no use to
# our kernels but to numpy's BLAS; without them the third is a processor that has int8 matrix products and nothing more.
MODELS = (
    Model("cortex-a72", "cortex-a72", frozenset({"asimd"})),
    Model("neoverse-n1", "neoverse-n1", frozenset({"asimd", "dotprod"})),
    Model("i8mm", "max,sve=off,sme=off", frozenset({"asimd", "dotprod", "i8mm"})),
    Model("max", "max", frozenset({"asimd", "dotprod", "i8mm"})),
)

# What the folders in CPUS show: HWCAP names as the kernel prints them, and the identification register's variant, part,
# revision.
_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_DOTPROD = f"{_BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
SHOWN: dict[str, tuple[str, int, int, int]] = {
    "cortex-a72": (_BASE, 0, 0xD08, 3),
    "neoverse-n1": (_DOTPROD, 3, 0xD0C, 1),
    "max": (f"{_DOTPROD} sve sve2 i8mm bf16", 0, 0xD4F, 1),
}
# Level, type and size of the caches a model shows; plausible, and the same on every host.
CACHES = ((1, "Data", "32K"), (1, "Instruction", "48K"), (2, "Unified", "1024K"))
# The LLVM whose models of cores cycles go by: another one has other models, and other goldens.
LLVM_VERSION = "19"
# Raise to make existing set-ups fetch the newest wheels again.
WHEEL_REVISION = 1


def distribution() -> str:
    """Return the short name of this machine's Linux distribution."""
    try:
        return platform.freedesktop_os_release()["ID"]
    except OSError:
        return ""


def kind() -> str:
    """Return "native" on an Arm host, "emulated" on x86-64 Debian, else "portable".

    Distributions derived from Debian keep their AArch64 packages elsewhere than those of x86-64.
    """
    if platform.machine() in ("aarch64", "arm64") and sys.platform in ("linux", "darwin"):
        return "native"
    if sys.platform == "linux" and platform.machine() == "x86_64" and distribution() == "debian":
        return "emulated"
    return "portable"


def tool(name: str) -> str | None:
    """Return the path of a host program, from the system or from what set-up fetched."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{TOOLS / 'bin'}")
