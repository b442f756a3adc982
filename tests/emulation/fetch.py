"""Debian packages unpacked into a folder: no root, nothing installed, the system's own sources.

apt runs on a configuration of its own, whose status file is empty, so that it neither touches the
system's state nor believes a package to be there already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


class SetupError(Exception):
    """Set-up cannot go on; the message is the one line the user reads."""


def run(command: list[str], **options: object) -> str:
    """Run a command quietly and return its output, or raise with the end of what it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        tail = " | ".join(done.stdout.strip().splitlines()[-4:])
        raise SetupError(f"`{' '.join(map(str, command))[:160]}` failed: {tail}")
    return done.stdout


def configuration(home: Path, architecture: str) -> Path:
    """Write the apt configuration of one architecture and return its path."""
    state = home / "apt" / architecture
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    # How packages are reached (proxies, certificates) is the system's; everything else is ours.
    system = run(["apt-config", "dump"], env={**os.environ, "LC_ALL": "C"}).splitlines()
    reach = [line for line in system if line.startswith("Acquire::") and not line.startswith("Acquire::Languages")]
    text = "\n".join(
        [
            *reach,
            'Acquire::Languages "none";',
            f'APT::Architecture "{architecture}";',
            f'APT::Architectures {{ "{architecture}"; }};',
            'APT::Sandbox::User "";',
            'APT::Install-Recommends "false";',
            f'Dir::State "{state}";',
            f'Dir::State::status "{state}/status";',
            f'Dir::Cache "{state}/cache";',
            f'Dir::Log "{state}";',
            'Dir::Etc::parts "/dev/null";',
            'Dir::Etc::main "/dev/null";',
            'Dir::Etc::preferencesparts "/dev/null";',
        ]
    )
    path = state / "apt.conf"
    path.write_text(text + "\n")
    return path


def packages(
    home: Path,
    architecture: str,
    names: list[str],
    target: Path,
    skip: tuple[str, ...] = (),
    alone: tuple[str, ...] = (),
) -> None:
    """Download packages with all they depend on and unpack them into ``target``.

    Parameters
    ----------
    home : pathlib.Path
        Where apt's own state goes.
    architecture : str
        Debian's name of the architecture.
    names : list of str
        The packages wanted.
    target : pathlib.Path
        The folder to unpack into.
    skip : tuple of str
        Packages not to unpack although something depends on them.
    alone : tuple of str
        Packages wanted without what they depend on.

    Raises
    ------
    SetupError
        A package cannot be had from the system's sources.
    """
    environment = {**os.environ, "APT_CONFIG": str(configuration(home, architecture)), "LC_ALL": "C"}
    cache = home / "apt" / architecture / "cache" / "archives"
    shutil.rmtree(cache)
    (cache / "partial").mkdir(parents=True)
    # A source that fails, or has nothing for this architecture, harms nothing in itself: what counts
    # is whether the packages can be had afterwards. If not, its complaint is the reason.
    command = ["apt-get", "-q", "update"]
    update = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    try:
        run(["apt-get", "-q", "-y", "--download-only", "install", *names], env=environment)
        if alone:
            run(["apt-get", "-q", "download", *alone], env=environment, cwd=cache)
    except SetupError as error:
        reasons = [line for line in update.stderr.splitlines() if line.startswith(("W:", "E:"))]
        raise SetupError(" | ".join([*reasons[:2], str(error)])) from None
    target.mkdir(parents=True, exist_ok=True)
    for archive in sorted(cache.glob("*.deb")):
        if archive.name.split("_")[0] not in skip:
            run(["dpkg-deb", "-x", str(archive), str(target)])
    # Newer Debian ships only usr/lib; the dynamic loader is still looked for under /lib.
    if not (target / "lib").exists():
        (target / "lib").symlink_to("usr/lib")
    shutil.rmtree(cache.parents[1])
