"""How the lids follow the eyeballs: gaze angles to the eight eyeLook actions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from avatar.face.arkit import INDEX

FULL_LOOK = math.radians(32)
"""Turn of an eyeball (radians) at which its eyeLook action is 1."""

LOOK_NAMES: tuple[str, ...] = tuple(
    f"eyeLook{where}{side}" for side in ("Right", "Left") for where in ("In", "Out", "Down", "Up")
)
LOOK_INDEX: tuple[int, ...] = tuple(INDEX[name] for name in LOOK_NAMES)


def look_actions(gaze: Float[Tensor, "*b 2 2"]) -> Float[Tensor, "*b 8"]:
    """The eyeLook coefficients, in the order of LOOK_NAMES, that belong to gaze angles (radians, `core.motion`)."""
    yaw, pitch = gaze.unbind(-1)
    inward = yaw * yaw.new_tensor([1.0, -1.0])
    parts = torch.stack([inward, -inward, pitch, -pitch], -1)
    return (parts / FULL_LOOK).clamp(0, 1).flatten(-2)


def with_looks(expression: Float[Tensor, "*b 52"], gaze: Float[Tensor, "*b 2 2"]) -> Float[Tensor, "*b 52"]:
    """The same expression with the lids following the gaze."""
    out = expression.clone()
    out[..., list(LOOK_INDEX)] = look_actions(gaze)
    return out


def turned_gaze(gaze: Float[Tensor, "*b 2 2"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "*b 2 2"]:
    """The same directions of looking in a head frame that `rotation` takes the old one's vectors to."""
    yaw, pitch = gaze.unbind(-1)
    ahead = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), -yaw.cos() * pitch.cos()], -1) @ rotation.T
    return torch.stack([torch.atan2(ahead[..., 0], -ahead[..., 2]), ahead[..., 1].clamp(-1, 1).asin()], -1)
