"""Where things are on a head: anchors measured on the neutral surface, in the head frame (metres)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from avatar.core import Region
from avatar.face.rig import PersonalRig
from avatar.synthetic.surface import FrontMap, front_map

STEP = 0.00025
"""Metres a pixel of the front map."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Anchors of one person's neutral face."""

    eyes: Float[Tensor, "2 3"]
    """Centres of the right and left eyeball."""
    eye_radius: float
    unit: float
    """Distance between the eyeballs' centres; other measures follow it."""
    nose: Float[Tensor, "3"]
    """The tip."""
    mouth: Float[Tensor, "3"]
    """Middle of the lips."""
    mouth_width: float
    chin: Float[Tensor, "3"]
    crown: float
    """y of the top of the skull."""
    middle: Float[Tensor, "3"]
    """Inside the skull, from where every point of the face and scalp is seen."""
    front: FrontMap
    eye_distance: Float[np.ndarray, "h w"]
    """Signed distance to the rim of the eye opening on the front map, metres, negative on the eyeball."""

    def look_up(self, field: Float[np.ndarray, "h w"], xy: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b"]:
        """A map's values at points of the frontal plane."""
        row, column = self.front.pixels(xy)
        return torch.from_numpy(field)[row, column]


def measure(rig: PersonalRig) -> Anatomy:
    """Find the anchors from the rig's regions and pivots."""
    v, faces, regions = rig.neutral, rig.faces, rig.regions
    eyes = rig.eye_pivots
    unit = float((eyes[0] - eyes[1]).norm())
    ball = v[(rig.eye_weights[:, 0] > 0.99).nonzero()[:, 0]]
    lips = v[faces[regions == Region.LIPS].unique()]
    mouth = lips.mean(0)
    level = (v[:, 1] > eyes[:, 1].mean() + 0.3 * unit) & (v[:, 1] < mouth[1]) & (v[:, 0].abs() < 0.2 * unit)
    level &= rig.eye_weights.sum(1) < 0.5
    nose = v[level][v[level][:, 2].argmin()]
    skull = v[rig.skin[:, 0] > 0.99]
    low = skull[(skull[:, 0].abs() < 0.2 * unit) & (skull[:, 2] < mouth[2] + 0.5 * unit)]
    chin = low[low[:, 1].argmax()]
    crown = float(skull[:, 1].min())
    middle = torch.tensor(
        [0.0, float(eyes[:, 1].mean()) - 0.1 * unit, float(skull[:, 2].amin() + skull[:, 2].amax()) / 2]
    )
    reach = 1.9 * unit
    box = (-reach, crown - 0.01, reach, float(chin[1]) + 0.03)
    front = front_map(v, faces, box, STEP)
    seen = torch.where(front.triangle >= 0, regions[front.triangle.clamp_min(0)], 0).numpy()
    return Anatomy(
        eyes=eyes,
        eye_radius=float((ball - eyes[0]).norm(dim=1).median()),
        unit=unit,
        nose=nose,
        mouth=torch.tensor([0.0, float(mouth[1]), float(lips[:, 2].min())]),
        mouth_width=float(lips[:, 0].max() - lips[:, 0].min()),
        chin=chin,
        crown=crown,
        middle=middle,
        front=front,
        eye_distance=_signed(seen == Region.EYES),
    )


def _signed(inside: np.ndarray) -> np.ndarray:
    away = np.asarray(distance_transform_edt(~inside)) - np.asarray(distance_transform_edt(inside))
    return (away * STEP).astype(np.float32)
