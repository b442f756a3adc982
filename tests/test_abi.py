"""The calling convention: what every entry of the library leaves alone.

The checker comes first: it has to catch every saboteur before its verdict on the library counts, so the tests of the
entries ask for the checker by way of `proven`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pytest
from support import (
    banner,
    checked,
    child,
    columns,
    copies,
    depthwise,
    epilogue,
    float_call,
    gather,
    gemm,
    kept,
    narrow,
    outer,
    packer,
    planes,
    pool,
    recurrent_call,
    rows,
    shapes,
)
from support.banner import registers
from support.builtin import Call as BuiltinCall
from support.checked import Checker
from support.entry import Entry, contract
from support.program import Program, Record

from pyint8dot.engine import dispatch, kernels, library
from pyint8dot.engine.kernels import Kernel
from pyint8dot.engine.program import MAX_POOLS

pytestmark = [pytest.mark.native, pytest.mark.each_processor]


class Prepared(Protocol):
    """Memory laid out for one call; ``argument`` is the address of its fields."""

    argument: int


def product(row: Kernel, rng: np.random.Generator, m: int = 15, k: int = 70, **options: Any) -> gemm.Call:
    """A product whose tiles are whole and cut, of several turns of the loops, with start values."""
    a = rng.integers(-128, 128, (m, k), dtype=np.int8)
    b = rng.integers(-128, 128, (k, 23), dtype=np.int8)
    row_start = rng.integers(-1000, 1000, m, dtype=np.int32)
    col_start = rng.integers(-1000, 1000, 23, dtype=np.int32)
    return gemm.Call(row, a, b, row_start=row_start, col_start=col_start, **options)


def sabotaged(**options: Any) -> gemm.Call:
    """What the saboteurs are handed: a product of the kernel that every AArch64 runs.

    Its rows are whole panels and its K whole groups, so that packed A is m * k bytes whatever the layout.
    """
    row = rows.NATIVE[-1]
    return product(row, np.random.default_rng(0), 2 * row.mr, 16 * row.right.kr, **options)


def narrow_product(name: str, rng: np.random.Generator) -> narrow.Call:
    """Tiles of every height, of turns and pieces, with start values."""
    a = rng.integers(0, 256, (15, 207), dtype=np.uint8)
    b = rng.integers(-128, 128, (207, 3), dtype=np.int8)
    return narrow.Call(name, a, b, row_start=block(rng)[0, :15].copy(), col_start=block(rng)[:, 0].copy())


def of_planes(stem: str, rng: np.random.Generator) -> planes.Call:
    """Tiles of every height, whole and cut, of three runs."""
    return planes.Call(stem, rng, shapes.Shape(15, 23, 5 * rows.PLANES[stem].right.kr), 3)


def packing(name: str, rng: np.random.Generator) -> packer.Call:
    return packer.Call(name, rng.integers(0, 256, (15, 70), dtype=np.uint8), split=rows.splits(rows.PACKERS[name]))


def gathering(name: str, rng: np.random.Generator) -> gather.Call:
    k = 9 * rows.GATHERERS[name].native.turn
    return gather.Call(name, rng.integers(-128, 128, (k, 29), dtype=np.int8))


def block(rng: np.random.Generator) -> np.ndarray:
    """An accumulator of whole and cut turns of eight columns."""
    return rng.integers(-(2**20), 2**20, (3, 21), dtype=np.int32)


def floats(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.standard_normal(count).astype(np.float32)


def max_pool(rng: np.random.Generator, dtype: np.dtype) -> pool.Call:
    """Windows of five rows and columns, each over the ends."""
    return pool.Call(pool.pixels(rng, dtype, 3, 9, 37), pool.Axis(9, 9, 5, 1, 1, 2), pool.Axis(37, 19, 5, 2, 1, 2))


def average_pool(rng: np.random.Generator) -> pool.Average:
    """The same windows of codes."""
    x = pool.pixels(rng, np.dtype(np.uint8), 3, 9, 37)
    return pool.random_average(rng, x, pool.Axis(9, 9, 5, 1, 1, 2), pool.Axis(37, 19, 5, 2, 1, 2))


def channel(stem: str, rng: np.random.Generator) -> depthwise.Call:
    """Whole and cut tiles of a window of nine taps, or of as many groups."""
    weights = rng.integers(-128, 128, (9, depthwise.STEMS[stem]))
    return depthwise.Call(stem, rng, 7, 37, weights, np.arange(9) * 5, 1e-3, 3, np.uint8, ld_x=41)


def channel_of_floats(rng: np.random.Generator) -> depthwise.Floats:
    """Sixteen columns, four, and the last ones with some of these again."""
    offsets = 5 * np.arange(9)
    x = floats(rng, depthwise.Floats.read(7, 23, offsets, 2, 41))
    return depthwise.Floats(x, 7, 23, floats(rng, 9), offsets, 0.5, step=2, ld_x=41)


class TwoProducts(Program):
    """One of the kernel that every AArch64 runs and one of the best."""

    def __init__(self, rng: np.random.Generator) -> None:
        pair = rows.NATIVE[-1], kernels.KERNELS[dispatch.supported()[0]]
        self.calls = [product(row, rng) for row in pair]
        addresses = library.load().addresses
        super().__init__(
            [Record(addresses[row.name], call.fields.tolist()) for row, call in zip(pair, self.calls, strict=True)]
        )


# A representative call of every entry of the library; an entry without one fails test_every_entry_is_called.
CASES: dict[str, Callable[[np.random.Generator], Prepared]] = {
    "run": TwoProducts,
    "run_builtin": BuiltinCall,
    **{row.name: (lambda rng, row=row: product(row, rng)) for row in rows.NATIVE},
    **{name: (lambda rng, name=name: narrow_product(name, rng)) for name in narrow.KERNELS},
    **{stem: (lambda rng, stem=stem: of_planes(stem, rng)) for stem in rows.PLANES},
    **{name: (lambda rng, name=name: packing(name, rng)) for name in rows.PACKERS},
    **{name: (lambda rng, name=name: gathering(name, rng)) for name in rows.GATHERERS},
    "requantize": lambda rng: epilogue.requantize(block(rng), floats(rng, 21), "column", 3, np.uint8),
    "dequantize": lambda rng: epilogue.dequantize(block(rng), floats(rng, 3), floats(rng, 21), floats(rng, 21), "gelu"),
    "q_scale": lambda rng: epilogue.q_scale(block(rng), 2**30 + 1, 35, 5, 3, -128, 127, np.int8),
    "quantize_rows": lambda rng: epilogue.QuantizeRows(floats(rng, 63).reshape(3, 21)),
    "dynamic_quantize": lambda rng: float_call.DynamicQuantize(floats(rng, 37)),
    "quantize_linear": lambda rng: float_call.quantize_linear(floats(rng, 37), np.float32(0.1), np.uint8(3)),
    "dequantize_linear": lambda rng: float_call.dequantize_linear(
        block(rng)[0].astype(np.uint8), np.float32(0.1), np.uint8(3)
    ),
    "lookup": lambda rng: float_call.lookup(block(rng).reshape(-1).astype(np.uint8), np.arange(256, dtype=np.uint8)),
    "combine": lambda rng: float_call.Combine(
        block(rng).astype(np.int8),
        floats(rng, 21),
        np.float32([0.1, 1, 0.2]),
        (np.int8(3), 0, np.uint8(9)),
        product=True,
    ),
    "hard_sigmoid": lambda rng: float_call.hard_sigmoid(floats(rng, 37), 0.2, 0.5, times=True),
    "attention": lambda rng: float_call.Attention(
        *(floats(rng, 2 * m * 5).reshape(2, m, 5) for m in (3, 7, 7)), floats(rng, 14).reshape(2, 1, 7), 0.3
    ),
    "exp2_terms": lambda rng: float_call.Exp2Terms(floats(rng, 63).reshape(3, 21), np.float32(1)),
    "divide_rows": lambda rng: float_call.divide_rows(floats(rng, 63).reshape(3, 21), floats(rng, 3) ** 2, root=True),
    "deviations": lambda rng: float_call.deviations(floats(rng, 63).reshape(3, 21)),
    "layer_norm": lambda rng: float_call.LayerNorm(
        floats(rng, 63).reshape(3, 21),
        floats(rng, 21),
        floats(rng, 21),
        1e-5,
        floats(rng, 63).reshape(3, 21),
        floats(rng, 21),
    ),
    **{
        stem: (lambda rng, stem=stem, group=group: copies.Copy(stem, rng, (2, 3, 37), 2, 0x80, group=group))
        for stem, group in copies.GROUPS.items()
    },
    **{stem: (lambda rng, stem=stem: channel(stem, rng)) for stem in depthwise.STEMS},
    "depthwise_f32": channel_of_floats,
    **{name: (lambda rng, kind=kind: max_pool(rng, kind)) for kind, name in MAX_POOLS.items()},
    "average_pool": average_pool,
    "lrn": lambda rng: float_call.Lrn(floats(rng, 259).reshape(7, 37), 4, 0.1, 1.0),
    "column_start": lambda rng: columns.start(block(rng)[0], np.uint8([7]), block(rng)[1]),
    "column_scale": lambda rng: columns.scale(floats(rng, 21), np.float32(0.3)),
    "keep_above": lambda rng: kept.Call(
        block(rng), floats(rng, 21) ** 2, floats(rng, 3) ** 2, floats(rng, 3), np.zeros(3, np.int64), 21
    ),
    "product_f32": lambda rng: recurrent_call.Product(
        floats(rng, 63).reshape(9, 7), floats(rng, 560).reshape(7, 80), floats(rng, 80)
    ),
    "lstm": lambda rng: recurrent_call.Steps(
        floats(rng, 1600).reshape(2, 10, 80)[:, :5],
        floats(rng, 1600).reshape(5, 20, 16),
        floats(rng, 100).reshape(5, 20),
        floats(rng, 100).reshape(5, 20),
        np.array([2, 1, 0, 2, 1]),
        backward=True,
    ),
    "add_outer": lambda rng: outer.Call(block(rng), block(rng)[:, 0], block(rng)[0]),
}


#: The entries that call others: what those clobber is not theirs to say.
CALLERS = {"run", "run_builtin"}


def _call(checker: Checker, stem: str, argument: int) -> list[str]:
    return checker.call(checker.address(stem), argument)


@pytest.fixture(scope="module")
def proven(checker: Checker) -> Checker:
    """The checker, after it has caught every saboteur and has let the innocent pass."""
    trouble = [*_registers_missed(checker), *_canaries_missed(checker), *_faults_missed(checker)]
    if trouble:
        pytest.fail("the checker cannot be trusted:\n" + "\n".join(trouble))
    return checker


def _registers_missed(checker: Checker) -> list[str]:
    found = {name: _call(checker, name, 0) for name in ("saboteur_none", *checked.REGISTER_SABOTEURS)}
    innocent = found.pop("saboteur_none")
    missed = [f"saboteur_none did nothing and is accused of {innocent}"] if innocent else []
    for name, problems in found.items():
        word = checked.REGISTER_SABOTEURS[name]
        if len(problems) != 1 or word not in problems[0]:
            missed.append(f"{name} should be accused of {word} alone, is accused of {problems}")
    return missed


def _canaries_missed(checker: Checker) -> list[str]:
    missed = []
    for name, side in checked.CANARY_SABOTEURS.items():
        call = sabotaged(padding=3, place="start" if side == "below" else "end")
        _call(checker, name, call.argument)
        report = "\n".join(call.c.damage())
        if f"overwrite {side} of C" not in report or report.count("X") != 1:
            missed.append(f"{name} wrote one cell {side} of C, and the report is {report!r}")
    return missed


def _faults_missed(checker: Checker) -> list[str]:
    missed = []
    for name, place in checked.FAULT_SABOTEURS.items():
        call = sabotaged(place=place)
        outcome = child.run(lambda _, name=name, call=call: _call(checker, name, call.argument))
        if outcome.signal not in ("SIGSEGV", "SIGBUS"):
            missed.append(f"{name} touched a forbidden page and ended with {outcome}")
    return missed


def test_checker_catches_register_saboteurs(checker):
    assert _registers_missed(checker) == []


def test_checker_catches_writes_around_c(checker):
    assert _canaries_missed(checker) == []


def test_checker_catches_faults(checker):
    assert _faults_missed(checker) == []


def test_checker_catches_a_broken_promise(checker):
    """A register that the convention lets a function change, but that its contract calls unused."""
    call = sabotaged(padding=1)
    stem = "saboteur_write_right"
    assert _call(checker, stem, call.argument) == []
    problems = checker.call(checker.address(stem), call.argument, unused=["x9", "x13", "v0", "v31"])
    assert [problem.split()[0] for problem in problems] == ["x9"]


def test_child_reports_an_illegal_instruction(checker):
    outcome = child.run(lambda _: _call(checker, "saboteur_illegal", 0))
    assert outcome.signal == "SIGILL"


def test_child_reports_exceptions_and_notes():
    def body(note):
        note("the first thing")
        note("the second thing")
        raise KeyError("lost")

    outcome = child.run(body)
    assert outcome.signal is None
    assert "KeyError: 'lost'" in outcome.error
    assert outcome.note == "the second thing"
    assert child.run(lambda note: note("fine")) == (None, "", "fine")


def test_every_entry_is_called():
    assert set(CASES) == set(library.ENTRIES)


@pytest.mark.parametrize("stem", sorted(set(CASES) - {row.name for row in kernels.KERNELS.values()} - {"run_builtin"}))
def test_entry_keeps_the_convention(proven, stem, rng):
    prepared = CASES[stem](rng)
    child.check(lambda _: _clean(Entry(stem).call(proven, prepared.argument)))


def test_kernel_keeps_the_convention(proven, native_kernel, rng):
    prepared = CASES[native_kernel](rng)
    child.check(lambda _: _clean(Entry(native_kernel).call(proven, prepared.argument)))


@pytest.mark.parametrize("stem", sorted(set(CASES) - CALLERS))
def test_entry_clobbers_no_more_than_it_says(proven, stem):
    """Every register of a leaf is clobbered, unused or kept, so the checked call sees each one that the contract does not list."""
    words = contract(stem)
    named = registers(words["Clobbers"]) | registers(words["Unused"]) | banner.kept(words["Stack"])
    assert named | {"x0"} == {f"x{i}" for i in range(31)} | {f"v{i}" for i in range(32)}
    assert not registers(words["Clobbers"]) & registers(words["Unused"])


def _clean(problems: list[str]) -> None:
    assert not problems, "\n".join(problems)
