"""The person's own head beside the face: ears, jaw and skull fitted to where the person ends in spread frames.

Landmarks lie on the face alone, so the rest of a fitted head is the family's guess. Here identity and smooth offsets
move it until its rim lies on the person's edge, in all frames at once (Gauss-Newton on the rim's normals). Where skin
ends, the rim lies on the edge; where hair or cloth ends, the head is inside, by a thickness that is hardly known. The
points of the face stay where they are.

A face can be pitched on its skull, or the whole head be pitched: landmarks hardly tell, and detectors err towards the
first (ears of a fitted head sat a centimetre too low on films). So head and poses may turn against each other, and the
most usual head that leaves the face in its place is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial.transform import Rotation

from avatar.core import FaceTrack, Region
from avatar.events import Progress, Sink, silent
from avatar.face.gaze import turned_gaze, with_looks
from avatar.face.outline import Outline, Picture, outline, prepared
from avatar.face.parsing import Parser
from avatar.face.rig import AbstractRig, LandmarkTable, PersonalRig
from avatar.face.shoulders import fit_shoulders
from avatar.face.solver_shape import smooth_kernels
from avatar.face.solver_shared import spread_frames

_STAGE = "head shape"
_FRAMES, _ROUNDS, _SHOULDERS_EVERY = 16, 4, 2
_SURE = 0.8
"""Confidence, relative to the best frame's, of a frame that is looked at."""
_WAVES = ((0.060, 0.004), (0.020, 0.002))
"""(length, deviation) in metres."""
_EAR_PLACE, _EAR_SIZE, _EAR_ROOT = 0.008, 0.15, 0.006
"""Deviation of an ear's place (metres, each axis) and relative size; over the root's metres the head goes along."""
_KNOTS = 200
"""Points from which the offsets are interpolated."""
_STAYS = 0.0006
"""Least deviation (metres) of a landmark's place on the face; more where the detector is not as exact."""
_BELIEVED = 0.4
"""Deviation of a point's mean over a clip in parts of its deviation in a frame."""
_RIM = 0.004
"""Deviation (metres) of the edge at one point; neighbours and other frames repeat its error (0.001 for 16 points)."""
_STRAYS = (0.010, 0.006, 0.003, 0.003)
"""Gap (metres) from which skin is rather a hand, or badly cut out, in each round."""
_HAIR, _HAIR_DEVIATION = 0.015, 0.010
"""Thickness of hair (metres). Its error is the same everywhere, so that all points together count as `_LOOKS`."""
_THINNEST = 0.002
_LOOKS = 1.5
_BALD = 0.6
"""Share of the scalp's rim that looks like skin from which it may be no hair."""
_FEWEST = 50
_HEAD = 0.99
"""Weight from which a vertex goes with the head alone."""
_TURN, _SHIFT = 0.2, 0.05
"""Deviations (radians, metres) of the head's frame from where the landmarks' fit has it."""


def fit_silhouette(
    track: FaceTrack,
    rig: PersonalRig,
    family: AbstractRig,
    *,
    frame: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    mask: Callable[[int], UInt8[np.ndarray, "h w"]],
    sink: Sink = silent,
) -> tuple[FaceTrack, PersonalRig]:
    """The track and rig with a head and shoulders that end where the person does; the face stays where it is seen.

    Args:
        frame: gives frame i; only some with a face are asked for.
        mask: gives the coarse person mask of frame i, 255 is person.
        sink: hears the progress.
    """
    chosen = _chosen(track)
    pictures = _pictures(track, rig, chosen, frame, mask)
    space, closed = _Space(rig, track.identity, family), _closed(rig.faces.numpy())
    below = np.isin(rig.regions.numpy(), (Region.NECK, Region.TORSO))
    z, now, bald = np.zeros(space.size), rig, False
    for done in range(_ROUNDS):
        sink(Progress(stage=_STAGE, done=done, total=_ROUNDS, unit="rounds"))
        found = [outline(now, track.camera, picture, closed & ~below) for picture in pictures]
        bald = _is_bald(found) if done == 0 else bald
        bare = [part.is_skin & (bald | ~part.on_scalp) for part in found]
        z = _solved(space, _Found(found, bare, _STRAYS[done]), z)
        now = space.rig(z)
    track, person = space.answer(track, z)
    posed = [replace(p, motion=track.motion.frame(i)) for p, i in zip(pictures, chosen.tolist(), strict=True)]
    torso = closed & (rig.regions.numpy() == Region.TORSO)
    person = fit_shoulders(person, track.camera, posed[::_SHOULDERS_EVERY], torso)
    sink(Progress(stage=_STAGE, done=_ROUNDS, total=_ROUNDS, unit="rounds"))
    return track, person


def _chosen(track: FaceTrack) -> Int[np.ndarray, "n"]:
    """Sure frames that differ in pose."""
    confidence = track.confidence.numpy()
    turns = Rotation.from_matrix(track.motion.T_world_head[:, :3, :3].double().numpy()).as_rotvec()
    return spread_frames(turns, confidence > _SURE * confidence.max(), _FRAMES)


def _pictures(
    track: FaceTrack, rig: PersonalRig, chosen: Int[np.ndarray, "n"], frame: Callable, mask: Callable
) -> list[Picture]:
    parser = Parser(rig, track.camera, len(chosen))
    for number, index in enumerate(chosen.tolist()):
        parser.survey(number, frame(index), mask(index), track.motion.frame(index))
    return [prepared(parser, frame(i), mask(i), track.motion.frame(i)) for i in chosen.tolist()]


def _closed(faces: Int[np.ndarray, "f 3"]) -> Bool[np.ndarray, "f"]:
    """Triangles that do not touch an open edge."""
    sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    edges, count = np.unique(sides, axis=0, return_counts=True)
    return ~np.isin(faces, edges[count == 1]).any(1)


class _Space:
    """Displacements of a head: identity and offsets, each unknown in standard deviations from the face's fit."""

    def __init__(self, rig: PersonalRig, identity: Float[torch.Tensor, "i"], family: AbstractRig):
        self._start, self._identity, self._family = rig, identity, family
        size = family.identity_size
        modes = family.neutral(torch.eye(size)) - family.neutral(torch.zeros(size))
        head = rig.skin[:, 0] > _HEAD
        self._pivot = (rig.neutral[head] if head.any() else rig.neutral).mean(0)
        rigid = _rigid(rig.neutral - self._pivot)
        self._modes = np.concatenate([modes.permute(1, 2, 0).numpy(), _ears(rig), rigid], 2)
        self._rigid = slice(self._modes.shape[2] - rigid.shape[2], self._modes.shape[2])
        self._faces, self._waves = rig.faces.numpy(), _waves(rig)
        self.size = self._modes.shape[2] + sum(wave.shape[1] for wave in self._waves)
        self.kept = self._kept(family.landmarks)
        """Information of the priors: usual sizes, and a face that stays."""
        self.pull = np.zeros(self.size)
        """Towards the usual head, which the landmarks' fit may have left."""
        self.pull[:size] = -identity.numpy()

    def _kept(self, table: LandmarkTable) -> Float[np.ndarray, "m m"]:
        at, usable = table.points(self._start.neutral, self._start.faces), table.usable.numpy()
        unit = float((at[263] - at[33]).norm())
        deviation = np.maximum(_STAYS, _BELIEVED * unit * table.sigma.numpy()[usable])
        triangle, barycentric = table.triangles.numpy()[usable], table.barycentric.numpy()[usable]
        out = np.eye(self.size)
        for axis in np.eye(3, dtype=np.float32):
            rows = self.rows(triangle, barycentric, np.tile(axis, (len(triangle), 1))) / deviation[:, None]
            out += rows.T @ rows
        return out

    def rows(
        self, triangle: Int[np.ndarray, "n"], barycentric: Float[np.ndarray, "n 3"], along: Float[np.ndarray, "n 3"]
    ) -> Float[np.ndarray, "n m"]:
        """How far each unknown moves points of the surface along directions of the head frame (metres)."""
        corners = self._faces[triangle]
        weights = (barycentric[:, :, None] * along[:, None]).astype(np.float32)
        parts = [np.einsum("nkc,nkcm->nm", weights, self._modes[corners], optimize=True)]
        for axis, wave in enumerate(self._waves):
            parts.append(np.einsum("nk,nkm->nm", weights[:, :, axis], wave[corners]))
        return np.concatenate(parts, 1).astype(np.float64)

    def identity(self, z: Float[np.ndarray, "m"]) -> Float[torch.Tensor, "i"]:
        """The identity at z."""
        return self._identity + torch.from_numpy(z[: len(self._identity)]).float()

    def rig(self, z: Float[np.ndarray, "m"]) -> PersonalRig:
        """The person at z, in the frame of the landmarks' fit."""
        first = self._modes.shape[2]
        moved = self._modes @ z[:first].astype(np.float32)
        for axis, wave in enumerate(self._waves):
            moved[:, axis] += wave @ z[first : first + wave.shape[1]].astype(np.float32)
            first += wave.shape[1]
        identity = self.identity(z)
        neutral = self._start.neutral + torch.from_numpy(moved)
        person = self._family.personal(identity, neutral - self._family.neutral(identity))
        return replace(person, actions=self._family.shutting(person.neutral, self._start.actions))

    def answer(self, track: FaceTrack, z: Float[np.ndarray, "m"]) -> tuple[FaceTrack, PersonalRig]:
        """Track and person at z, in the frame that the turn and shift among z lead to."""
        turn, shift = np.split(z[self._rigid] * ([_TURN] * 3 + [_SHIFT] * 3), 2)
        back = Rotation.from_rotvec(turn).inv()
        own = z.copy()
        own[self._rigid] = 0
        person, motion = self.rig(own), track.motion
        R = torch.from_numpy(back.as_matrix()).float()
        person = replace(person, actions=self._family.shutting(person.neutral, self._start.actions @ R.T))
        pose = motion.T_world_head.clone()
        pose[:, :3, :3] = motion.T_world_head[:, :3, :3] @ R.T
        moved = self._pivot + torch.from_numpy(shift).float() - R.T @ self._pivot
        pose[:, :3, 3] += motion.T_world_head[:, :3, :3] @ moved
        gaze = turned_gaze(motion.gaze, R)
        motion = replace(
            motion, T_world_head=pose, neck=motion.neck @ R.T, gaze=gaze, expression=with_looks(motion.expression, gaze)
        )
        return replace(track, identity=self.identity(z), motion=motion), person


def _waves(rig: PersonalRig) -> list[Float[np.ndarray, "v k"]]:
    """Smooth displacements along each axis at one standard deviation; none below the head."""
    vertices, share = rig.neutral.double().numpy(), rig.skin[:, :1].double().numpy()
    knots = _spread(vertices[share[:, 0] > 0.5])
    out = []
    between, onto = smooth_kernels(knots, knots, _WAVES), smooth_kernels(vertices, knots, _WAVES)
    for inner, outer in zip(between, onto, strict=True):
        values, directions = np.linalg.eigh(inner)
        strong = values > 1e-4 * values[-1]
        out.append((share * (outer @ (directions[:, strong] / np.sqrt(values[strong])))).astype(np.float32))
    return out


def _rigid(arms: Float[torch.Tensor, "v 3"]) -> Float[np.ndarray, "v 3 6"]:
    """Small turns and shifts of everything at one standard deviation."""
    axes = torch.eye(3)
    turns = torch.stack([torch.linalg.cross(axis.expand_as(arms), arms) for axis in axes], 2)
    return torch.cat([_TURN * turns, _SHIFT * axes.expand(len(arms), 3, 3)], 2).numpy()


def _ears(rig: PersonalRig) -> Float[np.ndarray, "v 3 k"]:
    """Shifts and growth of each ear at one standard deviation; families hardly know how ears differ."""
    at, ears = rig.neutral, rig.neutral[rig.faces[rig.regions == int(Region.EARS)].unique()]
    modes = [torch.zeros(len(at), 3, 0)]
    for own in (ears[ears[:, 0] < 0], ears[ears[:, 0] > 0]):
        if len(own):
            near = torch.exp(-0.5 * (torch.cdist(at, own).amin(1) / _EAR_ROOT).square())[:, None, None]
            modes.append(near * _EAR_PLACE * torch.eye(3))
            modes.append(near * _EAR_SIZE * (at - own.mean(0))[..., None])
    return torch.cat(modes, 2).numpy()


def _spread(points: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "k 3"]:
    """Points far from each other (farthest point sampling)."""
    chosen, away = [0], np.full(len(points), np.inf)
    while len(chosen) < min(_KNOTS, len(points)):
        away = np.minimum(away, ((points - points[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(away.argmax()))
    return points[chosen]


def _is_bald(found: Sequence[Outline]) -> bool:
    """The scalp ends in skin, and hardly farther out than a skull: hair may have the colour of skin."""
    skin = np.concatenate([part.is_skin[part.on_scalp] for part in found])
    gap = np.concatenate([part.gap[part.on_scalp] for part in found])
    return len(gap) > _FEWEST and bool(skin.mean() > _BALD and np.median(gap) < _HAIR / 2)


class _Found(NamedTuple):
    """What one round goes by."""

    outlines: Sequence[Outline]
    bare: Sequence[Bool[np.ndarray, "n"]]
    """Where skin ends."""
    strays: float


def _solved(space: _Space, found: _Found, z: Float[np.ndarray, "m"]) -> Float[np.ndarray, "m"]:
    """One step of Gauss-Newton from z."""
    hairy = sum(int((part.on_scalp & ~skin).sum()) for part, skin in zip(found.outlines, found.bare, strict=True))
    matrix, right = space.kept.copy(), space.pull.copy()
    for part, skin in zip(found.outlines, found.bare, strict=True):
        rows = space.rows(part.triangle, part.barycentric, part.outward)
        wanted, weight = _pulls(part, skin, hairy, strays=found.strays)
        matrix += rows.T @ (rows * weight[:, None])
        right += rows.T @ (weight * (wanted + rows @ z))
    return np.linalg.solve(matrix, right)


def _pulls(
    part: Outline, skin: Bool[np.ndarray, "n"], hairy: int, *, strays: float
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Metres by which the rim should move outwards, and their information.

    Args:
        skin: where skin ends.
        hairy: number of points of hair on the scalp, in all frames.
        strays: gap (metres) from which the edge is rather something else's.
    """
    wanted = np.where(skin, part.gap, part.gap - _THINNEST)
    sure = _RIM**-2 / (1 + (wanted / strays) ** 2)
    usual = part.gap - _HAIR  # what hangs over ears and cheeks tells nothing of them
    guess = part.on_scalp * _LOOKS / (max(hairy, 1) * _HAIR_DEVIATION**2) / (1 + (usual / _HAIR_DEVIATION) ** 2)
    inside = ~skin & (part.gap >= _THINNEST)
    return np.where(inside, usual, wanted), np.where(inside, guess, sure * (np.abs(wanted) < 2 * strays))
