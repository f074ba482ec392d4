"""What one person's lids and lips look like to the detector, and what they really do.

MediaPipe's mesh never reports a closed eye (its opening changes by 0.6 of the truth and keeps a floor) and leaves a
gap between closed lips. The openings of a clip tell where open and closed lie for this person; lids and lips are
then moved so that closed is closed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import median_filter

UPPER_LIDS: Int[np.ndarray, "2 7"] = np.array(
    [[246, 161, 160, 159, 158, 157, 173], [466, 388, 387, 386, 385, 384, 398]]
)
"""Points of the right and left upper lid, outer to inner."""
LOWER_LIDS: Int[np.ndarray, "2 7"] = np.array([[7, 163, 144, 145, 153, 154, 155], [249, 390, 373, 374, 380, 381, 382]])
"""Each below its upper one."""
CORNERS: Int[np.ndarray, "2 2"] = np.array([[33, 133], [263, 362]])
"""Outer and inner corner of the right and left eye."""
IRISES: Int[np.ndarray, "2"] = np.array([468, 473])
"""Centres of the right and left iris."""
UPPER_INNER: Int[np.ndarray, "9"] = np.array([191, 80, 81, 82, 13, 312, 311, 310, 415])
LOWER_INNER: Int[np.ndarray, "9"] = np.array([95, 88, 178, 87, 14, 317, 402, 318, 324])
"""Inner edges of the lips, each below its upper one."""
OUTER_LIPS: Int[np.ndarray, "20"] = np.array(
    [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 146, 91, 181, 84, 17, 314, 405, 321, 375]
)
BROWS: Int[np.ndarray, "20"] = np.array(
    [46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336]
)

_FOREHEAD, _CHIN = 10, 152
_OPEN, _CLOSED_PART, _EYEBALL = 0.7, 0.35, 0.14
"""The radius of an eyeball is in eye distances."""
_LIPS_CLOSED, _LIPS_BIAS = 0.05, 0.025
_ARCH: Float[np.ndarray, "9"] = np.array([0.35, 0.65, 0.9, 1, 1, 1, 0.9, 0.65, 0.35])
"""How far a mouth is open across, in parts of its middle."""
_FEW, _AGREE = 5, 0.5
"""Frames that are needed, and how well picture and detector must agree (correlation) for the picture to be believed."""
_SHUT, _PARTED, _WIDE = 0.01, 0.03, 0.12
"""Gaps (eye distances) at which the detector says that lips are about closed; from and to where it is a measure."""
_APART = 0.02
"""Gap up to which lips may touch."""
_SCALE = (0.7, 1.3)
_DOUBT, _SURE = 0.01, 0.025
"""What the picture sees more than the detector counts not at all up to the first, wholly from the second on."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What calibration needs to know of the head in each frame."""

    up_px: Float[np.ndarray, "t 2"]
    """Direction of the head's vertical in the picture, unit length."""
    unit_px: Float[np.ndarray, "t"]
    """Distance of the outer eye corners, were the head not turned."""
    good: Bool[np.ndarray, "t"]
    """Where the face was seen."""
    fps: float
    seen: Bool[np.ndarray, "478"] | None = None
    """Points that the detector tells; None is all."""
    dark: Float[np.ndarray, "t"] | None = None
    """Of `mouth_picture.dark_between_lips`; negative where the frame does not tell, None is no picture."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Landmarks whose lids and lips close."""

    landmarks_px: Float[np.ndarray, "t 478 2"]
    blink: Float[np.ndarray, "t 2"]
    """How far the right and left eye are closed, in [0, 1], beyond what looking down does."""
    opening: Float[np.ndarray, "2"]
    """Gap of the open right and left eye, in eye distances."""
    lip_bias: float
    """Gap reported between closed lips, in eye distances."""
    touch: Float[np.ndarray, "t"]
    """How surely the lips touch, in [0, 1]: detector and picture both say so."""


def calibrate(landmarks_px: Float[np.ndarray, "t 478 2"], frames: Frames, lid_follow: float) -> Calibrated:
    """Measure lids and lips over a clip and move the landmarks.

    Args:
        lid_follow: part of the opening that closes when the eye looks down by a radian.
    """
    out = landmarks_px.astype(np.float64, copy=True)
    good, unit_px = frames.good, frames.unit_px
    blink, opening = np.zeros((len(out), 2)), np.zeros(2)
    for side in (0, 1):
        upper, lower = out[:, UPPER_LIDS[side]], out[:, LOWER_LIDS[side]]
        gap = lid_gap(out, side, frames.seen) / unit_px
        down = _down(out, side, frames)
        opened = gap / np.maximum(1 - lid_follow * down, 0.4)
        opening[side] = np.quantile(opened[good], _OPEN)
        least = np.quantile(gap[good], min(2 / good.sum(), 1.0))
        closed = float(np.clip(least, 0.1 * opening[side], _CLOSED_PART * opening[side]))
        expected = np.maximum(opening[side] * np.maximum(1 - lid_follow * down, 0.4), closed + 1e-6)
        blink[:, side] = np.clip((expected - gap) / (expected - closed), 0, 1)
        blink[:, side] *= np.clip(blink[:, side] / 0.12, 0, 1)  # what is small is noise of an open eye
        wanted = np.where(gap < expected, (1 - blink[:, side]) * expected, gap)
        ratio = wanted / np.maximum(gap, 1e-6)
        out[:, UPPER_LIDS[side]] = lower + ratio[:, None, None] * (upper - lower)
    bias = _close_lips(out, unit_px, good)
    touch = _open_lips(out, frames)
    return Calibrated(landmarks_px=out.astype(np.float32), blink=blink, opening=opening, lip_bias=bias, touch=touch)


def lid_gap(
    landmarks: Float[np.ndarray, "t 478 2"], side: int, seen: Bool[np.ndarray, "478"] | None = None
) -> Float[np.ndarray, "t"]:
    """Mean distance of the middle of the upper lid to that of the lower, in the landmarks' unit, of points `seen`."""
    upper, lower = UPPER_LIDS[side, 2:5], LOWER_LIDS[side, 2:5]
    both = np.ones(3, bool) if seen is None else seen[upper] & seen[lower]
    both = both if both.any() else np.ones(3, bool)
    return np.linalg.norm(landmarks[:, upper[both]] - landmarks[:, lower[both]], axis=-1).mean(-1)


def lip_gap(landmarks: Float[np.ndarray, "t 478 2"]) -> Float[np.ndarray, "t"]:
    """Mean opening of the middle of the inner lips, in the landmarks' unit; 0 where a mesh's pressed lips overlap."""
    down = landmarks[:, _CHIN] - landmarks[:, _FOREHEAD]
    down = down / np.maximum(np.linalg.norm(down, axis=-1, keepdims=True), 1e-9)
    apart = landmarks[:, LOWER_INNER[3:6]] - landmarks[:, UPPER_INNER[3:6]]
    return np.maximum((apart * down[:, None]).sum(-1).mean(-1), 0)


def _down(landmarks: np.ndarray, side: int, frames: Frames) -> Float[np.ndarray, "t"]:
    """How far the eye looks below its usual direction (radians, not below 0), steady through blinks."""
    outer, inner = landmarks[:, CORNERS[side, 0]], landmarks[:, CORNERS[side, 1]]
    drop = -((landmarks[:, IRISES[side]] - (outer + inner) / 2) * frames.up_px).sum(-1) / frames.unit_px
    drop = median_filter(drop, size=2 * round(0.18 * frames.fps) + 1, mode="nearest")
    return np.clip((drop - np.median(drop[frames.good])) / _EYEBALL, 0, 0.6)


def _close_lips(landmarks: np.ndarray, unit_px: np.ndarray, good: np.ndarray) -> float:
    """Take away the gap that remains between closed lips, half from each; returns the middle's, in eye distances."""
    upper, lower = landmarks[:, UPPER_INNER], landmarks[:, LOWER_INNER]
    apart = upper - lower
    gap = np.linalg.norm(apart, axis=-1) / unit_px[:, None]
    floor = np.quantile(gap[good], _LIPS_CLOSED, axis=0)
    floor = np.minimum(floor, _LIPS_BIAS)
    ratio = np.maximum(gap - floor, 0) / np.maximum(gap, 1e-6)
    shift = apart * (1 - ratio)[..., None] / 2
    landmarks[:, UPPER_INNER] = upper - shift
    landmarks[:, LOWER_INNER] = lower + shift
    return float(floor[3:6].mean())


def _open_lips(landmarks: np.ndarray, frames: Frames) -> Float[np.ndarray, "t"]:
    """Part the lips that are seen open and that the detector holds for closed, each by half; returns which touch."""
    gap = lip_gap(landmarks) / frames.unit_px
    if frames.dark is None or not (frames.seen is None or frames.seen[[*UPPER_INNER, *LOWER_INNER]].all()):
        return np.zeros(len(gap))
    dark = np.where(frames.good, frames.dark, -1)
    more = more_open(dark, gap) * frames.unit_px
    shift = 0.5 * more[:, None, None] * _ARCH[:, None] * frames.up_px[:, None]
    landmarks[:, UPPER_INNER] += shift
    landmarks[:, LOWER_INNER] -= shift
    return touching(dark, gap)


def more_open(dark: Float[np.ndarray, "t"], gap: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """What the picture shows of the mouth's opening beyond the detector's `gap`, not below 0; all in eye distances.

    How much is dark between this person's closed lips, and how the dark grows, is taken from the clip itself.

    Args:
        dark: of `mouth_picture.dark_between_lips`; negative where it is not known or the frame does not count.
    """
    seen = _seen_opening(dark, gap)
    if seen is None:
        return np.zeros(len(gap))
    more = np.clip(seen - gap, 0, None)
    believed = np.clip((more - _DOUBT) / (_SURE - _DOUBT), 0, 1)
    return more * believed * np.clip((2 * _PARTED - gap) / _PARTED, 0, 1)


def touching(dark: Float[np.ndarray, "t"], gap: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """How surely lips touch, in [0, 1]: detector and picture both see no opening; arguments as of `more_open`."""
    seen = _seen_opening(dark, gap)
    if seen is None:
        return np.zeros(len(gap))
    largest = np.maximum(seen, gap)
    return (dark >= 0) * np.clip((_APART - largest) / (_APART - _SHUT), 0, 1)


def _seen_opening(dark: Float[np.ndarray, "t"], gap: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"] | None:
    """The opening that the picture shows; None where picture and detector disagree or too little is known."""
    known = dark >= 0
    shut, parted = known & (gap < _SHUT), known & (gap > _PARTED) & (gap < _WIDE)
    told = known & (gap < _WIDE)
    if shut.sum() < _FEW or parted.sum() < _FEW or np.ptp(dark[told]) < 1e-6:
        return None
    if np.corrcoef(dark[told], gap[told])[0, 1] < _AGREE:
        return None
    line = float(np.quantile(dark[shut], 0.25))
    scale = float(np.clip(np.median(gap[parted] / np.maximum(dark[parted] - line, 1e-3)), *_SCALE))
    return scale * (dark - line)
