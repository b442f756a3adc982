"""Calls native code through ``checked_call``: every register filled beforehand, every promise looked at afterwards."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
LIBRARY = FOLDER / "lib" / ("libchecked.dylib" if sys.platform == "darwin" else "libchecked.so")

# The same list as the offsets in checked.S.
STATE = np.dtype(
    [
        ("x_in", np.uint64, 32),
        ("x_out", np.uint64, 32),
        ("v_in", np.uint64, (32, 2)),
        ("v_out", np.uint64, (32, 2)),
        ("sp_before", np.uint64),
        ("fpcr_before", np.uint64),
        ("fpcr_after", np.uint64),
        ("above_damaged", np.uint64),
        ("stack_used", np.uint64),
    ]
)

# What AAPCS64 says a function gives back as it was, and x18, which belongs to the platform; Apple's systems change it at will.
PLATFORM = () if sys.platform == "darwin" else ("x18",)
PRESERVED = (*PLATFORM, *(f"x{i}" for i in range(19, 30)), *(f"d{i}" for i in range(8, 16)))

# What each saboteur must be reported for, without the memory it spoils: that is the guard pages' affair.
REGISTER_SABOTEURS = {
    **{f"saboteur_{register}": register for register in PRESERVED},
    "saboteur_sp": "sp",
    "saboteur_fpcr": "fpcr",
    "saboteur_stack_above": "the caller's stack",
    "saboteur_stack_below": "below its stack pointer",
}

# Writes outside C that land on a canary, by the side that has to be named.
CANARY_SABOTEURS = {
    "saboteur_write_right": "right",
    "saboteur_write_left": "left",
    "saboteur_write_above": "above",
    "saboteur_write_below": "below",
}

# Accesses that land on a guard page or in an input, by the placement of the buffers that has to kill them.
FAULT_SABOTEURS = {
    "saboteur_read_past": "end",
    "saboteur_read_before": "start",
    "saboteur_write_input": "end",
    "saboteur_write_below": "end",
    "saboteur_write_left": "start",
}


class Checker:
    """The loaded checker; one for a test session.

    Parameters
    ----------
    seed : int
        Of the junk that registers hold when a function is entered; none of it is zero.
    """

    def __init__(self, seed: int) -> None:
        if not LIBRARY.is_file():
            raise FileNotFoundError(f"there is no {LIBRARY}: build the library of the tests with `make build`")
        self._library = ctypes.CDLL(str(LIBRARY))
        self._call = self._library.pyint8dot_checked_call
        self._call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        self._call.restype = None
        self._state = np.zeros(1, STATE)
        rng = np.random.default_rng(seed)
        # Odd numbers are not zero, and neither are their halves' low words.
        self._state["x_in"] = rng.integers(0, 2**64, 32, np.uint64) | np.uint64(0x1_0000_0001)
        self._state["v_in"] = rng.integers(0, 2**64, (32, 2), np.uint64) | np.uint64(0x0101_0101_0101_0101)
        self._address = int(self._state.ctypes.data)

    def address(self, stem: str) -> int:
        """The address of a function of the test library, by its name without the prefix."""
        function = getattr(self._library, f"pyint8dot_{stem}")
        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address is not None
        return address

    def call(self, function: int, argument: int, *, unused: Iterable[str] = (), stack: int = 0) -> list[str]:
        """Call ``function(argument)`` and return what it broke, one line each; an empty list is a clean call.

        ``unused`` are registers that its contract says it does not touch beyond those of the calling convention,
        ``stack`` how many bytes below its stack pointer it says it uses.
        """
        self._call(function, argument, self._address)
        state = self._state[0]
        problems = []
        for register in dict.fromkeys((*PRESERVED, *unused)):
            before, after = self._register(register)
            if before != after:
                problems.append(f"{register} was {before:#x}, came back as {after:#x}")
        if state["x_out"][31] != state["sp_before"]:
            problems.append(f"sp was {int(state['sp_before']):#x}, came back as {int(state['x_out'][31]):#x}")
        if state["fpcr_after"] != state["fpcr_before"]:
            problems.append(f"fpcr was {int(state['fpcr_before']):#x}, came back as {int(state['fpcr_after']):#x}")
        if state["above_damaged"]:
            problems.append(f"{state['above_damaged']} words of the caller's stack were written")
        if state["stack_used"] > stack:
            problems.append(f"{state['stack_used']} bytes below its stack pointer were used, of {stack} allowed")
        return problems

    @property
    def returned(self) -> int:
        """What the last function returned, as an unsigned number."""
        return int(self._state[0]["x_out"][0])

    @property
    def stack_pointer(self) -> int:
        """The stack pointer that the last function was called with."""
        return int(self._state[0]["sp_before"])

    def _register(self, name: str) -> tuple[int, int]:
        """What a register held before and after the last call: x and d as 64 bits, v as 128."""
        state, kind, number = self._state[0], name[0], int(name[1:])
        if name == "x29":
            # The frame pointer is no junk: unwinders follow it.  The frame begins above the canaries.
            return int(state["sp_before"]) + 80, int(state["x_out"][29])
        if kind == "x":
            return int(state["x_in"][number]), int(state["x_out"][number])
        low = int(state["v_in"][number][0]), int(state["v_out"][number][0])
        if kind == "d":
            return low
        high = int(state["v_in"][number][1]), int(state["v_out"][number][1])
        return low[0] | high[0] << 64, low[1] | high[1] << 64
