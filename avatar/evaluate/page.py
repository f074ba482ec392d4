"""The report as one HTML file: no script, no network, every picture inside, light and dark, phone and desktop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from avatar.evaluate.report import COLUMNS, DEFINITIONS, HIGHER_IS_BETTER
from avatar.media.page import Strip, cards, definitions, document, number, plots, section, strip, warnings
from avatar.media.plots import Plot

_LABELS = {
    "psnr_frame": "PSNR frame", "psnr_peer": "PSNR peer", "psnr_mouth": "PSNR mouth", "ssim": "SSIM",
    "ssim_peer": "SSIM peer", "flip": "FLIP", "lpips": "LPIPS", "lmd_px": "LMD px", "lip_gap_r": "lip gap r",
    "lip_gap_slope": "lip gap slope", "flicker": "flicker",
}  # fmt: skip
_DIGITS = {"ssim": 4, "ssim_peer": 4, "flip": 4, "lpips": 4, "lip_gap_r": 3, "lip_gap_slope": 3, "flicker": 2}


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
        section("Worth knowing", warnings(page.warnings)) if page.warnings else "",
        section("Numbers on the held-out part of the clip", _table(page.report["rows"], page.meanings)),
        _views(page.report.get("views"), page.sides),
        section("Held-out moments, evenly spaced", "".join(map(strip, page.even))),
        section("The worst moments", "".join(map(strip, page.worst))) if page.worst else "",
        section("Plots", plots(page.plots)),
        section("What the numbers mean", definitions(DEFINITIONS)),
        section("How this was made", definitions(_flat(page.report["provenance"]))),
    ]
    return document("Avatar report", parts)


def _head(report: Mapping[str, Any]) -> str:
    ours, floor = report["rows"]["reenacted"], report["rows"]["nearest_frame"]
    gain = _minus(ours["psnr_frame"], floor["psnr_frame"])
    facts = [
        ("PSNR, peers' protocol", number(ours["psnr_peer"], 2, " dB")),
        ("over the nearest frame", number(gain, 2, " dB", sign=True)),
        ("lip distance (LMD)", number(ours["lmd_px"], 2, " px")),
        ("drawn on this machine", number(report["fps"], 0, " fps")),
        ("avatar file", number(report["file_mb"], 1, " MB")),
        ("built in", number(_minutes(report["build_seconds"]), 1, " min")),
    ]
    about = report["provenance"]
    held = f"{about['frames_test']} held-out frames, {about['height']}x{about['width']} px, recipe {about['recipe']}"
    return (
        f'<h1>Avatar report</h1><p class="soft">{escape(held)}. Training saw none of the frames shown here.</p>'
        + cards(facts)
    )


def _columns(rows: Mapping[str, Any]) -> list[str]:
    """All but LPIPS where it was not measured, as on most machines."""
    return [
        name for name in COLUMNS if name != "lpips" or any(row and row.get(name) is not None for row in rows.values())
    ]


def _table(rows: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    columns = _columns(rows)
    head = "".join(
        f'<th scope="col" title="{escape(DEFINITIONS[name])}">{_LABELS[name]} {_arrow(name)}</th>' for name in columns
    )
    body = "".join(_row(name, row, meanings.get(name, ""), columns) for name, row in rows.items())
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


def _row(name: str, row: Mapping[str, Any] | None, meaning: str, columns: Sequence[str]) -> str:
    same = name == "ground_truth"
    cells = []
    for column in columns:
        value = row[column] if row else None
        exact = same and value is None and column.startswith("psnr")
        cells.append(f"<td>{'&infin;' if exact else number(value, _DIGITS.get(column, 2))}</td>")
    kind = ' class="ours"' if name == "reenacted" else ""
    return f'<tr{kind}><th scope="row" title="{escape(meaning)}">{name}</th>{"".join(cells)}</tr>'


def _views(views: Mapping[str, Any] | None, sides: Sequence[Strip]) -> str:
    if not views:
        return ""
    head = "".join(f'<th scope="col">yaw {escape(yaw)}&deg;</th>' for yaw in views["psnr"])
    rows = {"person": views["psnr"], "head": views["psnr_head"], "picture": views["psnr_frame"]}
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{number(value, 2)}</td>" for value in row.values())}</tr>'
        for name, row in rows.items()
    )
    table = f'<table><thead><tr><th scope="col">PSNR dB</th>{head}</tr></thead><tbody>{body}</tbody></table>'
    note = (
        '<p class="soft">Views that no camera filmed, known because the speaker is drawn. Both stand before grey; '
        "of person and head only pixels that show either person count.</p>"
    )
    return section("Held-out views", f'<div class="scroll">{table}</div>{note}{"".join(map(strip, sides))}')


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60
