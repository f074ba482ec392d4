"""A quiet studio behind the speaker: a soft gradient with a pool of light and out-of-focus shapes."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from avatar.synthetic.spec import SpeakerSpec


def paint_backdrop(spec: SpeakerSpec, size: tuple[int, int]) -> UInt8[Tensor, "h w 3"]:
    """The picture without the person.

    Args:
        size: height, width in pixels.
    """
    rng = np.random.default_rng([spec.seed, 9])
    height, width = size
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / height, indexing="ij")
    middle = width / height / 2
    base = np.asarray(spec.backdrop)
    glow = np.exp(-(((x - middle - 0.16) / 0.62) ** 2) - ((y - 0.36) / 0.58) ** 2)
    out = base * (0.62 + 0.60 * glow + 0.06 * (y - 0.5))[..., None]
    for _ in range(5):
        across, centre = rng.uniform(0.04, 0.12), rng.uniform(0, 2 * middle)
        edge = _soft(np.abs(x - centre) - across, 0.035)
        tint = np.array([0.035, 0.028, 0.012]) * rng.uniform(-0.9, 0.9)
        out = out + edge[..., None] * tint * (0.4 + 0.6 * _soft(y - rng.uniform(0.5, 0.9), 0.12))[..., None]
    for _ in range(7):
        spot = (rng.uniform(0, 2 * middle), rng.uniform(0.05, 0.75))
        radius = rng.uniform(0.025, 0.06)
        disc = _soft(np.hypot(x - spot[0], y - spot[1]) - radius, 0.012)
        out = out + disc[..., None] * np.array([0.045, 0.036, 0.022]) * rng.uniform(0.3, 1.0)
    out = out + rng.normal(0, 0.0035, (height, width, 1))
    return torch.from_numpy((np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8))


def _soft(distance: np.ndarray, width: float) -> np.ndarray:
    """1 inside (negative distance), 0 outside, blurred over `width`."""
    t = np.clip(0.5 - distance / (2 * width), 0, 1)
    return t * t * (3 - 2 * t)
