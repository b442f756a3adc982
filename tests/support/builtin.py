"""A call of ``run_builtin`` on objects made of plain memory, as CPython and numpy lay theirs out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from support import gemm, layouts
from support.checked import Checker
from support.entry import Entry
from support.guard import Guarded, guarded_input

from pyint8dot.engine import builtin, dispatch, kernels, library
from pyint8dot.engine.program import LEFT, LEFT_STRIDE_K, LEFT_STRIDE_M, RESULT, ROWS, SCRATCH, Program

#: Words of an object in front of its own fields, and where they are found in bytes objects and arrays.
REFERENCES = 5


class Call:
    """The product of A (m, k) and a packed B by a builtin: packing and multiplication, their operands fake arrays.

    `lock` are the addresses of the functions that let go of the interpreter's lock and take it again, two zeros for none.
    """

    def __init__(
        self, rng: np.random.Generator, m: int = 3, k: int = 10, n: int = 5, lock: tuple[int, int] = (0, 0)
    ) -> None:
        row = next(kernels.KERNELS[name] for name in dispatch.supported() if kernels.KERNELS[name].native)
        a = rng.integers(-128, 128, (m, k), dtype=np.int8)
        b = rng.integers(-128, 128, (k, n), dtype=np.int8)
        self.want = gemm.expected(a, b) + gemm.surplus(row, a, b, "left")
        packed = layouts.packed(layouts.transposed(b), row.right)
        self._source, self._right = guarded_input(a), guarded_input(packed)
        self.result = Guarded(4 * m * n)
        out = Program()
        depth, left = row.right.depth(k), row.each_call(row.left)
        out.pack(
            left.packer, source=LEFT, packed=SCRATCH, k=k, mn=ROWS, stride_k=LEFT_STRIDE_K, stride_mn=LEFT_STRIDE_M,
            split=int(left.split), flip=left.flip(a.dtype),
        )  # fmt: skip
        out.multiply(row.name, a=SCRATCH, b=self._right.address, c=RESULT, ldc=4 * n, m=ROWS, n=n, k=depth)
        self.me = _bytes(np.array([library.load().addresses["run"], *lock], np.int64).tobytes())
        self.records = _bytes(out.records())
        self._arrays = [
            self._array(self._source.address, (m, k), (k, 1)),
            self._array(self.result.address, (m, n), (n, 4)),
        ]
        arguments = np.array([_at(self.records), *(_at(array) for array in self._arrays)], np.int64)
        self._kept = [guarded_input(arguments)]
        words = [library.load().addresses["run_builtin"], _at(self.me), self._kept[0].address, len(arguments)]
        self._kept.append(guarded_input(np.array(words, np.int64)))
        self.argument = self._kept[1].address

    def _array(self, data: int, shape: tuple[int, int], strides: tuple[int, int]) -> npt.NDArray[np.int64]:
        """The words of an array object, with its shape and strides behind them."""
        words = np.zeros(12, np.int64)
        words[8:10], words[10:12] = shape, strides
        for offset, value in (
            (builtin.DATA, data),
            (builtin.DIMENSIONS, _at(words) + 64),
            (builtin.STRIDES, _at(words) + 80),
        ):
            words[offset // 8] = value
        return words

    def run(self, checker: Checker) -> list[str]:
        """Call it and return what it broke, in memory or registers."""
        entry = Entry("run_builtin")
        problems = checker.call(checker.address("spread"), self.argument, unused=entry.unused, stack=entry.stack)
        problems += [f"overwrite {where} the result at {byte}" for where, byte in self.result.damage()]
        found = self.result.data.view(np.int32).reshape(self.want.shape)
        if not np.array_equal(found, self.want):
            problems.append(f"wrong sums: {found.tolist()} instead of {self.want.tolist()}")
        if checker.returned != _at(self.me):
            problems.append("it did not return itself")
        counts = self.me[:8].view(np.int64)[0], self.records[:8].view(np.int64)[0]
        if counts != (REFERENCES + 1, REFERENCES):
            problems.append(f"references were {REFERENCES} each, came back as {counts}")
        return problems


def _bytes(content: bytes) -> npt.NDArray[np.uint8]:
    """A bytes object: a count of references, what the builtin does not look at, its bytes."""
    memory = np.zeros(builtin.BYTES + len(content), np.uint8)
    memory[:8].view(np.int64)[0] = REFERENCES
    memory[builtin.BYTES :] = np.frombuffer(content, np.uint8)
    return memory


def _at(array: npt.NDArray[np.generic]) -> int:
    return int(array.ctypes.data)
