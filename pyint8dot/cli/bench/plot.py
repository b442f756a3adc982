"""The picture of a bench: grouped horizontal bars, a group a shape. Needs the extra ``pyint8dot[plot]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pyint8dot.cli.bench.contenders import PEERS
from pyint8dot.cli.bench.machine import NOTHING_PROVED
from pyint8dot.cli.bench.measure import Result
from pyint8dot.engine.kernels import KERNELS

__all__ = ["SUFFIXES", "draw", "require"]

SUFFIXES = (".png", ".svg", ".pdf")

# Kernels of this package are blue, others are not; both stay apart for colour-blind eyes and in grey.
OWN_COLOURS = ("#08306b", "#08519c", "#2171b5", "#4292c6", "#6baed6", "#9ecae1")
PEER_COLOURS = ("#d95f0e", "#fe9929", "#fec44f", "#969696", "#525252")
OTHER_COLOUR = "#de77ae"
HATCHES = ("", "///", "...", "xxx")


def require() -> None:
    """Raise a ModuleNotFoundError that says what to install where there is no matplotlib."""
    try:
        import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('--plot needs matplotlib: pip install "pyint8dot[plot]"') from error


def draw(path: Path, form: str, found: Sequence[Result], machine: Mapping[str, Any]) -> None:
    """Draw the measured results, one panel a call.

    Parameters
    ----------
    path : Path
        File to write.
    form : str
        ``"png"``, ``"svg"`` or ``"pdf"``.
    found : sequence of Result
        Those that are not exact are left out.
    machine : mapping
        See `machine.describe`.
    """
    measured = [one for one in found if one.status == "exact"]
    calls = list(dict.fromkeys(one.call for one in measured))
    styles = _styles(measured)
    most = max((sum(one.call == call for one in measured) for call in calls), default=1)
    height = 1.8 + 0.24 * most + 0.1 * len({one.shape for one in measured})
    # Without pyplot there is no window, no screen and no state left behind.
    figure = import_module("matplotlib.figure").Figure(
        figsize=(2.5 + 5.5 * max(len(calls), 1), height), dpi=144, layout="constrained"
    )
    for index, call in enumerate(calls):
        axes = figure.add_subplot(1, len(calls), index + 1)
        _panel(axes, [one for one in measured if one.call == call], styles)
        axes.set_title(call, fontweight="bold")
    handles = [
        import_module("matplotlib.patches").Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=label)
        for label, (colour, hatch) in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * len(calls) or 1, frameon=False)
    title = f"{machine['processor']} ({machine['machine']}), pyint8dot {machine['pyint8dot']}"
    if machine["emulated"]:
        title = f"EMULATED. {NOTHING_PROVED}\n{title}"
    figure.suptitle(title, fontsize="medium", color="#b30000" if machine["emulated"] else "black")
    figure.savefig(path, format=form)


def si(value: float) -> str:
    """A number of three digits with the prefix of its thousands, as in ``"12.3 G"``."""
    for prefix in ("", "k", "M", "G"):
        # What rounds to four digits has the next prefix.
        if value < 999.5:
            return f"{value:.3g} {prefix}".rstrip()
        value /= 1000
    return f"{value:.3g} T"


def _label(one: Result) -> str:
    if one.threads is None:
        return f"{one.contender}, BLAS's threads"
    return f"{one.contender}, {one.threads} thread{'s' if one.threads > 1 else ''}"


def _styles(measured: Sequence[Result]) -> dict[str, tuple[str, str]]:
    """Colour by contender and hatch by threads, in the order of the results."""
    # By place in the table of all contenders, so that a name has one colour in every picture.
    colours = {name: OWN_COLOURS[i % len(OWN_COLOURS)] for i, name in enumerate(KERNELS)}
    colours |= {name: PEER_COLOURS[i % len(PEER_COLOURS)] for i, name in enumerate(PEERS)}
    counts = sorted({one.threads for one in measured if one.threads is not None})
    return {
        _label(one): (
            colours.get(one.contender, OTHER_COLOUR),
            "" if one.threads is None else HATCHES[counts.index(one.threads) % len(HATCHES)],
        )
        for one in measured
    }


def _panel(axes: Any, rows: Sequence[Result], styles: Mapping[str, tuple[str, str]]) -> None:
    """One bar a result from top to bottom, with a gap between two shapes and its number at its end."""
    place = 0.0
    ticks: list[float] = []
    labels: list[str] = []
    for shape in dict.fromkeys(one.shape for one in rows):
        group = [one for one in rows if one.shape == shape]
        ticks.append(place + (len(group) - 1) / 2)
        labels.append("x".join(map(str, shape)))
        for one in group:
            colour, hatch = styles[_label(one)]
            speed = 1e9 * one.gops(one.best)
            axes.barh(place, speed, height=0.9, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
            axes.annotate(si(speed), (speed, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)
            place += 1
        place += 0.8
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    axes.xaxis.set_major_formatter(lambda value, _: si(value))
    axes.set_xlabel("operations a second in the best call, 2·m·k·n each; longer is better")
    axes.set_ylabel("m x k x n")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
