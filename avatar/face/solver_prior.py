"""What is known of faces before looking: which actions there are and go together, how fast things move."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from avatar.face.arkit import NAMES
from avatar.face.natural import natural
from avatar.face.solver import FREE, GAZE, PLACE, SCALE, TURN, UNKNOWNS, State

_BLINK, _BLINK_PAIR = 0.06, 0.3
"""Deviations of eyeBlink around what the lids' opening says, and of the difference of right and left."""

_OWN = 0.03
"""Deviation of each action by itself, beside what goes together in natural faces."""

_RARE, _RARITY, _RAREST = 0.08, 0.8, 60.0
"""Actions whose mean in natural faces is below the first number are absent from most: they get an exponential prior of
that mean beside the Gaussian, of which the second part counts, up to the third."""

_STEP = {"eyeBlink": 0.6, "jaw": 0.12, "mouth": 0.1}
"""Deviation of an action's change from frame to frame at 25 fps; 0.06 for those that are not named."""

_CLOSED_NOT_WIDE = 40.0

_HELD = 0.0003
"""Deviation of actions and gaze that are known."""


_CAMERA_GAZE, _EYES_YAW, _EYES_PITCH = 0.3, 0.04, 0.02


@dataclass(frozen=True, kw_only=True)
class Prior:
    """A Gaussian plus an absolute value on the unknowns of each frame, and Gaussians on their changes."""

    precision: Float[np.ndarray, "n n"]
    centre: Float[np.ndarray, "t n"]
    linear: Float[np.ndarray, "t n"]
    first: Float[np.ndarray, "n"]
    """Precision of the change from frame to frame."""
    second: Float[np.ndarray, "n"]
    """Precision of the change of the change."""


def _look_up(table: dict[str, float], name: str, default: float) -> float:
    found = [key for key in table if name.startswith(key)]
    return table[max(found, key=len)] if found else default


@dataclass(frozen=True, kw_only=True)
class _Usual:
    """Natural faces in the solver's order; without the lids, which have their own prior."""

    index: Int[np.ndarray, "o"]
    """Among the free actions."""
    mean: Float[np.ndarray, "o"]
    precision: Float[np.ndarray, "o o"]
    linear: Float[np.ndarray, "o"]


@lru_cache(maxsize=1)
def _usual() -> _Usual:
    """Made once: the live tracker asks at every picture."""
    index = np.array([j for j, i in enumerate(FREE) if not NAMES[i].startswith("eyeBlink")])
    chosen, faces = FREE[index], natural()
    mean, covariance = faces.mean[chosen], faces.covariance[np.ix_(chosen, chosen)]
    return _Usual(
        index=index,
        mean=mean,
        precision=np.linalg.inv(covariance + _OWN**2 * np.eye(len(index))),
        linear=_RARITY * np.clip(1 / mean - 1 / _RARE, 0, _RAREST),
    )


def make_prior(blink: Float[np.ndarray, "t 2"], gaze: Float[np.ndarray, "t 4"], fps: float) -> Prior:
    """The prior for a clip.

    Args:
        blink: how far the right and the left eye are closed, in [0, 1].
        gaze: angles (radians) at which the eyes would look into the camera.
    """
    names = [NAMES[i] for i in FREE]
    precision = np.zeros((UNKNOWNS, UNKNOWNS))
    linear, first, second = np.zeros(UNKNOWNS), np.zeros(UNKNOWNS), np.zeros(UNKNOWNS)
    rate = 25 / fps
    for i, name in enumerate(names):
        first[i] = 1 / (_look_up(_STEP, name, 0.06) ** 2 * rate)
    lids = [names.index("eyeBlinkRight"), names.index("eyeBlinkLeft")]
    precision[lids, lids] = _BLINK**-2
    _couple(precision, lids[0], lids[1], _BLINK_PAIR)
    usual = _usual()
    others, mean = usual.index, usual.mean
    precision[np.ix_(others, others)] = usual.precision
    linear[others] = usual.linear
    for axis, deviation in enumerate((_EYES_YAW, _EYES_PITCH)):
        right, left = GAZE.start + axis, GAZE.start + 2 + axis
        precision[right, right] += _CAMERA_GAZE**-2
        precision[left, left] += _CAMERA_GAZE**-2
        _couple(precision, right, left, deviation)
    first[GAZE] = 1 / (0.06**2 * rate)
    second[TURN] = 1 / (0.0025**2 * rate**3)
    second[PLACE] = 1 / (0.006**2 * rate**3)
    second[SCALE] = 1 / (0.0005**2 * rate**3)
    # Faint, so that frames without a face keep still instead of drifting away.
    first[TURN], first[PLACE], first[SCALE] = second[TURN] * 1e-4, second[PLACE] * 1e-4, second[SCALE] * 1e-4
    linear = np.tile(linear, (len(blink), 1))
    # What trembles about an open lid is no blink, as most lids are open; a shut one is as shut as it was measured.
    linear[:, lids] = (1 - blink) ** 2 / natural().mean[FREE[lids]]
    linear[:, names.index("eyeWideRight")] += _CLOSED_NOT_WIDE * blink[:, 0]
    linear[:, names.index("eyeWideLeft")] += _CLOSED_NOT_WIDE * blink[:, 1]
    centre = np.zeros((len(blink), UNKNOWNS))
    centre[:, others] = mean
    centre[:, lids] = blink
    centre[:, GAZE] = gaze
    return Prior(precision=precision, centre=centre, linear=linear, first=first, second=second)


def lowered(prior: Prior, least: Float[np.ndarray, "52"]) -> Prior:
    """Of a face whose neutral form has taken in so much of each action."""
    centre = prior.centre.copy()
    others = _usual().index
    centre[:, others] = np.maximum(centre[:, others] - least[FREE[others]], 0)
    return replace(prior, centre=centre)


def loosened(prior: Prior, part: float) -> Prior:
    """With less weight on which actions there are, and some less on how smoothly the head moves."""
    precision, linear = prior.precision.copy(), prior.linear.copy()
    others = _usual().index
    precision[np.ix_(others, others)] *= part
    linear[:, others] *= part
    return replace(prior, precision=precision, linear=linear, second=prior.second * part**0.5)


def held(prior: Prior, state: State) -> Prior:
    """Actions and gaze stay what they are in `state`, only the head moves."""
    known = slice(0, GAZE.stop)
    precision, centre = np.zeros_like(prior.precision), np.zeros_like(prior.centre)
    precision[known, known] = np.eye(GAZE.stop) / _HELD**2
    centre[:, known] = state.vector()[:, known]
    return replace(prior, precision=precision, centre=centre, linear=np.zeros_like(prior.linear))


def _couple(precision: np.ndarray, i: int, j: int, deviation: float) -> None:
    weight = deviation**-2
    precision[i, i] += weight
    precision[j, j] += weight
    precision[i, j] -= weight
    precision[j, i] -= weight


def of_frames(prior: Prior, index: slice | np.ndarray) -> Prior:
    """The prior of some of the frames."""
    return replace(prior, centre=prior.centre[index], linear=prior.linear[index])
