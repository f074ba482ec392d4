"""How far a body turns that goes with the head, as on a swivel chair: read off the clothes' own texture.

Corners slide along a round collar, and outlines of shoulders hardly change; but cloth has folds, seams and weave all
over. The torso's pixels of one picture are turned about the base of the neck by every angle nearby, and the angle
counts at which they look most like what is seen. Pictures of the angles met so far are kept: the next ones look alike.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from avatar.core import FaceTrack
from avatar.events import Progress, Sink, silent
from avatar.face.rig import PersonalRig

_WIDE, _SLOW_SECONDS = np.radians(20.0), 0.7
"""A head that is turned by so much for so long takes the body along, perhaps."""
_EVERY_SECONDS = 0.12
_STEPS = np.radians(np.arange(-10, 11, 2.0))
"""Turns from one look to the next that are tried."""
_SHIFT = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)), -1).reshape(-1, 2)
"""Pixels by which the neck's base may be elsewhere than expected, against the last look."""
_NEAR = np.radians(8.0)
"""Between kept pictures."""
_CONTRAST, _LARGEST = 2.0, 2.0
"""Grey levels below which texture is noise; deviations above which an edge counts no more."""
_CALM = 0.04
"""Cost of a step's square (radians): much less than a wrong turn loses."""
_TELLING = 1e-2
"""Share of the largest singular value below which turns are too alike to tell what goes with them."""
_STEADY = 0.8
"""Looks over which turn and shift are smoothed (standard deviation)."""
_MARGIN = 16
_FEWEST, _SEEN = 300, 0.3
"""Points on the torso that are enough, and the share of them that must be seen."""

Picture = Callable[[int], UInt8[np.ndarray, "h w"]]


class Cloth(NamedTuple):
    """The torso of the reference frame."""

    pixels: Float[np.ndarray, "n 2"]
    anchors: Float[np.ndarray, "n 3"]
    """The same points in the world."""


def is_wide(track: FaceTrack) -> bool:
    """Whether the head is turned so far for so long that the body may have turned too."""
    yaw = _yaw(track)
    if len(yaw) < 2:
        return False
    slow = gaussian_filter1d(yaw - np.median(yaw), _SLOW_SECONDS * track.motion.fps)
    return bool(np.abs(slow).max() > _WIDE)


def _yaw(track: FaceTrack) -> Float[np.ndarray, "t"]:
    forward = track.motion.T_world_head[:, :3, 2].double().numpy()
    return np.arctan2(forward[:, 0], forward[:, 2])


def body_turns(
    track: FaceTrack, rig: PersonalRig, reference: int, *, cloth: Cloth, gray: Picture, sink: Sink = silent
) -> FaceTrack | None:
    """The track with `neck` and `torso` that turn and shift the torso, rigid, as its texture does.

    Args:
        reference: the frame of `cloth`; its torso is where the track has it.
        gray: gives frame i, grey levels.
        sink: hears the progress.

    Returns:
        None where the torso shows too little.
    """
    if len(cloth.pixels) < _FEWEST:
        return None
    step = max(round(_EVERY_SECONDS * track.motion.fps), 1)
    times, found = [reference], [np.zeros(3)]
    for way in (range(reference + step, len(track.motion), step), range(reference - step, -1, -step)):
        follower = _Follower(track, rig, reference, cloth, gray)
        for index in (i for i in way if float(track.confidence[i]) > 0):
            times.append(index)
            found.append(follower.look(index))
            sink(Progress(stage="torso", done=min(len(times) * step, len(track.motion)), total=len(track.motion)))
    order = np.argsort(times)
    known, frames = np.array(times)[order], np.arange(len(track.motion))
    steady = gaussian_filter1d(np.array(found)[order], _STEADY, axis=0)
    # Cloth that is nearer or farther than the rig says goes aside with the turn; the torso itself does not.
    aside = np.stack([np.sin(steady[:, 0]), 1 - np.cos(steady[:, 0])], 1)
    steady[:, 1:] -= aside @ np.linalg.lstsq(aside, steady[:, 1:], rcond=_TELLING)[0]
    turn, right, down = (np.interp(frames, known, column) for column in steady.T)
    motion, pixel = track.motion, float(np.median(cloth.anchors[:, 2])) / np.array(track.camera.focal)
    head = Rotation.from_matrix(motion.T_world_head[:, :3, :3].double().numpy())
    rest = head[reference] * Rotation.from_rotvec(-motion.neck[reference].double().numpy())
    neck = -(head.inv() * Rotation.from_rotvec(turn[:, None] * [0.0, 1.0, 0.0]) * rest).as_rotvec()
    torso = np.stack([right * pixel[0], down * pixel[1], 0 * turn], 1)
    moved = replace(motion, neck=torch.from_numpy(neck).float(), torso=torch.from_numpy(torso).float())
    return replace(track, motion=moved)


class _Follower:
    """Goes from frame to frame with the torso's appearance."""

    def __init__(self, track: FaceTrack, rig: PersonalRig, reference: int, cloth: Cloth, gray: Picture):
        self._gray, self._camera = gray, track.camera
        pose = track.motion.T_world_head.double().numpy()
        self._head, self._place = Rotation.from_matrix(pose[:, :3, :3]), pose[:, :3, 3]
        self._pivots = rig.neck_pivots.double().numpy()
        neck = Rotation.from_rotvec(-track.motion.neck[reference].double().numpy())
        self._rest = self._head[reference] * neck
        self._arms = self._rest.inv().apply(cloth.anchors - self._base(reference, self._rest))
        column, row = cloth.pixels.astype(int).T + _MARGIN
        values = _texture(gray(reference))[row, column]
        self._turn, self._shift = 0.0, np.zeros(2, int)
        self._kept: list[tuple[float, np.ndarray]] = [(0.0, values)]

    def look(self, index: int) -> Float[np.ndarray, "3"]:
        """Turn (radians) and shift (px) in a frame that comes soon after the last one."""
        texture = _texture(self._gray(index))
        tried = [self._best(index, texture, self._turn + step, self._shift) for step in _STEPS]
        score = np.array([found[0] for found in tried]) - _CALM * _STEPS**2
        best = int(score.argmax())
        if np.isfinite(score[best]):
            self._turn, self._shift = self._turn + float(_STEPS[best]) + _peak(score, best), tried[best][1]
            self._keep(self._turn, tried[best][2])
        return np.array([self._turn, *self._shift])

    def _base(self, index: int, torso: Rotation) -> Float[np.ndarray, "3"]:
        """Where the base of the neck is when the torso is turned so (world, metres)."""
        upper, lower = self._pivots
        half = Rotation.from_rotvec((self._head[index].inv() * torso).as_rotvec() / 2)
        return self._head[index].apply(upper + half.apply(lower - upper)) + self._place[index]

    def _best(
        self, index: int, texture: Float[np.ndarray, "a b"], turn: float, near: Int[np.ndarray, "2"]
    ) -> tuple[float, Int[np.ndarray, "2"], Float[np.ndarray, "n"]]:
        """How alike it looks at best, at which shift, and what is seen there (nan outside of the picture)."""
        torso = Rotation.from_rotvec([0, turn, 0]) * self._rest
        points = torch.from_numpy(torso.apply(self._arms) + self._base(index, torso)).float()
        at = np.floor(self._camera.project(points).numpy()).astype(np.int32) + near
        height, width = self._camera.size
        inside = ((at >= 0) & (at < (width, height))).all(1)
        at = at.clip(-_MARGIN // 2, np.array([width, height]) + _MARGIN // 2) + _MARGIN
        stride = width + 2 * _MARGIN
        where = at[:, 1] * stride + at[:, 0] + (_SHIFT[:, 1:] * stride + _SHIFT[:, :1])
        seen = texture.ravel()[where]
        known = min(self._kept, key=lambda kept: abs(kept[0] - turn))[1]
        good = inside & np.isfinite(known)
        if good.mean() < _SEEN:
            return -np.inf, near, known
        alike = seen @ np.where(good, known, 0) / good.sum()
        best = int(alike.argmax())
        return float(alike[best]), near + _SHIFT[best], np.where(inside, seen[best], np.float32(np.nan))

    def _keep(self, turn: float, seen: Float[np.ndarray, "n"]) -> None:
        if min(abs(turn - kept) for kept, _ in self._kept) > _NEAR:
            self._kept.append((turn, seen))


def _texture(gray: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "a b"]:
    """Grey levels against their surroundings, in deviations of these; 0 on a margin around the picture."""
    import cv2

    levels, sigma = gray.astype(np.float32), max(gray.shape[0] / 85, 2.0)
    rest = levels - cv2.GaussianBlur(levels, (0, 0), sigma)
    size = cv2.GaussianBlur(rest * rest, (0, 0), sigma) + _CONTRAST**2
    return np.pad((rest / np.sqrt(size)).clip(-_LARGEST, _LARGEST), _MARGIN)


def _peak(score: Float[np.ndarray, "k"], best: int) -> float:
    """Radians from the best of the tried turns to the top of the parabola through it and its neighbours."""
    if not 0 < best < len(score) - 1 or not np.isfinite(score[best - 1 : best + 2]).all():
        return 0.0
    low, top, high = score[best - 1 : best + 2]
    bend = low - 2 * top + high
    return 0.0 if bend >= 0 else float(0.5 * (low - high) / bend * (_STEPS[1] - _STEPS[0]))
