"""How the detector errs in this clip: each point by itself, or whole parts of the face together.

A face detector's errors agree between neighbouring points, so that many points are worth few; points of another
origin (drawn, marked by hand, averaged) may err independently. The residual of a fit tells which it is.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from avatar.face.solver import Observed, PointModel, State, project

USUAL = 0.1
"""Part of the information of a detector's points that counts, as its errors agree between neighbours."""
_NEIGHBOURS, _TOGETHER = 6, 13.0
"""A correlation c between neighbours makes 1 + 13 c points worth one: 0.67, as seen on films, gives the usual tenth."""
_TELLING, _SURE = 0.2, 0.6
"""Information up to which points count as a detector's, and from which on they err independently."""
_EXACT, _LEAST = 0.2, 0.001
"""Residuals below this part of what is usual (films: 0.32 to 0.65) are the fit's own; least deviation."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Independent errors, as far as they are."""

    information: float
    """Part of each point's information that counts, in (0, 1]."""
    sigma: Float[np.ndarray, "l"]
    """Deviation of each point, in eye distances."""

    @property
    def independence(self) -> float:
        """0 for points that err together, as a detector's do, 1 for points that err by themselves."""
        return float(np.clip((self.information - _TELLING) / (_SURE - _TELLING), 0, 1))

    @property
    def focal_freedom(self) -> float:
        """How much wider than usual the prior of the focal length may be: what errs together bends perspective."""
        return self.information / USUAL

    def differs(self, other: "Noise") -> bool:
        """Whether solving again with this one is worth it."""
        return not 0.75 < self.information / other.information < 1.33


def measure(model: PointModel, state: State, observed: Observed, focal: float, usual: Noise) -> Noise:
    """The noise that a fit's residual shows.

    Args:
        usual: what is assumed of a detector; the more the errors agree the more of it stays.
    """
    residual = project(model, state, focal, observed.unit_px).uv - observed.points
    seen = observed.weight.sum(1) > 0
    residual = residual[seen] - np.median(residual[seen], 0)
    if len(residual) < 4:
        return usual
    apart = np.linalg.norm(model.points[:, None] - model.points[None], axis=-1)
    near = apart.argsort(1)[:, 1 : _NEIGHBOURS + 1]
    limit = 6 * np.median(np.abs(residual)) + 1e-9
    residual = np.clip(residual, -limit, limit)
    power = (residual**2).sum(-1).mean(0)
    with_near = (residual[:, :, None] * residual[:, near]).sum(-1).mean(0)
    scale = np.sqrt(power[:, None] * power[near]) + 1e-18
    correlation = max(float(np.median((with_near / scale).mean(1))), 0.0)
    own = np.maximum(1.4826 * np.median(np.abs(residual), axis=(0, 2)), _LEAST)
    is_exact = np.median(own / usual.sigma) < _EXACT
    information = 1.0 if is_exact else 1 / (1 + _TOGETHER * correlation)
    if information < _TELLING:
        return usual
    found = Noise(information=information, sigma=own)
    sigma = np.exp((1 - found.independence) * np.log(usual.sigma) + found.independence * np.log(own))
    return Noise(information=information, sigma=sigma)
