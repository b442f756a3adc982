"""``python -m pyint8dot search FOLDER "query"``: the lines of an embedded text that are nearest to a query."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pyint8dot.cli import tables
from pyint8dot.cli.command import carried_out
from pyint8dot.cli.embed import read_lines
from pyint8dot.search import Index

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="python -m pyint8dot search", description="Find the lines of an embedded text that are nearest to a query."
    )
    found.add_argument("folder", metavar="FOLDER", help="what the command embed has made")
    found.add_argument("query", nargs="+", metavar="QUERY", help="one or more, each in quotes")
    found.add_argument("-k", type=int, default=5, metavar="N", help="lines to show (5)")
    found.add_argument("--threads", type=int, metavar="N", help="threads of a search")
    found.add_argument("--json", action="store_true", help="print a JSON object a query, on a line of its own")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after ``search``; by default those of the process.

    Returns
    -------
    int
        0, or 2 where there is no index or an extra is missing; the reason is printed to the standard error.
    """
    return carried_out(_run, parser().parse_args(argv))


def _run(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.folder)
    index = Index.open(folder)
    lines = read_lines(folder, len(index))
    # An extra, and much to load: only where there is something to search.
    from pyint8dot.models import MiniLM  # noqa: PLC0415 - an extra

    queries = MiniLM.load().encode(arguments.query)
    scores, ids = index.search(queries, arguments.k, rescore=index.keep is not None, num_threads=arguments.threads)
    for query, row, found in zip(arguments.query, scores.tolist(), ids.tolist(), strict=True):
        there = [(score, number) for score, number in zip(row, found, strict=True) if number >= 0]
        if arguments.json:
            results = [{"line": number, "score": score, "text": lines[number]} for score, number in there]
            print(json.dumps({"query": query, "results": results}, ensure_ascii=False))
        else:
            tables.heading(query)
            tables.table(["score", "line", "text"], [(score, number + 1, lines[number]) for score, number in there])
