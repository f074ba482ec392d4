"""The report as one HTML file: no script, no network, every picture inside, light and dark, phone and desktop."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from avatar.evaluate.metrics import Picture
from avatar.evaluate.plots import Plot
from avatar.evaluate.report import COLUMNS, DEFINITIONS, HIGHER_IS_BETTER

_STYLE = """
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
_LABELS = {
    "psnr_frame": "PSNR frame", "psnr_peer": "PSNR peer", "psnr_mouth": "PSNR mouth", "ssim": "SSIM",
    "ssim_peer": "SSIM peer", "flip": "FLIP", "lmd_px": "LMD px", "lip_gap_r": "lip gap r",
    "lip_gap_slope": "lip gap slope",
}  # fmt: skip
_DIGITS = {"ssim": 4, "ssim_peer": 4, "flip": 4, "lip_gap_r": 3, "lip_gap_slope": 3}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a strip."""

    caption: str
    picture: Picture


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One held-out moment, side by side."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the page shows."""

    report: Mapping[str, Any]
    meanings: Mapping[str, str]
    """A sentence for each row."""
    even: Sequence[Strip]
    worst: Sequence[Strip]
    sides: Sequence[Strip]
    """Of views that no camera filmed; mostly none."""
    plots: Sequence[Plot]
    warnings: Sequence[str]
    """About the clip and about what could not be measured."""


def html(page: Page) -> str:
    """The whole document."""
    parts = [
        _head(page.report),
        _section("Worth knowing", _warnings(page.warnings)) if page.warnings else "",
        _section("Numbers on the held-out part of the clip", _table(page.report["rows"], page.meanings)),
        _views(page.report.get("views"), page.sides),
        _section("Held-out moments, evenly spaced", "".join(map(_strip, page.even))),
        _section("The worst moments", "".join(map(_strip, page.worst))) if page.worst else "",
        _section("Plots", f'<div class="plots">{"".join(map(_plot, page.plots))}</div>'),
        _section("What the numbers mean", _definitions(DEFINITIONS)),
        _section("How this was made", _definitions(_flat(page.report["provenance"]))),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Avatar report</title><style>{_STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _head(report: Mapping[str, Any]) -> str:
    ours, floor = report["rows"]["reenacted"], report["rows"]["nearest_frame"]
    gain = _minus(ours["psnr_frame"], floor["psnr_frame"])
    facts = [
        ("PSNR, peers' protocol", _number(ours["psnr_peer"], 2, " dB")),
        ("over the nearest frame", _number(gain, 2, " dB", sign=True)),
        ("lip distance (LMD)", _number(ours["lmd_px"], 2, " px")),
        ("drawn on this machine", _number(report["fps"], 0, " fps")),
        ("avatar file", _number(report["file_mb"], 1, " MB")),
        ("built in", _number(_minutes(report["build_seconds"]), 1, " min")),
    ]
    cards = "".join(
        f'<div class="fact"><b>{value}</b><span class="soft">{escape(name)}</span></div>' for name, value in facts
    )
    about = report["provenance"]
    held = f"{about['frames_test']} held-out frames, {about['height']}x{about['width']} px, recipe {about['recipe']}"
    return (
        f'<h1>Avatar report</h1><p class="soft">{escape(held)}. Training saw none of the frames shown here.</p>'
        f'<div class="facts">{cards}</div>'
    )


def _table(rows: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    head = "".join(
        f'<th scope="col" title="{escape(DEFINITIONS[name])}">{_LABELS[name]} {_arrow(name)}</th>' for name in COLUMNS
    )
    body = "".join(_row(name, row, meanings.get(name, "")) for name, row in rows.items())
    table = f'<table><thead><tr><th scope="col">row</th>{head}</tr></thead><tbody>{body}</tbody></table>'
    notes = "".join(f"<dt>{name}</dt><dd>{escape(meanings[name])}</dd>" for name in rows if name in meanings)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table of numbers">{table}</div>'
        f'<p class="soft">&uarr; higher is better, &darr; lower is better; a dash was not measured.</p><dl>{notes}</dl>'
    )


def _arrow(name: str) -> str:
    if name == "lip_gap_slope":
        return "&rarr;1"
    return "&uarr;" if HIGHER_IS_BETTER[name] else "&darr;"


def _row(name: str, row: Mapping[str, Any] | None, meaning: str) -> str:
    same = name == "ground_truth"
    cells = []
    for column in COLUMNS:
        value = row[column] if row else None
        exact = same and value is None and column.startswith("psnr")
        cells.append(f"<td>{'&infin;' if exact else _number(value, _DIGITS.get(column, 2))}</td>")
    kind = ' class="ours"' if name == "reenacted" else ""
    return f'<tr{kind}><th scope="row" title="{escape(meaning)}">{name}</th>{"".join(cells)}</tr>'


def _views(views: Mapping[str, Any] | None, sides: Sequence[Strip]) -> str:
    if not views:
        return ""
    head = "".join(f'<th scope="col">yaw {escape(yaw)}&deg;</th>' for yaw in views["psnr"])
    rows = {"person": views["psnr"], "head": views["psnr_head"]}
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{_number(value, 2)}</td>" for value in row.values())}</tr>'
        for name, row in rows.items()
    )
    table = f'<table><thead><tr><th scope="col">PSNR dB</th>{head}</tr></thead><tbody>{body}</tbody></table>'
    note = (
        '<p class="soft">Views that no camera filmed, known because the speaker is drawn. Both stand before grey, '
        "and only pixels that show either person count.</p>"
    )
    return _section("Held-out views", f'<div class="scroll">{table}</div>{note}{"".join(map(_strip, sides))}')


def _strip(strip: Strip) -> str:
    panels = "".join(
        f'<figure><img loading="lazy" src="{_jpeg(panel.picture)}" width="{panel.picture.shape[1]}" '
        f'height="{panel.picture.shape[0]}" alt="{escape(panel.caption)}, {escape(strip.title)}">'
        f"<figcaption>{escape(panel.caption)}</figcaption></figure>"
        for panel in strip.panels
    )
    return f'<h3>{escape(strip.title)}</h3><div class="strip">{panels}</div>'


def _plot(plot: Plot) -> str:
    data = base64.b64encode(plot.svg.encode()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    return f'<figure><img loading="lazy" src="{source}" alt="{escape(plot.alt)}"></figure>'


def _jpeg(picture: Picture) -> str:
    from PIL import Image

    store = io.BytesIO()
    Image.fromarray(picture).save(store, "JPEG", quality=88, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(store.getvalue()).decode()


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _warnings(messages: Sequence[str]) -> str:
    return f'<ul class="warnings">{"".join(f"<li>{escape(message)}</li>" for message in messages)}</ul>'


def _definitions(pairs: Mapping[str, Any]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>' for k, v in pairs.items())}</dl>"


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _number(value: float | None, digits: int, unit: str = "", *, sign: bool = False) -> str:
    return "&ndash;" if value is None else f"{value:{'+' if sign else ''}.{digits}f}{unit}"


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60
