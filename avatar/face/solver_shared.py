"""Who it is: identity and focal length from a few well spread frames, each frame's unknowns eliminated (Schur)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from avatar.face.rig import AbstractRig
from avatar.face.solver import (
    UNKNOWNS,
    K,
    Observed,
    PointModel,
    Seen,
    State,
    jacobian,
    point_model,
    project,
    robust_weight,
)
from avatar.face.solver_prior import Prior
from avatar.face.solver_sequence import solve_single
from avatar.face.solver_shape import ShapeKernel, Static

_FOCAL_DEVIATION = 0.03
_EYES_DEVIATION = 0.0003


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all frames share."""

    identity: Float[np.ndarray, "i"]
    shape: Float[np.ndarray, "m"]
    """Coefficients of the strongest directions of the vertex offsets."""
    focal: float
    """Pixels."""
    rest: Static
    """What is static and neither identity nor strong."""


@dataclass(frozen=True, kw_only=True)
class FocalPrior:
    """Log-normal, and limits (pixels)."""

    focal: float
    low: float
    high: float


def spread_frames(features: Float[np.ndarray, "t d"], usable: np.ndarray, count: int) -> Int[np.ndarray, "n"]:
    """Farthest point sampling among the usable frames, in order of time."""
    candidates = np.flatnonzero(usable)
    if len(candidates) <= count:
        return candidates
    middle = np.median(features[candidates], 0)
    chosen = [int(candidates[np.linalg.norm(features[candidates] - middle, axis=1).argmin()])]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(features[candidates] - features[chosen[-1]], axis=1))
        chosen.append(int(candidates[distance.argmax()]))
    return np.sort(np.array(chosen))


class SharedSolver:
    """Alternates Gauss-Newton on everything with the static displacement of the points."""

    def __init__(self, rig: AbstractRig, kernel: ShapeKernel, kept: Int[np.ndarray, "l"], focal: FocalPrior):
        self._rig, self._kernel, self._kept, self._focal = rig, kernel, kept, focal
        zero = torch.zeros(rig.identity_size)
        base = rig.neutral(zero)
        faces = rig.personal(zero).faces
        modes = rig.neutral(torch.eye(rig.identity_size)) - base
        at_modes, at_base = rig.landmarks.points(modes, faces), rig.landmarks.points(base, faces)
        modes_here = np.concatenate([at_modes[:, kept].double().numpy(), kernel.point_modes])
        self._modes = np.ascontiguousarray(modes_here.transpose(1, 2, 0).astype(np.float32))
        self.eye_distance = float(at_base[263, 0] - at_base[33, 0])
        outer = np.searchsorted(kept, [33, 263])
        self._eyes = modes_here[:, outer[1], 0] - modes_here[:, outer[0], 0]

    def model(self, shared: Shared) -> PointModel:
        """The points of a person."""
        person = self._rig.personal(torch.from_numpy(shared.identity).float())
        model = point_model(self._rig, person, self._kept)
        return replace(model, points=model.points + self.static(shared).points)

    def static(self, shared: Shared) -> Static:
        """All that is static beside the identity."""
        points = np.tensordot(shared.shape, self._kernel.point_modes, 1) + shared.rest.points
        return Static(
            points=points, offsets=np.tensordot(shared.shape, self._kernel.mesh_modes, 1) + shared.rest.offsets
        )

    def nobody(self) -> Shared:
        """The mean face."""
        points, mesh = self._kernel.point_modes, self._kernel.mesh_modes
        return Shared(
            identity=np.zeros(self._rig.identity_size),
            shape=np.zeros(len(points)),
            focal=self._focal.focal,
            rest=Static(points=np.zeros(points.shape[1:]), offsets=np.zeros(mesh.shape[1:])),
        )

    def solve(
        self, observed: Observed, prior: Prior, state: State, rounds: tuple[int, ...], focal_freedom: float = 1.0
    ) -> tuple[Shared, State]:
        """Identity, focal length and static displacement, with the frames' own unknowns.

        Args:
            rounds: Gauss-Newton iterations before each estimate of the rest of the static displacement.
            focal_freedom: factor on the deviation of the focal length's prior.
        """
        shared = self.nobody()
        self._focal_weight = (focal_freedom * _FOCAL_DEVIATION) ** -2
        for iterations in rounds:
            for _ in range(iterations):
                shared = self._shared_step(shared, state, observed, prior)
                model = self.model(shared)
                state = solve_single(model, observed, prior, state, focal=shared.focal, iterations=1)
            shared = self.explained(shared, self.model(shared), state, observed)
        return shared, state

    def explained(self, shared: Shared, model: PointModel, state: State, observed: Observed) -> Shared:
        """With a new estimate of the rest of what is static."""
        rest = self._kernel.explain(model, state, observed, shared.focal, shared.rest.points)
        return replace(shared, rest=rest)

    def _shared_step(self, shared: Shared, state: State, observed: Observed, prior: Prior) -> Shared:
        model, focal = self.model(shared), shared.focal
        size = len(shared.identity) + len(shared.shape) + 1
        seen = project(model, state, focal, observed.unit_px)
        residual = seen.uv - observed.points
        weight = np.sqrt(robust_weight(residual, observed.weight, 2.5)).astype(np.float32)[..., None, None]
        t = len(state)
        own = (jacobian(model, state, seen, focal, observed.unit_px) * weight).reshape(t, -1, UNKNOWNS)
        common = (self._shared_jacobian(state, seen, focal) * weight).reshape(t, -1, size)
        flat = (residual[..., None] * weight).reshape(t, -1, 1)
        x = state.vector()
        turned = own.transpose(0, 2, 1)
        off = x - prior.centre
        off[:, K + 4 :] = 0
        gradient = (turned @ flat)[..., 0].astype(np.float64) + off @ prior.precision + prior.linear
        blocks = (turned @ own).astype(np.float64) + prior.precision + 1e-3 * np.eye(UNKNOWNS)
        bound = np.zeros((t, UNKNOWNS), bool)
        bound[:, :K] = ((x[:, :K] <= 0) & (gradient[:, :K] > 0)) | ((x[:, :K] >= 1) & (gradient[:, :K] < 0))
        free = (~bound).astype(float)
        blocks = blocks * free[:, :, None] * free[:, None] + np.eye(UNKNOWNS) * bound[:, None]
        mixed = (turned @ common).astype(np.float64) * free[..., None]
        solved = np.linalg.solve(blocks, np.concatenate([mixed, (gradient * free)[..., None]], -1))
        mixed_turned = mixed.transpose(0, 2, 1)
        matrix = np.tensordot(common, common, ((0, 1), (0, 1))).astype(np.float64)
        matrix -= (mixed_turned @ solved[..., :-1]).sum(0)
        right = np.tensordot(common, flat[..., 0], ((0, 1), (0, 1))).astype(np.float64)
        right -= (mixed_turned @ solved[..., -1:]).sum(0)[:, 0]
        return self._take(matrix, right, shared)

    def _take(self, matrix: np.ndarray, right: np.ndarray, shared: Shared) -> Shared:
        """Add the priors of the shared unknowns and step."""
        people = np.concatenate([shared.identity, shared.shape])
        size = len(people)
        index = np.arange(size)
        matrix[index, index] += 1
        right[:-1] += people
        matrix[:-1, :-1] += np.outer(self._eyes, self._eyes) / _EYES_DEVIATION**2
        right[:-1] += self._eyes * (self._eyes @ people) / _EYES_DEVIATION**2
        matrix[size, size] += self._focal_weight
        right[size] += (np.log(shared.focal) - np.log(self._focal.focal)) * self._focal_weight
        step = -np.linalg.solve(matrix, right)
        log_focal = np.log(shared.focal) + np.clip(step[-1], -0.3, 0.3)
        people = people + np.clip(step[:-1], -1, 1)
        identity, shape = np.split(people, [len(shared.identity)])
        focal = float(np.clip(np.exp(log_focal), self._focal.low, self._focal.high))
        return replace(shared, identity=identity, shape=shape, focal=focal)

    def _shared_jacobian(self, state: State, seen: Seen, focal: float) -> Float[np.ndarray, "t l 2 i1"]:
        t, points = seen.uv.shape[:2]
        d_head = np.ascontiguousarray(seen.d_head.transpose(1, 0, 2, 3)).astype(np.float32).reshape(points, 2 * t, 3)
        by_mode = (d_head @ self._modes).reshape(points, t, 2, -1).transpose(1, 0, 2, 3)
        perspective = np.exp(state.log_scale)[:, None] / focal
        by_focal = seen.uv * (perspective * seen.q[..., 2] / seen.divisor)[..., None]
        return np.concatenate([by_mode, by_focal[..., None].astype(np.float32)], -1)
