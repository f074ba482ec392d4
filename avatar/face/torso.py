"""Following the torso in the picture: shoulders sway on their own, so head and neck alone put it some pixels off.

Corners on the clothes of one reference frame are followed by pyramidal Lucas-Kanade (Bouguet 2001), always from the
reference, so that nothing drifts; a similarity is fitted to them robustly (RANSAC) and gives the shift and tilt.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import gaussian_filter1d

from avatar.core import FaceTrack
from avatar.events import Progress, Sink, silent
from avatar.face.ahead import read_ahead
from avatar.face.rig import PersonalRig
from avatar.face.segments import in_each, spans
from avatar.ops.rotation import axis_angle_to_matrix, matrix_to_axis_angle

_STAGE = "torso"
_CORNERS, _LEAST_CORNERS = 150, 10
_ROUND_TRIP_PX = 1.5
"""A corner that does not come back to where it started from is not used in this frame."""
_SMOOTH_SHIFT, _SMOOTH_TILT = 0.7, 3.0
"""Frames; a tilt read off a few corners is noisier than their shift."""
_NEAR_VERTICES = 60
_LEAST_SHARE = 0.5
"""With fewer of the frames followed, the torso is left to head and neck."""
_FARTHEST_M, _STEEPEST = 0.12, 0.2
_TORSO = 0.9
"""Weight from which a vertex goes with the torso alone."""

Picture = Callable[[int], UInt8[np.ndarray, "h w 3"]]
Mask = Callable[[int], UInt8[np.ndarray, "h w"]]


def follow_torso(
    track: FaceTrack,
    rig: PersonalRig,
    frame: Picture,
    mask: Mask,
    *,
    sink: Sink = silent,
    segments: Int[np.ndarray, "t"] | None = None,
) -> FaceTrack:
    """The same track with the torso's place and tilt measured in the pictures.

    Args:
        frame: gives frame i; only frames with a confidence are asked for.
        mask: gives the coarse person mask of frame i, 255 is person.
        sink: hears the progress.
        segments: ids of the frames between cuts; nothing is followed or smoothed from one to the next.

    Returns:
        The track with `torso` and the tilt of `neck` as seen; unchanged where the clothes show too little to follow,
        or the rig is a mask without a torso.
    """
    if not (rig.skin[:, 2] > _TORSO).any():
        return track
    reference = _reference(track)
    corners = _corners(track, reference, frame(reference), mask(reference))
    if len(corners) < _LEAST_CORNERS:
        return track
    starts = {span.start for span in spans(segments, len(track.motion))}
    seen = _sway(track, _Start(reference, corners, starts), frame, sink)
    if np.isfinite(seen[:, 0]).mean() < _LEAST_SHARE:
        return track
    still = np.nanmedian(seen, 0)
    sway = in_each(lambda part: _interpolated(part, still), seen, segments)
    track = _tilted(track, in_each(lambda tilt: gaussian_filter1d(tilt, _SMOOTH_TILT), sway[:, 2], segments))
    return _placed(track, _near(track, rig, reference, corners.mean(0)), sway[:, :2], segments)


def _interpolated(seen: Float[np.ndarray, "t 3"], still: Float[np.ndarray, "3"]) -> Float[np.ndarray, "t 3"]:
    times, known = np.arange(len(seen)), np.isfinite(seen[:, 0])
    if not known.any():
        return np.tile(still, (len(seen), 1))
    return np.stack([np.interp(times, times[known], seen[known, k]) for k in range(3)], 1)


class _Start(NamedTuple):
    """Where following begins."""

    reference: int
    corners: Float[np.ndarray, "n 2"]
    cuts: set[int]
    """First frames of segments."""


def _reference(track: FaceTrack) -> int:
    """The frame whose head is closest to the middle of all poses."""
    pose = track.motion.T_world_head
    forward, place = pose[:, :3, 2], pose[:, :3, 3]
    away = (forward - forward.median(0).values).norm(dim=1) + 5 * (place - place.median(0).values).norm(dim=1)
    return int((away + 1e3 * (track.confidence <= 0)).argmin())


def _corners(
    track: FaceTrack, index: int, frame: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"]
) -> Float[np.ndarray, "n 2"]:
    """Corners on the person well below the chin, px."""
    import cv2

    rows = track.landmarks_px[index, :, 1].numpy()
    below = int(rows.max() + 0.12 * np.ptp(rows))
    inside = (mask > 200).astype(np.uint8)
    inside[: max(below, 0)] = 0
    inside = cv2.erode(inside, np.ones((9, 9), np.uint8))
    distance = max(min(frame.shape[:2]) / 85, 3.0)
    found = cv2.goodFeaturesToTrack(_gray(frame), _CORNERS, 0.005, distance, mask=inside * 255)
    return np.zeros((0, 2), np.float32) if found is None else found[:, 0]


def _sway(track: FaceTrack, begin: _Start, frame: Picture, sink: Sink) -> Float[np.ndarray, "t 3"]:
    """How far the corners' centre moved (px) and they turned (radians) since the reference; nan where not known."""
    reference, corners, cuts = begin
    count, start = len(track.motion), _gray(frame(reference))
    out = np.full((count, 3), np.nan)
    center, done, seen = corners.mean(0), 0, (track.confidence > 0).tolist()
    for way in (range(reference, count), range(reference - 1, -1, -1)):
        last = np.eye(2, 3, dtype=np.float32)
        for index, image in read_ahead(lambda i: _gray(frame(i)), [i for i in way if seen[i]]):
            done += 1
            if (index if way.step > 0 else index + 1) in cuts:
                last = np.eye(2, 3, dtype=np.float32)
            if done % 25 == 1:
                sink(Progress(stage=_STAGE, done=done, total=count))
            fitted = _similarity(start, image, corners, last)
            if fitted is not None:
                last = fitted
                out[index, :2] = fitted[:, :2] @ center + fitted[:, 2] - center
                out[index, 2] = np.arctan2(fitted[1, 0], fitted[0, 0])
    sink(Progress(stage=_STAGE, done=count, total=count))
    return out


def _similarity(
    start: np.ndarray, image: np.ndarray, corners: Float[np.ndarray, "n 2"], last: Float[np.ndarray, "2 3"]
) -> Float[np.ndarray, "2 3"] | None:
    import cv2

    window = (21, 21)
    guess = np.ascontiguousarray(corners @ last[:, :2].T + last[:, 2], np.float32).reshape(-1, 1, 2)
    origin = np.ascontiguousarray(corners).reshape(-1, 1, 2)
    flags = cv2.OPTFLOW_USE_INITIAL_FLOW
    there, found, _ = cv2.calcOpticalFlowPyrLK(start, image, origin, guess, winSize=window, maxLevel=2, flags=flags)
    back, again, _ = cv2.calcOpticalFlowPyrLK(
        image, start, there, origin.copy(), winSize=window, maxLevel=2, flags=flags
    )
    miss = np.linalg.norm((back - origin)[:, 0], axis=1)
    good = (found[:, 0] > 0) & (again[:, 0] > 0) & (miss < _ROUND_TRIP_PX)
    if good.sum() < _LEAST_CORNERS:
        return None
    cv2.setRNGSeed(0)
    fitted, _ = cv2.estimateAffinePartial2D(origin[good], there[good], method=cv2.RANSAC, ransacReprojThreshold=2.0)
    return None if fitted is None else fitted.astype(np.float32)


def _tilted(track: FaceTrack, tilt: Float[np.ndarray, "t"]) -> FaceTrack:
    """The neck that lets the torso turn by `tilt` (radians, from its middle over the clip) about the view axis."""
    motion = track.motion
    head = motion.T_world_head[:, :3, :3]
    turn = torch.zeros(len(tilt), 3)
    turn[:, 2] = torch.from_numpy(np.clip(tilt - np.median(tilt), -_STEEPEST, _STEEPEST)).float()
    torso = axis_angle_to_matrix(turn) @ head @ axis_angle_to_matrix(-motion.neck)
    neck = -matrix_to_axis_angle(head.transpose(1, 2) @ torso)
    return replace(track, motion=replace(motion, neck=neck))


def _near(track: FaceTrack, rig: PersonalRig, reference: int, center: Float[np.ndarray, "2"]) -> PersonalRig:
    """The part of the rig's torso that lies at the corners: what is compared with their path."""
    torso = (rig.skin[:, 2] > _TORSO).nonzero()[:, 0]
    pixels = track.camera.project(rig.posed(track.motion.frame(reference))[torso])
    away = (pixels - torch.from_numpy(center).to(pixels)).norm(dim=1)
    chosen = torso[away.argsort()[:_NEAR_VERTICES]]
    return replace(
        rig, neutral=rig.neutral[chosen], actions=rig.actions[:, chosen], skin=rig.skin[chosen],
        eye_weights=rig.eye_weights[chosen],
    )  # fmt: skip


def _placed(
    track: FaceTrack, part: PersonalRig, shift: Float[np.ndarray, "t 2"], segments: Int[np.ndarray, "t"] | None
) -> FaceTrack:
    """Metres that bring `part` to where the pictures show it; their middle over the clip is zero."""
    motion, camera = track.motion, track.camera
    posed = torch.stack([part.posed(motion.frame(i)).mean(0) for i in range(len(motion))])
    pixels, depth = camera.project(posed).numpy(), posed[:, 2].numpy()
    away = (shift - (pixels - np.median(pixels, 0))) / np.array(camera.focal) * depth[:, None]
    away = away - np.median(away, 0)
    away = in_each(lambda part: gaussian_filter1d(part, _SMOOTH_SHIFT, axis=0), away, segments)
    away = np.clip(away, -_FARTHEST_M, _FARTHEST_M)
    moved = torch.from_numpy(np.concatenate([away, np.zeros((len(away), 1))], 1).astype(np.float32))
    return replace(track, motion=replace(motion, torso=moved))


def _gray(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    import cv2

    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
