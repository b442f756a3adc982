"""``python -m pyint8dot info``: what bug reports need."""

from __future__ import annotations

import argparse
import json

from pyint8dot.engine.dispatch import kernel_info


def main(arguments: list[str]) -> int:
    """Print `kernel_info` as JSON.

    Parameters
    ----------
    arguments : list of str
        None but ``--help``.

    Returns
    -------
    int
        Exit code 0.
    """
    argparse.ArgumentParser(prog="python -m pyint8dot info", description="Print kernel_info() as JSON.").parse_args(
        arguments
    )
    print(json.dumps(kernel_info(), indent=2))
    return 0
