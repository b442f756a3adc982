"""The picture of `python -m pyint8dot run --profile`: a bar an operator, made of what its time goes to."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pyint8dot.onnx.profile import PYTHON, TERMS

if TYPE_CHECKING:
    from pathlib import Path

    from pyint8dot.onnx.profile import Profile

__all__ = ["draw"]

# Native code is blue, numpy and the reference are orange, Python is grey: apart for colour-blind eyes and in grey.
COLOURS = ("#08306b", "#2171b5", "#6baed6", "#c6dbef", "#fe9929", "#d95f0e", "#969696")

#: Operators with a bar of their own.
MOST = 12


def draw(path: Path, form: str, profile: Profile, title: str) -> None:
    """Draw where the time of a run goes.

    Parameters
    ----------
    path : Path
        File to write.
    form : str
        ``"png"``, ``"svg"`` or ``"pdf"``.
    profile : Profile
        What was measured.
    title : str
        Stands above.
    """
    bars = list(profile.by_op.items())
    rest: dict[str, float] = {PYTHON: profile.between}
    for _, parts in bars[MOST:]:
        for term, seconds in parts.items():
            rest[term] = rest.get(term, 0.0) + seconds
    bars = [*bars[:MOST], ("all else", rest)]
    # Without pyplot there is no window, no screen and no state left behind.
    figure = import_module("matplotlib.figure").Figure(
        figsize=(9, 1.6 + 0.3 * len(bars)), dpi=144, layout="constrained"
    )
    axes = figure.add_subplot()
    names = [name for name, _ in bars]
    left = [0.0] * len(bars)
    for term, colour in zip(TERMS, COLOURS, strict=True):
        widths = [1e3 * parts.get(term, 0.0) for _, parts in bars]
        axes.barh(names, widths, left=left, color=colour, label=term)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of a run")
    figure.suptitle(title, fontsize="small")
    axes.legend(frameon=False)
    figure.savefig(path, format=form)
