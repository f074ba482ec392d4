"""What is known of a face in a clip."""

from dataclasses import dataclass
from enum import IntEnum

from jaxtyping import Float, UInt8
from torch import Tensor

from avatar.core.camera import Camera
from avatar.core.motion import MotionSequence


class Region(IntEnum):
    """What a pixel, or a triangle of the rig, shows."""

    BACKGROUND = 0
    SKIN = 1
    BROWS = 2
    EYES = 3
    NOSE = 4
    LIPS = 5
    MOUTH = 6
    """The inside of the mouth: teeth, tongue, cavity."""
    HAIR = 7
    EARS = 8
    NECK = 9
    TORSO = 10


@dataclass(frozen=True, kw_only=True)
class FaceTrack:
    """A person's face followed through a clip by one static camera."""

    motion: MotionSequence
    identity: Float[Tensor, "i"]
    """Coefficients of the rig's identity basis, in standard deviations."""
    camera: Camera
    landmarks_px: Float[Tensor, "t l 2"]
    """(x, y) in pixels of the frame, as detected."""
    confidence: Float[Tensor, "t"]
    """Weight of the frame in [0, 1]; 0 where no face was found or the fit failed."""

    def __post_init__(self) -> None:
        if not len(self.motion) == len(self.landmarks_px) == len(self.confidence):
            raise ValueError(
                f"{len(self.motion)} motion frames, {len(self.landmarks_px)} landmark frames "
                f"and {len(self.confidence)} confidences must be equally many"
            )


@dataclass(frozen=True, kw_only=True)
class ParsingMaps:
    """Region and soft coverage of every pixel."""

    labels: UInt8[Tensor, "t h w"]
    """A `Region` for each pixel."""
    alpha: Float[Tensor, "t h w"]
    """How much of the pixel is the person, in [0, 1]."""
