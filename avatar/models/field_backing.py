"""A coloured surface a little below a field's, that closes the person where no picture has told the field anything.

A film from the front asks of the side of a head only that nothing shows beside its outline, and a field learns just
that: seen from aside it has holes. Behind them this surface shows. It is drawn in pictures only, not while the field
learns.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from avatar.core import Camera, Region
from avatar.face.rig import PersonalRig
from avatar.models.gaussian_seed import observed_colour
from avatar.models.gaussian_view import Scene, View
from avatar.ops.mesh import rasterize_mesh

_PARTS = (Region.SKIN, Region.HAIR, Region.NECK, Region.TORSO)
"""Parts that are thick, and that do not open."""
_DEPTHS = (0.005, 0.008, 0.012, 0.016, 0.02)
"""Metres below the field's surface that are tried, until a vertex is inside of the person in all pictures."""
_CLEAR = 0.003
"""Metres that it must keep from the outline."""


class Backing(nn.Module):
    """The surface; without views there is none."""

    depth: Tensor
    colour: Tensor

    def __init__(self, depth: Float[Tensor, "v"], colour: Float[Tensor, "v 3"]):
        """Args: metres below the field's surface, 0 where there is no backing; sRGB."""
        super().__init__()
        self.register_buffer("depth", depth)
        self.register_buffer("colour", colour)

    @classmethod
    @torch.no_grad()
    def fit(cls, rig: PersonalRig, coat: Float[Tensor, "v"], views: Sequence[View]) -> "Backing":
        """As near to the surface as the pictures' outlines allow, in the pictures' colours."""
        depth, colour = torch.zeros(len(coat)), torch.zeros(len(coat), 3)
        if not views:
            return cls(depth, colour)
        for below in reversed(_DEPTHS):
            scenes = [Scene(rig, view, coat - below) for view in views]
            inside = torch.stack([_inside(scene) for scene in scenes]).all(0)
            depth = torch.where(inside, below, depth)
        count = len(rig.faces)
        middle, nowhere = torch.full((count, 3), 1 / 3), torch.zeros(count, dtype=torch.bool)
        seen = observed_colour(
            rig, [Scene(rig, view, coat) for view in views], torch.arange(count), middle, rim=nowhere
        )
        corner, around = rig.faces.flatten(), torch.zeros(len(coat), 1)
        colour.index_add_(0, corner, seen.repeat_interleave(3, 0))
        around.index_add_(0, corner, torch.ones(len(corner), 1))
        return cls(depth, colour / around.clamp_min(1))

    def faces(self, rig: PersonalRig) -> Int[Tensor, "f 3"]:
        """The rig's triangles that are backed."""
        parts = torch.isin(rig.regions.long(), rig.regions.new_tensor([int(part) for part in _PARTS]).long())
        return rig.faces[parts & (self.depth[rig.faces] > 0).all(1)]

    def draw(
        self, camera: Camera, vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]
    ) -> tuple[Float[Tensor, "h w 3"], Bool[Tensor, "h w"], Float[Tensor, "h w"]]:
        """Colours, where it shows, and depth.

        Args:
            vertices: in the world, already below the field's surface.
        """
        T = camera.T_camera_world.to(vertices)
        triangle, bary, depth = rasterize_mesh(
            vertices @ T[:3, :3].T + T[:3, 3], faces, camera.focal, camera.center, camera.size
        )
        shows = triangle >= 0
        colour = (self.colour[faces[triangle.clamp_min(0)]] * bary[..., None]).sum(-2)
        return colour * shows[..., None], shows, torch.where(shows, depth, 0.0)


def _inside(scene: Scene) -> Bool[Tensor, "v"]:
    """Vertices that are inside of the person's outline, and clear of it."""
    camera, points = scene.view.camera, scene.surface
    near = scene.local(points)[:, 2].clamp_min(1e-3).min()
    reach = int(_CLEAR * max(camera.focal) / float(near)) + 1
    bare = max_pool2d(1 - scene.view.alpha[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0] > 0.5
    row, column, _ = scene.pixels(points)
    return ~bare[row, column]
