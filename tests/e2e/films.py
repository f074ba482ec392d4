"""Films of a synthetic person for tests, and quick stand-ins for the slow parts of preprocessing."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from avatar.core import AudioTrack, Camera, FaceTrack, MotionSequence
from avatar.events import Done, Notice
from avatar.face.landmarks import AbstractLandmarkDetector, FaceLandmarks
from avatar.media import VideoWriter, Workspace
from avatar.preprocess import PreprocessConfig, Tools, preprocess
from avatar.preprocess.tools import Sync

SIDE = 256
STAGES = ("decode", "detect", "track", "parse", "audio", "split", "quality", "voice")


@dataclass(frozen=True, kw_only=True)
class Still:
    """A synthetic person's picture."""

    rgb: np.ndarray
    alpha: np.ndarray


def still_fit(points, confidence, family, size, *, fps, sink, footage):
    """A track that follows only the eyes' place and distance: enough to place the rig, and quick."""
    rig = family.personal(torch.zeros(family.identity_size))
    focal, count = 2.5 * max(size), len(points)
    right, left = points[:, [33, 133]].mean(1), points[:, [263, 362]].mean(1)
    depth = focal * 0.062 / np.linalg.norm(left - right, axis=-1).clip(1)
    pose = torch.eye(4).repeat(count, 1, 1)
    middle = (left + right) / 2 - np.array([size[1] / 2, size[0] / 2])
    eyes = rig.eye_pivots.mean(0).numpy()
    pose[:, :3, 3] = torch.from_numpy(np.concatenate([middle / focal * depth[:, None], depth[:, None]], 1) - eyes)
    zeros = torch.zeros(count, 52), torch.zeros(count, 3), torch.zeros(count, 2, 2)
    motion = MotionSequence(expression=zeros[0], T_world_head=pose, neck=zeros[1], gaze=zeros[2], fps=fps)
    center = (size[1] / 2, size[0] / 2)
    camera = Camera(T_world_camera=torch.eye(4), focal=(focal, focal), center=center, size=tuple(size))
    track = FaceTrack(
        motion=motion,
        identity=torch.zeros(family.identity_size),
        camera=camera,
        landmarks_px=torch.from_numpy(points).float(),
        confidence=torch.from_numpy(confidence).float(),
    )
    return track, rig


def no_offset(audio, landmarks, fps):
    return Sync(delay=0.0, confidence=1.0)


TOOLS = Tools(fit=still_fit, offset=no_offset)


@dataclass
class Listener:
    """Keeps what is said."""

    notices: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def __call__(self, event):
        if isinstance(event, Notice):
            self.notices.append(event.message)
        if isinstance(event, Done) and event.skipped:
            self.skipped.append(event.stage)

    def said(self, words: str) -> bool:
        return any(words in message for message in self.notices)


def wall(height=SIDE, width=SIDE):
    """A background that is no face."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([90 + 60 * x / width, 120 + 40 * y / height, 150 + 20 * np.sin(x / 40)], -1)


def placed(still: Still, picture: np.ndarray, top: int, left: int, scale: float = 1.0) -> np.ndarray:
    """The person pasted over a picture."""
    from PIL import Image

    size = (round(SIDE * scale), round(SIDE * scale))
    rgb = np.asarray(Image.fromarray(still.rgb).resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
    alpha = np.asarray(Image.fromarray((still.alpha * 255).astype(np.uint8)).resize(size)) / 255.0
    out = picture.copy()
    height, width = min(size[1], len(out) - top), min(size[0], out.shape[1] - left)
    part = out[top : top + height, left : left + width]
    cover = alpha[:height, :width, None]
    out[top : top + height, left : left + width] = part * (1 - cover) + rgb[:height, :width] * cover
    return out


def person(stills, i, **where):
    """Frame i of a person who sways a little."""
    picture = wall()
    return placed(stills[i // 3 % len(stills)], picture, 4, 2 + i % 3, **where).astype(np.uint8)


def film(path: Path, frames, fps=10.0, audio: AudioTrack | None = None) -> Path:
    frames = list(frames)
    with VideoWriter(path, frames[0].shape[:2], fps, audio) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def voice(seconds=3.0, rate=16000, level=0.3):
    time = np.arange(int(seconds * rate)) / rate
    return AudioTrack(samples=(level * np.sin(900 * time) * np.sin(9 * time)).astype(np.float32), rate=rate)


def run(video: Path, listener=None, tools=TOOLS, **config) -> Workspace:
    return preprocess(video, video.parent / "me", PreprocessConfig(**config), listener or Listener(), tools=tools)


class Remembered(AbstractLandmarkDetector):
    """The same points for every frame, so that stages are quick."""

    points: np.ndarray

    def detect(self, frame, seconds):
        return [FaceLandmarks(landmarks_px=self.points, score=1.0)]

    def close(self):
        pass


class Ellipse:
    """A person in the middle."""

    def mask(self, frame):
        y, x = np.mgrid[-1 : 1 : frame.shape[0] * 1j, -1 : 1 : frame.shape[1] * 1j]
        return ((x / 0.6) ** 2 + (y / 0.9) ** 2 < 1).astype(np.float32)

    def close(self):
        pass
