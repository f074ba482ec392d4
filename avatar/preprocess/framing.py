"""Which part of a large film shows the person: a few frames are looked at before all are cut out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avatar.core import Frames
from avatar.errors import InputError
from avatar.face.landmarks import AbstractLandmarkDetector, FaceLandmarks

_LOOK = 1280
"""Frames are looked at with this longest side."""
_SAMPLES = (9, 24)
"""First try; then, when fewer than 3 of them show a face."""
_REACH = 3.4
"""Side of the window in face heights: the head with its hair and the shoulders."""
_RAISE = 0.08
"""The face's centre lies this part of the window above its centre."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Window of the source frame, and the size it is scaled to."""

    source: tuple[int, int]
    """Height, width of the source frame."""
    window: tuple[int, int, int, int]
    """top, left, height, width in source pixels."""
    size: tuple[int, int]
    """Height, width of the working frames; even numbers."""
    face_px: float
    """Median height of the face, forehead to chin, in source pixels."""

    @property
    def center(self) -> tuple[float, float]:
        """Where the source's centre (the lens axis) lies in working pixels (x, y)."""
        top, left, height, width = self.window
        x = (self.source[1] / 2 - left) * self.size[1] / width
        return x, (self.source[0] / 2 - top) * self.size[0] / height

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """A source frame to a working frame, uint8 [h w 3]."""
        import cv2

        top, left, height, width = self.window
        part = frame[top : top + height, left : left + width]
        if self.size == (height, width):
            return part
        return cv2.resize(part, self.size[::-1], interpolation=cv2.INTER_AREA)


def look_for_person(frames: Frames, fps: float, detector: AbstractLandmarkDetector) -> list[FaceLandmarks]:
    """The largest face of some frames spread over the clip, in source pixels.

    Raises:
        InputError: when no face is seen.
    """
    for count in _SAMPLES:
        found = []
        for index in np.unique(np.linspace(0, len(frames) - 1, count + 2)[1:-1].astype(int)):
            found += _largest(frames[int(index)], int(index) / fps, detector)
        if len(found) >= 3:
            return found
    if not found:
        raise InputError("no face found in the film; film one person from the front, upright, well lit, face uncovered")
    return found


def _largest(frame: np.ndarray, seconds: float, detector: AbstractLandmarkDetector) -> list[FaceLandmarks]:
    import cv2

    scale = min(1.0, _LOOK / max(frame.shape[:2]))
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    small = frame if scale == 1 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    faces = detector.detect(np.ascontiguousarray(small), seconds)
    return [FaceLandmarks(landmarks_px=f.landmarks_px / scale, score=f.score) for f in faces[:1]]


def choose_framing(shape: tuple[int, int], faces: Sequence[FaceLandmarks], size: int) -> Framing:
    """The window around a person, scaled down to `size` pixels on its longest side; never scaled up.

    A frame that is small enough already is taken whole.

    Args:
        shape: height, width of the source.
    """
    height, width = shape
    face = float(np.median([f.height_px for f in faces]))
    window = (0, 0, height, width)
    if max(shape) > size:
        boxes = np.array([f.box for f in faces])
        low, high = np.quantile(boxes[:, :2], 0.1, axis=0), np.quantile(boxes[:, 2:], 0.9, axis=0)
        x, y = (low + high) / 2
        side = max(_REACH * face, 1.9 * float((high - low).max()), size)
        h, w = min(round(side), height), min(round(side), width)
        top = round(np.clip(y - h / 2 + _RAISE * h, 0, height - h))
        left = round(np.clip(x - w / 2, 0, width - w))
        window = (top, left, h, w)
    window = (window[0], window[1], window[2] - window[2] % 2, window[3] - window[3] % 2)
    scale = min(1.0, size / max(window[2:]))
    scaled = [max(round(n * scale / 2) * 2, 2) for n in window[2:]]
    return Framing(source=shape, window=window, size=(scaled[0], scaled[1]), face_px=face)
