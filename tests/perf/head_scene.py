"""A cloud of Gaussians with the depth complexity of a head: shell of the head, shell of the torso, some inside."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from avatar.ops.rasterize import rasterize

Splats = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def head_scene(splats: int, dtype: torch.dtype = torch.float32) -> Splats:
    """Means, quats, scales, opacities and colours; the camera looks along +z, the head is 0.6 m away."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    direction = torch.nn.functional.normalize(normal(splats, 3), dim=-1)
    head = direction * torch.tensor([0.075, 0.11, 0.095])
    torso = direction * torch.tensor([0.20, 0.12, 0.10]) + torch.tensor([0.0, 0.23, 0.03])
    inside = head * torch.rand(splats, 1, generator=generator, dtype=torch.float64)
    kind = torch.arange(splats)[:, None] % 10
    means = torch.where(kind < 6, head, torch.where(kind < 9, torso, inside)) + torch.tensor([0.0, -0.05, 0.6])
    # Neighbours overlap, whatever their number: the head has about 0.1 m^2, the torso more with half as many splats.
    spacing = math.sqrt(0.1 / max(splats, 1)) * torch.where((kind >= 6) & (kind < 9), 2.0, 1.0)
    scales = 0.7 * spacing * torch.exp(0.4 * normal(splats, 3))
    opacities = torch.sigmoid(normal(splats) * 1.5 + 1)
    colours = torch.rand(splats, 3, generator=generator, dtype=torch.float64)
    parts = (means, normal(splats, 4), scales, opacities, colours)
    means, quats, scales, opacities, colours = (part.to(dtype) for part in parts)
    return means, quats, scales, opacities, colours


def view_of_head(size: int) -> dict[str, Any]:
    """Camera arguments of `ops.rasterize.rasterize` for a square picture that the head fills."""
    center = (size / 2, size / 2)
    return {"T_camera_world": torch.eye(4), "focal": (1.7 * size,) * 2, "center": center, "size": (size, size)}


def draw(splats: Sequence[Tensor], view: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Colour, alpha and depth."""
    means, quats, scales, opacities, colours = splats
    return rasterize(means, quats, scales, opacities, colours, **view)
