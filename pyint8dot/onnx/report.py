"""What a session has run: one row a node, and totals by operator and by what did the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyint8dot.onnx.program import Program


@dataclass(frozen=True)
class Row:
    """One node of the lowered graph.

    Attributes
    ----------
    node : str
        Its name in the model.
    op : str
        Its operator, or the name of a fused one.
    covers : tuple of str
        The model's operators it stands for.
    by : str
        What runs it: a kernel of this package, `"native"` for other native code, `"numpy"`, or `"onnx reference"`.
    seconds : float
        Mean time of one run; 0 before the first.
    """

    node: str
    op: str
    covers: tuple[str, ...]
    by: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """What each node runs on and what it costs.

    Attributes
    ----------
    kernel : str
        The kernel of the session.
    runs : int
        How many runs the times are the mean of.
    rows : tuple of Row
        In running order; the nodes of inner graphs behind the node they belong to, their names behind its own.
    """

    kernel: str
    runs: int
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, program: Program, kernel: str, runs: int, times: Sequence[float]) -> Report:
        """Make the report of a program from the time each step has taken."""
        return cls(kernel, runs, tuple(_rows(program, max(runs, 1), "", times)))

    @property
    def seconds(self) -> float:
        """Mean time of one run."""
        return sum(row.seconds for row in self.rows)

    def by_op(self) -> dict[str, tuple[int, float]]:
        """Return nodes and seconds of each operator, the dearest first."""
        return self._totals(lambda row: row.op)

    def by_worker(self) -> dict[str, tuple[int, float]]:
        """Return nodes and seconds of each thing that does the work, the dearest first."""
        return self._totals(lambda row: row.by)

    def reference_ops(self) -> list[str]:
        """Return the operators that run by onnx's reference implementation."""
        return sorted({row.op for row in self.rows if row.by == "onnx reference"})

    def conversions(self) -> dict[str, int]:
        """Return how many nodes change numbers between codes and floats; fused nodes that do it inside count as none."""
        names = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
        return {name: count for name, (count, _) in self.by_op().items() if name in names}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, ready for JSON."""
        return asdict(self)

    def _totals(self, key: Callable[[Row], str]) -> dict[str, tuple[int, float]]:
        found: dict[str, tuple[int, float]] = {}
        for row in self.rows:
            count, seconds = found.get(key(row), (0, 0.0))
            found[key(row)] = (count + 1, seconds + row.seconds)
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))

    def table(self, *, nodes: bool = False) -> str:
        """Return the report as text.

        Parameters
        ----------
        nodes : bool
            One line a node too, in running order.

        Returns
        -------
        str
        """
        lines = [f"kernel {self.kernel}, {len(self.rows)} nodes, {self.runs} runs, {1e3 * self.seconds:.3f} ms a run"]
        if nodes:
            cells = [(r.node, r.op, r.by, f"{1e3 * r.seconds:.3f}", "+".join(r.covers)) for r in self.rows]
            lines += ["", *_columns([("node", "op", "by", "ms", "covers"), *cells], right={3})]
        both = self._totals(lambda row: f"{row.op}\0{row.by}")
        share = 100 / self.seconds if self.seconds else 0.0
        totals = [
            (*key.split("\0"), str(count), f"{1e3 * seconds:.3f}", f"{share * seconds:.1f}")
            for key, (count, seconds) in both.items()
        ]
        lines += ["", *_columns([("op", "by", "nodes", "ms", "%"), *totals], right={2, 3, 4})]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def _rows(program: Program, runs: int, where: str, times: Sequence[float]) -> Iterator[Row]:
    """Yield the rows of a program and of the programs inside; the time inside is no part of that around it."""
    for step, total in zip(program.steps, times, strict=True):
        inside = sum(sum(inner.times) for _, inner in step.programs)
        name = where + step.node.name
        yield Row(name, step.node.op, tuple(step.node.covers), step.by, max(total - inside, 0.0) / runs)
        for attribute, inner in step.programs:
            yield from _rows(inner, runs, f"{name}/{attribute}/", inner.times)


def _columns(rows: Iterable[tuple[str, ...]], right: set[int]) -> list[str]:
    found = list(rows)
    widths = [max(len(row[i]) for row in found) for i in range(len(found[0]))]
    return [
        "  ".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in found
    ]
