"""Many thin strands drawn as ribbons that face the camera."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Ribbons:
    """Triangles of `n` strands with `k` points each; two vertices a point."""

    faces: Int[Tensor, "f 3"]
    half_width: Float[Tensor, "n k"]
    """Metres."""

    def vertices(self, points: Float[Tensor, "n k 3"], eye: Float[Tensor, "3"]) -> Float[Tensor, "w 3"]:
        """Both edges of every ribbon, seen from a camera at `eye` (same frame as `points`); w = 2 n k."""
        side = torch.linalg.cross(tangents(points), points - eye)
        side = side * (self.half_width / side.norm(dim=-1).clamp_min(1e-9))[..., None]
        return torch.stack([points - side, points + side], 2).flatten(0, 2)


def make_ribbons(half_width: Float[Tensor, "n k"]) -> Ribbons:
    """Index the triangles of strands of equal point count."""
    n, k = half_width.shape
    start = (torch.arange(n)[:, None] * k + torch.arange(k - 1)) * 2
    a, b, c, d = start, start + 1, start + 2, start + 3
    faces = torch.stack([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)], 2).reshape(-1, 3)
    return Ribbons(faces=faces, half_width=half_width)


def tangents(points: Float[Tensor, "n k 3"]) -> Float[Tensor, "n k 3"]:
    """Unit directions along the strands."""
    along = torch.empty_like(points)
    along[:, 1:-1] = points[:, 2:] - points[:, :-2]
    along[:, 0] = points[:, 1] - points[:, 0]
    along[:, -1] = points[:, -1] - points[:, -2]
    return torch.nn.functional.normalize(along, dim=-1)
