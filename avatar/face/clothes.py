"""How shoulders and clothes lie on the torso: jackets slide over shirts, collars follow the neck, shoulders rise.

Once head, neck and torso are followed, points of the chest carry the appearance that they have over the clip. Where a
frame disagrees, they have moved along the torso by a smooth displacement (`rig.clothes_terms`), which is solved for
from coarse to fine (additive alignment, Baker and Matthews 2004), smooth over time; zero is where they mostly lie.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from threadpoolctl import threadpool_limits

from avatar.core import FaceTrack
from avatar.core.motion import CLOTHES
from avatar.events import Progress, Sink, silent
from avatar.face.ahead import read_ahead, side_by_side
from avatar.face.appearance import Looks, Prior, features
from avatar.face.body_turn import is_wide
from avatar.face.chest import TORSO, anchors, chest, reference_frame, spread_pixels, torso_turns
from avatar.face.rig import PersonalRig, clothes_terms
from avatar.ops.mesh import rasterize_mesh

_STAGE = "clothes"
_EYES, _EYES_PX = 0.087, 60.0
"""Usual distance (metres) of the outer corners of the eyes, and its length in the pictures that are compared."""
_LEVELS = (4.0, 1.0)
"""Blur of the pictures (px), coarse to fine."""
_FLAT = 5.0
"""Blurs over which slow changes of light are taken out."""
_MARGIN = 0.15
"""Part of the picture's height above the chest that is cut out with it."""
_COLLAR = 0.3
"""From where on the rig counts as dressed beside the chin, too."""
_POINTS, _LEAST = 1000, 200
_SEEN, _SEEN_LEAST, _ROUNDS, _STEPS = 120, 8, 2, 2
"""Frames from which the appearance is learned, in how many a point must be seen; rounds of learning, and steps of each
frame at each level."""
_FIRST_NOISE, _WORTH = 0.06, 0.2
"""Deviation of a feature before the appearance is learned; share of the points' information that counts, as
neighbours' errors agree."""
_PRIOR = Prior(
    deviation=np.repeat([0.008, 0.008, 0.008, 0.006, 0.006, 0.006, 0.004, 0.004, 0.004, 0.004], 2), smooth=0.08
)
"""Metres, of the coefficients."""
_A_SECOND = 6.0
"""Frames that are looked at; clothes follow slowly."""

Picture = Callable[[int], UInt8[np.ndarray, "h w 3"]]


def follow_clothes(
    track: FaceTrack,
    rig: PersonalRig,
    frame: Picture,
    mask: Picture,
    *,
    segments: Int[np.ndarray, "t"] | None = None,
    sink: Sink = silent,
) -> FaceTrack:
    """The same track with `clothes` as the pictures show them.

    Args:
        frame: gives frame i; only frames with a confidence are asked for.
        mask: gives the coarse person mask of frame i, 255 is person.
        segments: ids of the frames between cuts; nothing is smoothed from one to the next.
        sink: hears the progress.

    Returns:
        Unchanged where the rig has no torso, hardly any of it is seen, or it turns out of sight.
    """
    good = np.flatnonzero(track.confidence.numpy() > 0)
    if not (rig.skin[:, 2] > TORSO).any() or len(good) < _SEEN_LEAST or is_wide(track):
        return track
    reference = reference_frame(track)
    worn, person = _worn(track, rig, reference), mask(reference)
    dressed = chest(track, reference, person, inward=0) | ((worn > _COLLAR) & (person > 200))
    pixels = spread_pixels(np.asarray(dressed, np.uint8), _POINTS)
    if len(pixels) < _LEAST:
        return track
    view = _View(track, rig, reference, pixels, worn)
    count = len(track.motion)
    blocks, pull, start = np.zeros((count, CLOTHES, CLOTHES)), np.zeros((count, CLOTHES)), np.zeros((count, CLOTHES))
    with threadpool_limits(1):  # the frames are what goes side by side
        looks = _learned(view, frame, reference, good)

        def follow(item: tuple[int, UInt8[np.ndarray, "h w 3"]]) -> None:
            index, planes = item[0], view.planes(item[1])
            start[index] = view.aligned(index, planes, looks, start[index])
            blocks[index], pull[index] = view.equation(index, planes[-1], looks[-1], start[index])

        some = good[:: max(round(track.motion.fps / _A_SECOND), 1)]
        for done, _ in enumerate(side_by_side(follow, read_ahead(frame, some.tolist()))):
            if done % 10 == 0:
                sink(Progress(stage=_STAGE, done=done, total=len(some)))
    sink(Progress(stage=_STAGE, done=len(some), total=len(some)))
    found = start + _PRIOR.together(blocks, pull, start, (track.motion.fps, segments))
    found -= np.median(found[good], 0)
    return replace(track, motion=replace(track.motion, clothes=torch.from_numpy(found).float()))


@dataclass(frozen=True, kw_only=True)
class _Planes:
    """A frame's chest at one level: brightness and redness (logarithms) without slow changes of light, and their
    slopes along x and y, a pixel of the plane."""

    features: Float32[np.ndarray, "h w 2"]
    slopes: tuple[Float32[np.ndarray, "h w 2"], Float32[np.ndarray, "h w 2"]]


class _View:
    """Points of the chest as the camera sees them in each frame."""

    def __init__(
        self,
        track: FaceTrack,
        rig: PersonalRig,
        reference: int,
        pixels: Float[np.ndarray, "n 2"],
        worn: Float[np.ndarray, "h w"],
    ):
        """Args: `pixels` of the chest in the reference frame, and how much what each shows goes along (nan is all)."""
        self._focal, self._centre = np.array(track.camera.focal), np.array(track.camera.center)
        turns, motion = torso_turns(track), track.motion
        head = motion.T_world_head.double().numpy()
        upper, lower = rig.neck_pivots.double().numpy()
        half = (turns.inv() * turns.from_matrix(head[:, :3, :3])).as_rotvec() / -2
        base = upper + turns.from_rotvec(half).apply(lower - upper)
        self._turn = turns.as_matrix()
        self._base = (head[:, :3, :3] @ base[..., None])[..., 0] + head[:, :3, 3] + motion.torso.double().numpy()
        at, (column, row) = anchors(track, rig, reference, pixels), pixels.astype(int).T
        weight = np.nan_to_num(worn[row, column], nan=1.0)
        self._local = (at - self._base[reference]) @ self._turn[reference]
        terms = clothes_terms(torch.from_numpy(self._local[:, :2])).numpy()
        self._terms = (terms * weight[:, None]).astype(np.float32)
        distance = float(np.median(at[:, 2]))
        self._factor = max(track.camera.focal[0] * _EYES / distance / _EYES_PX, 0.5)
        height, width = track.camera.size
        self._top = int(max(pixels[:, 1].min() - _MARGIN * height, 0))
        self._size = round(width / self._factor), max(round((height - self._top) / self._factor), 2)

    def planes(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[_Planes]:
        """Of each level."""
        small = cv2.resize(picture[self._top :], self._size, interpolation=cv2.INTER_AREA)
        both = features(np.asarray(small, np.uint8))
        found = []
        for blur in _LEVELS:
            own = cv2.GaussianBlur(both, (0, 0), blur) - _blurred(both, blur * _FLAT)
            across, down = (cv2.Scharr(own, cv2.CV_32F, *axis, scale=1 / 32) for axis in ((1, 0), (0, 1)))
            found.append(_Planes(features=own, slopes=(across, down)))
        return found

    def aligned(
        self, index: int, planes: list[_Planes], looks: list[Looks], x: Float[np.ndarray, "k"]
    ) -> Float[np.ndarray, "k"]:
        """Coefficients under which a frame by itself looks as it should, from `x` on."""
        for level, look in zip(planes, looks, strict=True):
            for _ in range(_STEPS):
                x = _PRIOR.alone(*self.equation(index, level, look, x), x)
        return x

    def look(self, index: int, planes: _Planes, x: Float[np.ndarray, "k"]) -> Float32[np.ndarray, "n 2"]:
        """What each point shows; nan outside of the picture."""
        seen = self._moved(index, x)
        (found,), inside = self._sampled(seen, planes.features)
        return np.where(inside[:, None], found, np.nan)

    def equation(
        self, index: int, planes: _Planes, looks: Looks, x: Float[np.ndarray, "k"]
    ) -> tuple[Float[np.ndarray, "k k"], Float[np.ndarray, "k"]]:
        """Gauss-Newton block and gradient of a frame's coefficients."""
        seen, turn = self._moved(index, x), self._turn[index]
        (found, across, down), inside = self._sampled(seen, planes.features, *planes.slopes)
        residual = found - looks.value
        weight = np.float32(_WORTH) * looks.information(residual, inside)
        scale = self._focal / self._factor / seen[:, 2:]
        x_slope, y_slope = across * scale[:, :1], down * scale[:, 1:]
        z_slope = -(x_slope * seen[:, :1] + y_slope * seen[:, 1:2]) / seen[:, 2:]
        along = np.stack([x_slope * turn[0, a] + y_slope * turn[1, a] + z_slope * turn[2, a] for a in (0, 1)], -1)
        rows = (self._terms[:, None, :, None] * along.astype(np.float32)[:, :, None]).reshape(-1, CLOTHES)
        weighted = rows * weight.reshape(-1, 1).astype(np.float32)
        return (weighted.T @ rows).astype(np.float64), (weighted.T @ residual.reshape(-1)).astype(np.float64)

    def _moved(self, index: int, x: Float[np.ndarray, "k"]) -> Float[np.ndarray, "n 3"]:
        """The points in the camera's frame."""
        turn, slid = self._turn[index], self._terms @ x.reshape(-1, 2)
        return self._local @ turn.T + slid @ turn[:, :2].T + self._base[index]

    def _sampled(
        self, seen: Float[np.ndarray, "n 3"], *planes: Float32[np.ndarray, "h w 2"]
    ) -> tuple[list[Float32[np.ndarray, "n 2"]], Bool[np.ndarray, "n"]]:
        pixels = seen[:, :2] / seen[:, 2:] * self._focal + self._centre - [0, self._top]
        where = (pixels / self._factor - 0.5).astype(np.float32)
        inside = ((where > 1) & (where < np.array(self._size) - 2)).all(1)
        x, y = (np.ascontiguousarray(where[None, :, axis]) for axis in (0, 1))
        return [cv2.remap(plane, x, y, cv2.INTER_LINEAR)[0] for plane in planes], inside


def _worn(track: FaceTrack, rig: PersonalRig, index: int) -> Float[np.ndarray, "h w"]:
    """How much of what a frame shows goes along when clothes slide: as the rig there, nan beside it."""
    camera, surface = track.camera, rig.posed(track.motion.frame(index))
    triangle, _, _ = rasterize_mesh(surface, rig.faces, camera.focal, camera.center, camera.size)
    weight = rig.worn[rig.faces, 0].mean(1)[triangle.clamp_min(0)]
    return torch.where(triangle >= 0, weight, torch.nan).numpy()


def _blurred(planes: Float32[np.ndarray, "h w 2"], sigma: float) -> Float32[np.ndarray, "h w 2"]:
    """A wide blur, of a smaller copy."""
    part = max(sigma / 4, 1.0)
    size = max(round(planes.shape[1] / part), 2), max(round(planes.shape[0] / part), 2)
    small = cv2.GaussianBlur(cv2.resize(planes, size, interpolation=cv2.INTER_AREA), (0, 0), sigma / part)
    return np.asarray(cv2.resize(small, planes.shape[1::-1]), np.float32)


def _learned(view: _View, frame: Picture, reference: int, good: Int[np.ndarray, "f"]) -> list[Looks]:
    """The appearance over some frames, laid on each other by it in turn; at first it is that of a reference frame."""
    some = good[np.linspace(0, len(good) - 1, min(_SEEN, len(good))).astype(int)].tolist()
    found = np.zeros((len(some), CLOTHES))
    first = [view.look(reference, level, found[0]) for level in view.planes(frame(reference))]
    noise = [np.where(np.isfinite(value), np.float32(_FIRST_NOISE**2), np.float32(np.inf)) for value in first]
    looks = [Looks(value=np.nan_to_num(value), variance=n) for value, n in zip(first, noise, strict=True)]

    def aligned(item: tuple[int, tuple[int, UInt8[np.ndarray, "h w 3"]]]) -> list[Float32[np.ndarray, "n 2"]]:
        row, (index, picture) = item
        planes = view.planes(picture)  # made anew in each round: those of all frames would not fit into memory
        found[row] = view.aligned(index, planes, looks, found[row])
        return [view.look(index, level, found[row]) for level in planes]

    for _ in range(_ROUNDS):
        seen = list(side_by_side(aligned, enumerate(read_ahead(frame, some))))
        looks = [Looks.of([each[level] for each in seen], _SEEN_LEAST) for level in range(len(_LEVELS))]
    return looks
