"""The entry ``run`` as a builtin function of CPython, which costs a fraction of a call through ctypes.

A builtin is made of the entry in `asm/run_builtin.S`. It finds the data, sizes and strides of arrays itself and counts a
reference, so it serves only an interpreter whose objects have been seen to look so; any other, and any process whose
environment says so, calls through ctypes, which gives the same results. There are two: one holds the interpreter's lock while it
runs, for the smallest programs, one lets other threads run meanwhile, as ctypes does.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import sys
import sysconfig
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine import library

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HELD_CYCLES", "Builtin", "Quick", "quick"]

BUILTIN_VARIABLE = "PYINT8DOT_BUILTIN"

#: Cycles that may pass while the interpreter's lock is held, on the widest cores: a microsecond there, ten at most on the usual ones,
#: no more than the call itself takes.
HELD_CYCLES = 1 << 12

# What asm/run_builtin.S knows of objects: where the bytes of a bytes object begin, and fields of an array.
BYTES, DATA, DIMENSIONS, STRIDES = 32, 16, 32, 40

METH_FASTCALL = 0x0080

library.require("run_builtin")


class Builtin(NamedTuple):
    """A builtin that runs a program's records on arrays, and what it returns where all is well."""

    run: Callable[..., Any]
    fine: Any


class Quick(NamedTuple):
    """The two builtins."""

    #: Holds the interpreter's lock.
    holding: Builtin
    #: Lets go of it.
    letting_go: Builtin


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef, of its stable interface."""

    _fields_ = (
        ("ml_name", ctypes.c_char_p),
        ("ml_meth", ctypes.c_void_p),
        ("ml_flags", ctypes.c_int),
        ("ml_doc", ctypes.c_char_p),
    )


def objects_known() -> bool:
    """Whether objects are seen to look as asm/run_builtin.S knows them."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    # Builds without the lock count references otherwise; debug builds have fields before the count.
    if sysconfig.get_config_var("Py_GIL_DISABLED") or hasattr(sys, "gettotalrefcount"):
        return False
    return _bytes_known() and _arrays_known()


def _bytes_known() -> bool:
    probe = bytes([7]) * 41 + bytes([9])
    held = [probe] * 5
    count = ctypes.c_int64.from_address(id(probe)).value & 0xFFFFFFFF
    # The question itself holds a reference, and newer interpreters none for a local variable.
    counted = len(held) < count <= sys.getrefcount(probe) <= count + 2
    return counted and ctypes.string_at(id(probe) + BYTES, len(probe)) == probe


def _arrays_known() -> bool:
    base = np.arange(60, dtype=np.int8).reshape(6, 10)
    probes = (base, base[1:, 2:], base[::-1, ::-3], base.T, np.zeros((0, 3), np.float32), np.zeros((1, 1), np.int32))
    return all(map(_array_known, probes))


def _array_known(probe: np.ndarray[Any, Any]) -> bool:
    data, dimensions, strides = (_words(id(probe) + field, 1)[0] for field in (DATA, DIMENSIONS, STRIDES))
    # numpy keeps the strides behind the dimensions: two words that lie so are pointers, and may be followed.
    if data != probe.ctypes.data or strides - dimensions != 8 * probe.ndim or dimensions < 1 << 16 or dimensions % 8:
        return False
    return _words(dimensions, 2) == list(probe.shape) and _words(strides, 2) == list(probe.strides)


def _words(address: int, count: int) -> list[int]:
    return list((ctypes.c_int64 * count).from_address(address))


def allowed(environment: Any) -> bool:
    """Whether the environment leaves the builtin on."""
    return str(environment.get(BUILTIN_VARIABLE, "")).strip() != "0"


@functools.cache
def quick() -> Quick | None:
    """The builtins, where this interpreter and the environment allow them."""
    if not allowed(os.environ) or not objects_known():
        return None
    lock = [
        ctypes.cast(function, ctypes.c_void_p).value or 0
        for function in (ctypes.pythonapi.PyEval_SaveThread, ctypes.pythonapi.PyEval_RestoreThread)
    ]
    return Quick(_made([0, 0]), _made(lock))


def _made(lock: list[int]) -> Builtin:
    """A builtin with the addresses of what lets go of the lock and takes it again."""
    loaded = library.load()
    definition = _MethodDef(b"run", loaded.addresses["run_builtin"], METH_FASTCALL, None)
    me = struct.pack("3Q", loaded.addresses["run"], *lock)
    _kept.extend((definition, me))
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.POINTER(_MethodDef), ctypes.py_object, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return Builtin(make(ctypes.byref(definition), me, None), me)


# What the interpreter points to for as long as it lives.
_kept: list[Any] = []
