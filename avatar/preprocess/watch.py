"""What the frames of a clip show: whose face is where, where shots begin, and which frames can be trusted."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from avatar.face.covering import POINTS, face_colours, find_covered, trust_in_turn
from avatar.face.landmarks import AbstractLandmarkDetector, FaceLandmarks, FollowedPerson, follow
from avatar.face.mouth_picture import UNTOLD, dark_between_lips
from avatar.face.segments import spans
from avatar.preprocess.shots import CutFinder, Seen, Shot, find_jumps, joined, judge_shots, looked_at, split_at


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A clip seen to its end."""

    person: FollowedPerson
    """Confidence is 0 in shots that are left out and where the face is covered, lower where it is turned away."""
    segments: Int[np.ndarray, "t"]
    """Ids of the frames between cuts."""
    shots: list[Shot]
    covered: Bool[np.ndarray, "t"]
    """Where something hides the mouth or a large part of the face."""
    dark: Float[np.ndarray, "t"]
    """What is dark between the lips, in eye distances; negative where it is not told."""


class Watcher:
    """Looks at the frames of a clip in order."""

    def __init__(self, detector: AbstractLandmarkDetector, fps: float) -> None:
        self._detector, self._fps = detector, fps
        self._finder = CutFinder()
        self._faces: list[list[FaceLandmarks]] = []
        self._colours: list[list[Float[np.ndarray, "468 3"]]] = []
        self._dark: list[list[float]] = []

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Look at the next frame."""
        if self._finder.add(frame):
            self._detector.forget()
        faces = self._detector.detect(frame, len(self._faces) / self._fps)
        self._faces.append(faces)
        self._colours.append([face_colours(frame, face.landmarks_px) for face in faces])
        self._dark.append([dark_between_lips(frame, face.landmarks_px) for face in faces])

    def finish(self, mask: Callable[[int], UInt8[np.ndarray, "h w"]]) -> Watched:
        """All that was seen.

        Args:
            mask: gives the person mask of frame i, 255 is person; only asked for where there are cuts.
        """
        count = len(self._faces)
        segments = np.zeros(count, int)
        cuts = self._finder.cuts()
        segments[cuts] = 1
        segments = np.cumsum(segments)
        person = follow(self._faces, segments)
        colours, dark = self._followed(person)
        shots = [Shot(first=span.start, end=span.stop) for span in spans(segments, count)]
        if len(shots) > 1:
            masks = {index: mask(index) for shot in shots for index in looked_at(shot)}
            shots = judge_shots(shots, Seen(person=person, colours=colours, finder=self._finder, masks=masks))
        kept = np.concatenate([np.full(len(shot), not shot.why) for shot in shots] or [np.zeros(0, bool)])
        good = (person.confidence > 0) & kept
        covered = find_covered(colours, person.landmarks_px, good)
        shots = split_at(joined(shots, covered), find_jumps(person.landmarks_px, good & ~covered))
        segments = np.repeat(np.arange(len(shots)), [len(shot) for shot in shots])
        confidence = person.confidence * (good & ~covered) * trust_in_turn(person.landmarks_px)
        person = replace(person, confidence=confidence.astype(np.float32))
        return Watched(person=person.filled(), segments=segments, shots=shots, covered=covered, dark=dark)

    def _followed(self, person: FollowedPerson) -> tuple[Float[np.ndarray, "t 468 3"], Float[np.ndarray, "t"]]:
        """What was measured on the followed face of each frame."""
        out, dark = np.zeros((len(self._faces), POINTS, 3), np.float32), np.full(len(self._faces), UNTOLD)
        for index, faces in enumerate(self._faces):
            measured = zip(faces, self._colours[index], self._dark[index], strict=True)
            for face, colours, length in measured:
                if np.array_equal(face.landmarks_px, person.landmarks_px[index]):
                    out[index], dark[index] = colours, length
        return out, dark
