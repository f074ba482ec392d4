"""What was followed, frame by frame: the curves that the quality page draws and its numbers are taken from."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation
from torch import Tensor

from avatar.core import FaceTrack
from avatar.face.arkit import INDEX
from avatar.face.calibration import BROWS, LOWER_INNER, LOWER_LIDS, OUTER_LIPS, UPPER_INNER, UPPER_LIDS, lip_gap
from avatar.face.parsing import FACE_OVAL
from avatar.face.rig import AbstractRig, LandmarkTable, PersonalRig
from avatar.face.segments import spans

REGIONS: dict[str, list[int]] = {
    "lips": [*OUTER_LIPS, *UPPER_INNER, *LOWER_INNER],
    "lids": [*UPPER_LIDS.ravel(), *LOWER_LIDS.ravel()],
    "brows": [*BROWS],
    "nose": [1, 2, 4, 5, 6, 19, 45, 48, 64, 94, 97, 98, 115, 168, 195, 197, 220, 275, 278, 294, 326, 327, 344, 440],
    "face oval": FACE_OVAL,
    "irises": list(range(468, 478)),
}
"""Points of the detector's mesh."""
_STILL_DEG_S, _STILL_DEG_S2 = 5.0, 30.0
"""A head whose smoothed path turns slower, and changes its speed less, than this is still; degrees and seconds."""
_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values of each frame; of a frame that is not `used` they are what was interpolated."""

    seconds: Float[np.ndarray, "t"]
    used: Bool[np.ndarray, "t"]
    confidence: Float[np.ndarray, "t"]
    segments: Int[np.ndarray, "t"]
    turn_deg: Float[np.ndarray, "t 3"]
    """Yaw (+ to the person's left), pitch (+ down) and roll of the head; 0 looks into the camera."""
    seen_px: Float[np.ndarray, "t 478 2"]
    drawn_px: Float[np.ndarray, "t 478 2"]
    """The posed rig's points where the detector's should be."""
    error: Float[np.ndarray, "t 478"]
    """Distance of the two in eye distances; nan for points that the rig does not have."""
    seen_gap: Float[np.ndarray, "t"]
    """Of the inner lips as detected, in eye distances."""
    drawn_gap: Float[np.ndarray, "t"]
    blink: Float[np.ndarray, "t 2"]
    """eyeBlinkRight and Left."""
    shake_deg: Float[np.ndarray, "t"]
    """Second difference of the head's rotation; nan where it is not known from three used frames of one segment."""
    still: Bool[np.ndarray, "t"]
    """Where the head keeps still."""
    expression: Float[np.ndarray, "t 52"]


def series_of(track: FaceTrack, rig: PersonalRig, family: AbstractRig, segments: Int[np.ndarray, "t"]) -> Series:
    """The curves of a clip.

    Args:
        family: the kind of head that `rig` belongs to; it knows where landmarks lie.
        segments: ids of the frames between cuts.
    """
    used = track.confidence.numpy() > 0
    seen, drawn = track.landmarks_px.double().numpy(), drawn_landmarks(track, rig, family.landmarks)
    eyes = np.linalg.norm(seen[used, 33] - seen[used, 263], axis=-1)
    unit = max(float(np.quantile(eyes, 0.75)), 1e-3) if used.any() else 1.0
    error = np.linalg.norm(drawn - seen, axis=-1) / unit
    error[:, ~family.landmarks.usable.numpy()] = np.nan
    turns = Rotation.from_matrix(track.motion.T_world_head[:, :3, :3].double().numpy())
    shake, still = _shake(turns, used, segments, track.motion.fps)
    expression = track.motion.expression.double().numpy()
    return Series(
        seconds=np.arange(len(used)) / track.motion.fps,
        used=used,
        confidence=track.confidence.double().numpy(),
        segments=segments,
        turn_deg=_angles(turns),
        seen_px=seen,
        drawn_px=drawn,
        error=error,
        seen_gap=lip_gap(seen) / unit,
        drawn_gap=lip_gap(drawn) / unit,
        blink=expression[:, [INDEX["eyeBlinkRight"], INDEX["eyeBlinkLeft"]]],
        shake_deg=shake,
        still=still,
        expression=expression,
    )


def drawn_landmarks(track: FaceTrack, rig: PersonalRig, table: LandmarkTable) -> Float[np.ndarray, "t 478 2"]:
    """Where the posed rig's points lie in the pictures, in pixels."""
    corners = rig.faces[table.triangles]
    kept, places = corners.unique(return_inverse=True)
    part = replace(
        rig, neutral=rig.neutral[kept], actions=rig.actions[:, kept], skin=rig.skin[kept],
        eye_weights=rig.eye_weights[kept], faces=places.view_as(corners),
    )  # fmt: skip
    own = replace(table, triangles=torch.arange(len(corners)))
    motion, out = track.motion, []
    for first in range(0, len(motion), _AT_ONCE):
        some = motion.select(slice(first, first + _AT_ONCE))
        head: Tensor = own.points(part.vertices(some.expression, some.neck, some.gaze), part.faces)
        world = head @ some.T_world_head[:, :3, :3].transpose(1, 2) + some.T_world_head[:, None, :3, 3]
        out.append(track.camera.project(world).double().numpy())
    return np.concatenate(out) if out else np.zeros((0, len(corners), 2))


def _angles(turns: Rotation) -> Float[np.ndarray, "t 3"]:
    ahead = -turns.as_matrix()[:, :, 2]
    yaw = np.degrees(np.arctan2(ahead[:, 0], -ahead[:, 2]))
    pitch = np.degrees(np.arcsin(ahead[:, 1].clip(-1, 1)))
    side = turns.as_matrix()[:, :, 0]
    return np.stack([yaw, pitch, np.degrees(np.arctan2(side[:, 1], np.hypot(side[:, 0], side[:, 2])))], 1)


def _shake(
    turns: Rotation, used: np.ndarray, segments: np.ndarray, fps: float
) -> tuple[Float[np.ndarray, "t"], Bool[np.ndarray, "t"]]:
    shake, still = np.full(len(used), np.nan), np.zeros(len(used), bool)
    for span in spans(segments, len(used)):
        own = turns[span]
        if len(own) < 3:
            continue
        step = (own[1:] * own[:-1].inv()).as_rotvec(degrees=True)
        inner = slice(span.start + 1, span.stop - 1)
        shake[inner] = np.linalg.norm(np.diff(step, axis=0), axis=1)
        slow = gaussian_filter1d(step, 0.15 * fps, axis=0, mode="nearest")
        speed = np.linalg.norm(slow, axis=1) * fps
        change = np.linalg.norm(np.diff(slow, axis=0), axis=1) * fps**2
        still[inner] = (np.maximum(speed[1:], speed[:-1]) < _STILL_DEG_S) & (change < _STILL_DEG_S2)
    known = used.copy()
    known[1:-1] &= used[2:] & used[:-2]
    shake[~known] = np.nan
    return shake, still & known


def light(pictures: list[np.ndarray], points: Float[np.ndarray, "n 478 2"]) -> Float[np.ndarray, "n"]:
    """Mean lightness of the face's box in each picture, 0 to 255."""
    out = []
    for picture, landmarks_px in zip(pictures, points, strict=True):
        (left, top), (right, bottom) = landmarks_px.min(0).clip(0).astype(int), landmarks_px.max(0).astype(int)
        face = picture[top : max(bottom, top + 1), left : max(right, left + 1)]
        out.append(float(face.mean()) if face.size else np.nan)
    return np.array(out)


def peaks(values: Float[np.ndarray, "t"], rises_above: float, falls_below: float) -> list[int]:
    """Where a curve is highest each time that it rises above one value after having been below the other."""
    found: list[int] = []
    is_below = True
    for index, value in enumerate(values):
        if is_below and value > rises_above:
            found, is_below = [*found, index], False
        elif value < falls_below:
            is_below = True
        elif not is_below and value > values[found[-1]]:
            found[-1] = index
    return found


def closures(gap: Float[np.ndarray, "t"]) -> list[int]:
    """Frames in which the lips meet, each time that they were apart before (gap in eye distances)."""
    return peaks(-gap, -0.015, -0.03)
