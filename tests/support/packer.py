"""Runs a native packer with guard pages around the source and the packed bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from support import layouts, rows
from support.checked import Checker
from support.entry import Entry
from support.guard import Guarded, guarded_input

Bytes = npt.NDArray[np.int8] | npt.NDArray[np.uint8]

# What both halves of a K group are flipped with, so that uint8 is moved to int8, or int8 stays; and what complements the upper half.
FLIPS = {np.dtype(np.uint8): 0x8080808080808080, np.dtype(np.int8): 0}
COMPLEMENT = 0xFFFFFFFF << 32

# K around and between the K groups of all layouts, and the turns of their packers.
DEPTHS = (0, 1, 3, 4, 5, 7, 8, 12, 15, 16, 17, 31, 33)


class Call:
    """Packing ``x``, a view of shape (mn, k) of any strides whose last element ends its buffer, or begins it.

    ``split`` packs the rest of the rows in smaller panels (A), else the last panel is filled up with zeros (B).
    ``complement`` asks for the complemented form.
    """

    def __init__(self, stem: str, x: Bytes, *, split: bool, complement: bool = False, place: str = "end") -> None:
        moved = (x ^ np.uint8(0x80)).view(np.int8) if x.dtype == np.uint8 else x
        self.want = layouts.packed(moved, rows.PACKERS[stem], split=split, complement=complement)
        self.packed = Guarded(self.want.size, place)
        (mn, k), (stride_mn, stride_k) = x.shape, x.strides
        # The bytes from the lowest element to the highest one, and where element (0, 0) lies among them.
        reach = [stride * (size - 1) for stride, size in zip(x.strides, x.shape, strict=True)] if x.size else []
        origin = -sum(step for step in reach if step < 0)
        source = np.zeros(sum(map(abs, reach)) + 1 if reach else 0, x.dtype)
        if x.size:
            np.lib.stride_tricks.as_strided(source[origin:], x.shape, x.strides)[...] = x
        self._kept = [guarded_input(source, place)]
        fields = [
            self._kept[0].address + origin,
            self.packed.address,
            k,
            mn,
            stride_k,
            stride_mn,
            int(split),
            FLIPS[x.dtype] ^ (COMPLEMENT if complement else 0),
        ]
        fields = [field % 2**64 for field in fields]
        self._kept.append(guarded_input(np.array(fields, np.uint64), place))
        self.argument = self._kept[1].address


def check(checker: Checker, stem: str, x: Bytes, *, split: bool, complement: bool = False, place: str = "end") -> None:
    """Pack ``x`` and fail on a wrong byte, a byte outside, a spoilt register."""
    call = Call(stem, x, split=split, complement=complement, place=place)
    problems = Entry(stem).call(checker, call.argument)
    problems += [f"overwrite {where} the packed bytes at {byte}" for where, byte in call.packed.damage()]
    wrong = np.flatnonzero(call.packed.data.view(np.int8) != call.want)
    if wrong.size:
        problems.append(f"{wrong.size} wrong bytes of {call.want.size}, the first at {wrong[0]}")
    form = f"split {split}, complement {complement}"
    assert not problems, "\n".join([f"{stem} of {x.shape}, strides {x.strides}, {x.dtype}, {form}", *problems])
