"""The raw state of bound splats, and what is assumed of the parts of a person before any picture is seen."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar.core import Region


@dataclass(frozen=True, kw_only=True)
class Splats:
    """Rest state of bound splats, raw parameters; lengths in metres, frames are those of the rest pose's triangles."""

    triangle: Int[Tensor, "n"]
    bary: Float[Tensor, "n 3"]
    offset: Float[Tensor, "n 3"]
    quats: Float[Tensor, "n 4"]
    log_scales: Float[Tensor, "n 3"]
    raw_opacity: Float[Tensor, "n"]
    raw_colour: Float[Tensor, "n 3"]
    reach: Float[Tensor, "n"]
    """How far the offset may grow before upkeep pulls it back."""
    shown: Float[Tensor, "n"]
    """How well pictures show it: 1 from the front, less at a grazing angle, 0 on the side that no picture shows."""

    def padded(self, count: int) -> "Splats":
        """Up to `count` splats by invisible ones, which upkeep brings to life where they are needed."""
        index = torch.arange(count) % max(len(self.triangle), 1)
        out = {f.name: getattr(self, f.name)[index].clone() for f in fields(self)}
        out["raw_opacity"][len(self.triangle) :] = -10.0
        return Splats(**out)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Defaults of one region."""

    density: float
    """Splats a square metre, relative to plain skin."""
    reach: float
    """Metres."""
    colour: tuple[float, float, float]
    """sRGB where no view shows the part."""


_SKIN = (0.75, 0.58, 0.5)
PARTS = {
    Region.BACKGROUND: Part(density=0.3, reach=0.01, colour=_SKIN),
    Region.SKIN: Part(density=1.0, reach=0.006, colour=_SKIN),
    Region.BROWS: Part(density=2.5, reach=0.006, colour=(0.35, 0.25, 0.2)),
    Region.EYES: Part(density=6.0, reach=0.003, colour=(0.6, 0.55, 0.5)),
    Region.NOSE: Part(density=1.5, reach=0.005, colour=_SKIN),
    Region.LIPS: Part(density=5.0, reach=0.004, colour=(0.65, 0.35, 0.35)),
    Region.MOUTH: Part(density=1.5, reach=0.01, colour=(0.25, 0.1, 0.1)),
    Region.HAIR: Part(density=0.8, reach=0.03, colour=(0.25, 0.2, 0.17)),
    Region.EARS: Part(density=1.5, reach=0.01, colour=_SKIN),
    Region.NECK: Part(density=0.7, reach=0.02, colour=_SKIN),
    Region.TORSO: Part(density=0.5, reach=0.05, colour=(0.4, 0.4, 0.45)),
}
