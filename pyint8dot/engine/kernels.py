"""The table of kernels and the choice among them.

Every kernel computes a whole two-dimensional product, so the choice depends on the machine and on
what the user asked for and never on the shape: a product with one row or one column runs on the
same kernel as any other.

The environment variables are read once, when the first choice is made, like numpy's own switches: a
look at the environment costs more than a small product. Set them before the program starts.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyint8dot
from pyint8dot.engine import cpu, library, settings
from pyint8dot.errors import KernelError, listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

__all__ = ["KERNELS", "Kernel", "kernel_info", "select", "supported", "use_kernel", "why_not"]

KERNEL_VARIABLE = "PYINT8DOT_KERNEL"
DOTPROD_VARIABLE = "TRACT_DOTPROD_DISABLE"


# Rows are compared by identity: hashing every field would cost each call more than packing a small operand.
@dataclass(frozen=True, eq=False)
class Kernel:
    """One row of the table.

    Attributes
    ----------
    name : str
        Name of the kernel; for a native one also the stem of its file ``asm/<name>.S`` and of its
        entry.
    mr, nr : int
        Rows and columns of the tile of the product it computes at a time.
    kr : int
        How many values of one row lie next to each other in a packed operand; K is rounded up to
        it.
    packing : str
        The family of its packed layout: ``"PackedI8K4"``, ``"PackedFormat"`` or ``"RowMajor"``.
    feature : str
        The processor feature it needs, ``""`` for none.
    summary : str
        One line for people.
    """

    name: str
    mr: int
    nr: int
    kr: int
    packing: str
    feature: str
    summary: str

    @property
    def native(self) -> bool:
        """Whether the kernel is assembly in the native library."""
        return self.feature != ""

    @functools.cached_property
    def layout(self) -> str:
        """Name of the layout of its right operand, such as ``"PackedI8K4(8)"``."""
        return self.packing if self.packing == "RowMajor" else f"{self.packing}({self.nr})"


#: The kernels by name, best first.
KERNELS: Mapping[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        Kernel("sdot_8x8", 8, 8, 4, "PackedI8K4", "dotprod", "SDOT: four products a lane, Armv8.2 with FEAT_DotProd"),
        Kernel("smlal_8x8", 8, 8, 1, "PackedFormat", "asimd", "SMLAL: widening multiplies, every AArch64"),
        Kernel("portable", 1, 1, 1, "RowMajor", "", "exact float32 BLAS in chunks of K, every machine"),
    )
}


def select(name: str | None = None) -> Kernel:
    """Choose the kernel for a product of any shape.

    The first of these that says something decides: `name`, an enclosing `use_kernel`, the
    environment variable ``PYINT8DOT_KERNEL``, and last the best kernel this machine runs, leaving
    out those beyond the Armv8.0 baseline where ``TRACT_DOTPROD_DISABLE`` is 1.

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
    """Choose the kernel for products that nothing else decides about: see `select`."""
    return _default()[0]


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
    return tuple(name for name, kernel in KERNELS.items() if why_not(kernel) is None)


def why_not(kernel: Kernel) -> str | None:
    """Why this machine cannot run `kernel`, or None where it can."""
    return obstacle(kernel, cpu.features(), library.status())


def obstacle(kernel: Kernel, features: frozenset[str], library_status: str | None) -> str | None:
    """Why a machine with these `features` and this state of the native library cannot run `kernel`."""
    if not kernel.native:
        return None
    if "asimd" not in features:
        return f"it is AArch64 code and this process runs on {platform.machine() or 'an unknown machine'}"
    if kernel.feature not in features:
        return f"this processor has no {kernel.feature}"
    return library_status


def choose(candidates: tuple[str, ...], environment: Mapping[str, str]) -> tuple[Kernel, str]:
    """Pick one of the runnable `candidates` (best first) as the `environment` wishes; also say why.

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
    if environment.get(DOTPROD_VARIABLE, "").strip() in ("", "0"):
        return KERNELS[candidates[0]], "it is the best kernel that runs on this machine"
    # The switch serves to compare with the baseline on one machine, so every kernel beyond the baseline goes.
    baseline = [name for name in candidates if KERNELS[name].feature in ("", "asimd")]
    return KERNELS[baseline[0]], f"it is the best kernel that {DOTPROD_VARIABLE} leaves"


@functools.cache
def _default() -> tuple[Kernel, str]:
    return choose(supported(), os.environ)


def _named(name: str) -> Kernel:
    if not isinstance(name, str):
        raise TypeError(f"kernel must be the name of a kernel (str), got {type(name).__name__}")
    candidates = supported()
    if name not in candidates:
        raise KernelError(f"kernel= asks for {_refusal(name, candidates)}")
    return KERNELS[name]


def _refusal(name: str, candidates: tuple[str, ...]) -> str:
    kernel = KERNELS.get(name)
    reason = "there is no such kernel" if kernel is None else why_not(kernel) or "it does not run here"
    return f"{name!r}, but {reason}; this machine runs {listing(candidates)}"


def kernel_info() -> dict[str, Any]:
    """Tell which kernels exist, which run here, which one is chosen, and why.

    Returns
    -------
    dict
        Plain values only, ready for `json.dumps`. ``chosen`` is None where the environment asks for
        a kernel that does not run here; ``why`` then holds the error.

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
        "version": pyint8dot.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "features": sorted(cpu.features()),
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
    return {
        "runs": obstacle is None,
        "why": obstacle or "it runs here",
        "tile": [kernel.mr, kernel.nr],
        "k_group": kernel.kr,
        "packing": kernel.packing,
        "feature": kernel.feature or None,
        "summary": kernel.summary,
    }
