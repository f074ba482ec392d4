"""Is this film good enough, in numbers, and what to film again where it is not."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from avatar.face.arkit import NAMES
from avatar.media import Workspace
from avatar.preprocess.series import REGIONS, Series, closures, light, peaks

_LOOKED_AT = 48
"""Frames in which sharpness and light are measured."""
_FACE = 128
"""Height in pixels to which a face is scaled for that."""
_BOX_DEG = 12.0
"""Side of a box of head poses: the poses of a clip are counted in such boxes."""
_USED = 0.15
"""An action whose range is larger than this was shown."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Numbers of a prepared clip."""

    seconds: float
    face_found: float
    """Share of the frames with a usable face."""
    face_px: float
    """Median height of the face, forehead to chin, in working pixels."""
    sharpness: float
    """Strength of the finest details of the face against its contrast; about 0.02 is blurred, 0.1 crisp."""
    reprojection: float
    """Mean distance of the posed rig's points from the detector's, in fractions of the eyes' distance."""
    reprojection_regions: dict[str, float]
    """The same of each part of the face."""
    jitter_deg: float | None
    """Root mean square of the head's second difference while it keeps still, degrees; None if that is not a second."""
    yaw_deg: tuple[float, float]
    """5th and 95th percentile of the head's turn; + is to the person's left."""
    pitch_deg: tuple[float, float]
    """The same of its nod; + is down."""
    poses: int
    """Boxes of 12 degrees of yaw and pitch that the head was in for 0.2 s or more."""
    actions: int
    """Of the 52 ARKit actions, how many were shown (a range above 0.15)."""
    blinks: int
    closures: int
    """Times that the lips met after having been apart."""
    mouth_opening: float
    """Range (5th to 95th percentile) of the lips' gap in fractions of the eyes' distance."""
    light_change: float
    """Range (5th to 95th percentile) of the face's lightness over its middle."""
    cuts: tuple[float, ...]
    """Seconds."""
    left_out: int
    """Frames of other shots, which have no weight."""
    covered: int
    """Frames in which something hides the face; they have no weight."""
    turned_away: int
    """Frames in which the head is turned too far to be read well; they have less weight."""
    background_seen: float
    """Share of the background plate that was uncovered at some time."""
    sound: str
    """voice, silent or none."""
    audio_delay_seconds: float
    """By how much the sound was moved to meet the lips."""
    audio_delay_confidence: float


def measure(workspace: Workspace, series: Series, shots: Sequence[dict[str, Any]], covered: int) -> dict[str, Any]:
    """All numbers of `Quality`, and "warnings" with what to do.

    Args:
        shots: first, end and why of each shot, as in shots.json.
        covered: frames in which something hides the face.
    """
    used = np.flatnonzero(series.used)
    points = series.seen_px[used]
    looked_at = used[np.unique(np.linspace(0, len(used) - 1, _LOOKED_AT).astype(int))]
    pictures = [workspace.frame(int(index)) for index in looked_at]
    lightness = light(pictures, series.seen_px[looked_at])
    gap, shake = series.seen_gap[used], series.shake_deg[series.still]
    audio, parse = _facts(workspace, "audio"), _facts(workspace, "parse")
    quality = Quality(
        seconds=round(len(workspace) / workspace.fps, 2),
        face_found=round(len(used) / len(workspace), 4),
        face_px=round(float(np.median(np.linalg.norm(points[:, 10] - points[:, 152], axis=-1))), 1),
        sharpness=round(_sharpness(pictures, series.seen_px[looked_at]), 4),
        reprojection=_mean(series.error[used]),
        reprojection_regions={name: _mean(series.error[used][:, region]) for name, region in REGIONS.items()},
        jitter_deg=round(float(np.sqrt(np.mean(shake**2))), 4) if len(shake) >= workspace.fps else None,
        yaw_deg=_range(series.turn_deg[used, 0]),
        pitch_deg=_range(series.turn_deg[used, 1]),
        poses=int((pose_boxes(series) >= 0.2 * workspace.fps).sum()),
        actions=int((_ranges(series.expression[used]) > _USED).sum()),
        blinks=len(blinks(series)),
        closures=len(lip_closures(series)),
        mouth_opening=round(float(np.quantile(gap, 0.95) - np.quantile(gap, 0.05)), 4),
        light_change=round(float(np.ptp(np.nanquantile(lightness, [0.05, 0.95])) / np.nanmedian(lightness)), 4),
        cuts=tuple(round(shot["first"] / workspace.fps, 2) for shot in shots[1:]),
        left_out=sum(shot["end"] - shot["first"] for shot in shots if shot["why"]),
        covered=covered,
        turned_away=int(((series.confidence < 0.99) & series.used & (np.abs(series.turn_deg[:, 0]) > 40)).sum()),
        background_seen=float(parse.get("plate_seen", 0.0)),
        sound=str(audio.get("sound", "none")),
        audio_delay_seconds=float(audio.get("delay_seconds", 0.0)),
        audio_delay_confidence=float(audio.get("delay_confidence", 0.0)),
    )
    return {**asdict(quality), "warnings": warnings_of(quality)}


def blinks(series: Series) -> list[int]:
    """The frame in which the lids are most closed in each blink: above 0.5 after having been below 0.3."""
    return peaks(np.where(series.used, series.blink.mean(1), 0.0), 0.5, 0.3)


def lip_closures(series: Series) -> list[int]:
    """The frames in which the lips meet."""
    return closures(np.where(series.used, series.drawn_gap, np.inf))


def pose_boxes(series: Series) -> Float[np.ndarray, "p y"]:
    """Frames in each box of pitch (up to down) and yaw (right to left of the person), from -42 to 42 and -66 to 66."""
    counts = np.zeros((7, 11))
    place = np.floor(series.turn_deg[series.used][:, [1, 0]] / _BOX_DEG + 0.5).astype(int) + np.array([3, 5])
    place = place[((place >= 0) & (place < counts.shape)).all(1)]
    np.add.at(counts, (place[:, 0], place[:, 1]), 1)
    return counts


def shown_actions(series: Series) -> dict[str, float]:
    """Range (1st to 99th percentile) of each action, largest first."""
    ranges = _ranges(series.expression[series.used])
    return {NAMES[i]: float(ranges[i]) for i in np.argsort(-ranges)}


def _ranges(expression: Float[np.ndarray, "t 52"]) -> Float[np.ndarray, "52"]:
    return np.ptp(np.quantile(expression, [0.01, 0.99], axis=0), axis=0)


def _facts(workspace: Workspace, stage: str) -> dict[str, Any]:
    record = workspace.record(stage)
    return {} if record is None else record.facts


def _mean(error: np.ndarray) -> float:
    """0 where none of the points is the rig's."""
    return round(float(error[np.isfinite(error)].mean()), 5) if np.isfinite(error).any() else 0.0


def _range(degrees: np.ndarray) -> tuple[float, float]:
    return round(float(np.quantile(degrees, 0.05)), 1), round(float(np.quantile(degrees, 0.95)), 1)


def _sharpness(pictures: Sequence[UInt8[np.ndarray, "h w 3"]], landmarks_px: Float[np.ndarray, "n 478 2"]) -> float:
    """Median over frames of the Laplacian's deviation over the picture's, in the face scaled to one size."""
    import cv2

    values = []
    for picture, points in zip(pictures, landmarks_px, strict=True):
        (left, top), (right, bottom) = points.min(0).clip(0).astype(int), points.max(0).astype(int)
        face = picture[top:bottom, left:right]
        if min(face.shape[:2]) < 8:
            continue
        gray = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
        size = (max(round(gray.shape[1] * _FACE / gray.shape[0]), 8), _FACE)
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        values.append(float(cv2.Laplacian(gray, cv2.CV_32F).std() / 8 / max(float(gray.std()), 1.0)))
    return float(np.median(values)) if values else 0.0


def warnings_of(quality: Quality) -> list[str]:
    """One sentence for each weakness: what was found and what to film again."""
    turn, blink_seconds = quality.yaw_deg[1] - quality.yaw_deg[0], 20
    rules = [
        (quality.seconds < 15, f"the film has {quality.seconds:.0f} s; 30 s or more make a better avatar"),
        (
            quality.face_found < 0.9,
            f"the face is usable in {quality.face_found:.0%} of the frames; keep it uncovered and inside the picture",
        ),
        (
            quality.left_out > 0,
            f"{quality.left_out} frames of other shots are left out; film in one go, without cuts or zoom, alone",
        ),
        (
            quality.covered > 0,
            f"something covers the face in {quality.covered} frames; keep hands, cups and microphones away from it",
        ),
        (
            quality.light_change > 0.25,
            f"the light on the face changes by {quality.light_change:.0%}; lock the exposure, use steady lamps",
        ),
        (
            quality.face_px < 160,
            f"the face is {quality.face_px:.0f} px high; go closer to the camera until it fills half of the height",
        ),
        (
            quality.sharpness < 0.02,
            f"the face is blurred (sharpness {quality.sharpness:.3f}); focus on the eyes, use more light",
        ),
        (
            quality.reprojection > 0.03,
            f"the head is followed with {quality.reprojection:.1%} error; film without cuts, steady camera, even light",
        ),
        (
            turn < 12,
            f"the head turns by {turn:.0f} degrees only; look left and right while talking, and turn "
            "once slowly with head and shoulders, for views from the side",
        ),
        (
            quality.blinks == 0 and quality.seconds > blink_seconds,
            "no blink was seen; the avatar's closed eyes are a guess; blink now and then",
        ),
        (
            quality.closures == 0 and quality.seconds > blink_seconds and quality.mouth_opening >= 0.03,
            "the lips never meet; say words with m, b and p, and close the mouth in pauses",
        ),
        (
            quality.jitter_deg is not None and quality.jitter_deg > 0.3,
            f"the head's path trembles by {quality.jitter_deg or 0:.2f} degrees; use more light and a steady camera",
        ),
        (
            quality.mouth_opening < 0.03,
            f"the mouth hardly opens (range {quality.mouth_opening:.3f}); speak clearly, with wide vowels",
        ),
    ]
    return [sentence for applies, sentence in rules if applies]
