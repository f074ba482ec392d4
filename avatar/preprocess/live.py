"""A head followed live, from a camera or from a film that stands in for one: no picture waits for a later one."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float

from avatar.core import MotionFrame, MotionSequence
from avatar.errors import InputError
from avatar.events import Done, Notice, Progress, Sink, silent
from avatar.face.rig import PersonalRig
from avatar.face.streaming import StreamingTracker
from avatar.face.streaming_person import learn_opening
from avatar.preprocess.tools import Tools

_STAGE = "live"
OPENING = 3.0
"""Seconds with a face from which the person is learned; they are followed afterwards, so that nothing is missing."""
_LEAST = 10
"""Frames with a face without which nobody can be learned."""

Landmarks = Float[np.ndarray, "478 2"] | None


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What was followed."""

    motion: MotionSequence
    rest: MotionFrame
    """The person's usual pose, with a neutral face."""
    rig: PersonalRig
    seen: float
    """Part of the pictures that showed the face."""
    step_ms: tuple[float, float]
    """Median and 99th percentile of what a picture took after the detector."""


@dataclass(frozen=True, kw_only=True)
class _Live:
    """Somebody who is known by now."""

    tracker: StreamingTracker
    rig: PersonalRig


def record(
    pictures: Iterable[tuple[float, np.ndarray]], tools: Tools, *, fps: float, total: int, sink: Sink = silent
) -> Recording:
    """Learn the person from the first seconds, then follow each picture as it comes.

    Args:
        pictures: (seconds, uint8 [h w 3]) in order of time, at any rate.
        fps: frames a second of the motion: each shows the newest picture of its time.
        total: how many pictures are expected; only for the progress.

    Raises:
        InputError: if too few pictures show a face.
    """
    detector, size, waiting, live = tools.live_detector(), (0, 0), [], None
    start, count, follower = time.monotonic(), 0, _Follower()
    try:
        for seconds, picture in pictures:
            size, count = (picture.shape[0], picture.shape[1]), count + 1
            sink(Progress(stage=_STAGE, done=min(count, total), total=total))
            faces = detector.detect(picture, seconds)
            found = faces[0].landmarks_px if faces else None
            if live is not None:
                follower.step(live.tracker, found, seconds)
                continue
            waiting.append((seconds, found))
            if _is_enough(waiting):
                live = _learned(waiting, tools, size, sink)
                follower.replay(live.tracker, waiting)
    finally:
        detector.close()
    if live is None:
        live = _learned(waiting, tools, size, sink)
        follower.replay(live.tracker, waiting)
    recording = follower.finish(live, fps)
    facts = {"frames": len(recording.motion), "seen": recording.seen, "step_ms": list(recording.step_ms)}
    sink(Done(stage=_STAGE, seconds=time.monotonic() - start, outputs=(), facts=facts))
    return recording


def _is_enough(waiting: list[tuple[float, Landmarks]]) -> bool:
    times = [seconds for seconds, found in waiting if found is not None]
    return len(times) >= _LEAST and times[-1] - times[0] >= OPENING


def _learned(waiting: list[tuple[float, Landmarks]], tools: Tools, size: tuple[int, int], sink: Sink) -> _Live:
    seen = [(seconds, found) for seconds, found in waiting if found is not None]
    if len(seen) < _LEAST:
        raise InputError(
            f"a face in {len(seen)} of {len(waiting)} pictures, at least {_LEAST} are needed; "
            "sit upright before the camera, face uncovered and well lit, and start again"
        )
    sink(Notice(message="learning the person from the first seconds; this takes some seconds"))
    points = np.stack([found for _, found in seen])
    fps = (len(seen) - 1) / max(seen[-1][0] - seen[0][0], 1e-3)
    person, rig = learn_opening(points, np.ones(len(points)), tools.family(), size, fps=fps)
    return _Live(tracker=StreamingTracker(person), rig=rig)


class _Follower:
    """Steps the tracker and keeps what came out."""

    def __init__(self) -> None:
        self._state = None
        self._times: list[float] = []
        self._frames: list[MotionFrame] = []
        self._seen = 0
        self._spent: list[float] = []

    def replay(self, tracker: StreamingTracker, waiting: list[tuple[float, Landmarks]]) -> None:
        for seconds, found in waiting:
            self.step(tracker, found, seconds)

    def step(self, tracker: StreamingTracker, found: Landmarks, seconds: float) -> None:
        start = time.perf_counter()
        self._state, motion = tracker.step(self._state or tracker.begin(), found, seconds)
        self._spent.append(1e3 * (time.perf_counter() - start))
        self._times.append(seconds)
        self._frames.append(motion)
        self._seen += self._state.is_seen

    def finish(self, live: _Live, fps: float) -> Recording:
        times = np.array(self._times) - self._times[0]
        grid = np.arange(int(times[-1] * fps + 1.5)) / fps
        newest = np.searchsorted(times, grid + 0.5 / fps) - 1
        columns = {f.name: torch.stack([getattr(m, f.name) for m in self._frames]) for f in fields(MotionFrame)}
        rest = live.tracker.step(live.tracker.begin(), None, 0.0)[1]
        median, slowest = np.quantile(self._spent, [0.5, 0.99])
        return Recording(
            motion=MotionSequence(**columns, fps=fps).select(torch.from_numpy(newest)),
            rest=rest,
            rig=live.rig,
            seen=round(self._seen / len(times), 4),
            step_ms=(round(float(median), 2), round(float(slowest), 2)),
        )
