"""What the page shows of a subject: strips of pictures, curves, warnings about the clip."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from avatar.errors import InputError
from avatar.evaluate.config import EvaluateConfig
from avatar.evaluate.metrics import Picture
from avatar.evaluate.report import worst_positions
from avatar.evaluate.rows import Subject
from avatar.evaluate.score import Row, Series, evenly
from avatar.evaluate.views import ScoredView
from avatar.media.page import Panel, Strip
from avatar.media.plots import Plot, heat, lines, smoothed
from avatar.media.workspace import Workspace

_LOSSES = "train/log.json"
"""Optional: {"step": [...], "loss": [...]}."""


def strips(
    subject: Subject, series: Series, rows: Sequence[Row], config: EvaluateConfig
) -> tuple[list[Strip], list[Strip]]:
    """Evenly spaced moments, and the worst ones."""
    even = sorted(evenly(len(series.indices), config.strips))
    worst = worst_positions(series, config.worst)
    one, two = ([_strip(subject, series, rows, p, config.panel_px) for p in chosen] for chosen in (even, worst))
    return one, two


def _strip(subject: Subject, series: Series, rows: Sequence[Row], position: int, size: int) -> Strip:
    index = series.indices[position]
    true = subject.workspace.frame(index)
    drawn = {row.name: row.draw(index) for row in rows if row.name != "ground_truth"}
    scores = {name: series.rows[name]["psnr_frame"][position] for name in drawn}
    panels = {
        "true frame": true,
        **{f"{name.replace('_', ' ')}, {scores[name]:.1f} dB": picture for name, picture in drawn.items()},
        "difference of reenacted (bright: 64 of 255 steps)": heat(drawn["reenacted"], true),
    }
    return Strip(
        title=f"{index / subject.track.motion.fps:.1f} s (frame {index})",
        panels=[Panel(caption=caption, picture=_small(picture, size)) for caption, picture in panels.items()],
    )


def side_strips(sides: Sequence[ScoredView], config: EvaluateConfig) -> list[Strip]:
    """Held-out views of the first two moments: true and drawn at every yaw."""
    shown = []
    for frame in list(dict.fromkeys(side.view.frame for side in sides))[:2]:
        panels = []
        for side in (side for side in sides if side.view.frame == frame):
            name = f"yaw {side.view.yaw_deg:+d} degrees"
            pictures = {f"true, {name}": side.true, f"drawn, {name}, {side.psnr:.1f} dB": side.drawn}
            panels += [Panel(caption=c, picture=_small(p, config.panel_px)) for c, p in pictures.items()]
        shown.append(Strip(title=f"from the side, frame {frame}", panels=panels))
    return shown


def _small(picture: Picture, longest: int) -> Picture:
    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(round(side * scale), 1) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def contact_sheet(shown: Sequence[Strip]) -> Picture:
    """All strips under each other in one picture, panels side by side."""
    lines_of = [np.concatenate([panel.picture for panel in strip.panels], axis=1) for strip in shown]
    return np.concatenate(lines_of, axis=0)


def plots_of(subject: Subject, series: Series) -> list[Plot]:
    """Lip gap, PSNR and pose over time, and the training's loss when it left a log."""
    seconds = np.asarray(series.indices) / subject.track.motion.fps
    compared = [name for name in ("reenacted", "spoken") if name in series.rows]
    gaps = {"true": series.true_gap, **{name: series.rows[name]["lip_gap_px"] for name in compared}}
    plots = []
    if np.isfinite(series.true_gap).any():
        plots.append(lines("Lip gap, true and drawn", "px at 512", seconds, gaps, "seconds of the clip"))
    frame = {name: series.rows[name]["psnr_frame"] for name in (*compared, "nearest_frame")}
    plots.append(lines("PSNR of each frame", "dB", seconds, frame, "seconds of the clip"))
    return [*plots, _pose_plot(subject), *_loss_plots(subject.workspace)]


def _pose_plot(subject: Subject) -> Plot:
    from scipy.spatial.transform import Rotation

    motion = subject.track.motion
    turn = Rotation.from_matrix(motion.T_world_head[:, :3, :3].double().numpy()).as_euler("YXZ", degrees=True)
    turn[subject.track.confidence.numpy() <= 0] = np.nan
    curves = {name: turn[:, k] for k, name in enumerate(("yaw", "pitch", "roll"))}
    seconds = np.arange(len(motion)) / motion.fps
    return lines("Tracked head pose, whole clip", "degrees", seconds, curves, "seconds of the clip")


def _loss_plots(workspace: Workspace) -> list[Plot]:
    path = workspace.path(_LOSSES)
    if not path.exists():
        return []
    log: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    steps, values = np.asarray(log["step"], np.float64), smoothed(log["loss"], 25)
    return [lines("Training loss", "loss", steps, {"loss": values}, "step")]


def quality_warnings(workspace: Workspace) -> list[str]:
    """What preprocessing found wrong with the clip; none when it left no quality.json."""
    try:
        quality = workspace.json("quality.json")
    except InputError:
        return []
    return [str(message) for message in quality.get("warnings", [])]
