"""The picture of the counts in the README: bars of whole calls beside those of other libraries, as SVG that suits light and dark pages."""

from __future__ import annotations

from html import escape

from icount import calls, tables

#: The shape that is shown: a layer of a transformer.
SHAPE: calls.Shape = (128, 384, 1536)
#: Left edge and width of the longest bar, height of a line, space above a group.
LEFT, WIDTH, LINE, GAP = 285, 400, 20, 30
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f } .page { fill: #ffffff }
  .call { font-weight: 600 } .note { fill: #57606a } .ours { fill: #0969da } .theirs { fill: #afb8c1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .page { fill: #0d1117 } .note { fill: #9198a1 } .ours { fill: #4493f8 } .theirs { fill: #656c76 }
  }
"""


def rows(goldens: tables.Goldens) -> dict[str, list[tuple[str, float]]]:
    """Return for each call who makes it and the instructions per multiply-accumulate, ours first."""
    at = calls.SHAPES.index(SHAPE)
    return {
        call: [
            ("pyint8dot", float(tables.cells(goldens, call, calls.BARS_ON)[at])),
            *((name.replace("`", ""), float(cells[at])) for name, cells in tables.PEERS[call].items()),
        ]
        for call in tables.COMPARED
    }


def svg(goldens: tables.Goldens) -> str:
    """Return the picture."""
    found = rows(goldens)
    most = max(count for bars in found.values() for _, count in bars)
    parts: list[str] = []
    y = 24
    title = f"Instructions per multiply-accumulate, m x k x n = {tables.name_of(SHAPE)}, emulated Neoverse N1; shorter is better"
    parts.append(f'<text class="note" x="8" y="{y}">{title}</text>')
    for call, bars in found.items():
        y += GAP
        parts.append(f'<text class="call" x="8" y="{y}">{call}, {tables.COMPARED[call]}</text>')
        for name, count in bars:
            y += LINE
            kind = "ours" if name == "pyint8dot" else "theirs"
            width = round(WIDTH * count / most)
            parts.append(f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect class="{kind}" x="{LEFT}" y="{y - 11}" width="{width}" height="14" rx="2"/>')
            parts.append(f'<text x="{LEFT + width + 6}" y="{y}">{count:.4f}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 70} {y + 16}" role="img" aria-label="{title}">'
    # A page of its own, since the page around it may be dark where the reader's system is light.
    page = '<rect class="page" width="100%" height="100%" rx="6"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", page, *parts, "</svg>", ""])
