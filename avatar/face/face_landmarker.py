"""MediaPipe's newer face landmarker (`face_landmarker.task`): 478 points and 52 scores of facial actions.

Its scores come from another network than the landmarks' solver, so they are an independent judge of tracked motion.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from avatar.errors import InputError
from avatar.face.arkit import INDEX, NAMES
from avatar.face.landmarks import AbstractLandmarkDetector, FaceLandmarks
from avatar.face.mediapipe_graph import quiet

ADDRESS = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
SIZE = 3758596
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
"""Version 1 of float16, Apache-2.0: blazeface (short range), attention mesh, blendshapes."""

_AGAIN = 0.5
"""Seconds without a frame after which faces are searched anew."""
_SIDES = (2, 3)
"""Where no face is seen in the whole picture, overlapping parts of 1/2, then 1/3 of its sides are searched."""
_SMALLEST = 64


class FaceLandmarkerDetector(AbstractLandmarkDetector):
    """The landmarker in a model file; small faces are found in parts of the picture."""

    def __init__(self, model: Path, faces: int = 2) -> None:
        """Args: `model` is the .task file.

        Raises:
            InputError: if it cannot be used.
        """
        from mediapipe.tasks.python.vision import RunningMode

        try:
            content = Path(model).read_bytes()
        except OSError as error:
            raise InputError(f"{model}: cannot be read ({error.strerror}); give face_landmarker.task") from None
        self._name, self._content, self._faces = Path(model).name, content, faces
        self._video = RunningMode.VIDEO
        self._follower = self._made(RunningMode.VIDEO)
        self._finder: Any = None
        self._last = -np.inf

    def detect(self, frame: UInt8[np.ndarray, "h w 3"], seconds: float) -> list[FaceLandmarks]:
        return [face for face, _ in self.detect_with_scores(frame, seconds)]

    def detect_with_scores(
        self, frame: UInt8[np.ndarray, "h w 3"], seconds: float
    ) -> list[tuple[FaceLandmarks, Float[np.ndarray, "52"]]]:
        """As `detect`, with the scores in [0, 1] of each face's actions in the order of `arkit.NAMES`.

        There is none for the tongue, which stays 0.
        """
        if not 0 < seconds - self._last < _AGAIN and self._last > -np.inf:
            with quiet:
                self._follower.close()
            self._follower = self._made(self._video)
        self._last = seconds
        with quiet:
            found = self._follower.detect_for_video(_image(frame), round(1000 * seconds))
        faces = _faces(found, frame.shape, (0, 0)) or self._in_parts(frame)
        return sorted(faces, key=lambda pair: -pair[0].height_px)

    def close(self) -> None:
        with quiet:
            self._follower.close()
            if self._finder is not None:
                self._finder.close()

    def _made(self, mode: Any) -> Any:
        from mediapipe.tasks.python.core.base_options import BaseOptions
        from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions

        options = FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=self._content),
            running_mode=mode,
            num_faces=self._faces,
            output_face_blendshapes=True,
        )
        try:
            with quiet:
                return FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0][:120]
            raise InputError(f"{self._name}: no face landmarker ({reason}); download it again") from None

    def _in_parts(self, frame: np.ndarray) -> list[tuple[FaceLandmarks, np.ndarray]]:
        """The largest face in a part of the picture, where the whole shows none."""
        from mediapipe.tasks.python.vision import RunningMode

        if self._finder is None:
            self._finder = self._made(RunningMode.IMAGE)
        for parts in _SIDES:
            found: list[tuple[FaceLandmarks, np.ndarray]] = []
            for top, left, piece in _pieces(frame, parts):
                with quiet:
                    answer = self._finder.detect(_image(piece))
                found += _faces(answer, piece.shape, (left, top))
            if found:
                return [max(found, key=lambda pair: pair[0].height_px)]
        return []


def _image(frame: np.ndarray) -> Any:
    from mediapipe import Image, ImageFormat

    return Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(frame))


def _pieces(frame: np.ndarray, parts: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(top, left, piece) of overlapping parts."""
    height, width = frame.shape[0] // parts, frame.shape[1] // parts
    if min(height, width) < _SMALLEST:
        return
    for row in range(2 * parts - 1):
        for column in range(2 * parts - 1):
            top, left = row * height // 2, column * width // 2
            yield top, left, frame[top : top + height, left : left + width]


def _faces(
    found: Any, shape: tuple[int, ...], corner: tuple[int, int]
) -> list[tuple[FaceLandmarks, Float[np.ndarray, "52"]]]:
    scale, shift = np.array([shape[1], shape[0]], np.float32), np.array(corner, np.float32)
    out = []
    for points, scores in zip(found.face_landmarks, found.face_blendshapes, strict=True):
        at = np.array([(p.x, p.y) for p in points], np.float32) * scale + shift
        actions = np.zeros(len(NAMES), np.float32)
        for category in scores:
            if category.category_name in INDEX:
                actions[INDEX[category.category_name]] = category.score
        out.append((FaceLandmarks(landmarks_px=at, score=1.0), actions))
    return out
