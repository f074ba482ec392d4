"""The one question that every backbone answers: for this camera and this motion, what are these pixels?"""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from avatar.core.camera import Camera
from avatar.core.motion import MotionFrame


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """A view of a moment."""

    camera: Camera
    motion: MotionFrame
    pixels: Int[Tensor, "r 2"] | None = None
    """(row, column) of the asked pixels, or None for the whole picture."""


@dataclass(frozen=True, kw_only=True)
class RenderOutput:
    """Pixels: `p` is (h, w) for a whole picture, (r,) for asked pixels."""

    rgb: Float[Tensor, "*p 3"]
    """sRGB, premultiplied by alpha."""
    alpha: Float[Tensor, "*p"]
    depth: Float[Tensor, "*p"] | None = None
    """Metres along the camera's z axis, premultiplied by alpha."""
    aux: dict[str, Any] = field(default_factory=dict, repr=False)
    """Private to the backbone and its upkeep."""
