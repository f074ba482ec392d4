"""The page that says how good a film is for an avatar, and what to film again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np

from avatar.media.page import Strip, cards, definitions, document, number, plots, section, strip, table, warnings
from avatar.media.plots import Plot
from avatar.preprocess.series import REGIONS, Series

_STYLE = """
.strip { grid-template-columns: repeat(auto-fill, minmax(min(44%, 10.5rem), 1fr)); }
.bar { width: 100%; height: 1.6rem; display: block; border-radius: .4rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0; margin: .4rem 0;
  font-size: .85rem; color: var(--soft); }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .35rem;
  vertical-align: -.08rem; }
.good { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .6rem .9rem; }
"""
_STATES = {
    "used": "#2aa35a",
    "less weight": "#c9a400",
    "face covered": "#d04a6f",
    "no face": "#808790",
    "another shot": "#9a6fd0",
}
"""What becomes of a frame, and the colour of it."""
_MEANINGS = {
    "error": "mean distance of the rig's points from the detector's, in percent of the distance between the outer "
    "corners of the eyes; below 1.5 % is good. It measures agreement with the detector, not truth.",
    "trembling": "root mean square of the change of the change of the head's direction from frame to frame, while the "
    "head turns slower than 5 degrees a second and steadily; below 0.1 degrees cannot be seen.",
    "weight": "how much a frame counts in tracking and training; 0 leaves it out, its motion is interpolated inside "
    "its shot.",
    "sharpness": "strength of the finest details of the face against its contrast, in the face scaled to one height; "
    "about 0.02 is blurred, 0.1 crisp.",
    "light change": "range of the face's lightness over the clip, in percent of its middle.",
    "sound against lips": "by how much the sound was moved to meet the lips, and how sure that is.",
    "pictures": "turquoise: the mesh of the fitted head; orange: the points of the detector.",
}


@dataclass(frozen=True, kw_only=True)
class QualityPage:
    """All that the page shows."""

    name: str
    """Of the film."""
    quality: Mapping[str, Any]
    """As in quality.json."""
    series: Series
    shots: Sequence[Mapping[str, Any]]
    covered: Sequence[int]
    happened: Sequence[str]
    """Sentences about cuts, lost and covered faces."""
    strips: Sequence[Strip]
    plots: Sequence[Plot]


def html(page: QualityPage) -> str:
    """The whole document."""
    parts = [
        f"<style>{_STYLE}</style>",
        _head(page),
        section("What to film again", _advice(page.quality["warnings"])),
        section("What happened", _timeline(page) + "".join(f"<p>{escape(said)}.</p>" for said in page.happened)),
        section("The head over the face", "".join(map(strip, page.strips))),
        section("Error by part of the face", _regions(page)),
        section("Over time, and what the clip covers", plots(page.plots)),
        section("What the numbers mean", definitions(_MEANINGS)),
    ]
    return document(f"Quality of {page.name}", parts)


def _head(page: QualityPage) -> str:
    q = page.quality
    low, high = q["yaw_deg"]
    down, up = q["pitch_deg"]
    delay = 1000 * q["audio_delay_seconds"]
    voice = f"{delay:+.0f} ms" if q["sound"] == "voice" else escape(q["sound"])
    facts = [
        ("of film", number(q["seconds"], 1, " s")),
        ("of the frames are used", number(100 * q["face_found"], 0, " %")),
        ("error of the head's points", number(100 * q["reprojection"], 2, " %")),
        ("trembling of the still head", number(q["jitter_deg"], 3, "&deg;")),
        ("yaw, 5 to 95 %", f"{low:+.0f} to {high:+.0f}&deg;"),
        ("pitch, 5 to 95 %", f"{down:+.0f} to {up:+.0f}&deg;"),
        ("poses of 12 degrees seen", str(q["poses"])),
        ("of 52 actions shown", str(q["actions"])),
        ("blinks", str(q["blinks"])),
        ("times that the lips met", str(q["closures"])),
        (f"sound against lips, confidence {q['audio_delay_confidence']:.2f}", voice),
        ("height of the face", number(q["face_px"], 0, " px")),
        ("sharpness", number(q["sharpness"], 3)),
        ("light change", number(100 * q["light_change"], 0, " %")),
        ("cuts", str(len(q["cuts"]))),
        ("of the background seen", number(100 * q["background_seen"], 0, " %")),
    ]
    return f"<h1>Quality of {escape(page.name)}</h1>{cards(facts)}"


def _advice(messages: Sequence[str]) -> str:
    if messages:
        return warnings([f"{message[0].upper()}{message[1:]}." for message in messages])
    return '<p class="good">Nothing: this film shows all that an avatar needs.</p>'


def states(page: QualityPage) -> list[str]:
    """What becomes of each frame."""
    series = page.series
    out = np.where(series.used, np.where(series.confidence < 0.99, "less weight", "used"), "no face").astype(object)
    out[list(page.covered)] = "face covered"
    for shot in page.shots:
        if shot["why"]:
            out[shot["first"] : shot["end"]] = "another shot"
    return out.tolist()


def _timeline(page: QualityPage) -> str:
    found, total = states(page), max(len(page.series.used), 1)
    edges = [0, *(i for i in range(1, len(found)) if found[i] != found[i - 1]), len(found)]
    runs = [(a, b) for a, b in pairwise(edges) if b > a]
    pieces = "".join(
        f'<rect x="{1000 * a / total:.2f}" y="0" width="{1000 * (b - a) / total:.2f}" height="20" '
        f'fill="{_STATES[found[a]]}"/>'
        for a, b in runs
    )
    cuts = "".join(
        f'<line x1="{1000 * s["first"] / total:.2f}" x2="{1000 * s["first"] / total:.2f}" y1="0" y2="20" '
        'stroke="currentColor" stroke-width="2" vector-effect="non-scaling-stroke"/>'
        for s in page.shots[1:]
    )
    counts = {state: found.count(state) for state in _STATES}
    said = ", ".join(f"{state} {count} frames" for state, count in counts.items() if count)
    legend = "".join(
        f'<li><i style="background:{_STATES[state]}"></i>{state}: {count} frames</li>'
        for state, count in counts.items()
        if count
    )
    return (
        f'<svg class="bar" viewBox="0 0 1000 20" preserveAspectRatio="none" role="img" '
        f'aria-label="The clip from start to end: {said}; {len(page.shots) - 1} cuts.">{pieces}{cuts}</svg>'
        f'<ul class="legend">{legend}</ul>'
    )


def _regions(page: QualityPage) -> str:
    error = 100 * page.series.error[page.series.used]
    rows = {"all": _spread(error)} | {name: _spread(error[:, points]) for name, points in REGIONS.items()}
    return table(["part", "mean %", "95 % of the points below %", "worst frame %"], rows, "errors by part of the face")


def _spread(error: np.ndarray) -> list[str]:
    if not np.isfinite(error).any():
        return [number(None, 2)] * 3
    frames = np.nanmean(error[:, np.isfinite(error).any(0)], 1)
    return [number(float(v), 2) for v in (np.nanmean(error), np.nanquantile(error, 0.95), frames.max())]
