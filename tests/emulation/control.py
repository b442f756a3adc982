"""Controls of the emulation itself: that each CPU model is what the suite takes it for.

A weak model that quietly ran SDOT would make every dispatch test worthless. So the entry of the
SDOT kernel is called past all checks in a child process: on a CPU without the instruction the child
must die of SIGILL, seen from outside, and on one with it return the right product.
"""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulation.run import Run

CHOSEN = "import pyint8dot; print(pyint8dot.kernel_info()['chosen'])"

# One 8x8 tile, K = 4: packed ones on both sides, so that every value of the product is 4.
FORCED = """
import numpy as np
from pyint8dot.engine.program import Program
ones, product = np.ones(32, np.int8), np.zeros((8, 8), np.int32)
out = Program()
out.multiply("sdot_8x8", a=ones, b=ones, c=product, ldc=32, m=8, n=8, k=4)
out.run()
print("right" if (product == 4).all() else "wrong")
"""

FRIENDLY = """
import numpy as np
import pyint8dot
ones = np.ones((8, 8), np.int8)
try:
    pyint8dot.matmul(ones, ones, kernel="sdot_8x8")
except pyint8dot.KernelError as error:
    print("KernelError:", error)
"""


def child(run: Run, program: str) -> tuple[int, str]:
    """Run a program on a run's processor; return its exit status (minus the signal) and output."""
    done = subprocess.run(
        [str(run.python), "-c", program],
        env=run.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def chosen(run: Run) -> str:
    """Return the kernel chosen there, or a question mark."""
    status, output = child(run, CHOSEN)
    return output if status == 0 else "?"


def check(planned: list[Run]) -> list[str]:
    """Run the controls, print each, and return what does not hold."""
    complaints: list[str] = []

    def control(holds: bool, text: str) -> None:
        print(f"control: {text}: {'yes' if holds else 'NO'}", flush=True)
        if not holds:
            complaints.append(f"control: {text}")

    for run in planned:
        name = chosen(run)
        control(name == run.chooses, f"{run.name} chooses {run.chooses} (chose {name})")
        if run.cpu is None:
            continue
        status, output = child(run, FORCED)
        if run.features is not None and "dotprod" in run.features:
            control((status, output) == (0, "right"), f"sdot_8x8 called directly on {run.name} is right")
        else:
            dies = status == -signal.SIGILL
            control(dies, f"sdot_8x8 called directly on {run.name} dies of SIGILL (exit status {status})")
            status, output = child(run, FRIENDLY)
            friendly = status == 0 and output.startswith("KernelError:")
            control(friendly, f"sdot_8x8 asked for on {run.name} is a KernelError")
    return complaints
