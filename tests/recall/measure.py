"""``make recall``: how many of the nearest sentences a search finds, and what it costs.

The queries are sentences that the index does not have. What is nearest is decided by float64 products of the float32 embeddings.
Instructions are counted as `icount` does, of one query at a time; where that cannot be, recall stands alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from icount import measure as icount
from recall import corpus
from rich.console import Console
from rich.table import Table

from pyint8dot.search import Index

K = 10
QUERIES = 200
FLOAT = "numpy float32 @, argpartition"


class Way(NamedTuple):
    """A way to search: what the index keeps, and how it is asked."""

    name: str
    keep: str | None
    options: dict[str, Any]


WAYS = (
    Way("int8", None, {}),
    *(
        Way(f"int8, {times} k rescored from {what}", keep, {"rescore": True, "rescore_multiplier": times})
        for keep, what in (("int8", "a second digit"), ("float32", "float32"))
        for times in (1, 2, 4)
    ),
)

# One search between two calls that the plugin takes for markers, three times, of which the least counts.
COUNTED = """
import json, os, sys
import numpy as np
from pyint8dot.search import Index
folder, options, vectors = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
queries = np.load(vectors)["queries"][:1]
if options is None:
    rows = np.load(vectors)["rows"]
    def search():
        scores = queries @ rows.T
        best = np.argpartition(scores, -10, 1)[:, -10:]
        return best[0][np.argsort(-scores[0, best[0]])]
else:
    index = Index.open(folder, mmap=False)
    search = lambda: index.search(queries, 10, **options)
for _ in range(3):
    search()
for _ in range(3):
    os.getppid(); search(); os.getppid()
"""


class Point(NamedTuple):
    """What was found of a way."""

    name: str
    recall: float
    nbytes: float
    #: For each vector of the index; None where they cannot be counted.
    instructions: float | None


def hits(found: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> float:
    """Return the share of the wanted ids, one row per query, that were found."""
    same = [len(set(a) & set(b)) for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]
    return float(np.mean(same)) / wanted.shape[1]


def nearest(rows: npt.NDArray[np.float32], queries: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the ids of the K nearest, by exact products."""
    scores = queries.astype(np.float64) @ rows.T.astype(np.float64)
    found: npt.NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return found


def count(plugin: Path, folder: Path, options: dict[str, Any] | None, vectors: Path) -> int:
    """Return the instructions of one search on a processor with dot products."""
    out = folder / "counts"
    arguments = ["-c", COUNTED, str(folder), json.dumps(options), str(vectors)]
    icount.guest(plugin, out, arguments, cpu=icount.cpu_for("sdot_8x8"))
    marks = [int(line) for line in out.read_text().split()]
    return min(after - before for before, after in zip(marks[::2], marks[1::2], strict=True))


def measured(vectors: npt.NDArray[np.float32], say: Console) -> list[Point]:
    """Return a point for each way; the last rows of `vectors` are the queries."""
    rows, queries = vectors[:-QUERIES], vectors[-QUERIES:]
    wanted = nearest(rows, queries)
    try:
        plugin = icount.plugin()
    except icount.CannotCountError as error:
        say.print(f"Instructions are not counted: {error}")
        plugin = None
    points = []
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch, "vectors.npz")
        np.savez(saved, rows=rows, queries=queries)

        def each(folder: Path, options: dict[str, Any] | None) -> float | None:
            return None if plugin is None else count(plugin, folder, options, saved) / len(rows)

        points.append(Point(FLOAT, 1.0, rows.nbytes / len(rows), each(Path(scratch), None)))
        for way in WAYS:
            index = Index(rows, keep=way.keep)
            folder = Path(scratch, "index")
            index.save(folder)
            _, ids = index.search(queries, K, **way.options)
            points.append(Point(way.name, hits(ids, wanted), index.nbytes / len(rows), each(folder, way.options)))
    return points


def draw(path: Path, points: list[Point], title: str) -> None:
    """Draw recall against instructions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=144, layout="constrained")
    axes = figure.add_subplot()
    for marker, (name, some) in zip("Dosv", _series(points).items(), strict=False):
        axes.plot([p.instructions for p in some], [p.recall for p in some], marker=marker, label=name)
    axes.set_xlabel("instructions per vector and query, emulated Neoverse N1")
    axes.set_ylabel(f"recall@{K}")
    axes.set_title(title, fontsize="medium")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)


def _series(points: list[Point]) -> dict[str, list[Point]]:
    """Put ways that differ in one number together."""
    found: dict[str, list[Point]] = {}
    for point in points:
        first, _, what = point.name.partition(" rescored from ")
        found.setdefault(f"rescored from {what}" if what else first, []).append(point)
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="make recall", description="Recall and cost of searches among sentences.")
    parser.add_argument("--sentences", type=int, default=20_000 + QUERIES, help="queries included (%(default)s)")
    parser.add_argument("--plot", type=Path, help="draw recall against instructions to this file")
    options = parser.parse_args()
    say = Console()
    points = measured(corpus.embedded(corpus.sentences(options.sentences)), say)
    title = f"{options.sentences - QUERIES:,} sentences, {QUERIES} queries, k = {K}"
    table = Table(title=title)
    for head in ("search", f"recall@{K}", "bytes a vector", "instructions a vector"):
        table.add_column(head, justify="left" if head == "search" else "right")
    for point in points:
        cost = "" if point.instructions is None else f"{point.instructions:.1f}"
        table.add_row(point.name, f"{point.recall:.4f}", f"{point.nbytes:.0f}", cost)
    say.print(table)
    if options.plot:
        if points[0].instructions is None:
            say.print("Nothing is drawn without counts.")
            return 0
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        draw(options.plot, points, title)
        say.print(f"{options.plot} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
