"""Colours of single pixels: skin, eyes, mouth, cloth. Everything in linear light and in the head frame."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar.synthetic.light import Studio, quadratic
from avatar.synthetic.skin import BUMP
from avatar.synthetic.spec import SpeakerSpec, linear

_HALF = 1.0 / 255
Sharps = tuple[tuple[float, float], ...]
_DECODE = (torch.arange(256) / 255.0) ** 2.2
"""Texture byte to linear albedo."""
IRIS, PUPIL = np.radians(21.5), np.radians(8.2)
"""Angles from the eye's axis to the edge of iris and pupil."""


@dataclass(frozen=True, kw_only=True)
class Lamps:
    """The studio's lights as seen from the turning head."""

    directions: Float[Tensor, "l 3"]
    colours: Float[Tensor, "l 3"]
    sharpness: Float[Tensor, "l"]
    radiance: Float[Tensor, "d 3"]
    """Of the fixed directions in the head frame."""
    poly: Float[Tensor, "10 3"]
    """Unshadowed irradiance of a normal, see `light.quadratic`."""


def lamps(studio: Studio, rotation: Float[Tensor, "3 3"], directions: Float[Tensor, "d 3"], fit: Tensor) -> Lamps:
    """Args: `rotation` turns head axes to world axes; `fit` maps radiance to the quadratic [10 d]."""
    towards = torch.nn.functional.normalize(torch.tensor([lamp.towards for lamp in studio.lights]), dim=1)
    radiance = studio.radiance(directions @ rotation.T)
    return Lamps(
        directions=towards @ rotation,
        colours=torch.tensor([lamp.colour for lamp in studio.lights]),
        sharpness=torch.tensor([lamp.sharpness for lamp in studio.lights]),
        radiance=radiance,
        poly=fit @ radiance,
    )


def unit(vectors: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Vectors of length one."""
    return vectors * (vectors.square() @ vectors.new_ones(3, 1)).clamp_min_(1e-12).rsqrt_()


def gloss_light(
    normal: Float[Tensor, "n 3"], view: Float[Tensor, "n 3"], seen: Float[Tensor, "n l"], light: Lamps, sharps: Sharps
) -> Float[Tensor, "n 3"]:
    """Highlights of all lamps: Gaussian lobes about the half vector with Schlick's Fresnel term.

    With unit vectors the half vector itself is not needed: |v + l|^2 = 2 + 2 v.l.

    Args:
        seen: how much of each lamp arrives.
        sharps: (sharpness, strength) of each lobe.
    """
    facing_lamp, view_lamp = normal @ light.directions.T, view @ light.directions.T
    facing_view = (normal * view) @ normal.new_ones(3, 1)
    length = (2 + 2 * view_lamp).clamp_min(1e-4).sqrt()
    off = (facing_view + facing_lamp) / length - 1
    slope = 1 - length / 2
    fresnel = (0.035 + 0.965 * slope.square().square() * slope) * seen * (facing_lamp > -0.1)
    lobes = torch.zeros_like(off)
    for sharp, strength in sharps:
        lobes += strength * torch.exp(sharp * off)
    return (fresnel * lobes) @ light.colours


def shade_skin(
    texel: Tensor, lit: tuple[Tensor, Tensor], normal: Tensor, view: Tensor, light: Lamps
) -> Float[Tensor, "n 3"]:
    """Skin under soft light with two glossy layers.

    Args:
        texel: uint8 [n 8] of `skin.SkinTexture`.
        lit: reflected light of a white surface [n 3], and how much of each lamp arrives [n l].
    """
    light_here, seen = lit
    albedo = _DECODE[texel[:, :3].int()]
    normal = unit(normal)
    fine = unit(torch.add(normal, texel[:, 3:6], alpha=2 * BUMP / 255) - BUMP)
    tilt = torch.addmv(torch.ones(len(fine)), fine - normal, light.directions[0], alpha=0.75)
    gloss = texel[:, 6:7] * _HALF
    shine = gloss_light(fine, view, seen, light, ((26.0, 1.5), (110.0, 1.2)))
    return torch.addcmul(albedo * light_here * tilt[:, None], shine, gloss)


@dataclass(frozen=True, kw_only=True)
class EyePaint:
    """Iris pattern on a grid of (angle around, angle from the axis)."""

    iris: Float[Tensor, "r a 3"]

    @staticmethod
    def make(spec: SpeakerSpec, rows: int = 48, columns: int = 256) -> "EyePaint":
        """Radial fibres, a lighter ring around the pupil and a dark rim."""
        rng = np.random.default_rng([spec.seed, 8])
        around = np.fft.rfft(rng.standard_normal((3, columns)))
        band = np.arange(around.shape[1])
        pattern = np.zeros(columns)
        for noise, middle, width, amount in zip(around, (14, 34, 70), (10, 18, 26), (0.30, 0.40, 0.25), strict=True):
            fibres = np.fft.irfft(noise * np.exp(-(((band - middle) / width) ** 2)), columns)
            pattern += amount * fibres / fibres.std()
        r = np.linspace(0, 1, rows)[:, None]
        streak = 1 + 0.34 * pattern[None] * np.sin(np.pi * np.clip(r, 0.02, 1)) ** 0.5
        ring = np.exp(-(((r - 0.42) / 0.13) ** 2))
        rim = 1 - 0.80 * np.clip((r - 0.78) / 0.22, 0, 1) ** 1.5
        base = linear(spec.iris)[None, None] * (streak * rim * (0.9 + 0.55 * ring))[..., None]
        warm = np.array([0.20, 0.10, 0.03]) * (ring * (0.6 + 0.4 * pattern[None]))[..., None]
        return EyePaint(iris=torch.from_numpy(np.clip(base + 0.25 * warm, 0.002, 1)).float())

    def shade(self, local: Tensor, normal: Tensor, view: Tensor, closed: Tensor, light: Lamps) -> Float[Tensor, "n 3"]:
        """Args: `local` unit direction in the eyeball's own frame; `closed` how open the surroundings are, 0 to 1."""
        local, normal = unit(local), unit(normal)
        angle = torch.acos((-local[:, 2]).clamp(-1, 1))
        around = torch.atan2(local[:, 1], local[:, 0])
        rho = angle / IRIS
        rows, columns = self.iris.shape[:2]
        row = (rho * rows).long().clamp(0, rows - 1)
        column = ((around / (2 * np.pi) + 0.5) * columns).long() % columns
        inside = ((1.03 - rho) / 0.09).clamp(0, 1)[:, None]
        pupil = ((angle - PUPIL) / 0.03).clamp(0, 1)[:, None]
        # Light that enters the cornea gathers on the far side of the iris.
        far = 1 - 0.55 * (local[:, :2] @ light.directions[0, :2])[:, None] / IRIS
        iris = self.iris[row, column] * pupil * far.clamp(0.45, 1.7)
        corner = (local[:, 0].abs() - 0.25).clamp(0, 0.5)[:, None]
        white = torch.tensor([0.86, 0.82, 0.79]) * (1 - corner * torch.tensor([0.35, 0.85, 0.85]))
        flat = quadratic(unit(normal + 0.5 * view)) @ light.poly
        dim = (0.22 + 0.78 * closed)[:, None]
        out = (white * (1 - inside) + iris * 1.35 * inside) * flat.clamp_min(0) * dim
        bent = unit(normal + 0.8 * (normal - view) * inside)
        # The soft box mirrored in the cornea.
        window = ((bent * unit(1.5 * view + light.directions[0])).sum(1, keepdim=True) - 0.990) / 0.004
        return out + (1.6 * window.clamp(0, 1) * (0.25 + 0.75 * inside) + 0.012) * closed[:, None]


_INSIDE = torch.tensor([[0.13, 0.028, 0.026], [0.86, 0.81, 0.72], [0.30, 0.085, 0.08]])
"""Albedo of cavity, teeth and tongue."""
_TEETH = (0.0, 0.0086, 0.0152, 0.0226, 0.0295, 0.0365, 0.0460)
"""Metres along the row of teeth from the middle to each gap."""


_GUM = 0.0098
"""Metres from the biting edge to the gum."""


def tooth_shade(place: Float[Tensor, "n 2"]) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """Brightness and gum (0 or 1, soft) of the teeth: dark gaps, rounded sides, arches of gum.

    Args:
        place: metres along the row from the middle, and from the biting edge.
    """
    away = place[:, 0].abs()
    edges = away.new_tensor(_TEETH)
    after = torch.bucketize(away, edges).clamp(1, len(_TEETH) - 1)
    low, high = edges[after - 1], edges[after]
    inside = ((away - low) / (high - low)).clamp(0, 1)
    gap = torch.minimum(away - low, high - away).clamp_min(0)
    round_ = torch.sin(torch.pi * inside)
    gum = ((place[:, 1] - _GUM - 0.0016 * round_) / 0.0008 + 0.5).clamp(0, 1)
    shade = (0.80 + 0.20 * round_) * (0.66 + 0.34 * (gap / 0.0005).clamp(0, 1))
    return (shade * (1 - gum) + 0.9 * gum)[:, None], gum[:, None]


def shade_mouth(
    kind: Tensor, surface: tuple[Tensor, Tensor, Tensor], view: Tensor, closed: Tensor, light: Lamps
) -> Float[Tensor, "n 3"]:
    """Cavity, teeth and tongue: the deeper behind the lips, the darker.

    Args:
        surface: normals [n 3], depth behind the lips [n] and place on the teeth [n 2], metres.
    """
    normal, depth, place = surface
    which = (kind.long() - 2).clamp(0, 2)
    normal = unit(normal)
    behind = (normal * view).sum(1, keepdim=True) < 0
    normal = normal * torch.where(behind, -1.0, 1.0)
    fade = torch.exp(-(depth - 0.008).clamp_min(0) / torch.tensor([0.010, 0.013, 0.014])[which])
    shade, gum = tooth_shade(place)
    tooth = which[:, None] == 1
    albedo = _INSIDE[which] * torch.where(tooth, shade, 1.0)
    albedo = albedo + tooth * gum * (torch.tensor([0.42, 0.15, 0.14]) - albedo)
    lit = (quadratic(unit(normal + 0.8 * view)) @ light.poly).clamp_min(0) * 0.95
    floor = torch.tensor([0.03, 0.50, 0.08])[which]
    dim = (fade * (floor + (1 - floor) * (closed * 1.5).clamp_max(1)))[:, None] * torch.where(behind, 0.4, 1.0)
    shine = gloss_light(normal, view, dim.expand(-1, len(light.directions)), light, ((90.0, 1.6),))
    return albedo * lit * dim + shine * torch.tensor([0.4, 1.0, 0.8])[which][:, None]


def openness(
    mask: Tensor, rows: Int[Tensor, "n"], columns: Int[Tensor, "n"], radius: int, drop: float
) -> Float[Tensor, "n"]:
    """Share of the neighbourhood that belongs to the same opening: dark at its rim, more so below the upper one.

    Args:
        mask: bool [h w], the pixels of the opening.
        drop: how far above the pixel the neighbourhood's middle lies, in radii.
    """
    if not len(rows):
        return torch.zeros(0)
    pad = 3 * radius + 1
    top, left = max(int(rows.min()) - pad, 0), max(int(columns.min()) - pad, 0)
    part = mask[top : int(rows.max()) + pad, left : int(columns.max()) + pad].float()[None, None]
    for _ in range(2):
        part = torch.nn.functional.avg_pool2d(part, (2 * radius + 1, 1), 1, (radius, 0), count_include_pad=False)
        part = torch.nn.functional.avg_pool2d(part, (1, 2 * radius + 1), 1, (0, radius), count_include_pad=False)
    lifted = (rows - top - round(drop * radius)).clamp(0, part.shape[2] - 1)
    return part[0, 0, lifted, columns - left]


def tone_curve(size: int = 4096, white: float = 3.2) -> tuple[Tensor, float]:
    """Table from sqrt(linear / white) to sRGB bytes with a gentle shoulder; and `white`."""
    x = torch.linspace(0, 1, size).square() * white
    mapped = x * (1 + x / (2.6 * 2.6)) / (1 + 0.62 * x) * 1.12
    mapped = mapped.clamp(0, 1)
    coded = torch.where(mapped <= 0.0031308, mapped * 12.92, 1.055 * mapped.clamp_min(1e-8) ** (1 / 2.4) - 0.055)
    return (coded * 255 + 0.5).clamp(0, 255).to(torch.uint8), white
