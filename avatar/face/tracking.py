"""Fitting the rig to a clip's landmarks. The camera stands at the world's origin: world axes are camera axes."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from avatar.core import Camera, FaceTrack, MotionSequence
from avatar.errors import InputError
from avatar.events import Progress, Sink, silent
from avatar.face import calibration as lids
from avatar.face.arkit import NAMES
from avatar.face.natural import natural
from avatar.face.rig import AbstractRig, PersonalRig
from avatar.face.segments import in_each, spans
from avatar.face.solver import Observed, PointModel, State, first_guess, project
from avatar.face.solver_actions import ActionKernel
from avatar.face.solver_noise import USUAL, Noise, measure
from avatar.face.solver_prior import Prior, held, loosened, lowered, make_prior, of_frames
from avatar.face.solver_sequence import solve_sequence
from avatar.face.solver_shape import ShapeKernel, Static
from avatar.face.solver_shared import FocalPrior, Shared, SharedSolver, spread_frames
from avatar.face.track_io import load_track, save_track

__all__ = ["Footage", "fit", "load_track", "save_track"]

_STAGE = "track"
_SHARED_FRAMES, _SHARED_ROUNDS = 32, (6, 3, 2, 2)
_WORTH = 3.0
"""As many frames of independent errors tell as much of who it is as all of a detector's, whose errors repeat."""
_SEQUENCE_ROUNDS, _POSE_ROUNDS = (5, 3), 2
_NOISE_ROUNDS, _NOISE_SOLVE, _LOOSE = 3, (4, 2), 0.05
"""The noise is told by fits in which only this part of the prior counts, or unusual faces would look like noise."""
_CONTACT = 0.001
"""Gap (eye distances) that may remain between lips that touch."""
_GAP, _GAP_INFORMATION = 0.004, 0.15
"""Deviation (eye distances) of a point of the lips, and the part of its information that counts for the gap: errors of
facing points agree, and leave their distance in peace."""
_LID_FOLLOW = 0.9
_TORSO_SECONDS = 4.0
_STIFF = (
    "6 197 195 5 4 1 168 122 351 193 417 33 133 263 362 10 109 338 67 297 103 332 54 284 21 251 162 389 127 356 234 "
    "454 93 323 9 151 108 337 48 278 98 327 2 50 280 117 346"
)
"""Points that expressions move little: nose, forehead, temples, corners of the eyes."""
_REST = 0.3
_RELAXES = np.array([not name.startswith(("eyeBlink", "eyeLook", "jawOpen")) for name in NAMES], float)
_SELDOM = 0.12
"""Actions whose mean in natural faces is below this are nobody's usual face: what stays is form."""
_SLIP = 0.06
"""Mean error of the points, in eye distances, from which a frame counts as slipped."""


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What is known of a clip beside its points."""

    segments: Int[np.ndarray, "t"] | None = None
    """Ids of the frames between cuts, over which motion is not smoothed; None is one take."""
    seen: Bool[np.ndarray, "478"] | None = None
    """Points that the detector tells, the others have no weight; None is all."""
    dark: Float[np.ndarray, "t"] | None = None
    """What is dark between the lips (`mouth_picture.dark_between_lips`); None is no picture."""


def fit(
    landmarks_px: Float[np.ndarray, "t 478 2"],
    confidence: Float[np.ndarray, "t"],
    rig: AbstractRig,
    size: tuple[int, int],
    *,
    fps: float,
    footage: Footage = Footage(),
    sink: Sink = silent,
) -> tuple[FaceTrack, PersonalRig]:
    """Follow a head through a clip: identity, focal length, pose, expression, gaze, neck, personal shape.

    Gauss-Newton on landmarks with the person eliminated (first on few frames), then banded over time.

    Args:
        landmarks_px: the same person's in each frame; anything where confidence is 0.
        size: height and width of the frames.
        footage: what else is known of the frames and points.

    Raises:
        InputError: if fewer than 2 frames show a face that the rig can follow.
    """
    if (np.asarray(confidence) > 0).sum() < 2:
        raise InputError("the clip: a face in fewer than 2 frames; film the head upright and well lit")
    with threadpool_limits(1):  # its matrices are small: more threads only wait for each other
        return _Tracker(np.asarray(landmarks_px), np.asarray(confidence), (rig, footage), size, fps).run(sink)


@dataclass(frozen=True, kw_only=True)
class _Result:
    state: State
    shared: Shared
    person: PersonalRig
    model: PointModel


class _Tracker:
    """One clip's fit, step by step."""

    def __init__(
        self,
        landmarks_px: np.ndarray,
        confidence: np.ndarray,
        rig_footage: tuple[AbstractRig, Footage],
        size: tuple[int, int],
        fps: float,
    ):
        rig, footage = rig_footage
        self.segments, self._seen, self._dark = footage.segments, footage.seen, footage.dark
        self.landmarks_px, self.confidence = np.nan_to_num(landmarks_px), confidence.astype(np.float64)
        self._rig, self._size, self._fps = rig, size, fps
        self._kept, sigma = _points(rig, footage.seen)
        self._noise = Noise(information=USUAL, sigma=sigma)
        largest = max(size)
        self._focal = FocalPrior(focal=2.5 * largest, low=1.1 * largest, high=9.0 * largest)
        identity = torch.zeros(rig.identity_size)
        base = rig.landmarks.points(rig.neutral(identity), rig.personal(identity).faces)
        kernel = ShapeKernel(rig, self._kept, sigma, float(base[263, 0] - base[33, 0]))
        self._solver = SharedSolver(rig, kernel, self._kept, self._focal)
        good = self.confidence > 0
        eyes = np.linalg.norm(landmarks_px[:, 33] - landmarks_px[:, 263], axis=-1)
        self._unit = float(np.quantile(eyes[good], 0.75)) if good.any() else 1.0

    def run(self, sink: Sink) -> tuple[FaceTrack, PersonalRig]:
        t = len(self.landmarks_px)
        sink(Progress(stage=_STAGE, done=0, total=t))
        mean = self._solver.model(self._solver.nobody())
        rigid = _rigid(self._kept)
        guess = first_guess(mean, self._observe(self.landmarks_px), rigid)
        slip = _error(mean, guess, self._observe(self.landmarks_px), self._focal.focal)
        self.confidence = self.confidence * (slip < 4 * _SLIP)
        if (self.confidence > 0).sum() < 2:
            raise InputError("the clip: what was found is no face in most frames; film the head upright and well lit")
        calibrated = self._calibrate(guess)
        prior = make_prior(calibrated.blink, _camera_gaze(guess), self._fps)
        observed, prior, shared = self._shared(calibrated, prior, guess)
        result = self._sequence(observed, prior, shared, rigid, sink)
        return self._answer(result, observed)

    def _shared(self, calibrated: lids.Calibrated, prior: Prior, guess: State) -> tuple[Observed, Prior, Shared]:
        """The noise and the person from a few frames; the better the points, the less counts which faces are usual."""
        some = self._spread(self._observe(calibrated.landmarks_px, calibrated), guess)
        usual = self._noise
        for _ in range(_NOISE_ROUNDS):
            few = self._observe(calibrated.landmarks_px, calibrated).select(some)
            loose = loosened(of_frames(prior, some), _LOOSE)
            shared, state = self._solver.solve(few, loose, guess.select(some), _NOISE_SOLVE, self._noise.focal_freedom)
            noise = measure(self._solver.model(shared), state, few, shared.focal, usual)
            if not noise.differs(self._noise):
                break
            self._noise = noise
        observed = self._observe(calibrated.landmarks_px, calibrated)
        part = loosened(prior, _LOOSE**self._noise.independence)
        few = self._repeated(observed.select(some)), of_frames(part, some), guess.select(some)
        return observed, part, self._solver.solve(*few, _SHARED_ROUNDS, self._noise.focal_freedom)[0]

    def _repeated(self, few: Observed) -> Observed:
        """With the weight that the frames have together for who it is: a detector errs alike in all of them."""
        part = min(_WORTH / len(few.points), 1.0) ** (1 - self._noise.independence)
        apart = None if few.apart is None else part * few.apart
        return replace(few, weight=part * few.weight, apart=apart)

    def _observe(self, landmarks_px: np.ndarray, found: lids.Calibrated | None = None) -> Observed:
        middle = np.array([self._size[1], self._size[0]]) / 2
        points = (landmarks_px[:, self._kept].astype(np.float64) - middle) / self._unit
        weight = self.confidence[:, None] * self._noise.information / self._noise.sigma**2
        touching = None
        together = 1 - self._noise.independence
        apart = self.confidence * together * _GAP_INFORMATION / _GAP**2
        if found is not None:
            touching = found.touch * self.confidence * self._noise.information / _CONTACT**2
            for side in (0, 1):
                iris = (self._kept >= 468 + 5 * side) & (self._kept < 473 + 5 * side)
                weight[:, iris] *= (1 - found.blink[:, side, None]) ** 2 + 1e-3
        return Observed(points=points, weight=weight, unit_px=self._unit, touching=touching, apart=apart)

    def _calibrate(self, guess: State) -> lids.Calibrated:
        up = -guess.rotation[:, :2, 1]
        up = up / np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-6)
        unit = np.exp(guess.log_scale) * self._solver.eye_distance
        good = self.confidence > 0
        frames = lids.Frames(up_px=up, unit_px=unit, good=good, fps=self._fps, seen=self._seen, dark=self._dark)
        return lids.calibrate(self.landmarks_px, frames, _LID_FOLLOW)

    def _spread(self, observed: Observed, guess: State) -> Int[np.ndarray, "n"]:
        """Frames that differ in pose and in expression."""
        straight = np.einsum("tlj,tjk->tlk", observed.points - guess.place[:, None], guess.rotation[:, :2, :2])
        straight = straight / np.exp(guess.log_scale - np.median(guess.log_scale))[:, None, None]
        turns = Rotation.from_matrix(guess.rotation).as_rotvec()
        features = np.concatenate([straight.reshape(len(turns), -1), 4 * turns], 1)
        return spread_frames(features, self.confidence > 0, _SHARED_FRAMES)

    def _sequence(self, observed: Observed, prior: Prior, shared: Shared, rigid: np.ndarray, sink: Sink) -> _Result:
        t, total = len(observed.points), sum(_SEQUENCE_ROUNDS)
        person, model = self._person(shared)
        state = first_guess(model, observed, rigid)
        state = _fill(state, self.confidence > 0, self.segments)
        done = 0
        for index, rounds in enumerate(_SEQUENCE_ROUNDS):
            state = solve_sequence(
                model, observed, prior, state, focal=shared.focal, iterations=rounds, segments=self.segments
            )
            done += rounds
            sink(Progress(stage=_STAGE, done=round(t * done / total), total=t))
            if index < len(_SEQUENCE_ROUNDS) - 1:
                least = self._least(state)
                prior = lowered(prior, least)
                shared, state = _relaxed(shared, person, (model, state), least)
                _, model = self._person(shared)
                shared = self._solver.explained(shared, model, state, observed)
                person, model = self._person(shared)
        return self._with_own_actions(_Result(state=state, shared=shared, person=person, model=model), observed, prior)

    def _with_own_actions(self, result: _Result, observed: Observed, prior: Prior) -> _Result:
        """The same coefficients on actions of this person's own form, and the poses that fit them.

        Coefficients solved for once more would follow the forms, which know less than the rig what an action means.
        """
        shared, state = result.shared, result.state
        kernel = ActionKernel(self._rig, self._kept)
        change = torch.from_numpy(kernel.change(result.person, result.model, state, observed, shared.focal)).float()
        _, model = self._person(shared, change)
        shared = self._solver.explained(shared, model, state, observed)
        person, model = self._person(shared, change)
        state = solve_sequence(
            model,
            observed,
            held(prior, state),
            state,
            focal=shared.focal,
            iterations=_POSE_ROUNDS,
            segments=self.segments,
        )
        return _Result(state=state, shared=shared, person=person, model=model)

    def _least(self, state: State) -> Float[np.ndarray, "52"]:
        """What an action never goes below is this person's neutral face, not motion.

        A smile may last a whole clip, and is told from a wide mouth as far as points are exact; a raised brow does not.
        """
        sure = np.maximum(self._noise.independence, natural().mean < _SELDOM)
        return np.quantile(state.expression[self.confidence > 0], _REST, axis=0) * _RELAXES * sure

    def _person(
        self, shared: Shared, change: Float[torch.Tensor, "52 v 3"] | None = None
    ) -> tuple[PersonalRig, PointModel]:
        """The personal rig, its actions changed, and its points with everything static."""
        identity = torch.from_numpy(shared.identity).float()
        person = self._rig.personal(identity, torch.from_numpy(self._solver.static(shared).offsets).float())
        if change is not None:
            person = replace(person, actions=self._rig.shutting(person.neutral, person.actions + change))
        model = self._solver.model(shared)
        table = self._rig.landmarks
        actions = table.points(person.actions, person.faces)[:, self._kept].permute(1, 2, 0).double().numpy()
        return person, replace(model, actions=np.ascontiguousarray(actions), pivots=person.eye_pivots.double().numpy())

    def _answer(self, result: _Result, observed: Observed) -> tuple[FaceTrack, PersonalRig]:
        error = _error(result.model, result.state, observed, result.shared.focal)
        good = self.confidence > 0
        limit = max(_SLIP, 3 * float(np.median(error[good])))
        confidence = self.confidence * np.clip(2 - error / limit, 0, 1)
        state = _fill(result.state, confidence > 0, self.segments)
        focal = result.shared.focal
        height, width = self._size
        camera = Camera(
            T_world_camera=torch.eye(4), focal=(focal, focal), center=(width / 2, height / 2), size=self._size
        )
        motion = _motion(state, result.model, focal, self._unit, self._fps)
        neck = neck_angles(state.rotation, self._fps, self.segments)
        track = FaceTrack(
            motion=replace(motion, neck=torch.from_numpy(neck).float()),
            identity=torch.from_numpy(result.shared.identity).float(),
            camera=camera,
            landmarks_px=torch.from_numpy(self.landmarks_px).float(),
            confidence=torch.from_numpy(confidence).float(),
        )
        return track, result.person


def _points(
    rig: AbstractRig, seen: Bool[np.ndarray, "478"] | None
) -> tuple[Int[np.ndarray, "l"], Float[np.ndarray, "l"]]:
    """The detector's points that are used, and the deviation of each over a clip (eye distances)."""
    usable = rig.landmarks.usable.numpy()
    kept = np.flatnonzero(usable if seen is None else usable & seen)
    sigma = 0.4 * rig.landmarks.sigma.double().numpy()
    sharp = np.concatenate(
        [a.ravel() for a in (lids.UPPER_LIDS, lids.LOWER_LIDS, lids.UPPER_INNER, lids.LOWER_INNER, lids.OUTER_LIPS)]
    )
    sigma = np.maximum(sigma, 0.008)
    sigma[sharp] = 0.004
    sigma[468:] = 0.006
    return kept, sigma[kept]


def _relaxed(
    shared: Shared, person: PersonalRig, seen: tuple[PointModel, State], least: Float[np.ndarray, "52"]
) -> tuple[Shared, State]:
    """With so much of the actions in the neutral form."""
    model, state = seen
    rest = Static(
        points=shared.rest.points + model.actions @ least,
        offsets=shared.rest.offsets + np.tensordot(least, person.actions.double().numpy(), 1),
    )
    return replace(shared, rest=rest), replace(state, expression=np.maximum(state.expression - least, 0))


def _rigid(kept: Int[np.ndarray, "l"]) -> Bool[np.ndarray, "l"]:
    stiff = np.array(_STIFF.split(), int)
    return np.isin(kept, stiff)


def _error(model: PointModel, state: State, observed: Observed, focal: float) -> Float[np.ndarray, "t"]:
    """Mean distance of the points in eye distances, each in units of its size of the frame."""
    out = []
    for first in range(0, len(state), 256):
        some = slice(first, first + 256)
        seen = project(model, state.select(some), focal, observed.unit_px)
        out.append(np.linalg.norm(seen.uv - observed.points[some], axis=-1).mean(1))
    return np.concatenate(out)


def _camera_gaze(state: State) -> Float[np.ndarray, "t 4"]:
    """Angles at which both eyes look at the camera, were it far away."""
    direction = -state.rotation[:, 2]
    yaw, pitch = np.arctan2(direction[:, 0], -direction[:, 2]), np.arcsin(np.clip(direction[:, 1], -1, 1))
    return np.clip(np.stack([yaw, pitch, yaw, pitch], 1), -0.6, 0.6)


def _fill(state: State, good: Bool[np.ndarray, "t"], segments: Int[np.ndarray, "t"] | None = None) -> State:
    """Unseen frames get motion interpolated between seen ones of their segment, held at the ends."""
    parts = [_filled(state.select(span), good[span]) for span in spans(segments, len(state))]
    return State(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(state)})


def _filled(state: State, good: Bool[np.ndarray, "t"]) -> State:
    if good.all() or not good.any():
        return state
    known, time = np.flatnonzero(good), np.arange(len(good), dtype=float)
    right = np.searchsorted(known, time).clip(0, len(known) - 1)
    left = np.where(known[right] <= time, right, np.maximum(right - 1, 0))
    a, b = known[left], known[right]
    weight = np.clip((time - a) / np.maximum(b - a, 1), 0, 1)
    turn = Rotation.from_matrix(state.rotation[b] @ state.rotation[a].transpose(0, 2, 1)).as_rotvec()
    mixed = {}
    for name in ("expression", "gaze", "place", "log_scale"):
        values = getattr(state, name)
        w = weight.reshape(-1, *[1] * (values.ndim - 1))
        mixed[name] = values[a] * (1 - w) + values[b] * w
    rotation = Rotation.from_rotvec(turn * weight[:, None]).as_matrix() @ state.rotation[a]
    return State(rotation=rotation, **mixed)


def _motion(state: State, model: PointModel, focal: float, unit_px: float, fps: float) -> MotionSequence:
    depth = focal / np.exp(state.log_scale)
    middle = np.concatenate([state.place * unit_px / focal * depth[:, None], depth[:, None]], 1)
    pose = np.tile(np.eye(4), (len(state), 1, 1))
    pose[:, :3, :3] = state.rotation
    pose[:, :3, 3] = middle - (state.rotation @ model.centre[:, None])[..., 0]
    return MotionSequence(
        expression=torch.from_numpy(state.expression).float(),
        T_world_head=torch.from_numpy(pose).float(),
        neck=torch.from_numpy(neck_angles(state.rotation, fps)).float(),
        gaze=torch.from_numpy(state.gaze.reshape(-1, 2, 2)).float(),
        fps=fps,
    )


def neck_angles(
    rotation: Float[np.ndarray, "t 3 3"], fps: float, segments: Int[np.ndarray, "t"] | None = None
) -> Float[np.ndarray, "t 3"]:
    """Turn of the head (axis-angle, head axes) against a torso that keeps the head's slow mean orientation."""
    turns = Rotation.from_matrix(rotation)
    mean = turns.mean()
    away = (mean.inv() * turns).as_rotvec()
    sigma = _TORSO_SECONDS * fps

    def smoothed(turn: np.ndarray) -> np.ndarray:
        return gaussian_filter1d(turn, sigma, axis=0, mode="reflect") if len(turn) > 2 else np.zeros_like(turn)

    slow = in_each(smoothed, away, segments)
    torso = mean * Rotation.from_rotvec(0.5 * slow)
    return (torso.inv() * turns).as_rotvec()
