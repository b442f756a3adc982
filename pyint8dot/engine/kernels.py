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
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyint8dot.engine import cpu, layouts, library, settings
from pyint8dot.errors import KernelError, listing
from pyint8dot.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from pyint8dot.engine.layouts import Layout

__all__ = ["KERNELS", "Kernel", "enter", "kernel_info", "select", "supported", "use_kernel", "why_not"]

KERNEL_VARIABLE = "PYINT8DOT_KERNEL"
DOTPROD_VARIABLE = "TRACT_DOTPROD_DISABLE"

#: The kernel that needs nothing, which every machine runs.
PORTABLE = "portable"

#: What every 64-bit Arm has.
BASELINE = frozenset({"asimd"})

#: 131072 products of -128 x -128 are 2**31, the first that int32 does not hold.
EXACT_K = 131071


# Rows are compared by identity: hashing every field would cost each call more than packing a small operand.
@dataclass(frozen=True, eq=False)
class Kernel:
    """One row of the table: all there is to know about a kernel outside its assembly.

    Attributes
    ----------
    name : str
        Name of the kernel; for a native one also the stem of its file ``asm/<name>.S`` and of its
        entry.
    mr, nr : int
        Rows and columns of the tile of the product it computes at a time.
    left, right : Layout
        The packed layouts of its two operands. They name what packs them.
    features : frozenset of str
        The processor features it needs, none where it is not assembly.
    bound : int
        The largest K for which every int8 product is exact; beyond it sums wrap modulo 2**32.
    summary : str
        One line for people.
    few : tuple of Kernel
        Kernels that read the left operand as it lies and take the place of this one where a product has few columns.
    most_columns : int
        Of such a kernel: the most columns it is worth while for.
    least_rows : int
        Of such a kernel: the fewest rows it is worth while for.
    """

    name: str
    mr: int
    nr: int
    left: Layout
    right: Layout
    features: frozenset[str]
    summary: str
    bound: int = EXACT_K
    few: tuple[Kernel, ...] = ()
    most_columns: int = 0
    least_rows: int = 0

    def for_columns(self, n: int) -> Kernel:
        """The kernel itself, or the one that takes its place where there are only so many columns, however many rows."""
        for kernel in self.few:
            if n <= kernel.most_columns and not kernel.least_rows:
                return kernel
        return self

    def for_many_rows(self, n: int) -> Kernel | None:
        """The kernel that takes the place of this one where there are so few columns and many rows."""
        for kernel in self.few:
            if n <= kernel.most_columns and kernel.least_rows:
                return kernel
        return None

    @functools.cached_property
    def packs_left(self) -> bool:
        """Whether the kernel wants its left operand packed, rather than rows of any stride with K contiguous."""
        return self.left.native is not None

    @functools.cached_property
    def native(self) -> bool:
        """Whether the kernel is assembly in the native library."""
        return bool(self.features)


#: The kernels by name, best first; `enter` adds to them.
KERNELS: dict[str, Kernel] = {}


def enter(kernel: Kernel, *, before: str | None = None) -> None:
    """Add a row to the table, preferred to the kernel called `before` and all that follow it; last where there is no such name."""
    rows = list(KERNELS.items())
    at = list(KERNELS).index(before) if before is not None else len(rows)
    KERNELS.clear()
    KERNELS.update([*rows[:at], (kernel.name, kernel), *rows[at:]])
    if kernel.native:
        library.require(kernel.name, *(few.name for few in kernel.few))


def _eight_by_eight(name: str, family: type[Layout], feature: str, summary: str, few: tuple[Kernel, ...]) -> Kernel:
    """A kernel with tract's tile, whose operands are packed alike."""
    return Kernel(name, 8, 8, family(8, split=True), family(8), frozenset({feature}), summary, few=few)


def _few(name: str, feature: str, summary: str) -> Kernel:
    """A kernel for fewer columns than the others pad to: its rows lie as they are, its columns one after the other."""
    layout = layouts.PackedI8K16(1)
    return Kernel(name, 4, 1, layouts.RowMajor(), layout, frozenset({feature}), summary, most_columns=7)


enter(
    _eight_by_eight(
        "sdot_8x8",
        layouts.PackedI8K4,
        "dotprod",
        "SDOT: four products a lane, Armv8.2 with FEAT_DotProd",
        (
            _few("sdot_4x1", "dotprod", "SDOT along K, for few columns"),
            Kernel(
                "sdot_rows_8x8",
                8,
                8,
                layouts.RowMajor(),
                layouts.PackedI8K4(8),
                frozenset({"dotprod"}),
                "SDOT on rows as they lie, where packing them would cost more than it saves",
                most_columns=48,
                least_rows=64,
            ),
        ),
    )
)
enter(
    _eight_by_eight(
        "smlal_8x8",
        layouts.PackedFormat,
        "asimd",
        "SMLAL: widening multiplies, every AArch64",
        (_few("smull_4x1", "asimd", "SMULL and SADALP along K, for few columns"),),
    )
)
enter(
    Kernel(
        PORTABLE,
        1,
        1,
        layouts.RowMajor(),
        layouts.RowMajor(),
        frozenset(),
        "exact float32 BLAS in chunks of K, every machine",
    )
)


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
    lacking = sorted(kernel.features - features)
    if lacking:
        return f"this processor has no {' and no '.join(lacking)}"
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
    baseline = [name for name in candidates if KERNELS[name].features <= BASELINE]
    return KERNELS[baseline[0]], f"it is the best kernel that {DOTPROD_VARIABLE} leaves"


@functools.cache
def _default() -> tuple[Kernel, str]:
    return choose(supported(), os.environ)


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
        "version": __version__,
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
        "layouts": {"left": kernel.left.name, "right": kernel.right.name},
        "k_group": kernel.right.kr,
        "exact_k": kernel.bound,
        "features": sorted(kernel.features),
        "summary": kernel.summary,
    }
