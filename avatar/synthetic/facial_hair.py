"""Brows and lashes: short strands that ride on the skin."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar.core import Region
from avatar.face.rig import PersonalRig
from avatar.synthetic.anatomy import Anatomy
from avatar.synthetic.spec import SpeakerSpec
from avatar.synthetic.surface import at


@dataclass(frozen=True, kw_only=True)
class Brows:
    """Every point of every hair lies on the skin."""

    triangle: Int[Tensor, "n k"]
    barycentric: Float[Tensor, "n k 3"]
    lift: Float[Tensor, "n k"]
    """Metres above the skin."""
    half_width: Float[Tensor, "n k"]
    shade: Float[Tensor, "n"]

    def points(self, vertices: Tensor, normals: Tensor, faces: Tensor) -> Float[Tensor, "n k 3"]:
        """Where the hairs are on a posed surface."""
        normal = at(normals, faces, self.triangle, self.barycentric)
        return at(vertices, faces, self.triangle, self.barycentric) + self.lift[..., None] * normal


def grow_brows(anatomy: Anatomy, spec: SpeakerSpec, count: int = 320) -> Brows:
    """Hairs of both brows, combed upwards at the nose and outwards at the temple."""
    rng = np.random.default_rng([spec.seed, 3])
    unit, middle = anatomy.unit, float(anatomy.eyes[:, 1].mean())
    # Along the brow: outwards from the nose and above the eyes, in eye distances.
    knots = np.array([0.0, 0.25, 0.5, 0.72, 0.88, 1.0])
    across = np.array([0.165, 0.31, 0.50, 0.68, 0.80, 0.90])
    above = np.array([0.300, 0.345, 0.378, 0.385, 0.350, 0.300])
    thick = np.array([0.034, 0.044, 0.042, 0.034, 0.020, 0.008])
    t = rng.uniform(0, 1, count) ** 0.92
    thickness = np.interp(t, knots, thick) * unit
    offset = np.clip(rng.normal(0, 0.42, count), -1, 1) * thickness
    lean = (
        np.interp(t, knots, [1.15, 0.75, 0.40, 0.12, -0.25, -0.45]) + rng.normal(0, 0.14, count) - 0.5 * offset / unit
    )
    length = rng.uniform(0.0065, 0.0105, count) * np.interp(t, knots, [0.85, 1.1, 1.1, 1.0, 0.85, 0.6]) * unit / 0.06
    along = np.linspace(0, 1, 4)
    x = np.interp(t, knots, across)[:, None] * unit + np.cos(lean)[:, None] * length[:, None] * along
    y = middle - np.interp(t, knots, above)[:, None] * unit - offset[:, None]
    y = y - np.sin(lean)[:, None] * length[:, None] * (along - 0.25 * along**2)
    xy = np.stack([np.concatenate([-x, x]), np.concatenate([y, y])], -1)
    triangle, barycentric = anatomy.front.attach(torch.from_numpy(xy).float())
    good = (triangle >= 0).all(1)
    shape = np.broadcast_to([0.55, 1.0, 0.8, 0.25], (2 * count, 4))
    width = 0.00021 * spec.brow_weight * shape * rng.uniform(0.75, 1.25, (2 * count, 1))
    return Brows(
        triangle=triangle[good],
        barycentric=barycentric[good],
        lift=torch.from_numpy(np.broadcast_to([0.0003, 0.0007, 0.0008, 0.0007], (2 * count, 4)).copy()).float()[good],
        half_width=torch.from_numpy(width).float()[good],
        shade=torch.from_numpy(rng.normal(1, 0.15, 2 * count)).float().clamp(0.6, 1.5)[good],
    )


@dataclass(frozen=True, kw_only=True)
class Lashes:
    """Hairs rooted in the rims of the lids; they point away from the eyeball and so turn with the lid."""

    triangle: Int[Tensor, "n"]
    barycentric: Float[Tensor, "n 3"]
    eye: Int[Tensor, "n"]
    shape: Float[Tensor, "n k 3"]
    """Metres along (outwards from the eyeball, up in the face, sideways)."""
    half_width: Float[Tensor, "n k"]

    def points(self, vertices: Tensor, faces: Tensor, eyes: Float[Tensor, "2 3"]) -> Float[Tensor, "n k 3"]:
        """Where the lashes are on a posed surface, head frame."""
        root = at(vertices, faces, self.triangle, self.barycentric)
        out = torch.nn.functional.normalize(root - eyes[self.eye], dim=1)
        side = torch.nn.functional.normalize(
            torch.linalg.cross(out, out.new_tensor([[0.0, 1, 0]]).expand_as(out)), dim=1
        )
        up = torch.linalg.cross(out, side)
        up = up * torch.where(up[:, 1:2] > 0, -1.0, 1.0)
        frame = torch.stack([out, up, side], 1)
        return root[:, None] + self.shape @ frame


def grow_lashes(rig: PersonalRig, anatomy: Anatomy, seed: int) -> Lashes:
    """Lashes along both rims of both eyes."""
    rng = np.random.default_rng([seed, 4])
    seen = anatomy.front.triangle
    ball = torch.where(seen >= 0, rig.regions[seen.clamp_min(0)], 0) == Region.EYES
    triangles, barycentrics, eyes, shapes = [], [], [], []
    middle = ball.shape[1] // 2
    for eye in (0, 1):
        half = ball[:, :middle] if eye == 0 else ball[:, middle:]
        columns = half.any(0).nonzero()[:, 0] + (0 if eye == 0 else middle)
        first, last = int(columns.min()), int(columns.max())
        outward = 1.0 if eye == 1 else -1.0
        for upper, count in ((True, 80), (False, 30)):
            for _ in range(count):
                t = rng.uniform(0.10, 0.995) if upper else rng.uniform(0.25, 0.97)
                column = round(first + t * (last - first)) if eye == 1 else round(last - t * (last - first))
                rows = ball[:, column].nonzero()[:, 0]
                if not len(rows):
                    continue
                row = int(rows.min()) - 1 if upper else int(rows.max()) + 1
                length = (0.0060 if upper else 0.0024) * (0.55 + 0.6 * t) * rng.uniform(0.75, 1.1) * anatomy.unit / 0.06
                s = np.linspace(0, 1, 5)
                fan = (t - 0.42) * 0.75 + rng.normal(0, 0.07)
                sign = 1.0 if upper else -0.62
                curl = np.stack([s - 0.22 * s**2, sign * (0.12 * s + 0.52 * s**2.0), outward * fan * s * 0.9], -1)
                triangles.append(seen[row, column])
                barycentrics.append(anatomy.front.barycentric[row, column])
                eyes.append(eye)
                shapes.append(curl * length)
    triangle = torch.stack(triangles)
    good = triangle >= 0
    width = torch.tensor([1.0, 0.95, 0.8, 0.55, 0.15]) * 0.00008
    return Lashes(
        triangle=triangle[good],
        barycentric=torch.stack(barycentrics)[good],
        eye=torch.tensor(eyes)[good],
        shape=torch.from_numpy(np.stack(shapes)).float()[good],
        half_width=width.expand(int(good.sum()), 5).contiguous(),
    )
