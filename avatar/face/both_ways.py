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
    """The mean of what a detector finds in a picture and in its mirror image; both are looked at side by side."""

    def __init__(self, make: Callable[[], AbstractLandmarkDetector]) -> None:
        """Args: `make` gives the detector; two of them are used, as each follows its own pictures."""
        self._plain, self._mirrored = make(), make()
        self.seen = self._plain.seen & self._plain.seen[mirror_points()]
        self._pool = ThreadPoolExecutor(max_workers=1)

    def detect(self, frame: UInt8[np.ndarray, "h w 3"], seconds: float) -> list[FaceLandmarks]:
        waiting = self._pool.submit(self._mirrored.detect, np.ascontiguousarray(frame[:, ::-1]), seconds)
        faces = self._plain.detect(frame, seconds)
        others = [_turned(face, frame.shape[1]) for face in waiting.result()]
        return [_mean(face, others) for face in faces]

    def close(self) -> None:
        self._pool.shutdown()
        self._plain.close()
        self._mirrored.close()

    def forget(self) -> None:
        self._plain.forget()
        self._mirrored.forget()


def _turned(face: FaceLandmarks, width: int) -> FaceLandmarks:
    """What was seen in the mirror, as it is."""
    points = face.landmarks_px[mirror_points()]
    return replace(face, landmarks_px=points * np.array([-1, 1], points.dtype) + np.array([width, 0], points.dtype))


def _mean(face: FaceLandmarks, others: list[FaceLandmarks]) -> FaceLandmarks:
    """With the nearest of the others, or alone where none is the same face."""
    apart = [np.linalg.norm(face.landmarks_px - other.landmarks_px, axis=1).mean() for other in others]
    if not apart or min(apart) > _SAME * max(face.height_px, 1e-3):
        return face
    other = others[int(np.argmin(apart))]
    return replace(face, landmarks_px=(face.landmarks_px + other.landmarks_px) / 2)
