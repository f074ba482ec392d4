"""Score rows of pictures against the true frames: frame by frame, nothing kept but numbers."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from jaxtyping import Bool, Float, UInt8

from avatar.core import Region
from avatar.evaluate import metrics
from avatar.evaluate.config import EvaluateConfig
from avatar.evaluate.metrics import Picture, Points
from avatar.events import Progress, Sink
from avatar.face.ahead import read_ahead
from avatar.face.landmarks import AbstractLandmarkDetector
from avatar.ops.lpips import SMALLEST, weight_files

HEAD = (
    Region.SKIN, Region.BROWS, Region.EYES, Region.NOSE, Region.LIPS, Region.MOUTH, Region.HAIR, Region.EARS,
)  # fmt: skip
"""What the peers call the head; neck and clothes are their torso."""

PICTURE_METRICS = ("psnr_frame", "psnr_peer", "psnr_mouth", "ssim", "ssim_peer", "flip", "lpips")
FACE_METRICS = ("lmd_px", "lip_gap_px")
CHANGES = ("change", "true_change")
"""From the frame before, see `metrics.change`."""
_THREADS = 2


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


def peer_composite(drawn: Picture, true: Picture, head: Bool[np.ndarray, "h w"]) -> Picture:
    """Our head over the true torso and background.

    This is how AD-NeRF, ER-NeRF, TalkingGaussian and SyncTalk report a picture: inside `head_mask` of the true
    frame stand the drawn pixels, outside of it the true ones, and the score is taken over the whole frame. The
    peers' scores are therefore higher than those of a frame that is drawn completely.
    """
    return np.where(head[..., None], drawn, true)


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
    """Run every metric on every row, in one walk over the frames: what is true of a frame is found once for all rows,
    and while the next pictures are drawn, other threads judge the last ones.

    The picture metrics need only the true frame. LMD and lip gap need `detector`, which makes a fresh one for each
    row, since it follows a face from frame to frame; None leaves them out. The row `ground_truth` gives the detector
    a JPEG copy of the true frame, so that its LMD and lip gap say how far two measurements of one frame differ.
    """
    count, each = len(truth.indices), len(rows) + 1
    sink(Progress(stage="evaluate", done=0, total=count * each))
    with ExitStack() as stack:
        plan = _Plan.of(count, config)
        own, *each_own = (_Watch(stack.enter_context(_following(detector, truth.fps))) for _ in range(each))
        judges = [_Judge(row, plan, watch) for row, watch in zip(rows, each_own, strict=True)]
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS, "avatar-judge"))
        waiting: list[Future[None]] = []
        for position, moment in enumerate(_moments(truth)):
            drawn = [row.draw(moment.index) for row in rows]
            for done in waiting:
                done.result()
            waiting = [pool.submit(own.see, moment, moment.true)] if position in plan.faces else []
            waiting += [pool.submit(judge.see, moment, picture) for judge, picture in zip(judges, drawn, strict=True)]
            sink(Progress(stage="evaluate", done=(position + 1) * each, total=count * each))
        for done in waiting:
            done.result()
    faces = [_face_scores(judge.watch.points, own.points, count) for judge in judges]
    return Series(
        indices=list(truth.indices),
        rows={judge.row.name: {**judge.numbers, **face} for judge, face in zip(judges, faces, strict=True)},
        true_gap=_gaps(own.points, count),
    )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which positions among the held-out frames are judged by what is costly."""

    count: int
    structure: set[int]
    flip: set[int]
    lpips: set[int]
    faces: set[int]

    @classmethod
    def of(cls, count: int, config: EvaluateConfig) -> "_Plan":
        flip = evenly(count, config.flip_frames) if find_spec("flip_evaluator") else set()
        return cls(
            count=count,
            structure=evenly(count, config.structure_frames),
            flip=flip,
            lpips=evenly(count, config.lpips_frames) if weight_files() else set(),
            faces=evenly(count, config.face_frames),
        )


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """A held-out frame and all that is true of it, whoever draws it."""

    position: int
    index: int
    true: Picture
    head: Bool[np.ndarray, "h w"]
    mouth: tuple[slice, slice]
    still: UInt8[np.ndarray, "h w"] | None
    """Where the person stood still since the frame before; None where that is not the last of the held-out ones."""
    change: float
    """Of the true frames there."""


def _moments(truth: Truth) -> Iterator[_Moment]:
    """The held-out frames in order, read ahead."""
    before: tuple[int, Picture] | None = None
    for position, (index, (true, labels)) in enumerate(
        read_ahead(lambda i: (truth.frame(i), truth.labels(i)), truth.indices)
    ):
        still, change = None, float("nan")
        if before is not None and before[0] == index - 1:
            still = metrics.still_region(before[1], true, labels != Region.BACKGROUND)
            change = metrics.change(before[1], true, still)
        before = index, true
        yield _Moment(
            position=position,
            index=index,
            true=true,
            head=head_mask(labels),
            mouth=metrics.mouth_window(truth.landmarks(index), (true.shape[0], true.shape[1])),
            still=still,
            change=change,
        )


class _Watch:
    """Follows the face through one row of pictures."""

    def __init__(self, find: Callable[[Picture, int], Points | None] | None):
        self._find = find
        self.points: dict[int, tuple[Points, int]] = {}
        """Face points and the picture's height, by position."""

    def see(self, moment: _Moment, picture: Picture) -> None:
        if self._find is not None and (points := self._find(picture, moment.index)) is not None:
            self.points[moment.position] = points, len(picture)


class _Judge:
    """Collects one row's numbers, frame after frame."""

    def __init__(self, row: Row, plan: _Plan, watch: _Watch):
        self.row, self.watch, self._plan = row, watch, plan
        self.numbers = {name: np.full(plan.count, np.nan) for name in PICTURE_METRICS + CHANGES}
        self._before: Picture | None = None

    def see(self, moment: _Moment, drawn: Picture) -> None:
        """Called once for each held-out frame, in their order."""
        scores = self._picture_scores(moment, drawn)
        if moment.still is not None and self._before is not None:
            scores |= {"change": metrics.change(self._before, drawn, moment.still), "true_change": moment.change}
        self._before = drawn
        for name, value in scores.items():
            self.numbers[name][moment.position] = value
        if moment.position in self._plan.faces:
            self.watch.see(moment, recoded(drawn) if self.row.name == "ground_truth" else drawn)

    def _picture_scores(self, moment: _Moment, drawn: Picture) -> dict[str, float]:
        true, error = moment.true, metrics.squared_error(drawn, moment.true)
        found = {
            "psnr_frame": metrics.decibels(error, error.size),
            "psnr_peer": metrics.decibels(error[moment.head], error.size),
            "psnr_mouth": metrics.decibels(error[moment.mouth], error[moment.mouth].size),
        }
        if moment.position in self._plan.structure:
            composite = peer_composite(drawn, true, moment.head)
            found |= {"ssim": metrics.ssim(drawn, true), "ssim_peer": metrics.ssim(composite, true)}
        if moment.position in self._plan.flip:
            found["flip"] = metrics.flip(drawn, true)
        if moment.position in self._plan.lpips and min(drawn.shape[:2]) >= SMALLEST:
            found["lpips"] = metrics.lpips(drawn, true)
        return found


_Points = Mapping[int, tuple[Points, int]]


def _gaps(seen: _Points, count: int) -> Float[np.ndarray, "t"]:
    """The lips' opening at each position, NaN where no face was found."""
    gaps = np.full(count, np.nan)
    for position, (points, height) in seen.items():
        gaps[position] = metrics.lip_gap_px(points, height)
    return gaps


def _face_scores(seen: _Points, true: _Points, count: int) -> dict[str, Float[np.ndarray, "t"]]:
    """Of the positions at which a face was found on both pictures."""
    both = {position: seen[position] for position in seen.keys() & true.keys()}
    apart = np.full(count, np.nan)
    for position, (points, height) in both.items():
        apart[position] = metrics.lip_distance_px(points, true[position][0], height)
    return {"lmd_px": apart, "lip_gap_px": _gaps(both, count)}


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
