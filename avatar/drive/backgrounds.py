"""What stands behind the person in a driven film: the clip's own plate, a colour, a picture, or nothing."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from avatar.core import Camera
from avatar.errors import InputError
from avatar.media import read_image
from avatar.models.backdrop import colour, fitted

PLATE, TRANSPARENT = "plate", "transparent"


@dataclass(frozen=True)
class Background:
    """A chosen background; `pixels` is None for the plate and for transparency."""

    transparent: bool = False
    pixels: Float[Tensor, "h w 3"] | None = None


def choose_background(text: str, camera: Camera) -> Background:
    """Understand `plate`, `transparent`, a CSS colour (`white`, `#20a060`, `rgb(0,80,160)`) or a picture file.

    Raises:
        InputError: if it is none of these or the picture cannot be read.
    """
    if text in (PLATE, TRANSPARENT):
        return Background(transparent=text == TRANSPARENT)
    if (rgb := _colour(text)) is not None:
        return Background(pixels=colour(rgb, camera.size).contiguous())
    path = Path(text)
    if not path.is_file():
        raise InputError(
            f"background {text!r} is no picture file and no colour; "
            "give plate, transparent, a colour such as white or #20a060, or an existing picture"
        )
    image = torch.from_numpy(read_image(path).copy()).float() / 255
    return Background(pixels=fitted(image, camera.size).clamp(0, 1).contiguous())


def _colour(text: str) -> tuple[float, float, float] | None:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        return None
    return red / 255, green / 255, blue / 255
