"""What a live tracker knows of a person beforehand: points of the head, noise of the detector, lids, lips, rest.

All of it is learned from a fitted track: of the workspace, or of the first seconds of the stream.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from avatar.core import FaceTrack
from avatar.errors import InputError
from avatar.events import Sink, silent
from avatar.face import calibration
from avatar.face.calibration import CORNERS, IRISES, LOWER_INNER, LOWER_LIDS, UPPER_INNER, UPPER_LIDS, lid_gap
from avatar.face.rig import AbstractRig, PersonalRig
from avatar.face.solver import UNKNOWNS, Observed, PointModel, State, point_model, project, robust_weight
from avatar.face.tracking import fit

_LID_FOLLOW = 0.9
_OPEN, _CLOSED_PART, _NEVER_BELOW = 0.7, 0.35, 0.1
"""Quantile of the gaps that counts as open; the gap of a closed eye is within these parts of the open one."""
_EYEBALL = 0.14
"""Radius in eye distances."""
_LIPS_CLOSED, _LIPS_BIAS = 0.05, 0.025
_INFORMATION = 0.06
"""Errors of neighbouring points agree, and those of neighbouring frames: so much of their information counts."""
_NOISE, _LARGEST_NOISE = 0.008, 0.02
"""Limits of a point's deviation, in eye distances; smaller ones would let the head tremble with the detector."""
_SHARP, _IRIS_NOISE = 0.004, 0.006
"""The smallest of lids and lips, and of the irises."""
_BIAS_M = 0.002
"""Deviation of the detector's static error."""
_FRAMES = 30.0
"""Errors of neighbouring frames agree: a clip weighs as much as this many independent ones."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Where open and closed lie for this person, in eye distances."""

    opening: Float[np.ndarray, "2"]
    """Gap of the open right and left eye."""
    closed: Float[np.ndarray, "2"]
    """Gap that the detector still reports of a closed eye."""
    drop: Float[np.ndarray, "2"]
    """Of the iris' centre below the middle of the corners, in the usual direction of looking."""
    lips: Float[np.ndarray, "9"]
    """Gap that the detector reports between closed lips, along them."""


@dataclass(frozen=True, kw_only=True)
class StreamPerson:
    """One person before one camera."""

    model: PointModel
    weight: Float[np.ndarray, "l"]
    """Information of each point: 1 / variance in eye distances."""
    levels: Levels
    rest: State
    """One frame: the usual pose and direction of looking, with a neutral face."""
    focal: float
    """Pixels."""
    center: tuple[float, float]
    """Of the picture, pixels."""
    unit_px: float
    """The eye distance in pixels."""
    eye_distance: float
    """The eye distance in metres."""


def learn_opening(
    landmarks_px: Float[np.ndarray, "t 478 2"],
    confidence: Float[np.ndarray, "t"],
    rig: AbstractRig,
    size: tuple[int, int],
    *,
    fps: float,
    sink: Sink = silent,
) -> tuple[StreamPerson, PersonalRig]:
    """Know a person after the first seconds of a stream; 2 to 4 s with a blink and some words serve best.

    Args:
        landmarks_px: of each frame; anything where confidence is 0.
        size: height and width of the frames.

    Raises:
        InputError: if fewer than 2 frames show a face that the rig can follow.
    """
    track, person = fit(landmarks_px, confidence, rig, size, fps=fps, sink=sink)
    return learn_person(track, person, rig), person


def learn_person(track: FaceTrack, person: PersonalRig, rig: AbstractRig) -> StreamPerson:
    """Know a person from a finished track of the same camera, as a workspace holds it.

    Args:
        rig: the kind of head that `person` belongs to; it knows where landmarks lie.

    Raises:
        InputError: if fewer than 2 frames of the track show a face.
    """
    good = track.confidence.numpy() > 0
    if good.sum() < 2:
        raise InputError("the track: a face in fewer than 2 frames; give a track of 2 s or more of this person")
    landmarks_px = np.nan_to_num(track.landmarks_px.double().numpy())
    kept = np.flatnonzero(rig.landmarks.usable.numpy())
    model = point_model(rig, person, kept)
    corners = rig.landmarks.points(person.neutral, person.faces)[CORNERS[:, 0]]
    unit_px = float(np.quantile(np.linalg.norm(landmarks_px[good, 33] - landmarks_px[good, 263], axis=-1), 0.75))
    state = _states(track, model, unit_px)
    known = StreamPerson(
        model=model,
        weight=np.ones(len(kept)),
        levels=Levels(opening=np.ones(2), closed=np.zeros(2), drop=np.zeros(2), lips=np.zeros(9)),
        rest=_rest(state.select(good)),
        focal=track.camera.focal[0],
        center=track.camera.center,
        unit_px=unit_px,
        eye_distance=float((corners[1] - corners[0]).norm()),
    )
    known = replace(known, levels=_levels(landmarks_px, state, known, good))
    return _with_noise(known, landmarks_px, state, good, track.motion.fps)


def head_frame(state: State, eye_distance: float) -> tuple[Float[np.ndarray, "t 2"], Float[np.ndarray, "t"]]:
    """The head's vertical in the picture (unit length), and the eye distance in pixels, were the head not turned."""
    up = -state.rotation[:, :2, 1]
    return up / np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-6), np.exp(state.log_scale) * eye_distance


def iris_drop(
    landmarks: Float[np.ndarray, "t 478 2"], up: Float[np.ndarray, "t 2"], unit: Float[np.ndarray, "t"]
) -> Float[np.ndarray, "t 2"]:
    """How far each iris lies below the middle of its eye's corners, in eye distances."""
    middle = landmarks[:, CORNERS].mean(2)
    return -((landmarks[:, IRISES] - middle) * up[:, None]).sum(-1) / unit[:, None]


def close_lids_and_lips(
    landmarks: Float[np.ndarray, "478 2"], unit: float, levels: Levels, drop: Float[np.ndarray, "2"]
) -> tuple[Float[np.ndarray, "478 2"], Float[np.ndarray, "2"]]:
    """Landmarks of one frame whose lids and lips close, and how far each eye is closed in [0, 1].

    Args:
        drop: as of `iris_drop`, steady through blinks.
    """
    out, blink = landmarks.astype(np.float64, copy=True), np.zeros(2)
    for side in (0, 1):
        upper, lower = out[UPPER_LIDS[side]], out[LOWER_LIDS[side]]
        gap, closed = lid_gap(out[None], side)[0] / unit, levels.closed[side]
        down = np.clip((drop[side] - levels.drop[side]) / _EYEBALL, 0, 0.6)
        expected = max(levels.opening[side] * max(1 - _LID_FOLLOW * down, 0.4), closed + 1e-6)
        shut = np.clip((expected - gap) / (expected - closed), 0, 1)
        shut *= min(shut / 0.12, 1.0)  # what is small is noise of an open eye
        wanted = (1 - shut) * expected if gap < expected else gap
        out[UPPER_LIDS[side]] = lower + wanted / max(gap, 1e-6) * (upper - lower)
        blink[side] = shut
    upper, lower = out[UPPER_INNER], out[LOWER_INNER]
    gap = np.linalg.norm(upper - lower, axis=-1) / unit
    shift = (upper - lower) * (np.minimum(levels.lips, gap) / np.maximum(gap, 1e-6))[:, None] / 2
    out[UPPER_INNER], out[LOWER_INNER] = upper - shift, lower + shift
    return out, blink


def _levels(landmarks_px: np.ndarray, state: State, person: StreamPerson, good: Bool[np.ndarray, "t"]) -> Levels:
    up, unit = head_frame(state, person.eye_distance)
    drop = iris_drop(landmarks_px, up, unit)[good]
    gaps = np.stack([lid_gap(landmarks_px, side) / unit for side in (0, 1)], 1)[good]
    usual = np.median(drop, 0)
    opened = gaps / np.maximum(1 - _LID_FOLLOW * np.clip((drop - usual) / _EYEBALL, 0, 0.6), 0.4)
    opening = np.quantile(opened, _OPEN, axis=0)
    least = np.quantile(gaps, min(2 / len(gaps), 1.0), axis=0)
    lips = np.linalg.norm(landmarks_px[:, UPPER_INNER] - landmarks_px[:, LOWER_INNER], axis=-1) / unit[:, None]
    return Levels(
        opening=opening,
        closed=np.clip(least, _NEVER_BELOW * opening, _CLOSED_PART * opening),
        drop=usual,
        lips=np.minimum(np.quantile(lips[good], _LIPS_CLOSED, axis=0), _LIPS_BIAS),
    )


def _states(track: FaceTrack, model: PointModel, unit_px: float) -> State:
    """The solver's unknowns of a track."""
    motion, focal = track.motion, track.camera.focal[0]
    pose = motion.T_world_head.double().numpy()
    middle = pose[:, :3, 3] + pose[:, :3, :3] @ model.centre
    return State(
        expression=motion.expression.double().numpy(),
        gaze=motion.gaze.double().numpy().reshape(-1, 4),
        rotation=pose[:, :3, :3],
        place=middle[:, :2] / middle[:, 2:] * focal / unit_px,
        log_scale=np.log(focal / middle[:, 2]),
    )


def _rest(state: State) -> State:
    mean = Rotation.from_matrix(state.rotation).mean().as_matrix()
    neutral = State(
        expression=np.zeros((1, state.expression.shape[1])),
        gaze=np.median(state.gaze, 0, keepdims=True),
        rotation=mean[None],
        place=np.median(state.place, 0, keepdims=True),
        log_scale=np.median(state.log_scale, 0, keepdims=True),
    )
    return neutral.moved(np.zeros((1, UNKNOWNS)))  # the lids follow the gaze


def _with_noise(
    person: StreamPerson, landmarks_px: np.ndarray, state: State, good: Bool[np.ndarray, "t"], fps: float
) -> StreamPerson:
    """With the detector's static error added to the points, and the weight of each from what is left."""
    some = np.flatnonzero(good)[:: max(int(good.sum()) // 500, 1)]
    up, unit = head_frame(state, person.eye_distance)
    frames = calibration.Frames(up_px=up, unit_px=unit, good=good, fps=fps)
    moved = calibration.calibrate(landmarks_px, frames, _LID_FOLLOW).landmarks_px[some][:, person.model.kept]
    points = (moved.astype(np.float64) - np.array(person.center)) / person.unit_px
    observed = Observed(points=points, weight=np.full(points.shape[:2], _SHARP**-2), unit_px=person.unit_px)
    model = _with_bias(person, observed, state.select(some))
    left = project(model, state.select(some), person.focal, person.unit_px).uv - points
    noise = np.sqrt(np.median((left**2).sum(-1), 0) / (2 * np.log(2)))
    return replace(person, model=model, weight=_INFORMATION / np.clip(noise, _least(model), _LARGEST_NOISE) ** 2)


def _least(model: PointModel) -> Float[np.ndarray, "l"]:
    least = np.full(478, _NOISE)
    for sharp in (UPPER_LIDS, LOWER_LIDS, UPPER_INNER, LOWER_INNER, calibration.OUTER_LIPS):
        least[sharp] = _SHARP
    least[468:] = _IRIS_NOISE
    return least[model.kept]


def _with_bias(person: StreamPerson, observed: Observed, state: State) -> PointModel:
    model, scale = person.model, min(_FRAMES / len(state), 1.0)
    seen = project(model, state, person.focal, observed.unit_px)
    residual = observed.points - seen.uv
    weight = scale * _INFORMATION * robust_weight(residual, observed.weight, 2.5)
    information = np.einsum("tl,tlji,tljk->lik", weight, seen.d_head, seen.d_head, optimize=True)
    pull = np.einsum("tl,tlji,tlj->li", weight, seen.d_head, residual, optimize=True)
    bias = np.linalg.solve(information + np.eye(3) / _BIAS_M**2, pull[..., None])[..., 0]
    return replace(model, points=model.points + bias)
