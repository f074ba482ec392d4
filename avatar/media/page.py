"""Reports as one HTML file: no script, no network, every picture inside, light and dark, phone and desktop."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from jaxtyping import UInt8
from numpy import ndarray

from avatar.media.plots import Plot

STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5b646e; --page: #fafbfc; --card: #fff; --line: #dde2e7;
  --accent: #1668b8; --warn: #8a5a00; --warn-page: #fff5de; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #9aa4ae; --page: #14171a; --card: #1c2024;
  --line: #333a41; --accent: #6fb4f5; --warn: #f0c674; --warn-page: #2e2615; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem clamp(.8rem, 3vw, 2rem) 3rem; max-width: 78rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; margin: .2rem 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: .95rem; margin: 1.1rem 0 .4rem; font-weight: 600; }
p { margin: .4rem 0; } .soft { color: var(--soft); font-size: .9rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.fact { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .9rem; }
.fact b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .6rem; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .5rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
thead th { font-weight: 600; color: var(--soft); white-space: normal; } tr.ours { font-weight: 600; }
.warnings { list-style: none; padding: 0; margin: 0; }
.warnings li { background: var(--warn-page); color: var(--warn); border-radius: .5rem;
  padding: .5rem .8rem; margin: .4rem 0; }
.strip { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(44%, 10.5rem), 1fr)); gap: .5rem; }
figure { margin: 0; } figure img { width: 100%; height: auto; display: block; border-radius: .4rem; }
figcaption { font-size: .8rem; color: var(--soft); padding: .15rem 0 .3rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); gap: .8rem; }
.plots figure { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .4rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr;
  gap: .3rem 1rem; font-size: .9rem; margin: 0; }
dt { font-weight: 600; } dd { margin: 0; color: var(--soft); overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a strip."""

    caption: str
    picture: UInt8[ndarray, "h w 3"]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Pictures side by side."""

    title: str
    panels: Sequence[Panel]


def document(title: str, parts: Sequence[str]) -> str:
    """The whole file around its parts."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def section(title: str, body: str) -> str:
    """A part with a heading; `body` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def cards(facts: Sequence[tuple[str, str]]) -> str:
    """(name, value) pairs as cards; values are HTML."""
    shown = (f'<div class="fact"><b>{value}</b><span class="soft">{escape(name)}</span></div>' for name, value in facts)
    return f'<div class="facts">{"".join(shown)}</div>'


def table(head: Sequence[str], rows: Mapping[str, Sequence[str]], label: str) -> str:
    """Rows of HTML cells under plain column names, the first of which is that of the row names."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in rows.items()
    )
    inside = f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{inside}</div>'


def strip(shown: Strip) -> str:
    """Pictures under a small heading."""
    panels = "".join(
        f'<figure><img loading="lazy" src="{_jpeg(panel.picture)}" width="{panel.picture.shape[1]}" '
        f'height="{panel.picture.shape[0]}" alt="{escape(panel.caption)}, {escape(shown.title)}">'
        f"<figcaption>{escape(panel.caption)}</figcaption></figure>"
        for panel in shown.panels
    )
    return f'<h3>{escape(shown.title)}</h3><div class="strip">{panels}</div>'


def plots(shown: Sequence[Plot]) -> str:
    """Plots beside or under each other."""
    return f'<div class="plots">{"".join(map(_plot, shown))}</div>'


def _plot(plot: Plot) -> str:
    data = base64.b64encode(plot.svg.encode()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    return f'<figure><img loading="lazy" src="{source}" alt="{escape(plot.alt)}"></figure>'


def _jpeg(picture: ndarray) -> str:
    from PIL import Image

    store = io.BytesIO()
    Image.fromarray(picture).save(store, "JPEG", quality=88, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(store.getvalue()).decode()


def warnings(messages: Sequence[str]) -> str:
    """A list that stands out."""
    return f'<ul class="warnings">{"".join(f"<li>{escape(message)}</li>" for message in messages)}</ul>'


def definitions(pairs: Mapping[str, Any]) -> str:
    """Terms and what they mean."""
    return f"<dl>{''.join(f'<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>' for k, v in pairs.items())}</dl>"


def number(value: float | None, digits: int, unit: str = "", *, sign: bool = False) -> str:
    """A number, or a dash for one that was not measured."""
    return "&ndash;" if value is None else f"{value:{'+' if sign else ''}.{digits}f}{unit}"
