"""A detector that looks at every picture and at its mirror image, and takes the mean.

A network that was trained on faces answers a mirrored picture with something else than the mirrored answer:
MediaPipe's mesh by 0.5 to 0.7 % of the eye distance, mostly as a small turn of the head that is not there.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
from jaxtyping import Int, UInt8
from scipy.optimize import linear_sum_assignment

from avatar.face.landmarks import AbstractLandmarkDetector, FaceLandmarks
from avatar.face.rig import AnnyRig

_SAME = 0.3
"""Two answers are the same face when their points lie nearer than this, in face heights."""
_FACES = 2
"""Faces that are looked for."""
_IRISES = 468
"""The first point of the irises."""


@cache
def mirror_points() -> Int[np.ndarray, "478"]:
    """Point i of a face seen in a mirror is point mirror_points()[i]; from the places of the points on the rig."""
    rig = AnnyRig.load()
    here = rig.landmarks.points(rig.mean, rig.faces).double().numpy()
    apart = np.linalg.norm((here * np.array([-1.0, 1.0, 1.0]))[:, None] - here[None], axis=-1)
    apart[:_IRISES, _IRISES:] = apart[_IRISES:, :_IRISES] = 1.0
    return linear_sum_assignment(apart**2)[1]


class BothWaysDetector(AbstractLandmarkDetector):
    """The mean of what a detector finds in a picture and in its mirror image; both are looked at side by side.

    A detector that already follows as many faces as it may have does not search the picture for more, which is half
    of its work. So only the plain look searches, and the mirrored one follows a single face while that is the one.
    """

    def __init__(self, make: Callable[[int], AbstractLandmarkDetector]) -> None:
        """Args: `make` gives a detector of up to so many faces; each follows its own pictures."""
        self._plain, self._one, self._make = make(_FACES), make(1), make
        self._several: AbstractLandmarkDetector | None = None
        self._crowded = False
        self.seen = self._plain.seen & self._plain.seen[mirror_points()]
        self._pool = ThreadPoolExecutor(max_workers=1)

    def detect(self, frame: UInt8[np.ndarray, "h w 3"], seconds: float) -> list[FaceLandmarks]:
        waiting = self._pool.submit(self._mirrored, frame, seconds, self._crowded)
        faces = self._plain.detect(frame, seconds)
        others = waiting.result()
        if not self._crowded and any(_twin(face, others) is None for face in faces):
            others = self._mirrored(frame, seconds, several=True)
        self._crowded = len(faces) > 1
        return [_mean(face, _twin(face, others)) for face in faces]

    def _mirrored(self, frame: np.ndarray, seconds: float, several: bool) -> list[FaceLandmarks]:
        import cv2

        if several and self._several is None:
            self._several = self._make(_FACES)
        detector = self._several if several and self._several is not None else self._one
        return [_turned(face, frame.shape[1]) for face in detector.detect(cv2.flip(frame, 1), seconds)]

    def close(self) -> None:
        self._pool.shutdown()
        for detector in self._all():
            detector.close()

    def forget(self) -> None:
        for detector in self._all():
            detector.forget()

    def _all(self) -> list[AbstractLandmarkDetector]:
        return [self._plain, self._one, *([self._several] if self._several is not None else [])]


def _turned(face: FaceLandmarks, width: int) -> FaceLandmarks:
    """What was seen in the mirror, as it is."""
    points = face.landmarks_px[mirror_points()]
    return replace(face, landmarks_px=points * np.array([-1, 1], points.dtype) + np.array([width, 0], points.dtype))


def _twin(face: FaceLandmarks, others: list[FaceLandmarks]) -> FaceLandmarks | None:
    """The nearest of the others, or None where none is the same face."""
    apart = [np.linalg.norm(face.landmarks_px - other.landmarks_px, axis=1).mean() for other in others]
    if not apart or min(apart) > _SAME * max(face.height_px, 1e-3):
        return None
    return others[int(np.argmin(apart))]


def _mean(face: FaceLandmarks, twin: FaceLandmarks | None) -> FaceLandmarks:
    """Of both looks, or the face as it is where only one look found it."""
    return face if twin is None else replace(face, landmarks_px=(face.landmarks_px + twin.landmarks_px) / 2)
