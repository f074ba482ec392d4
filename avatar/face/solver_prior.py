"""What is known of faces before looking: how large actions are, how left and right agree, how fast things move."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from avatar.face.arkit import NAMES
from avatar.face.solver import FREE, GAZE, PLACE, SCALE, TURN, UNKNOWNS

_DEVIATION = {
    "eyeBlink": 0.06,
    "eyeSquint": 0.2,
    "eyeWide": 0.3,
    "jawForward": 0.08,
    "jawLeft": 0.15,
    "jawRight": 0.15,
    "jawOpen": 0.7,
    "mouthClose": 0.1,
    "mouthFunnel": 0.4,
    "mouthPucker": 0.5,
    "mouthLeft": 0.25,
    "mouthRight": 0.25,
    "mouthSmile": 0.5,
    "mouthFrown": 0.35,
    "mouthDimple": 0.2,
    "mouthStretch": 0.35,
    "mouthRoll": 0.2,
    "mouthShrug": 0.15,
    "mouthPress": 0.15,
    "mouthLowerDown": 0.4,
    "mouthUpperUp": 0.4,
    "browDown": 0.4,
    "browInnerUp": 0.5,
    "browOuterUp": 0.5,
    "cheekPuff": 0.06,
    "cheekSquint": 0.15,
    "noseSneer": 0.3,
}
"""Of the actions around 0 (eyeBlink: around what the lids' opening says). Landmarks show little of the small ones."""

_SPARSE = {"eyeBlink": 0.0, "jawOpen": 0.3, "mouthSmile": 0.7, "mouthPucker": 0.7, "brow": 0.7}
"""Weight of the absolute value; 1 for those that are not named."""

_PAIR = {"eyeBlink": 0.3, "browOuterUp": 0.2, "mouthSmile": 0.2}
"""Deviation of the difference of left and right; 0.12 for those that are not named."""

_STEP = {"eyeBlink": 0.6, "jaw": 0.12, "mouth": 0.1}
"""Deviation of an action's change from frame to frame at 25 fps; 0.06 for those that are not named."""

_CLOSED_NOT_WIDE = 40.0

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
        precision[i, i] += _look_up(_DEVIATION, name, 0.3) ** -2
        linear[i] = _look_up(_SPARSE, name, 1.0)
        first[i] = 1 / (_look_up(_STEP, name, 0.06) ** 2 * rate)
        if name.endswith("Left") and f"{name[:-4]}Right" in names and name not in ("jawLeft", "mouthLeft"):
            _couple(precision, i, names.index(f"{name[:-4]}Right"), _look_up(_PAIR, name, 0.12))
    for axis, deviation in enumerate((_EYES_YAW, _EYES_PITCH)):
        right, left = GAZE.start + axis, GAZE.start + 2 + axis
        precision[right, right] += _CAMERA_GAZE**-2
        precision[left, left] += _CAMERA_GAZE**-2
        _couple(precision, right, left, deviation)
    first[GAZE] = 1 / (0.06**2 * rate)
    second[TURN] = 1 / (0.005**2 * rate**3)
    second[PLACE] = 1 / (0.006**2 * rate**3)
    second[SCALE] = 1 / (0.0012**2 * rate**3)
    # Faint, so that frames without a face keep still instead of drifting away.
    first[TURN], first[PLACE], first[SCALE] = second[TURN] * 1e-4, second[PLACE] * 1e-4, second[SCALE] * 1e-4
    linear = np.tile(linear, (len(blink), 1))
    linear[:, names.index("eyeWideRight")] += _CLOSED_NOT_WIDE * blink[:, 0]
    linear[:, names.index("eyeWideLeft")] += _CLOSED_NOT_WIDE * blink[:, 1]
    centre = np.zeros((len(blink), UNKNOWNS))
    centre[:, names.index("eyeBlinkRight")] = blink[:, 0]
    centre[:, names.index("eyeBlinkLeft")] = blink[:, 1]
    centre[:, GAZE] = gaze
    return Prior(precision=precision, centre=centre, linear=linear, first=first, second=second)


def _couple(precision: np.ndarray, i: int, j: int, deviation: float) -> None:
    weight = deviation**-2
    precision[i, i] += weight
    precision[j, j] += weight
    precision[i, j] -= weight
    precision[j, i] -= weight


def of_frames(prior: Prior, index: slice | np.ndarray) -> Prior:
    """The prior of some of the frames."""
    return replace(prior, centre=prior.centre[index], linear=prior.linear[index])
