"""Everything that is modelled: the main loop of every product entry on all cores, whole calls on the kernel that each core gets."""

from __future__ import annotations

from cycles import calls, loop
from cycles.cores import CORES
from cycles.goldens import ENTRIES, FORMS, Numbers, chosen
from icount import measure
from support import entry

import build
from pyint8dot.engine import library

LIBRARY = build.path_of(build.PRODUCT, "linux-aarch64")


def loops() -> dict[str, Numbers]:
    """Model the main loop of each of `ENTRIES` on the cores that have what it needs."""
    found = {name: loop.main_loop(LIBRARY, library.PREFIX + name) for name in ENTRIES}
    table: dict[str, Numbers] = {}
    for name, turns in loop.measure_all(found).items():
        able = {core: turn for core, turn in turns.items() if entry.feature(name) in CORES[core].features}
        table[name] = {
            "instructions": len(found[name].instructions),
            "macs": found[name].macs,
            "cycles": {core: round(turn.cycles, 2) for core, turn in able.items()},
            "limits": {core: round(turn.limit, 2) for core, turn in able.items()},
        }
    return table


def whole() -> dict[str, Numbers]:
    """Model the calls of `FORMS` on every core, each on the kernel that the core gets."""
    table: dict[str, Numbers] = {}
    for kernel in dict.fromkeys(map(chosen, CORES.values())):
        cores = {name: core for name, core in CORES.items() if chosen(core) == kernel}
        for form, shape in FORMS:
            print(f"cycles: {form} {shape} on {kernel}, for {', '.join(cores)}", flush=True)
            found = calls.measure(calls.program(form, shape, kernel), measure.cpu_for(kernel), cores)
            table[f"{form} {kernel} {shape}"] = {
                "instructions": found.instructions,
                "cycles": {core: round(cycles) for core, cycles in found.cycles.items()},
            }
    return table
