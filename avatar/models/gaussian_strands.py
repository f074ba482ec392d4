"""Colours of hair that no picture shows: to a camera in front, of most of the scalp.

One colour for all of it looks like a cap. Here locks run down from the crown, each in a tone of the hair that is seen:
a procedural texture of lattice noise (Perlin 1985).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from avatar.core import Region
from avatar.models.gaussian_view import SOLID, Scene

_VIEWS, _LEAST = 4, 200
"""Views whose hair is looked at, and pixels of it that are needed."""
_TONES, _FROM, _TO, _WINDOW = 32, 0.08, 0.80, 0.05
"""Tones; quantiles of the darkest and the lightest (the lightest pixels are highlights and fringes of the background),
and the quantiles to both sides of which a tone is the median."""
_RADIUS = 0.08
"""Of a scalp in metres: turns about it are lengths."""
_LOCKS = ((0.0057, 0.0, 0.45), (0.0027, 0.1, 0.35))
"""Width of locks in metres, how far they lean (across by down), and their part in the tone."""
_SINGLE = 0.25
"""The part of each splat by itself."""
_SHADE = 0.10
"""Rise of the tone from the middle of the scalp to a height of 10 cm: light comes from above."""
_LATTICE = 4096


def palette(scenes: Sequence[Scene]) -> Float[Tensor, "k 3"] | None:
    """Tones of the hair that is seen, from dark to light; None if hardly any is."""
    masks = [(s.view.labels == Region.HAIR) & (s.view.alpha > SOLID) for s in scenes[:_VIEWS]]
    pixels = torch.cat([s.view.rgb[mask] for s, mask in zip(scenes, masks, strict=False)] or [torch.zeros(0, 3)])
    if len(pixels) <= _LEAST:
        return None
    pixels, count = pixels[pixels.mean(1).argsort()], len(pixels)
    middles = torch.linspace(_FROM, _TO, _TONES)
    parts = [pixels[round(float(count * (t - _WINDOW))) : round(float(count * (t + _WINDOW))) + 1] for t in middles]
    return torch.stack([part.median(0).values for part in parts])


def strands(
    points: Float[Tensor, "n 3"], tones: Float[Tensor, "k 3"], crown: Float[Tensor, "3"]
) -> Float[Tensor, "n 3"]:
    """The colour of each point of the scalp.

    Args:
        points: metres, head frame.
        tones: from `palette`.
        crown: middle of the scalp.
    """
    across, down, back = (points - crown).unbind(1)
    turn = torch.atan2(across, back)
    noise = torch.Generator().manual_seed(0)
    tone = 0.5 - _SHADE * (down / 0.1).clamp(-1, 1)
    for width, lean, part in _LOCKS:
        way = (turn + lean * down / _RADIUS) * _RADIUS / width + _LATTICE / 2
        tone += part * (_lattice_noise(way, torch.rand(_LATTICE, generator=noise)) - 0.5)
    tone += _SINGLE * (torch.rand(len(points), generator=noise) - 0.5)
    at = tone.clamp(0, 1) * (len(tones) - 1)
    low = at.floor().long().clamp_max(len(tones) - 2)
    return torch.lerp(tones[low], tones[low + 1], (at - low)[:, None])


def _lattice_noise(way: Float[Tensor, "n"], values: Float[Tensor, "m"]) -> Float[Tensor, "n"]:
    """Values at whole numbers, smooth in between."""
    low = way.floor()
    part = way - low
    index = low.long() % len(values)
    return torch.lerp(values[index], values[(index + 1) % len(values)], part * part * (3 - 2 * part))
