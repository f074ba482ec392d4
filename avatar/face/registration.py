"""Laying the Anny rig over another head model: its own identity basis takes the other's shape.

What the Anny rig knows of a face (where landmarks are, what actions move, which part is what) can then be read off at
the nearest surface point. numpy, metres, axes of the head frame.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from avatar.core import Region
from avatar.face.rig import AnnyRig, PersonalRig, Piece
from avatar.face.surface import Surface, rim, vertex_normals

_RIGID = (0.03, 0.03, 0.025, 0.02, 0.02)
_IDENTITY = (0.02, 0.02, 0.015, 0.015, 0.012, 0.012, 0.01, 0.01)
_SMOOTH = (0.01, 0.008, 0.008, 0.006)
"""Metres within which points find each other, round by round: pose and size, then identity, then the smooth rest."""
_NOISE, _SHARE = 0.002, 0.05
"""Metres; and the part of the points that counts as independent."""
_SIZE = (0.1, 0.01)
"""Deviation of the logarithm of the other model's size, before and after Anny's identity takes part in it."""
_WAVE, _REST = 0.022, 0.004
"""Length and deviation (metres) of what neither size nor identity explain."""
_CONTROLS = 700
"""Points by which that is told."""
_FACE = (Region.SKIN, Region.BROWS, Region.NOSE, Region.LIPS)


_Pose: TypeAlias = tuple[np.ndarray, np.ndarray, float]
"""Rotation, shift and scale."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """x_anny = scale * rotation @ x_model + shift, and the Anny head that lies on the model's mean."""

    rotation: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, "3"]
    scale: float
    person: PersonalRig
    error: float
    """Median distance of the two surfaces on the face, metres."""

    def to_anny(self, points: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
        """Places of the model to places of the Anny head."""
        return self.scale * points @ self.rotation.T + self.shift


def register(
    anny: AnnyRig, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], shift: Float[np.ndarray, "3"]
) -> Registration:
    """Iterated nearest points, from point to plane (Chen and Medioni 1991).

    First over pose and size, then over Anny's identity as well, then over a smooth displacement of what remains.

    Args:
        shift: first guess of where the model's origin lies, to about 2 cm; its axes turn by 20 degrees at most.
    """
    other = _Other(vertices, faces)
    chosen = _face_points(anny)
    modes = anny.modes[:, chosen].double().numpy()
    pose, identity = (np.eye(3), np.asarray(shift, np.float64), 1.0), np.zeros(len(modes))
    offsets = np.zeros(anny.mean.shape)
    for step, reach in enumerate((*_RIGID, *_IDENTITY)):
        rigid = step < len(_RIGID)
        matched = other.matched(pose, (anny, identity, offsets), chosen, reach)
        if (matched[3] > 0).sum() < 50:
            break
        free = modes[:0] if rigid else modes
        turn, move, grow, change = _solve(matched, free, identity, _SIZE[0] if rigid else _SIZE[1])
        pose = _moved(pose, matched[0][matched[3] > 0].mean(0), (turn, move, grow))
        identity[: len(change)] += change
    every = chosen[:: max(len(chosen) // _CONTROLS, 1)]
    for reach in _SMOOTH:
        matched = other.matched(pose, (anny, identity, offsets), every, reach)
        if (matched[3] > 0).sum() < 50:
            break
        offsets = _smooth_rest(matched, _neutral(anny, identity), every, offsets)
    gaps = other.matched(pose, (anny, identity, offsets), chosen, np.inf)
    person = anny.personal(torch.from_numpy(identity).float(), torch.from_numpy(offsets).float())
    error = float(np.median(np.abs(gaps[4]))) if len(gaps[4]) else 1.0
    return Registration(rotation=pose[0], shift=pose[1], scale=pose[2], person=person, error=error)


def _neutral(anny: AnnyRig, identity: Float[np.ndarray, "i"]) -> Float[np.ndarray, "v 3"]:
    return anny.neutral(torch.from_numpy(identity).float()).double().numpy()


class _Other:
    """The model that Anny is laid over."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self._vertices, self._faces, self._edge = vertices, faces, rim(faces, len(vertices))

    def matched(
        self, pose: _Pose, head: tuple[AnnyRig, np.ndarray, np.ndarray], chosen: Int[np.ndarray, "n"], reach: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Its points nearest to Anny's, their normals, how far Anny is outside (m), weights, distances off rims."""
        anny, identity, offsets = head
        rotation, shift, scale = pose
        mine = _neutral(anny, identity) + offsets
        normals = vertex_normals(mine, anny.faces.numpy())[chosen]
        surface = Surface(scale * self._vertices @ rotation.T + shift, self._faces)
        found = surface.nearest(mine[chosen], normals)
        toward = surface.normal(found.triangle)
        inner = ~self._edge[self._faces[found.triangle]].any(1)
        good = (found.distance < reach) & inner & ((toward * normals).sum(1) > 0.5)
        gap = ((mine[chosen] - found.point) * toward).sum(1)
        weight = good / np.maximum(np.abs(gap) / (2 * _NOISE), 1)
        return found.point, toward, gap, weight, found.distance[inner]


def _moved(pose: _Pose, centre: np.ndarray, step: tuple[np.ndarray, np.ndarray, float]) -> _Pose:
    """Turned and grown about `centre`, then moved."""
    rotation, shift, scale = pose
    turn, growth = Rotation.from_rotvec(step[0]).as_matrix(), float(np.exp(step[2]))
    return turn @ rotation, growth * turn @ (shift - centre) + centre + step[1], scale * growth


def _smooth_rest(
    matched: tuple[np.ndarray, ...], surface: Float[np.ndarray, "v 3"], chosen: np.ndarray, now: np.ndarray
) -> Float[np.ndarray, "v 3"]:
    """Displacements (metres) of all of Anny's vertices, a Gaussian process that is seen along the normals."""
    _, toward, gap, weight, _ = matched
    use = weight > 0
    at, normal = surface[chosen[use]], toward[use]
    wanted = (now[chosen[use]] * normal).sum(1) - gap[use]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return _REST**2 * np.exp(-squared.clip(0) / (2 * _WAVE**2))

    noise = np.diag(0.0005**2 / weight[use])
    force = np.linalg.solve(kernel(at, at) * (normal @ normal.T) + noise, wanted)
    return kernel(surface, at) @ (normal * force[:, None])


def _solve(
    matched: tuple[np.ndarray, ...], modes: np.ndarray, now: np.ndarray, size: float
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Turn, move and growth of the model about its matched points' centre, and change of Anny's identity.

    Args:
        matched: points of the model, their normals, how far Anny lies outside of each (metres), and weights.
    """
    points, toward, gap, weight, _ = matched
    arm = points - points[weight > 0].mean(0)
    by_pose = -np.concatenate([np.cross(arm, toward), toward, (arm * toward).sum(1, keepdims=True)], 1)
    by_mode = np.einsum("kni,ni->nk", modes, toward)
    matrix = np.concatenate([by_pose, by_mode], 1)
    information = weight * _SHARE / _NOISE**2
    prior = np.concatenate([np.full(3, 0.2**-2), np.full(3, 0.05**-2), [size**-2], np.ones(len(modes))])
    pull = matrix.T @ (information * gap)
    pull[7:] += now[: len(modes)]
    step = -np.linalg.solve((matrix * information[:, None]).T @ matrix + np.diag(prior), pull)
    return step[:3], step[3:6], float(step[6].clip(-0.1, 0.1)), step[7:]


def _face_points(anny: AnnyRig) -> Int[np.ndarray, "n"]:
    """Vertices of the face's outer skin, without ears, scalp and neck: what any face model has."""
    kinds = np.isin(anny.regions.numpy(), [int(region) for region in _FACE])
    skin = kinds & (anny.pieces.numpy() == int(Piece.SKIN))
    index = np.unique(anny.faces.numpy()[skin])
    return index[anny.mean.numpy()[index, 2] < -0.02]


def nose_tip(vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "3"]:
    """The foremost point near the middle plane."""
    middle = np.median(vertices[:, 0])
    near = np.flatnonzero(np.abs(vertices[:, 0] - middle) < 0.02)
    return vertices[near[vertices[near, 2].argmin()]]


def outer_pieces(anny: AnnyRig) -> Bool[np.ndarray, "f"]:
    """Triangles of skin and of the insides of mouth and sockets: no eyeballs, no teeth, no tongue."""
    allowed = (Piece.SKIN, Piece.MOUTH_CAVITY, Piece.RIGHT_SOCKET, Piece.LEFT_SOCKET)
    return np.isin(anny.pieces.numpy(), [int(piece) for piece in allowed])
