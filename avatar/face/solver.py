"""The head model seen by the landmark solver: projected points and their derivatives. numpy, OpenCV axes, metres.

A frame's unknowns, in this order: the free actions, gaze (yaw and pitch of the right, then of the left eye),
rotation (left increment, radians), place of the face's centre in the picture (in units of the eye distance),
logarithm of the magnification focal / depth (pixels a metre). With magnification K, the weak perspective picture
(K q_x + a) is divided by 1 + K q_z / focal, so focal and depth do not fight.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from avatar.face.arkit import INDEX, NAMES
from avatar.face.calibration import LOWER_INNER, UPPER_INNER
from avatar.face.gaze import FULL_LOOK, LOOK_INDEX
from avatar.face.rig import AbstractRig, PersonalRig

FREE: Int[np.ndarray, "k"] = np.array([i for n, i in INDEX.items() if not n.startswith("eyeLook") and n != "tongueOut"])
"""The actions that landmarks show; lids follow the gaze, the tongue has no landmark."""
K = len(FREE)
GAZE, TURN, PLACE, SCALE = slice(K, K + 4), slice(K + 4, K + 7), slice(K + 7, K + 9), K + 9
UNKNOWNS = K + 10
_CHUNK = 64
_PRESSED = 0.004
"""Gap (eye distances) below which lips may as well be pressed together, and overlap in the model."""


@dataclass(frozen=True, kw_only=True)
class PointModel:
    """One person's head at the detector's points (head frame)."""

    points: Float[np.ndarray, "l 3"]
    """Neutral face, with everything static."""
    actions: Float[np.ndarray, "l 3 52"]
    eye: Int[np.ndarray, "l"]
    """0 and 1 on the right and left eyeball, -1 elsewhere."""
    pivots: Float[np.ndarray, "2 3"]
    centre: Float[np.ndarray, "3"]
    """Middle of the face, the point whose place in the picture is solved for."""
    kept: Int[np.ndarray, "l"]
    """Index of each point among the detector's."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Unknowns of t frames."""

    expression: Float[np.ndarray, "t 52"]
    gaze: Float[np.ndarray, "t 4"]
    rotation: Float[np.ndarray, "t 3 3"]
    place: Float[np.ndarray, "t 2"]
    """Of the face's centre in units of the eye distance, from the picture's centre."""
    log_scale: Float[np.ndarray, "t"]

    def __len__(self) -> int:
        return len(self.expression)

    def select(self, index: slice | np.ndarray) -> "State":
        """Some of the frames."""
        return State(**{name: value[index] for name, value in vars(self).items()})

    def moved(self, step: Float[np.ndarray, "t n"]) -> "State":
        """After an increment of all unknowns, the actions kept in [0, 1]."""
        expression = self.expression.copy()
        expression[:, FREE] = np.clip(expression[:, FREE] + step[:, :K], 0, 1)
        gaze = np.clip(self.gaze + step[:, GAZE], -0.8, 0.8)
        expression[:, list(LOOK_INDEX)] = looks(gaze)
        return State(
            expression=expression,
            gaze=gaze,
            rotation=Rotation.from_rotvec(step[:, TURN]).as_matrix() @ self.rotation,
            place=self.place + step[:, PLACE],
            log_scale=self.log_scale + step[:, SCALE],
        )

    def vector(self) -> Float[np.ndarray, "t n"]:
        """All unknowns as numbers that differences over time make sense of: rotations are summed up turns."""
        turns = (
            Rotation.from_matrix(self.rotation[1:] @ self.rotation[:-1].transpose(0, 2, 1)) if len(self) > 1 else None
        )
        path = np.zeros((len(self), 3))
        if turns is not None:
            path[1:] = np.cumsum(turns.as_rotvec(), 0)
        parts = [self.expression[:, FREE], self.gaze, path, self.place, self.log_scale[:, None]]
        return np.concatenate(parts, 1)


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What the detector saw, ready for the solver."""

    points: Float[np.ndarray, "t l 2"]
    """From the picture's centre, in units of the eye distance."""
    weight: Float[np.ndarray, "t l"]
    """1 / variance in those units, 0 where nothing was seen."""
    unit_px: float
    """The eye distance: pixels."""
    touching: Float[np.ndarray, "t"] | None = None
    """1 / variance of the gap between lips that touch, 0 where they are apart or it is not known; None is nowhere."""
    apart: Float[np.ndarray, "t"] | None = None
    """1 / variance of the gap between facing points of the lips beside what each point tells; None is nothing."""

    def select(self, index: slice | np.ndarray) -> "Observed":
        """Some of the frames."""
        touching = None if self.touching is None else self.touching[index]
        apart = None if self.apart is None else self.apart[index]
        return replace(self, points=self.points[index], weight=self.weight[index], touching=touching, apart=apart)


def looks(gaze: Float[np.ndarray, "t 4"]) -> Float[np.ndarray, "t 8"]:
    """As `gaze.look_actions`."""
    yaw, pitch = gaze[:, 0::2], gaze[:, 1::2]
    inward = yaw * np.array([1.0, -1.0])
    return (np.stack([inward, -inward, pitch, -pitch], -1) / FULL_LOOK).clip(0, 1).reshape(len(gaze), 8)


def point_model(rig: AbstractRig, person: PersonalRig, kept: np.ndarray) -> PointModel:
    """Restrict a person's rig to the detector's points `kept`."""
    table, faces = rig.landmarks, person.faces

    def at(values: torch.Tensor) -> np.ndarray:
        return table.points(values, faces)[..., kept, :].double().numpy()

    actions = at(person.actions).transpose(1, 2, 0)
    eyes = torch.nn.functional.pad(person.eye_weights, (0, 1))
    weights = at(eyes)[:, :2]
    points = at(person.neutral)
    return PointModel(
        points=points,
        actions=np.ascontiguousarray(actions),
        eye=np.where(weights.max(1) > 0.5, weights.argmax(1), -1),
        pivots=person.eye_pivots.double().numpy(),
        centre=points.mean(0).round(3),
        kept=kept,
    )


def eye_rotation(gaze: Float[np.ndarray, "t 2"]) -> Float[np.ndarray, "t 3 3"]:
    """Of an eyeball for (yaw, pitch): pitch about x, then yaw about -y."""
    return Rotation.from_euler("xy", gaze[:, ::-1] * np.array([1.0, -1.0])).as_matrix()


def shapes(model: PointModel, state: State) -> Float[np.ndarray, "t l 3"]:
    """The points in the head frame."""
    flat = model.actions.reshape(-1, len(NAMES))
    out = (state.expression @ flat.T).reshape(len(state), -1, 3) + model.points
    for side in (0, 1):
        index = np.flatnonzero(model.eye == side)
        turn = eye_rotation(state.gaze[:, 2 * side : 2 * side + 2])
        out[:, index] = (out[:, index] - model.pivots[side]) @ turn.transpose(0, 2, 1) + model.pivots[side]
    return out


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Projected points (units of the eye distance) and the derivative of each to its head frame position."""

    q: Float[np.ndarray, "t l 3"]
    uv: Float[np.ndarray, "t l 2"]
    d_head: Float[np.ndarray, "t l 2 3"]
    divisor: Float[np.ndarray, "t l"]


def project(model: PointModel, state: State, focal: float, unit_px: float) -> Seen:
    """Look at the points; `focal` in pixels."""
    q = (shapes(model, state) - model.centre) @ state.rotation.transpose(0, 2, 1)
    k = np.exp(state.log_scale)[:, None] / unit_px
    perspective = k * unit_px / focal
    divisor = np.maximum(1 + perspective * q[..., 2], 0.2)
    uv = (k[..., None] * q[..., :2] + state.place[:, None]) / divisor[..., None]
    d_q = np.zeros((*uv.shape, 3))
    d_q[..., 0, 0] = d_q[..., 1, 1] = k / divisor
    d_q[..., 2] = -uv * (perspective / divisor)[..., None]
    return Seen(q=q, uv=uv, d_head=d_q @ state.rotation[:, None], divisor=divisor)


def jacobian(model: PointModel, state: State, seen: Seen, focal: float, unit_px: float) -> Float[np.ndarray, "t l 2 n"]:
    """Derivative of the projected points to a frame's unknowns (the lids' following of the gaze left out)."""
    t, points = seen.uv.shape[:2]
    out = np.zeros((t, points, 2, UNKNOWNS), np.float32)
    d_head = seen.d_head.astype(np.float32)
    actions = model.actions[:, :, FREE].astype(np.float32)
    by_point = np.matmul(np.ascontiguousarray(d_head.transpose(1, 0, 2, 3)).reshape(points, 2 * t, 3), actions)
    out[..., :K] = by_point.reshape(points, t, 2, K).transpose(1, 0, 2, 3)
    _gaze_columns(out, model, state, d_head)
    k = (np.exp(state.log_scale) / unit_px)[:, None]
    perspective = k * unit_px / focal
    d_q = d_head @ state.rotation.transpose(0, 2, 1)[:, None].astype(np.float32)
    x, y, z = np.moveaxis(seen.q.astype(np.float32), -1, 0)
    cross = np.zeros((t, points, 3, 3), np.float32)  # columns: axis x q
    cross[..., 1, 0], cross[..., 2, 0] = -z, y
    cross[..., 0, 1], cross[..., 2, 1] = z, -x
    cross[..., 0, 2], cross[..., 1, 2] = -y, x
    out[..., TURN] = d_q @ cross
    inverse = 1 / seen.divisor
    out[..., 0, PLACE.start] = out[..., 1, PLACE.start + 1] = inverse
    scale = k[..., None] * seen.q[..., :2] - seen.uv * (perspective * seen.q[..., 2])[..., None]
    out[..., SCALE] = scale * inverse[..., None]
    return out


def _gaze_columns(out: np.ndarray, model: PointModel, state: State, d_head: np.ndarray) -> None:
    delta = 1e-4
    for side in (0, 1):
        index = np.flatnonzero(model.eye == side)
        gaze = state.gaze[:, 2 * side : 2 * side + 2]
        arm = (model.points - model.pivots[side])[index]
        here = eye_rotation(gaze)
        for axis in (0, 1):
            there = eye_rotation(gaze + delta * np.eye(2)[axis])
            moved = arm @ ((there - here) / delta).transpose(0, 2, 1)
            out[..., K + 2 * side + axis][:, index] = (d_head[:, index] @ moved[..., None].astype(np.float32))[..., 0]


def normal_equations(
    model: PointModel, state: State, observed: Observed, focal: float, robust: float = 2.5
) -> tuple[Float[np.ndarray, "t n n"], Float[np.ndarray, "t n"]]:
    """Gauss-Newton blocks J'WJ and gradients J'Wr of each frame; Huber's weights beyond `robust` deviations."""
    blocks, gradients = [], []
    for first in range(0, len(state), _CHUNK):
        some = slice(first, first + _CHUNK)
        part, here = observed.select(some), state.select(some)
        seen = project(model, here, focal, observed.unit_px)
        residual = seen.uv - part.points
        weight = np.sqrt(robust_weight(residual, part.weight, robust)).astype(np.float32)
        jac = jacobian(model, here, seen, focal, observed.unit_px)
        lips = _lips(model, here, part, seen, jac)
        jac *= weight[..., None, None]
        flat = jac.reshape(len(here), -1, UNKNOWNS)
        weighted = (residual * weight[..., None]).astype(np.float32).reshape(len(here), -1, 1)
        turned = flat.transpose(0, 2, 1)
        blocks.append((turned @ flat).astype(np.float64) + lips[0])
        gradients.append((turned @ weighted)[..., 0].astype(np.float64) + lips[1])
    return np.concatenate(blocks), np.concatenate(gradients)


def _lips(
    model: PointModel, state: State, observed: Observed, seen: Seen, jac: Float[np.ndarray, "t l 2 n"]
) -> tuple[Float[np.ndarray, "t n n"] | float, Float[np.ndarray, "t n"] | float]:
    """Blocks and gradients of the gap between the lips: as observed, and none where they touch, unless pressed."""
    lips = told_lips(model, state, observed, seen)
    if lips is None:
        return 0.0, 0.0
    rows = lips.of_points(jac)
    turned = rows.transpose(0, 2, 1)
    return (turned * lips.weight[:, None]) @ rows, (turned @ (lips.weight * lips.residual)[..., None])[..., 0]


@dataclass(frozen=True, kw_only=True)
class ToldLips:
    """What is known of the gap between p pairs of facing points of the lips."""

    pairs: tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]
    """Upper and lower points."""
    down: Float[np.ndarray, "t 1 2"]
    """The head's vertical in the picture."""
    residual: Float[np.ndarray, "t p"]
    """Gap of the model less what it should be, in eye distances."""
    weight: Float[np.ndarray, "t p"]
    """1 / variance."""

    def of_points(self, values: Float[np.ndarray, "t l 2 n"]) -> Float[np.ndarray, "t p n"]:
        """What the gaps are where the points are `values`."""
        upper, lower = self.pairs
        return ((values[:, lower] - values[:, upper]) * self.down[..., None].astype(values.dtype)).sum(2)


def told_lips(model: PointModel, state: State, observed: Observed, seen: Seen) -> ToldLips | None:
    """The gaps as observed, and none where the lips touch, unless pressed; None where nothing is known."""
    upper, lower = lip_pairs(model.kept)
    if (observed.touching is None and observed.apart is None) or not len(upper):
        return None
    nothing = np.zeros(len(state))
    touching = nothing if observed.touching is None else observed.touching
    apart = nothing if observed.apart is None else observed.apart
    down = state.rotation[:, None, :2, 1]
    gap = ((seen.uv[:, lower] - seen.uv[:, upper]) * down).sum(-1)
    told = ((observed.points[:, lower] - observed.points[:, upper]) * down).sum(-1)
    close = touching[:, None] * (gap > 0)
    part = apart[:, None] * ((gap > 0) | (told > _PRESSED))
    weight = close + part
    residual = gap - part * told / np.maximum(weight, 1e-12)
    return ToldLips(pairs=(upper, lower), down=down, residual=residual, weight=weight)


def lip_pairs(kept: Int[np.ndarray, "l"]) -> tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]:
    """Where the inner edges of both lips are among the points `kept`, each lower one below its upper one."""
    both = np.isin(UPPER_INNER, kept) & np.isin(LOWER_INNER, kept)
    return np.searchsorted(kept, UPPER_INNER[both]), np.searchsorted(kept, LOWER_INNER[both])


def robust_weight(residual: np.ndarray, weight: np.ndarray, robust: float) -> Float[np.ndarray, "t l"]:
    """Weights times Huber's factor (Huber 1964)."""
    deviations = np.sqrt((residual**2).sum(-1) * weight)
    return weight / np.maximum(deviations / robust, 1)


def first_guess(model: PointModel, observed: Observed, rigid: Bool[np.ndarray, "l"]) -> State:
    """Poses by scaled orthography (DeMenthon and Davis 1995, first iteration) with a neutral face."""
    t = len(observed.points)
    head = np.concatenate([model.points - model.centre, np.ones((len(model.points), 1))], 1)
    linear = np.linalg.pinv(head[rigid]) @ observed.points[:, rigid]
    rows = linear[:, :3].transpose(0, 2, 1)
    u, d, vt = np.linalg.svd(rows, full_matrices=False)
    top = u @ vt
    rotation = np.concatenate([top, np.cross(top[:, 0], top[:, 1])[:, None]], 1)
    scale = np.maximum(d.mean(1), 1e-6)
    return State(
        expression=np.zeros((t, len(NAMES))),
        gaze=np.zeros((t, 4)),
        rotation=rotation,
        place=linear[:, 3],
        log_scale=np.log(scale * observed.unit_px),
    )
