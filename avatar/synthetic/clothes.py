"""A jumper with a ribbed collar over a T-shirt, made from the torso's surface; rigid with the torso."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from torch import Tensor

from avatar.core import Region
from avatar.face.rig import PersonalRig
from avatar.synthetic.spec import SpeakerSpec, linear
from avatar.synthetic.surface import neighbours, smooth, subdivide, vertex_normals

_AROUND = 128
TILE = 0.064
"""Metres of one tile of `weave`."""


@dataclass(frozen=True, kw_only=True)
class Clothes:
    """One mesh in the head frame of the neutral pose."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    albedo: Float[Tensor, "v 3"]
    """Linear RGB."""
    cloth_uv: Float[Tensor, "v 2"]
    """Metres along the weave."""
    normals: Float[Tensor, "v 3"]
    """Of a surface with deeper folds: at this size light shows cloth, not outline."""
    neckline: tuple[Float[Tensor, "3"], Float[Tensor, "3"]]
    """Point and normal (towards the head) of the plane that separates neck from jumper."""


def dress(rig: PersonalRig, spec: SpeakerSpec) -> Clothes:
    """Sew the jumper of one person."""
    rng = np.random.default_rng([spec.seed, 5])
    centre = rig.neck_pivots[1] + torch.tensor([0.0, -0.006, -0.020])
    normal = torch.nn.functional.normalize(torch.tensor([0.0, -1.0, -0.42]), dim=0)
    low = rig.neutral[(rig.skin[:, 0] > 0.99) & (rig.neutral[:, 2] < float(centre[2]))]
    clearance = float(((low - centre) @ normal).min())
    centre = centre - normal * float(np.clip(0.042 - clearance, 0, 0.03))
    body = _jumper(rig, centre, normal, rng)
    radius = _neck_radius(rig, centre, normal)
    outer = _band(centre, normal, radius, heights=(-0.010, 0.020), gaps=(0.0135, 0.0085), thick=0.0035)
    inner = _band(centre, normal, radius, heights=(0.010, 0.0275), gaps=(0.0055, 0.0035), thick=0.0016)
    yarn, shirt = torch.from_numpy(linear(spec.cloth)), torch.from_numpy(linear(spec.collar))
    ribs = 1 + 0.16 * torch.cos(torch.arange(_AROUND * 4).float() * (2 * np.pi / _AROUND / 4 * 84))
    band_tint = ribs.repeat_interleave(len(outer[0]) // len(ribs))[:, None]
    vertices = torch.cat([body[0], outer[0], inner[0]])
    shift = [0, len(body[0]), len(body[0]) + len(outer[0])]
    cloth_uv = torch.stack([vertices[:, 0], vertices[:, 1] + 0.7 * vertices[:, 2]], 1)
    cloth_uv[len(body[0]) :, 1] += 100 * TILE  # the same weave, but no seam runs over a collar
    bumped = torch.cat([body[2], outer[0], inner[0]])
    faces = torch.cat([part[1] + by for part, by in zip((body, outer, inner), shift, strict=True)])
    albedo = torch.cat([yarn.expand(len(body[0]), 3), yarn * 0.93 * band_tint, shirt.expand(len(inner[0]), 3)])
    return Clothes(
        vertices=vertices,
        faces=faces,
        albedo=albedo.contiguous(),
        cloth_uv=cloth_uv,
        normals=vertex_normals(bumped, faces),
        neckline=(centre, normal),
    )


def _jumper(
    rig: PersonalRig, centre: Tensor, normal: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The torso, smoothed, lifted off the skin, folded, cut above the neckline; last, the same with deeper folds."""
    v, faces = rig.neutral, rig.faces
    skin = (rig.regions == Region.TORSO) | (rig.regions == Region.NECK) | (rig.regions == Region.SKIN)
    height = (v - centre) @ normal
    across = (v - centre) - height[:, None] * normal
    # Shoulders may rise above the neckline's plane; only what is near the neck is cut.
    high = height - 0.35 * (across.norm(dim=1) - 0.085).clamp_min(0)
    near = faces[skin & (high[faces].amin(1) < 0.030) & (rig.skin[:, 0][faces].amax(1) < 0.25)]
    used, near = near.unique(return_inverse=True)
    points, high = v[used], high[used, None]
    split = subdivide(near, len(points))
    normals = vertex_normals(points, near)
    points, high, near = split.curved(points, normals), split.linear(high), split.faces
    average = neighbours(near, len(points))
    rim = torch.bincount(_rim(near), minlength=len(points))[:, None] > 0
    calm = points
    for _ in range(15):
        calm = torch.where(rim, points, smooth(calm, average, 1))
    normals = vertex_normals(calm, near)
    folds = _folds(calm, rng)
    lifted, bumped = calm + normals * (0.0095 + folds), calm + normals * (0.0095 + 3.2 * folds)
    kept = near[high[near][:, :, 0].amax(1) < 0.006]
    used, kept = kept.unique(return_inverse=True)
    return lifted[used], kept, bumped[used]


def _rim(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "e"]:
    """Vertices on the border of a mesh."""
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    edges, count = sides.unique(dim=0, return_counts=True)
    return edges[count == 1].flatten()


def _folds(points: Tensor, rng: np.random.Generator) -> Float[Tensor, "v 1"]:
    """Metres by which wrinkles lift the cloth: creases that run from the neck to the armpits, soft waves elsewhere."""
    x, y, z = points.numpy().T
    side = np.sign(x)
    across, along = (y * 0.80 - np.abs(x) * 0.60), (np.abs(x) * 0.80 + y * 0.60)
    crease = _noise3(np.stack([across * 34, along * 7 + side * 3, z * 8], -1), rng)
    wave = _noise3(np.stack([x * 14, (y - 0.3 * np.abs(x)) * 20, z * 14], -1), rng)
    armpit = np.exp(-(((np.abs(x) - 0.15) / 0.07) ** 2) - ((y - 0.22) / 0.09) ** 2)
    sharp = 1 - 1.4 * np.abs(crease)
    return torch.from_numpy(0.0012 * wave + (0.0008 + 0.0030 * armpit) * sharp).float()[:, None]


def _noise3(points: np.ndarray, rng: np.random.Generator, size: int = 24) -> np.ndarray:
    """Smooth periodic noise of unit variance in three dimensions; blobs are about one unit wide."""
    from scipy.ndimage import map_coordinates

    grid = gaussian_filter(rng.standard_normal((size,) * 3), 0.8, mode="wrap")
    return map_coordinates(grid / grid.std(), np.mod(points.T, size), order=1, mode="grid-wrap").astype(np.float32)


def _frame(normal: Tensor) -> tuple[Tensor, Tensor]:
    """Two directions in the neckline's plane: to the person's left, and forwards."""
    left = torch.tensor([1.0, 0.0, 0.0])
    return left, torch.nn.functional.normalize(torch.linalg.cross(left, normal), dim=0)


def _neck_radius(rig: PersonalRig, centre: Tensor, normal: Tensor) -> Float[Tensor, "a"]:
    """Distance of the skin from the neck's axis in the neckline's plane, by azimuth."""
    left, ahead = _frame(normal)
    sharp = (rig.regions == Region.TORSO) | (rig.regions == Region.NECK) | (rig.regions == Region.SKIN)
    corners = rig.neutral[rig.faces[sharp]]
    points = torch.cat([corners.mean(1), (corners[:, 0] + corners[:, 1]) / 2, (corners[:, 1] + corners[:, 2]) / 2])
    local = points - centre
    flat = torch.stack([local @ left, local @ ahead], 1)
    near = ((local @ normal).abs() < 0.012) & (flat.norm(dim=1) < 0.13)
    azimuth = torch.atan2(flat[near, 0], flat[near, 1]).numpy()
    distance = flat[near].norm(dim=1).numpy()
    bins = np.linspace(-np.pi, np.pi, _AROUND + 1)[:-1]
    gap = np.abs((azimuth[None] - bins[:, None] + np.pi) % (2 * np.pi) - np.pi)
    weight = np.exp(-((gap / 0.14) ** 2)) + 1e-12
    radius = (weight * distance).sum(1) / weight.sum(1)
    radius = gaussian_filter1d((radius + np.roll(radius[::-1], 1)) / 2, 3, mode="wrap")
    return torch.from_numpy(radius).float()


def _band(
    centre: Tensor,
    normal: Tensor,
    radius: Tensor,
    *,
    heights: tuple[float, float],
    gaps: tuple[float, float],
    thick: float,
) -> tuple[Tensor, Tensor]:
    """A soft closed band around the neck.

    Args:
        heights: of its lower and upper edge over the neckline's plane, metres.
        gaps: between skin and the band's middle at both edges, metres.
        thick: half of its thickness, metres.
    """
    left, ahead = _frame(normal)
    fine = torch.from_numpy(
        np.interp(np.arange(_AROUND * 4) / 4, np.arange(_AROUND + 1), [*radius.tolist(), float(radius[0])])
    ).float()
    azimuth = torch.linspace(-np.pi, np.pi, _AROUND * 4 + 1)[:-1]
    outwards = torch.sin(azimuth)[:, None] * left + torch.cos(azimuth)[:, None] * ahead
    ring = torch.linspace(0, 2 * np.pi, 17)[:-1]
    tall = (heights[1] - heights[0]) / 2
    up = (heights[0] + heights[1]) / 2 + tall * torch.cos(ring).sign() * torch.cos(ring).abs() ** 0.6
    share = (up - heights[0]) / (heights[1] - heights[0])
    gap = gaps[0] + share * (gaps[1] - gaps[0]) + thick * torch.sin(ring).sign() * torch.sin(ring).abs() ** 0.8
    points = centre + outwards[:, None] * (fine[:, None] + gap)[..., None] + up[:, None] * normal
    a, s = torch.meshgrid(torch.arange(_AROUND * 4), torch.arange(16), indexing="ij")
    a2, s2 = (a + 1) % (_AROUND * 4), (s + 1) % 16
    quad = [a * 16 + s, a * 16 + s2, a2 * 16 + s2, a2 * 16 + s]
    faces = torch.cat([torch.stack([quad[0], quad[1], quad[2]], -1), torch.stack([quad[0], quad[2], quad[3]], -1)])
    return points.flatten(0, 1), faces.flatten(0, 1)


def seam(cloth_uv: Float[Tensor, "n 2"]) -> Float[Tensor, "n"]:
    """Brightness around 1 near the raglan seams from the collar to the armpits."""
    off = cloth_uv[:, 0].abs() - 0.050 - 0.80 * (cloth_uv[:, 1] - 0.075)
    return 1 - 0.34 * torch.exp(-((off / 0.0016) ** 2)) + 0.10 * torch.exp(-(((off - 0.0042) / 0.0026) ** 2))


def weave(seed: int, size: int = 256) -> Float[Tensor, "s s"]:
    """Brightness of the cloth around 1, one tile: knitted columns and heathered yarn."""
    rng = np.random.default_rng([seed, 6])
    row, column = np.mgrid[:size, :size] / size * 2 * np.pi
    stitch = np.cos(16 * column + 0.9 * np.cos(16 * row)) * 0.6 + 0.4 * np.cos(16 * row + 1.2 * np.sin(16 * column))
    heather = gaussian_filter(rng.standard_normal((size, size)), (1.6, 0.8), mode="wrap")
    tile = 1 + 0.055 * stitch + 0.05 * heather / heather.std()
    return torch.from_numpy(tile.astype(np.float32))
