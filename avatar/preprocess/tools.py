"""The parts that look at pictures and sound, in one place, so that others can take theirs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float
from torch import Tensor

from avatar.core import AudioTrack, Camera, FaceTrack
from avatar.face.both_ways import BothWaysDetector
from avatar.face.landmarks import AbstractLandmarkDetector, MediapipeDetector, PersonSegmenter
from avatar.face.learned_parsing import ClipParser
from avatar.face.parsing import Parser
from avatar.face.rig import AbstractRig, AnnyRig, PersonalRig
from avatar.face.tracking import fit
from avatar.speech.phones import Phone, listen


@dataclass(frozen=True, kw_only=True)
class Sync:
    """How sound and lips of a clip lie to each other."""

    delay: float
    """Seconds by which the sound must come later to meet the lips."""
    confidence: float
    """In [0, 1]."""
    reason: str = ""
    """Why no delay could be told, or an empty text."""
    hearings: Sequence[Sequence[Phone]] = ()
    """What was heard from the beginning of the sound on, before any delay; later stages need not listen again."""


class Segmenter(Protocol):
    """Tells people from background."""

    def mask(self, frame: np.ndarray, /) -> Float[np.ndarray, "h w"]: ...

    def close(self) -> None: ...


def mouth_curves(landmarks: Mapping[str, Tensor]) -> tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t"]]:
    """Gap of the inner lips and distance of the mouth's corners, in face heights; nan where no face was found."""
    points, seen = landmarks["landmarks_px"].numpy(), landmarks["confidence"].numpy() > 0

    def apart(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(points[:, a] - points[:, b], axis=-1)

    height = np.where(seen, apart(10, 168) * 3, np.nan)  # the upper face: a chin that drops would divide itself out
    return apart(13, 14) / height, apart(61, 291) / height


def estimate_offset(audio: AudioTrack, landmarks: Mapping[str, Tensor], fps: float) -> Sync:
    """The sound's phones against the mouth's movement."""
    from avatar.speech.offset import LONGEST_SECONDS, estimate
    from avatar.speech.rule_motion import RuleMotion

    opening, width = mouth_curves(landmarks)
    hearings = listen(audio.between(0.0, min(audio.seconds, LONGEST_SECONDS)))
    found = estimate(audio, opening, width, fps, RuleMotion(hear=lambda _: hearings))
    return Sync(delay=found.seconds, confidence=found.confidence, reason=found.reason, hearings=hearings)


def mediapipe_both_ways() -> AbstractLandmarkDetector:
    """The usual detector of films."""
    return BothWaysDetector(MediapipeDetector)


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the stages call."""

    family: Callable[[], AbstractRig] = AnnyRig.load
    detector: Callable[[], AbstractLandmarkDetector] = mediapipe_both_ways
    live_detector: Callable[[], AbstractLandmarkDetector] = MediapipeDetector
    """For pictures that cannot wait."""
    segmenter: Callable[[], Segmenter] = PersonSegmenter
    fit: Callable[..., tuple[FaceTrack, PersonalRig]] = fit
    """As `avatar.face.tracking.fit`."""
    parser: Callable[[PersonalRig, Camera, int], ClipParser] = Parser
    """For one clip of so many frames."""
    offset: Callable[[AudioTrack, Mapping[str, Tensor], float], Sync] = estimate_offset
    keys: Mapping[str, str] = field(default_factory=dict)
    """By "rig", "detector" and "parser": what tells the chosen one, and its files' contents, from the usual one."""
