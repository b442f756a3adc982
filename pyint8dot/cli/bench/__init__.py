"""``python -m pyint8dot bench``: speed of whole calls on this machine, beside numpy and the libraries that are installed."""

from pyint8dot.cli.bench.command import main

__all__ = ["main"]
