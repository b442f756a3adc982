"""The row of the table that a kernel's contract stands for: what `kernels.py` will say of it, read from the head of its file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from support import banner
from support.entry import FEATURES

from pyint8dot.engine import kernels, layouts
from pyint8dot.engine.kernels import Kernel
from pyint8dot.engine.layouts import Layout, Native, RowMajor


class ContractError(Exception):
    """A contract from which no row follows; the message says what it has and what was wanted."""


class Maker(NamedTuple):
    """A packer or a gatherer beside the kernel: its file, and the layout that it makes."""

    path: Path
    family: str
    r: int
    #: The k that a gatherer takes at a time; 0 of a packer.
    turn: int


class Found(NamedTuple):
    """What a contract says of a kernel, and the packers beside it."""

    path: Path
    contract: dict[str, str]
    row: Kernel
    makers: tuple[Maker, ...]

    @property
    def unmade(self) -> list[Layout]:
        """The layouts of its operands that no entry packs yet: numpy does, and whole calls have to wait."""
        both = (self.row.left, self.row.right)
        return [panel for panel in both if not isinstance(panel, RowMajor) and panel.native is None]


def read(path: Path) -> Found:
    """Return what the contract of a kernel says of it.

    Families of layouts that are new, and what packs them beside the kernel, are entered into the tables of layouts.
    """
    contract = parsed(path)
    if contract["Kernel"] != path.stem:
        raise ContractError(
            f"Kernel is {contract['Kernel']!r}, and the file is {path.name}: it must have the file's name"
        )
    tile = re.fullmatch(r"(\d+) x (\d+)", contract["Tile"])
    if tile is None:
        raise ContractError(f"Tile is {contract['Tile']!r}: it must be rows x columns, such as 4 x 8")
    mr, nr = int(tile[1]), int(tile[2])
    feature = wanted("Requires", contract["Requires"], FEATURES)
    names, group = packing(contract)
    makers = tuple(beside(path, names))
    families(names, group, makers)

    arguments = described(contract["Arguments"])
    lying = "lda" in arguments
    if len(names) > 2 or (lying and len(names) != 1):
        raise ContractError(
            f"Packing is {contract['Packing']!r}: it must name one layout where A is read as it lies, else at most two"
        )
    right = layouts.layout(names[-1])
    left = (
        RowMajor() if lying else layouts.LAYOUTS[names[0].partition("(")[0]](mr, split=splits(arguments.get("a", "")))
    )
    if not lying and left.name != names[0]:
        raise ContractError(f"Packing has {names[0]} for A, and the tile has {mr} rows: panels of A must be as high")
    if right.r != nr:
        raise ContractError(
            f"Packing has {right.name} for B, and the tile has {nr} columns: panels of B must be as wide"
        )
    bound = re.search(r"exact for k <= (\d+)\b", contract["Bound"])
    if bound is None:
        raise ContractError(f"Bound is {contract['Bound']!r}: it must say `exact for k <= N`")
    row = Kernel(
        path.stem, mr, nr, left, right, frozenset({feature}), f"{contract['Requires']}, a tile of {contract['Tile']}",
        complement="complemented" in contract["Computes"], bound=int(bound[1]),
    )  # fmt: skip
    return Found(path, contract, row, makers)


def parsed(path: Path) -> dict[str, str]:
    """Return the contract of a file, which has every key in its order."""
    try:
        contract = banner.parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ContractError(str(error)) from None
    if tuple(contract) != banner.KEYS:
        raise ContractError(f"the keys are {', '.join(contract)}: they must be {', '.join(banner.KEYS)}")
    return contract


def wanted(key: str, value: str, known: dict[str, Any]) -> Any:
    """Return what a value of a contract stands for."""
    if value not in known:
        raise ContractError(f"{key} is {value!r}: it must be one of {', '.join(known)}")
    return known[value]


def packing(contract: dict[str, str]) -> tuple[list[str], int]:
    """Return the names of the packed layouts, A's before B's where they differ, and the K group."""
    found = re.fullmatch(r"(\w+\(\d+\))(?: and (\w+\(\d+\)))?, K group (\d+)", contract["Packing"])
    if found is None:
        raise ContractError(
            f"Packing is {contract['Packing']!r}: it must be such as `PackedI8K4(4) and PackedI8K4(8), K group 4`"
        )
    return [name for name in found.groups()[:2] if name], int(found[3])


def described(arguments: str) -> dict[str, str]:
    """Return what is said of each argument by its name."""
    parts = re.split(r"^\[\d+\] ", arguments, flags=re.MULTILINE)[1:]
    return {name: " ".join(rest.split()) for name, _, rest in (part.partition(" ") for part in parts)}


def splits(words: str) -> bool:
    """Whether A's last panel is split, by what is said of A."""
    if "then of" in words:
        return True
    if "ceil(m /" in words:
        return False
    raise ContractError(
        f"the argument a is {words!r}: it must say `panels of 4 rows, then of 2, 1 as m % 4 has bits`, or `ceil(m / 6) panels`"
    )


def beside(path: Path, names: list[str]) -> list[Maker]:
    """Return the packers and gatherers that lie beside a kernel and make one of its layouts."""
    found = []
    for other in sorted(path.parent.glob("*.S")):
        try:
            contract = banner.parse(other.read_text(encoding="utf-8"))
        except ValueError:
            continue
        layout = re.match(r"(\w+)\((\d+)\), K group", contract.get("Packing", ""))
        if contract.get("Tile") == "none" and layout and f"{layout[1]}({layout[2]})" in names:
            arguments = described(contract["Arguments"])
            turn = re.search(r"multiple of (\d+)", arguments["k"]) if "table" in arguments else None
            found.append(Maker(other, layout[1], int(layout[2]), int(turn[1]) if turn else 0))
    return found


def families(names: list[str], group: int, makers: tuple[Maker, ...]) -> None:
    """Enter the families of layouts that are new, and the makers beside the kernel."""
    for name in names:
        family, _, r = name[:-1].partition("(")
        made = [maker for maker in makers if (maker.family, maker.r) == (family, int(r))]
        known = layouts.LAYOUTS.get(family) or type(family, (Layout,), {"kr": group})
        if known.kr != group:
            raise ContractError(f"Packing has {name} with K group {group}: {family} has K groups of {known.kr}")
        packer = next((maker.path.stem for maker in made if not maker.turn), None)
        gatherer = next((maker for maker in made if maker.turn), None)
        if packer and (family, int(r), False) not in layouts.NATIVE:
            native = Native(packer, *((gatherer.path.stem, gatherer.turn) if gatherer else ()))
            layouts.enter(known, {int(r): native})
        layouts.LAYOUTS.setdefault(family, known)


def proposed(found: Found) -> str:
    """Return the row as it will stand in `kernels.py`."""
    row = found.row

    def said(panel: Layout) -> str:
        if isinstance(panel, RowMajor):
            return "layouts.RowMajor()"
        return f"layouts.{type(panel).__name__}({panel.r}{', split=True' if panel.split else ''})"

    lines = [f'"{row.name}"', str(row.mr), str(row.nr), said(row.left), said(row.right)]
    lines += [f"frozenset({sorted(row.features)!r})".replace("[", "{").replace("]", "}").replace("'", '"')]
    lines += [f'"{row.summary}"', *(["complement=True"] if row.complement else [])]
    return "\n".join(["enter(", "    Kernel(", *(f"        {line}," for line in lines), "    )", ")"])


#: The rows that the table has by itself, whatever is entered for a trial.
TABLE = {each.name: each for main in kernels.KERNELS.values() for each in (main, *main.few)}


def known(name: str) -> Kernel | None:
    """Return the row of that name in the table, or None."""
    return TABLE.get(name)


def differences(row: Kernel) -> list[str]:
    """Return what a row inferred from a contract has otherwise than the row of that name in the table."""
    theirs = known(row.name)
    if theirs is None:
        return []
    traits = ("mr", "nr", "complement", "bound")
    pairs = [(trait, getattr(row, trait), getattr(theirs, trait)) for trait in traits]
    pairs += [
        (f"{side} layout", _shape(getattr(row, side)), _shape(getattr(theirs, side))) for side in ("left", "right")
    ]
    found = [f"{what} is {one} by the contract, {other} in the table" for what, one, other in pairs if one != other]
    if not row.features <= theirs.features:
        found.append(f"the contract needs {sorted(row.features)}, the table has {sorted(theirs.features)}")
    return found


def _shape(panel: Layout) -> str:
    return f"{panel.name}{' split' if panel.split else ''}"
