"""Finding faces and people in pictures. Pixels (x, y) of the frame; index i covers the span from i to i + 1."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from avatar.face.mediapipe_graph import Graph
from avatar.face.segments import spans

COUNT = 478
"""Points of MediaPipe's face mesh with refined lips, lids and irises."""

_SMALL = 0.28
"""A face lower than this part of the picture's shorter side is looked at through a window."""
_WINDOW = 3.0
"""Side of that window in heights of the face."""
_LOOK_AROUND = 1.0
"""Seconds between searches of the whole picture for other faces while a window is used."""


@dataclass(frozen=True, kw_only=True)
class FaceLandmarks:
    """One face in one picture."""

    landmarks_px: Float[np.ndarray, "478 2"]
    score: float
    """How sure the detector is, in [0, 1]."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the points."""
        low, high = self.landmarks_px.min(0), self.landmarks_px.max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def height_px(self) -> float:
        """From the forehead to the chin."""
        return float(np.linalg.norm(self.landmarks_px[10] - self.landmarks_px[152]))


@dataclass(frozen=True, kw_only=True)
class FollowedPerson:
    """The same person's face through a clip."""

    landmarks_px: Float[np.ndarray, "t 478 2"]
    """Frames without a face repeat the nearest frame that has one."""
    confidence: Float[np.ndarray, "t"]
    """0 where the face was not found, or jumped."""
    crowded: Bool[np.ndarray, "t"]
    """Where somebody else's face was in the picture too."""

    def filled(self) -> "FollowedPerson":
        """The same with the nearest trusted frame's points in all frames without confidence."""
        return replace(self, landmarks_px=_filled(self.landmarks_px, self.confidence))


class AbstractLandmarkDetector(ABC):
    """Follows faces through the frames of one clip, in order."""

    seen: Bool[np.ndarray, "478"] = np.ones(COUNT, bool)
    """Which points are evidence; the others are filled in and must not be believed."""

    @abstractmethod
    def detect(self, frame: UInt8[np.ndarray, "h w 3"], seconds: float) -> list[FaceLandmarks]:
        """The faces of one frame at its time in the clip, largest first; empty where there is none."""

    @abstractmethod
    def close(self) -> None:
        """Free what the detector holds."""

    def forget(self) -> None:  # noqa: B027 - not all detectors remember
        """The next frame may show something else than the last one did: look at it afresh."""


class MediapipeDetector(AbstractLandmarkDetector):
    """The face mesh in mediapipe's wheel (Kartynnik et al. 2019; attention mesh, Grishchenko et al. 2020).

    A face that is small in the picture is followed through a window, since the bundled detector of the mesh is
    blind to small faces; it is first found by the full-range detector in the picture and in tiles of it.
    """

    def __init__(self, faces: int = 2) -> None:
        from mediapipe.python.solutions import face_detection, face_mesh

        mesh = partial(face_mesh.FaceMesh, refine_landmarks=True)
        self._mesh = Graph(partial(mesh, static_image_mode=False, max_num_faces=faces))
        self._single = Graph(partial(mesh, static_image_mode=True, max_num_faces=1))
        self._finder = Graph(partial(face_detection.FaceDetection, model_selection=1, min_detection_confidence=0.5))
        self._window: tuple[int, int, int] | None = None
        self._fresh = True
        self._last = self._looked = -np.inf

    def detect(self, frame: UInt8[np.ndarray, "h w 3"], seconds: float) -> list[FaceLandmarks]:
        if not 0 <= seconds - self._last < 0.5:
            self._restart(None)
        self._last = seconds
        faces = self._mesh_in_window(frame)
        if not faces:
            boxes = self._search(frame)
            if not boxes:
                self._restart(None)
                return []
            self._restart(_window_around(boxes[0], frame.shape))
            faces = self._mesh_in_window(frame)
        if faces and self._moved_out(faces[0], frame.shape):
            self._restart(_window_around(faces[0].box, frame.shape))
            faces = self._mesh_in_window(frame) or faces
        if self._window is not None and seconds - self._looked >= _LOOK_AROUND:
            self._looked = seconds
            faces += self._others(frame, faces)
        return sorted(faces, key=lambda face: -face.height_px)

    def close(self) -> None:
        for graph in (self._mesh, self._single, self._finder):
            graph.close()

    def forget(self) -> None:
        self._last = self._looked = -np.inf

    def _restart(self, window: tuple[int, int, int] | None) -> None:
        if not self._fresh:
            self._mesh.reset()
        self._window, self._fresh = window, True

    def _mesh_in_window(self, frame: np.ndarray) -> list[FaceLandmarks]:
        height, width = frame.shape[:2]
        left, top, side = self._window or (0, 0, 0)
        part = frame if self._window is None else _cut(frame, left, top, side)
        if self._fresh:
            # The first results come from the detector's rough box; the mesh settles when it follows itself.
            for _ in range(2):
                self._mesh.process(part)
            self._fresh = False
        found = _points(self._mesh.process(part), part.shape, left, top)
        inside = [face for face in found if _is_inside(face, height, width)]
        return sorted(inside, key=lambda face: -face.height_px)

    def _moved_out(self, face: FaceLandmarks, shape: tuple[int, ...]) -> bool:
        if self._window is None:
            return face.height_px < _SMALL * min(shape[:2])
        left, top, side = self._window
        a, b, c, d = face.box
        margin = 0.12 * side
        outside = min(a - left, b - top, left + side - c, top + side - d) < margin
        return outside or not 0.55 < face.height_px * _WINDOW / side < 1.8

    def _search(self, frame: np.ndarray) -> list[tuple[float, float, float, float]]:
        """Boxes of faces, largest first: in the whole picture, else in overlapping halves of it."""
        height, width = frame.shape[:2]
        tiles = [(0, 0, width, height)]
        half_w, half_h = width // 2, height // 2
        tiles += [(x, y, half_w, half_h) for y in (0, half_h // 2, half_h) for x in (0, half_w // 2, half_w)]
        found: list[tuple[float, float, float, float]] = []
        for left, top, w, h in tiles:
            if found or min(w, h) < 32:
                break
            found += self._find(frame[top : top + h, left : left + w], left, top)
        if not found:
            for left, top, w, h in tiles[1:]:
                found += self._find(frame[top : top + h, left : left + w], left, top) if min(w, h) >= 32 else []
        return sorted(found, key=lambda box: box[0] - box[2])

    def _find(self, part: np.ndarray, left: int, top: int) -> list[tuple[float, float, float, float]]:
        detections = self._finder.process(np.ascontiguousarray(part)).detections or []
        height, width = part.shape[:2]
        boxes = [detection.location_data.relative_bounding_box for detection in detections]
        return [
            (left + b.xmin * width, top + b.ymin * height, left + (b.xmin + b.width) * width,
             top + (b.ymin + b.height) * height)
            for b in boxes
        ]  # fmt: skip

    def _others(self, frame: np.ndarray, known: Sequence[FaceLandmarks]) -> list[FaceLandmarks]:
        found = []
        for box in self._find(frame, 0, 0):
            if any(_overlap(box, face.box) for face in known):
                continue
            left, top, side = _window_around(box, frame.shape) or (0, 0, max(frame.shape[:2]))
            part = _cut(frame, left, top, side)
            found += _points(self._single.process(part), part.shape, left, top)
        return found


class PersonSegmenter:
    """The selfie segmentation in mediapipe's wheel: which pixels show people."""

    def __init__(self) -> None:
        from mediapipe.python.solutions import selfie_segmentation

        self._graph = Graph(partial(selfie_segmentation.SelfieSegmentation, model_selection=0))

    def mask(self, frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """Soft mask in [0, 1]; 1 is a person."""
        return np.clip(self._graph.process(frame).segmentation_mask, 0, 1).astype(np.float32)

    def close(self) -> None:
        """Free what the segmenter holds."""
        self._graph.close()


def follow(
    detections: Sequence[Sequence[FaceLandmarks]], segments: Int[np.ndarray, "t"] | None = None
) -> FollowedPerson:
    """Follow the person whose face is largest over the whole clip, or over each segment of it.

    Faces of neighbouring frames belong together when they overlap well; of the chains that result, the one with
    the largest summed height wins, and later chains at the same place and of the same size continue it.

    Args:
        detections: the faces of each frame.
        segments: ids of the frames between cuts; nobody is followed across a cut.
    """
    parts = [_follow_one(detections[span]) for span in spans(segments, len(detections))]
    points = np.concatenate([np.zeros((0, COUNT, 2), np.float32), *(p for p, _ in parts)])
    confidence = np.concatenate([np.zeros(0, np.float32), *(c for _, c in parts)])
    crowded = np.array([len(faces) > 1 for faces in detections], bool)
    return FollowedPerson(landmarks_px=_filled(points, confidence), confidence=confidence, crowded=crowded)


def _follow_one(
    detections: Sequence[Sequence[FaceLandmarks]],
) -> tuple[Float[np.ndarray, "t 478 2"], Float[np.ndarray, "t"]]:
    chains = _chains(detections)
    points = np.zeros((len(detections), COUNT, 2), np.float32)
    confidence = np.zeros(len(detections), np.float32)
    for chain in sorted(chains, key=lambda c: -sum(face.height_px for _, face in c)):
        first, last = chain[0][0], chain[-1][0]
        if confidence[first : last + 1].any() or not _continues(points, confidence, chain):
            continue
        for index, face in chain:
            points[index], confidence[index] = face.landmarks_px, face.score
    confidence[_jumps(points, confidence)] = 0
    return points, confidence


def _filled(points: np.ndarray, confidence: np.ndarray) -> Float[np.ndarray, "t 478 2"]:
    """Frames without a face repeat the nearest that has one."""
    good, times = np.flatnonzero(confidence > 0), np.arange(len(points))
    if not len(good):
        return points
    after = good[np.searchsorted(good, times).clip(0, len(good) - 1)]
    before = good[(np.searchsorted(good, times, "right") - 1).clip(0)]
    return points[np.where(np.abs(times - before) <= np.abs(after - times), before, after)]


def _chains(detections: Sequence[Sequence[FaceLandmarks]]) -> list[list[tuple[int, FaceLandmarks]]]:
    chains: list[list[tuple[int, FaceLandmarks]]] = []
    live: list[list[tuple[int, FaceLandmarks]]] = []
    for index, faces in enumerate(detections):
        live = [chain for chain in live if index - chain[-1][0] <= 3]
        taken: list[int] = []
        for face in faces:
            distance = [_distance(chain[-1][1], face) if i not in taken else np.inf for i, chain in enumerate(live)]
            best = int(np.argmin(distance)) if distance else -1
            if best >= 0 and distance[best] < 0.5:
                taken.append(best)
                live[best].append((index, face))
            else:
                taken.append(len(live))
                live.append([(index, face)])
                chains.append(live[-1])
    return chains


def _distance(a: FaceLandmarks, b: FaceLandmarks) -> float:
    """Between two faces in face heights; a change of size counts as well."""
    shift = float(np.linalg.norm(a.landmarks_px.mean(0) - b.landmarks_px.mean(0)))
    low, high = sorted((max(a.height_px, 1e-3), max(b.height_px, 1e-3)))
    return shift / high + (high / low - 1)


def _continues(points: np.ndarray, confidence: np.ndarray, chain: list[tuple[int, FaceLandmarks]]) -> bool:
    good = np.flatnonzero(confidence > 0)
    if not len(good):
        return True
    ends = [chain[0], chain[-1]]
    gaps = [np.abs(good - index).min() for index, _ in ends]
    index, face = ends[int(np.argmin(gaps))]
    nearest = good[np.abs(good - index).argmin()]
    return _distance(FaceLandmarks(landmarks_px=points[nearest], score=1.0), face) < 1.0


def _jumps(points: np.ndarray, confidence: np.ndarray) -> Bool[np.ndarray, "t"]:
    """Single frames far from both neighbours while these agree: the detector slipped."""
    bad = np.zeros(len(points), bool)
    if len(points) < 3:
        return bad
    size = np.maximum(np.linalg.norm(points[1:-1, 10] - points[1:-1, 152], axis=-1), 1e-3)

    def step(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a - b, axis=-1).mean(-1) / size

    before, after, across = (
        step(points[1:-1], points[:-2]), step(points[1:-1], points[2:]), step(points[2:], points[:-2])
    )  # fmt: skip
    known = (confidence[1:-1] > 0) & (confidence[:-2] > 0) & (confidence[2:] > 0)
    bad[1:-1] = known & (np.minimum(before, after) > 0.06) & (across < 0.5 * np.minimum(before, after))
    return bad


def _points(result: Any, shape: tuple[int, ...], left: int, top: int) -> list[FaceLandmarks]:
    scale, shift = np.array([shape[1], shape[0]], np.float32), np.array([left, top], np.float32)
    return [
        FaceLandmarks(landmarks_px=np.array([(p.x, p.y) for p in face.landmark], np.float32) * scale + shift, score=1.0)
        for face in result.multi_face_landmarks or []
    ]


def _is_inside(face: FaceLandmarks, height: int, width: int) -> bool:
    """At least half of the face is in the picture."""
    x, y = face.landmarks_px.T
    return bool(((x >= 0) & (x < width) & (y >= 0) & (y < height)).mean() > 0.5)


def _window_around(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(left, top, side) of a square window around a face, or None where the whole picture does."""
    left, top, right, bottom = box
    size = max(right - left, bottom - top)
    if size >= _SMALL * min(shape[:2]):
        return None
    side = round(size * _WINDOW)
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def _cut(frame: np.ndarray, left: int, top: int, side: int) -> UInt8[np.ndarray, "s s 3"]:
    """A square of the frame, black outside of it."""
    out = np.zeros((side, side, 3), np.uint8)
    height, width = frame.shape[:2]
    a, b, c, d = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if c > a and d > b:
        out[b - top : d - top, a - left : c - left] = frame[b:d, a:c]
    return out


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether either box's centre is in the other."""

    def holds(box: tuple[float, ...], of: tuple[float, ...]) -> bool:
        x, y = (of[0] + of[2]) / 2, (of[1] + of[3]) / 2
        return box[0] <= x <= box[2] and box[1] <= y <= box[3]

    return holds(a, b) or holds(b, a)
