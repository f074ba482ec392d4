"""A cloud of 3-D Gaussians in world space."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Gaussians:
    """Anisotropic Gaussians (Kerbl et al. 2023), raw parameters."""

    means: Float[Tensor, "n 3"]
    """Metres."""
    quats: Float[Tensor, "n 4"]
    """wxyz, any length but zero."""
    log_scales: Float[Tensor, "n 3"]
    """Natural logarithm of the standard deviations in metres."""
    raw_opacity: Float[Tensor, "n"]
    """Before the sigmoid."""
    colour: Float[Tensor, "n c"]
    """sRGB in [0, 1] for c = 3, or any feature."""

    def __post_init__(self) -> None:
        counts = {len(self.means), len(self.quats), len(self.log_scales), len(self.raw_opacity), len(self.colour)}
        if len(counts) != 1:
            raise ValueError(f"Gaussians' fields have different lengths: {sorted(counts)}")

    def __len__(self) -> int:
        return len(self.means)
