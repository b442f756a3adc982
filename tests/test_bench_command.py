"""`python -m pyint8dot bench`: what it measures, what it refuses, what it says of a wrong result, and how it writes its file."""

from __future__ import annotations

import contextlib
import json
import sys
import types

import numpy as np
import pytest

from pyint8dot import __main__ as command_line
from pyint8dot.cli.bench import command, contenders, measure
from pyint8dot.cli.bench.contenders import PEERS, Contender, Problem
from pyint8dot.engine import dispatch, kernels
from pyint8dot.errors import KernelError

QUICK = ["bench", "--seconds", "0.001"]


@pytest.fixture
def small_peers(monkeypatch: pytest.MonkeyPatch):
    """A table of peers that a test may change."""
    table = {"numpy_float32": PEERS["numpy_float32"]}
    for module in (command, contenders):
        monkeypatch.setattr(module, "PEERS", table)
    return table


@pytest.fixture
def without_threadpoolctl(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert command_line.main([*QUICK, "--json", "-", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def peer(name: str, make) -> Contender:
    return Contender(name, "one", {"matmul": make})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "8x8"], "argument --shapes: a shape is MxKxN, such as 128x384x1536, got '8x8'"),
        (["--shapes", "8x8x8", "axbxc"], "argument --shapes: a shape is MxKxN, such as 128x384x1536, got 'axbxc'"),
        (["--shapes", "-1x8x8"], "argument --shapes: expected at least one argument"),
        (["--shapes", "8x0x8"], "argument --shapes: each size must be at least 1"),
        (["--shapes", "1x99999x99999"], "each matrix at most 268,435,456 values, got 1x99999x99999"),
        (["--kernels", "sdot"], "argument --kernels: kernel= asks for 'sdot', but there is no such kernel"),
        (["--calls", "matmul", "conv"], "argument --calls: invalid choice: 'conv'"),
        (["--peers", "mkl"], "argument --peers: invalid choice: 'mkl'"),
        (["--threads", "0"], "argument --threads: the number of threads must be from 1 to 1024, got 0"),
        (["--threads", "two"], "argument --threads: the number of threads must be an int, got 'two'"),
        (["--seconds", "0"], "argument --seconds: must be above 0 and at most 3600 seconds, got '0'"),
        (["--seconds", "nan"], "argument --seconds: must be above 0 and at most 3600 seconds, got 'nan'"),
        (["--seconds", "long"], "argument --seconds: must be above 0 and at most 3600 seconds, got 'long'"),
        (["--json", "no/such/folder.json"], "argument --json: there is no folder 'no/such'"),
        (["--json", "."], "argument --json: must be the name of a file, got '.'"),
        (["--plot", "picture.gif"], "argument --plot: the name must end in .png, .svg, .pdf, got 'picture.gif'"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_argument_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        command_line.main(["bench", *arguments])
    assert left.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("pyint8dot bench: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_default_shapes():
    options = command.parser().parse_args([])
    names = ["x".join(map(str, shape)) for shape in options.shapes]
    assert names == ["1x384x384", "128x384x384", "128x384x1536", "128x1536x384", "512x512x512", "1024x1024x1024"]
    assert options.calls == ["matmul"]


def test_json_has_every_kernel_and_numpy(capsys: pytest.CaptureFixture[str]):
    whole = report(
        capsys, "--shapes", "3x8x5", "16x8x8", "--peers", "numpy_float32", "numpy_int32", "--calls", "matmul"
    )
    assert set(whole) == {"schema", "machine", "method", "absent", "results"}
    assert whole["schema"] == 1
    assert whole["absent"] == {}
    assert whole["machine"]["features"] == sorted(dispatch.kernel_info()["features"])
    assert set(whole["machine"]["kernels"]) == set(kernels.KERNELS)
    rows = whole["results"]
    expected = [*dispatch.supported(), "numpy_float32", "numpy_int32"]
    assert [row["contender"] for row in rows] == 2 * expected
    assert {tuple(row["shape"]) for row in rows} == {(3, 8, 5), (16, 8, 8)}
    for row in rows:
        m, k, n = row["shape"]
        assert row["status"] == "exact"
        assert row["calls"] >= measure.FEWEST
        assert 0 < row["best_seconds"] <= row["median_seconds"]
        assert row["gops_best"] == pytest.approx(2 * m * k * n / row["best_seconds"] / 1e9)
        assert row["gops_median"] == pytest.approx(2 * m * k * n / row["median_seconds"] / 1e9)


def test_table(capsys: pytest.CaptureFixture[str]):
    assert command_line.main([*QUICK, "--shapes", "4x8x4", "--peers", "numpy_float32"]) == 0
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    assert "matmul 4x8x4" in words
    assert "contender threads GOP/s best GOP/s median best ms calls times numpy_float32" in words
    assert "2 * m * k * n of them in a product of (m, k) and (k, n)" in words
    for name in (*dispatch.supported(), "numpy_float32"):
        assert any(line.startswith(f"{name} ") for line in printed.splitlines())
    # numpy beside itself.
    last = next(line for line in printed.splitlines() if line.startswith("numpy_float32 "))
    assert last.split()[-1] == "1.0000"


@pytest.mark.parametrize("call", contenders.CALLS)
def test_every_peer_here_gives_our_integers(call: str):
    """At K = 8, too few for the sums that some libraries get wrong where both operands hold -128."""
    problem = Problem(call, (5, 8, 7))
    here = [one for one in PEERS.values() if contenders.absence(one) is None and call in one.makers]
    assert "numpy_float32" in [one.name for one in here]
    for one in here:
        found = measure.measure(one, problem, 1 if one.threads != "blas" else None, 1e-4)
        assert (found.contender, found.status, found.why) == (one.name, "exact", "")


@pytest.mark.parametrize("call", contenders.CALLS)
def test_problems_use_the_range_of_their_result(call: str):
    """Operands with which nothing is rounded or cut off prove little if nothing comes near."""
    expected = Problem(call, (16, 64, 16)).expected
    assert expected.dtype == {"matmul": np.int32, "linear": np.float32, "qlinear_matmul": np.int8}[call]
    assert len(np.unique(expected)) > 60
    if call == "qlinear_matmul":
        assert 63 <= np.abs(expected.astype(int)).max() <= 127


def test_wrong_peer_is_told_and_not_measured(small_peers, capsys: pytest.CaptureFixture[str]):
    calls = []

    def off_by_one(problem: Problem, threads: int):
        wrong = problem.a.astype(np.int32) @ problem.b.astype(np.int32)
        wrong[2, 1] += 1

        def call():
            calls.append(threads)
            return wrong

        return call

    small_peers["off"] = peer("off", off_by_one)
    assert command_line.main([*QUICK, "--shapes", "4x8x4", "--kernels", "portable"]) == 0
    assert "off: wrong, 1 of 16 values differ" in capsys.readouterr().out
    assert calls == [1]
    rows = {row["contender"]: row for row in report(capsys, "--shapes", "4x8x4")["results"]}
    assert rows["off"]["status"] == "wrong"
    assert "gops_best" not in rows["off"]


def test_peer_that_goes_wrong_later_is_told(small_peers, capsys: pytest.CaptureFixture[str]):
    def shrinking(problem: Problem, _: int):
        right = problem.a.astype(np.int32) @ problem.b.astype(np.int32)
        answers = iter([right])
        return lambda: next(answers, right - 1)

    small_peers["tired"] = peer("tired", shrinking)
    rows = report(capsys, "--shapes", "4x8x4", "--kernels", "portable")["results"]
    assert rows[-1]["status"] == "wrong"
    assert rows[-1]["why"] == "16 of 16 values differ"


def test_wrong_shape_is_told():
    assert measure.difference(np.zeros((2, 3)), np.zeros((3, 2))) == "shape (2, 3) instead of (3, 2)"


def test_peer_that_fails_is_a_line(small_peers, capsys: pytest.CaptureFixture[str]):
    def broken(problem: Problem, threads: int):
        raise RuntimeError("no such operator\nand much more")

    small_peers["broken"] = peer("broken", broken)
    assert command_line.main([*QUICK, "--shapes", "4x8x4", "--kernels", "portable"]) == 0
    assert "broken: failed, RuntimeError: no such operator\n" in capsys.readouterr().out


def test_absent_peer_is_a_line(small_peers, capsys: pytest.CaptureFixture[str]):
    small_peers["absent"] = Contender("absent", "any", {"matmul": lambda p, t: None}, needs=("no_such_module_here",))
    assert command_line.main([*QUICK, "--shapes", "4x8x4", "--kernels", "portable"]) == 0
    assert "absent: not installed (pip install no_such_module_here)\n" in capsys.readouterr().out
    absent = report(capsys, "--shapes", "4x8x4", "--kernels", "portable")["absent"]
    assert absent == {"absent": "not installed (pip install no_such_module_here)"}


def test_wrong_kernel_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    real = contenders.own

    def own(name: str) -> Contender:
        good = real(name)
        makers = {"matmul": lambda problem, threads: lambda: good.make(problem, threads)() + 1}
        return Contender(name, good.threads, makers, ours=True)

    monkeypatch.setattr(contenders, "own", own)
    # Problem asks for the portable kernel by itself: that one stays right.
    monkeypatch.setattr(Problem, "expected", property(lambda self: real("portable").make(self, 1)()))
    name = dispatch.supported()[0]
    assert command_line.main([*QUICK, "--shapes", "4x8x4", "--kernels", name, "--peers"]) == 1
    assert f"{name}: wrong, 16 of 16 values differ" in capsys.readouterr().out


def test_kernel_of_the_environment_that_does_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse(name: str | None = None):
        raise KernelError("the environment asks for something else")

    monkeypatch.setattr(dispatch, "select", refuse)
    assert command_line.main([*QUICK, "--shapes", "4x8x4", "--peers"]) == 2
    assert capsys.readouterr().err == "pyint8dot bench: the environment asks for something else\n"


def test_int32_is_left_out_of_large_shapes():
    found = measure.measure(PEERS["numpy_int32"], Problem("matmul", (1, 5000, 5000)), 1, 1e-4)
    assert found.status == "left out"
    assert found.why == "too slow for more than 20,000,000 multiplications"


def test_threads_of_each_kind(without_threadpoolctl, small_peers, capsys: pytest.CaptureFixture[str]):
    told = []

    def counting(problem: Problem, threads: int):
        told.append(threads)
        return lambda: problem.a.astype(np.int32) @ problem.b.astype(np.int32)

    small_peers["many"] = Contender("many", "any", {"matmul": counting})
    small_peers["single"] = peer("single", counting)
    arguments = ["--shapes", "32x16x16", "--threads", "1", "2", "2"]
    seen: dict[str, list] = {}
    for row in report(capsys, *arguments)["results"]:
        seen.setdefault(row["contender"], []).append(row["threads"])
    native = {name: [1, 2] for name in dispatch.supported() if kernels.KERNELS[name].native}
    # How many threads numpy's BLAS has is not known here.
    assert seen == {**native, "portable": [None], "numpy_float32": [None], "many": [1, 2], "single": [1]}
    assert told == [1, 2, 1]
    assert command_line.main([*QUICK, *arguments]) == 0
    printed = capsys.readouterr().out
    assert "many, 2 threads: " in printed
    assert " times as fast as 1\n" in printed
    assert "single, " not in printed


def test_blas_follows_threadpoolctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    limits = []

    @contextlib.contextmanager
    def limited(count: int, user_api: str):
        assert user_api == "blas"
        limits.append(count)
        yield

    stub = types.ModuleType("threadpoolctl")
    stub.__spec__ = types.SimpleNamespace()
    stub.threadpool_info = lambda: [{"user_api": "openmp"}, {"user_api": "blas"}]
    stub.threadpool_limits = limited
    monkeypatch.setitem(sys.modules, "threadpoolctl", stub)
    arguments = ["--shapes", "4x8x4", "--kernels", "portable", "--peers", "numpy_float32", "--threads", "1", "3"]
    assert [row["threads"] for row in report(capsys, *arguments)["results"]] == [1, 3, 1, 3]
    assert limits == [1, 3, 1, 3]


def test_timed_keeps_to_its_budget(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def quarter():
        now[0] += 0.25

    assert measure.timed(quarter, 2.5) == (0.25,) * 10
    assert now[0] == 3.0  # two calls of warm-up
    assert measure.timed(quarter, 0.01) == (0.25,) * measure.FEWEST


def test_the_default_call_is_the_one_users_write(monkeypatch: pytest.MonkeyPatch):
    """Naming the kernel takes a longer way through the package, so it is done only where it must be."""
    seen = []
    monkeypatch.setattr(contenders.pyint8dot, "matmul", lambda a, b, **extra: seen.append(extra))
    problem = Problem("matmul", (1, 8, 8))
    chosen = dispatch.select().name
    default = contenders.pyint8dot.get_num_threads()
    contenders.own(chosen).make(problem, default)()
    contenders.own(chosen).make(problem, default + 1)()
    assert seen == [{}, {"kernel": chosen, "num_threads": default + 1}]


def test_json_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "result.json"
    assert command_line.main([*QUICK, "--shapes", "4x8x4", "--peers", "--json", str(target)]) == 0
    assert json.loads(target.read_text())["results"]
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]

    def dies(part):
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        command.write_whole(target, dies)
    assert json.loads(target.read_text())["results"]
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_file_that_cannot_be_written_is_exit_code_2(tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    def refuse(path, write):
        raise OSError("disk full")

    monkeypatch.setattr(command, "write_whole", refuse)
    arguments = ["--shapes", "4x8x4", "--peers", "--json", str(tmp_path / "a.json")]
    assert command_line.main([*QUICK, *arguments]) == 2
    assert capsys.readouterr().err == "pyint8dot bench: disk full\n"
