"""Controls of the emulation itself: that each CPU model is what the suite takes it for.

A weak model that quietly ran SDOT would make every dispatch test worthless. So the entry of each kernel
beyond the baseline is called past all checks in a child process: on a CPU without its instruction the child
must die of SIGILL, seen from outside, and on one with it return the right product.
"""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

from support import rows

if TYPE_CHECKING:
    from emulation.run import Run

    from pyint8dot.engine.kernels import Kernel

CHOSEN = "import pyint8dot; print(pyint8dot.kernel_info()['chosen'])"

# The kernels that some processors lack an instruction for.
BEYOND = [row for row in rows.NATIVE if not row.features <= frozenset({"asimd"})]


def forced(row: Kernel) -> str:
    """Return a program that multiplies one tile of one K group of packed ones, so that every value of the product is K."""
    m, n, k = row.mr, row.nr, row.right.kr
    return f"""
import numpy as np
from pyint8dot.engine.program import Program
left, right, product = np.ones({m * k}, np.int8), np.ones({n * k}, np.int8), np.zeros(({m}, {n}), np.int32)
out = Program()
out.multiply("{row.name}", a=left, b=right, c=product, ldc={4 * n}, m={m}, n={n}, k={k})
out.run()
print("right" if (product == {k}).all() else "wrong")
"""


def friendly(row: Kernel) -> str:
    """Return a program that asks for a kernel as anybody would."""
    return f"""
import numpy as np
import pyint8dot
ones = np.ones((8, 8), np.int8)
try:
    pyint8dot.matmul(ones, ones, kernel="{row.name}")
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
        for row in BEYOND:
            status, output = child(run, forced(row))
            if run.features is not None and row.features <= run.features:
                control((status, output) == (0, "right"), f"{row.name} called directly on {run.name} is right")
                continue
            dies = status == -signal.SIGILL
            control(dies, f"{row.name} called directly on {run.name} dies of SIGILL (exit status {status})")
            status, output = child(run, friendly(row))
            refused = status == 0 and output.startswith("KernelError:")
            control(refused, f"{row.name} asked for on {run.name} is a KernelError")
    return complaints
