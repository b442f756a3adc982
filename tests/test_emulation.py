"""The set-up and the driver of `make test`: that they survive interruption and cannot pass by accident."""

import importlib.metadata
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from emulation import control, layout, run, setup, slim
from support.documents import project

from pyint8dot.engine import kernels

pytestmark = pytest.mark.static
# What workflows install where not every package is to be had.
FEW = {"hatchling", "hypothesis", "numpy", "pytest", "pytest-benchmark"}


def test_a_step_is_done_once_for_a_key(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "file").write_text(str(len(made)))

    place = tmp_path / "place"
    for key in ("one", "one", "two", "two"):
        setup.step("thing", place, key, make)
    assert len(made) == 2
    assert (place / "file").read_text() == "2"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("moves", [True, False])
def test_an_interrupted_step_is_done_again(tmp_path, moves):
    place = tmp_path / "place"

    def interrupted(folder):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        setup.step("thing", place, "key", interrupted, moves=moves)
    setup.step("thing", place, "key", lambda folder: (folder / "whole").write_text(""), moves=moves)
    assert sorted(path.name for path in place.iterdir()) == [".stamp", "whole"]


def test_an_interrupted_renewal_leaves_the_old_one(tmp_path):
    place = tmp_path / "place"
    setup.step("thing", place, "old", lambda folder: (folder / "old").write_text(""))

    def fails(_folder):
        raise setup.SetupError("no network")

    with pytest.raises(setup.SetupError):
        setup.step("thing", place, "new", fails)
    assert (place / "old").exists()


def test_a_written_file_is_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "folder" / "tool"
    setup.write(path, "#!/bin/sh\necho yes\n", 0o755)
    assert subprocess.run([str(path)], capture_output=True, text=True, check=True).stdout == "yes\n"
    before = path.stat().st_mtime_ns
    setup.write(path, "#!/bin/sh\necho yes\n", 0o755)
    assert path.stat().st_mtime_ns == before


def test_tools_are_fetched_once_whatever_the_system_gets_later(tmp_path, monkeypatch):
    """A machine without a network is set up for good, also where its system is given one of the two."""
    fetched = []
    monkeypatch.setattr(setup.layout, "TOOLS", tmp_path / "tools")
    monkeypatch.setattr(setup, "packages", lambda *given: (given[3].mkdir(), fetched.append(given[2])))
    monkeypatch.setattr(setup.slim, "drop", lambda *_: None)
    for has in ((), ("qemu-aarch64",), ("aarch64-linux-gnu-gcc",), ("qemu-aarch64", "aarch64-linux-gnu-gcc")):
        monkeypatch.setattr(setup.shutil, "which", lambda program, has=has: program if program in has else None)
        setup.host_tools()
    assert fetched == [["gcc-aarch64-linux-gnu", "qemu-user"]]


def test_a_missing_pip_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(setup.SetupError, match=r"has no pip \(on Debian: apt-get install python3-pip\)"):
        setup.check_pip()


def test_requirements_are_those_of_the_project():
    wanted = setup.requirements("test")
    assert any(item.startswith("numpy") for item in wanted)
    assert any(item.startswith("pytest-benchmark") for item in wanted)
    for name in setup.WITHOUT_DEPENDENCIES:
        assert any(item.startswith(name) for item in setup.requirements("models"))


@pytest.mark.parametrize(
    ("machine", "system", "distribution", "kind"),
    [
        ("aarch64", "linux", "debian", "native"),
        ("arm64", "darwin", "", "native"),
        ("x86_64", "linux", "debian", "emulated"),
        ("x86_64", "linux", "fedora", "portable"),
        ("x86_64", "darwin", "", "portable"),
        ("riscv64", "linux", "debian", "portable"),
    ],
)
def test_every_machine_has_a_kind(machine, system, distribution, kind, monkeypatch):
    monkeypatch.setattr(layout.platform, "machine", lambda: machine)
    monkeypatch.setattr(layout.sys, "platform", system)
    monkeypatch.setattr(layout, "distribution", lambda: distribution)
    assert layout.kind() == kind


def test_the_weak_model_shows_no_dot_products():
    assert "asimddp" not in layout.SHOWN["cortex-a72"][0].split()
    assert "asimddp" in layout.SHOWN["neoverse-n1"][0].split()


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Runs whose reports lie in a folder of this test."""
    monkeypatch.setattr(run, "REPORTS", tmp_path)
    return [run.Run(name, sys.executable) for name in ("first", "second", "third")]


def test_libraries_of_other_systems_take_the_place_of_this_ones():
    planned = run.runs("emulated")
    assert [one.image for one in planned if one.image] == run.FOREIGN
    assert len(planned) == len(layout.MODELS) + len(run.FOREIGN) + 1
    for one in planned:
        environment = one.environment()
        assert ("PYINT8DOT_IMAGE" in environment) == ("support.image_plugin" in one.tests) == (one.image is not None)
        if one.image:
            assert Path(environment["PYINT8DOT_IMAGE"]).parts[-3:-1] == ("pyint8dot", "lib")
            assert all((layout.CHECKOUT / name).exists() for name in one.tests if name.endswith(".py"))


def test_every_kernel_has_a_run_that_goes_through_it():
    """On a processor that runs it, with the builtin and with calls of single entries."""
    planned = [one for one in run.runs("emulated") if one.cpu and not one.image and one.builtin and one.entries]
    for row in kernels.KERNELS.values():
        able = [one for one in planned if row.features <= one.features]
        [own] = [one for one in able if one.shown is None or not row.features <= one.shown]
        assert own.shown is None or not kernels.KERNELS[own.chooses].features <= own.shown


def test_what_no_run_carried_out_is_found(planned):
    records = (
        {"a": "passed", "b": "skipped", "c": "left out", "d": "left out", "e": "failed", "g": "unavailable: no cc"},
        {"a": "skipped", "b": "left out", "c": "passed", "f": "skipped", "g": "skipped", "h": "unavailable: no cc"},
        {"h": "passed"},
    )
    for one, record in zip(planned, records, strict=True):
        one.record.write_text(json.dumps(record))
    assert run.never_ran(planned) == (["b", "d", "f"], ["g: unavailable: no cc"])


def test_closing_lines_are_counted_and_reports_of_failures_kept(planned):
    text = "....F [100%]\n==== FAILURES ====\n__ test_x __\nassert 0\n1 failed, 4 passed, 2 errors in 1.00s\n"
    planned[0].log.write_text(text)
    assert run.count(planned[0]) == {"failed": 1, "passed": 4, "error": 2}
    assert run.trouble(planned[0]).startswith("==== FAILURES ====")
    assert run.progress(planned[0]) == "100%"
    assert run.ending(planned[0], 1) == "1 failed, 4 passed, 2 errors in 1.00s"
    planned[1].log.write_text("a warning\n....Fatal Python error: Segmentation fault\n\nthreads\n")
    assert run.trouble(planned[1]) == "....Fatal Python error: Segmentation fault\n\nthreads\n"
    assert run.ending(planned[1], -11) == "DIED with exit status -11 (Fatal Python error: Segmentation fault)"
    assert run.progress(planned[1]) == "starting"


def test_the_recorder_tells_passed_from_skipped_from_left_out(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "def pytest_collection_modifyitems(items):\n    items[:] = [i for i in items if i.name != 'test_out']\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_yes(): pass\n"
        "def test_no(): assert 0\n"
        "def test_out(): pass\n"
        "def test_skip(): pytest.skip('reason')\n"
        "@pytest.mark.optional\n"
        "def test_tool(): pytest.skip('no tool')\n"
    )
    one = run.Run("one", layout.HOST_PYTHON)
    environment = {
        **one.environment(),
        "PYINT8DOT_RECORD": str(tmp_path / "record"),
        "PYTHONPATH": str(layout.CHECKOUT),
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.emulation.record",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    subprocess.run(
        [*command, "--rootdir", str(tmp_path)], env=environment, cwd=tmp_path, capture_output=True, check=False
    )
    outcomes = json.loads((tmp_path / "record").read_text())
    short = {name.partition("::")[2]: outcome for name, outcome in outcomes.items()}
    assert short.pop("test_tool").startswith("unavailable:")
    assert short == {"test_yes": "passed", "test_no": "failed", "test_out": "left out", "test_skip": "skipped"}


def answers(table):
    """A stand-in for the child processes of the controls."""
    return lambda one, program: table.get((one.name, program), (0, "KernelError: no"))


def test_the_controls_fail_where_the_weak_model_survives(monkeypatch, capsys):
    weak = run.Run("weak", layout.PYTHON, "cortex-a72", frozenset({"asimd"}))
    strong = run.Run("strong", layout.PYTHON, "neoverse-n1", frozenset({"asimd", "dotprod"}))
    table = {(one.name, control.CHOSEN): (0, one.chooses) for one in (weak, strong)}
    for one, row in itertools.product((weak, strong), control.BEYOND):
        runs = row.features <= one.features
        table[one.name, control.forced(row)] = (0, "right") if runs else (-signal.SIGILL, "")
    dot = next(row for row in control.BEYOND if row.features <= strong.features)
    monkeypatch.setattr(control, "child", answers(table))
    assert control.check([weak, strong]) == []
    assert "NO" not in capsys.readouterr().out
    for key, bad in [
        (("weak", control.CHOSEN), (0, strong.chooses)),
        (("weak", control.forced(dot)), (0, "right")),
        (("weak", control.forced(dot)), (1, "LibraryError")),
        (("weak", control.friendly(dot)), (-signal.SIGILL, "")),
        (("strong", control.forced(dot)), (0, "wrong")),
    ]:
        monkeypatch.setattr(control, "child", answers({**table, key: bad}))
        assert len(control.check([weak, strong])) == 1


# What a shell would cut up or expand.
AWKWARD = "a b/c 'd' $HOME `e` \"f\""


def recorder(path, answer=""):
    """A program that notes its first words and where it runs, in a file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nprintf "%s|" "$PWD" "$@" >>"$0.said"; echo >>"$0.said"\n{answer}')
    path.chmod(0o755)
    return path


def said(path):
    return [line.rstrip("|").split("|") for line in Path(f"{path}.said").read_text().splitlines()]


def test_the_emulated_interpreter_may_lie_in_any_folder(tmp_path, monkeypatch):
    folder = tmp_path / AWKWARD
    qemu = recorder(folder / "qemu")
    (folder / "cpu" / "cortex-a72").mkdir(parents=True)
    setup.write(folder / "python", setup.launcher(str(qemu), folder / "cpu", folder / "python3"), 0o755)
    monkeypatch.chdir(tmp_path)
    for cpu, root in (("cortex-a72", "cortex-a72"), ("neoverse-n1", "max")):
        monkeypatch.setenv("QEMU_CPU", cpu)
        subprocess.run([folder / "python", "-c", "1 + 1"], check=True)
        assert said(qemu)[-1][1:] == ["-L", f"{folder}/cpu/{root}", f"{folder}/python3", "-s", "-c", "1 + 1"]


def test_the_makefile_quotes_every_path():
    text = (layout.CHECKOUT / "Makefile").read_text()
    paths = re.findall(r"^(\w+) *\??:?= *(?:\$\(CURDIR\)/|\.arm64/|python3$)", text, re.MULTILINE)
    assert sorted(paths) == ["ARM64", "HOST", "PYTHON", "ZIZMOR"]
    for name in (*paths, "CURDIR"):
        recipes = [line for line in text.splitlines() if line.startswith("\t")]
        used = [match for line in recipes for match in re.findall(rf".?\$[({{]{name}[)}}].?", line)]
        assert all(match[0] == match[-1] == '"' for match in used), (name, used)


@pytest.mark.optional
def test_every_target_works_in_a_folder_with_spaces(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("no make")
    # make itself expands $ and splits at quotes; spaces are what people have.
    folder = tmp_path / "a b" / "c  d"
    (folder / "tests").mkdir(parents=True)
    (folder / "Makefile").write_text((layout.CHECKOUT / "Makefile").read_text())
    host, arm64 = (recorder(folder / ".arm64" / place / "bin" / "python") for place in ("host", "."))
    python = recorder(folder / "own python")
    targets = "setup build models test fuzz prove demo bench icount cycles recall wheels lint".split()
    done = subprocess.run(
        ["make", f"PYTHON={python}", *targets], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    tests = str(folder / "tests")
    assert said(python) == [
        [tests, "-m", "emulation.setup"],
        [str(folder), "build.py", "--tests"],
        [tests, "-m", "emulation.setup", "cycles"],
    ]
    assert said(arm64) == [[str(folder), "-m", "pyint8dot", "demo"]]
    runs = {tuple(words[:3]) for words in said(host)}
    assert runs >= {(str(folder), "-m", "pyint8dot.onnx.zoo"), (str(folder), "-m", "mypy")}
    assert runs >= {
        (tests, "-m", name) for name in ("emulation.run", "fuzz", "proof", "icount.measure", "cycles", "wheels.make")
    }
    assert {words[0] for words in said(host)} == {str(folder), tests}


# What set-up leaves out.


def test_what_nothing_reads_is_dropped(tmp_path):
    for name in (
        "usr/bin/qemu-aarch64",
        "usr/bin/qemu-aarch64_be",
        "usr/bin/qemu-arm",
        "usr/bin/qemu-x86_64",
        "usr/bin/as",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "usr" / "share" / "doc").mkdir(parents=True)
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "usr" / "share" / "link").symlink_to(tmp_path / "elsewhere")
    slim.drop(tmp_path, slim.TOOLS)
    assert sorted(path.name for path in (tmp_path / "usr" / "bin").iterdir()) == ["as", "qemu-aarch64"]
    assert list((tmp_path / "usr" / "share").iterdir()) == []
    assert (tmp_path / "elsewhere").read_text() == "kept"


@pytest.mark.parametrize(("asked", "status"), [([], 0), (["cycles"], 1)])
def test_llvm_that_cannot_be_had_is_said_and_stops_only_who_asked_for_it(asked, status, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(layout, "HOME", tmp_path)
    monkeypatch.setattr(layout, "LLVM", tmp_path / "llvm")
    monkeypatch.setattr(layout, "kind", lambda: "emulated")
    monkeypatch.setattr(layout, "distribution", lambda: "fedora")
    for name in ("check_pip", "emulated"):
        monkeypatch.setattr(setup, name, lambda: None)
    monkeypatch.setattr(setup, "host_environment", lambda kind: None)
    monkeypatch.setattr(setup, "run", lambda command: "aarch64 2.0")
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    monkeypatch.setattr(layout, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(layout, "CHECKOUT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["setup", *asked])
    assert setup.main() == status
    said = capsys.readouterr()
    assert "no llvm-mca of LLVM 19; it is fetched on Debian alone, from its llvm-19" in said.out
    assert bool(said.err) == bool(asked)


def test_what_two_packages_have_is_kept_once(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    contents = {"model": b"m" * slim.LEAST, "code": b"c" * slim.LEAST, "small": b"s", "own": b"o" * slim.LEAST}
    for folder in (one, other):
        (folder / "package").mkdir(parents=True)
        for name, content in contents.items():
            (folder / "package" / name).write_bytes(content)
    (one / "package" / "code").write_bytes(b"C" * slim.LEAST)
    (other / "package" / "own").unlink()
    for _ in range(2):  # a second time changes nothing
        slim.share(one, other)
        shared = [name for name in contents if (one / "package" / name).stat().st_nlink == 2]
        assert shared == ["model"]
        assert (one / "package" / "code").read_bytes() == b"C" * slim.LEAST
        assert (one / "package" / "model").samefile(other / "package" / "model")
    assert sorted(path.name for path in one.rglob("*") if path.is_file()) == sorted(contents)


def test_the_suite_begins_with_few_packages():
    """Test files that need more are left out by name; one that is not is an error of the whole run."""
    for workflow in (layout.CHECKOUT / ".github").rglob("test.yml"):  # an archive has none
        for installed in re.findall(r"pip install (?:-q )?(.*pytest-benchmark)", workflow.read_text()):
            assert {*installed.split(), "numpy"} == FEW
    extras = project()["optional-dependencies"]
    missing = {re.split("[<>=]", each)[0] for extra in extras.values() for each in extra} - FEW
    found = importlib.metadata.packages_distributions().items()
    modules = [name for name, owners in found if any(owner.lower().replace("_", "-") in missing for owner in owners)]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({modules})); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYINT8DOT_RECORD"}
    command = [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", "--collect-only"]
    done = subprocess.run(command, cwd=layout.CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "left out: test_onnx_session.py needs onnx" in done.stdout
