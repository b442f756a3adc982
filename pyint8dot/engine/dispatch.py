"""The choice among the kernels: by what the user asked for, by the machine, and never by the shape.

Every kernel computes a whole two-dimensional product, so one with one row or one column runs on the same kernel as any
other. Of a machine its features count first, then the cores that this process may run on, then the order of the table.

Environment variables and cores are read once, when the first choice is made, like numpy's own switches: a look at the
environment costs more than a small product. Set them before the program starts.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
import warnings
from typing import TYPE_CHECKING, Any

from pyint8dot.engine import cpu, library, settings
from pyint8dot.engine.kernels import KERNELS, PORTABLE, Kernel
from pyint8dot.errors import KernelError, listing
from pyint8dot.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

__all__ = ["kernel_info", "select", "supported", "use_kernel", "why_not"]

KERNEL_VARIABLE = "PYINT8DOT_KERNEL"
DOTPROD_VARIABLE = "TRACT_DOTPROD_DISABLE"

#: What every 64-bit Arm has.
BASELINE = frozenset({"asimd"})


def select(name: str | None = None) -> Kernel:
    """Choose the kernel for a product of any shape.

    The first of these that says something decides: `name`, an enclosing `use_kernel`, the
    environment variable ``PYINT8DOT_KERNEL``, and last the best kernel this machine runs, leaving
    out those made for other cores, and those beyond the Armv8.0 baseline where
    ``TRACT_DOTPROD_DISABLE`` is 1.

    Parameters
    ----------
    name : str, optional
        Name of a kernel.

    Returns
    -------
    Kernel

    Raises
    ------
    KernelError
        The name, or the one in the environment, is unknown or cannot run here.

    Examples
    --------
    >>> select("portable").name
    'portable'
    """
    if name is not None:
        return _named(name)
    forced = settings.current().kernel
    return KERNELS[forced] if forced is not None else default()


@functools.cache
def default() -> Kernel:
    """Choose the kernel for products that nothing else decides about: see `select`.

    Where that is a slow one for want of the native library, it is said, once.
    """
    kernel = _default()[0]
    why = library.status()
    if why and not kernel.native and cpu.is_aarch64() and not os.environ.get(KERNEL_VARIABLE, "").strip():
        warnings.warn(
            f"products run many times slower than on this processor's own kernels: {why}", RuntimeWarning, _caller()
        )
    return kernel


def _caller() -> int:
    """How far above the function that warns the first frame outside the package is."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "pyint8dot":
        level, frame = level + 1, frame.f_back
    return level


def use_kernel(name: str) -> AbstractContextManager[Kernel]:
    """Run the products inside a ``with`` block on the kernel `name`.

    The choice belongs to the current thread and the current asynchronous task; other threads do not
    see it, and blocks may be nested.

    Parameters
    ----------
    name : str
        Name of a kernel; see `supported`.

    Returns
    -------
    context manager
        Entering it gives the `Kernel`.

    Raises
    ------
    KernelError
        The name is unknown, or this machine cannot run the kernel.

    Examples
    --------
    >>> with use_kernel("portable") as kernel:
    ...     select() is kernel
    True
    """
    return _force(_named(name))


@contextlib.contextmanager
def _force(kernel: Kernel) -> Iterator[Kernel]:
    with settings.within(kernel=kernel.name):
        yield kernel


@functools.cache
def supported() -> tuple[str, ...]:
    """Names of the kernels this machine runs, best first; the last is always ``"portable"``."""
    return ranked(cpu.features(), cpu.cores(), library.status())


def ranked(features: frozenset[str], cores: frozenset[str], library_status: str | None) -> tuple[str, ...]:
    """Names of the kernels that a machine runs, best first: those made for other `cores` only before the portable one."""
    running = [kernel for kernel in KERNELS.values() if obstacle(kernel, features, library_status) is None]
    return tuple(
        kernel.name
        for kernel in sorted(running, key=lambda kernel: (kernel.name == PORTABLE, not suits(kernel, cores)))
    )


def why_not(kernel: Kernel) -> str | None:
    """Why this machine cannot run `kernel`, or None where it can."""
    return obstacle(kernel, cpu.features(), library.status())


def obstacle(kernel: Kernel, features: frozenset[str], library_status: str | None) -> str | None:
    """Why a machine with these `features` and this state of the native library cannot run `kernel`."""
    if not kernel.native:
        return None
    if "asimd" not in features:
        return f"it is AArch64 code and this process runs on {platform.machine() or 'an unknown machine'}"
    lacking = sorted(kernel.features - features)
    if lacking:
        return f"this processor has no {' and no '.join(lacking)}"
    return library_status


def suits(kernel: Kernel, cores: frozenset[str]) -> bool:
    """Whether `kernel` suits every one of these `cores`; none at all are cores that nothing is known of."""
    return not kernel.cores or (bool(cores) and cores <= kernel.cores)


def reservation(kernel: Kernel, cores: frozenset[str], environment: Mapping[str, str]) -> str | None:
    """Why a kernel that runs on these `cores` is chosen only where it is asked for, or None where it need not be."""
    # The switch serves to compare with the baseline on one machine, so every kernel beyond the baseline goes.
    if _baseline_only(environment) and not kernel.features <= BASELINE:
        return f"{DOTPROD_VARIABLE} leaves it out"
    if not suits(kernel, cores):
        may = f"this process may run on {listing(sorted(cores))}" if cores else "the system does not name its cores"
        return f"it is made for {listing(sorted(kernel.cores))}, and {may}"
    return None


def choose(
    candidates: tuple[str, ...], environment: Mapping[str, str], cores: frozenset[str] = frozenset()
) -> tuple[Kernel, str]:
    """Pick one of the runnable `candidates` (best first) as the `environment` and the `cores` wish; also say why.

    Raises
    ------
    KernelError
        ``PYINT8DOT_KERNEL`` names a kernel that is not among the candidates.
    """
    wanted = environment.get(KERNEL_VARIABLE, "").strip()
    if wanted:
        if wanted not in candidates:
            raise KernelError(f"the environment variable {KERNEL_VARIABLE} asks for {_refusal(wanted, candidates)}")
        return KERNELS[wanted], f"the environment variable {KERNEL_VARIABLE} asks for it"
    kernel = next(KERNELS[name] for name in candidates if reservation(KERNELS[name], cores, environment) is None)
    best = f"that {DOTPROD_VARIABLE} leaves" if _baseline_only(environment) else "that runs on this machine"
    made_for = f", made for its cores: {listing(sorted(cores))}" if kernel.cores else ""
    return kernel, f"it is the best kernel {best}{made_for}"


def _baseline_only(environment: Mapping[str, str]) -> bool:
    return environment.get(DOTPROD_VARIABLE, "").strip() not in ("", "0")


@functools.cache
def _default() -> tuple[Kernel, str]:
    return choose(supported(), os.environ, cpu.cores())


def _named(name: str) -> Kernel:
    if not isinstance(name, str):
        raise TypeError(f"kernel must be the name of a kernel (str), got {type(name).__name__}")
    found = KERNELS.get(name)
    candidates = supported()
    if found is None or name not in candidates:
        raise KernelError(f"kernel= asks for {_refusal(name, candidates)}")
    return found


def _refusal(name: str, candidates: tuple[str, ...]) -> str:
    kernel = KERNELS.get(name)
    reason = "there is no such kernel" if kernel is None else why_not(kernel) or "it does not run here"
    return f"{name!r}, but {reason}; this machine runs {listing(candidates)}"


def kernel_info() -> dict[str, Any]:
    """Tell which kernels exist, which run here, which one is chosen, and why it and not one before it.

    Returns
    -------
    dict
        Plain values only, ready for `json.dumps`. ``chosen`` is None where the environment asks for
        a kernel that does not run here; ``why`` then holds the error. ``cores`` names the cores
        this process may run on; it is empty where the system does not tell.

    Examples
    --------
    >>> info = kernel_info()
    >>> info["kernels"]["portable"]["runs"]
    True
    """
    forced = settings.current().kernel
    chosen: str | None
    try:
        kernel, why = (KERNELS[forced], "use_kernel() asks for it") if forced is not None else _default()
        chosen = kernel.name
    except KernelError as error:
        chosen, why = None, str(error)
    l1d, l2 = cpu.caches()
    return {
        "version": __version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "features": sorted(cpu.features()),
        "cores": sorted(cpu.cores()),
        "caches": {"l1d": l1d, "l2": l2},
        "library": {
            "path": str(library.path()),
            "loaded": library.status() is None,
            "why": library.status() or "loaded",
        },
        "environment": {name: os.environ.get(name) for name in (KERNEL_VARIABLE, DOTPROD_VARIABLE)},
        "chosen": chosen,
        "why": why,
        "kernels": {kernel.name: _row(kernel) for kernel in KERNELS.values()},
    }


def _row(kernel: Kernel) -> dict[str, Any]:
    obstacle = why_not(kernel)
    only_asked = reservation(kernel, cpu.cores(), os.environ)
    return {
        "runs": obstacle is None,
        "why": obstacle or ("it runs here" + (f", but only where it is asked for: {only_asked}" if only_asked else "")),
        "tile": [kernel.mr, kernel.nr],
        "layouts": {"left": kernel.left.name, "right": kernel.right.name},
        "k_group": kernel.right.kr,
        "exact_k": kernel.bound,
        "features": sorted(kernel.features),
        "cores": sorted(kernel.cores),
        "summary": kernel.summary,
    }
