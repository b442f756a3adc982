"""`python -m pyint8dot run`."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import data, model, node

from pyint8dot.__main__ import main
from pyint8dot.cli import run

F32 = np.float32


@pytest.fixture
def path(tmp_path, rng):
    nodes = [node("MatMulInteger", "x w", "p"), node("Cast", "p", "c", to=1), node("Mul", "c s", "y")]
    constants = {"w": rng.integers(-128, 128, (4, 3)).astype(np.int8)}
    made = model(nodes, {"x": (np.int8, ["rows", 4]), "s": (F32, [1])}, {"y": F32}, constants)
    (tmp_path / "model.onnx").write_bytes(data(made))
    return tmp_path / "model.onnx"


def test_inputs_are_filled_in(path, capsys):
    assert run.main([str(path), "--dim", "rows=5"]) == 0
    out = capsys.readouterr().out
    assert "output y: float32 [5, 3]" in out
    assert "kernel " in out


def test_arrays_from_files_and_to_files(path, tmp_path, rng, capsys):
    x, s = rng.integers(-128, 128, (2, 4)).astype(np.int8), np.array([0.5], F32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "s.npy", s)
    arguments = [
        str(path),
        f"--input=x={tmp_path}/x.npy",
        f"--input=s={tmp_path}/s.npy",
        f"--output=y={tmp_path}/y.npy",
    ]
    assert main(["run", *arguments, "--kernel", "portable", "--threads", "2"]) == 0
    assert "float32 [2, 3]" in capsys.readouterr().out
    assert np.load(tmp_path / "y.npy").shape == (2, 3)


def test_profile_is_a_table_by_operator_and_kernel(path, kernel, capsys):
    assert run.main([str(path), "--profile", "--repeat", "3", "--kernel", kernel]) == 0
    out = capsys.readouterr().out
    assert f"kernel {kernel}, 1 nodes, 3 runs" in out
    assert "MatMulInteger+Cast+Mul" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["op", "by", "nodes", "ms", "%"] in lines
    assert any(line[:3] == ["MatMulFloat", kernel, "1"] and line[-1] == "100.0" for line in lines if line)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.onnx"], "no model file 'nowhere.onnx'"),
        (["MODEL", "--input", "x"], "--input must be NAME=VALUE, got 'x'"),
        (["MODEL", "--input", "z=z.npy"], "no input 'z'"),
        (["MODEL", "--output", "z=z.npy"], "no output 'z'"),
        (["MODEL", "--input", "x=nowhere.npy"], "nowhere.npy"),
        (["MODEL", "--kernel", "fast"], "fast"),
        (["MODEL", "--repeat", "0"], "--repeat must be at least 1"),
        (["MODEL", "--dim", "rows=-2"], "--dim rows must be a number that is not negative, got '-2'"),
        (["MODEL", "--dim", "rows=two"], "--dim rows must be a number that is not negative, got 'two'"),
        (["MODEL", "--dim", "row=2"], "the model has no dimension 'row'; it has rows"),
        (["MODEL", "--dim", f"rows={10**15}"], "Unable to allocate"),
        (["MODEL", "--input", "x=MODEL"], "must hold one array of numbers, as numpy.save writes it"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(path, arguments, words, capsys):
    assert run.main([a.replace("MODEL", str(path)) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x0c\x00{'descr': (  ", b"text"])
def test_a_file_that_is_no_array(path, tmp_path, content, capsys):
    (tmp_path / "x.npy").write_bytes(content)
    assert run.main([str(path), f"--input=x={tmp_path}/x.npy"]) == 2
    error = capsys.readouterr().err
    assert "x.npy must hold one array of numbers, " in error
    assert error.count("\n") == 1


def test_broken_model(path, capsys):
    path.write_bytes(path.read_bytes()[:-9])
    assert run.main([str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
