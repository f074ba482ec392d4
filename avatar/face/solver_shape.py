"""What identity cannot explain: smooth vertex offsets of one person, and the detector's static error beside them.

Offsets have a Gaussian process prior (two squared exponentials) whose distances are measured on the face with eyes
and mouth opened, where neighbouring lips are not neighbours. A white term at each point takes what is not smooth:
it belongs to the detector and does not move the mesh.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from avatar.face.arkit import INDEX, NAMES
from avatar.face.rig import AbstractRig, PersonalRig
from avatar.face.solver import Observed, PointModel, State, lip_pairs, project, robust_weight

Waves = tuple[tuple[float, float], ...]
_WAVES: Waves = ((0.030, 0.0016), (0.010, 0.0012))
"""(length, deviation) in metres."""
_DEPTH = 0.5
"""Factor on the deviation along the view: a detector's points tell depth by turns alone, and bend with these."""
_AGREE = 0.6
"""Correlation of left and right."""
_WHITE = 0.5
"""Deviation of what is not smooth, in parts of the point's own deviation."""
_MODES = 90
"""Strongest directions of the prior, solved for together with the identity; the rest is added afterwards."""
_TOUCH = 0.0002
"""Deviation (metres) of how far offsets may part the lips of the neutral face."""
_FRAMES = 30.0
"""Errors of neighbouring frames agree: a clip weighs as much as this many independent ones."""


@dataclass(frozen=True, kw_only=True)
class Static:
    """What stays the same over the clip, in the head frame (metres)."""

    points: Float[np.ndarray, "l 3"]
    """Whole displacement of the detector's points from the identity's surface."""
    offsets: Float[np.ndarray, "v 3"]
    """The smooth part of it, everywhere on the mesh."""


class ShapeKernel:
    """The prior of offsets on one rig at the points `kept`."""

    def __init__(self, rig: AbstractRig, kept: Int[np.ndarray, "l"], sigma: Float[np.ndarray, "l"], unit: float):
        """Args: `sigma` of the points in eye distances, `unit` the eye distance in metres."""
        person, surface = opened(rig)
        mesh = surface.double().numpy()
        points = rig.landmarks.points(surface, person.faces)[kept].double().numpy()
        weights = torch.nn.functional.pad(person.eye_weights, (0, 1))
        on_eye = rig.landmarks.points(weights, person.faces)[kept].numpy().max(-1) > 0.5
        self._eye_weights = person.eye_weights.double().numpy()
        smooth = np.where(on_eye, 0.0, 1.0)
        among, onto = (
            [k * d**2 for k, d in zip(smooth_kernels(a, points), (1, 1, _DEPTH), strict=True)] for a in (points, mesh)
        )
        self._point_kernels = [k * smooth[:, None] * smooth for k in among]
        self._mesh_kernels = [k * smooth for k in onto]
        self._touch_at_rest(kept)
        self.point_modes, self.mesh_modes = self._split()
        """[m l 3] and [m v 3]: displacements (metres) at one standard deviation of each strongest direction."""
        self._white = (_WHITE * sigma * unit + 0.001 * on_eye) ** 2

    def _touch_at_rest(self, kept: Int[np.ndarray, "l"]) -> None:
        """The prior given that offsets do not part the lips: every neutral face of a rig has them closed."""
        upper, lower = lip_pairs(kept)
        point, mesh = self._point_kernels[1], self._mesh_kernels[1]
        parted = point[lower] - point[upper]
        told = (parted[:, lower] - parted[:, upper]) + _TOUCH**2 * np.eye(len(upper))
        gain = np.linalg.solve(told, parted)
        self._mesh_kernels[1] = mesh - (mesh[:, lower] - mesh[:, upper]) @ gain
        self._point_kernels[1] = point - parted.T @ gain

    def _split(self) -> tuple[Float[np.ndarray, "m l 3"], Float[np.ndarray, "m v 3"]]:
        """Take the strongest directions out of the kernels."""
        parts = [np.linalg.eigh(kernel) for kernel in self._point_kernels]
        ranked = sorted(((values[i], axis, i) for axis, (values, _) in enumerate(parts) for i in range(len(values))))
        at_points, on_mesh = [], []
        for value, axis, i in ranked[-_MODES:]:
            direction = parts[axis][1][:, i] / np.sqrt(value)
            at_points.append(np.outer(self._point_kernels[axis] @ direction, np.eye(3)[axis]))
            on_mesh.append(np.outer(self._mesh_kernels[axis] @ direction, np.eye(3)[axis]))
        for axis in range(3):
            own, mesh = np.stack(at_points)[:, :, axis], np.stack(on_mesh)[:, :, axis]
            self._point_kernels[axis] = self._point_kernels[axis] - own.T @ own
            self._mesh_kernels[axis] = self._mesh_kernels[axis] - mesh.T @ own
        return np.stack(at_points), np.stack([self._rigid_eyes(mode) for mode in on_mesh])

    def explain(
        self, model: PointModel, state: State, observed: Observed, focal: float, now: Float[np.ndarray, "l 3"]
    ) -> Static:
        """The offsets that explain the mean residual.

        Args:
            now: the static displacement that `model` already contains.
        """
        information, pull = _gather(model, state, observed, focal)
        size = len(now)
        pull = pull + (information @ now[..., None])[..., 0]
        prior = np.zeros((size, 3, size, 3))
        for axis, kernel in enumerate(self._point_kernels):
            prior[:, axis, :, axis] = kernel + np.diag(self._white)
        product = np.einsum("iajb,jbc->iajc", prior, information).reshape(3 * size, 3 * size)
        right = prior.reshape(3 * size, 3 * size) @ pull.reshape(-1)
        points = np.linalg.solve(np.eye(3 * size) + product, right).reshape(size, 3)
        force = pull - (information @ points[..., None])[..., 0]
        offsets = np.stack([kernel @ force[:, axis] for axis, kernel in enumerate(self._mesh_kernels)], -1)
        return Static(points=points, offsets=self._rigid_eyes(offsets))

    def _rigid_eyes(self, offsets: np.ndarray) -> Float[np.ndarray, "v 3"]:
        """An eyeball keeps its shape: it moves by its mean."""
        for side in (0, 1):
            weight = self._eye_weights[:, side : side + 1]
            offsets = offsets * (1 - weight) + weight * (weight * offsets).sum(0) / weight.sum()
        return offsets


def opened(rig: AbstractRig) -> tuple[PersonalRig, Float[torch.Tensor, "v 3"]]:
    """The mean head, and its surface with mouth and eyes open: there, neighbouring lips and lids are far apart."""
    person, expression = rig.personal(torch.zeros(rig.identity_size)), torch.zeros(len(NAMES))
    for name, value in (("jawOpen", 0.8), ("eyeWideLeft", 1.0), ("eyeWideRight", 1.0)):
        expression[INDEX[name]] = value
    return person, person.vertices(expression, torch.zeros(3), torch.zeros(2, 2))


def smooth_kernels(
    a: Float[np.ndarray, "a 3"], b: Float[np.ndarray, "b 3"], waves: Waves = _WAVES
) -> list[Float[np.ndarray, "a b"]]:
    """One for each axis: across the middle plane x displacements agree with the opposite sign.

    Args:
        waves: (length, deviation) in metres of each squared exponential.
    """

    def plain(other: np.ndarray) -> np.ndarray:
        squared = ((a[:, None] - other[None]) ** 2).sum(-1)
        return np.sum([sd**2 * np.exp(-squared / (2 * length**2)) for length, sd in waves], 0)

    same, across = plain(b), plain(b * np.array([-1.0, 1.0, 1.0]))
    return [same + sign * _AGREE * across for sign in (-1.0, 1.0, 1.0)]


def _gather(
    model: PointModel, state: State, observed: Observed, focal: float
) -> tuple[Float[np.ndarray, "l 3 3"], Float[np.ndarray, "l 3"]]:
    """Information about a static displacement of each point, and the residual's pull on it."""
    size = len(model.points)
    information, pull, total = np.zeros((size, 3, 3)), np.zeros((size, 3)), 0.0
    for first in range(0, len(state), 128):
        some = slice(first, first + 128)
        part = observed.select(some)
        seen = project(model, state.select(some), focal, observed.unit_px)
        residual = part.points - seen.uv
        weight = robust_weight(residual, part.weight, 2.5)
        turned = (seen.d_head * weight[..., None, None]).transpose(1, 3, 0, 2).reshape(size, 3, -1)
        information += turned @ seen.d_head.transpose(1, 0, 2, 3).reshape(size, -1, 3)
        pull += (turned @ residual.transpose(1, 0, 2).reshape(size, -1, 1))[..., 0]
        total += float((part.weight.sum(1) > 0).sum())
    scale = min(_FRAMES / max(total, 1.0), 1.0)
    return information * scale, pull * scale
