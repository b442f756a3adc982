"""The command line: which commands there are, and a demonstration that fails when something differs."""

import builtins
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from support import rows

from pyint8dot import __main__ as command_line
from pyint8dot import kernel_info, version
from pyint8dot.cli import compare_models, demo, tables
from pyint8dot.engine import dispatch

THREE = ("Rain is expected.", "It will rain tomorrow.", "My bicycle is broken.")


@pytest.fixture
def without_rich(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def absent(name: str, *rest, **named):
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)


def test_demo_shows_kernel_neighbours_and_agreement(capsys: pytest.CaptureFixture[str]):
    assert demo.run(THREE, length=16) == 0
    printed = " ".join(capsys.readouterr().out.split())
    info = kernel_info()
    assert f"Kernel: {info['chosen']}, because {info['why']}" in printed
    # Each of the two about rain has the other as its nearest; the bicycle has one of them.
    assert f"{THREE[0]} {THREE[1]} 0." in printed
    assert f"{THREE[1]} {THREE[0]} 0." in printed
    assert "Lowest cosine against the float32 model: 0.99" in printed
    integers = 16 * 6 * (3 * 384 + 384 + 1536 + 384)
    assert f"24 products, {integers:,} integers, by every kernel" in printed
    for name in dispatch.supported():
        assert f" {name} " in printed
    if len(dispatch.supported()) > 1:
        assert f"Identical integers: {', '.join(dispatch.supported())}." in printed


def test_demo_counts_all_work(capsys: pytest.CaptureFixture[str]):
    demo.run(THREE[:2], length=8)
    layer = 4 * 384 * 384 + 2 * 384 * 1536
    # Two sentences of 8 rows, the first and last tokens of each a second time with two digits.
    linear = 6 * layer * (2 * 8 + 2 * 2 * 2)
    printed = capsys.readouterr().out
    assert f"{linear:,}" in printed
    keys = 6 + 7  # tokens of the two sentences
    assert f"{2 * 6 * 384 * 8 * keys:,}" in printed


def test_demo_fails_when_a_kernel_differs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    real = demo.matmul
    calls = []

    def one_wrong(a, b, *, kernel):
        result = real(a, b, kernel="portable")
        calls.append(kernel)
        result[0, 0] += len(calls) == 4
        return result

    monkeypatch.setattr(demo, "matmul", one_wrong)
    monkeypatch.setattr(demo, "supported", lambda: ("portable", "another"))
    assert demo.run(THREE[:2], length=8) == 1
    printed = capsys.readouterr().out
    assert "DIFFERENT integers: portable, another." in printed


def test_demo_fails_when_embeddings_are_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(demo, "LOWEST_COSINE", 0.99999)
    assert demo.run(THREE[:2], length=8) == 1
    assert "BELOW 0.99999" in capsys.readouterr().out


def test_comparing_leaves_the_model_as_it_was():
    model = demo.MiniLM.load()
    before = [getattr(layer, name) for layer in model.layers for name in layer.MAPS]
    agreement = demo.compare_kernels(model, np.array([[101, 2026, 102]]))
    assert agreement.products == 24
    assert agreement.kernels == dispatch.supported()
    assert [getattr(layer, name) for layer in model.layers for name in layer.MAPS] == before


def test_demo_without_the_extra_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert command_line.main(["demo"]) == 1
    assert 'pip install "pyint8dot[models]"' in capsys.readouterr().err


def test_info_is_json(capsys: pytest.CaptureFixture[str]):
    assert command_line.main(["info"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(kernel_info()))


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]):
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert command_line.main(arguments) == 0
        printed = capsys.readouterr().out
        assert "usage: python -m pyint8dot COMMAND" in printed
        assert "--version" in printed
        assert "`" not in printed
        for name, (_, summary) in command_line.COMMANDS.items():
            assert f"  {name} " in printed
            assert summary in printed


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        command_line.main([name, "--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert f"python -m pyint8dot {name}" in printed
    # A terminal shows no markup.
    assert "`" not in printed


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(option: str, capsys: pytest.CaptureFixture[str]):
    assert command_line.main([option]) == 0
    assert capsys.readouterr().out == f"pyint8dot {version.__version__}\n"


def test_unknown_command(capsys: pytest.CaptureFixture[str]):
    assert command_line.main(["dmeo"]) == 2
    assert f"unknown command 'dmeo'; there are {', '.join(command_line.COMMANDS)}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "check"])
def test_a_kernel_that_is_not_there(command: str):
    """What bug reports need is printed all the same."""
    done = subprocess.run(
        [sys.executable, "-m", "pyint8dot", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYINT8DOT_KERNEL": "fast"},
        check=False,
    )
    assert done.returncode == (0 if command == "info" else 2)
    assert "asks for 'fast'" in (done.stdout if command == "info" else done.stderr)
    assert done.stderr.count("\n") == (command == "check")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["info"],
        ["bench", "--shapes", "1x4x1", "--seconds", "0.001", "--peers", "--kernels", "portable"],
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_nobody_reads(arguments: list[str], unbuffered: str):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "pyint8dot", *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (command_line.NOBODY_READS, "")


def test_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "pyint8dot", "info"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["chosen"] == kernel_info()["chosen"]


ROWS = [("one", 1, 0.25, True), ("thousand", 1000, -1.0, False)]


def test_table_is_aligned_without_rich(without_rich: None, capsys: pytest.CaptureFixture[str]):
    tables.heading("Title")
    tables.table(("name", "count", "share", "good"), ROWS)
    assert capsys.readouterr().out == (
        "\nTitle\n-----\nname      count    share  good\none           1   0.2500  yes\nthousand  1,000  -1.0000  no\n"
    )


def test_table_with_rich_has_the_same_words(capsys: pytest.CaptureFixture[str]):
    tables.heading("Title [not markup]")
    tables.table(("name", "count", "share", "good"), ROWS)
    words = " ".join(capsys.readouterr().out.split())
    assert words == "Title [not markup] name count share good one 1 0.2500 yes thousand 1,000 -1.0000 no"


def test_table_of_no_rows(capsys: pytest.CaptureFixture[str]):
    tables.table(("name", "count"), [])
    assert capsys.readouterr().out.split() == ["name", "count"]


def small_model(tmp_path):
    """A model with one integer product, in a file."""
    helper, kind = onnx.helper, onnx.TensorProto
    weights = np.arange(-32, 32, dtype=np.int8).reshape(8, 8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["input_ids", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("input_ids", kind.INT8, ["rows", 8])],
        [helper.make_tensor_value_info("y", kind.INT32, ["rows", 8])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path), weights


def test_a_model_run_says_what_it_did(tmp_path, kernel):
    path, weights = small_model(tmp_path)
    values = {"input_ids": np.ones((3, 8), np.int8)}
    done = compare_models.run(path, kernel, values)
    np.testing.assert_array_equal(done.outputs[0], np.tile(weights.sum(axis=0, dtype=np.int32), (3, 1)))
    assert done.macs == 3 * 8 * 8
    assert done.seconds > 0


@pytest.mark.parametrize("wrong", [False, True])
def test_models_that_differ_are_told(monkeypatch, capsys, tmp_path, wrong):
    path, _ = small_model(tmp_path)
    monkeypatch.setattr("pyint8dot.onnx.zoo.model_path", lambda _name: path)
    first, second = rows.NATIVE[0].name, rows.NATIVE[-1].name
    monkeypatch.setattr(compare_models, "supported", lambda: (first, second))

    def run(_path, kernel):
        return compare_models.ModelRun(kernel, [np.array([1, 2 + (wrong and kernel == second)])], 0.5, 64)

    monkeypatch.setattr(compare_models, "run", run)
    assert compare_models.compare() is not wrong
    assert ("DIFFERENT" in capsys.readouterr().out) is wrong
