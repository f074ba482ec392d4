"""The specification of the Gaussian rasteriser in plain torch: any device, any float type, slow and obvious.

EWA splatting (Zwicker et al. 2001) as in 3D Gaussian Splatting (Kerbl et al. 2023), with these choices:
the pixel (row r, column c) is sampled at (c + 0.5, r + 0.5); 0.3 px^2 are added to the projected covariance; splats
at z <= 0.01 m are not drawn; alpha below 1/255 counts as none and is at most 0.99; splats are blended by growing z
(equal z: by index) until less than 1e-4 of the light is left, the splat that crosses this bound included. The
Jacobian of the projection is taken at |x/z|, |y/z| <= 2, so that a cropped camera draws exactly the crop.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar.ops.rotation import quat_to_matrix

LOW_PASS = 0.3
NEAR = 0.01
MIN_ALPHA = 1 / 255
MAX_ALPHA = 0.99
MIN_LIGHT = 1e-4
MAX_SLOPE = 2.0
TILE = 32


class View(NamedTuple):
    """A pinhole camera as the operators take it."""

    T_camera_world: Float[Tensor, "4 4"]
    focal: tuple[float, float]
    center: tuple[float, float]
    size: tuple[int, int]


class Projected(NamedTuple):
    """Splats in the picture, front to back; only those that can be seen."""

    index: Int[Tensor, "m"]
    """Which splat of the input this is."""
    mean: Float[Tensor, "m 2"]
    """(x, y) in pixels."""
    covariance: Float[Tensor, "m 3"]
    """xx, xy, yy in px^2."""
    determinant: Float[Tensor, "m"]
    depth: Float[Tensor, "m"]
    """Metres along the camera's z axis."""
    reach: Float[Tensor, "m 2"]
    """Half width and height in px of the box that holds alpha >= 1/255."""


def project(
    means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    view: View,
) -> Projected:
    """Project splats, drop those that draw nothing, sort the rest by depth."""
    T = view.T_camera_world.to(means)
    local = means @ T[:3, :3].T + T[:3, 3]
    z = local[:, 2]
    safe_z = torch.where(z > NEAR, z, 1.0)
    slope = local[:, :2] / safe_z[:, None]
    focal, center = means.new_tensor(view.focal), means.new_tensor(view.center)
    axes = T[:3, :3] @ quat_to_matrix(quats) * scales[:, None, :]
    bounded = slope.clamp(-MAX_SLOPE, MAX_SLOPE)
    rows = (focal / safe_z[:, None])[:, :, None] * (axes[:, :2] - bounded[:, :, None] * axes[:, 2:])
    xx, yy = rows.square().sum(-1).unbind(-1)
    xy = (rows[:, 0] * rows[:, 1]).sum(-1)
    # det(J S J^T + l I) without the cancellation of xx * yy - xy^2, which loses thin splats in float32.
    plane = torch.linalg.cross(rows[:, 0], rows[:, 1]).square().sum(-1)
    determinant = plane + LOW_PASS * (xx + yy) + LOW_PASS**2
    covariance = torch.stack([xx + LOW_PASS, xy, yy + LOW_PASS], -1)
    mean = slope * focal + center
    with torch.no_grad():
        spread = 2 * torch.log((opacities / MIN_ALPHA).clamp_min(1e-30))
        reach = (spread.clamp_min(0)[:, None] * covariance[:, ::2]).sqrt()
        keep = _visible(mean, reach, z, determinant, view.size) & (spread > 0)
        index = keep.nonzero().squeeze(-1)
        index = index[z[index].argsort(stable=True)]
    return Projected(index, mean[index], covariance[index], determinant[index], z[index], reach[index])


def _visible(mean: Tensor, reach: Tensor, z: Tensor, determinant: Tensor, size: tuple[int, int]) -> Bool[Tensor, "n"]:
    inside = ((mean + reach > 0) & (mean - reach < mean.new_tensor(size[::-1]))).all(-1)
    return (z > NEAR) & inside & (determinant < 1e30) & torch.isfinite(mean).all(-1)


def alphas(splats: Projected, opacities: Float[Tensor, "m"], pixels: Float[Tensor, "p 2"]) -> Float[Tensor, "m p"]:
    """How much of the light each splat stops at each pixel, before the bounds 1/255 and 0.99."""
    dx, dy = (pixels[None] - splats.mean[:, None]).unbind(-1)
    _, xy, yy = splats.covariance[:, :, None].unbind(1)
    distance = (yy * (dx - xy / yy * dy).square()) / splats.determinant[:, None] + dy.square() / yy
    return opacities[:, None] * torch.exp(-0.5 * distance)


def blend(alpha: Float[Tensor, "m p"], features: Float[Tensor, "m c"]) -> Float[Tensor, "p c"]:
    """Front to back "over" (Porter and Duff 1984) with the bounds of this module."""
    alpha = torch.where(alpha >= MIN_ALPHA, alpha.clamp_max(MAX_ALPHA), 0.0)
    left = torch.cumprod(torch.cat([torch.ones_like(alpha[:1]), 1 - alpha]), 0)[:-1]
    weight = torch.where(left >= MIN_LIGHT, left * alpha, 0.0)
    return weight.T @ features


def rasterize(
    means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    colours: Float[Tensor, "n c"],
    *,
    view: View,
) -> tuple[Float[Tensor, "h w c"], Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Premultiplied colour, alpha and premultiplied depth of a cloud of Gaussians; autograd does the rest."""
    height, width = view.size
    splats = project(means, quats, scales, opacities, view)
    opacities = opacities[splats.index]
    features = torch.cat([colours[splats.index], torch.ones_like(opacities[:, None]), splats.depth[:, None]], 1)
    bands = []
    for top in range(0, height, TILE):
        tiles = []
        for left in range(0, width, TILE):
            bottom, right = min(top + TILE, height), min(left + TILE, width)
            tile = _tile(splats, opacities, features, (top, left, bottom, right))
            tiles.append(tile.unflatten(0, (bottom - top, right - left)))
        bands.append(torch.cat(tiles, 1) if tiles else features.new_zeros(0, 0, features.shape[1]))
    empty = features.new_zeros(height, width, features.shape[1])
    image = torch.cat(bands) if empty.numel() else empty + 0 * features.sum()  # stays differentiable
    return image[..., :-2], image[..., -2], image[..., -1]


def _tile(
    splats: Projected, opacities: Tensor, features: Tensor, window: tuple[int, int, int, int]
) -> Float[Tensor, "p c"]:
    top, left, bottom, right = window
    low, high = splats.mean - splats.reach, splats.mean + splats.reach
    near = (high[:, 0] > left) & (low[:, 0] < right) & (high[:, 1] > top) & (low[:, 1] < bottom)
    chosen = near.nonzero().squeeze(-1)
    options = {"dtype": features.dtype, "device": features.device}
    y, x = torch.meshgrid(torch.arange(top, bottom, **options), torch.arange(left, right, **options), indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 2) + 0.5
    here = Projected(*(field[chosen] for field in splats))
    return blend(alphas(here, opacities[chosen], pixels), features[chosen])
