"""What the models of cores say of a kernel, where the checkout has them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from icount.calls import Shape
from icount.measure import CannotCountError

from pyint8dot.engine import library
from pyint8dot.engine.kernels import Kernel


class CannotModelError(Exception):
    """This machine models no cycles; the message is one line that says why."""


class Loop(NamedTuple):
    """The main loop of a kernel on a core."""

    core: str
    #: Cycles, instructions and multiply-accumulates of a turn.
    cycles: float
    instructions: int
    macs: int
    #: The most multiply-accumulates a cycle that the core's multipliers make, and the bytes that its loads bring.
    limit: float
    bandwidth: float
    #: Bytes that a turn loads.
    loaded: int
    #: Cycles of a turn in which each port is busy.
    ports: dict[str, float]

    @property
    def rate(self) -> float:
        """Multiply-accumulates a cycle."""
        return self.macs / self.cycles

    @property
    def intensity(self) -> float:
        """Multiply-accumulates that a loaded byte is good for."""
        return self.macs / self.loaded


class Whole(NamedTuple):
    """A call on a core: of a form of `icount.calls`, or of the entry alone."""

    core: str
    form: str
    shape: Shape
    cycles: float


#: The shape whose calls are modelled: a layer, which takes the models some seconds a core.
SHAPE: Shape = (128, 384, 384)

#: How many bytes a register has by its letter.
BYTES = {"b": 1, "h": 2, "s": 4, "d": 8, "q": 16, "x": 8, "w": 4}


def loops(path: Path, row: Kernel) -> list[Loop]:
    """The main loop of a kernel in a library, on each core that has what it needs; CannotModelError says why there is none."""
    try:
        from cycles import loop, mca, models
        from cycles.cores import CORES
    except ImportError as error:
        raise CannotModelError(f"the models of cores need {error.name}") from None
    cores = {name: core for name, core in CORES.items() if row.features <= core.features}
    symbol = library.PREFIX + row.name
    try:
        main = loop.main_loop(path, symbol)
        turns = loop.measure(path, symbol, cores)
        loads = [each for each in main.instructions if loaded(each)]
        brought = sum(map(loaded, loads))
        alone = {name: models.repeated([loads], core)[0].cycles for name, core in cores.items()}
    except (mca.MissingError, LookupError) as error:
        raise CannotModelError(str(error)) from None
    return [
        Loop(name, turn.cycles, turn.instructions, turn.macs, turn.limit, brought / alone[name], brought, turn.ports)
        for name, turn in turns.items()
    ]


def loaded(instruction: str) -> int:
    """The bytes that an instruction loads."""
    mnemonic, _, operands = instruction.partition(" ")
    if mnemonic in ("ldr", "ldp", "ldur"):
        return sum(BYTES[name] for name in re.findall(r"(?:^|, )([bhsdqxw])\d+", operands.partition("[")[0]))
    if re.fullmatch(r"ld[1-4]", mnemonic):
        inside = operands.partition("}")[0]
        return sum(int(count) * BYTES[size] for count, size in re.findall(r"\.(\d+)([bhsd])", inside))
    replicated = re.match(r"\{ *v\d+\.\d+([bhsd])", operands) if re.fullmatch(r"ld[1-4]r", mnemonic) else None
    return BYTES[replicated[1]] if replicated else 0


def whole(folder: Path, kernel: str, row: Kernel, form: str, cpu: str) -> list[Whole]:
    """Calls on a kernel where another one, or itself, is tried in a folder; CannotModelError says why there are none."""
    try:
        from cycles import calls, mca
        from cycles.cores import CORES
    except ImportError as error:
        raise CannotModelError(f"the models of cores need {error.name}") from None
    cores = {name: core for name, core in CORES.items() if row.features <= core.features}
    program = ["-m", "lab.made", str(folder), kernel, row.name, form, "x".join(map(str, SHAPE))]
    try:
        modelled = calls.measure(program, cpu, cores)
    except (mca.MissingError, CannotCountError) as error:
        raise CannotModelError(str(error)) from None
    return [Whole(core, form, SHAPE, cycles) for core, cycles in modelled.cycles.items()]
