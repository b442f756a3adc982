"""``make wheels``: a wheel for every system and the source distribution, built twice, checked, and tried where that can be done here.

The second build is made of what the first one packed as source, in another folder and under another umask: every file has to
come out with the same bytes. They go to ``dist/`` only when all of it holds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from emulation import layout
from support import entry, rows
from wheels import libraries

import build

DIST = layout.CHECKOUT / "dist"
TESTS = layout.CHECKOUT / "tests"
SMOKE = TESTS / "wheels" / "smoke.py"
MUSL = layout.ROOT / "lib" / "ld-musl-aarch64.so.1"
DEPTH = 16  # K of the products in opened.c
# What runs here with which system's library: where the loaders of macOS and Windows are missing, that of the tests serves.
SYSTEMS = {"linux-aarch64": "linux", "macos-arm64": "darwin", "windows-arm64": "win32"}


class WheelError(Exception):
    """Something is not as it has to be; the message says what."""


def say(name: str, what: str) -> None:
    """Print the line of one check that holds."""
    print(f"{name}: {what}", flush=True)


def run(command: list[str | Path], folder: Path | None = None, **environment: str) -> str:
    """Run a command and return what it prints, or raise WheelError with all of it."""
    # The compiler that set-up fetched serves every checkout.
    path = f"{layout.TOOLS / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise WheelError(f"`{' '.join(map(str, command))}` failed:\n{done.stdout}")
    return done.stdout.strip()


def make(checkout: Path, folder: Path) -> dict[str, Path]:
    """Build everything from a checkout into a folder; return the files by target, that of the source as "source"."""
    made = {}
    for target in (build.PORTABLE, *build.TARGETS, "source"):
        kind = "sdist" if target == "source" else "wheel"
        part = folder / target
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", part]
        run(command, checkout, PYINT8DOT_TARGET=target if kind == "wheel" else "")
        (made[target],) = part.iterdir()
    return made


def again(source: Path, folder: Path) -> dict[str, Path]:
    """Build everything from the source distribution, with files that nobody else may read."""
    before = os.umask(0o077)
    try:
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(folder)
        (checkout,) = folder.iterdir()
        return make(checkout, folder / "made")
    finally:
        os.umask(before)


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tracked() -> set[str] | None:
    """Return the files that git knows, or None in a checkout without it."""
    if not (layout.CHECKOUT / ".git").exists() or shutil.which("git") is None:
        return None
    return set(run(["git", "ls-files"], layout.CHECKOUT).splitlines())


def contents(files: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """Compare what is packed with what git knows: nothing else, and of the package nothing less."""
    known = tracked()
    if known is None:
        yield "contents", "not compared with git, which does not know this checkout"
        return
    package = {name for name in known if name.startswith("pyint8dot/")}
    for target, path in files.items():
        if target == "source":
            with tarfile.open(path) as archive:
                names = {member.name.partition("/")[2] for member in archive if member.isfile()} - {"PKG-INFO"}
            wanted = {name for name in known if not name.startswith(".") or name == ".gitignore"}
        else:
            with zipfile.ZipFile(path) as archive:
                names = {name for name in archive.namelist() if ".dist-info/" not in name}
            mine = {f"pyint8dot/lib/{library_name(target)}"} if target in build.TARGETS else set()
            wanted = package | mine
        if names != wanted:
            raise WheelError(f"{path.name} has on one side only: {', '.join(sorted(names ^ wanted))}")
        yield target, f"{len(names)} files, those of git" + (" and the library" if target in build.TARGETS else "")


def library_name(target: str) -> str:
    """Return the file name of the library of a target."""
    return build.path_of(build.PRODUCT, target).name


def platforms(wheel: Path) -> list[str]:
    """Return the platform tags of a wheel."""
    return wheel.stem.rpartition("-")[2].split(".")


def installed(path: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Let pip install a wheel for each platform of its tag, as if it ran there."""
    pip = [getattr(sys, "_base_executable", sys.executable), "-m", "pip"]
    options = ["-q", "--disable-pip-version-check", "--no-deps", "--no-index", "--only-binary=:all:"]
    for platform in platforms(path):
        place = folder / platform
        chosen = [] if platform == "any" else ["--platform", platform]
        run([*pip, "install", *options, *chosen, "--target", place, path])
        yield platform, place


def smoke(target: str, place: Path) -> Iterator[str]:
    """Run the installed package wherever its library can be run here."""
    native = build.host_target()
    mapped = f"import support.image_plugin, runpy; runpy.run_path({str(SMOKE)!r}, run_name='__main__')"
    if target in {build.PORTABLE, native}:
        expected = "portable" if target == build.PORTABLE else "native"
        yield run([sys.executable, SMOKE, expected], place, PYTHONPATH=str(place))
    elif layout.PYTHON.exists() and (layout.kind() == "emulated" or native == "linux-aarch64"):
        for model in [each.cpu for each in layout.MODELS] if layout.kind() == "emulated" else [""]:
            environment = {"QEMU_CPU": model, "PYTHONPATH": f"{place}{os.pathsep}{TESTS}"}
            environment["PYINT8DOT_IMAGE"] = str(place / "pyint8dot" / "lib" / library_name(target))
            own = SYSTEMS[target] == sys.platform
            yield run([layout.PYTHON, *([SMOKE] if own else ["-c", mapped]), "native"], place, **environment)
        if not own:
            yield f"not tried here: the loader of {SYSTEMS[target]}; that of the tests has mapped the library"
    else:
        yield "not tried: nothing here runs it"


def musl(place: Path, folder: Path) -> str:
    """Open the library with a program of musl: that is what can be done where there is no Python of musl."""
    if layout.kind() != "emulated" or not MUSL.exists():
        return "not tried: there is no loader of musl here"
    program = folder / "opened"
    compiler = [*build.ZIG, "cc", "-target", "aarch64-linux-musl", "-O2", "-fno-sanitize=all", "-s", "-dynamic"]
    run([*compiler, TESTS / "wheels" / "opened.c", "-o", program])
    # A kernel of complemented operands takes the upper half of K off.
    kernels = [f"{row.name}:{row.mr}:{row.nr}:{0 if row.complement else DEPTH}" for row in rows.NATIVE]
    library = place / "pyint8dot" / "lib" / library_name("linux-aarch64")
    others = sorted(set(entry.sources()) - {row.name for row in rows.NATIVE})
    words = run(
        [str(layout.tool("qemu-aarch64")), "-L", layout.ROOT, MUSL, program, library, *kernels, *others], QEMU_CPU="max"
    )
    return (
        f"{words}, {', '.join(row.name for row in rows.NATIVE)} right (a C program; Python on musl is not tried here)"
    )


def check(files: dict[str, Path], work: Path) -> None:
    """Check every file, and print each line that holds."""
    for name, what in contents(files):
        say(name, what)
    run([sys.executable, "-m", "twine", "check", "--strict", *files.values()])
    say("twine", f"check --strict passes all {len(files)} files")
    for target, path in files.items():
        if target == "source":
            continue
        places = dict(installed(path, work / "installed" / target))
        say(target, f"pip installs it for {', '.join(places)}")
        place = next(iter(places.values()))
        if target in build.TARGETS:
            for what in libraries.CHECKS[target](place / "pyint8dot" / "lib" / library_name(target)):
                say(target, what)
        if target == "linux-aarch64" and sys.platform == "linux":
            words = " ".join(run([sys.executable, "-m", "auditwheel", "show", path]).split())
            if 'platform tag: "manylinux_2_17_aarch64"' not in words:
                raise WheelError(f"auditwheel says: {words}")
            say(target, "auditwheel agrees with manylinux_2_17_aarch64")
            say(target, f"musl: {musl(place, work)}")
        for line in smoke(target, place):
            say(target, line.replace(str(place), "..."))


def main() -> int:
    """Build, compare, check, and leave the files in ``dist/``."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pyint8dot wheels ") as name:
        work = Path(name)
        files = make(layout.CHECKOUT, work / "first")
        second = again(files["source"], work / "second")
        for target, path in files.items():
            if sha256(path) != sha256(second[target]):
                raise WheelError(f"{path.name} is not the same when built again")
            say(target, f"{path.name}, twice with sha256 {sha256(path)}")
        check(files, work)
        shutil.rmtree(DIST, ignore_errors=True)
        DIST.mkdir()
        for path in files.values():
            shutil.copy(path, DIST)
    wheels = [path for path in files.values() if path.suffix == ".whl"]
    tags = sum(len(platforms(path)) for path in wheels)
    print(
        f"{len(wheels)} wheels, which serve {tags} platform tags, and the source are in dist/, made and checked in "
        f"{time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (WheelError, AssertionError) as error:
        sys.exit(f"wheels: {error}")
