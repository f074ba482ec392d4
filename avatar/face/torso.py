"""Following the torso in the picture: shoulders sway on their own, so head and neck alone put it some pixels off.

Corners on the clothes of one reference frame are followed by pyramidal Lucas-Kanade (Bouguet 2001), always from the
reference, so that nothing drifts. Each lies on the rig's torso as that frame shows it; the rigid motion that takes all
of them to where they are seen turns and shifts the torso (Gauss-Newton; turns are held near what the head says). Where
the head is turned for long, `body_turn` follows instead: corners are lost, or slide along a collar.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from threading import Event
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from avatar.core import Camera, FaceTrack
from avatar.events import Progress, Sink, silent
from avatar.face.ahead import read_ahead
from avatar.face.body_turn import Cloth, body_turns, is_wide
from avatar.face.chest import TORSO, anchors, chest, reference_frame, spread_pixels, torso_turns
from avatar.face.rig import PersonalRig
from avatar.face.segments import in_each, spans

_STAGE = "torso"
_CORNERS, _LEAST_CORNERS = 150, 10
_ROUND_TRIP_PX = 1.5
"""A corner that does not come back to where it started from is not used in this frame."""
_AGREE_PX = 4.0
"""Nor one that leaves the others: a similarity, as turns are small."""
_ABOVE = 0.2
"""Part of the picture's height above the highest corner that is looked at too."""
_SMOOTH_ACROSS, _SMOOTH_REST = 0.85, 3.0
"""Frames; turns and distance read off a few corners are noisier than their shift across the picture."""
_NEAR_VERTICES = 60
_CHUNK = 256
"""Frames solved at once, so that memory does not grow with the clip."""
_SHARES = 8
"""Corners are compared with their places over the whole clip in so many parts, for memory too."""
_LOOK_SECONDS = 0.2
"""Between progress reports."""
_LEAST_SHARE = 0.5
"""With fewer of the frames followed, the torso is left to head and neck."""
_FARTHEST_M, _STEEPEST = 0.12, 0.25
_TURNS, _SHIFTS = 0.04, (0.3, 0.3, 0.03)
"""Deviations (radians, metres) of the torso's motion from what the head says."""
_NOISE_PX, _WORTH, _ITERATIONS = 1.0, 0.03, 6
"""The rig's surface is not the clothes', which also give way: a corner counts as so many."""

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
    if not (rig.skin[:, 2] > TORSO).any():
        return track
    reference = reference_frame(track)
    corners = _corners(track, reference, frame(reference), mask(reference))
    if len(corners) < _LEAST_CORNERS:
        return track
    starts = {span.start for span in spans(segments, len(track.motion))}
    if len(starts) == 1 and is_wide(track):
        pixels = spread_pixels(chest(track, reference, mask(reference)))
        cloth = Cloth(pixels, anchors(track, rig, reference, pixels))
        turned = body_turns(track, rig, reference, cloth=cloth, gray=lambda index: _gray(frame(index)), sink=sink)
        if turned is not None:
            return turned
    seen = _followed(track, _Start(reference, corners, starts), frame, sink)
    if np.isfinite(seen).any((1, 2)).mean() < _LEAST_SHARE:
        return track
    there_then = anchors(track, rig, reference, corners)
    expected = _expected_turns(track, reference)
    moves = in_each(_smooth, _moves_without_habits(track.camera, there_then, seen, expected, segments), segments)
    near = _near(track, rig, reference, corners.mean(0))
    there = near.posed(track.motion.frame(reference)).double().numpy()
    turned = _turned(track, reference, moves[:, :3])
    pivot = there_then.mean(0)
    turns = Rotation.from_rotvec(moves[:, :3]).as_matrix()
    wanted = ((there - pivot) @ turns.transpose(0, 2, 1)).mean(1) + pivot + moves[:, 3:]
    return _placed(turned, near, wanted)


def _smooth(moves: Float[np.ndarray, "t 6"]) -> Float[np.ndarray, "t 6"]:
    across, rest = (gaussian_filter1d(moves, sigma, axis=0) for sigma in (_SMOOTH_ACROSS, _SMOOTH_REST))
    return np.concatenate([rest[:, :3], across[:, 3:5], rest[:, 5:]], 1)


def _interpolated(seen: Float[np.ndarray, "t 6"], still: Float[np.ndarray, "6"]) -> Float[np.ndarray, "t 6"]:
    times, known = np.arange(len(seen)), np.isfinite(seen[:, 0])
    if not known.any():
        return np.tile(still, (len(seen), 1))
    return np.stack([np.interp(times, times[known], column[known]) for column in seen.T], 1)


class _Start(NamedTuple):
    """Where following begins."""

    reference: int
    corners: Float[np.ndarray, "n 2"]
    cuts: set[int]
    """First frames of segments."""


def _corners(
    track: FaceTrack, index: int, frame: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"]
) -> Float[np.ndarray, "n 2"]:
    """Corners on the person well below the chin, px."""
    import cv2

    inside = chest(track, index, mask)
    distance = max(min(frame.shape[:2]) / 85, 3.0)
    found = cv2.goodFeaturesToTrack(_gray(frame), _CORNERS, 0.005, distance, mask=inside * 255)
    return np.zeros((0, 2), np.float32) if found is None else found[:, 0]


def _followed(track: FaceTrack, begin: _Start, frame: Picture, sink: Sink) -> Float[np.ndarray, "t n 2"]:
    """Where each corner is (px); nan where it is not known. Forwards and backwards side by side."""
    reference, corners, cuts = begin
    count, top = len(track.motion), max(int(corners[:, 1].min() - _ABOVE * track.camera.size[0]), 0)
    shift = np.array([0, top], np.float32)
    start = _gray(frame(reference)[top:])
    out, seen, done, stop = np.full((count, len(corners), 2), np.nan), (track.confidence > 0).tolist(), [0, 0], Event()

    def follow(number: int, way: range) -> None:
        last = np.eye(2, 3)
        for index, image in read_ahead(lambda i: _gray(frame(i)[top:]), [i for i in way if seen[i]]):
            if stop.is_set():
                return
            done[number] += 1
            if (index if way.step > 0 else index + 1) in cuts:
                last = np.eye(2, 3)
            found = _flow(start, image, corners - shift, last)
            if found is not None:
                out[index], last = found[0] + shift, found[1]

    with ThreadPoolExecutor(2) as pool:
        try:
            both = [
                pool.submit(follow, *way) for way in enumerate((range(reference, count), range(reference - 1, -1, -1)))
            ]
            while wait(both, _LOOK_SECONDS).not_done:
                sink(Progress(stage=_STAGE, done=sum(done), total=count))
        finally:
            stop.set()
        for way in both:
            way.result()
    sink(Progress(stage=_STAGE, done=count, total=count))
    return out


def _flow(
    start: np.ndarray, image: np.ndarray, corners: Float[np.ndarray, "n 2"], last: Float[np.ndarray, "2 3"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "2 3"]] | None:
    """Places of the corners that agree with one similarity, nan for the others, and that similarity."""
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
    good = np.flatnonzero((found[:, 0] > 0) & (again[:, 0] > 0) & (miss < _ROUND_TRIP_PX))
    if len(good) < _LEAST_CORNERS:
        return None
    cv2.setRNGSeed(0)
    fitted, inside = cv2.estimateAffinePartial2D(
        origin[good], there[good], method=cv2.RANSAC, ransacReprojThreshold=_AGREE_PX
    )
    if fitted is None or inside.sum() < _LEAST_CORNERS:
        return None
    kept, out = good[inside[:, 0] > 0], np.full((len(corners), 2), np.nan)
    out[kept] = there[kept, 0]
    return out, fitted


def _expected_turns(track: FaceTrack, reference: int) -> Float[np.ndarray, "t 3"]:
    """How the torso turns from the reference on by head and neck alone (axis-angle, world axes)."""
    torso = torso_turns(track)
    return (torso * torso[reference].inv()).as_rotvec()


def _moves(
    camera: Camera, anchors: Float[np.ndarray, "n 3"], seen: Float[np.ndarray, "t n 2"], expected: np.ndarray
) -> Float[np.ndarray, "t 6"]:
    """Turn about the anchors' middle and shift (axis-angle and metres, world axes) that bring the anchors to their
    pixels (Gauss-Newton, Huber's weights); nan where nothing was followed."""
    out = np.full((len(seen), 6), np.nan)
    there = np.isfinite(seen).any((1, 2))
    arms, pivot, pixels = anchors - anchors.mean(0), anchors.mean(0), seen[there]
    known, pixels = np.isfinite(pixels[..., 0]), np.nan_to_num(pixels)
    centre = np.concatenate([expected[there], np.zeros((len(pixels), 3))], 1)
    focal, center = np.array(camera.focal), np.array(camera.center)
    precision = np.concatenate([np.full(3, _TURNS), _SHIFTS]) ** -2.0
    move = centre.copy()
    for _ in range(_ITERATIONS):
        arm = arms @ Rotation.from_rotvec(move[:, :3]).as_matrix().transpose(0, 2, 1)
        x, y, z = np.moveaxis(arm + pivot + move[:, None, 3:], -1, 0)
        off = np.stack([x / z, y / z], -1) * focal + center - pixels
        slope = np.zeros((*z.shape, 2, 6))
        slope[..., 0, 3], slope[..., 1, 4] = focal[0] / z, focal[1] / z
        slope[..., 0, 5], slope[..., 1, 5] = -focal[0] * x / z**2, -focal[1] * y / z**2
        slope[..., :3] = np.cross(arm[:, :, None], slope[..., 3:])
        weight = known * _WORTH / _NOISE_PX**2 / np.maximum(np.linalg.norm(off, axis=-1) / (2 * _NOISE_PX), 1)
        rows = slope.reshape(len(off), -1, 6)
        weighed = rows * np.repeat(weight, 2, 1)[..., None]
        matrix = rows.transpose(0, 2, 1) @ weighed + np.diag(precision)
        force = (weighed.transpose(0, 2, 1) @ off.reshape(len(off), -1, 1))[..., 0] + precision * (move - centre)
        step = np.linalg.solve(matrix, force[..., None])[..., 0]
        turn = Rotation.from_rotvec(-step[:, :3]) * Rotation.from_rotvec(move[:, :3])
        move = np.concatenate([turn.as_rotvec(), move[:, 3:] - step[:, 3:]], 1)
    out[there] = move
    return out


def _moves_without_habits(
    camera: Camera,
    anchors: Float[np.ndarray, "n 3"],
    seen: Float[np.ndarray, "t n 2"],
    expected: Float[np.ndarray, "t 3"],
    segments: Int[np.ndarray, "t"] | None,
) -> Float[np.ndarray, "t 6"]:
    """`_moves` after a first round has told where each corner usually lies off a calm motion, interpolated and smooth.

    Clothes that lay otherwise in the reference put corners off, and which of them are found changes from frame to
    frame: with their usual errors the torso would tremble.
    """

    def found(places: Float[np.ndarray, "t n 2"]) -> Float[np.ndarray, "t 6"]:
        parts = [slice(first, first + _CHUNK) for first in range(0, len(places), _CHUNK)]
        moves = np.concatenate([_moves(camera, anchors, places[part], expected[part]) for part in parts])
        still = np.nanmedian(moves, 0)
        return in_each(lambda part: _interpolated(part, still), moves, segments)

    calm = in_each(lambda part: gaussian_filter1d(part, _SMOOTH_REST, axis=0), found(seen), segments)
    usual = np.zeros((len(anchors), 2))
    for which in np.array_split(np.flatnonzero(np.isfinite(seen).any((0, 2))), _SHARES):
        usual[which] = np.nanmedian(seen[:, which] - _drawn(camera, anchors, calm, which), 0)
    return found(seen - usual)


def _drawn(
    camera: Camera, anchors: Float[np.ndarray, "n 3"], moves: Float[np.ndarray, "t 6"], which: Int[np.ndarray, "m"]
) -> Float[np.ndarray, "t m 2"]:
    """Where the camera sees some of the anchors after these moves, px."""
    turns, pivot = Rotation.from_rotvec(moves[:, :3]).as_matrix(), anchors.mean(0)
    at = (anchors[which] - pivot) @ turns.transpose(0, 2, 1) + pivot + moves[:, None, 3:]
    return at[..., :2] / at[..., 2:] * np.array(camera.focal) + np.array(camera.center)


def _turned(track: FaceTrack, reference: int, turns: Float[np.ndarray, "t 3"]) -> FaceTrack:
    """The neck that leaves the torso turned by `turns` (world axes) from where it is at the reference."""
    motion, torso = track.motion, torso_turns(track)
    away = turns - np.median(turns, 0)
    away *= np.minimum(1, _STEEPEST / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9))
    turned = Rotation.from_rotvec(away + np.median(turns, 0)) * torso[reference]
    head = Rotation.from_matrix(motion.T_world_head[:, :3, :3].double().numpy())
    neck = -(head.inv() * turned).as_rotvec()
    return replace(track, motion=replace(motion, neck=torch.from_numpy(neck).float()))


def _near(track: FaceTrack, rig: PersonalRig, reference: int, center: Float[np.ndarray, "2"]) -> PersonalRig:
    """The part of the rig's torso that lies at the corners: what is compared with their path."""
    torso = (rig.skin[:, 2] > TORSO).nonzero()[:, 0]
    pixels = track.camera.project(rig.posed(track.motion.frame(reference))[torso])
    away = (pixels - torch.from_numpy(center).to(pixels)).norm(dim=1)
    chosen = torso[away.argsort()[:_NEAR_VERTICES]]
    return replace(
        rig, neutral=rig.neutral[chosen], actions=rig.actions[:, chosen], skin=rig.skin[chosen],
        eye_weights=rig.eye_weights[chosen],
    )  # fmt: skip


def _placed(track: FaceTrack, part: PersonalRig, wanted: Float[np.ndarray, "t 3"]) -> FaceTrack:
    """Metres that bring the middle of `part` to where it is `wanted`; their middle over the clip is zero."""
    motion, posed = track.motion, []
    for first in range(0, len(motion), _CHUNK):
        some = motion.select(slice(first, first + _CHUNK))
        middle = part.vertices(some.expression, some.neck, some.gaze).mean(1)
        turned = (some.T_world_head[:, :3, :3] @ middle[..., None])[..., 0]
        posed.append(turned + some.T_world_head[:, :3, 3] + part.below_head.mean() * some.torso)
    away = wanted - torch.cat(posed).double().numpy()
    away = np.clip(away - np.median(away, 0), -_FARTHEST_M, _FARTHEST_M)
    return replace(track, motion=replace(motion, torso=torch.from_numpy(away).float()))


def _gray(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    import cv2

    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
