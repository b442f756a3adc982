"""Pictures of a kernel as SVG, drawn for a phone's width and for light and dark paper alike: lines and words take the page's colour."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

#: The colours of kernels, the one on trial first: each can be told from the others, and from white and black paper.
COLOURS = ("#d9480f", "#2f7fd6", "#2a9d63", "#9467bd", "#b8860b", "#7f8c8d")
WRONG = "#e03131"
WIDTH = 360


class Dot(NamedTuple):
    """A point of a roofline: whose it is, how many multiply-accumulates a byte and a cycle."""

    name: str
    intensity: float
    rate: float


def svg(width: float, height: float, parts: Iterable[str], says: str) -> str:
    """A picture of parts; `says` is read out where nothing is seen."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(says, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg" fill="none" stroke="none" font-family="system-ui, sans-serif" font-size="11">'
        f"{''.join(parts)}</svg>"
    )


def words(
    x: float, y: float, said: str, *, anchor: str = "start", size: float = 11, weight: int = 400, fade: float = 1
) -> str:
    """Words in the page's colour."""
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size:g}" font-weight="{weight}" '
        f'fill="currentColor" fill-opacity="{fade:g}">{escape(said)}</text>'
    )


def stroke(points: Sequence[tuple[float, float]], *, width: float = 1, fade: float = 1, dashes: str = "") -> str:
    """A line in the page's colour."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{path}" stroke="currentColor" stroke-width="{width:g}" stroke-opacity="{fade:g}"{dashed}/>'
    )


def box(x: float, y: float, width: float, height: float, colour: str, fade: float) -> str:
    """A filled box with an edge."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" fill="{colour}" fill-opacity="{fade:g}" '
        f'stroke="{colour}" stroke-opacity="0.6"/>'
    )


def spot(x: float, y: float, number: int, says: str) -> str:
    """The point of a kernel by its number: full for the one on trial, hollow for the others."""
    colour = COLOURS[number % len(COLOURS)]
    full = f'fill="{colour}"' if number == 0 else 'fill="none"'
    return f'<circle cx="{x:g}" cy="{y:g}" r="4" {full} stroke="{colour}" stroke-width="2"><title>{escape(says)}</title></circle>'


def legend(names: Sequence[str]) -> str:
    """Which colour is whose, as HTML."""
    return "".join(
        f'<span class="key"><i style="border-color:{COLOURS[i % len(COLOURS)]};'
        f'{f"background:{COLOURS[0]}" if i == 0 else ""}"></i>{escape(name)}</span>'
        for i, name in enumerate(names)
    )


def tile(registers: Sequence[Sequence[str]]) -> str:
    """A whole tile: which lane of which register each element of C is stored from, elements that share a register in one box."""
    mr, nr = len(registers), len(registers[0])
    cell, top, left = min(36.0, (WIDTH - 52) / nr), 22, 46
    parts = [words(left + cell * (j + 0.5), top - 7, str(j), anchor="middle", fade=0.7) for j in range(nr)]
    shades = {name: i for i, name in enumerate(dict.fromkeys(_register(each) for line in registers for each in line))}
    for i, line in enumerate(registers):
        y = top + 26 * i
        parts.append(words(left - 8, y + 16, f"row {i}", anchor="end", fade=0.7))
        j = 0
        while j < nr:
            end = j + 1
            while end < nr and _register(line[end]) == _register(line[j]) and _register(line[j]):
                end += 1
            name = _register(line[j])
            colour = COLOURS[1 + shades[name] % 2]
            parts.append(box(left + cell * j + 1, y, cell * (end - j) - 2, 22, colour, 0.16))
            parts.append(
                words(left + cell * (j + end) / 2, y + 15, name or "?", anchor="middle", size=10 if nr > 1 else 9)
            )
            j = end
    return svg(WIDTH, top + 26 * mr + 4, parts, f"a tile of {mr} rows by {nr} columns in its registers")


def _register(lane: str) -> str:
    return lane.partition(".")[0]


def errors(m: int, n: int, wrong: Iterable[tuple[int, int]], first: tuple[int, int]) -> str:
    """C of a shape with its wrong elements, the first of them framed."""
    cell = min(22.0, (WIDTH - 60) / max(n, 1))
    bad = set(wrong)
    parts = [words(48 + cell * (j + 0.5), 14, str(j), anchor="middle", size=9, fade=0.7) for j in range(n)]
    for i in range(m):
        parts.append(words(42, 20 + cell * (i + 0.68), f"row {i}", anchor="end", size=9, fade=0.7))
        for j in range(n):
            colour, fade = (WRONG, 0.75) if (i, j) in bad else ("#868e96", 0.15)
            parts.append(box(48 + cell * j + 1, 20 + cell * i + 1, cell - 2, cell - 2, colour, fade))
    x, y = 48 + cell * first[1], 20 + cell * first[0]
    parts.append(stroke([(x, y), (x + cell, y), (x + cell, y + cell), (x, y + cell), (x, y)], width=2))
    return svg(WIDTH, 26 + cell * m, parts, f"{len(bad)} wrong elements of {m} x {n}")


def dots(rows: Sequence[str], series: Mapping[str, Sequence[float | None]], unit: str) -> str:
    """A line for each shape, on it a point for each kernel: how many of a unit, on a scale of powers."""
    every = [value for values in series.values() for value in values if value]
    low, high = math.log10(min(every)) - 0.08, math.log10(max(every)) + 0.08
    left, right, top, step = 92, WIDTH - 10, 8, 24
    bottom = top + step * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * (math.log10(value) - low) / max(high - low, 1e-9)

    parts = []
    for tick in ticks(10**low, 10**high):
        parts.append(stroke([(x(tick), top), (x(tick), bottom)], fade=0.15))
        parts.append(words(x(tick), bottom + 14, f"{tick:g}", anchor="middle", size=10, fade=0.8))
    for i, row in enumerate(rows):
        y = top + step * (i + 0.5)
        parts.append(stroke([(left, y), (right, y)], fade=0.12))
        parts.append(words(left - 6, y + 4, row, anchor="end"))
        for number, (name, values) in reversed(list(enumerate(series.items()))):
            if value := values[i]:
                parts.append(spot(x(value), y, number, f"{name}, {row}: {value:.4g} {unit}"))
    parts.append(words((left + right) / 2, bottom + 30, unit, anchor="middle", fade=0.8))
    return svg(WIDTH, bottom + 38, parts, f"{unit} by shape")


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two bounds of a scale of powers: 1, 2, 5 of each power, or the powers alone where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [each for power in powers for each in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if low <= each <= high]
    return fine if len(fine) <= 6 else [each for each in fine if math.log10(each) == round(math.log10(each))]


def roofline(core: str, limit: float, bandwidth: float, points: Sequence[Dot]) -> str:
    """What a core can do at most, by the multiply-accumulates that each loaded byte is good for, and where loops are."""
    left, right, top, bottom = 30, 226, 20, 128
    low, high = 0.25, 2 ** math.ceil(math.log2(max(16, *(dot.intensity * 1.5 for dot in points))))
    least, most = 2 ** math.floor(math.log2(min(limit / 8, *(dot.rate / 1.5 for dot in points)))), limit * 1.5

    def place(intensity: float, rate: float) -> tuple[float, float]:
        across = (math.log2(intensity) - math.log2(low)) / (math.log2(high) - math.log2(low))
        up = (math.log2(max(rate, least)) - math.log2(least)) / (math.log2(most) - math.log2(least))
        return left + (right - left) * across, bottom - (bottom - top) * up

    knee = limit / bandwidth
    start = max(low, least / bandwidth)
    roof = [place(start, start * bandwidth), place(min(max(knee, start), high), limit), place(high, limit)]
    parts = [words(2, 12, core, weight=600)]
    tick = 1.0
    while tick <= high:
        x, _ = place(tick, limit)
        parts += [
            stroke([(x, top), (x, bottom)], fade=0.1),
            words(x, bottom + 12, f"{tick:g}", anchor="middle", size=9, fade=0.8),
        ]
        tick *= 4
    tick = 2 ** math.ceil(math.log2(least))
    while tick <= most:
        _, y = place(low, tick)
        parts += [
            stroke([(left, y), (right, y)], fade=0.1),
            words(left - 4, y + 3, f"{tick:g}", anchor="end", size=9, fade=0.8),
        ]
        tick *= 2
    parts.append(stroke(roof, width=2))
    for number, dot in reversed(list(enumerate(points))):
        parts.append(spot(*place(dot.intensity, dot.rate), number, f"{dot.name}: {dot.rate:.1f} of {limit:.3g}"))
    return svg(236, 146, parts, f"roofline of {core}: {points[0].rate:.1f} of {limit:.3g} multiply-accumulates a cycle")


def pressure(core: str, cycles: float, ports: Mapping[str, float]) -> str:
    """How much of a turn of the loop each port of a core is busy."""
    left, right, step = 64, 200, 16
    parts = [words(2, 12, f"{core}: {cycles:.3g} cycles a turn", weight=600)]
    for i, (port, busy) in enumerate(ports.items()):
        y = 20 + step * i
        part = min(busy / cycles, 1) if cycles else 0
        parts.append(words(left - 6, y + 10, port.rpartition("Unit")[2], anchor="end", size=9))
        parts.append(box(left, y + 1, right - left, step - 5, "#868e96", 0.1))
        if part:
            parts.append(
                box(left, y + 1, (right - left) * part, step - 5, COLOURS[0] if part > 0.97 else COLOURS[1], 0.55)
            )
        parts.append(words(right + 5, y + 10, f"{part:.0%}", size=9))
    return svg(236, 26 + step * len(ports), parts, f"port pressure on {core}")
