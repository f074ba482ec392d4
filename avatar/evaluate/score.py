"""Score rows of pictures against the true frames: frame by frame, nothing kept but numbers."""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from jaxtyping import Bool, Float, UInt8

from avatar.core import Region
from avatar.evaluate import metrics
from avatar.evaluate.config import EvaluateConfig
from avatar.evaluate.metrics import Picture, Points
from avatar.events import Progress, Sink
from avatar.face.landmarks import AbstractLandmarkDetector

HEAD = (
    Region.SKIN, Region.BROWS, Region.EYES, Region.NOSE, Region.LIPS, Region.MOUTH, Region.HAIR, Region.EARS,
)  # fmt: skip
"""What the peers call the head; neck and clothes are their torso."""

PICTURE_METRICS = ("psnr_frame", "psnr_peer", "psnr_mouth", "ssim", "ssim_peer", "flip")
FACE_METRICS = ("lmd_px", "lip_gap_px")
CHANGES = ("change", "true_change")
"""From the frame before, see `metrics.still_changes`."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to answer a held-out frame."""

    name: str
    meaning: str
    """One sentence for the reader of the page."""
    draw: Callable[[int], Picture]
    """From the index of a frame in the clip to its picture."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The true pictures and what is known about them, by index of the frame in the clip."""

    frame: Callable[[int], Picture]
    labels: Callable[[int], UInt8[np.ndarray, "h w"]]
    """A `Region` for each pixel."""
    landmarks: Callable[[int], Points]
    """Face points [478 2] in px that place the mouth window."""
    indices: Sequence[int]
    """The held-out frames."""
    fps: float


@dataclass(frozen=True, kw_only=True)
class Series:
    """Numbers over the held-out frames; NaN where a frame was not scored with that metric."""

    indices: list[int]
    rows: dict[str, dict[str, np.ndarray]]
    true_gap: np.ndarray


def evenly(count: int, wanted: int) -> set[int]:
    """At most `wanted` positions of `count`, evenly spaced, ends included."""
    return set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()) if count else set()


def head_mask(labels: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where the true frame shows the head (`HEAD`), grown by 1 % of the picture's height."""
    from scipy.ndimage import maximum_filter

    radius = max(round(0.01 * labels.shape[0]), 1)
    return maximum_filter(np.isin(labels, HEAD), size=2 * radius + 1)


def peer_composite(drawn: Picture, true: Picture, labels: UInt8[np.ndarray, "h w"]) -> Picture:
    """Our head over the true torso and background.

    This is how AD-NeRF, ER-NeRF, TalkingGaussian and SyncTalk report a picture: inside `head_mask` of the true
    frame stand the drawn pixels, outside of it the true ones, and the score is taken over the whole frame. The
    peers' scores are therefore higher than those of a frame that is drawn completely.
    """
    return np.where(head_mask(labels)[..., None], drawn, true)


def recoded(picture: Picture) -> Picture:
    """The picture after one pass through JPEG (quality 75, 4:2:0): what a second take of the same frame looks like."""
    from PIL import Image

    store = io.BytesIO()
    Image.fromarray(picture).save(store, "JPEG", quality=75)
    return np.asarray(Image.open(store).convert("RGB"))


def score(
    truth: Truth,
    rows: Sequence[Row],
    config: EvaluateConfig,
    sink: Sink,
    detector: Callable[[], AbstractLandmarkDetector] | None,
) -> Series:
    """Run every metric on every row.

    The picture metrics need only the true frame. LMD and lip gap need `detector`, which makes a fresh one for each
    row, since it follows a face from frame to frame; None leaves them out. The row `ground_truth` gives the detector
    a JPEG copy of the true frame, so that its LMD and lip gap say how far two measurements of one frame differ.
    """
    total = len(truth.indices) * (len(rows) + 1)
    steps = itertools.count(1)
    job = _Job(
        truth=truth,
        config=config,
        detector=detector,
        tick=lambda: sink(Progress(stage="evaluate", done=next(steps), total=total)),
    )
    sink(Progress(stage="evaluate", done=0, total=total))
    points = _true_points(job)
    true_gap = np.full(len(truth.indices), np.nan)
    for position, (found, height) in points.items():
        true_gap[position] = metrics.lip_gap_px(found, height)
    numbers = {row.name: _score_row(row, job, points) for row in rows}
    return Series(indices=list(truth.indices), rows=numbers, true_gap=true_gap)


@dataclass(frozen=True, kw_only=True)
class _Job:
    truth: Truth
    config: EvaluateConfig
    detector: Callable[[], AbstractLandmarkDetector] | None
    tick: Callable[[], None]
    """Says that one more picture is done."""


_Found = dict[int, tuple[Points, int]]
"""Face points on the true frame, and the frame's height, by position among the held-out frames."""


def _true_points(job: _Job) -> _Found:
    truth, found = job.truth, {}
    chosen = evenly(len(truth.indices), job.config.face_frames)
    with _following(job.detector, truth.fps) as find:
        for position, index in enumerate(truth.indices):
            if find and position in chosen:
                frame = truth.frame(index)
                points = find(frame, index)
                if points is not None:
                    found[position] = (points, frame.shape[0])
            job.tick()
    return found


def _score_row(row: Row, job: _Job, true_points: _Found) -> dict[str, Float[np.ndarray, "t"]]:
    truth, count = job.truth, len(job.truth.indices)
    structure = evenly(count, job.config.structure_frames)
    flip = evenly(count, job.config.flip_frames) if find_spec("flip_evaluator") else set()
    numbers = {name: np.full(count, np.nan) for name in PICTURE_METRICS + FACE_METRICS + CHANGES}
    before: tuple[int, Picture, Picture] | None = None
    with _following(job.detector, truth.fps) as find:
        for position, index in enumerate(truth.indices):
            true, drawn = truth.frame(index), row.draw(index)
            scores = _picture_scores(drawn, true, truth, index, structure=position in structure, flip=position in flip)
            if before is not None and before[0] == index - 1:
                person = truth.labels(index) != Region.BACKGROUND
                found = metrics.still_changes((before[1], drawn), (before[2], true), person)
                scores |= dict(zip(CHANGES, found, strict=True))
            before = index, drawn, true
            if find and position in true_points:
                seen = find(recoded(drawn) if row.name == "ground_truth" else drawn, index)
                scores |= _face_scores(seen, *true_points[position])
            for name, value in scores.items():
                numbers[name][position] = value
            job.tick()
    return numbers


@contextmanager
def _following(
    detector: Callable[[], AbstractLandmarkDetector] | None, fps: float
) -> Iterator[Callable[[Picture, int], Points | None] | None]:
    """A function from (picture, index of the frame) to the face points of the largest face."""
    if detector is None:
        yield None
        return
    found = detector()

    def find(picture: Picture, index: int) -> Points | None:
        faces = found.detect(np.ascontiguousarray(picture), index / fps)
        return faces[0].landmarks_px if faces else None

    try:
        yield find
    finally:
        found.close()


def _picture_scores(
    drawn: Picture, true: Picture, truth: Truth, index: int, *, structure: bool, flip: bool
) -> dict[str, float]:
    window = metrics.mouth_window(truth.landmarks(index), (true.shape[0], true.shape[1]))
    composite = peer_composite(drawn, true, truth.labels(index))
    found = {
        "psnr_frame": metrics.psnr(drawn, true),
        "psnr_peer": metrics.psnr(composite, true),
        "psnr_mouth": metrics.psnr(drawn[window], true[window]),
    }
    if structure:
        found |= {"ssim": metrics.ssim(drawn, true), "ssim_peer": metrics.ssim(composite, true)}
    if flip:
        found["flip"] = metrics.flip(drawn, true)
    return found


def _face_scores(points: Points | None, true: Points, height: int) -> dict[str, float]:
    if points is None:
        return {}
    return {
        "lmd_px": metrics.lip_distance_px(points, true, height),
        "lip_gap_px": metrics.lip_gap_px(points, height),
    }
