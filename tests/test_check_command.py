"""`python -m pyint8dot check`: what it calls, and that it finds what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from pyint8dot import __main__ as command_line
from pyint8dot.cli import check
from pyint8dot.engine.kernels import KERNELS, PORTABLE


def test_it_shows_every_check_of_every_kernel(monkeypatch, capsys):
    monkeypatch.setattr(check, "supported", lambda: (PORTABLE,))
    assert command_line.main(["check"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("pyint8dot ")
    [row] = [line for line in printed.splitlines() if line.startswith(f"{PORTABLE} ")]
    assert row.count(" exact") == len(check.CHECKS)
    assert "calls are exact, in" in printed


def test_a_kernel_that_is_none():
    here = {**os.environ, "PYINT8DOT_KERNEL": "fast"}
    command = [sys.executable, "-m", "pyint8dot", "check"]
    done = subprocess.run(command, env=here, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the environment variable PYINT8DOT_KERNEL asks for 'fast'")
    assert done.stderr.count("\n") == 1


CALLS = {
    "matmul": "matmul",
    "zero points": "matmul_integer",
    "qlinear_matmul": "qlinear_matmul",
    "linear": "linear",
    "convolution": "conv_integer",
}


@pytest.mark.parametrize("name", check.CHECKS)
def test_it_finds_one_wrong_bit(name, monkeypatch, capsys):
    right = getattr(check, CALLS[name])
    made = []

    def wrong(*arguments, **named):
        result = right(*arguments, **named).copy()
        made.append(result)
        if len(made) == 9:
            result.view(np.uint8).flat[-1] ^= 1
        return result

    monkeypatch.setattr(check, CALLS[name], wrong)
    monkeypatch.setattr(check, "CHECKS", {name: check.CHECKS[name]})
    assert check.run((PORTABLE,)) == 1
    printed = capsys.readouterr().out
    assert f"1 of {len(made):,} WRONG" in printed
    place = ", ".join(str(size - 1) for size in made[8].shape)
    assert f"{PORTABLE}, {name}: " in printed
    assert f"[{place}] is {made[8].flat[-1]} instead of " in printed


def test_types_and_shapes_are_compared():
    outcome = check.Outcome()
    outcome.add(check.Case("one", np.zeros((2, 3), np.int32), np.zeros((3, 2), np.int32)))
    outcome.add(check.Case("two", np.zeros((3, 2), np.int8), np.zeros((3, 2), np.int32)))
    outcome.add(check.Case("three", np.float32([0.0]), np.float32([-0.0])))
    assert (outcome.cases, outcome.different) == (3, 3)
    assert outcome.first == "one: int32 of shape (2, 3) instead of int32 of shape (3, 2)"


@pytest.mark.static
@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
def test_shapes_go_through_the_edges_of_the_tile(row):
    sizes = [set(each) for each in zip(*check.edges(row), strict=True)]
    for size, found in zip((row.mr, row.right.kr, row.nr), sizes, strict=True):
        assert {size, size + 1} <= found
        assert size == 1 or size - 1 in found
    for few in row.few:
        assert {few.most_columns, few.most_columns + 1} <= sizes[2]
        assert {few.right.kr - 1, few.right.kr, few.right.kr + 1} <= sizes[1] | {0}
        assert max(sizes[0]) > few.least_rows
