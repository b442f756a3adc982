"""A plugin of pytest that adds a kernel before anything has read the tables: ``-p support.new_kernel.plugin``.

``NEW_KERNEL`` is the folder with its sources, its rows, and the library of all entries.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path

from support import entry

import build
from pyint8dot.engine import library

FOLDER = Path(os.environ["NEW_KERNEL"])
BUILT = FOLDER / library.path().name

runpy.run_path(str(FOLDER / "rows.py"))
entry.FOLDERS.append(FOLDER)
build.PRODUCT = build.PRODUCT._replace(sources=(*build.PRODUCT.sources, FOLDER), folder=FOLDER)
library.path = lambda: BUILT
