"""What a measurement has to say of the machine it was made on, and whether that machine is real."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import pyint8dot
from pyint8dot.engine import cpu, dispatch

__all__ = ["NOTHING_PROVED", "describe", "emulation", "lines"]

NOTHING_PROVED = "Wall-clock under emulation proves nothing about any processor; count instructions there instead."

PACKAGES = ("numpy", "numkong", "onnx", "onnxruntime", "torch", "threadpoolctl")
# What decides how many threads numpy's BLAS and this package start with.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def read_cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Return the first entry of each name in Linux's list of processors; nothing where there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def emulation(environment: Mapping[str, str], cpuinfo: Mapping[str, str], aarch64: bool) -> str | None:
    """Say why this process seems to be emulated, or None where nothing tells so.

    Parameters
    ----------
    environment : mapping
        Environment variables.
    cpuinfo : mapping
        See `read_cpuinfo`.
    aarch64 : bool
        Whether this is an AArch64 process.

    Returns
    -------
    str or None
        An emulator can hide: None is no proof.

    Examples
    --------
    >>> emulation({"QEMU_CPU": "cortex-a76"}, {}, True)
    'QEMU_CPU=cortex-a76 is in the environment'
    """
    if not aarch64:
        return None
    if "QEMU_CPU" in environment:
        return f"QEMU_CPU={environment['QEMU_CPU']} is in the environment"
    if "vendor_id" in cpuinfo and "CPU implementer" not in cpuinfo:
        return f"this process is AArch64, but /proc/cpuinfo shows {cpuinfo.get('model name', cpuinfo['vendor_id'])}"
    return None


def describe() -> dict[str, Any]:
    """Tell machine, processor, versions, threads and load, as plain values."""
    cpuinfo = read_cpuinfo()
    info = dispatch.kernel_info()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(cpuinfo),
        "features": info["features"],
        "caches": info["caches"],
        "processors": usable,
        "load": load,
        "busy": None if load is None else busy(load[0], usable or 1),
        "emulated": emulation(os.environ, cpuinfo, cpu.is_aarch64()),
        "python": platform.python_version(),
        "pyint8dot": pyint8dot.__version__,
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "blas": _blas(),
        "threads": {name: os.environ.get(name) for name in THREAD_VARIABLES},
        "chosen": info["chosen"],
        "kernels": {name: row["why"] for name, row in info["kernels"].items()},
    }


def busy(load: float, processors: int) -> str | None:
    """Say that other programs leave no processor free, or None where they do.

    Parameters
    ----------
    load : float
        Programs that wanted to run in the last minute, on average.
    processors : int

    Returns
    -------
    str or None

    Examples
    --------
    >>> busy(3.5, 4)
    'a load of 3.5 on 4 processors leaves none free'
    """
    # A single processor always has some load; half of it is still free.
    if load <= max(processors - 1, 0.5):
        return None
    return f"a load of {load} on {processors} processor{'s' * (processors > 1)} leaves none free"


def lines(machine: Mapping[str, Any]) -> list[str]:
    """Return the description as lines to print."""
    named = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    set_threads = [f"{name}={value}" for name, value in machine["threads"].items() if value is not None]
    load = "" if machine["load"] is None else f", load {machine['load'][0]} at the start"
    where = f"{machine['processor']}, {machine['machine']}, {machine['system']}"
    text = [
        f"Machine: {where}, {machine['processors']} processors{load}",
        f"Features: {', '.join(machine['features']) or 'none that a native kernel uses'}",
        f"Software: Python {machine['python']}, pyint8dot {machine['pyint8dot']}, {named}, BLAS {machine['blas']}",
        f"Threads: {', '.join(set_threads) or 'no environment variable sets them'}",
    ]
    text += [f"Kernel {name}: {why}" for name, why in machine["kernels"].items()]
    if machine["busy"]:
        text.append(
            f"BUSY: {machine['busy']}. The figures are lower than those of an idle machine; look at the best calls."
        )
    if machine["emulated"]:
        text.append(f"EMULATED: {machine['emulated']}. {NOTHING_PROVED}")
    return text


def _processor(cpuinfo: Mapping[str, str]) -> str:
    if "model name" in cpuinfo:
        return cpuinfo["model name"]
    if "CPU part" in cpuinfo:
        return f"CPU implementer {cpuinfo.get('CPU implementer', '?')}, part {cpuinfo['CPU part']}"
    return platform.processor() or "unknown processor"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _blas() -> str:
    config: Any = np.show_config(mode="dicts")
    found = config.get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()
