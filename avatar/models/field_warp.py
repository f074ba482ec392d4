"""What motion shifts besides what the rig says: a smooth displacement of the surface, linear in the motion's code.

It and the corrections of the tracked pose learn from how the drawn picture would change if its surface moved
(`slid`), not from how the field changes along its axes: the features of a hash grid jump from cell to cell, and what
they say of where a point should go is mostly noise.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatar.face.rig import PersonalRig

_UNIT = 0.01
"""Metres that one unit of the basis moves."""
_NEAR = 1e-3
"""Weights below this are left out."""


class Warp(nn.Module):
    """Displacements of the vertices, blended from those of a few nodes that lie evenly on the surface."""

    weights: Tensor

    def __init__(self, rig: PersonalRig, nodes: int, code: int):
        """Args: how many nodes, and numbers of the motion's code."""
        super().__init__()
        at = rig.neutral[_spread(rig.neutral, nodes)]
        distance = torch.cdist(rig.neutral, at)
        # A node reaches as far as to its neighbours, so nothing bends between them.
        reach = torch.cdist(at, at).topk(min(2, nodes), largest=False).values[:, -1].mean().clamp_min(1e-3)
        weights = torch.exp(-0.5 * (distance / reach).square())
        weights = weights * (weights > _NEAR)
        weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-9)
        self.register_buffer("weights", weights, persistent=False)
        self.basis = nn.Parameter(torch.zeros(nodes, 3, code))

    def forward(self, code: Float[Tensor, "k"]) -> Float[Tensor, "v 3"]:
        """Metres, in the axes of the head."""
        return _UNIT * (self.weights @ (self.basis @ code))


def _spread(points: Float[Tensor, "v 3"], count: int) -> Int[Tensor, "n"]:
    """Points that lie far from each other, the farthest from all before first."""
    chosen = [int((points - points.mean(0)).norm(dim=1).argmin())]
    distance = (points - points[chosen[0]]).norm(dim=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)


def slid(picture: Float[Tensor, "h w c"], flow: Float[Tensor, "h w 2"]) -> Float[Tensor, "h w c"]:
    """The same picture, with a gradient to where its parts are (Lucas and Kanade 1981).

    Args:
        flow: column and row of what each pixel shows, less the same numbers without their gradient.
    """
    still = picture.detach()
    padded = torch.cat([still[:1], still, still[-1:]])
    down = (padded[2:] - padded[:-2]) / 2
    padded = torch.cat([still[:, :1], still, still[:, -1:]], 1)
    right = (padded[:, 2:] - padded[:, :-2]) / 2
    return picture - right * flow[..., :1] - down * flow[..., 1:]
