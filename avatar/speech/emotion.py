"""Emotions as offsets on ARKit coefficients: one table for speech, films and the viewer; mixable by region of the face.

After the action units of EMFACS (Friesen and Ekman 1983), written in ARKit's actions. Offsets are never negative and
belong to no person: they are put on top of whatever the face does.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from avatar.errors import InputError
from avatar.speech.visemes import ARKIT_INDEX

EMOTIONS: dict[str, dict[str, float]] = {
    "joy": {"mouthSmile": 0.8, "cheekSquint": 0.5, "eyeSquint": 0.35, "jawOpen": 0.08, "mouthUpperUp": 0.15},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.6, "jawOpen": 0.35, "mouthFunnel": 0.15},
    "fear": {"browInnerUp": 0.8, "browOuterUp": 0.3, "browDown": 0.3, "eyeWide": 0.7, "mouthStretch": 0.6},
    "sadness": {"browInnerUp": 0.7, "browDown": 0.2, "mouthFrown": 0.7, "eyeSquint": 0.15, "mouthShrugLower": 0.35},
    "disgust": {"noseSneer": 0.8, "mouthUpperUp": 0.4, "browDown": 0.4, "mouthFrown": 0.3, "cheekSquint": 0.3},
    "anger": {"browDown": 0.9, "eyeWide": 0.25, "eyeSquint": 0.3, "mouthPress": 0.5, "noseSneer": 0.25},
    "contempt": {"mouthSmileLeft": 0.4, "mouthDimpleLeft": 0.5, "mouthPressLeft": 0.2, "eyeSquintLeft": 0.2},
    "calm": {"mouthSmile": 0.2, "eyeBlink": 0.12},
}  # fmt: skip
"""Around the viewer's wheel, pleasant and awake first; a name without its side stands for both."""

REGIONS: dict[str, tuple[str, ...]] = {
    "face": ("",),
    "upper": ("brow", "eye"),
    "lower": ("cheek", "nose", "jaw", "mouth", "tongue"),
    "brows": ("brow",),
    "eyes": ("eye",),
    "cheeks": ("cheek", "nose"),
    "mouth": ("jaw", "mouth", "tongue"),
}
"""Beginnings of the names of the actions that lie in each region."""

_WRITTEN = re.compile(r"([a-z]+)(?:=([^@]*))?(?:@([a-z]+))?")


@dataclass(frozen=True, kw_only=True)
class Feeling:
    """An emotion in a region of the face."""

    emotion: str
    """A key of `EMOTIONS`."""
    intensity: float = 1.0
    """0 is none of it, 1 all."""
    region: str = "face"
    """A key of `REGIONS`."""

    def __post_init__(self) -> None:
        if self.emotion not in EMOTIONS:
            raise InputError(f"emotion {self.emotion!r} is unknown; choose one of {', '.join(EMOTIONS)}")
        if self.region not in REGIONS:
            raise InputError(f"region {self.region!r} of the face is unknown; choose one of {', '.join(REGIONS)}")
        if not 0.0 <= self.intensity <= 1.0:
            raise InputError(f"emotion {self.emotion}: intensity {self.intensity:g} is outside 0 to 1")

    @classmethod
    def read(cls, text: str) -> "Feeling":
        """A feeling as it is written: `joy`, `joy=0.6`, `surprise=0.5@upper`.

        Raises:
            InputError: if it is written otherwise or names what there is not.
        """
        found = _WRITTEN.fullmatch(text.strip().lower())
        try:
            intensity = float(found[2]) if found and found[2] is not None else 1.0
        except ValueError:
            found, intensity = None, math.nan
        if not found or not math.isfinite(intensity):
            raise InputError(f"emotion {text!r} cannot be read; write for example joy, joy=0.6 or surprise=0.5@upper")
        return cls(emotion=found[1], intensity=intensity, region=found[3] or "face")


def mood(feelings: Sequence[Feeling]) -> tuple[float, ...]:
    """Offsets [52] of a mix of feelings, in [0, 1]."""
    total = np.zeros(52)
    for feeling in feelings:
        total += feeling.intensity * offsets(feeling.emotion, feeling.region)
    return tuple(float(value) for value in np.clip(total, 0.0, 1.0))


def offsets(emotion: str, region: str = "face") -> Float[np.ndarray, "52"]:
    """Offsets of one emotion at its full, in one region."""
    out = np.zeros(52)
    for part, value in EMOTIONS[emotion].items():
        if part.startswith(REGIONS[region]):
            for name in (part, f"{part}Left", f"{part}Right"):
                if name in ARKIT_INDEX:
                    out[ARKIT_INDEX[name]] = value
    return out
