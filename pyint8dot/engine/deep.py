"""Products whose right operand comes in parts of K, each with an epilogue of its own that adds to what the parts before it gave.

One program has the records of all parts, so the rows of a block and their results stay in the cache from part to part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.engine.blocks import Written
from pyint8dot.engine.plan import Zeros, two_dimensional
from pyint8dot.engine.program import LEFT, Program
from pyint8dot.engine.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyint8dot.engine.kernels import Kernel
    from pyint8dot.engine.plan import Array, Epilogue, Left, Plan
    from pyint8dot.engine.recipe import Key, Right

__all__ = ["DeepRecipe", "PortableDeepPlan"]


class DeepRecipe(Recipe):
    """How the programs of such a product are written; see `pyint8dot.engine.operand.deep_plan`.

    It is the recipe of the first part, the deepest, whose scratch all of them use.
    """

    def __init__(self, kernel: Kernel, rights: Sequence[Right], epilogues: Sequence[Epilogue], left: Left) -> None:
        super().__init__(kernel, rights[0], left.dtype, Zeros(), epilogues[0], left)
        others = zip(rights[1:], epilogues[1:], strict=True)
        self._others = [Recipe(kernel, right, left.dtype, Zeros(), epilogue, left) for right, epilogue in others]
        self.k = sum(right.k for right in rights)

    @property
    def reads_first(self) -> bool:
        """The first part's result is written before the second part is read."""
        return False

    def write(self, key: Key) -> Written:
        """Write the program for `key`."""
        out, a = Program(), LEFT
        scratch = self.append(out, key, a)
        last: Recipe = self
        for part in self._others:
            a = a.plus(last.right.k * self.operand.itemsize)
            part.append(out, key, a)
            last = part
        return Written(out, scratch)


class PortableDeepPlan:
    """The plan of such a product in numpy: the definition.

    Parameters
    ----------
    parts : list of (int, int, Plan)
        Rows, columns and plan of each.
    """

    def __init__(self, parts: list[tuple[int, int, Plan]]) -> None:
        self._parts = parts
        self._k, self._n = sum(k for k, _, _ in parts), parts[0][1]

    def offer(
        self, a: Array, out: Array | None, count: int, first: Array | None = None, second: Array | None = None
    ) -> Array | None:
        """Serve as `Plan.offer`, without `out`."""
        rows = two_dimensional(a, self._k)
        if rows is None or out is not None or first is not None or second is not None:
            return None
        y = np.empty((len(rows), self._n), np.float32)
        return y.reshape(*a.shape[:-1], self._n) if self.into(rows, y, count) else None

    def into(self, a: Array, y: Array, count: int, first: Array | None = None, second: Array | None = None) -> bool:  # noqa: ARG002 - no epilogue asks for them
        """Serve as `Plan.into`."""
        start = 0
        for k, _, plan in self._parts:
            if not plan.into(a[:, start : start + k], y, count):
                return False
            start += k
        return True
