"""The four answers to a held-out frame: reenacted, spoken, the nearest training frame, and the frame itself."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avatar.core import FaceTrack, MotionSequence, RenderRequest
from avatar.errors import InputError
from avatar.evaluate.metrics import Picture
from avatar.evaluate.motion import lips_from_speech, nearest, seen_points
from avatar.evaluate.score import Row
from avatar.media.workspace import Workspace
from avatar.models.avatar_model import AvatarModel
from avatar.speech.base import AbstractSpeechMotion

MEANINGS = {
    "reenacted": "The avatar, driven by the motion that was tracked in the true frame.",
    "spoken": "Lips from the clip's sound through the speech model; head pose, eyes and brows as tracked.",
    "nearest_frame": "No avatar: the training frame whose tracked motion is closest. The floor to beat.",
    "ground_truth": "The true frame itself; its lip numbers say how well the detector repeats itself.",
}
_LEAD_SECONDS = 2.0
"""Sound before the first held-out frame that the speech model may listen to."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A prepared clip with its avatar."""

    workspace: Workspace
    track: FaceTrack
    avatar: AvatarModel
    train: Sequence[int]
    test: Sequence[int]
    truth: Path | None = None
    """Folder with the truth of a speaker that was drawn (see `views`)."""


@dataclass(kw_only=True)
class Drawer:
    """Draws frames of a clip with the avatar."""

    avatar: AvatarModel
    motion: MotionSequence
    track: FaceTrack
    start: int = 0
    """Frame of the clip to which the motion's first frame belongs."""

    def __call__(self, index: int) -> Picture:
        """Frame `index` of the clip, over the avatar's own plate."""
        request = RenderRequest(camera=self.track.camera, motion=self.motion.frame(index - self.start))
        with torch.no_grad():
            rgb = self.avatar.render(request, None).rgb
        return (rgb.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()

    def fps(self, indices: Sequence[int]) -> float:
        """Frames a second, from the median time of these frames."""
        seconds = []
        for index in indices:
            begin = time.perf_counter()
            self(index)
            seconds.append(time.perf_counter() - begin)
        return 1.0 / float(np.median(seconds))


def reenacted(subject: Subject) -> tuple[Row, Drawer]:
    """The avatar on tracked motion, and what draws it."""
    drawer = Drawer(avatar=subject.avatar, motion=subject.track.motion, track=subject.track)
    return Row(name="reenacted", meaning=MEANINGS["reenacted"], draw=drawer), drawer


def spoken(subject: Subject, speech: AbstractSpeechMotion) -> Row:
    """The avatar with lips from the clip's sound; only the held-out part (and 2 s before it) is listened to.

    Raises:
        InputError: when the clip has no sound, or the speech model lacks what it needs.
    """
    audio = subject.workspace.audio()
    if audio is None:
        raise InputError("the clip has no sound, so there is nothing to speak")
    tracked = subject.track.motion
    lead = round(_LEAD_SECONDS * tracked.fps)
    start, end = max(min(subject.test) - lead, 0), max(subject.test) + 1
    motion = tracked.select(slice(start, end))
    heard = speech(audio.between(start / tracked.fps, end / tracked.fps), tracked.fps)
    if len(heard) != len(motion):
        heard = heard.select([min(i, len(heard) - 1) for i in range(len(motion))])
    drawer = Drawer(avatar=subject.avatar, motion=lips_from_speech(motion, heard), track=subject.track, start=start)
    return Row(name="spoken", meaning=MEANINGS["spoken"], draw=drawer)


def nearest_frame(subject: Subject) -> Row:
    """The training frame that moves most alike (see `seen_points`)."""
    rig, camera, motion = subject.avatar.rig, subject.track.camera, subject.track.motion
    train, test = list(subject.train), list(subject.test)
    among = seen_points(motion.select(train), rig, camera)
    found = nearest(seen_points(motion.select(test), rig, camera), among)
    source = {index: train[int(position)] for index, position in zip(test, found, strict=True)}

    def draw(index: int) -> Picture:
        return subject.workspace.frame(source[index])

    return Row(name="nearest_frame", meaning=MEANINGS["nearest_frame"], draw=draw)


def ground_truth(subject: Subject) -> Row:
    """The true frame."""
    return Row(name="ground_truth", meaning=MEANINGS["ground_truth"], draw=subject.workspace.frame)
