"""Following a head live: each frame's landmarks become motion at once, from the past alone.

An iterated extended Kalman filter (Bell and Cathey 1993) on the offline solver's own model: actions and gaze walk at
random, the pose keeps its velocity, every frame adds the solver's prior and its robust weights, and actions stay in
[0, 1] by active sets. The caller holds the state: `state, motion = tracker.step(state, landmarks_px, seconds)`.
World axes are camera axes; the torso is not seen and stays where head and neck put it.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from avatar.core import MotionFrame
from avatar.face.calibration import lid_gap
from avatar.face.solver import (
    GAZE,
    TURN,
    UNKNOWNS,
    K,
    Observed,
    State,
    first_guess,
    normal_equations,
    project,
)
from avatar.face.solver_prior import Prior, make_prior
from avatar.face.streaming_person import StreamPerson, close_lids_and_lips, head_frame, iris_drop

_STIFF = (6, 197, 195, 5, 4, 1, 168, 33, 133, 263, 362, 10, 109, 338, 67, 297, 9, 151, 2, 98, 327, 127, 356)
"""Points that expressions move little: nose, forehead, corners of the eyes."""
_RATE = 25.0
"""Frames a second that the prior's changes are stated for."""
_POSE = slice(TURN.start, UNKNOWNS)
_SPEEDS = slice(UNKNOWNS, UNKNOWNS + 6)
_SIZE = UNKNOWNS + 6
_ITERATIONS = 2
_TURNING, _MOVING = slice(0, 3), slice(3, 6)
_USUAL = (0.008, 0.01)
"""Speeds at which the prior's changes of the pose hold: radians, and eye distances, in 1 / 25 s."""
_CALMEST, _LIVELIEST = 0.02, 1.5
"""Limits of the variance of these changes for slower and for faster heads: still heads tremble less, turns lag less."""
_STEPS_KEPT = 64
"""Looks of the eyes that are kept at most, to tell a glance down from a blink."""
_GLANCE = 0.36
"""Seconds of them."""
_LOST = 0.25
"""Seconds without a face from which it counts as lost; until then its pose goes on, slower and slower."""
_SLOWING = 0.1
"""Seconds in which its speed falls to a third then."""
_HOLD, _EASE, _RETURN = 0.5, 1.0, 0.25
"""Seconds: how long the last motion is held, how long it takes to rest, and back from there."""
_SLIP, _NO_FACE = 0.06, 0.15
"""Mean error of the points, in eye distances, from which the pose is guessed anew, and that no face explains."""
_TORSO_SECONDS = 4.0
_LONGEST = 0.2
"""Seconds that one prediction spans; after a longer pause as much is known as after this one."""


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """All that the tracker remembers; of the same size after any number of frames."""

    seconds: float
    """Time of the newest frame."""
    seen: float
    """Time of the newest frame with a face; -inf before the first."""
    face: State
    """One frame: what was found then, moved on by its speed."""
    speed: Float[np.ndarray, "6"]
    """Of turn (radians), place and logarithm of the scale, in 1 / 25 s."""
    covariance: Float[np.ndarray, "m m"]
    """Of all unknowns and speeds."""
    drops: Float[np.ndarray, "d 3"]
    """(seconds, right, left): how low the irises lay in the last moments, in eye distances."""
    gaps: Float[np.ndarray, "2"]
    """Of the last frame's right and left lids, in eye distances."""
    closed: Float[np.ndarray, "2"]
    """Smallest gaps so far: closed for this detector."""
    turned: Float[np.ndarray, "3"]
    """Slow turn of the head from its rest (axis-angle): half of it is the torso's."""
    presence: float
    """1 while the motion is the person's, 0 at rest, in between on the way."""
    error: float
    """Mean distance of the points from the model in eye distances; nan where this frame was not used."""
    landmarks_px: Float[np.ndarray, "478 2"]
    """Of the newest frame with a face; a repetition of it tells nothing."""

    @property
    def is_seen(self) -> bool:
        """Whether the newest frame showed the face."""
        return self.seen == self.seconds


class StreamingTracker:
    """The filter for one person; holds constants only, so that one tracker serves many streams of the person."""

    def __init__(self, person: StreamPerson) -> None:
        self._person = person
        prior = self._prior(person.rest, np.zeros(2))
        self._walk = np.zeros(_SIZE)
        self._walk[: GAZE.stop] = 1 / prior.first[: GAZE.stop]
        self._push = 1 / prior.second[_POSE]
        """Variances that 1 / 25 s adds: to actions and gaze; to the speeds of the pose."""
        self._rigid = np.isin(person.model.kept, _STIFF)
        self._iris = [(person.model.kept >= 468 + 5 * s) & (person.model.kept < 473 + 5 * s) for s in (0, 1)]

    def begin(self) -> StreamState:
        """Before the first frame: at rest."""
        return StreamState(
            seconds=-np.inf,
            seen=-np.inf,
            face=self._person.rest,
            speed=np.zeros(6),
            covariance=self._wide(),
            drops=np.zeros((0, 3)),
            gaps=self._person.levels.opening,
            closed=self._person.levels.closed,
            turned=np.zeros(3),
            presence=0.0,
            error=np.nan,
            landmarks_px=np.zeros((478, 2), np.float32),
        )

    def step(
        self, state: StreamState, landmarks_px: Float[np.ndarray, "478 2"] | None, seconds: float
    ) -> tuple[StreamState, MotionFrame]:
        """The next frame.

        A frame that is not newer than the last one changes nothing. A repeated picture counts as no news. Without a
        face the motion goes on for a moment, is held, and eases to rest; a face that comes back is taken up smoothly.

        Args:
            landmarks_px: as detected, in pixels of the frame; None where no face was found.
            seconds: time of the frame, by any clock that runs evenly.
        """
        if not seconds > state.seconds:
            return state, self._motion(state)
        passed = seconds - state.seconds
        predicted = self._predicted(state, seconds)
        found = None if landmarks_px is None else self._found(predicted, np.asarray(landmarks_px), seconds)
        if found is None:
            found = replace(predicted, speed=predicted.speed * np.exp(-passed / _SLOWING))
        found = self._swayed(found, min(passed, _TORSO_SECONDS))
        ease = passed / _RETURN if found.is_seen else -passed / _EASE if seconds - found.seen > _HOLD else 0.0
        first = not np.isfinite(state.seen)
        presence = 1.0 if first and found.is_seen else float(np.clip(state.presence + min(ease, 1.0), 0, 1))
        found = replace(found, presence=presence)
        return found, self._motion(found)

    def _wide(self) -> Float[np.ndarray, "m m"]:
        """Hardly anything is known."""
        deviation = np.full(_SIZE, 1.0)
        deviation[_SPEEDS] = 0.02
        return np.diag(deviation**2)

    def _prior(self, face: State, blink: Float[np.ndarray, "2"]) -> Prior:
        ahead = -face.rotation[:, 2]
        yaw, pitch = np.arctan2(ahead[:, 0], -ahead[:, 2]), np.arcsin(np.clip(ahead[:, 1], -1, 1))
        gaze = np.clip(np.stack([yaw, pitch, yaw, pitch], 1), -0.6, 0.6)
        return make_prior(blink[None], gaze, _RATE)

    def _predicted(self, state: StreamState, seconds: float) -> StreamState:
        """Moved on in time: actions walk, the pose keeps its speed."""
        if not np.isfinite(state.seen) or seconds - state.seen > _LOST:
            return replace(state, seconds=seconds, speed=np.zeros(6), covariance=self._wide(), error=np.nan)
        steps = min(seconds - state.seconds, _LONGEST) * _RATE
        move = np.zeros(UNKNOWNS)
        move[_POSE] = state.speed * steps
        onward = np.eye(_SIZE)
        onward[_POSE, _SPEEDS] = np.eye(6) * steps
        covariance = onward @ state.covariance @ onward.T
        covariance[np.diag_indices(_SIZE)] += self._walk * steps
        push = np.diag(self._push * _liveliness(state.speed))
        covariance[_POSE, _POSE] += push * steps**3 / 3
        covariance[_POSE, _SPEEDS] += push * steps**2 / 2
        covariance[_SPEEDS, _POSE] += push * steps**2 / 2
        covariance[_SPEEDS, _SPEEDS] += push * steps
        return replace(state, seconds=seconds, face=state.face.moved(move[None]), covariance=covariance, error=np.nan)

    def _found(self, predicted: StreamState, landmarks_px: np.ndarray, seconds: float) -> StreamState | None:
        """With what the landmarks say, or None where they show no face or nothing new."""
        person = self._person
        if not np.isfinite(landmarks_px).all() or np.array_equal(landmarks_px, predicted.landmarks_px):
            return None
        guess = first_guess(person.model, self._observed(landmarks_px, np.zeros(2)), self._rigid)
        up, unit = head_frame(guess, person.eye_distance)
        looked = self._looked(predicted, landmarks_px[None].astype(np.float64), up, unit)
        levels = replace(person.levels, closed=looked.closed)
        drop = np.median(looked.drops[:, 1:], 0)
        moved, blink = close_lids_and_lips(landmarks_px, float(unit[0]), levels, drop)
        observed, prior = self._observed(moved, blink), self._prior(guess, blink)
        fresh = not np.isfinite(predicted.seen) or seconds - predicted.seen > _LOST
        start = self._guessed(looked, guess) if fresh else looked
        found = self._updated(start, observed, prior, 3 * _ITERATIONS if fresh else _ITERATIONS)
        if found.error > _SLIP and not fresh:
            again = self._updated(self._guessed(looked, guess), observed, prior, 3 * _ITERATIONS)
            found = again if again.error < 0.8 * found.error else found
        if not found.error < _NO_FACE:
            return None
        return replace(found, seen=seconds, landmarks_px=landmarks_px.astype(np.float32, copy=True))

    def _observed(self, landmarks_px: np.ndarray, blink: Float[np.ndarray, "2"]) -> Observed:
        person = self._person
        points = (landmarks_px[None, person.model.kept] - np.array(person.center)) / person.unit_px
        weight = person.weight.copy()
        for side in (0, 1):
            weight[self._iris[side]] *= (1 - blink[side]) ** 2 + 1e-3
        return Observed(points=points.astype(np.float64), weight=weight[None], unit_px=person.unit_px)

    def _looked(self, state: StreamState, landmarks: np.ndarray, up: np.ndarray, unit: np.ndarray) -> StreamState:
        """With the lids' and the irises' newest places."""
        row = np.concatenate([[state.seconds], iris_drop(landmarks, up, unit)[0]])
        recent = state.drops[state.drops[:, 0] > state.seconds - _GLANCE][1 - _STEPS_KEPT :]
        gaps = np.array([lid_gap(landmarks, side)[0] / unit[0] for side in (0, 1)])
        # Two frames in a row, so that one slip of the detector does not open all later blinks.
        least = np.minimum(state.closed, np.maximum(gaps, state.gaps))
        closed = np.maximum(least, 0.1 * self._person.levels.opening)
        return replace(state, drops=np.concatenate([recent, row[None]]), gaps=gaps, closed=closed)

    def _guessed(self, state: StreamState, guess: State) -> StreamState:
        """With a new pose and the face of before, about which hardly anything is known."""
        face = replace(state.face, rotation=guess.rotation, place=guess.place, log_scale=guess.log_scale)
        return replace(state, face=face, speed=np.zeros(6), covariance=self._wide())

    def _updated(self, predicted: StreamState, observed: Observed, prior: Prior, iterations: int) -> StreamState:
        """Gauss-Newton on prediction, prior and landmarks."""
        person, face, speed = self._person, predicted.face, predicted.speed
        known = np.linalg.inv(predicted.covariance)
        known = (known + known.T) / 2
        hessian = known
        for _ in range(iterations):
            blocks, pull = normal_equations(person.model, face, observed, person.focal)
            hessian, gradient = known.copy(), known @ _apart(face, speed, predicted)
            hessian[:UNKNOWNS, :UNKNOWNS] += blocks[0] + prior.precision
            x = _vector(face)
            off = x - prior.centre[0]
            off[_POSE] = 0
            gradient[:UNKNOWNS] += pull[0] + prior.precision @ off + prior.linear[0]
            step = _step_in_box(hessian, gradient, x[:K])
            face, speed = face.moved(step[None, :UNKNOWNS]), speed + step[_SPEEDS]
        seen = project(person.model, face, person.focal, person.unit_px)
        size = np.exp(face.log_scale[0]) * person.eye_distance / person.unit_px
        error = float(np.linalg.norm(seen.uv - observed.points, axis=-1).mean() / size)
        return replace(predicted, face=face, speed=speed, covariance=np.linalg.inv(hessian), error=error)

    def _swayed(self, state: StreamState, passed: float) -> StreamState:
        """The torso slowly follows half of the head's turn."""
        turn = Rotation.from_matrix(self._person.rest.rotation[0].T @ state.face.rotation[0]).as_rotvec()
        turned = state.turned + (turn - state.turned) * -np.expm1(-passed / _TORSO_SECONDS)
        return replace(state, turned=turned)

    def _motion(self, state: StreamState) -> MotionFrame:
        person = self._person
        weight = state.presence**2 * (3 - 2 * state.presence)
        face = _mixed(person.rest, state.face, weight)
        depth = person.focal / np.exp(face.log_scale[0])
        middle = np.append(face.place[0] * person.unit_px / person.focal * depth, depth)
        pose = np.eye(4)
        pose[:3, :3] = face.rotation[0]
        pose[:3, 3] = middle - face.rotation[0] @ person.model.centre
        torso = person.rest.rotation[0] @ Rotation.from_rotvec(0.5 * weight * state.turned).as_matrix()
        neck = Rotation.from_matrix(torso.T @ face.rotation[0]).as_rotvec()
        return MotionFrame(
            expression=torch.from_numpy(face.expression[0]).float(),
            T_world_head=torch.from_numpy(pose).float(),
            neck=torch.from_numpy(neck).float(),
            gaze=torch.from_numpy(face.gaze.reshape(2, 2)).float(),
        )


def _liveliness(speed: Float[np.ndarray, "6"]) -> Float[np.ndarray, "6"]:
    """How much of the pose's push to expect: a head that rests trembles with the detector only."""
    parts = [np.linalg.norm(speed[part]) / usual for part, usual in zip((_TURNING, _MOVING), _USUAL, strict=True)]
    return np.repeat(np.clip(np.square(parts), _CALMEST, _LIVELIEST), 3)


def _vector(face: State) -> Float[np.ndarray, "n"]:
    """As `State.vector` of one frame, whose turn is 0."""
    return face.vector()[0]


def _apart(face: State, speed: Float[np.ndarray, "6"], other: StreamState) -> Float[np.ndarray, "m"]:
    """Unknowns and speeds less those of `other`."""
    out = np.concatenate([_vector(face) - _vector(other.face), speed - other.speed])
    out[TURN] = Rotation.from_matrix(face.rotation[0] @ other.face.rotation[0].T).as_rotvec()
    return out


def _step_in_box(
    hessian: Float[np.ndarray, "m m"], gradient: Float[np.ndarray, "m"], x: Float[np.ndarray, "k"], rounds: int = 4
) -> Float[np.ndarray, "m"]:
    """As `solver_sequence.box_step` for one frame: the quadratic's minimum while x + step stays in [0, 1]."""
    k, step = len(x), np.zeros(len(gradient))
    low, high = np.zeros(len(gradient), bool), np.zeros(len(gradient), bool)
    low[:k], high[:k] = (x <= 0) & (gradient[:k] > 0), (x >= 1) & (gradient[:k] < 0)
    for _ in range(rounds):
        step = np.zeros(len(gradient))
        step[:k] = np.where(low[:k], -x, np.where(high[:k], 1 - x, 0))
        free = np.flatnonzero(~(low | high))
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], -(gradient + hessian @ step)[free])
        pull = gradient + hessian @ step
        new_low, new_high = low & (pull > 0), high & (pull < 0)
        is_free = ~(low | high)[:k]
        new_low[:k] |= is_free & (x + step[:k] < -1e-9)
        new_high[:k] |= is_free & (x + step[:k] > 1 + 1e-9)
        if (new_low == low).all() and (new_high == high).all():
            break
        low, high = new_low, new_high
    step[:k] = np.clip(x + step[:k], 0, 1) - x
    return step


def _mixed(a: State, b: State, weight: float) -> State:
    """From a (0) to b (1)."""
    turn = Rotation.from_matrix(b.rotation[0] @ a.rotation[0].T).as_rotvec()
    names = ("expression", "gaze", "place", "log_scale")
    values = {name: getattr(a, name) * (1 - weight) + getattr(b, name) * weight for name in names}
    return State(rotation=(Rotation.from_rotvec(turn * weight).as_matrix() @ a.rotation[0])[None], **values)
