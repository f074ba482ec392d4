"""Detectors with 68 points (iBUG 300-W's markup, Sagonas et al. 2013), brought to MediaPipe's 478.

Points of the markup that mean the same as one of MediaPipe's are evidence; all others are only filled in, from the
mean head in the pose that the evidence shows, so that everything has a place; `SEEN` tells the tracker which is which.
"""

import importlib
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from avatar.errors import InputError
from avatar.face.landmarks import COUNT, AbstractLandmarkDetector, FaceLandmarks
from avatar.face.rig import AnnyRig

_PAIRS = {
    **dict(zip(range(17, 22), (70, 63, 105, 66, 107), strict=True)),
    **dict(zip(range(22, 27), (336, 296, 334, 293, 300), strict=True)),
    **dict(zip(range(27, 31), (168, 197, 5, 4), strict=True)),
    **dict(zip(range(31, 36), (98, 97, 2, 326, 327), strict=True)),
    **dict(zip(range(36, 42), (33, 160, 158, 133, 153, 144), strict=True)),
    **dict(zip(range(42, 48), (362, 385, 387, 263, 373, 380), strict=True)),
    **dict(zip(range(48, 60), (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181), strict=True)),
    **dict(zip(range(60, 68), (78, 81, 13, 311, 308, 402, 14, 178), strict=True)),
    8: 152,
}
"""Points of the markup and MediaPipe's nearest; the contour but for the chin slides along the cheeks and has none."""
_FROM: Int[np.ndarray, "p"] = np.array(list(_PAIRS))
_TO: Int[np.ndarray, "p"] = np.array(list(_PAIRS.values()))

SEEN: Bool[np.ndarray, "478"] = np.isin(np.arange(COUNT), _TO)
"""Which of MediaPipe's points a 68-point detector tells; the irises are not among them: gaze is not seen."""

_REACH = 0.012
"""Metres on the face over which filled-in points follow the evidence near them."""


class FaceAlignmentDetector(AbstractLandmarkDetector):
    """The networks of the optional package face-alignment (Bulat and Tzimiropoulos 2017), which fetches its weights."""

    seen = SEEN

    def __init__(self, device: str = "cpu") -> None:
        """Raises: InputError: if the package is not installed."""
        try:
            package: Any = importlib.import_module("face_alignment")
        except ImportError:
            raise InputError(
                "face-alignment is not installed; pip install face-alignment, or choose another detector"
            ) from None
        kinds = package.LandmarksType
        kind = kinds.TWO_D if hasattr(kinds, "TWO_D") else kinds._2D  # the name before version 1.4
        self._network: Any = package.FaceAlignment(kind, device=device, flip_input=False)

    def detect(self, frame: UInt8[np.ndarray, "h w 3"], seconds: float) -> list[FaceLandmarks]:
        del seconds
        boxes = self._network.face_detector.detect_from_image(frame.copy())
        if len(boxes) == 0:
            return []
        found = self._network.get_landmarks_from_image(frame, detected_faces=boxes)
        faces = [
            FaceLandmarks(landmarks_px=completed(np.asarray(points, np.float64)[:, :2]), score=_score(box))
            for points, box in zip(found or [], boxes, strict=False)
        ]
        return sorted(faces, key=lambda face: -face.height_px)

    def close(self) -> None:
        self._network = None


def _score(box: Any) -> float:
    """The detector's own confidence, fifth number of its box."""
    return float(np.clip(box[4], 0.05, 1)) if len(box) > 4 else 1.0


def completed(points_px: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "478 2"]:
    """MediaPipe's points: those of `SEEN` as given, the others from the mean head in an affine view of it.

    Near the evidence they follow what it differs from that head; irises lie in the middle of their eye's corners.
    """
    head = _mean_head()
    known = points_px[_FROM]
    flat = np.concatenate([head, np.ones((COUNT, 1))], 1)
    ridge = 1e-4 * np.diag([1.0, 1, 1, 0])  # a frontal view does not tell depth
    steady = flat[_TO]
    view = np.linalg.solve(steady.T @ steady + ridge, steady.T @ known)
    out = flat @ view
    apart = np.exp(-0.5 * (np.linalg.norm(head[:, None] - head[_TO], axis=-1) / _REACH) ** 2)
    out += apart @ (known - out[_TO]) / np.maximum(apart.sum(1, keepdims=True), 1)
    out[_TO] = known
    for iris, corners in ((slice(468, 473), (33, 133)), (slice(473, 478), (362, 263))):
        out[iris] += out[list(corners)].mean(0) - out[iris][0]
    return out.astype(np.float32)


@cache
def _mean_head() -> Float[np.ndarray, "478 3"]:
    """MediaPipe's points on the mean of all heads, metres."""
    rig = AnnyRig.load()
    return rig.landmarks.points(rig.neutral(torch.zeros(rig.identity_size)), rig.faces).double().numpy()
