"""``make lab KERNEL=path/to/name.S``: everything that can be said of a kernel before it has a row, as a table and as a page.

The row is inferred from the contract at the head of the file. Exit status 1 says that a step found something wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emulation import layout
from lab import page, trial
from lab.trial import Step, Trial

#: Where pages go, and where kernels are tried.
PAGES = layout.HOME / "reports" / "lab"
ROOMS = layout.HOME / "lab"


def main() -> int:
    """Try the kernel that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("kernel", type=Path, help="the file of the kernel, whose name it has")
    parser.add_argument("--quick", action="store_true", help="prove the shapes of a quick run only")
    parser.add_argument("--steps", nargs="+", choices=trial.STEPS, default=list(trial.STEPS), help="by default all")
    parser.add_argument("--room", type=Path, default=ROOMS, help="the folder where kernels are built and tried")
    parser.add_argument("--page", type=Path, help="the page to write")
    options = parser.parse_args()
    path = options.kernel.resolve()
    if path.suffix != ".S" or not path.is_file():
        parser.error(f"there is no kernel at {str(options.kernel)!r}: it must be a file such as asm/sdot_8x8.S")
    on = Trial(path, options.room / path.stem, full=not options.quick)
    print(f"lab: {on.name}", flush=True)
    for step in trial.run(on, {name: step for name, step in trial.STEPS.items() if name in options.steps}):
        print(line(step), flush=True)
        print("".join(f"{'':14}{each}\n" for each in step.lines if step.verdict == trial.FAILED), end="", flush=True)
    written = options.page or PAGES / f"{on.name}.html"
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(page.html(on), encoding="utf-8")
    print(table(on))
    print(f"lab: {written.relative_to(layout.CHECKOUT) if written.is_relative_to(layout.CHECKOUT) else written}")
    return 1 if on.failed else 0


def line(step: Step) -> str:
    """A step in one line."""
    return f"{step.name:14}{step.verdict:9}{step.seconds:6.1f} s  {step.said}"


def table(on: Trial) -> str:
    """The figures of a kernel beside those of the table's."""
    parts = []
    for heading, cells in page.figures(on):
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        rows = ["  ".join(cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
                for row in cells]  # fmt: skip
        parts += [f"\n{heading}", *(row.rstrip() for row in rows)]
    return "\n".join([*parts, ""])


if __name__ == "__main__":
    sys.exit(main())
