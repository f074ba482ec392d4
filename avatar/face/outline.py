"""How far from the rig's rim the person ends in a picture: at ears, cheeks, jaw, skull and shoulders. Needs OpenCV."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from avatar.core import Camera, MotionFrame, Region
from avatar.face.parsing import Parser
from avatar.face.rig import PersonalRig
from avatar.ops.mesh import rasterize_mesh

_SPACING = 0.003
"""Metres between the points of a rim."""
_INWARD, _OUTWARD = 0.020, 0.050
"""Metres over which the person's edge is looked for; hair ends far outside of the skull."""
_STEP = 0.5
"""Pixels between samples on the way."""
_BAND = (0.004, 0.007, 0.010, 0.013)
"""Metres inside of the person's edge at which colour tells what ends there."""
_SURELY = 1.0
"""Evidence from which it is skin."""
_SOFT = 1.0
"""Pixels (standard deviation) by which both edges are blurred, the rig's and the person's."""
_ALIGNED = 0.6
"""Cosine between the directions of the two edges."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is needed of one frame."""

    motion: MotionFrame
    coverage: Float[np.ndarray, "h w"]
    """By the person, in [0, 1], softened."""
    skin: Float[np.ndarray, "h w"]
    """Log of how much more likely skin is than what else the person wears on the head."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Points on the rim of the rig, where it hides nothing but background."""

    triangle: Int[np.ndarray, "n"]
    barycentric: Float[np.ndarray, "n 3"]
    outward: Float[np.ndarray, "n 3"]
    """Head frame: metres by which a displacement of the surface moves its rim outwards, across the view."""
    gap: Float[np.ndarray, "n"]
    """Metres from there to the person's edge, outwards."""
    is_skin: Bool[np.ndarray, "n"]
    """Skin ends there, not hair or cloth."""
    on_scalp: Bool[np.ndarray, "n"]
    """The rig's own part there grows hair, or is bald."""


def prepared(
    parser: Parser, frame: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], motion: MotionFrame
) -> Picture:
    """A frame as `outline` takes it; `parser` has surveyed the clip.

    Args:
        mask: coarse person mask, 255 is person.
    """
    import cv2

    alpha = parser.parse(frame, mask, motion, None).alpha.astype(np.float32) / 255
    return Picture(motion=motion, coverage=cv2.GaussianBlur(alpha, (0, 0), _SOFT), skin=parser.skin_evidence(frame))


def outline(
    rig: PersonalRig, camera: Camera, picture: Picture, part: Bool[np.ndarray, "f"], *, inward: float = _INWARD
) -> Outline:
    """Compare the rim of the posed rig with the person's edge, along the rim's normals.

    Args:
        part: triangles whose rim is looked at; none that touches an open edge of the mesh: such an edge is no rim.
        inward: metres over which the person's edge is looked for inside of the rim.
    """
    T = camera.T_camera_world
    local = rig.posed(picture.motion) @ T[:3, :3].T + T[:3, 3]
    drawn, weights, _ = rasterize_mesh(local, rig.faces, camera.focal, camera.center, camera.size)
    seen = drawn.numpy()
    regions = rig.regions.numpy()
    unit = float(local[:, 2].median()) / camera.focal[0]
    points, normals, soft = _rim(seen, part, max(round(_SPACING / unit), 1))
    at = tuple(points.astype(int).T[::-1])
    triangle, barycentric = seen[at], weights.numpy()[at]
    corners = local.numpy()[rig.faces.numpy()[triangle]]
    place = (corners * barycentric[..., None]).sum(1)
    near = np.arange(-4, 4 + _STEP, _STEP)
    own = _edge(_along(soft, points, normals, near), near)
    way = np.arange(-inward / unit, _OUTWARD / unit, _STEP)
    edge = _edge(_along(picture.coverage, points, normals, way), way)
    known = np.isfinite(own) & np.isfinite(edge)
    end = points + np.where(known, edge, 0)[:, None] * normals
    known &= (_outward(picture.coverage, end) * normals).sum(1) > _ALIGNED
    band = -np.array(_BAND) / unit
    turn = T[:3, :3].numpy() @ picture.motion.T_world_head[:3, :3].numpy()
    across = np.concatenate([normals, -(normals * place[:, :2]).sum(1, keepdims=True) / place[:, 2:]], 1)
    return Outline(
        triangle=triangle[known],
        barycentric=barycentric[known],
        outward=(across @ turn)[known],
        gap=((edge - own) * place[:, 2] / camera.focal[0])[known],
        is_skin=(_along(picture.skin, end, normals, band).mean(1) > _SURELY)[known],
        on_scalp=(regions[triangle] == Region.HAIR)[known],
    )


def _rim(
    seen: Int[np.ndarray, "h w"], part: Bool[np.ndarray, "f"], step: int
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"], Float[np.ndarray, "h w"]]:
    """Columns and rows of the part's outermost pixels, directions outwards, and the softened mask of the rig."""
    import cv2

    mask = (seen >= 0).astype(np.uint8)
    lines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate([np.zeros((0, 2)), *(line[::step, 0] for line in lines)]).astype(np.int64)
    height, width = seen.shape
    inside = (points > 2).all(1) & (points[:, 0] < width - 3) & (points[:, 1] < height - 3)
    inside &= part[seen[points[:, 1], points[:, 0]]]
    points = points[inside].astype(np.float32)
    solid = mask.astype(np.float32)
    return points, _outward(cv2.GaussianBlur(solid, (0, 0), 2.0), points), cv2.GaussianBlur(solid, (0, 0), _SOFT)


def _outward(mask: Float[np.ndarray, "h w"], points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Unit vectors down the mask's slope."""
    import cv2

    slopes = [cv2.Sobel(mask, cv2.CV_32F, *order) for order in ((1, 0), (0, 1))]
    zero = np.zeros((len(points), 2), np.float32)
    down = -np.concatenate([_along(slope, points, zero, np.zeros(1)) for slope in slopes], 1)
    return down / np.maximum(np.linalg.norm(down, axis=1, keepdims=True), 1e-9)


def _along(
    picture: Float[np.ndarray, "h w"],
    points: Float[np.ndarray, "n 2"],
    normals: Float[np.ndarray, "n 2"],
    steps: Float[np.ndarray, "k"],
) -> Float[np.ndarray, "n k"]:
    """Values on the way from each point along its normal."""
    import cv2

    if not len(points):
        return np.zeros((0, len(steps)), np.float32)
    way = (points[:, None] + normals[:, None] * steps[None, :, None]).astype(np.float32)
    return cv2.remap(picture, way[..., 0], way[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _edge(values: Float[np.ndarray, "n k"], steps: Float[np.ndarray, "k"]) -> Float[np.ndarray, "n"]:
    """Where the values fall through one half, nearest to the start; nan where nowhere."""
    high, low = values[:, :-1], values[:, 1:]
    place = steps[:-1] + (high - 0.5) / np.maximum(high - low, 1e-6) * _STEP
    away = np.where((high >= 0.5) & (low < 0.5), np.abs(place), np.inf)
    best = away.argmin(1, keepdims=True)
    found = np.take_along_axis(place, best, 1)[:, 0]
    return np.where(np.isfinite(np.take_along_axis(away, best, 1)[:, 0]), found, np.nan)
