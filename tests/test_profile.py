"""Where the time of a run goes: native work is told apart by its kind, and looking changes no result."""

from __future__ import annotations

import os

import numpy as np
import pytest
from support.onnx_graphs import data, model, node

from pyint8dot.cli import run
from pyint8dot.engine import builtin, cpu, kernels, library, trace
from pyint8dot.onnx import InferenceSession
from pyint8dot.onnx.profile import TERMS, measure

F32 = np.float32


@pytest.fixture
def made(rng):
    """A dynamic linear layer, a normalised sum, an operator of numpy and one of the reference."""
    nodes = [
        node("DynamicQuantizeLinear", "x", "q q_scale q_zero"),
        node("MatMulInteger", "q w q_zero", "product"),
        node("Cast", "product", "c", to=1),
        node("Mul", "c q_scale", "h"),
        node("Add", "h x", "sum"),
        node("LayerNormalization", "sum one", "n"),
        node("Exp", "n", "e"),
        node("EyeLike", "e", "y"),
    ]
    constants = {
        "w": rng.integers(-128, 128, (64, 64)).astype(np.int8),
        "one": np.ones(64, F32),
    }
    return data(model(nodes, {"x": (F32, ["rows", 64])}, {"y": F32}, constants))


def test_each_kind_of_work_is_told_apart(made, rng):
    x = rng.standard_normal((9, 64)).astype(F32)
    plain = InferenceSession(made).run(None, {"x": x})[0]
    before = os.environ.get(builtin.BUILTIN_VARIABLE)
    with trace.recording() as recorder:
        session = InferenceSession(made, num_threads=1)
        profile = measure(session, {"x": x}, 2, recorder)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], plain)
    assert os.environ.get(builtin.BUILTIN_VARIABLE) == before
    terms = profile.terms()
    assert list(terms) == list(TERMS)
    assert min(terms["numpy"], terms["onnx reference"], terms["Python"]) > 0
    assert profile.by_op["EyeLike"]["onnx reference"] > profile.by_op["EyeLike"]["numpy"] == 0
    native = {term: {op for op, parts in profile.by_op.items() if parts[term]} for term in trace.NATIVE}
    everywhere = {"product": {"MatMulFloat"}, "packing": {"MatMulFloat"}, "epilogue": {"MatMulFloat"}}
    wanted = everywhere | {"other native": {"MatMulFloat", "AddNormalization"}}
    assert native == ({term: set() for term in native} if library.status() else wanted)
    # What was made meanwhile goes on working, and nothing is recorded any more by what is made now.
    spent = recorder.spent
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], plain)
    after = recorder.spent
    assert (after > spent) == (library.status() is None)
    np.testing.assert_array_equal(InferenceSession(made).run(None, {"x": x})[0], plain)
    assert recorder.spent == after


@pytest.mark.static
def test_every_entry_has_a_kind():
    kinds = {entry: trace.kind(entry) for entry in library.ENTRIES}
    products = {entry for entry, kind in kinds.items() if kind == "product"}
    assert products == {
        *(row.name for row in kernels.KERNELS.values() if row.native), "sdot_rows_8x8", "sdot_4x1", "smull_4x1",
        "sdot_planes_8x8", "smmla_planes_8x8", "depthwise", "depthwise_sdot", "depthwise_f32",
    }  # fmt: skip
    assert {kinds["pack_i8k4"], kinds["gather_i8"], kinds["copy_planes"], kinds["interleave_i8k4"]} == {"packing"}
    assert {kinds["requantize"], kinds["dequantize"], kinds["column_start"]} == {"epilogue"}
    assert {kinds["attention"], kinds["layer_norm"], kinds["quantize_rows"]} == {"other native"}


@pytest.fixture
def path(made, tmp_path):
    (tmp_path / "model.onnx").write_bytes(made)
    return tmp_path / "model.onnx"


def test_the_command_prints_the_profile(path, capsys):
    assert run.main([str(path), "--profile", "--repeat", "2", "--dim", "rows=3"]) == 0
    out = capsys.readouterr().out
    table = [line.rsplit(maxsplit=2) for line in out.partition("a run spends its time on")[2].splitlines()[1:]]
    assert [line[0] for line in table] == list(TERMS)
    assert sum(float(line[2]) for line in table) == pytest.approx(100, abs=1)
    assert [line[:2] for line in map(str.split, out.splitlines()) if line[:1] == ["AddNormalization"]] == [
        ["AddNormalization", "native" if cpu.is_aarch64() else "numpy"]
    ]


def test_a_profile_is_of_one_thread(path, capsys):
    assert run.main([str(path), "--profile", "--threads", "2"]) == 2
    assert "--profile is of one thread, got --threads 2" in capsys.readouterr().err


@pytest.mark.static
def test_a_picture_is_drawn(path, tmp_path, capsys):
    picture = tmp_path / "profile.png"
    assert run.main([str(path), "--plot", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "a run spends its time on" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run.main([str(path), "--plot", str(tmp_path / "profile.txt")])
    assert "the name must end in .png, .svg, .pdf" in capsys.readouterr().err
