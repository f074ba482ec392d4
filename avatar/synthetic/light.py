"""Soft studio light: visibility of the surroundings baked once for a rest pose, lights evaluated for each frame.

Directions live in the head frame; lights stand still in the world, so that a turning head shades as it should.
Precomputed radiance transfer (Sloan et al. 2002) in a basis of fixed directions instead of spherical harmonics.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar.ops.mesh import rasterize_mesh


def sphere(count: int) -> Float[Tensor, "d 3"]:
    """Evenly spread unit directions (Fibonacci lattice)."""
    k = torch.arange(count) + 0.5
    y, angle = 1 - 2 * k / count, math.pi * (1 + math.sqrt(5)) * k
    ring = (1 - y * y).sqrt()
    return torch.stack([ring * angle.cos(), y, ring * angle.sin()], 1)


@dataclass(frozen=True, kw_only=True)
class Light:
    """A round soft box infinitely far away."""

    towards: tuple[float, float, float]
    """Direction to the light, world axes (x right, y down, z away from the camera)."""
    colour: tuple[float, float, float]
    """Linear RGB irradiance of a surface that faces it."""
    sharpness: float = 14.0
    """Exponent of the lobe exp(sharpness (cos - 1))."""


@dataclass(frozen=True, kw_only=True)
class Studio:
    """Lights and the ambient dome."""

    lights: tuple[Light, ...] = (
        Light(towards=(-0.62, -0.62, -0.85), colour=(1.52, 1.42, 1.30)),
        Light(towards=(0.95, -0.15, -0.65), colour=(0.30, 0.34, 0.42), sharpness=5.0),
        Light(towards=(0.75, -0.55, 0.75), colour=(1.15, 1.15, 1.22)),
    )
    above: tuple[float, float, float] = (0.40, 0.42, 0.45)
    below: tuple[float, float, float] = (0.20, 0.175, 0.16)

    def radiance(self, directions: Float[Tensor, "d 3"]) -> Float[Tensor, "d 3"]:
        """What arrives from world directions, scaled so that a cosine sum over them gives irradiance / pi.

        Each lamp is normalised over the given directions, so that its power does not flicker when they turn.
        """
        up = (0.5 - 0.5 * directions[:, 1:2]).clamp(0, 1)
        out = directions.new_tensor(self.below) * (1 - up) + directions.new_tensor(self.above) * up
        out = out * (4 / len(directions))
        for lamp in self.lights:
            towards = torch.nn.functional.normalize(directions.new_tensor(lamp.towards), dim=0)
            lobe = (lamp.sharpness * (directions @ towards - 1)).exp()
            out = out + lobe[:, None] / lobe.sum() * directions.new_tensor(lamp.colour)
        return out


def shadow_maps(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], directions: Float[Tensor, "d 3"], size: int = 192
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Depth pictures of the mesh along each direction.

    Returns:
        Depth [d size size] (infinite where empty), axes [d 3 3] (rows: right, down, along), middle [3], metres a pixel.
    """
    low, high = vertices.amin(0), vertices.amax(0)
    middle, reach = (low + high) / 2, (high - low).norm() / 2 * 1.02
    step, far = 2 * reach / size, 100.0
    depths, axes = [], []
    for towards in directions:
        helper = torch.tensor([0.0, 1, 0]) if abs(towards[1]) < 0.9 else torch.tensor([1.0, 0, 0])
        right = torch.nn.functional.normalize(torch.linalg.cross(helper, -towards), dim=0)
        frame = torch.stack([right, torch.linalg.cross(-towards, right), -towards])
        local = (vertices - middle) @ frame.T
        local[:, 2] += far
        focal = float(far / step)
        triangle, _, depth = rasterize_mesh(local, faces, (focal, focal), (size / 2, size / 2), (size, size))
        depths.append(torch.where(triangle >= 0, depth - far, torch.full_like(depth, 1e9)))
        axes.append(frame)
    return torch.stack(depths), torch.stack(axes), middle, step


def visibility(
    points: Float[Tensor, "n 3"], maps: tuple[Tensor, Tensor, Tensor, Tensor], bias: float = 0.004
) -> Float[Tensor, "n d"]:
    """How freely each point sees each direction, 0 to 1: percentage-closer filtering over 3 x 3 texels."""
    depths, axes, middle, step = maps
    size = depths.shape[-1]
    out = []
    for depth, frame in zip(depths, axes, strict=True):
        local = (points - middle) @ frame.T
        column, row = (local[:, :2] / step + size / 2).floor().long().unbind(1)
        free = torch.zeros(len(points))
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = depth[(row + dy).clamp(0, size - 1), (column + dx).clamp(0, size - 1)]
                free += ((near - local[:, 2] + bias) / bias).clamp(0, 1)
        out.append(free / 9)
    return torch.stack(out, 1)


def transfer(
    seen: Float[Tensor, "n d"], normals: Float[Tensor, "n 3"], directions: Float[Tensor, "d 3"], wrap: float
) -> Float[Tensor, "n d"]:
    """Weights that turn radiance into light reflected by white; `wrap` lets light bleed past the terminator."""
    cosine = normals @ directions.T
    return seen * ((cosine + wrap) / (1 + wrap)).clamp_min(0) ** (1 + wrap)


def irradiance_poly(directions: Float[Tensor, "d 3"], radiance: Float[Tensor, "d 3"]) -> Float[Tensor, "10 3"]:
    """Unshadowed irradiance as a quadratic in the normal (Ramamoorthi and Hanrahan 2001), fitted to the same sums."""
    samples = sphere(162)
    target = (samples @ directions.T).clamp_min(0) @ radiance
    return torch.linalg.lstsq(quadratic(samples), target).solution


def quadratic(normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 10"]:
    """1, x, y, z, xx, yy, zz, xy, xz, yz."""
    x, y, z = normals.unbind(1)
    return torch.stack([torch.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], 1)
