"""How one person's actions differ from the rig's: smooth changes of each action's displacement, told by the clip.

Example-based facial rigging (Li, Weise and Pauly 2010) with the frames' landmarks for examples. A change has a
Gaussian process prior whose deviation is a part of the action's own displacement: nothing moves where the action moves
nothing, and actions that the clip does not show stay as they are. What would only make an action larger or smaller is
left out, so that coefficients keep their amount.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

from avatar.face.arkit import MIRROR, NAMES
from avatar.face.rig import AbstractRig, PersonalRig
from avatar.face.solver import TURN, Observed, PointModel, State, jacobian, project, robust_weight, told_lips
from avatar.face.solver_shape import opened
from avatar.face.solver_shared import spread_frames

_WAVES = ((0.030, 0.7), (0.010, 0.3))
"""(length in metres, share of the variance)."""
_PART, _NEAR = 1.0, 0.012
"""Deviation of a change in parts of the action's own displacement within about this distance (metres)."""
_AGREE = 0.6
"""Correlation of left and right."""
_MODES, _OF_EACH = 800, 18
"""Strongest directions of the prior, of all actions together and of each axis of one action."""
_SAMPLE = 192
"""Frames that are looked at."""
_SHOWN = 0.2
"""Deviation of a coefficient from which on the clip shows the action well; the form of others may change less."""
_SEEN = 0.01
"""Deviation over the clip of a coefficient that tells something."""
_LEAST = 1e-12
"""Variance (square metres) of a direction that moves nothing."""
_GAP = 3.0
"""Factor on the weight of the gap between the lips: no other action can answer for it here."""
_KEPT = ("tongueOut",)
"""Actions that stay: the tongue has no landmark."""
_CHUNK = 8


@dataclass(frozen=True, kw_only=True)
class _Modes:
    """Directions, each along one axis: a change of one action and, of its own, of the one on the other side."""

    action: Int[np.ndarray, "m"]
    axis: Int[np.ndarray, "m"]
    force: Float[np.ndarray, "m 2 l"]
    """What the kernel turns into displacement; twice the same where an action is its own mirror image."""


class ActionKernel:
    """The prior of changes on one rig at the points `kept`."""

    def __init__(self, rig: AbstractRig, kept: Int[np.ndarray, "l"]):
        person, surface = opened(rig)
        points = rig.landmarks.points(surface, person.faces)[kept].double().numpy()
        mesh = surface.double().numpy()
        self._kernels, self._near = _kernels(points, points), _near(points, points)
        self._on_mesh, self._near_mesh = _kernels(mesh, points), _near(mesh, points)
        self._soft = _soft(person, rig)

    def change(
        self, person: PersonalRig, model: PointModel, state: State, observed: Observed, focal: float
    ) -> Float[np.ndarray, "52 v 3"]:
        """What to add to the person's actions, given how much of each is in the frames."""
        good = np.flatnonzero(observed.weight.sum(1) > 0)
        mean = state.expression[good].mean(0)
        spread = state.expression[good].std(0)
        part = _PART * np.minimum(np.maximum(spread, spread[list(MIRROR)]) / _SHOWN, 1)
        amount = part * np.sqrt(self._near @ (model.actions**2).sum(1)) * (model.eye < 0)[:, None]
        modes = self._modes(amount, spread)
        own = person.actions.double().numpy()
        if not len(modes.action):
            return np.zeros_like(own)
        some = good[_telling(state.expression[good] * np.sqrt((model.actions**2).sum((0, 1))))]
        bases = self._bases(modes, amount, model.actions)
        found = _solve(model, state.select(some), observed.select(some), focal, (bases, modes.action, mean))
        return self._displacement(modes, found, (part, amount, model.actions), own)

    def _modes(self, amount: Float[np.ndarray, "l 52"], spread: Float[np.ndarray, "52"]) -> _Modes:
        """The directions that matter most in this clip."""
        ranked = []
        for k, name in enumerate(NAMES):
            other, seen = MIRROR[k], max(spread[k], spread[MIRROR[k]])
            if other < k or seen < _SEEN or name.startswith(_KEPT):
                continue
            for axes, sign in (((0,), -1.0), ((1, 2), 1.0)):
                for variance, force in self._strongest(amount[:, [k, other]], sign, k == other):
                    ranked += [(variance * seen**2, k, axis, force) for axis in axes]
        ranked.sort(key=lambda mode: -mode[0])
        _, action, axis, force = zip(*ranked[:_MODES], strict=True) if ranked else ((), (), (), ())
        points = len(amount)
        return _Modes(
            action=np.array(action, int),
            axis=np.array(axis, int),
            force=np.array(force).reshape(-1, 2, points),
        )

    def _strongest(
        self, amount: Float[np.ndarray, "l 2"], sign: float, is_own_mirror: bool
    ) -> list[tuple[float, Float[np.ndarray, "2 l"]]]:
        """Variance and force of the strongest directions of an action and its mirror image along one axis."""
        (a, b), (same, across) = amount.T[..., None], self._kernels
        alike, mirrored = a * same * a.T, sign * a * across * b.T
        both = np.block([[alike, mirrored], [mirrored.T, b * same * b.T]])
        kernel, scale, count = both, np.concatenate([a, b]), 2 * _OF_EACH
        if is_own_mirror:
            kernel, scale, count = alike + mirrored, a, _OF_EACH
        variances, vectors = eigsh(kernel, k=min(count, len(kernel) - 1), v0=np.ones(len(kernel)))
        forces = (scale * vectors).T
        kept = zip(variances, forces, strict=True)
        return [(v, np.resize(force / np.sqrt(v), (2, len(a)))) for v, force in kept if v > _LEAST]

    def _bases(
        self, modes: _Modes, amount: Float[np.ndarray, "l 52"], actions_at: Float[np.ndarray, "l 3 52"]
    ) -> Float[np.ndarray, "2 m l 3"]:
        """Displacement of the points by each direction, of the action and of its mirror image."""
        same, across = self._kernels
        out = np.zeros((2, len(modes.action), len(amount), 3))
        sign = np.where(modes.axis == 0, -1.0, 1.0)[:, None]
        for side, actions in enumerate((modes.action, np.array(MIRROR)[modes.action])):
            here, there = modes.force[:, side], modes.force[:, 1 - side]
            moved = amount.T[actions] * (here @ same.T + sign * there @ across.T)
            out[side, np.arange(len(moved)), :, modes.axis] = moved
            out[side] -= _along(out[side], actions_at.transpose(2, 0, 1)[actions])
        out[1, modes.action == np.array(MIRROR)[modes.action]] = 0
        return out

    def _displacement(
        self,
        modes: _Modes,
        found: Float[np.ndarray, "m"],
        at_points: tuple[Float[np.ndarray, "52"], Float[np.ndarray, "l 52"], Float[np.ndarray, "l 3 52"]],
        own: Float[np.ndarray, "52 v 3"],
    ) -> Float[np.ndarray, "52 v 3"]:
        """The sum of the directions on the mesh."""
        part, amount, actions = at_points
        on_mesh = part * np.sqrt(self._near_mesh @ (actions**2).sum(1))
        force = np.zeros((len(NAMES), 3, amount.shape[0]))
        mirror = np.array(MIRROR)
        np.add.at(force, (modes.action, modes.axis), found[:, None] * modes.force[:, 0])
        paired = mirror[modes.action] != modes.action
        np.add.at(
            force, (mirror[modes.action][paired], modes.axis[paired]), (found[:, None] * modes.force[:, 1])[paired]
        )
        sign = np.array([-1.0, 1.0, 1.0])[:, None]
        out = np.zeros_like(own)
        for k in np.unique(np.concatenate([modes.action, mirror[modes.action]])):
            (same, across), there = self._on_mesh, sign * force[mirror[k]]
            here = amount[:, k : k + 1] * (self._kernels[0] @ force[k].T + self._kernels[1] @ there.T)
            share = (here * actions[..., k]).sum() / max((actions[..., k] ** 2).sum(), 1e-12)
            moved = on_mesh[:, k : k + 1] * (same @ force[k].T + across @ there.T)
            out[k] = self._soft[:, None] * (moved - share * own[k])
        return out


def _telling(faces: Float[np.ndarray, "t 52"]) -> Int[np.ndarray, "n"]:
    """Frames to look at: as many at equal distances in time as such that differ most, which a clip may hardly show.

    Args:
        faces: how far each action moves the points (metres, over all of them).
    """
    usual = np.linspace(0, len(faces) - 1, min(_SAMPLE // 2, len(faces))).round().astype(int)
    return np.union1d(usual, spread_frames(faces, np.ones(len(faces), bool), _SAMPLE // 2))


def _along(moved: Float[np.ndarray, "m l 3"], actions: Float[np.ndarray, "m l 3"]) -> Float[np.ndarray, "m l 3"]:
    """The part of each that is only more or less of the action."""
    share = (moved * actions).sum((1, 2)) / np.maximum((actions**2).sum((1, 2)), 1e-12)
    return share[:, None, None] * actions


def _kernels(a: Float[np.ndarray, "a 3"], b: Float[np.ndarray, "b 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of changes at a and b, and of the change at a with that of the mirrored action at b."""

    def plain(other: np.ndarray) -> Float[np.ndarray, "a b"]:
        squared = ((a[:, None] - other[None]) ** 2).sum(-1)
        return np.sum([share * np.exp(-squared / (2 * length**2)) for length, share in _WAVES], 0)

    return plain(b), _AGREE * plain(b * np.array([-1.0, 1.0, 1.0]))


def _near(a: Float[np.ndarray, "a 3"], b: Float[np.ndarray, "b 3"]) -> Float[np.ndarray, "a b"]:
    """Weights of a mean over the points b around each of a."""
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    weights = np.exp((squared.min(1, keepdims=True) - squared) / (2 * _NEAR**2))
    return weights / weights.sum(1, keepdims=True)


def _soft(person: PersonalRig, rig: AbstractRig) -> Bool[np.ndarray, "v"]:
    """Vertices of the bodies on which landmarks lie, but no eyeball: teeth and tongue keep their form."""
    faces, count = person.faces.numpy(), len(person.neutral)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    joined = coo_matrix((np.ones(len(edges)), edges.T), (count, count))
    part = connected_components(joined, directed=False)[1]
    marked = np.unique(part[faces[rig.landmarks.triangles[:468].numpy()]])
    return np.isin(part, marked) & (person.eye_weights.numpy().max(1) < 0.5)


def _solve(
    model: PointModel,
    state: State,
    observed: Observed,
    focal: float,
    directions: tuple[Float[np.ndarray, "2 m l 3"], Int[np.ndarray, "m"], Float[np.ndarray, "52"]],
) -> Float[np.ndarray, "m"]:
    """Amount of each direction; what a little motion of the head explains is left to it (Schur complement)."""
    bases, action, mean = directions
    fields = bases.transpose(0, 2, 3, 1).astype(np.float32)
    size, points = len(action), len(model.points)
    matrix, right = np.eye(size), np.zeros(size)
    for first in range(0, len(state), _CHUNK):
        here, part = state.select(slice(first, first + _CHUNK)), observed.select(slice(first, first + _CHUNK))
        t = len(here)
        seen = project(model, here, focal, observed.unit_px)
        residual = part.points - seen.uv
        weight = np.sqrt(robust_weight(residual, part.weight, 2.5)).astype(np.float32)[..., None, None]
        d_head = seen.d_head.astype(np.float32).transpose(1, 0, 2, 3).reshape(points, 2 * t, 3)
        amount = (here.expression - mean).astype(np.float32)
        common = np.zeros((t, points, 2, size), np.float32)
        for field, actions in zip(fields, (action, np.array(MIRROR)[action]), strict=True):
            moved = np.matmul(d_head, field).reshape(points, t, 2, size).transpose(1, 0, 2, 3)
            common += moved * amount[:, None, None, actions]
        pose = jacobian(model, here, seen, focal, observed.unit_px)[..., TURN.start :]
        rows = np.concatenate([common, pose, residual[..., None].astype(np.float32)], -1)
        both, lips = [(rows * weight).reshape(t, -1, size + 7)], told_lips(model, here, part, seen)
        if lips is not None:
            gaps = lips.of_points(rows)
            gaps[..., -1] = -lips.residual
            both.append(gaps * np.sqrt(_GAP * lips.weight)[..., None].astype(np.float32))
        rows = np.concatenate(both, 1)
        common, pose, pull = rows[..., :size], rows[..., size:-1], rows[..., -1:]
        rest = np.concatenate([common, pull], 2)
        blocks = pose.transpose(0, 2, 1) @ pose + np.float32(1e-3) * np.eye(6, dtype=np.float32)
        rest -= pose @ np.linalg.solve(blocks, pose.transpose(0, 2, 1) @ rest)
        matrix += np.tensordot(rest[..., :-1], rest[..., :-1], ((0, 1), (0, 1))).astype(np.float64)
        right += np.tensordot(rest[..., :-1], rest[..., -1], ((0, 1), (0, 1))).astype(np.float64)
    return np.linalg.solve(matrix, right)
