"""A plugin of pytest that runs the suite on a library of another system: ``-p support.image_plugin``.

``PYINT8DOT_IMAGE`` is the library, as ``python build.py --target windows-arm64`` makes it. `make test` runs the tests of the
entries so, and any others can be::

    PYINT8DOT_IMAGE=pyint8dot/lib/libpyint8dot.dll PYTHONPATH=tests .arm64/bin/python -m pytest -p support.image_plugin
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from support.image import Image

from pyint8dot.engine import library

BUILT = Path(os.environ["PYINT8DOT_IMAGE"]).resolve()

library.path = lambda: BUILT
library.open_library = functools.partial(library.open_library, opener=Image)
