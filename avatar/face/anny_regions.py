"""Which part of a face each triangle of the Anny bust shows, and a texture layout that gives the face most room."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avatar.core import Region
from avatar.face.anny_mesh import AnnySource, Bust

_ISLANDS = {
    "head": (90, 86, 255),
    "mouth_cavity": (112, 172, 255),
    "eye_cavity.R": (253, 249, 16),
    "eye_cavity.L": (249, 108, 136),
}
_HAIRLINE = (
    (0, -0.108),
    (25, -0.106),
    (45, -0.088),
    (62, -0.060),
    (78, -0.035),
    (95, -0.020),
    (125, 0.010),
    (180, 0.055),
)
"""Angle around the head from the face's middle (degrees), and the y (metres) above which hair grows."""
_BROW = ((0.013, -0.0625), (0.024, -0.0665), (0.036, -0.0690), (0.046, -0.0665), (0.054, -0.0600))
"""(x, y) of the brow's middle line in metres, from the nose outwards, and its half height below."""
_BROW_HALF = 0.0045
_LAYOUT = {
    "head": (0.0, 0.46, 1.0, 1.0),
    "body": (0.0, 0.0, 0.52, 0.45),
    "mouth_cavity": (0.53, 0.23, 0.76, 0.45),
    "tongue": (0.77, 0.23, 0.88, 0.45),
    "eye_cavity.R": (0.89, 0.23, 1.0, 0.335),
    "eye_cavity.L": (0.89, 0.345, 1.0, 0.45),
    "upper_teeth": (0.53, 0.12, 0.76, 0.22),
    "lower_teeth": (0.53, 0.01, 0.76, 0.11),
    "right_eye": (0.77, 0.12, 0.88, 0.22),
    "left_eye": (0.89, 0.12, 1.0, 0.22),
}
"""Rectangle (u0, v0, u1, v1) of each island in our texture."""


def islands(source: AnnySource, uv: Tensor, piece: list[str]) -> list[str]:
    """`piece` with the body's triangles told apart (head, mouth_cavity, ...), by Anny's own segmentation picture."""
    picture = np.asarray(Image.open(source.root / "segmentation/body_parts_segmentation.png").convert("RGB"))
    pixels = _look_up(picture, uv)
    named = list(piece)
    for name, colour in _ISLANDS.items():
        for index in np.flatnonzero((pixels == colour).all(1)):
            if piece[index] == "body":
                named[index] = name
    return named


def paint(source: AnnySource, middle: Tensor, bust: Bust, skin: Tensor, nose: Tensor) -> Tensor:
    """A `Region` for each triangle, uint8 [f].

    Args:
        middle: [v 3] the middle adult in the head frame, metres.
        skin: [v 3] weights of head, neck, torso.
        nose: [v] how much a vertex moves with the nose, largest 1.
    """
    faces, uv = bust.faces, bust.uv
    centre = middle[faces].mean(1)
    x, y, z = centre.unbind(1)
    label = torch.full((len(faces),), int(Region.SKIN), dtype=torch.uint8)

    def put(region: Region, where: Tensor) -> None:
        label[where] = int(region)

    weights = skin[faces].mean(1)
    put(Region.NECK, weights[:, 0] < 0.75)
    put(Region.TORSO, weights[:, 2] > 0.55)
    on_head = weights[:, 0] >= 0.35
    angle = torch.rad2deg(torch.atan2(x.abs(), 0.01 - z))
    line = torch.from_numpy(np.interp(angle.numpy(), *np.array(_HAIRLINE).T)).to(y)
    put(Region.HAIR, on_head & (y < line))
    brow = torch.from_numpy(np.interp(x.abs().numpy(), *np.array(_BROW).T)).to(y)
    inside = (x.abs() > _BROW[0][0]) & (x.abs() < _BROW[-1][0]) & ((y - brow).abs() < _BROW_HALF)
    put(Region.BROWS, inside & (z < 0))
    put(Region.NOSE, (nose[faces].mean(1) > 0.6) & (y < 0.012))
    put(Region.EARS, _mask(source, "mpfb_ears", uv) & on_head)
    put(Region.LIPS, _mask(source, "mpfb_lips", uv))
    kind = np.array(bust.piece)
    put(Region.MOUTH, torch.from_numpy(np.isin(kind, ["mouth_cavity", "tongue", "upper_teeth", "lower_teeth"])))
    put(Region.EYES, torch.from_numpy(np.isin(kind, ["eye_cavity.R", "eye_cavity.L", "right_eye", "left_eye"])))
    return label


def _look_up(picture: np.ndarray, uv: Tensor) -> np.ndarray:
    centre = uv.mean(1).numpy()
    height, width = picture.shape[:2]
    column = (centre[:, 0] * width).astype(int).clip(0, width - 1)
    row = ((1 - centre[:, 1]) * height).astype(int).clip(0, height - 1)
    return picture[row, column]


def _mask(source: AnnySource, name: str, uv: Tensor) -> Tensor:
    picture = np.asarray(Image.open(source.root / f"mpfb2/textures/{name}.jpg").convert("L"))
    return torch.from_numpy(_look_up(picture, uv) > 127)


def pack(uv: Tensor, island: list[str]) -> Tensor:
    """Move each island of MakeHuman's layout to its place in ours; the head is turned upright."""
    kind = np.array(island)
    out = uv.clone()
    for name, (left, low, right, high) in _LAYOUT.items():
        chosen = torch.from_numpy(kind == name)
        points = uv[chosen]
        if name == "head":
            points = torch.stack([-points[..., 1], -points[..., 0]], -1)
        corner, extent = points.amin((0, 1)), points.amax((0, 1)) - points.amin((0, 1))
        scale = torch.minimum((right - left) / extent[0], (high - low) / extent[1])
        out[chosen] = (points - corner) * scale + torch.tensor([left, low])
    return out
