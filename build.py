"""Assemble ``asm/*.S`` into the shared library: the only place with compiler and linker flags.

Three ways in: the command line (``python build.py --help``), the functions below, and hatchling,
which calls `CustomBuildHook` while it makes a wheel.

No toolchain is a warning, because the portable kernel serves; a toolchain that cannot assemble a
kernel is an error that shows the command and what it printed, never a kernel quietly left out.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import os
import platform
import re
import runpy
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # the command line needs nothing but the standard library
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
# The cross compiler that `make setup` fetches where the system has none.
FETCHED = ROOT / ".arm64" / "tools" / "bin" / "aarch64-linux-gnu-gcc"
TARGET_VARIABLE = "PYINT8DOT_TARGET"

COMPILE_FLAGS = ["-c", "-x", "assembler-with-cpp", "-Wall", "-I", "asm"]
# The assembler and linkers of the package `ziglang`, for systems other than this one.
ZIG = [sys.executable, "-m", "ziglang"]
TARGETS: dict[str, dict[str, Any]] = {
    "linux-aarch64": {
        "systems": ("linux", "freebsd"),
        "suffix": ".so",
        "compile": ["-Wa,--fatal-warnings", "-Wa,--noexecstack"],
        "link": [
            "-shared",
            "-nostdlib",
            "-Wl,--fatal-warnings",
            "-Wl,--build-id=sha1",
            "-Wl,-z,defs,-z,text,-z,relro,-z,now,-z,noexecstack,-z,force-bti",
            "-Wl,-soname,{name}",
        ],
        # The library calls nothing, not even libc, so it loads on every Linux of this machine.
        "wheel": "py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_2_aarch64",
    },
    "macos-arm64": {
        "systems": ("darwin", "macos"),
        "suffix": ".dylib",
        "compile": ["-Werror"],
        # The names of object files, which -S leaves out, are other ones in every folder.
        "link": ["-dynamiclib", "-Wl,-install_name,@rpath/{name}", "-Wl,-S"],
        "wheel": "py3-none-macosx_11_0_arm64",
    },
    "windows-arm64": {
        "systems": ("windows",),
        "suffix": ".dll",
        "compile": ["-Werror"],
        # /Brepro puts a hash where the time would stand.
        "link": ["/dll", "/noentry", "/machine:arm64", "/nodefaultlib", "/noimplib", "/Brepro", "/WX", "/nologo"],
        "wheel": "py3-none-win_arm64",
    },
}
# What PYINT8DOT_TARGET may say as well: no library, for every machine.
PORTABLE = "portable"
# pip keeps the wheels that it has built, and would install a portable one again.
REINSTALL = "pip install --force-reinstall --no-deps --no-cache-dir pyint8dot"
# A build of pip's sees no package but those it installs for it, so this toolchain is seen only with the option.
WITHOUT_ROOT, NOT_ALONE = "pip install hatchling ziglang", "--no-build-isolation"


class BuildError(Exception):
    """The toolchain is there and failed; the message holds the command and its output."""


class Library(NamedTuple):
    """One shared library: the folders whose sources it is made of, and where it goes; relative to the checkout, or anywhere."""

    stem: str
    sources: tuple[str | Path, ...]
    folder: str | Path


PRODUCT = Library("libpyint8dot", ("asm",), "pyint8dot/lib")
TESTS = Library("libchecked", ("tests/support",), "tests/support/lib")


def host_target() -> str | None:
    """Return the target this machine runs natively, or None where it runs none."""
    if sys.platform == "win32":
        # The machine may be another one than that of the process, which Windows emulates then.
        return "windows-arm64" if sysconfig.get_platform() == "win-arm64" else None
    if struct.calcsize("P") != 8 or platform.machine() not in ("aarch64", "arm64"):
        return None
    return {"linux": "linux-aarch64", "android": "linux-aarch64", "darwin": "macos-arm64"}.get(sys.platform)


def default_target() -> str:
    """Return the target to build: PYINT8DOT_TARGET, else this machine's, else Linux's (emulation)."""
    target = os.environ.get(TARGET_VARIABLE) or host_target() or "linux-aarch64"
    if target not in TARGETS:
        raise BuildError(f"unknown target {target!r}; known: {', '.join(TARGETS)}, and {PORTABLE} for a wheel")
    return target


@functools.cache
def zig_cache() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that is there as long as this process."""
    return tempfile.TemporaryDirectory(prefix="zig-", ignore_cleanup_errors=True)


def run(command: list[str], folder: Path | None = None) -> str:
    """Run a command in the checkout or another folder and return its output, or raise BuildError with all of it."""
    environment = dict(os.environ)
    if "HOME" not in environment:
        # Zig keeps what it has compiled in the home directory, and does not begin where there is none.
        environment.setdefault("ZIG_GLOBAL_CACHE_DIR", zig_cache().name)
    try:
        done = subprocess.run(
            command, cwd=folder or ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
    except OSError as error:
        raise BuildError(f"{shlex.join(command)}\n{error}") from None
    if done.returncode:
        raise BuildError(
            f"command failed with exit status {done.returncode}:\n  {shlex.join(command)}\n{done.stdout.rstrip()}"
        )
    return done.stdout


def answers(command: list[str]) -> str:
    """Return what a command prints, or nothing where it cannot be run."""
    with tempfile.TemporaryDirectory() as folder:  # zig leaves an empty file where it is asked for its machine
        try:
            return run(command, Path(folder)).strip()
        except BuildError:
            return ""


def compilers(target: str) -> list[list[str]]:
    """Return the compiler drivers worth trying for a target, best first."""
    given = [shlex.split(os.environ["CC"])] if os.environ.get("CC") else []
    if target == "linux-aarch64":
        cross = [["aarch64-linux-gnu-gcc"], [str(FETCHED)]]
        clang = [["clang", "--target=aarch64-linux-gnu", "-fuse-ld=lld"]]
        return [*given, ["cc"], ["gcc"], ["clang"], *cross, *clang, [*ZIG, "cc", "-target", "aarch64-linux-gnu"]]
    if target == "windows-arm64":
        return [[*ZIG, "cc", "-target", "aarch64-windows-gnu"]]
    if sys.platform == "darwin":
        oldest = ["-arch", "arm64", "-mmacosx-version-min=11.0"]
        return [[*command, *oldest] for command in (*given, ["cc"], ["clang"])]
    return [[*ZIG, "cc", "-target", "aarch64-macos.11.0"]]


def find_compiler(target: str) -> list[str] | None:
    """Return the first driver that exists and makes code for the target, machine and system, or None."""
    for command in compilers(target):
        if shutil.which(command[0]) is None:
            continue
        machine = answers([*command, "-dumpmachine"])
        if machine.startswith(("aarch64", "arm64")) and any(map(machine.count, TARGETS[target]["systems"])):
            return command
    return None


def linking(compiler: list[str], target: str, name: str, objects: list[str], made: str) -> list[str]:
    """Return the command that makes the library `made`, known by its `name`, of the objects."""
    flags = [flag.format(name=name) for flag in TARGETS[target]["link"]]
    if target == "windows-arm64":
        return [*ZIG, "lld-link", *flags, *objects, f"/out:{made}"]
    if target == "linux-aarch64" and compiler[: len(ZIG)] == ZIG:
        # The driver of zig refuses some of these flags, the linker that comes with it takes them all; what zig adds for
        # debuggers has the folder in it.
        flags = [word for flag in flags if flag.startswith("-Wl,") for word in flag.split(",")[1:]]
        return [*ZIG, "ld.lld", "-shared", "--strip-debug", *flags, *objects, "-o", made]
    return [*compiler, *flags, *objects, "-o", made]


def digest(*parts: object) -> str:
    """Return a hash over texts and over the contents of files."""
    total = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        total.update(hashlib.sha256(data).digest())
    return total.hexdigest()


def shown(path: Path) -> str:
    """Return a path as commands and messages have it: from the checkout on where it lies in there."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def unknown_extension(compile_command: list[str], source: Path, folder: str) -> str | None:
    """Return the processor extension that a source switches on and the assembler has never heard of, if there is one."""
    for extension in re.findall(r"^ +\.arch_extension +(\w+)$", source.read_text(), re.MULTILINE):
        probe = Path(folder, f"{extension}.S")
        # Not every assembler complains of an extension that it does not know in an `.arch` line.
        probe.write_text(f"#if !defined(__APPLE__)\n .arch armv8.2-a\n#endif\n .arch_extension {extension}\n")
        try:
            run([*compile_command, str(probe), "-o", str(probe.with_suffix(".o"))])
        except BuildError:
            return extension
    return None


def path_of(library: Library, target: str) -> Path:
    """Return where a library lies when it is built."""
    return ROOT / library.folder / (library.stem + TARGETS[target]["suffix"])


def build(library: Library = PRODUCT, target: str | None = None, *, force: bool = False) -> Path | None:
    """Build one library and return its path.

    Parameters
    ----------
    library : Library
        `PRODUCT`, `TESTS`, or one of other folders.
    target : str, optional
        A key of `TARGETS`; by default what `default_target` says.
    force : bool
        Build even where nothing changed since the last time.

    Returns
    -------
    pathlib.Path or None
        The library, or None where this machine has no toolchain for the target.

    Raises
    ------
    BuildError
        A command failed; the message shows it with its output.
    """
    target = target or default_target()
    folders = [ROOT / folder for folder in library.sources]
    sources = [source for folder in folders for source in sorted(folder.glob("*.S"))]
    if not sources:
        raise BuildError(f"there is no source in {' or '.join(map(str, folders))}")
    compiler = find_compiler(target)
    if compiler is None:
        return None

    traits = TARGETS[target]
    path = path_of(library, target)
    name = path.name
    compile_command = [*compiler, *COMPILE_FLAGS, *traits["compile"]]
    link_command = linking(compiler, target, name, [], "")

    headers = sorted({header for folder in (ROOT / "asm", *folders) for header in folder.glob("*.h")})
    commands = [compile_command, link_command, answers([*compiler, "--version"])]
    inputs = digest(*commands, [source.name for source in sources], *sources, *headers)
    stamp = path.with_name(f".{name}.json")
    if not force and path.exists() and stamp.exists():
        made_before = json.loads(stamp.read_text())
        if made_before == {"inputs": inputs, "output": digest(path)}:
            return path

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as folder:
        objects = []
        for number, source in enumerate(sources):
            # Two folders may have files of one name, of which the linker then says that they define the same.
            objects.append(f"{folder}/{number}-{source.stem}.o")
            try:
                run([*compile_command, shown(source), "-o", objects[-1]])
            except BuildError as error:
                extension = unknown_extension(compile_command, source, folder)
                if extension is None:
                    raise
                raise BuildError(
                    f"the assembler is too old for {shown(source)}: it does not know the extension {extension}\n{error}"
                ) from None
        made = Path(folder, name)
        run(linking(compiler, target, name, objects, str(made)))
        record = Path(folder, stamp.name)
        record.write_text(json.dumps({"inputs": inputs, "output": digest(made)}))
        # The library first: a stamp without its library, or with another one's, means "build again".
        made.replace(path)
        record.replace(stamp)
    print(f"built {shown(path)} for {target} with {shlex.join(compiler)}", file=sys.stderr)
    return path


def no_toolchain(target: str) -> str:
    """Return the sentence that says why nothing was built."""
    tried = ", ".join(shlex.join(command) for command in compilers(target))
    return (
        f"no toolchain for {target} (tried {tried}; `{WITHOUT_ROOT}` brings one without root, for `make build` and for "
        f"`pip install {NOT_ALONE}`): no native kernel is built, and every product runs on the portable one"
    )


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]  # untyped where hatchling is missing
    """Put the native library into a wheel where it can be built, and tag the wheel by it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build for this machine (or PYINT8DOT_TARGET) and add the library to the wheel."""
        asked = os.environ.get(TARGET_VARIABLE)
        if asked == PORTABLE or (not asked and host_target() is None):
            print("pyint8dot: the wheel is portable, without native kernels", file=sys.stderr)
            return
        target = default_target()
        path = build(PRODUCT, target)
        if path is None and asked:
            raise BuildError(f"{TARGET_VARIABLE} asks for {target}, but there is {no_toolchain(target)}")
        if path is None:
            self.app.display_warning("=" * 72)
            self.app.display_warning(f"pyint8dot: {no_toolchain(target)}.")
            self.app.display_warning(
                f"Install a C compiler (cc), then, for the fast kernels: {REINSTALL} (from a checkout . for the name)"
            )
            self.app.display_warning("=" * 72)
            return
        if version == "editable":
            return  # the checkout itself is imported, library and all
        build_data["pure_python"] = False
        build_data["tag"] = TARGETS[target]["wheel"]
        build_data["force_include"][str(path)] = f"pyint8dot/lib/{path.name}"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="build.py", description="Build pyint8dot's native library.")
    parser.add_argument("--target", choices=TARGETS, help="default: this machine's, else linux-aarch64")
    parser.add_argument("--tests", action="store_true", help="also build the library of the tests")
    parser.add_argument("--force", action="store_true", help="build even where nothing changed")
    parser.add_argument("--require", action="store_true", help="having no toolchain is an error")
    options = parser.parse_args()
    target = options.target or default_target()
    for library in (PRODUCT, TESTS) if options.tests else (PRODUCT,):
        if build(library, target, force=options.force) is None:
            print(f"build.py: {no_toolchain(target)}", file=sys.stderr)
            return int(options.require)
    return 0


if __name__ == "__main__":
    if __spec__ is not None:
        # `python -m build` in the checkout means the PyPA tool of that name, not this file.
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
        if importlib.util.find_spec("build") is None:
            sys.exit("No module named build (to assemble the kernels: python build.py)")
        runpy.run_module("build", run_name="__main__", alter_sys=True)
    else:
        try:
            sys.exit(main())
        except BuildError as failure:
            sys.exit(f"build.py: {failure}")
