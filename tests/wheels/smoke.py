"""What an installed package has to do anywhere, in seconds: ``python smoke.py [portable | native]``. It says where it ran and on what.

It imports nothing but the package, so that it can be handed to any interpreter.
"""

from __future__ import annotations

import sys

import numpy as np

import pyint8dot


def main(wanted: str | None) -> str:
    """Multiply extremes and random numbers on every kernel of this machine; complain where a value is wrong.

    ``wanted`` is the sort of kernel that has to be chosen.
    """
    info = pyint8dot.kernel_info()
    rng = np.random.default_rng(0)
    shapes = ((1, 1, 1), (7, 5, 3), (15, 70, 23), (64, 33, 9), (128, 384, 384))
    kernels = [name for name, row in info["kernels"].items() if row["runs"]]
    sort = "portable" if info["chosen"] == "portable" else "native"
    if wanted not in {None, sort}:
        raise SystemExit(f"a {wanted} kernel was to be chosen, not {info['chosen']}: {info['library']['why']}")
    for m, k, n in shapes:
        extremes = np.full((m, k), -128, np.int8), np.full((k, n), -128, np.int8)
        numbers = rng.integers(-128, 128, (m, k), np.int8), rng.integers(-128, 128, (k, n), np.int8)
        for a, b in (extremes, numbers):
            right = a.astype(np.int64) @ b.astype(np.int64)
            for name in kernels:
                for operand in (b, pyint8dot.pack(b, kernel=name)):
                    if not np.array_equal(pyint8dot.matmul(a, operand, kernel=name), right):
                        raise SystemExit(f"{name} is wrong for {m}x{k}x{n}")
    pyint8dot.linear(rng.standard_normal((3, 32), np.float32), pyint8dot.pack(np.eye(32, dtype=np.int8)), w_scale=0.1)
    return (
        f"{pyint8dot.__file__}: {info['system']} {info['machine']}, {', '.join(kernels)} right, {info['chosen']} chosen"
    )


if __name__ == "__main__":
    print(main(sys.argv[1] if len(sys.argv) > 1 else None))
