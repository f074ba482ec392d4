"""Workspace and avatar in, report out: report/report.json, frames.json, strips.jpg and index.html."""

import hashlib
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import avatar
from avatar import ops
from avatar.config import from_dict, load_json, to_dict
from avatar.errors import InputError
from avatar.evaluate import figures, metrics, page, report
from avatar.evaluate.config import EvaluateConfig
from avatar.evaluate.rows import Drawer, Subject, ground_truth, nearest_frame, reenacted, spoken
from avatar.evaluate.score import Row, Series, Truth, score
from avatar.evaluate.views import TRUTH_FILES, ScoredView, evaluate_views, views_table
from avatar.events import Done, Notice, Sink, silent
from avatar.face.landmarks import AbstractLandmarkDetector
from avatar.face.track_io import load_track
from avatar.media.files import make_folder, sha256, write_bytes, write_json
from avatar.media.image import write_image
from avatar.media.workspace import Workspace
from avatar.models.avatar_model import FILES, AvatarModel
from avatar.ops.lpips import HOW_TO, weight_files
from avatar.speech.learned_motion import LearnedMotion
from avatar.speech.style import SpeechStyle

STAGE = "evaluate"
OUTPUTS = ("index.html", "frames.json", "strips.jpg", "report.json")
_TIMED = 40
"""Frames that are drawn once more to see how fast that is, when nothing runs beside."""
_LIPS = "both ways"
"""How the detector looks, as reports by another look do not compare."""


def evaluate(
    workspace: Path, sink: Sink = silent, config: EvaluateConfig | None = None, *, truth: Path | None = None
) -> dict[str, Any]:
    """Score WORKSPACE/avatar on the held-out frames and write WORKSPACE/report.

    A report of the same avatar, clip and settings is not made again.

    Args:
        truth: folder of a drawn speaker's truth; adds `views`, see `views.evaluate_views`.

    Returns:
        What report.json holds: `rows` (see `report.COLUMNS`; a row or number that could not be measured is None, its
        reason is in `absent`), `fps`, `file_mb`, `pose_jitter_deg`, `build_seconds`, `peak_mb`, `provenance`.

    Raises:
        InputError: when the workspace or the avatar is missing or damaged, or nothing is held out.
    """
    opened, config = Workspace.open(workspace), config or EvaluateConfig()
    subject = open_subject(opened, truth)
    key = _key(opened, config, truth)
    earlier = _earlier(opened.path("report"), key)
    if earlier is not None:
        outputs = tuple(opened.path("report") / name for name in OUTPUTS)
        sink(Done(stage=STAGE, seconds=0.0, outputs=outputs, facts=_headline(earlier), skipped=True))
        return earlier
    return evaluate_subject(subject, sink, config, key)


def evaluate_subject(subject: Subject, sink: Sink, config: EvaluateConfig, key: str = "") -> dict[str, Any]:
    """The same for an opened subject, always anew; `key` says what the report depends on."""
    begin = time.perf_counter()
    absent: dict[str, str] = {}
    rows, drawer = _rows(subject, absent)
    detector = _detector(absent)
    for reason in absent.values():
        sink(Notice(message=f"report: {reason}"))
    truth = Truth(
        frame=subject.workspace.frame,
        labels=subject.workspace.labels,
        landmarks=lambda index: subject.track.landmarks_px[index].numpy(),
        indices=subject.test,
        fps=subject.track.motion.fps,
    )
    series = score(truth, rows, config, sink, detector)
    sides = evaluate_views(subject, subject.truth) if subject.truth else []
    if weight_files() is None:  # few have them: said to who looks for the number only
        absent["lpips"] = f"LPIPS is not measured, because its weights are not on this machine; {HOW_TO}"
    numbers = _numbers(subject, series, drawer, absent)
    found = report.plain({"key": key, **numbers, "views": views_table(sides) if sides else None})
    outputs = _write(subject, _Measured(series=series, rows=rows, sides=sides), found, config)
    sink(Done(stage=STAGE, seconds=time.perf_counter() - begin, outputs=outputs, facts=_headline(found)))
    return found


@dataclass(frozen=True, kw_only=True)
class _Measured:
    series: Series
    rows: Sequence[Row]
    sides: Sequence[ScoredView]


def _key(workspace: Workspace, config: EvaluateConfig, truth: Path | None) -> str:
    """Hash of all that a report depends on, the packages that measure included."""
    depends = {
        "version": avatar.__version__,
        "schema": report.SCHEMA,
        "lips": _LIPS,
        "config": to_dict(config),
        "stages": {name: data["key"] for name, data in workspace.manifest.stages.items()},
        "split": workspace.json("split.json"),
        "files": {name: sha256(workspace.path(f"avatar/{name}")) for name in FILES},
        "truth": truth and [sha256(truth / name) for name in TRUTH_FILES],
        "packages": [find_spec(n) is not None for n in ("mediapipe", "flip_evaluator", "pocketsphinx", "silero_vad")],
        "lpips": weight_files() is not None,
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def _earlier(folder: Path, key: str) -> dict[str, Any] | None:
    """The whole report that is there already, if it is of the same things."""
    if not all((folder / name).exists() for name in OUTPUTS):
        return None
    try:
        found = load_json(folder / "report.json")
    except InputError:
        return None
    return found if found.get("key") == key else None


def open_subject(workspace: Workspace, truth: Path | None = None) -> Subject:
    """Everything that the rows need.

    Raises:
        InputError: when a part is missing or damaged, or nothing is held out.
    """
    split = workspace.json("split.json")
    train, test = list(split.get("train", [])), list(split.get("test", []))
    if not train or not test:
        raise InputError(
            f"{workspace.root / 'split.json'}: {len(train)} frames to learn from and {len(test)} held out, "
            "wanted some of both; give a longer clip"
        )
    return Subject(
        workspace=workspace,
        track=load_track(workspace.path("track.safetensors")),
        avatar=AvatarModel.load(workspace.path("avatar")),
        train=train,
        test=test,
        truth=truth,
    )


def _rows(subject: Subject, absent: dict[str, str]) -> tuple[list[Row], Drawer]:
    first, drawer = reenacted(subject)
    rows = [first]
    try:
        rows.append(spoken(subject, LearnedMotion(_style(subject))))
    except InputError as error:
        absent["spoken"] = str(error)
    return [*rows, nearest_frame(subject), ground_truth(subject)], drawer


def _style(subject: Subject) -> SpeechStyle:
    """The person's way to speak, or that of an average speaker when the avatar has none."""
    known = subject.avatar.meta.speech
    return from_dict(SpeechStyle, known, where="avatar.json: speech") if known else SpeechStyle()


def _detector(absent: dict[str, str]) -> Callable[[], AbstractLandmarkDetector] | None:
    if find_spec("flip_evaluator") is None:
        absent["flip"] = "FLIP is not measured, because flip-evaluator is missing; pip install 'avatar[preprocess]'"
    if find_spec("mediapipe") is None:
        absent["lmd_px"] = absent["lip_gap_r"] = absent["lip_gap_slope"] = (
            "lips are not measured, because mediapipe is missing; pip install 'avatar[preprocess]' and evaluate again"
        )
        return None
    from avatar.face.both_ways import BothWaysDetector
    from avatar.face.landmarks import MediapipeDetector

    return lambda: BothWaysDetector(lambda _: MediapipeDetector(faces=1))


def _numbers(subject: Subject, series: Series, drawer: Drawer, absent: Mapping[str, str]) -> dict[str, Any]:
    workspace, motion = subject.workspace, subject.track.motion
    known = np.flatnonzero(subject.track.confidence.numpy() > 0)
    files = [path for path in workspace.path("avatar").rglob("*") if path.is_file()]
    return {
        "schema": report.SCHEMA,
        "rows": report.rows_of(series),
        "absent": dict(absent),
        "fps": drawer.fps(subject.test[:: max(len(subject.test) // _TIMED, 1)]),
        "file_mb": sum(path.stat().st_size for path in files) / 1e6,
        "pose_jitter_deg": metrics.pose_jitter_deg(motion.T_world_head[known, :3, :3].double().numpy()),
        "build_seconds": _build_seconds(subject),
        "peak_mb": _peak_mb(workspace),
        "provenance": _provenance(subject),
    }


def _build_seconds(subject: Subject) -> float | None:
    """All recorded stages and the training; without this evaluation."""
    stages = {name: float(data["seconds"]) for name, data in subject.workspace.manifest.stages.items()}
    stages.setdefault("train", float(subject.avatar.meta.trained.get("seconds", 0.0)))
    return sum(seconds for name, seconds in stages.items() if name != STAGE) or None


def _peak_mb(workspace: Workspace) -> float:
    """Largest resident memory of this process and of the recorded stages, in MB (10^6 bytes)."""
    recorded = [data.get("facts", {}).get("peak_mb", 0.0) for data in workspace.manifest.stages.values()]
    own = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(own * 1024 / 1e6, *recorded)


def _provenance(subject: Subject) -> dict[str, Any]:
    height, width = subject.track.camera.size
    return {
        "avatar_version": avatar.__version__,
        "recipe": subject.avatar.meta.trained.get("recipe", "unknown"),
        "source": subject.workspace.manifest.name,
        "source_sha256": subject.workspace.manifest.source_sha256,
        "height": height,
        "width": width,
        "clip_fps": subject.track.motion.fps,
        "frames_train": len(subject.train),
        "frames_test": len(subject.test),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "ops": ops.describe(),
        "definitions": report.DEFINITIONS,
    }


def _headline(found: Mapping[str, Any]) -> dict[str, Any]:
    ours = found["rows"]["reenacted"]
    return {"psnr_peer": ours["psnr_peer"], "psnr_frame": ours["psnr_frame"], "fps": found["fps"]}


def _write(subject: Subject, measured: _Measured, found: dict[str, Any], config: EvaluateConfig) -> tuple[Path, ...]:
    folder, series = subject.workspace.path("report"), measured.series
    make_folder(folder)
    even, worst = figures.strips(subject, series, measured.rows, config)
    shown = page.Page(
        report=found,
        meanings={row.name: row.meaning for row in measured.rows},
        even=even,
        worst=worst,
        sides=figures.side_strips(measured.sides, config),
        plots=figures.plots_of(subject, series),
        warnings=[
            *figures.quality_warnings(subject.workspace),
            *dict.fromkeys(why for name, why in found["absent"].items() if name != "lpips"),
        ],
    )
    outputs = {name: folder / name for name in OUTPUTS}
    write_bytes(outputs["index.html"], page.html(shown).encode())
    write_json(outputs["frames.json"], report.frames_of(series))
    write_image(outputs["strips.jpg"], figures.contact_sheet([*even, *worst]))
    # Last, so that a report.json says that all of the report is there.
    write_json(outputs["report.json"], found)
    return tuple(outputs.values())
