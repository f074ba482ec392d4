"""Is this film good enough, in numbers, and what to film again where it is not."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from avatar.core import FaceTrack
from avatar.face.arkit import INDEX
from avatar.face.rig import AbstractRig, PersonalRig
from avatar.media import Workspace

_LOOKED_AT = 24
"""Frames in which sharpness is measured."""
_FACE = 128
"""Height in pixels to which a face is scaled for that."""


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
    yaw_deg: tuple[float, float]
    """5th and 95th percentile of the head's turn; + is to the person's left."""
    pitch_deg: tuple[float, float]
    """The same of its nod; + is down."""
    blinks: int
    mouth_opening: float
    """Range (5th to 95th percentile) of the lips' gap in fractions of the eyes' distance."""
    background_seen: float
    """Share of the background plate that was uncovered at some time."""
    sound: str
    """voice, silent or none."""
    audio_delay_seconds: float
    """By how much the sound was moved to meet the lips."""
    audio_delay_confidence: float


def measure(workspace: Workspace, track: FaceTrack, rig: PersonalRig, family: AbstractRig) -> dict[str, Any]:
    """All numbers of `Quality`, and "warnings" with what to do.

    Args:
        family: the kind of head that `rig` belongs to; it knows where landmarks lie.
    """
    used = np.flatnonzero(track.confidence.numpy() > 0)
    points = track.landmarks_px.numpy()[used]
    eyes = np.linalg.norm(points[:, 33] - points[:, 263], axis=-1).clip(1e-3)
    gap = np.linalg.norm(points[:, 13] - points[:, 14], axis=-1) / eyes
    lids = track.motion.expression[used][:, [INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]].mean(1)
    yaw, pitch = _angles(track.motion.T_world_head.numpy()[used])
    audio, parse = _facts(workspace, "audio"), _facts(workspace, "parse")
    quality = Quality(
        seconds=round(len(workspace) / workspace.fps, 2),
        face_found=round(len(used) / len(workspace), 4),
        face_px=round(float(np.median(np.linalg.norm(points[:, 10] - points[:, 152], axis=-1))), 1),
        sharpness=round(_sharpness(workspace, used, track.landmarks_px.numpy()), 4),
        reprojection=round(_reprojection(track, rig, family, used), 4),
        yaw_deg=_range(yaw),
        pitch_deg=_range(pitch),
        blinks=count_blinks(lids.numpy()),
        mouth_opening=round(float(np.quantile(gap, 0.95) - np.quantile(gap, 0.05)), 4),
        background_seen=float(parse.get("plate_seen", 0.0)),
        sound=str(audio.get("sound", "none")),
        audio_delay_seconds=float(audio.get("delay_seconds", 0.0)),
        audio_delay_confidence=float(audio.get("delay_confidence", 0.0)),
    )
    return {**asdict(quality), "warnings": warnings_of(quality)}


def _facts(workspace: Workspace, stage: str) -> dict[str, Any]:
    record = workspace.record(stage)
    return {} if record is None else record.facts


def _range(degrees: np.ndarray) -> tuple[float, float]:
    return round(float(np.quantile(degrees, 0.05)), 1), round(float(np.quantile(degrees, 0.95)), 1)


def _angles(T_world_head: Float[np.ndarray, "t 4 4"]) -> tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t"]]:
    """Yaw and pitch in degrees of the direction that the face looks to; 0 is towards the camera."""
    ahead = -T_world_head[:, :3, 2]
    yaw = np.degrees(np.arctan2(ahead[:, 0], -ahead[:, 2]))
    return yaw, np.degrees(np.arcsin(ahead[:, 1].clip(-1, 1)))


def _sharpness(workspace: Workspace, used: np.ndarray, landmarks_px: np.ndarray) -> float:
    """Median over frames of the Laplacian's deviation over the picture's, in the face scaled to one size."""
    import cv2

    values = []
    for index in used[np.unique(np.linspace(0, len(used) - 1, _LOOKED_AT).astype(int))]:
        low, high = landmarks_px[index].min(0), landmarks_px[index].max(0)
        (left, top), (right, bottom) = low.clip(0).astype(int), high.astype(int)
        face = workspace.frame(int(index))[top:bottom, left:right]
        if min(face.shape[:2]) < 8:
            continue
        gray = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
        size = (max(round(gray.shape[1] * _FACE / gray.shape[0]), 8), _FACE)
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        values.append(float(cv2.Laplacian(gray, cv2.CV_32F).std() / 8 / max(float(gray.std()), 1.0)))
    return float(np.median(values)) if values else 0.0


def _reprojection(track: FaceTrack, rig: PersonalRig, family: AbstractRig, used: np.ndarray) -> float:
    table = family.landmarks
    errors = []
    for index in used[:: max(len(used) // 200, 1)]:
        seen = track.landmarks_px[index]
        drawn = track.camera.project(table.points(rig.posed(track.motion.frame(int(index))), rig.faces))
        eyes = float((seen[33] - seen[263]).norm().clamp_min(1e-3))
        errors.append(float((drawn - seen)[table.usable].norm(dim=-1).mean()) / eyes)
    found = torch.tensor(errors)
    return float(found[found.isfinite()].mean()) if found.isfinite().any() else 0.0


def count_blinks(closed: Float[np.ndarray, "t"]) -> int:
    """Times that the lids' closing rises above 0.5 after having been below 0.3."""
    blinks, is_open = 0, True
    for value in closed:
        if is_open and value > 0.5:
            blinks, is_open = blinks + 1, False
        elif value < 0.3:
            is_open = True
    return blinks


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
            f"the head turns by {turn:.0f} degrees only; look left and right while talking, for views from the side",
        ),
        (
            quality.blinks == 0 and quality.seconds > blink_seconds,
            "no blink was seen; the avatar's closed eyes are a guess; blink now and then",
        ),
        (
            quality.mouth_opening < 0.03,
            f"the mouth hardly opens (range {quality.mouth_opening:.3f}); speak clearly, with wide vowels",
        ),
    ]
    return [sentence for applies, sentence in rules if applies]
