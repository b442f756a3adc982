"""`python -m pyint8dot.onnx.zoo [NAME ...]`: make the models that are not in the cache yet, and print their files."""

from __future__ import annotations

import sys

from pyint8dot.onnx.zoo import MODELS, model_path


def main(names: list[str]) -> int:
    """Make the named models, or all.

    Parameters
    ----------
    names : list of str
        Keys of `MODELS`.

    Returns
    -------
    int
        0, or 2 where a name is unknown or a package is missing; the reason is printed to the standard error.
    """
    try:
        for name in names or MODELS:
            print(model_path(name))
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
