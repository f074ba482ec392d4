"""The last look at a prepared clip: its numbers, the page to look at, and what to film again."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from avatar.core import FaceTrack
from avatar.face.rig import AbstractRig, PersonalRig
from avatar.media.files import write_bytes
from avatar.preprocess.quality import measure
from avatar.preprocess.quality_figures import Overlay, plots_of, strips
from avatar.preprocess.quality_page import QualityPage, html
from avatar.preprocess.series import series_of
from avatar.preprocess.shots import Shot, sentence
from avatar.preprocess.stage import Run

PAGE, NUMBERS = "quality.html", "quality.json"


def judge_clip(run: Run, name: str, head: tuple[FaceTrack, PersonalRig], family: AbstractRig) -> Mapping[str, Any]:
    """Write quality.json and quality.html, and say what to film again.

    Args:
        name: of the film.
    """
    workspace, (track, rig) = run.workspace, head
    tensors, _ = workspace.tensors("landmarks.safetensors")
    shots = workspace.json("shots.json")["shots"]
    covered = np.flatnonzero(tensors["covered"].numpy()).tolist()
    run.progress(0, 3, "steps")
    series = series_of(track, rig, family, tensors["segment"].numpy())
    quality = measure(workspace, series, shots, len(covered))
    said = sentence([Shot(**shot) for shot in shots], workspace.fps)
    lost = int((tensors["confidence"].numpy() <= 0).sum()) - len(covered) - quality["left_out"]
    slipped = int((~series.used & (tensors["confidence"].numpy() > 0)).sum())
    counted = [
        (lost, "no face is found in {} frames"),
        (len(covered), "something covers the face in {} frames; the motion there is interpolated"),
        (slipped, "the head could not be followed in {} frames"),
        (quality["turned_away"], "the head is turned too far to be read well in {} frames, which have less weight"),
    ]
    happened = [said] * bool(said) + [text.format(count) for count, text in counted if count > 0]
    run.progress(1, 3, "steps")
    overlay = Overlay(frame=workspace.frame, track=track, rig=rig, series=series)
    page = QualityPage(
        name=name,
        quality=quality,
        series=series,
        shots=shots,
        covered=covered,
        happened=[f"{text[0].upper()}{text[1:]}" for text in happened]
        or ["One shot; the face is seen in all of its frames"],
        strips=strips(overlay, covered, [shot["first"] for shot in shots[1:]]),
        plots=plots_of(series),
    )
    run.progress(2, 3, "steps")
    write_bytes(workspace.path(PAGE), html(page).encode())
    workspace.write_json(NUMBERS, {**quality, "happened": happened})
    run.progress(3, 3, "steps")
    for warning in quality["warnings"]:
        run.notice(f"{name}: {warning}")
    return {"warnings": len(quality["warnings"])}
