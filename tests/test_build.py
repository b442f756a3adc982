"""build.py: what it builds, when it builds again, how it fails, and the wheels it makes."""

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import build
from pyint8dot.engine import library

CHECKOUT = Path(__file__).resolve().parents[1]

# Building runs programs of this machine, whatever Python is emulated.
pytestmark = pytest.mark.static

ENTRY = """
        .arch armv8-a
        .globl pyint8dot_{name}
        .type pyint8dot_{name}, %function
pyint8dot_{name}:
        hint #34
        {body}
        ret
        .size pyint8dot_{name}, . - pyint8dot_{name}
        .section .note.gnu.property, "a"
        .p2align 3
        .word 4, 16, 5, 0x00554e47, 0xc0000000, 4, 1, 0
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A checkout with one small source of its own."""
    (tmp_path / "asm").mkdir()
    (tmp_path / "asm" / "small.h").write_text("#define NOTHING nop\n")
    (tmp_path / "asm" / "one.S").write_text('#include "small.h"\n' + ENTRY.format(name="one", body="NOTHING"))
    monkeypatch.setattr(build, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def linux():
    """The Linux target, where this machine can build for it."""
    if build.find_compiler("linux-aarch64") is None:
        pytest.skip("no compiler for linux-aarch64 on this machine")
    return "linux-aarch64"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A checkout with the real sources of the assembly."""
    shutil.copytree(CHECKOUT / "asm", tmp_path / "asm")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    return tmp_path


def test_builds_again_only_after_a_change(tree, linux):
    path = build.build(target=linux)
    assert path == tree / "pyint8dot" / "lib" / "libpyint8dot.so"
    first = path.stat().st_mtime_ns
    assert build.build(target=linux).stat().st_mtime_ns == first
    (tree / "asm" / "small.h").write_text("#define NOTHING yield\n")
    second = build.build(target=linux).stat().st_mtime_ns
    assert second > first
    path.write_bytes(b"damaged")
    assert build.build(target=linux).read_bytes() != b"damaged"
    assert build.build(target=linux, force=True).stat().st_mtime_ns > second


def test_what_the_assembler_cannot_encode_is_an_error_with_command_and_output(tree, linux):
    before = build.build(target=linux).read_bytes()
    (tree / "asm" / "two.S").write_text(ENTRY.format(name="two", body="sdot v0.4s, v1.16b, v2.16b"))
    with pytest.raises(build.BuildError) as caught:
        build.build(target=linux)
    message = str(caught.value)
    assert "-x assembler-with-cpp" in message
    assert "asm/two.S" in message
    assert "sdot" in message
    # The library that was there is untouched, and nothing half-made lies about.
    folder = tree / "pyint8dot" / "lib"
    assert (folder / "libpyint8dot.so").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [".libpyint8dot.so.json", "libpyint8dot.so"]


SWITCH = """
#if defined(__APPLE__)
        .arch_extension {extension}
#else
        .arch   armv8.2-a+{extension}
#endif
"""


@pytest.mark.parametrize(("extension", "old"), [("dotprod", False), ("unheardof", True)])
def test_an_assembler_too_old_for_an_extension_is_said_to_be(tree, linux, extension, old):
    """And one that knows it and complains of something else is not."""
    body = SWITCH.format(extension=extension) + "        no_such_instruction v0.4s"
    (tree / "asm" / "two.S").write_text(ENTRY.format(name="two", body=body))
    with pytest.raises(build.BuildError) as caught:
        build.build(target=linux)
    said = f"the assembler is too old for asm/two.S: it does not know the extension {extension}\n"
    assert str(caught.value).startswith(said) is old
    assert "-x assembler-with-cpp" in str(caught.value)


@pytest.mark.parametrize("path", sorted((CHECKOUT / "asm").glob("*.S")), ids=lambda path: path.stem)
def test_every_extension_is_looked_for(path, monkeypatch, tmp_path):
    """The lines that switch one on are found in every source that has them."""

    def refuse(command):
        raise build.BuildError(command)

    monkeypatch.setattr(build, "run", refuse)
    switched = "arch_extension" in path.read_text()
    assert (build.unknown_extension([], path, str(tmp_path)) is not None) is switched


def test_a_source_without_the_bti_note_does_not_link(tree, linux):
    without = ENTRY.format(name="one", body="nop").partition("        .section .note.gnu.property")[0]
    (tree / "asm" / "one.S").write_text(without)
    with pytest.raises(build.BuildError, match="BTI"):
        build.build(target=linux)


def test_an_undefined_symbol_does_not_link(tree, linux):
    (tree / "asm" / "one.S").write_text(ENTRY.format(name="one", body="bl memcpy"))
    with pytest.raises(build.BuildError, match="memcpy"):
        build.build(target=linux)


@pytest.fixture
def elsewhere(tree):
    """A folder outside the checkout with a source and a header of its own, and the library of both."""
    folder = tree.parent / f"{tree.name}-elsewhere"
    folder.mkdir()
    (folder / "own.h").write_text("#define OWN nop\n")
    (folder / "two.S").write_text('#include "small.h"\n#include "own.h"\n' + ENTRY.format(name="two", body="OWN"))
    return build.PRODUCT._replace(sources=("asm", folder), folder=folder)


def test_sources_of_several_folders_make_one_library(elsewhere, linux):
    path = build.build(elsewhere, linux)
    assert path == elsewhere.folder / "libpyint8dot.so"
    data = path.read_bytes()
    assert b"pyint8dot_one" in data
    assert b"pyint8dot_two" in data
    first = path.stat().st_mtime_ns
    (elsewhere.folder / "own.h").write_text("#define OWN yield\n")
    assert build.build(elsewhere, linux).stat().st_mtime_ns > first


def test_an_entry_in_two_folders_does_not_link(elsewhere, linux):
    (elsewhere.folder / "one.S").write_text(ENTRY.format(name="one", body="nop"))
    with pytest.raises(build.BuildError, match=r"(multiple definition of `|duplicate symbol: )pyint8dot_one"):
        build.build(elsewhere, linux)


def test_no_source_is_an_error(tmp_path, linux):
    with pytest.raises(build.BuildError, match=f"there is no source in {tmp_path}"):
        build.build(build.PRODUCT._replace(sources=(tmp_path,)), linux)


@pytest.mark.parametrize("target", build.TARGETS)
def test_the_same_sources_give_the_same_bytes_anywhere(copy, target, monkeypatch):
    if build.find_compiler(target) is None:
        pytest.skip(build.no_toolchain(target))
    first = build.build(target=target).read_bytes()
    other = copy / "elsewhere" / "deeper"
    shutil.copytree(copy / "asm", other / "asm")
    monkeypatch.setattr(build, "ROOT", other)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert build.build(target=target).read_bytes() == first
    assert sorted(path.name for path in other.iterdir()) == ["asm", "pyint8dot"]


def test_no_toolchain_is_a_warning_and_an_error_where_one_is_required(tree, monkeypatch, capsys):
    monkeypatch.setattr(build, "compilers", lambda _target: [["no-such-compiler"]])
    assert build.build(target="linux-aarch64") is None
    monkeypatch.setattr(sys, "argv", ["build.py", "--target", "linux-aarch64"])
    assert build.main() == 0
    monkeypatch.setattr(sys, "argv", ["build.py", "--target", "linux-aarch64", "--require"])
    assert build.main() == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all("no-such-compiler" in line and "portable" in line for line in said)
    assert not (tree / "pyint8dot").exists()


def test_a_compiler_for_another_machine_is_not_taken(monkeypatch):
    answers = {"cc": "x86_64-linux-gnu", "apple": "arm64-apple-darwin24.0.0", "right": "aarch64-alpine-linux-musl"}
    monkeypatch.setattr(build, "compilers", lambda _target: [[name] for name in answers])
    monkeypatch.setattr(build.shutil, "which", lambda name: name)
    monkeypatch.setattr(build, "answers", lambda command: answers[command[0]])
    assert build.find_compiler("linux-aarch64") == ["right"]
    assert build.find_compiler("macos-arm64") == ["apple"]
    assert build.find_compiler("windows-arm64") is None


def test_zig_makes_the_library_of_linux_with_the_same_entries(copy, monkeypatch):
    """Where there is no compiler for Linux, as on macOS, and no home directory either."""
    monkeypatch.delenv("HOME", raising=False)
    pytest.importorskip("ziglang")
    lief = pytest.importorskip("lief")
    *_, zig = build.compilers("linux-aarch64")
    monkeypatch.setattr(build, "compilers", lambda _target: [zig])
    path = build.build(target="linux-aarch64")
    assert path == copy / "pyint8dot" / "lib" / "libpyint8dot.so"
    image = lief.ELF.parse(path)
    assert {symbol.name for symbol in image.exported_symbols} == {library.PREFIX + stem for stem in library.ENTRIES}
    assert not list(image.imported_symbols)
    assert image.has(lief.ELF.Segment.TYPE.GNU_PROPERTY)


@pytest.mark.parametrize("target", build.TARGETS)
def test_a_target_that_is_asked_for_and_has_no_toolchain_is_an_error(tree, target, monkeypatch):
    """pip would keep the portable wheel and install it again, long after there is a compiler."""
    monkeypatch.setattr(build, "compilers", lambda _target: [["no-such-compiler"]])
    with pytest.raises(build.BuildError, match=f"PYINT8DOT_TARGET asks for {target}.*no-such-compiler"):
        hook(monkeypatch, None, target)
    assert not (tree / "pyint8dot").exists()


def test_a_portable_wheel_can_be_asked_for_where_there_are_kernels(tree, monkeypatch):
    data, warnings = hook(monkeypatch, "linux-aarch64", "portable")
    assert data == {"force_include": {}}
    assert warnings == ""
    assert not (tree / "pyint8dot").exists()


@pytest.mark.parametrize(
    ("system", "machine", "built_for", "expected"),
    [
        ("linux", "aarch64", "linux-aarch64", "linux-aarch64"),
        ("android", "aarch64", "android-24-arm64_v8a", "linux-aarch64"),
        ("darwin", "arm64", "macosx-11.0-arm64", "macos-arm64"),
        ("win32", "ARM64", "win-arm64", "windows-arm64"),
        # A Python for x86 that Windows or macOS emulate.
        ("win32", "ARM64", "win-amd64", None),
        ("darwin", "x86_64", "macosx-10.9-universal2", None),
        # Never tried there: portable, unless somebody asks.
        ("freebsd14", "arm64", "freebsd-14.1-release-arm64", None),
        ("linux", "armv7l", "linux-armv7l", None),
    ],
)
def test_the_target_of_a_machine(monkeypatch, system, machine, built_for, expected):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(build.sysconfig, "get_platform", lambda: built_for)
    assert build.host_target() == expected


def test_an_unknown_target_lists_the_known_ones(monkeypatch):
    monkeypatch.setenv("PYINT8DOT_TARGET", "vax")
    with pytest.raises(build.BuildError, match=r"'vax'.*linux-aarch64, macos-arm64, windows-arm64"):
        build.default_target()


def wheel(folder, checkout=CHECKOUT, **environment):
    """Make a wheel of a checkout as pip would, and return its path and the names in it."""
    pytest.importorskip("hatchling")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=checkout,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return path, set(archive.namelist())


def test_a_wheel_with_the_library_is_tagged_by_its_platform(tmp_path, linux):
    path, names = wheel(tmp_path, PYINT8DOT_TARGET=linux)
    assert path.stem.endswith("-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_2_aarch64")
    assert "pyint8dot/lib/libpyint8dot.so" in names
    assert "pyint8dot/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "asm", "build"))]


def test_a_wheel_holds_the_package_and_nothing_that_lies_about(tmp_path, linux):
    checkout = tmp_path / "checkout"
    for name in ("asm", "pyint8dot"):
        shutil.copytree(CHECKOUT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "lib"))
    for name in ("build.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, checkout)
    # Without git nothing says what is tracked, so the rule has to know by itself.
    sources = {path.relative_to(checkout).as_posix() for path in checkout.glob("pyint8dot/**/*.py")}
    strays = "stray.txt onnx/notes.bin onnx/model.onnx fuse/ops.py.orig fuse/.ops.py.swp lib/old.py lib/libpyint8dot.dylib engine/x.so"
    for name in (*strays.split(), "__pycache__/conv.cpython-311.pyc", "onnx/ops/.hidden/note.md"):
        stray = checkout / "pyint8dot" / name
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_text("")
    for environment, library_ in (
        ({}, None),
        ({"PYINT8DOT_TARGET": linux, "CC": shlex.join(build.find_compiler(linux))}, "pyint8dot/lib/libpyint8dot.so"),
    ):
        if library_ is None and build.host_target() is not None:
            continue  # here a wheel without a target is one with the library
        _, names = wheel(tmp_path / str(library_ is None), checkout, **environment)
        mine = {name for name in names if ".dist-info/" not in name}
        assert mine == sources | {"pyint8dot/py.typed"} | ({library_} if library_ else set())


@pytest.mark.skipif(build.host_target() is not None, reason="this machine's wheel holds the library")
def test_a_wheel_of_a_machine_without_kernels_is_pure(tmp_path):
    path, names = wheel(tmp_path)
    assert path.stem.endswith("-py3-none-any")
    assert not [name for name in names if name.startswith("pyint8dot/lib/")]


def hook(monkeypatch, host, asked=""):
    """Run the wheel hook as on another machine; return what it did to the wheel and its warnings."""
    monkeypatch.setenv("PYINT8DOT_TARGET", asked)
    monkeypatch.setattr(build, "host_target", lambda: host)
    warnings = []
    data = {"force_include": {}}
    app = SimpleNamespace(display_warning=warnings.append)
    build.CustomBuildHook.initialize(SimpleNamespace(app=app), "standard", data)
    return data, "\n".join(warnings)


@pytest.mark.usefixtures("tree")
def test_an_arm_machine_without_compiler_gets_a_portable_wheel_and_is_told_so(monkeypatch):
    monkeypatch.setattr(build, "find_compiler", lambda _target: None)
    data, warnings = hook(monkeypatch, "linux-aarch64")
    assert data == {"force_include": {}}
    assert "portable" in warnings
    assert "Install a C compiler" in warnings
    # What the running package says in the same place.
    assert build.REINSTALL in warnings
    assert build.REINSTALL in library.FIX


def test_the_advice_gets_past_the_cache_of_pip(tmp_path, linux):
    """Installed from the source without a compiler, pip keeps the portable wheel; what is said then makes it build again."""
    pip = [getattr(sys, "_base_executable", sys.executable), "-m", "pip", "--python", sys.executable]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no pip that serves another interpreter")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path / "index")]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    # Every Python that starts takes this machine for an Arm one, and those without a compiler have no other toolchain either.
    pretended = "import platform, sys\nplatform.machine = lambda: 'aarch64'\n"
    for name, more in (("with", ""), ("zig", ""), ("without", "sys.modules['ziglang'] = None\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sitecustomize.py").write_text(pretended + more)
    compiler = shutil.which(build.find_compiler(linux)[0])

    def install(name, words):
        place = tmp_path / f"installed-{len(list(tmp_path.iterdir()))}"
        environment = {**os.environ, "PIP_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path / name)}
        environment |= {"PYINT8DOT_TARGET": "", "CC": compiler if name == "with" else "none", "PATH": os.defpath}
        if name != "with":
            environment["PATH"] = ""
        offline = [
            "--no-index",
            "--find-links",
            str(tmp_path / "index"),
            build.NOT_ALONE,
            "--target",
            str(place),
        ]
        done = subprocess.run([*pip, *words, *offline], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [path.name for path in place.glob("pyint8dot/lib/*")]

    plain = ["install", "--no-deps", "pyint8dot"]
    assert install("without", plain) == []
    assert install("with", plain) == []
    assert install("with", shlex.split(build.REINSTALL)[1:]) == ["libpyint8dot.so"]
    assert f"{build.WITHOUT_ROOT}` brings one" in build.no_toolchain(linux)
    if all(importlib.util.find_spec(name) for name in build.WITHOUT_ROOT.split()[2:]):
        assert install("zig", shlex.split(build.REINSTALL)[1:]) == ["libpyint8dot.so"]


def test_an_arm_machine_whose_assembler_is_too_old_gets_no_wheel(tree, linux, monkeypatch):
    (tree / "asm" / "two.S").write_text(ENTRY.format(name="two", body="no_such_instruction x0"))
    with pytest.raises(build.BuildError, match="no_such_instruction"):
        hook(monkeypatch, linux)


def test_python_m_build_is_the_tool_of_that_name():
    done = subprocess.run(
        [sys.executable, "-m", "build", "--version"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("build ") or done.stderr.startswith("No module named build")
