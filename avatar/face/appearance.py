"""What points of a surface look like over a clip, and small corrections of each frame under which they look so in all.

Additive alignment (Baker and Matthews 2004): each frame gives Gauss-Newton's equation of its own corrections, which are
then solved for together, smooth over time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from scipy.linalg import solveh_banded

from avatar.face.segments import spans
from avatar.face.solver_sequence import Banded

_DARK = 0.05
_LOGARITHM = np.log(np.arange(256, dtype=np.float32) / 255 + _DARK)
_NOISE, _HUBER = 0.02, 1.5
"""Deviation of a feature, and residuals in its units from which they count less."""
_UNSEEN = 1e-3
"""Part of the prior that counts in frames that were not looked at."""


def features(picture: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 2"]:
    """Brightness and redness, as logarithms."""
    light = _LOGARITHM[np.asarray(picture, np.uint8)]
    return np.dstack([light.mean(-1), light[..., 0] - 0.5 * (light[..., 1] + light[..., 2])])


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What the points look like over a clip; the variance is infinite where that is not known."""

    value: Float32[np.ndarray, "n 2"]
    variance: Float32[np.ndarray, "n 2"]

    @classmethod
    def of(cls, seen: Sequence[Float32[np.ndarray, "n 2"]], least: int) -> "Looks":
        """Medians over frames, nan where a point is not seen; known where `least` frames show it."""
        values = np.stack(seen)
        often = np.isfinite(values[..., 0]).sum(0) >= least
        value, variance = np.zeros(values.shape[1:], np.float32), np.full(values.shape[1:], np.inf, np.float32)
        if often.any():
            value[often] = np.nanmedian(values[:, often], 0)
            spread = 1.4826 * np.nanmedian(np.abs(values[:, often] - value[often]), 0)
            variance[often] = spread**2 + _NOISE**2
        return cls(value=value, variance=variance)

    def information(
        self, residual: Float32[np.ndarray, "n 2"], seen: Bool[np.ndarray, "n"]
    ) -> Float32[np.ndarray, "n 2"]:
        """Of what a frame shows, robust."""
        away = np.abs(residual) / np.sqrt(self.variance)
        return seen[:, None] / self.variance / np.maximum(away / _HUBER, 1)


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Of corrections."""

    deviation: Float[np.ndarray, "k"]
    smooth: float
    """Deviation of the change of a correction's change from frame to frame at 25 fps, in parts of its deviation."""

    def alone(
        self, block: Float[np.ndarray, "k k"], pull: Float[np.ndarray, "k"], x: Float[np.ndarray, "k"]
    ) -> Float[np.ndarray, "k"]:
        """A frame's correction after one step from x; `block` and `pull` are its equation there."""
        precision = self.deviation**-2
        return x - np.linalg.solve(block + np.diag(precision), pull + precision * x)

    def together(
        self,
        blocks: Float[np.ndarray, "t k k"],
        pull: Float[np.ndarray, "t k"],
        start: Float[np.ndarray, "t k"],
        time: tuple[float, Int[np.ndarray, "t"] | None],
    ) -> Float[np.ndarray, "t k"]:
        """The step of all frames from `start`, smooth within a segment; unseen ones go between their neighbours.

        Args:
            time: frames a second, and ids of the frames between cuts.
        """
        fps, segments = time
        precision = self.deviation**-2
        second = precision / self.smooth**2 * (25 / fps) ** -3
        out = np.zeros_like(start)
        for span in spans(segments, len(start)):
            prior = precision * np.where(blocks[span].any((1, 2))[:, None], 1, _UNSEEN)
            own = blocks[span] + prior[:, :, None] * np.eye(len(precision))
            system, x = Banded(blocks=own, first=np.zeros(len(precision)), second=second), start[span]
            right = -(pull[span] + prior * x + system.stiffness(x))
            out[span] = solveh_banded(system.bands(), right.reshape(-1), lower=True).reshape(x.shape)
        return out
