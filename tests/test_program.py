"""Programs: every builder takes the arguments that the contract of its entry names, in its order."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from support import rows
from support.entry import contract

from pyint8dot.engine import library, program
from pyint8dot.engine.program import FIRST, LEFT, Program

BUILDERS = {
    **{name: name for name in program.OWN_ENTRIES},
    **{row.name: "multiply" for row in rows.NATIVE},
    **{row.name: "multiply_rows" for row in rows.FEW},
    **dict.fromkeys(rows.PLANES, "multiply_planes"),
    **dict.fromkeys(rows.PACKERS, "pack"),
    **dict.fromkeys(rows.GATHERERS, "gather"),
    **dict.fromkeys(rows.INTERLEAVERS, "interleave"),
    **dict.fromkeys(program.MAX_POOLS.values(), "max_pool"),
}


def test_every_entry_has_a_builder():
    """Only the two that run programs are no part of one."""
    assert {*BUILDERS, "run", "run_builtin"} == set(library.ENTRIES)


@pytest.mark.parametrize("entry", sorted(BUILDERS))
def test_arguments_are_those_of_the_contract(entry):
    wanted = re.findall(r"^\[\d+\] (\w+)", contract(entry)["Arguments"], re.MULTILINE)
    signature = inspect.signature(getattr(Program, BUILDERS[entry]))
    keywords = [name for name, each in signature.parameters.items() if each.kind is each.KEYWORD_ONLY]
    assert keywords == wanted


@pytest.fixture
def addresses(monkeypatch):
    """Entries at made-up addresses, so that programs can be written on every machine."""
    loaded = library.Library(None, lambda _: 0, {stem: 1000 + i for i, stem in enumerate(library.ENTRIES)})
    monkeypatch.setattr(library, "load", lambda: loaded)
    return loaded.addresses


def test_a_record_is_laid_out_as_run_reads_it(addresses):
    values = np.arange(4, dtype=np.int32)
    out = Program()
    out.add_outer(c=LEFT.plus(8), ldc=-16, m=3, n=4, u=FIRST, v=values)
    words = np.frombuffer(out.records(), np.int64)
    kinds = (1 + LEFT.number) | (1 + FIRST.number) << 16
    assert words.tolist() == [
        addresses["add_outer"], 8, -16, 3, 4, 0, values.ctypes.data, *[0] * 8, kinds, 0,
    ]  # fmt: skip
    assert any(kept is values for kept in out.keep)


def test_the_head_says_which_words_are_arrays(addresses):
    out = Program()
    tail = np.frombuffer(out.tail(5, (LEFT, FIRST)), np.int64)
    assert len(tail) == program.WORDS - 5 + 1
    assert tail[-2] == (1 << LEFT.number | 1 << FIRST.number) | library.DATA_OFFSET << 32
    assert not tail[:-2].any()


def test_a_record_is_repeated_in_steps(addresses):
    out = Program()
    out.layer_norm(x=LEFT, y=100, ld_x=1, ld_y=2, m=3, n=4, weight=5, bias=6, eps=7)
    once = np.frombuffer(out.records(), np.int64)[:-1]
    out.repeat(3, y=10, eps=-1)
    thrice = np.frombuffer(out.records(), np.int64)[:-1].reshape(3, -1)
    steps = np.zeros_like(once)
    steps[2], steps[9] = 10, -1
    for i, record in enumerate(thrice):
        assert record.tolist() == (once + i * steps).tolist()
