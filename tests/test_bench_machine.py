"""What `python -m pyint8dot bench` draws, and what it says of the machine that it ran on."""

from __future__ import annotations

import json
import sys

import pytest

from pyint8dot import __main__ as command_line
from pyint8dot.cli.bench import machine, measure, plot

QUICK = ["bench", "--seconds", "0.001"]


DESCRIBED = {"processor": "Some core", "machine": "aarch64", "pyint8dot": "1.2", "emulated": "a reason"}


def result(contender: str, ours: bool, threads: int | None, seconds: float, shape=(8, 8, 8), status="exact"):
    return measure.Result(
        "matmul", shape, contender, ours, threads, status, "", (seconds,) if status == "exact" else ()
    )


def test_plot_writes_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "bench.png"
    assert command_line.main([*QUICK, "--shapes", "4x8x4", "--peers", "numpy_float32", "--plot", str(target)]) == 0
    assert target.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert target.stat().st_size > 5000
    assert [path.name for path in tmp_path.iterdir()] == ["bench.png"]


def test_plot_shows_every_exact_result(tmp_path):
    pytest.importorskip("matplotlib")
    found = [
        result("sdot_8x8", True, 1, 1e-6),
        result("sdot_8x8", True, 2, 5e-7),
        result("numpy_float32", False, None, 1e-5),
        result("onnxruntime", False, 1, 0, status="wrong"),
        result("sdot_8x8", True, 1, 1e-3, shape=(16, 8, 8)),
    ]
    picture = tmp_path / "bench.svg"
    plot.draw(picture, "svg", found, DESCRIBED)
    text = picture.read_text()
    # matplotlib leaves the words of its glyphs as comments.
    for words in (
        "sdot_8x8, 1 thread",
        "sdot_8x8, 2 threads",
        "numpy_float32, BLAS's threads",
        "16x8x8",
        "1.02 G",
        "2.05 G",
    ):
        assert f"<!-- {words} -->" in text
    assert "onnxruntime" not in text
    assert "EMULATED. Wall-clock under emulation proves nothing" in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (7.0, "7"),
        (999.4, "999"),
        (999.6, "1 k"),
        (512e6, "512 M"),
        (1.024e9, "1.02 G"),
        (98765e9, "98.8 T"),
    ],
)
def test_numbers_have_prefixes(value, words):
    assert plot.si(value) == words


@pytest.mark.parametrize(("load", "processors"), [(0.6, 1), (1.01, 2), (3.2, 4)])
def test_a_busy_machine_is_told(load, processors):
    assert machine.busy(load - 0.2, processors + 1) is None
    told = machine.busy(load, processors)
    assert told.startswith(f"a load of {load} on {processors} processor")
    [line] = [line for line in machine.lines(machine.describe() | {"busy": told}) if line.startswith("BUSY")]
    assert told in line
    assert not [line for line in machine.lines(machine.describe() | {"busy": None}) if line.startswith("BUSY")]


def test_plot_of_nothing(tmp_path):
    pytest.importorskip("matplotlib")
    plot.draw(tmp_path / "empty.png", "png", [], {**DESCRIBED, "emulated": None})
    assert (tmp_path / "empty.png").stat().st_size > 0


def test_plot_without_matplotlib_says_so(tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert command_line.main([*QUICK, "--plot", str(tmp_path / "bench.png")]) == 2
    said = capsys.readouterr()
    assert said.out == ""  # before anything is measured
    assert said.err == 'pyint8dot bench: --plot needs matplotlib: pip install "pyint8dot[plot]"\n'


def test_emulation_is_told():
    arm = {"CPU implementer": "0x41"}
    assert machine.emulation({}, arm, True) is None
    assert machine.emulation({}, {}, True) is None
    assert machine.emulation({"QEMU_CPU": "max"}, arm, True) == "QEMU_CPU=max is in the environment"
    seen = machine.emulation({}, {"vendor_id": "AuthenticAMD", "model name": "Some EPYC"}, True)
    assert seen == "this process is AArch64, but /proc/cpuinfo shows Some EPYC"
    # The variable is for children of an x86 process that is not emulated itself.
    assert machine.emulation({"QEMU_CPU": "max"}, {"vendor_id": "AuthenticAMD"}, False) is None


def test_emulation_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(machine, "emulation", lambda *_: "a reason")
    assert command_line.main([*QUICK, "--shapes", "4x8x4", "--peers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"EMULATED: a reason. {machine.NOTHING_PROVED}" in lines
    assert lines[-1] == f"EMULATED: {machine.NOTHING_PROVED}"
    assert command_line.main([*QUICK, "--json", "-", "--shapes", "4x8x4", "--peers"]) == 0
    assert json.loads(capsys.readouterr().out)["machine"]["emulated"] == "a reason"


def test_cpuinfo_is_read(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nCPU part\t: 0xd0c\n\nprocessor\t: 1\nCPU part\t: 0xd40\n")
    assert machine.read_cpuinfo(path) == {"processor": "0", "CPU part": "0xd0c"}
    assert machine.read_cpuinfo(tmp_path / "none") == {}
