"""What a user may choose about preprocessing."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """All stages; a change runs again only what depends on it."""

    size: int = 512
    """Longest side of the working frames in pixels; larger films are cut around the person and scaled down."""
    test_share: float = 0.2
    """Part of the clip, at its end, that training never sees."""
    min_face_px: float = 80.0
    """Smallest height of the face, forehead to chin, in pixels of the film."""
    min_seconds: float = 2.0
    """Shortest material to work from."""
    rig: str = "anny"
    """Head model: anny, flame:FILE or bfm:FILE."""
    rig_landmarks: str = ""
    """File of a FLAME that says where MediaPipe's landmarks are on it; without it they are carried over from anny."""
    detector: str = "mediapipe"
    """Finder of landmarks: mediapipe, face-landmarker (its model is downloaded once, or :FILE), face-alignment."""
    parser: str = "rig"
    """What tells hair from skin: rig, or bisenet:FILE (an ONNX network)."""
