"""``make docs``: the site of pages, kernels and functions, into ``.arm64/docs``. A warning of Sphinx is an error.

The pages of entries say what is proven of them, so the library is built and the prover's quick run made first where that has not been done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from docs.sources import sources
from emulation import layout
from proof import prover
from proof.claims import CLAIMS

import build

HERE = Path(__file__).resolve().parent
SITE = layout.HOME / "docs"
SOURCES = layout.HOME / "docs-sources"


def write(folder: Path) -> None:
    """Write the sources of the site."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in sources().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def main() -> int:
    """Make the site of what `emulation.setup docs` has installed, and say where it is."""
    if build.build(build.PRODUCT, "linux-aarch64") is not None:
        for name in CLAIMS:
            prover.kept(name, full=False)
    write(SOURCES)
    path = os.pathsep.join([str(layout.CHECKOUT), str(layout.SPHINX)])
    options = ["-W", "--keep-going", "-q", "-E", "-c", str(HERE)]
    command = [sys.executable, "-m", "sphinx", *options, str(SOURCES), str(SITE)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False)
    if done.returncode == 0:
        print(f"docs: {SITE.relative_to(layout.CHECKOUT)}/index.html")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
