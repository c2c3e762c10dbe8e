"""One self-contained file of HTML: no script, no request, all text escaped; light and dark, wide and narrow."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

# The app's colours, so that a report reads like a page of it.
STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --surface: #ffffff; --ink: #1c1b19; --muted: #625f59; --hairline: rgba(28, 27, 25, .12);
  --line: rgba(28, 27, 25, .45); --warm-tint: rgba(230, 159, 0, .16); --warm-ink: #6b4a00;
  --series-1: #0072b2; --series-2: #d55e00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16171a; --surface: #1d1e22; --ink: #e8e6e1; --muted: #a5a29b; --hairline: rgba(232, 230, 225, .13);
    --line: rgba(232, 230, 225, .42); --warm-tint: rgba(230, 159, 0, .18); --warm-ink: #f0c869;
    --series-1: #4aa8e0; --series-2: #f08a4b;
  }
}
*, *::before, *::after { box-sizing: border-box; }
html { font: 14px/20px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif;
  color: var(--ink); background: var(--paper); -webkit-text-size-adjust: 100%; }
body { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; overflow-wrap: anywhere; }
h1 { font-size: 28px; line-height: 36px; font-weight: 600; letter-spacing: -.01em; margin: 0 0 4px; }
h2 { font-size: 20px; line-height: 28px; font-weight: 600; margin: 40px 0 4px; }
h3 { font-size: 14px; line-height: 20px; font-weight: 600; margin: 16px 0 4px; }
p { margin: 0 0 12px; max-width: 72ch; }
.muted { color: var(--muted); }
.warning { padding: 8px 12px; background: var(--warm-tint); color: var(--warm-ink); border-radius: 6px;
  max-width: none; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(152px, 1fr)); margin: 16px 0;
  overflow: hidden; background: var(--surface); border: 1px solid var(--hairline); border-radius: 6px; }
.figures > div { padding: 12px; box-shadow: 1px 1px 0 var(--hairline); }
.figures dt { color: var(--muted); font-size: 12px; line-height: 16px; }
.figures dd { margin: 0; font-size: 20px; line-height: 28px; font-variant-numeric: tabular-nums; }
.figures dd small { display: block; font-size: 12px; line-height: 16px; color: var(--muted); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 16px; }
figure { margin: 0; padding: 12px; background: var(--surface); border: 1px solid var(--hairline); border-radius: 6px; }
figcaption { font-weight: 600; margin-bottom: 4px; }
figure p { font-size: 12px; line-height: 16px; color: var(--muted); margin: 4px 0 0; }
svg { display: block; width: 100%; max-width: 440px; height: auto;
  font: 12px system-ui, "Liberation Sans", Arial, sans-serif; }
svg text { fill: var(--ink); } svg .quiet { fill: var(--muted); }
svg .axis { stroke: var(--hairline); } svg .guide { stroke: var(--line); stroke-dasharray: 3 3; }
svg .bar { fill: var(--series-1); } svg .bar.other { fill: var(--series-2); }
svg .whisker { stroke: var(--series-1); stroke-width: 2; } svg .dot { fill: var(--series-1); }
.table { overflow-x: auto; margin: 8px 0; }
.table:focus-visible, summary:focus-visible { outline: 2px solid var(--series-1); outline-offset: 2px; }
table { border-collapse: collapse; min-width: 100%; background: var(--surface); }
th, td { padding: 6px 10px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--hairline);
  overflow-wrap: normal; }
th { font-size: 12px; line-height: 16px; color: var(--muted); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.text { min-width: 220px; max-width: 420px; white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin: 8px 0; } summary { cursor: pointer; color: var(--muted); }
code { font: 12px ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; }
@media (max-width: 600px) {
  .stacked thead { display: none; }
  .stacked, .stacked tbody, .stacked tr, .stacked td { display: block; min-width: 0; max-width: none; }
  .stacked tr { padding: 8px 12px; border-bottom: 1px solid var(--hairline); }
  .stacked td, .stacked td.number, .stacked td.text { padding: 2px 0; border: 0; text-align: left; min-width: 0; }
  .stacked td::before { content: attr(data-label) " "; color: var(--muted); font-size: 12px; font-weight: 600; }
  .stacked td.number { display: inline-block; margin-right: 12px; }
  .stacked td.text::before { display: block; }
}
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Markup(str):
    """HTML made by this package; any other string is text, and is escaped."""

    __slots__ = ()


def text(value: Any) -> Markup:
    """A value as HTML text: escaped unless it is Markup; None is a dash."""
    if isinstance(value, Markup):
        return value
    return Markup("–" if value is None else html.escape(str(value)))


def join(parts: Iterable[Any]) -> Markup:
    """Parts one after the other, each as `text` writes it."""
    return Markup("\n".join(text(part) for part in parts if part != ""))


def render_page(title: str, *, body: Iterable[Any]) -> str:
    """A whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{join(body)}\n</main>\n</body>\n</html>\n"
    )


def heading(value: Any, *, level: int = 2) -> Markup:
    """A heading."""
    return Markup(f"<h{level}>{text(value)}</h{level}>")


def paragraph(value: Any, *, kind: str = "") -> Markup:
    """A paragraph; kind: "muted" or "warning"."""
    return Markup(f'<p class="{kind}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>")


def figures(items: Sequence[tuple[str, str, str]]) -> Markup:
    """Large numbers: (what, value, what stands below in small print)."""
    cells = [
        f"<div><dt>{text(name)}</dt><dd>{text(value)}<small>{text(note)}</small></dd></div>"
        for name, value, note in items
    ]
    return Markup(f'<dl class="figures">{"".join(cells)}</dl>')


def plot(title: str, *, drawing: Markup, note: Any = "") -> Markup:
    """A figure with its caption and a line on how to read it."""
    return Markup(f"<figure><figcaption>{text(title)}</figcaption>{drawing}<p>{text(note)}</p></figure>")


def plots(drawings: Iterable[Markup]) -> Markup:
    """Figures beside each other, where there is room."""
    return Markup(f'<div class="plots">{join(drawings)}</div>')


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, label: str, kinds: str = "") -> Markup:
    """A table that scrolls by itself where it is too wide; one with long texts stands as blocks on a phone.

    kinds: a letter a column, n number, t long text, - other.
    """
    names = {"n": "number", "t": "text"}
    classes = [names.get(kind, "") for kind in kinds.ljust(len(head), "-")]
    top = "".join(
        _cell("th", value, kind="number" if kind == "number" else "", more=' scope="col"')
        for value, kind in zip(head, classes, strict=True)
    )
    lines = [
        "<tr>"
        + "".join(
            _cell("td", value, kind=kind, more=f' data-label="{text(name)}"' if "t" in kinds else "")
            for value, kind, name in zip(row, classes, head, strict=True)
        )
        + "</tr>"
        for row in rows
    ]
    shape = ' class="stacked"' if "t" in kinds else ""
    return Markup(
        f'<div class="table" tabindex="0" role="region" aria-label="{text(label)}"><table{shape}>'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(tag: str, value: Any, *, kind: str, more: str) -> str:
    style = f' class="{kind}"' if kind else ""
    return f"<{tag}{style}{more}>{text(value)}</{tag}>"


def fold(summary: str, *, body: Markup) -> Markup:
    """A part that opens on demand."""
    return Markup(f"<details><summary>{text(summary)}</summary>{body}</details>")


def number(value: float | None, *, digits: int = 3) -> str:
    """A number with a true minus sign; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def interval(bounds: Sequence[float | None] | None, *, digits: int = 3) -> str:
    """Two bounds; ∞ where there is none."""
    if bounds is None:
        return "–"
    low, high = ("∞" if bound is None else number(bound, digits=digits) for bound in bounds)
    return f"{low} to {high}"
