"""The page of a trial: one HTML file that needs nothing else, for a laptop and a phone, on light and dark paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from icount import calls, tables
from lab import contract, counted, plots, trial
from lab.trial import Trial

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1c1e21; --faint: #5c6570; --line: #d8dce0; --soft: #f1f3f5;
  --good: #1b7f4b; --bad: #c92a2a; --bad-soft: #fff0f0; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e8ea; --faint: #9aa4ae; --line: #333a41; --soft: #1e2328;
  --good: #51cf80; --bad: #ff7b72; --bad-soft: #2d1a1a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.4rem 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid var(--line); }
p { max-width: 44rem; margin: .4rem 0; }
.faint { color: var(--faint); }
.verdict { font-weight: 700; } .passed { color: var(--good); } .FAILED { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.steps { width: 100%; } .steps td { text-align: left; vertical-align: top; } .steps td:last-child { white-space: normal; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .7rem .8rem; border-radius: 6px; overflow-x: auto; font-size: .82rem; line-height: 1.4; margin: .5rem 0; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.where { background: var(--bad-soft); border-left: 4px solid var(--bad); padding: .6rem .9rem; border-radius: 4px; }
.where dt { font-weight: 600; } .where dd { margin: 0 0 .5rem; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem 2rem; align-items: start; }
.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 14.5rem), 1fr)); gap: 1rem; }
.charts svg { width: 100%; max-width: 34rem; height: auto; } .small svg { max-width: 20rem; }
figure { margin: 0; } figcaption { font-size: .85rem; color: var(--faint); }
@media (max-width: 40rem) { .steps, .steps tbody { display: block; } .steps tr { display: grid; grid-template-columns: 1fr 5rem 5rem;
  border-bottom: 1px solid var(--line); } .steps td { border: 0; } .steps td:last-child { grid-column: 1 / -1; } }
.where + .charts { margin-top: 1rem; }
.key { display: inline-flex; align-items: center; margin: 0 1rem .3rem 0; font-size: .9rem; }
.key i { width: 11px; height: 11px; border: 2px solid; border-radius: 50%; margin-right: .4rem; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--faint); }
"""


ROOFS = """<p>Rooflines: multiply-accumulates a cycle of the main loop, by those that each loaded byte is good for.
The roof is what the core's multipliers make where they wait for nothing, the slope what its loads bring.</p>"""


def html(on: Trial) -> str:
    """Return the page."""
    parts = [header(on), steps(on), *where(on), *row(on), *counts(on), *cycles(on), *text(on)]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(on.name)}: the laboratory of pyint8dot</title><style>{STYLE}</style></head><body>",
            *parts,
            "</body></html>",
            "",
        ]
    )


def header(on: Trial) -> str:
    """The kernel's name, what is said of it, and whether it holds."""
    ran = [step for step in on.steps if step.verdict != trial.LEFT_OUT]
    if on.failed:
        said = f'<span class="verdict FAILED">fails</span> at {", ".join(step.name for step in on.failed)}'
    else:
        said = f'<span class="verdict passed">holds</span> in {len(ran)} of {len(on.steps)} steps; the others could not run here'
        said = (
            said if len(ran) < len(on.steps) else f'<span class="verdict passed">holds</span> in all {len(ran)} steps'
        )
    about = escape(on.row.summary) if on.row else escape(on.path.name)
    return f"<h1>{escape(on.name)}</h1>\n<p>{about}. It {said}.</p>"


def steps(on: Trial) -> str:
    """Every step with its verdict."""
    lines = [
        f'<tr><td>{escape(step.name)}</td><td class="verdict {escape(step.verdict.split()[0])}">{escape(step.verdict)}</td>'
        f'<td class="faint">{step.seconds:.1f} s</td><td>{code(step.said)}{more(step)}</td></tr>'
        for step in on.steps
    ]
    return f'<h2>Steps</h2>\n<div class="scroll"><table class="steps">{"".join(lines)}</table></div>'


def more(step: trial.Step) -> str:
    """The lines of a step, folded away."""
    if not step.lines or (step.name == "contract" and step.verdict == trial.PASSED):
        return ""
    return f"<details><summary>{len(step.lines)} lines</summary>{pre(step.lines)}</details>"


def where(on: Trial) -> list[str]:
    """Where the kernel fails: shape, element, lane, the polynomial found and the one wanted."""
    if on.outcome is None or not on.outcome.wrong:
        return []
    from lab import proofs

    first = proofs.smallest(on.outcome.wrong)
    shape = first.shape
    said = [("kernel", first.kernel), ("shape", described(shape)), ("what", first.what)]
    if first.element:
        said += [
            ("element", f"C[{first.element[0]}][{first.element[1]}]"),
            ("lane", first.lane),
            ("polynomial found", first.found),
            ("polynomial wanted", first.want),
            ("it has too much", first.surplus or "nothing"),
            ("it lacks", first.missing or "nothing"),
        ]
    fields = "".join(f"<dt>{escape(what)}</dt><dd>{code(text)}</dd>" for what, text in said)
    parts = ["<h2>Where it fails</h2>", f'<div class="where"><dl>{fields}</dl></div>']
    if first.element:
        drawing = plots.errors(shape.m, shape.n, first.elements, first.element)
        parts.append(
            charts([(drawing, f"The wrong elements of C at that shape, {len(first.elements)} of {shape.m * shape.n}.")])
        )
    others = [f"m={each.shape.m}, n={each.shape.n}, k={each.shape.k}: {each.what}" for each in on.outcome.wrong]
    return [*parts, f"<details><summary>{len(others)} shapes found wrong so far</summary>{pre(others)}</details>"]


def described(shape: Any) -> str:
    """A shape of a proof in words."""
    starts = [word for word, has in (("rows", shape.row_start), ("columns", shape.col_start)) if has]
    said = f"m={shape.m}, n={shape.n}, k={shape.k}, start values of {' and '.join(starts) or 'nothing'}"
    said += ", C upwards" if shape.upward else ""
    return said + (", the other operand complemented or A uint8" if shape.other else "")


def row(on: Trial) -> list[str]:
    """The tile and the row that follows from the contract."""
    if on.found is None or on.row is None:
        return []
    parts = ["<h2>Tile and row</h2>"]
    if on.outcome is not None and (registers := tile(on)):
        parts.append(
            charts(
                [
                    (
                        plots.tile(registers),
                        "The register that each element of a whole tile is stored from, as the proof has seen it.",
                    )
                ]
            )
        )
    if contract.known(on.name) is not None:
        parts.append("<p>The contract agrees with the row in <code>pyint8dot/engine/kernels.py</code>.</p>")
    else:
        parts += [
            "<p>The row for <code>pyint8dot/engine/kernels.py</code>, as the contract has it:</p>",
            pre([contract.proposed(on.found)]),
        ]
    if on.found.unmade:
        parts.append(
            f"<p>Whole calls wait for {escape(trial.waits(on.found))}; until then numpy packs, from the layout alone.</p>"
        )
    return parts


def tile(on: Trial) -> list[list[str]]:
    """The lane that each element of a whole tile is stored from."""
    from lab import proofs

    assert on.row is not None
    return proofs.registers(proofs.entry_of(on.elf, on.row), on.row)


def counts(on: Trial) -> list[str]:
    """Instructions a multiply-accumulate by shape."""
    if on.counts is None:
        return []
    drawn = []
    for what, by_kernel in (
        ("The entry alone, on packed operands.", on.counts.entries),
        ("Whole calls of matmul from Python.", on.counts.whole),
    ):
        if by_kernel:
            series = {name: [values.get(shape) for shape in calls.SHAPES] for name, values in by_kernel.items()}
            drawn.append(
                (plots.dots([tables.name_of(shape) for shape in calls.SHAPES], series, "instructions a MAC"), what)
            )
    figure = [
        part
        for heading, cells in figures(on)
        if "instructions" in heading
        for part in (f"<p>{escape(heading)}</p>", grid(cells))
    ]
    return ["<h2>Instructions</h2>", f"<p>{plots.legend(list(on.counts.entries))}</p>", charts(drawn), *figure]


def cycles(on: Trial) -> list[str]:
    """Modelled cycles: rooflines, ports, whole calls."""
    if not on.loops:
        return []
    own = on.loops[on.name]
    roofs, ports = [], []
    for loop in own:
        points = [
            plots.Dot(name, each.intensity, each.rate)
            for name, loops in on.loops.items()
            for each in loops
            if each.core == loop.core
        ]
        roofs.append((plots.roofline(loop.core, loop.limit, loop.bandwidth, points), ""))
        if loop.ports:
            ports.append((plots.pressure(loop.core, loop.cycles, loop.ports), ""))
    figure = [
        part
        for heading, cells in figures(on)
        if "cycle" in heading
        for part in (f"<p>{escape(heading)}</p>", grid(cells))
    ]
    return [
        "<h2>Modelled cycles</h2>",
        f"<p>{plots.legend(list(on.loops))}</p>",
        ROOFS,
        charts(roofs, small=True),
        "<h3>Port pressure of the loop</h3>",
        "<p>The part of a turn that each port is busy; the loop waits for one that always is.</p>",
        charts(ports, small=True),
        *figure,
    ]


def text(on: Trial) -> list[str]:
    """The contract and the source as they are."""
    if not on.path.is_file():
        return []
    source = on.path.read_text(encoding="utf-8", errors="replace")
    return [
        f"<h2>Source</h2>\n<details><summary>{escape(on.path.name)}, {source.count(chr(10))} lines</summary>{pre([source.rstrip()])}</details>"
    ]


# Figures as tables.


def figures(on: Trial) -> list[tuple[str, list[list[str]]]]:
    """The figures of a kernel beside those of the table's: a heading and cells of each table."""
    found = []
    if on.counts is not None:
        for heading, by_kernel in (
            ("instructions a multiply-accumulate, the entry alone", on.counts.entries),
            ("instructions a multiply-accumulate, whole calls", on.counts.whole),
        ):
            cells = [
                [name, *(f"{values[s]:.4g}" if s in values else "" for s in calls.SHAPES)]
                for name, values in by_kernel.items()
            ]
            if cells:
                found.append((heading, [["kernel", *map(tables.name_of, calls.SHAPES)], *cells]))
    if on.loops:
        cores = [loop.core for loop in on.loops[on.name]]
        lines = []
        for name, loops in on.loops.items():
            by_core = {loop.core: loop for loop in loops}
            lines.append([name, *(rate(by_core.get(core)) for core in cores)])
        limits = {loop.core: loop.limit for loop in on.loops[on.name]}
        lines.append(["limit", *(f"{limits[core]:.3g}" for core in cores)])
        found.append(("multiply-accumulates a cycle of the main loop", [["kernel", *cores], *lines]))
    shapes = list(dict.fromkeys(each.shape for each in on.cycles.get(on.name, [])))
    for shape in shapes:
        form = on.cycles[on.name][0].form
        cores = [each.core for each in on.cycles[on.name] if each.shape == shape]
        lines = [[name, *(f"{each.cycles:,.0f}" for core in cores for each in whole if (each.core, each.shape) == (core, shape))]
                 for name, whole in on.cycles.items()]  # fmt: skip
        lines = [line for line in lines if len(line) == 1 + len(cores)]
        found.append(
            (
                f"cycles of {'the entry alone' if form == counted.ALONE else 'a whole call of matmul'}, {tables.name_of(shape)}",
                [["kernel", *cores], *lines],
            )
        )
    return found


def rate(loop: Any) -> str:
    """What a loop makes a cycle, and the part of the core's limit."""
    return f"{loop.rate:.1f} ({loop.rate / loop.limit:.0%})" if loop else ""


# Parts of HTML.


def charts(drawn: Iterable[tuple[str, str]], *, small: bool = False) -> str:
    """Pictures side by side where there is room."""
    every = "".join(
        f"<figure>{picture}{f'<figcaption>{escape(says)}</figcaption>' if says else ''}</figure>"
        for picture, says in drawn
    )
    return f'<div class="charts{" small" if small else ""}">{every}</div>'


def grid(cells: Sequence[Sequence[str]]) -> str:
    """A table whose first line is its heading."""
    head, *lines = ["".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in line) for line, tag in
                    zip(cells, ["th", *["td"] * (len(cells) - 1)], strict=True)]  # fmt: skip
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def pre(lines: Iterable[str]) -> str:
    """Lines as they are."""
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"


def code(said: str) -> str:
    """A sentence with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(said))
