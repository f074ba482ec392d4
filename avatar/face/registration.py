"""Laying the Anny rig over another head model: its own identity basis takes the other's shape.

What the Anny rig knows of a face (where landmarks are, what actions move, which part is what) can then be read off at
the nearest surface point. numpy, metres, axes of the head frame.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from avatar.core import Region
from avatar.face.rig import AnnyRig, PersonalRig, Piece
from avatar.face.surface import Surface, rim, vertex_normals

_REACH = (0.03, 0.03, 0.025, 0.02, 0.02, 0.015, 0.015, 0.012, 0.01, 0.01, 0.008, 0.008, 0.006, 0.006, 0.006, 0.006)
"""Metres within which points find each other, round by round."""
_RIGID_ROUNDS = 4
_NOISE, _SHARE = 0.001, 0.15
"""Metres; and the part of the points that counts as independent."""
_SIZE = 0.1
"""Deviation of the logarithm of the other model's size."""
_FACE = (Region.SKIN, Region.BROWS, Region.NOSE, Region.LIPS)


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
    """Iterated nearest points, from point to plane (Chen and Medioni 1991), over pose, size and Anny's identity.

    Args:
        shift: first guess of where the model's origin lies, to about 2 cm; its axes turn by 20 degrees at most.
    """
    chosen = _face_points(anny)
    modes = anny.modes[:, chosen].double().numpy()
    edge = rim(faces, len(vertices))
    rotation, scale, identity = np.eye(3), 1.0, np.zeros(len(modes))
    error = 1.0
    for step, reach in enumerate(_REACH):
        moved = scale * vertices @ rotation.T + shift
        mine = anny.neutral(torch.from_numpy(identity).float()).double().numpy()
        normals = vertex_normals(mine, anny.faces.numpy())[chosen]
        surface = Surface(moved, faces)
        found = surface.nearest(mine[chosen], normals)
        toward = surface.normal(found.triangle)
        off_rim = ~edge[faces[found.triangle]].any(1)
        good = (found.distance < reach) & off_rim & ((toward * normals).sum(1) > 0.5)
        error = float(np.median(found.distance[off_rim])) if off_rim.any() else 1.0
        if good.sum() < 50:
            break
        gap = ((mine[chosen] - found.point) * toward).sum(1)
        weight = good / np.maximum(np.abs(gap) / (2 * _NOISE), 1)
        free = modes if step >= _RIGID_ROUNDS else modes[:0]
        turn, move, grow, change = _solve((found.point, toward, gap, weight), free, identity)
        centre = found.point[good].mean(0)
        delta = np.exp(grow) * Rotation.from_rotvec(turn).as_matrix()
        shift = delta @ (shift - centre) + centre + move
        rotation, scale = Rotation.from_rotvec(turn).as_matrix() @ rotation, scale * float(np.exp(grow))
        identity[: len(change)] += change
        identity = identity.clip(-3, 3)
    person = anny.personal(torch.from_numpy(identity).float())
    return Registration(rotation=rotation, shift=shift, scale=scale, person=person, error=error)


def _solve(
    matched: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], modes: np.ndarray, now: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Turn, move and growth of the model about its matched points' centre, and change of Anny's identity.

    Args:
        matched: points of the model, their normals, how far Anny lies outside of each (metres), and weights.
    """
    points, toward, gap, weight = matched
    arm = points - points[weight > 0].mean(0)
    by_pose = -np.concatenate([np.cross(arm, toward), toward, (arm * toward).sum(1, keepdims=True)], 1)
    by_mode = np.einsum("kni,ni->nk", modes, toward)
    matrix = np.concatenate([by_pose, by_mode], 1)
    information = weight * _SHARE / _NOISE**2
    prior = np.concatenate([np.full(3, 0.2**-2), np.full(3, 0.05**-2), [_SIZE**-2], np.ones(len(modes))])
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
