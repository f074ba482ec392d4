"""How far hair and clothes stand off the rig: a thickness for each vertex, read where the outline of the person passes
over it and spread smoothly to where no outline tells.

Without it the hair and collar of a head that was filmed from the front lie some centimetres too far back: nothing of
that shows in the pictures that it was made from, and all of it in a picture from the side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from avatar.core import Region
from avatar.face.rig import PersonalRig
from avatar.models.gaussian_view import Scene


@dataclass(frozen=True, kw_only=True)
class _Cover:
    """What may cover a part of the rig."""

    shows: tuple[Region, ...]
    """Labels of pixels at its outline."""
    bare: tuple[Region, ...] = ()
    """Labels of pixels where nothing covers it."""
    range: tuple[float, float]
    """Metres."""
    pull: float = 1e-6
    """Weight of the way back to the rig where no outline is near."""


_LOWEST, _HIGHEST, _STEP = -0.02, 0.08, 0.002
"""Metres over the rig that are searched for the outline."""
_CLOTH = (-0.01, 0.02)
"""Shoulders far outside of the rig's say that it is too narrow, not that a shirt stands off the chest by as much."""
_COVERS = {
    # Hair gets thinner towards the nape.
    Region.HAIR: _Cover(shows=(Region.HAIR,), bare=(Region.SKIN,), range=(0.0, _HIGHEST), pull=4e-3),
    Region.TORSO: _Cover(shows=(Region.TORSO,), range=_CLOTH),
    # Last: it leads from collar to chin and does not hold the clothes back.
    Region.NECK: _Cover(
        shows=(Region.NECK, Region.TORSO), bare=(Region.NECK, Region.SKIN), range=_CLOTH, pull=0.1
    ),
}  # fmt: skip
_STIFF = 0.5
"""Weight of an edge's difference; a vertex that is seen right at the outline once has weight 1."""
_RIM, _SIDEWAYS = 0.25, 0.6
"""Cosine to the view below which a vertex lies at the outline, and below which the outline bounds what covers it."""
_AGREE = 3
"""Views that must agree on a bound, since mattes err."""
_BEHIND = 0.012
"""Metres behind the nearest surface at which a vertex still is at the outline."""


@torch.no_grad()
def coat(scenes: Sequence[Scene]) -> Float[Tensor, "v"]:
    """Metres along the normal by which hair or cloth stands off each vertex of the rig; 0 on the face, at the
    hairline and at the nape."""
    rig = scenes[0].rig
    out = torch.zeros(len(rig.neutral))
    fixed = _of(rig, (Region.SKIN, Region.EARS)) | (_of(rig, (Region.HAIR,)) & _of(rig, (Region.NECK,)))
    for part, cover in _COVERS.items():
        vertices = rig.faces[rig.regions == part].unique()
        seen = [_Outline(scene, vertices, cover) for scene in scenes]
        told, total, bound = out.new_zeros(len(out)), out.new_zeros(len(out)), out.new_full((len(out),), _HIGHEST)
        told[vertices] = torch.stack([o.weight + o.bare for o in seen]).sum(0)
        total[vertices] = torch.stack([o.weight * o.height for o in seen]).sum(0)
        bound[vertices] = torch.stack([o.bound for o in seen]).kthvalue(min(_AGREE, len(seen)), dim=0).values
        free = _of(rig, (part,)) & ~fixed
        spread = _spread(rig.faces[rig.regions == part], (total, told + cover.pull), free, out)
        out = torch.where(free, torch.minimum(spread, bound).clamp(*cover.range), out)
        fixed |= free
    return out


class _Outline:
    """Where the outline of the person in one view passes over some vertices."""

    def __init__(self, scene: Scene, vertices: Int[Tensor, "m"], cover: _Cover):
        view, at, normal = scene.view, scene.surface[vertices], scene.normals[vertices]
        ray = normalize(view.camera.T_world_camera[:3, 3] - at, dim=-1)
        facing = (normal * ray).sum(-1)
        # Straight away from the rig in the picture: across the ray, not along a normal that looks towards the camera.
        away = normalize(normal - facing[:, None] * ray, dim=-1)
        steps = torch.arange(_LOWEST, _HIGHEST, _STEP)
        row, column, inside = scene.pixels((at[:, None] + steps[:, None] * away[:, None]).flatten(0, 1))
        covered = (view.alpha[row, column] > 0.5).view(len(vertices), len(steps))
        fits = _among(view.labels[row, column], cover.shows).view_as(covered)
        end = covered.long().cumprod(1).sum(1)
        ends = (end < len(steps)) & _at(inside.view_as(covered), end)
        front = scene.local(at)[:, 2] < scene.depth_at(at) + _BEHIND
        told = ends & (end > 0) & _at(fits, end - 1) & front
        self.height: Float[Tensor, "m"] = _LOWEST + (end - 0.5) * _STEP
        self.weight: Float[Tensor, "m"] = told * (1 - facing.abs() / _RIM).clamp_min(0)
        """How much the height tells: 0 where no outline passes, 1 right at the rim."""
        reach = self.height / (1 - facing.square()).clamp_min(1e-6).sqrt()
        self.bound: Float[Tensor, "m"] = torch.where(ends & (facing.abs() < _SIDEWAYS), reach, _HIGHEST)
        """What stood off more would be seen beside the person."""
        row, column, inside = scene.pixels(at)
        self.bare: Bool[Tensor, "m"] = (
            _among(view.labels[row, column], cover.bare) & inside & front & (facing > _RIM)
        )  # fmt: skip
        """Vertices that are seen uncovered."""


def _spread(
    faces: Int[Tensor, "f 3"],
    told: tuple[Float[Tensor, "v"], Float[Tensor, "v"]],
    free: Bool[Tensor, "v"],
    known: Float[Tensor, "v"],
) -> Float[Tensor, "v"]:
    """The heights of least squares between observations and neighbours (a membrane).

    Args:
        told: sum of the observed heights times their weights, and sum of the weights.
        free: vertices that are asked for; the others stay as `known`.
    """
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import spsolve

    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = torch.cat([sides, sides.flip(1)]).unique(dim=0).numpy()
    joined = coo_matrix((np.full(len(pairs), _STIFF), pairs.T), shape=(len(known), len(known))).tocsr()
    total, weight = (x.double().numpy() for x in told)
    system = (diags(np.asarray(joined.sum(1))[:, 0] + weight) - joined).tocsc()
    out, rows = known.double().numpy() * ~free.numpy(), np.flatnonzero(free.numpy())
    if len(rows):
        out[rows] = spsolve(system[rows][:, rows], (total - system @ out)[rows])
    return torch.from_numpy(out).to(known)


def _at(table: Bool[Tensor, "m s"], index: Int[Tensor, "m"]) -> Bool[Tensor, "m"]:
    return table.gather(1, index.clamp(0, table.shape[1] - 1)[:, None])[:, 0]


def _among(labels: Tensor, regions: Sequence[Region]) -> Tensor:
    return torch.isin(labels.long(), torch.tensor([int(r) for r in regions], dtype=torch.long))


def _of(rig: PersonalRig, parts: tuple[Region, ...]) -> Bool[Tensor, "v"]:
    """Vertices of triangles of these parts."""
    out = torch.zeros(len(rig.neutral), dtype=torch.bool)
    out[rig.faces[_among(rig.regions, parts)].flatten()] = True
    return out
