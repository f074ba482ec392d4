"""The head's pose from the pictures themselves: what goes with the skull must look the same in every frame.

Points on the skin, ears and hair of the rig carry the appearance that they have over the clip, slow changes of light
taken out. Where a frame disagrees, the head has moved otherwise than the landmarks said, whose errors change with pose
and expression (active appearance models, Cootes et al. 2001; additive alignment, Baker and Matthews 2004). Landmarks
stay the anchor: what is solved for are small corrections of their poses, smooth over time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from avatar.core import FaceTrack, MotionSequence, Region
from avatar.events import Progress, Sink, silent
from avatar.face.ahead import read_ahead, side_by_side
from avatar.face.appearance import Looks, Prior, features
from avatar.face.rig import PersonalRig
from avatar.face.tracking import neck_angles

_STAGE = "head pose"
_EYES, _EYES_PX, _SIDE = 0.087, 60.0, 192
"""Usual distance (metres) of the outer corners of the eyes, its length in the patches that are compared, their side."""
_HIGH = 0.58
"""Part of a patch above the middle of the face."""
_POINTS, _LEAST = 3000, 200
_DENSITY = {Region.SKIN: 1.0, Region.NOSE: 1.5, Region.BROWS: 0.5, Region.HAIR: 0.6, Region.EARS: 1.0}
_ABOVE_LIPS, _BESIDE_EYES = 0.012, 0.019
"""Metres: nearer to mouth and eyes, expressions move the skin."""
_STIFF = 0.98
"""Weight from which a vertex goes with the skull."""
_FRONT, _FACING = 0.1, 0.3
"""z of a normal in the head frame from which a point looks backwards; least cosine between normal and view."""
_FLAT = 0.28
"""Light that varies over longer distances (eye distances) is none of the skin's own."""
_SHARP_PX = 0.8
_WORTH = 0.06
"""Part of the points' information that counts: neighbours' errors agree."""
_SEEN, _SEEN_LEAST = 200, 10
"""Frames from which the appearance is learned, and in which a point must be seen."""
_ROUNDS, _STEPS = 3, 2
"""Of learning the appearance, and of each frame's Gauss-Newton before all frames are solved together."""
_PRIOR = Prior(deviation=np.array([0.010, 0.010, 0.010, 0.0025, 0.0025, 0.013]), smooth=0.15)
"""Of the landmarks' poses: turn (radians), place across and along the view (parts of the distance)."""

Pictures = Callable[[int], UInt8[np.ndarray, "h w 3"]]


def refine_pose(
    track: FaceTrack,
    rig: PersonalRig,
    frame: Pictures,
    *,
    segments: Int[np.ndarray, "t"] | None = None,
    sink: Sink = silent,
) -> FaceTrack:
    """The track with head poses under which the head looks alike in all frames.

    Expressions stay: their landmarks agree with each other better than with the picture's place.

    Args:
        frame: gives frame i; only frames with a confidence are asked for.
        segments: ids of the frames between cuts; corrections are not smoothed from one to the next.
        sink: hears the progress.

    Returns:
        The track with `T_world_head` and `neck` corrected; unchanged where hardly anything of the rig goes with the
        skull, or fewer than 10 frames show the face.
    """
    points, good = _choose(rig), np.flatnonzero(track.confidence.numpy() > 0)
    if points is None or len(good) < _SEEN_LEAST:
        return track
    poses = _Poses.of(track.motion, points.middle)
    view = _View(points, track, poses)
    with threadpool_limits(1):  # the frames are what goes side by side
        looks = _learned(view, frame, good)
        t = len(poses.place)
        blocks, pull, start = np.zeros((t, 6, 6)), np.zeros((t, 6)), np.zeros((t, 6))

        def follow(item: tuple[int, UInt8[np.ndarray, "h w 3"]]) -> None:
            index, picture = item
            patch, x = view.patch(index, picture), np.zeros(6)
            for _ in range(_STEPS):
                x = _PRIOR.alone(*view.equation(index, patch, looks, x), x)
            start[index] = x
            blocks[index], pull[index] = view.equation(index, patch, looks, x)

        for done, _ in enumerate(side_by_side(follow, read_ahead(frame, good.tolist()))):
            if done % 10 == 0:
                sink(Progress(stage=_STAGE, done=done, total=len(good)))
    sink(Progress(stage=_STAGE, done=len(good), total=len(good)))
    correction = start + _PRIOR.together(blocks, pull, start, (track.motion.fps, segments))
    return replace(track, motion=poses.moved(correction).motion(track.motion, points.middle, segments))


@dataclass(frozen=True, kw_only=True)
class _Points:
    """Points of the surface that go with the skull, head frame."""

    at: Float[np.ndarray, "n 3"]
    actions: Float32[np.ndarray, "52 n3"]
    normals: Float[np.ndarray, "n 3"]
    middle: Float[np.ndarray, "3"]
    """Of the face."""


def _choose(rig: PersonalRig, seed: int = 0) -> _Points | None:
    """Random points, as dense as they tell; None if too little of the rig is stiff."""
    faces, neutral, regions = rig.faces.numpy(), rig.neutral.double().numpy(), rig.regions.numpy()
    corners = neutral[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.maximum(np.linalg.norm(cross, axis=1), 1e-12)
    normals, middle = cross / twice[:, None], corners.mean(1)
    lips, front = (np.isin(regions, which) for which in (Region.LIPS, [Region.SKIN, Region.NOSE, Region.BROWS]))
    density = np.zeros(len(faces))
    for region, value in _DENSITY.items():
        density[regions == int(region)] = value
    if lips.any():
        density[front & (middle[:, 1] > middle[lips, 1].mean() - _ABOVE_LIPS)] = 0
    for eye in rig.eye_pivots.double().numpy():
        density[np.linalg.norm((middle - eye)[:, :2], axis=1) < _BESIDE_EYES] = 0
    density[(rig.skin.numpy()[faces][..., 0].min(1) < _STIFF) | (normals[:, 2] > _FRONT)] = 0
    if (density > 0).sum() < _LEAST:
        return None
    rng, share = np.random.default_rng(seed), density * twice
    chosen = rng.choice(len(faces), _POINTS, p=share / share.sum())
    weights = rng.dirichlet(np.ones(3), _POINTS)[..., None]
    actions = (rig.actions.numpy()[:, faces[chosen]] * weights).sum(2)
    return _Points(
        at=(corners[chosen] * weights).sum(1),
        actions=np.ascontiguousarray(actions.reshape(len(actions), -1), np.float32),
        normals=normals[chosen],
        middle=middle[front].mean(0),
    )


@dataclass(frozen=True, kw_only=True)
class _Poses:
    """Of the head in the camera's frame: turn, and place (metres) of the face's middle."""

    rotation: Float[np.ndarray, "*t 3 3"]
    place: Float[np.ndarray, "*t 3"]

    @classmethod
    def of(cls, motion: MotionSequence, middle: Float[np.ndarray, "3"]) -> "_Poses":
        """A track's; its camera stands at the world's origin."""
        pose = motion.T_world_head.double().numpy()
        return cls(rotation=pose[:, :3, :3], place=pose[:, :3, 3] + pose[:, :3, :3] @ middle)

    def at(self, index: int) -> "_Poses":
        """Of one frame."""
        return _Poses(rotation=self.rotation[index], place=self.place[index])

    def moved(self, correction: Float[np.ndarray, "*t 6"]) -> "_Poses":
        """Turned in the head's frame (radians), shifted in the camera's (parts of the distance)."""
        turn = Rotation.from_rotvec(correction[..., :3]).as_matrix()
        return _Poses(rotation=self.rotation @ turn, place=self.place + correction[..., 3:] * self.place[..., 2:])

    def motion(
        self, motion: MotionSequence, middle: Float[np.ndarray, "3"], segments: Int[np.ndarray, "t"] | None
    ) -> MotionSequence:
        """With these poses, and the neck that goes with them."""
        pose = motion.T_world_head.clone()
        pose[:, :3, :3] = torch.from_numpy(self.rotation).float()
        pose[:, :3, 3] = torch.from_numpy(self.place - self.rotation @ middle).float()
        neck = neck_angles(self.rotation, motion.fps, segments)
        return replace(motion, T_world_head=pose, neck=torch.from_numpy(neck).float())


@dataclass(frozen=True, kw_only=True)
class _Patch:
    """The head of a frame: brightness and redness (logarithms) without slow changes of light."""

    planes: tuple[Float32[np.ndarray, "s s 2"], ...]
    """Features, and their slopes along x and y (a pixel of the patch)."""
    corner: Float[np.ndarray, "2"]
    factor: float
    """Pixels of the frame to one of the patch."""

    def at(
        self, pixels: Float[np.ndarray, "n 2"]
    ) -> tuple[Float32[np.ndarray, "n 2"], Float32[np.ndarray, "2 n 2"], Bool[np.ndarray, "n"]]:
        """Features at pixels of the frame, their slopes (a pixel of it) along x and y, and which are inside."""
        where = ((pixels - self.corner) / self.factor - 0.5).astype(np.float32)
        inside = ((where > 0) & (where < _SIDE - 1)).all(1)
        x, y = (np.ascontiguousarray(where[None, :, axis]) for axis in (0, 1))
        values, across, down = (cv2.remap(plane, x, y, cv2.INTER_LINEAR)[0] for plane in self.planes)
        return values, np.stack([across, down]) / np.float32(self.factor), inside


class _View:
    """The points as the camera sees them in each frame."""

    def __init__(self, points: _Points, track: FaceTrack, poses: _Poses):
        self._points, self._poses = points, poses
        self._expression = track.motion.expression.numpy()
        self._focal, self._centre = np.array(track.camera.focal), np.array(track.camera.center)
        distance = float(np.median(poses.place[:, 2]))
        self._factor = max(track.camera.focal[0] * _EYES / distance / _EYES_PX, 0.5)
        """Pixels of a frame to one of a patch."""

    def patch(self, index: int, picture: UInt8[np.ndarray, "h w 3"]) -> _Patch:
        """Cut out of a frame around where the landmarks say that the head is."""
        place = self._poses.place[index]
        factor = self._factor
        corner = place[:2] / place[2] * self._focal + self._centre - factor * _SIDE * np.array([0.5, _HIGH])
        if factor >= 1.5:
            picture = cv2.GaussianBlur(picture, (0, 0), 0.35 * factor)
        # pixel centres: index i of a patch lies at (i + 0.5) * factor behind its corner
        shift = corner + 0.5 * factor - 0.5
        matrix = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
        size, flags = (_SIDE, _SIDE), cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        seen = cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        both = features(np.asarray(seen, np.uint8))
        _, _, pixels, facing = self._project(index, self._poses.at(index))
        slow = _slow(both, (pixels[facing] - corner) / factor)
        own = cv2.GaussianBlur(both, (0, 0), _SHARP_PX) - slow
        slopes = (cv2.Scharr(own, cv2.CV_32F, *axis, scale=1 / 32) for axis in ((1, 0), (0, 1)))
        return _Patch(planes=(own, *slopes), corner=corner, factor=factor)

    def look(self, index: int, patch: _Patch, correction: Float[np.ndarray, "6"]) -> Float32[np.ndarray, "n 2"]:
        """What each point shows; nan where it is not seen."""
        _, _, pixels, facing = self._project(index, self._poses.at(index).moved(correction))
        found, _, inside = patch.at(pixels)
        return np.where((facing & inside)[:, None], found, np.nan)

    def equation(
        self, index: int, patch: _Patch, looks: Looks, correction: Float[np.ndarray, "6"]
    ) -> tuple[Float[np.ndarray, "6 6"], Float[np.ndarray, "6"]]:
        """Gauss-Newton block and gradient of a frame's correction."""
        pose = self._poses.at(index).moved(correction)
        about, seen, pixels, facing = self._project(index, pose)
        found, slopes, inside = patch.at(pixels)
        residual = found - looks.value
        weight = _WORTH * looks.information(residual, facing & inside)
        across = slopes * (self._focal[:, None] / seen[:, 2])[..., None]
        along = -(across * seen[:, :2].T[..., None]).sum(0) / seen[:, 2:]
        by_place = np.stack([*across, along], -1)
        by_turn = np.cross(about[:, None], by_place @ pose.rotation)
        rows = np.concatenate([by_turn, by_place * pose.place[2]], -1).reshape(-1, 6)
        weighted = rows * weight.reshape(-1, 1)
        return weighted.T @ rows, weighted.T @ residual.reshape(-1)

    def _project(
        self, index: int, pose: _Poses
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"], Float[np.ndarray, "n 2"], Bool[np.ndarray, "n"]]:
        """Points about the face's middle, in the camera's frame, their pixels, and which face it."""
        points = self._points
        moved = (self._expression[index] @ points.actions).reshape(-1, 3)
        about = points.at - points.middle + moved
        seen = about @ pose.rotation.T + pose.place
        pixels = seen[:, :2] / seen[:, 2:] * self._focal + self._centre
        towards = -((points.normals @ pose.rotation.T) * seen).sum(1)
        return about, seen, pixels, towards > _FACING * np.linalg.norm(seen, axis=1)


def _slow(both: Float32[np.ndarray, "s s 2"], points: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "s s 2"]:
    """The light's slow changes over the head, which what is behind it has no part in.

    Args:
        points: of the head that are seen, in pixels of the patch.
    """
    part = 0.25
    small = cv2.resize(both, None, fx=part, fy=part, interpolation=cv2.INTER_AREA)
    head = np.zeros(small.shape[:2], np.float32)
    if len(points) > 2:
        hull = cv2.convexHull((points * part - 0.5).astype(np.float32))
        cv2.fillConvexPoly(head, np.rint(hull).astype(np.int32), (1.0,))
    wide = _FLAT * _EYES_PX * part
    weight = cv2.GaussianBlur(head, (0, 0), wide)[..., None] + np.float32(1e-3)
    mean = cv2.GaussianBlur(small * head[..., None], (0, 0), wide) / weight
    return np.asarray(cv2.resize(mean, both.shape[:2]), np.float32)


def _learned(view: _View, frame: Pictures, good: Int[np.ndarray, "f"]) -> Looks:
    """The appearance over some frames, whose poses are corrected by it in turn."""
    some = good[np.linspace(0, len(good) - 1, min(_SEEN, len(good))).astype(int)].tolist()
    patches = list(side_by_side(lambda item: view.patch(*item), read_ahead(frame, some)))
    corrections = np.zeros((len(some), 6))

    def correct(row: int) -> None:
        x = corrections[row]
        corrections[row] = _PRIOR.alone(*view.equation(some[row], patches[row], looks, x), x)

    looks = Looks.of([view.look(*each) for each in zip(some, patches, corrections, strict=True)], _SEEN_LEAST)
    for _ in range(_ROUNDS):
        list(side_by_side(correct, range(len(some))))
        looks = Looks.of([view.look(*each) for each in zip(some, patches, corrections, strict=True)], _SEEN_LEAST)
    return looks
