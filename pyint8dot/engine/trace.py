"""What native code takes its time for: programs run record by record, each timed, while somebody looks.

A record is one entry of the library, so its time is that of a product, of packing, of an epilogue or of another function.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import time
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.engine import builtin, elementwise, kernels, library, scaled_rows
from pyint8dot.engine.library import address
from pyint8dot.engine.program import RECORDS, SCRATCH, STACK_SCRATCH, WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["NATIVE", "Recorder", "recording"]

#: The kinds of native work.
NATIVE = PRODUCT, PACKING, EPILOGUE, OTHER = "product", "packing", "epilogue", "other native"

#: Bytes of a head and of a record.
PIECE = 8 * WORDS

_EPILOGUE = {"requantize", "dequantize", "q_scale", "add_outer", "column_start", "column_scale"}


def kind(entry: str) -> str:
    """The kind of work that an entry does."""
    products = {
        name
        for kernel in kernels.KERNELS.values()
        for name in (kernel.name, kernel.planes, *(few.name for few in kernel.few))
    }
    if entry in products or entry.startswith("depthwise"):
        return PRODUCT
    if entry.startswith(("pack_", "gather_", "interleave_")) or entry == "copy_planes":
        return PACKING
    return EPILOGUE if entry in _EPILOGUE else OTHER


class Recorder:
    """Takes the place of the entry `run`: the same results, and the time of each entry.

    Attributes
    ----------
    seconds : dict of str to float
        Time in native code, by kind of work.
    spent : float
        Time in all calls of this object, which is more.
    """

    def __init__(self, run: Callable[[bytes], int], addresses: dict[str, int]) -> None:
        self._run = run
        self._kinds = {at: kind(entry) for entry, at in addresses.items()}
        self._scratch = np.empty(STACK_SCRATCH + 64, np.int8)
        self.seconds: dict[str, float] = dict.fromkeys(NATIVE, 0.0)
        self.spent = 0.0

    def __call__(self, program: bytes) -> int:
        """Run a program and return its status."""
        began = time.perf_counter()
        status = 0
        lying = struct.unpack_from("q", program, 8 * RECORDS)[0]
        # Behind the head, or where it says.
        at = lying or address(np.frombuffer(program, np.int8)) + PIECE
        head = self._head(program)
        while not status and (entry := ctypes.c_int64.from_address(at).value):
            # A record behind the same head, and the zero that ends a program.
            piece = head + ctypes.string_at(at, PIECE) + bytes(8)
            before = time.perf_counter()
            status = self._run(piece)
            self.seconds[self._kinds[entry]] += time.perf_counter() - before
            at += PIECE
        self.spent += time.perf_counter() - began
        return status

    def _head(self, program: bytes) -> bytes:
        """The head of a program; what records leave for each other on the stack lies elsewhere, since each has its own stack."""
        words = bytearray(program[:PIECE])
        struct.pack_into("q", words, 8 * RECORDS, 0)
        if not struct.unpack_from("q", words, 8 * SCRATCH.number)[0]:
            struct.pack_into("q", words, 8 * SCRATCH.number, -(-address(self._scratch) // 64) * 64)
        return bytes(words)


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """Time native code inside a ``with`` block, for plans that are made there and used by one thread.

    Yields
    ------
    Recorder
        Without a library one that stays empty.
    """
    if library.status() is not None:
        yield Recorder(lambda _: 0, {})
        return
    loaded, before = library.load(), os.environ.get(builtin.BUILTIN_VARIABLE)
    plain = loaded.run
    recorder = Recorder(plain, loaded.addresses)
    # The builtin calls native code past it.
    os.environ[builtin.BUILTIN_VARIABLE] = "0"
    loaded.run = recorder
    _forget()
    try:
        yield recorder
    finally:
        loaded.run = plain
        if before is None:
            del os.environ[builtin.BUILTIN_VARIABLE]
        else:
            os.environ[builtin.BUILTIN_VARIABLE] = before
        _forget()


def _forget() -> None:
    """Drop the programs that hold a way to call native code."""
    builtin.quick.cache_clear()
    elementwise.forget()
    scaled_rows.forget()
