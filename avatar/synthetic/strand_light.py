"""Light on hair: baked diffuse transfer plus two highlights along the fibres (after Marschner et al. 2003)."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar.synthetic.body import HAIR_KNOTS, Body
from avatar.synthetic.shading import Lamps
from avatar.synthetic.spec import SpeakerSpec, linear


def _along(knots: Float[Tensor, "n q c"], points: int) -> Float[Tensor, "n k c"]:
    """Values at a strand's knots, linearly between them at each of its points."""
    place = torch.linspace(0, HAIR_KNOTS - 1, points)
    low = place.long().clamp_max(HAIR_KNOTS - 2)
    share = (place - low)[None, :, None]
    return knots[:, low] * (1 - share) + knots[:, low + 1] * share


def _both_edges(colour: Float[Tensor, "n k 3"]) -> Float[Tensor, "w 3"]:
    return colour[:, :, None].expand(-1, -1, 2, -1).reshape(-1, 3)


def hair_colours(body: Body, spec: SpeakerSpec, eye: Float[Tensor, "3"], light: Lamps) -> Float[Tensor, "w 3"]:
    """Linear colour of every ribbon vertex of the haircut."""
    hair = body.strands
    n, k = hair.half_width.shape
    lobes = (light.sharpness * (body.directions @ light.directions.T - 1)).exp()
    seen = body.hair_seen @ (lobes / lobes.sum(0))
    knots = torch.cat([body.hair_transfer @ light.radiance, seen], 1).view(n, HAIR_KNOTS, -1)
    lit, seen = _along(knots, k).split([3, len(light.directions)], 2)
    base = torch.from_numpy(linear(spec.hair)) * hair.shade[:, None, None]
    open_ = (1 - 0.62 * hair.buried.square())[..., None]
    colour = base * lit * 1.5 * open_
    ones = torch.ones(3, 1)
    view = torch.nn.functional.normalize(eye - hair.points, dim=-1)
    along, outward, lamps = body.hair_tangents, body.hair_outward, light.directions.T
    length = (2 + 2 * view @ lamps).clamp_min(1e-4).sqrt()
    straight = ((along * view) @ ones + along @ lamps) / length
    sideways = ((outward * view) @ ones + outward @ lamps) / length
    arriving = (0.35 + outward @ lamps).clamp(0, 1) * seen * open_
    for lean, sharp, strength, tinted in ((-0.10, 60.0, 0.085, False), (0.16, 14.0, 0.60, True)):
        sine = (1 - (straight + lean * sideways).square()).clamp_min(0).sqrt()
        shine = (torch.exp(sharp * (sine - 1)) * arriving) @ (strength * light.colours)
        colour = colour + (shine * base if tinted else shine)
    return _both_edges(colour)


def short_hair_colours(body: Body, spec: SpeakerSpec, light: Lamps) -> Float[Tensor, "w 3"]:
    """Brows and lashes: the hair's colour, darker."""
    ahead = torch.tensor([[0.0, -0.3, -1.0]])
    level = (torch.cat([torch.ones(1, 1), ahead.T / ahead.norm()]).T @ light.poly[:4]).clamp_min(0.1)
    tone = torch.from_numpy(linear(spec.hair))
    brows = (0.75 * tone + 0.004) * level * body.brows.shade[:, None, None]
    lashes = (0.12 * tone + 0.004) * level
    k = body.brows.half_width.shape[1]
    return torch.cat([_both_edges(brows.expand(-1, k, 3)), lashes.expand(body.lash_ribbons.half_width.numel() * 2, 3)])
