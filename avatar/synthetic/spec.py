"""What a synthetic person looks like: a few numbers, all of them reproducible from a seed."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Colour = tuple[float, float, float]
"""sRGB in [0, 1]."""

HairStyle = Literal["swept", "short", "bob"]


_IDENTITY = (
    -0.84,
    1.42,
    -1.60,
    -0.11,
    -0.81,
    -1.08,
    -0.52,
    1.20,
    -0.23,
    -0.44,
    0.14,
    0.86,
    0.68,
    0.30,
    0.46,
    1.02,
    -1.03,
    -1.44,
    -0.02,
    -1.11,
    0.72,
    -0.65,
    -0.07,
    0.23,
    -1.28,
)


@dataclass(frozen=True, kw_only=True)
class SpeakerSpec:
    """One person. The default is chosen by hand; `random_spec` draws others."""

    seed: int = 0
    """Of everything random on the person: pores, freckles, strands, cloth."""
    identity: tuple[float, ...] = _IDENTITY
    """First coefficients of the rig's identity basis in standard deviations; the rest are 0."""
    skin: Colour = (0.86, 0.655, 0.545)
    blush: float = 1.0
    freckles: float = 0.35
    stubble: float = 0.0
    lips: Colour = (0.70, 0.36, 0.345)
    iris: Colour = (0.30, 0.42, 0.40)
    hair: Colour = (0.235, 0.135, 0.075)
    hair_style: HairStyle = "swept"
    brow_weight: float = 1.0
    cloth: Colour = (0.13, 0.29, 0.36)
    collar: Colour = (0.86, 0.85, 0.82)
    backdrop: Colour = (0.44, 0.47, 0.50)


_SKINS = ((0.90, 0.72, 0.62), (0.86, 0.655, 0.545), (0.76, 0.55, 0.42), (0.60, 0.41, 0.30), (0.42, 0.28, 0.205))
_HAIRS = ((0.10, 0.075, 0.06), (0.235, 0.135, 0.075), (0.36, 0.23, 0.13), (0.60, 0.44, 0.25), (0.42, 0.17, 0.08))
_IRISES = ((0.30, 0.42, 0.40), (0.28, 0.42, 0.58), (0.36, 0.24, 0.13), (0.24, 0.15, 0.09), (0.36, 0.38, 0.22))
_CLOTHS = ((0.13, 0.29, 0.36), (0.45, 0.16, 0.15), (0.20, 0.22, 0.27), (0.28, 0.33, 0.22), (0.55, 0.47, 0.36))
_STYLES: tuple[HairStyle, ...] = ("swept", "short", "bob")


def random_spec(seed: int, identity_size: int = 60, spread: float = 0.8) -> SpeakerSpec:
    """Another person: face shape, skin, hair and clothes drawn independently.

    Args:
        spread: standard deviation of the identity coefficients, in units of the population's.
    """
    rng = np.random.default_rng([seed, 7])

    def near(palette: tuple[Colour, ...], index: int) -> Colour:
        shade = np.asarray(palette[index]) * rng.uniform(0.92, 1.06)
        return tuple(float(c) for c in np.clip(shade + rng.normal(0, 0.02, 3) * shade.mean(), 0.02, 0.96))  # type: ignore[return-value]

    tone = int(rng.integers(len(_SKINS)))
    dark = tone >= 3
    return SpeakerSpec(
        seed=seed,
        identity=tuple(float(x) for x in np.clip(rng.normal(0, spread, identity_size), -2, 2)),
        skin=near(_SKINS, tone),
        blush=float(rng.uniform(0.5, 1.3)),
        freckles=float(rng.uniform(0, 1) ** 2) * (0.2 if dark else 1.0),
        stubble=float(rng.choice([0.0, 0.0, 0.35, 0.7])),
        lips=near(((0.70, 0.36, 0.345), (0.52, 0.27, 0.25)), int(dark)),
        iris=near(_IRISES, int(rng.integers(2, 4)) if dark else int(rng.integers(len(_IRISES)))),
        hair=near(_HAIRS, int(rng.integers(2)) if dark else int(rng.integers(len(_HAIRS)))),
        hair_style=_STYLES[int(rng.integers(len(_STYLES)))],
        brow_weight=float(rng.uniform(0.7, 1.3)),
        cloth=near(_CLOTHS, int(rng.integers(len(_CLOTHS)))),
        backdrop=near(((0.44, 0.47, 0.50), (0.50, 0.46, 0.42), (0.36, 0.40, 0.38)), int(rng.integers(3))),
    )


def linear(colour: Colour) -> np.ndarray:
    """sRGB to linear light, float32 [3]."""
    c = np.asarray(colour, np.float32)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)
