"""Skin painted into one texture: tone, blush, lips, lids, freckles, pores, stubble and the roots of the hair.

The texture is an azimuthal map around the face's axis: the angle from straight ahead is the distance from the middle.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom
from torch import Tensor

from avatar.core import Region
from avatar.ops.mesh import rasterize_mesh
from avatar.synthetic.anatomy import Anatomy
from avatar.synthetic.haircut import coverage
from avatar.synthetic.spec import HairStyle, SpeakerSpec, linear

BUMP = 1.5
"""Largest slope that a texel's normal offset can hold."""


@dataclass(frozen=True, kw_only=True)
class SkinTexture:
    """Eight bytes a texel: albedo (sRGB-coded RGB), normal offset (xyz, 128 is 0), gloss, occlusion."""

    texels: UInt8[Tensor, "s s 8"]

    def index(self, uv: Float[Tensor, "n 2"]) -> Int[Tensor, "n"]:
        """The nearest texel."""
        size = self.texels.shape[0]
        spot = (uv * size).long().clamp_(0, size - 1)
        return spot[:, 1] * size + spot[:, 0]


def texture_coordinates(points: Float[Tensor, "v 3"], middle: Float[Tensor, "3"]) -> Float[Tensor, "v 2"]:
    """Azimuthal equidistant coordinates in [0, 1]; (0.5, 0.5) is straight ahead of `middle`."""
    away = torch.nn.functional.normalize(points - middle, dim=1)
    angle = torch.acos((-away[:, 2]).clamp(-1, 1))
    flat = torch.nn.functional.normalize(away[:, :2], dim=1)
    return 0.5 + 0.5 * flat * (angle / math.pi)[:, None]


class _Canvas:
    """Positions and noise of the texels while painting."""

    def __init__(self, size: int, mesh: tuple[Tensor, Tensor, Tensor], anatomy: Anatomy, seed: int):
        """Args: `mesh` is (neutral vertices, triangles, region of each triangle)."""
        vertices, faces, regions = mesh
        self.size, self.rng = size, np.random.default_rng([seed, 1])
        uv = texture_coordinates(vertices, anatomy.middle)
        # Nearest to the surface of the skull wins where the map folds (nostrils, ears, lips).
        depth = 10 - (vertices - anatomy.middle).norm(dim=1, keepdim=True)
        flat = torch.cat([uv * size * depth, depth], 1)
        corner = uv[faces]
        whole = (corner.amax(1) - corner.amin(1)).amax(1) < 0.25
        outside = whole & (regions != Region.EYES) & (regions != Region.MOUTH)
        chosen = outside.nonzero()[:, 0]
        triangle, barycentric, _ = rasterize_mesh(flat, faces[chosen], (1.0, 1.0), (0.0, 0.0), (size, size))
        position = (vertices[faces[chosen[triangle.clamp_min(0)]]] * barycentric[..., None]).sum(-2).numpy()
        region = regions[chosen[triangle.clamp_min(0)]].numpy()
        empty = triangle.numpy() < 0
        near = np.asarray(distance_transform_edt(empty, return_distances=False, return_indices=True))
        self.position: np.ndarray = position[near[0], near[1]].astype(np.float32)
        self.region: np.ndarray = region[near[0], near[1]]
        along_v, along_u = (np.linalg.norm(np.gradient(self.position, axis=k), axis=-1) for k in (0, 1))
        narrow = np.minimum(along_u, along_v) / np.maximum(np.maximum(along_u, along_v), 1e-9)
        self.even: np.ndarray = gaussian_filter(np.clip(1.6 * narrow, 0, 1), size / 100)
        """Where the map is stretched (under the jaw, on the neck) noise would show as streaks; there it fades."""
        self.texel = 2 * math.pi * 0.1 / size
        """Rough metres a texel on the face."""

    def noise(self, scale: float) -> np.ndarray:
        """Unit-variance smooth noise with blobs of `scale` metres."""
        sigma = max(scale / self.texel / 2, 0.3)
        coarse = max(int(sigma / 2), 1)
        cells = -(-self.size // coarse)
        raw = self.rng.standard_normal((cells, cells)).astype(np.float32)
        out = gaussian_filter(raw, sigma / coarse, mode="wrap")
        if coarse > 1:
            out = np.asarray(zoom(out, coarse, order=1, mode="grid-wrap", grid_mode=True))[: self.size, : self.size]
        return out / max(float(out.std()), 1e-6) * self.even

    def spot(self, centre: Tensor, radius: tuple[float, float]) -> np.ndarray:
        """A soft ellipse in the frontal plane, on the front of the head only, 0 to 1."""
        x, y, z = np.moveaxis(self.position, -1, 0)
        far = ((x - float(centre[0])) / radius[0]) ** 2 + ((y - float(centre[1])) / radius[1]) ** 2
        return np.exp(-0.5 * far) * (z < 0.02)


def paint_skin(
    mesh: tuple[Tensor, Tensor, Tensor], anatomy: Anatomy, spec: SpeakerSpec, size: int = 1536
) -> SkinTexture:
    """Paint one person.

    Args:
        mesh: neutral vertices [v 3] (head frame), triangles [f 3], region of each triangle [f].
        size: texels along a side.
    """
    canvas = _Canvas(size, mesh, anatomy, spec.seed)
    xy = torch.from_numpy(canvas.position[..., :2])
    ahead = canvas.position[..., 2] < 0.02
    rim = np.where(ahead, anatomy.look_up(anatomy.eye_distance, xy).numpy(), 1.0)
    lip = np.where(canvas.region == Region.LIPS, 1.0, 0.0).astype(np.float32)
    lip = gaussian_filter(lip, 0.0013 / canvas.texel)
    albedo = _tone(canvas, anatomy, spec)
    albedo = _lids(albedo, rim, canvas, anatomy)
    albedo, lip = _lips(albedo, lip, canvas, spec)
    hair = _scalp_map(canvas, anatomy, spec.hair_style)
    root = hair * (0.86 + 0.10 * canvas.noise(0.0012))
    albedo += np.clip(root, 0, 1)[..., None] * (linear(spec.hair) * 0.45 - albedo)
    gloss = 0.42 + 0.05 * canvas.noise(0.004) + 0.30 * lip - 0.4 * hair
    shine = canvas.spot(anatomy.nose, (0.010, 0.022)) + 0.5 * canvas.spot(
        anatomy.eyes.mean(0) - _up(0.045), (0.035, 0.018)
    )
    gloss = np.clip(gloss + 0.18 * shine, 0, 1)
    offset = _bumps(canvas, lip)
    coded = np.clip(albedo, 0, 1) ** (1 / 2.2)
    stacked = np.concatenate([coded, offset / (2 * BUMP) + 0.5, gloss[..., None], np.ones_like(gloss)[..., None]], -1)
    return SkinTexture(texels=torch.from_numpy((np.clip(stacked, 0, 1) * 255 + 0.5).astype(np.uint8)))


def _up(metres: float) -> Tensor:
    return torch.tensor([0.0, metres, 0.0])


def _tone(canvas: _Canvas, anatomy: Anatomy, spec: SpeakerSpec) -> np.ndarray:
    base = linear(spec.skin)
    eye, nose, unit = anatomy.eyes, anatomy.nose, anatomy.unit
    blotch = 0.020 * canvas.noise(0.018) + 0.018 * canvas.noise(0.006) + 0.018 * canvas.noise(0.0016)
    pore = 0.020 * canvas.noise(0.0006)
    red = 0.05 * canvas.noise(0.012) + 0.04 * canvas.noise(0.004)
    for side in (0, 1):
        cheek = torch.tensor([float(eye[side, 0]) * 1.28, float(nose[1]) - 0.02 * unit, 0.0])
        red = red + 0.62 * spec.blush * canvas.spot(cheek, (0.30 * unit, 0.24 * unit))
    red = red + 0.50 * spec.blush * canvas.spot(nose + _up(0.002), (0.15 * unit, 0.13 * unit))
    red = red + 0.22 * spec.blush * canvas.spot(anatomy.chin - _up(0.012), (0.25 * unit, 0.16 * unit))
    red = red + 0.55 * spec.blush * gaussian_filter((canvas.region == Region.EARS).astype(np.float32), 6)
    tint = np.array([0.10, -0.17, -0.15], np.float32)
    out = base * (1 + (blotch + pore)[..., None]) * (1 + red[..., None] * tint)
    pale = canvas.spot(eye.mean(0) - _up(0.8 * unit), (0.7 * unit, 0.4 * unit))
    out *= 1 + pale[..., None] * np.array([0.02, 0.03, -0.01], np.float32)
    out = _freckles(out, canvas, anatomy, spec)
    if spec.stubble > 0:
        beard = canvas.spot(anatomy.chin - _up(0.012), (0.85 * unit, 0.36 * unit))
        grain = np.clip(0.7 + 0.5 * canvas.noise(0.0008), 0, 1.4) * np.clip(beard * 1.6, 0, 1) * spec.stubble
        out += (0.42 * grain)[..., None] * (linear(spec.hair) * 0.8 + 0.03 - out)
    return out


def _freckles(albedo: np.ndarray, canvas: _Canvas, anatomy: Anatomy, spec: SpeakerSpec) -> np.ndarray:
    where = np.clip(canvas.spot(anatomy.nose - _up(0.012), (0.75 * anatomy.unit, 0.30 * anatomy.unit)) * 1.2, 0, 1)
    dots = np.clip((canvas.noise(0.0016) - 1.75) * 2.2, 0, 1) * where
    moles = np.clip((canvas.noise(0.0022) - 4.0) * 3.0, 0, 1)
    amount = spec.freckles * dots + 0.8 * moles
    return albedo * (1 - amount[..., None] * np.array([0.30, 0.46, 0.58], np.float32))


def _lids(albedo: np.ndarray, rim: np.ndarray, canvas: _Canvas, anatomy: Anatomy) -> np.ndarray:
    """Pink rim of the lids, thinner and redder skin around the eye, a slight shadow below it."""
    y = canvas.position[..., 1] - float(anatomy.eyes[:, 1].mean())
    near = np.exp(-np.clip(rim, 0, 1) / 0.006)
    albedo = albedo * (1 - near[..., None] * np.array([0.10, 0.21, 0.19], np.float32))
    below = np.exp(-(((y - 0.016) / 0.006) ** 2)) * np.exp(-np.clip(rim, 0, 1) / 0.012)
    albedo *= 1 - below[..., None] * np.array([0.10, 0.10, 0.06], np.float32)
    edge = np.exp(-((np.clip(rim, 0, 1) / 0.0016) ** 2))[..., None]
    return albedo + 0.75 * edge * (np.array([0.50, 0.22, 0.19], np.float32) * (albedo.mean() / 0.35) ** 0.5 - albedo)


def _lips(albedo: np.ndarray, lip: np.ndarray, canvas: _Canvas, spec: SpeakerSpec) -> tuple[np.ndarray, np.ndarray]:
    soft = np.clip((lip - 0.25) / 0.5, 0, 1)
    soft = soft * soft * (3 - 2 * soft)
    streak = canvas.rng.standard_normal((canvas.size, canvas.size)).astype(np.float32)
    streak = gaussian_filter(streak, (0.0022 / canvas.texel, 0.00035 / canvas.texel))
    streak /= max(float(streak.std()), 1e-6)
    tone = linear(spec.lips) * (1 + 0.07 * streak + 0.05 * canvas.noise(0.003))[..., None]
    return albedo + 0.88 * soft[..., None] * (tone - albedo), soft


def _scalp_map(canvas: _Canvas, anatomy: Anatomy, style: HairStyle) -> np.ndarray:
    """Hair coverage of each texel."""
    bare = np.isin(canvas.region, (Region.EARS, Region.TORSO)) | (canvas.position[..., 1] > float(anatomy.chin[1]))
    mapped = coverage(canvas.position, anatomy, style, soft=0.012) * ~bare
    return gaussian_filter(mapped.astype(np.float32), 0.0015 / canvas.texel)


def _bumps(canvas: _Canvas, lip: np.ndarray) -> np.ndarray:
    """Offset of the normal for pores, fine wrinkles and the lips' grooves: minus the surface gradient of a height."""
    height = 2.2e-5 * canvas.noise(0.0008) + 4.0e-5 * canvas.noise(0.0022) + 1.2e-4 * canvas.noise(0.009)
    groove = canvas.rng.standard_normal((canvas.size, canvas.size)).astype(np.float32)
    groove = gaussian_filter(groove, (0.0030 / canvas.texel, 0.0005 / canvas.texel))
    height = height * (1 - lip) + 9e-5 * lip * groove / max(float(groove.std()), 1e-6)
    along_v, along_u = (np.gradient(canvas.position, axis=k) for k in (0, 1))
    slope_v, slope_u = (np.gradient(height, axis=k) for k in (0, 1))
    square_u = np.maximum((along_u**2).sum(-1), 2e-9)
    square_v = np.maximum((along_v**2).sum(-1), 2e-9)
    return -(along_u * (slope_u / square_u)[..., None] + along_v * (slope_v / square_v)[..., None])
