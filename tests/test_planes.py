"""The products whose right operand lies in planes, bit for bit, with guard pages and canaries around everything."""

from __future__ import annotations

import itertools

import pytest
from support import child, planes, rows, shapes

pytestmark = pytest.mark.native

# K groups of a run that kernels have code of its own for: RUN of asm/planes.h, in bytes of a column.
RUN = 32


@pytest.fixture(params=rows.PLANES)
def stem(request):
    return request.param


class Runner:
    """Runs products of one entry in a child, noting each before it starts, so that a fault names its product."""

    def __init__(self, checker, rng, stem):
        self.checker, self.rng, self.stem = checker, rng, stem
        self.group = rows.PLANES[stem].right.kr

    def product(self, m, n, k, count=1, **options):
        self.note(f"{self.stem} {m} x {n}, {count} runs of {k}, {options}")
        planes.Call(self.stem, self.rng, shapes.Shape(m, n, k), count, **options).check(self.checker)

    def run(self, body):
        def in_child(note):
            self.note = note
            body()

        child.check(in_child)


@pytest.fixture
def runner(checker, rng, stem):
    return Runner(checker, rng, stem)


@pytest.mark.parametrize("depth", [0, 1, "whole", 13])
def test_every_size(runner, depth):
    """Two tiles of rows and of columns and one more, and all that are less, each at the end of its pages."""
    k = RUN if depth == "whole" else depth * runner.group

    def body():
        for m, n in itertools.product(range(18), range(18)):
            runner.product(m, n, k, 1 + (m + n) % 3)

    runner.run(body)


def test_every_depth(runner):
    """All depths up to two turns of the longest loop and more, for tiles of every height, by one run and by several."""

    def body():
        for groups, m in itertools.product(range(35), (1, 2, 4, 8)):
            runner.product(m, 9, groups * runner.group, 1 + groups % 4, place="start" if groups % 2 else "end")

    runner.run(body)


@pytest.mark.parametrize("place", ["end", "start"])
@pytest.mark.parametrize("way", [{}, {"padding": 3}, {"upward": True}, {"padding": 1, "upward": True}], ids=str)
def test_where_operands_lie(runner, place, way):
    """Planes of either direction, apart, overlapping and on top of each other; rows of C likewise, but for those."""

    def body():
        panel = 16 * runner.group
        for plane, groups in itertools.product((panel + 5, -panel, -panel - 64, runner.group, -3, 0), (1, 4, 8, 11)):
            runner.product(13, 12, groups * runner.group, 3, plane=plane, place=place, **way)

    runner.run(body)


@pytest.mark.parametrize("values", shapes.VALUES)
def test_values(runner, values):
    """Extreme operands against each other and against random ones, as many runs as a window of 3 x 3 has."""

    def body():
        for a_values, k in itertools.product(dict.fromkeys((values, "random", "lowest")), (RUN, 3 * runner.group)):
            runner.product(15, 17, k, 9, values=values, a_values=a_values, starts=False)

    runner.run(body)


@pytest.mark.parametrize("beyond", [0, 1])
def test_longest_depth(runner, stem, beyond):
    """As many runs as have exact sums whatever the values, and one more, whose sums of -128 x -128 wrap."""

    def body():
        count = rows.PLANES[stem].bound // RUN + beyond
        runner.product(9, 1, RUN, count, values="lowest", plane=0, starts=False)

    runner.run(body)
