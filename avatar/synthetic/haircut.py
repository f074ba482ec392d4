"""Where hair grows and how it falls: the hairline and the strands of a haircut, in the head frame (metres)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from avatar.core import Region
from avatar.face.rig import PersonalRig
from avatar.ops.mesh import rasterize_mesh
from avatar.synthetic.anatomy import Anatomy
from avatar.synthetic.spec import HairStyle

_MAP = 320
_REACH = 2.35
"""Angle from the crown, radians, at the edge of the map of the skull."""

# |azimuth| from straight ahead (degrees) and the hairline's height there, in eye distances above the eyes.
_AZIMUTH = (0, 20, 36, 48, 58, 68, 75, 80, 88, 96, 108, 122, 140, 180)
_LINE = {
    "swept": (1.14, 1.13, 1.12, 0.98, 0.72, 0.40, 0.12, -0.22, -0.25, 0.30, 0.20, -0.60, -0.95, -1.10),
    "short": (1.20, 1.23, 1.24, 1.05, 0.75, 0.45, 0.15, -0.10, -0.15, 0.34, 0.22, -0.55, -0.90, -1.00),
    "bob": (1.12, 1.08, 1.04, 0.90, 0.66, 0.38, 0.15, 0.00, -0.10, 0.15, 0.10, -0.45, -0.80, -0.95),
}


@dataclass(frozen=True, kw_only=True)
class Strands:
    """`n` strands of `k` points."""

    points: Float[Tensor, "n k 3"]
    half_width: Float[Tensor, "n k"]
    shade: Float[Tensor, "n"]
    """Brightness of each strand around 1."""
    buried: Float[Tensor, "n k"]
    """0 at the surface of the hair, 1 at the skin."""


class Skull:
    """Distance of the head's surface from its middle in every direction, ears left out."""

    def __init__(self, rig: PersonalRig, anatomy: Anatomy):
        faces = rig.faces[(rig.regions != Region.EARS) & (rig.regions != Region.EYES) & (rig.regions != Region.MOUTH)]
        away = rig.neutral - anatomy.middle
        radius = away.norm(dim=1)
        spot, angle = self._spot(away.numpy())
        depth = 10 - radius[:, None]
        flat = torch.cat([torch.from_numpy(spot).float() * depth, depth], 1)
        faces = faces[torch.from_numpy(angle)[faces].amax(1) < _REACH]
        triangle, _, seen = rasterize_mesh(flat, faces, (1.0, 1.0), (0.0, 0.0), (_MAP, _MAP))
        empty = triangle.numpy() < 0
        near = np.asarray(distance_transform_edt(empty, return_distances=False, return_indices=True))
        found = (10 - seen.numpy())[near[0], near[1]]
        # Shoulders are no place to comb hair over.
        self.radius: np.ndarray = gaussian_filter(np.minimum(found, float(radius[rig.skin[:, 0] > 0.99].max())), 2.0)
        self.middle = anatomy.middle.numpy()

    @staticmethod
    def _spot(away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Azimuthal map around the crown: (column, row) and the angle from it."""
        unit = away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-9)
        angle = np.arccos(np.clip(-unit[..., 1], -1, 1))
        flat = unit[..., [0, 2]] / np.maximum(np.linalg.norm(unit[..., [0, 2]], axis=-1, keepdims=True), 1e-9)
        return (0.5 + 0.5 * flat * (angle / _REACH)[..., None]) * _MAP, angle

    def surface(self, points: np.ndarray) -> np.ndarray:
        """Radius of the skin below each point [*b 3] -> [*b]."""
        spot = np.clip(self._spot(points - self.middle)[0], 0, _MAP - 1.001)
        low = spot.astype(int)
        fx, fy = np.moveaxis(spot - low, -1, 0)
        at = self.radius
        x, y = low[..., 0], low[..., 1]
        top = at[y, x] * (1 - fx) + at[y, x + 1] * fx
        return top * (1 - fy) + (at[y + 1, x] * (1 - fx) + at[y + 1, x + 1] * fx) * fy


def coverage(points: np.ndarray, anatomy: Anatomy, style: HairStyle, soft: float = 0.004) -> np.ndarray:
    """How much of the skin is scalp: 1 inside of the hairline, 0 outside."""
    return np.clip(_above_line(points, anatomy, style) / soft + 0.5, 0, 1)


def _above_line(points: np.ndarray, anatomy: Anatomy, style: HairStyle) -> np.ndarray:
    """Metres above the hairline."""
    away = points - anatomy.middle.numpy()
    azimuth = np.degrees(np.abs(np.arctan2(away[..., 0], -away[..., 2])))
    return float(anatomy.eyes[:, 1].mean()) - anatomy.unit * np.interp(azimuth, _AZIMUTH, _LINE[style]) - points[..., 1]


def grow(rig: PersonalRig, anatomy: Anatomy, style: HairStyle, count: int, seed: int) -> Strands:
    """Comb `count` strands over the skull."""
    rng = np.random.default_rng([seed, 2])
    skull = Skull(rig, anatomy)
    roots = _roots(rig, anatomy, style, count, rng)
    guides = roots[rng.choice(len(roots), max(len(roots) // 26, 1), replace=False)]
    steps = 12 if style == "bob" else 8
    paths = Comb(skull, anatomy, style).comb(np.concatenate([roots, guides]), steps, rng)
    paths, locks = paths[: len(roots)], paths[len(roots) :]
    nearest = ((roots[:, None] - guides[None]) ** 2).sum(-1).argmin(1)
    along = np.linspace(0, 1, steps)[None, :, None]
    gather = 0.62 * along**1.1 * rng.uniform(0.45, 1.15, (len(roots), 1, 1))
    paths = paths + np.clip(gather, 0, 0.92) * (locks[nearest] - paths)
    over = np.linalg.norm(paths - skull.middle, axis=-1) - skull.surface(paths)
    top = np.maximum(np.quantile(over, 0.92, axis=1, keepdims=True), 0.003)
    taper = np.array([0.9, *np.linspace(1.1, 0.9, steps - 2), 0.22])
    width = 0.00062 * (7500 / count) ** 0.5 * rng.uniform(0.7, 1.3, (len(roots), 1)) * taper
    lock_shade = rng.normal(1, 0.07, len(guides))[nearest]
    return Strands(
        points=torch.from_numpy(paths).float(),
        half_width=torch.from_numpy(np.broadcast_to(width, paths.shape[:2]).copy()).float(),
        shade=torch.from_numpy(lock_shade * rng.normal(1, 0.13, len(roots))).float().clamp(0.6, 1.5),
        buried=torch.from_numpy(np.clip(1 - over / top, 0, 1)).float(),
    )


def _roots(rig: PersonalRig, anatomy: Anatomy, style: HairStyle, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points spread over the scalp by area, thinning out towards the hairline."""
    skin = (rig.regions == Region.SKIN) | (rig.regions == Region.NECK) | (rig.regions == Region.HAIR)
    corners = rig.neutral[rig.faces[skin]].numpy()
    inside = coverage(corners.mean(1), anatomy, style, soft=0.03) > 0
    corners = corners[inside]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chosen = rng.choice(len(corners), 3 * count, p=area / area.sum())
    a, b = rng.uniform(size=(2, 3 * count, 1))
    flip = a + b > 1
    a, b = np.where(flip, 1 - a, a), np.where(flip, 1 - b, b)
    c = corners[chosen]
    points = c[:, 0] + a * (c[:, 1] - c[:, 0]) + b * (c[:, 2] - c[:, 0])
    kept = coverage(points, anatomy, style, soft=0.007) > rng.uniform(0.02, 1, len(points))
    return points[kept][:count]


def _ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class Comb:
    """How a style lies on one head."""

    def __init__(self, skull: Skull, anatomy: Anatomy, style: HairStyle):
        self.skull, self.anatomy = skull, anatomy
        self.style: HairStyle = style

    def comb(self, roots: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
        """Follow the combing direction from each root [n 3] over the skull; points [n steps 3]."""
        skull = self.skull
        up = (roots - skull.middle) / np.linalg.norm(roots - skull.middle, axis=1, keepdims=True)
        front = _ramp(-up[:, 2], -0.25, 0.55)
        top = _ramp(-up[:, 1] + 0.28 * front, 0.38, 0.78)
        length, lift = self._shape(roots, up, top, front)
        length = length * rng.uniform(0.78, 1.15, len(roots))
        lift = lift * rng.uniform(0.55, 1.1, len(roots))
        base = rng.uniform(0.001, 0.004 + 0.004 * top, len(roots))
        wobble = rng.normal(0, 0.09, (len(roots), 3))
        out, here = [roots], roots
        for k in range(1, steps):
            s = k / (steps - 1)
            normal = (here - skull.middle) / np.linalg.norm(here - skull.middle, axis=1, keepdims=True)
            flow = self._flow(roots, here, normal, top[:, None], front[:, None]) + wobble
            flow -= (flow * normal).sum(1, keepdims=True) * normal * self._hug(here)[:, None]
            flow /= np.maximum(np.linalg.norm(flow, axis=1, keepdims=True), 1e-6)
            here = here + flow * (length / (steps - 1))[:, None]
            away = here - skull.middle
            radius = np.linalg.norm(away, axis=1)
            floor = skull.surface(here) + base * min(3 * s, 1) + lift * np.sin(np.pi * s**0.75 * 0.82)
            hug = self._hug(here)
            wanted = np.maximum(radius, floor) * (1 - hug) + floor * hug
            here = skull.middle + away * (wanted / radius)[:, None]
            out.append(here)
        return np.stack(out, 1)

    def _shape(
        self, roots: np.ndarray, up: np.ndarray, top: np.ndarray, front: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Length and lift (metres) of the strands that grow in direction `up`."""
        if self.style == "bob":
            return 0.112 + 0.080 * top, 0.007 + 0.011 * top
        if self.style == "short":
            length, lift = 0.014 + 0.030 * top + 0.008 * front * top, 0.002 + 0.010 * top
        else:
            quiff = top * front
            length, lift = 0.024 + 0.043 * top + 0.026 * quiff, 0.0025 + 0.010 * top + 0.017 * quiff
        # Cut short towards the ears and the nape.
        clipped = np.minimum(length, 0.007 + 0.55 * np.maximum(_above_line(roots, self.anatomy, self.style), 0))
        return np.where(up[:, 1] > -0.45, clipped, length), lift

    def _hug(self, here: np.ndarray) -> np.ndarray:
        """1 where hair lies on the skull, 0 where it hangs freely."""
        if self.style != "bob":
            return np.ones(len(here))
        eye = float(self.anatomy.eyes[:, 1].mean())
        return 1 - _ramp(here[:, 1], eye - 0.9 * self.anatomy.unit, eye + 0.1 * self.anatomy.unit)

    def _flow(
        self, roots: np.ndarray, here: np.ndarray, normal: np.ndarray, top: np.ndarray, front: np.ndarray
    ) -> np.ndarray:
        """Combing direction at each point, not yet tangent; `top` and `front` are of the roots."""
        side = np.where(roots[:, :1] > 0.030, 1.0, -1.0)
        down = np.array([0.0, 1.0, 0.25]) + _ramp(-normal[:, 2:], -0.3, 0.4) * np.array([0.0, -0.3, 1.3])
        if self.style == "bob":
            hug = self._hug(here)[:, None]
            fall = side * np.array([1.0, 0.0, 0.0]) * (0.25 + 1.4 * top) * hug + np.array([0.0, 1.0, 0.06])
            # Ends turn in towards the neck.
            return fall + front * hug * np.array([0.0, 0.0, 0.55]) - (1 - hug) * normal * [0.35, 0.0, 0.2]
        spread = normal - np.array([0.10, -0.80, 0.60])
        if self.style == "short":
            ahead = np.array([-0.15, 0.2, -1.0])
            return (1 - top) * (down + 0.3 * spread) + top * (0.8 * spread + 0.5 * ahead)
        near_root = np.exp(-(((here - roots) ** 2).sum(1, keepdims=True) / 0.016**2))
        aside = side * np.array([1.0, 0.0, 0.0]) * (1 - _ramp(np.abs(normal[:, :1]), 0.25, 0.7))
        swept = 0.75 * aside + np.array([0.0, 0.0, 1.0]) + near_root * front * np.array([0.0, -0.9, -0.5])
        back = spread + np.array([0.0, 0.35, 0.25])
        return top * (front * swept + (1 - front) * back) + (1 - top) * (down + 0.35 * (1 - front) * back)
