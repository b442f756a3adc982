"""`python -m pyint8dot.onnx.zoo [NAME ...]`: make the models that are not in the cache yet, and print their files."""

from __future__ import annotations

import sys

from pyint8dot.onnx.zoo import MODELS, model_path, place


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
            # Each takes seconds, which are not to pass in silence.
            if name in MODELS and not place(name).is_file():
                print(f"models: making {name}", file=sys.stderr, flush=True)
            print(model_path(name))
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
