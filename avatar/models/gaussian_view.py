"""Training pictures as seeding sees them: the rig posed and drawn into each, so that one can ask what shows where."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from avatar.core import Camera, MotionFrame
from avatar.face.rig import PersonalRig
from avatar.ops.gaussians import triangle_frames
from avatar.ops.mesh import rasterize_mesh

SOLID = 0.97
"""Coverage through which no background shines."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A training picture with everything known about it."""

    rgb: Float[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"]
    labels: UInt8[Tensor, "h w"]
    """A `Region` for each pixel."""
    camera: Camera
    motion: MotionFrame


class Scene:
    """A view with its rig posed and drawn."""

    def __init__(self, rig: PersonalRig, view: View, coat: Float[Tensor, "v"] | None = None):
        """Args: `coat` in metres, how far hair and clothes stand off the rig along its normals."""
        self.rig, self.view = rig, view
        base = rig.posed(view.motion)
        self.seat, self.rotation, _ = triangle_frames(base, rig.faces)
        """Origin and axes of the triangles, which splats are bound to."""
        self.normals = vertex_normals(base, rig.faces)
        self.surface = base if coat is None else base + coat[:, None] * self.normals
        """What the camera sees: the rig with its coat."""
        self.origin, outer, _ = triangle_frames(self.surface, rig.faces)
        to_camera = torch.nn.functional.normalize(view.camera.T_world_camera[:3, 3] - self.origin, dim=-1)
        self.facing: Float[Tensor, "f"] = (outer[..., 2] * to_camera).sum(-1)
        """Cosine between the triangle's normal and the way to the camera."""
        c = view.camera
        self.triangle, _, self.depth = rasterize_mesh(self.local(self.surface), rig.faces, c.focal, c.center, c.size)

    def local(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """World points in the camera's frame."""
        T = self.view.camera.T_camera_world
        return points @ T[:3, :3].T + T[:3, 3]

    @property
    def shown(self) -> Bool[Tensor, "f"]:
        """Triangles that are seen in at least one pixel."""
        out = torch.zeros(len(self.rig.faces), dtype=torch.bool)
        out[self.triangle[self.triangle >= 0]] = True
        return out

    def depth_at(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n"]:
        """Depth of the surface that is drawn where the points are seen, infinite where none is."""
        row, column, _ = self.pixels(points)
        return torch.where(self.triangle[row, column] >= 0, self.depth[row, column], torch.inf)

    def pixels(self, points: Float[Tensor, "n 3"]) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"], Bool[Tensor, "n"]]:
        """Row, column (clamped into the picture) of world points, and whether they were inside."""
        xy = self.view.camera.project(points)
        h, w = self.view.camera.size
        column, row = xy[:, 0].floor().long(), xy[:, 1].floor().long()
        inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        return row.clamp(0, h - 1), column.clamp(0, w - 1), inside


def vertex_normals(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "v 3"]:
    """Unit normals, weighted by the triangles' areas."""
    a, b, c = vertices[faces].unbind(1)
    out = torch.zeros_like(vertices)
    out.index_add_(0, faces.flatten(), torch.linalg.cross(b - a, c - a).repeat_interleave(3, 0))
    return torch.nn.functional.normalize(out, dim=1)


def nearest(known: Float[Tensor, "m d"], asked: Float[Tensor, "n d"]) -> Int[Tensor, "n"]:
    """Index of the nearest known point."""
    from scipy.spatial import cKDTree

    return torch.from_numpy(cKDTree(known.numpy()).query(asked.numpy())[1].astype(np.int64))


def grown(mask: Bool[Tensor, "h w"], width: int) -> Bool[Tensor, "h w"]:
    """Pixels with one of the mask in the square of `width` (odd) about them."""
    return torch.nn.functional.max_pool2d(mask[None, None].float(), width, 1, width // 2)[0, 0] > 0.5
