"""What stands behind the person: the only place that composites "over" (Porter and Duff 1984)."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from avatar.core import Camera, RenderOutput, RenderRequest


def over(
    rgb: Float[Tensor, "*p 3"], alpha: Float[Tensor, "*p"], background: Float[Tensor, "*p 3"]
) -> Float[Tensor, "*p 3"]:
    """Premultiplied colour in front of an opaque background."""
    return rgb + (1 - alpha)[..., None] * background


@dataclass(frozen=True, kw_only=True)
class Plate:
    """The clip's own background, clean of the person, as its camera saw it."""

    image: Float[Tensor, "h w 3"]
    camera: Camera

    def seen_by(self, camera: Camera) -> Float[Tensor, "a b 3"]:
        """The plate in another camera's picture: zoom and window follow, a moved camera keeps the picture in place.

        A camera that only cuts a window out of the plate gets the very pixels. Beyond the edges the border repeats.
        """
        ours = self.camera
        zoom = [a / b for a, b in zip(ours.focal, camera.focal, strict=True)]
        shift = [o - c * z for o, c, z in zip(ours.center, camera.center, zoom, strict=True)]
        left, top = round(shift[0]), round(shift[1])
        (h, w), (ph, pw) = camera.size, ours.size
        whole = all(abs(z - 1) < 1e-6 for z in zoom) and abs(shift[0] - left) + abs(shift[1] - top) < 1e-3
        if whole and left >= 0 and top >= 0 and top + h <= ph and left + w <= pw:
            return self.image[top : top + h, left : left + w]
        x = ((torch.arange(w) + 0.5) * zoom[0] + shift[0]) / pw * 2 - 1
        y = ((torch.arange(h) + 0.5) * zoom[1] + shift[1]) / ph * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        planes = self.image.permute(2, 0, 1)[None]
        return grid_sample(planes, grid, padding_mode="border", align_corners=False)[0].permute(1, 2, 0)


def colour(rgb: tuple[float, float, float], size: tuple[int, int]) -> Float[Tensor, "h w 3"]:
    """A plain background, sRGB in [0, 1]."""
    return torch.tensor(rgb).expand(*size, 3)


def fitted(image: Float[Tensor, "a b 3"], size: tuple[int, int]) -> Float[Tensor, "h w 3"]:
    """A picture scaled until it fills `size` (height, width), cut evenly on the longer side."""
    h, w = size
    scale = max(h / image.shape[0], w / image.shape[1])
    inner = (max(h, round(image.shape[0] * scale)), max(w, round(image.shape[1] * scale)))
    planes = image.permute(2, 0, 1)[None]
    big = interpolate(planes, inner, mode="bilinear", align_corners=False, antialias=True)[0].permute(1, 2, 0)
    top, left = (inner[0] - h) // 2, (inner[1] - w) // 2
    return big[top : top + h, left : left + w]


def composite(out: RenderOutput, request: RenderRequest, background: Float[Tensor, "h w 3"]) -> RenderOutput:
    """The person over a background of the camera's size; alpha stays the person's.

    Raises:
        ValueError: if the background has another size than the camera.
    """
    if tuple(background.shape) != (*request.camera.size, 3):
        raise ValueError(f"background is {tuple(background.shape)}, the camera draws {request.camera.size}")
    if request.pixels is not None:
        background = background[request.pixels[:, 0], request.pixels[:, 1]]
    return replace(out, rgb=over(out.rgb, out.alpha, background))
