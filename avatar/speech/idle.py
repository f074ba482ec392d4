"""What a head does besides speaking: blinks, small gaze shifts, quiet head motion. Random from a seed, any length.

Every process draws from its own stream in order of time, so a longer track begins with the same motion as a shorter.
"""

import numpy as np
from jaxtyping import Float

from avatar.speech.style import SpeechStyle

REFRACTORY = 0.9
"""Seconds after a blink in which no other starts."""
CLOSE_SECONDS, OPEN_SECONDS = 0.075, 0.17
"""Lids fall faster than they rise (Trutoiu et al. 2011)."""
FIXATION = (0.5, 1.6)
"""Shortest rest of the eyes and mean of what comes on top, seconds."""
SACCADE_SECONDS = 0.045
SPLINE_STD = 0.692
"""Mean deviation of a cubic B-spline through independent unit-normal values."""
_BLINKS, _GAZE, _HEAD = range(3)


def blinks(times: Float[np.ndarray, "t"], style: SpeechStyle, seed: int) -> Float[np.ndarray, "t"]:
    """Lid closure in [0, 1]: a Poisson process with a refractory time, each blink 0.15-0.35 s long.

    On a coarse frame grid a blink still reaches its depth on one frame.
    """
    out = np.zeros(len(times))
    if style.blink_hz <= 0 or not len(times):
        return out
    rng = np.random.default_rng([seed, _BLINKS])
    step = times[1] - times[0] if len(times) > 1 else 0.0
    pause = max(1.0 / style.blink_hz - REFRACTORY, 0.05)
    moment = float(rng.exponential(pause)) + 0.3
    while moment < times[-1]:
        stretch, depth = rng.uniform(0.75, 1.35), style.blink_depth * rng.uniform(0.92, 1.0)
        phase = times - moment
        hold = max(0.015 * stretch, 0.502 * step)
        closing = 1 + (phase + hold) / (CLOSE_SECONDS * stretch)
        opening = 1 - (phase - hold) / (OPEN_SECONDS * stretch)
        lid = np.clip(np.minimum(closing, opening), 0.0, 1.0)
        out = np.maximum(out, depth * lid * lid * (3 - 2 * lid))
        moment += REFRACTORY + float(rng.exponential(pause))
    return out


def gaze_shifts(times: Float[np.ndarray, "t"], style: SpeechStyle, seed: int) -> Float[np.ndarray, "t 2"]:
    """(yaw, pitch) in radians, both eyes alike: fixations near the listener joined by saccades."""
    if not len(times):
        return np.zeros((0, 2))
    rng = np.random.default_rng([seed, _GAZE])
    knots, targets = [-1.0], [np.zeros(2)]
    moment = float(rng.exponential(FIXATION[1]))
    while moment < times[-1] + 1.0:
        # Most shifts return to the listener, so that the eyes do not wander.
        away = rng.normal(size=2) * np.asarray(style.gaze_std) * 1.3
        target = away if rng.random() < 0.55 else away * 0.15
        knots += [moment, moment + SACCADE_SECONDS]
        targets += [targets[-1], target]
        moment += FIXATION[0] + float(rng.exponential(FIXATION[1]))
    points = np.array(targets)
    return np.stack([np.interp(times, knots, points[:, i]) for i in range(2)], axis=1)


def head_sway(times: Float[np.ndarray, "t"], style: SpeechStyle, seed: int) -> Float[np.ndarray, "t 3"]:
    """Slow rotation vector in radians: smooth noise up to `style.head_hz`, with the style's deviations."""
    if not len(times):
        return np.zeros((0, 3))
    rng = np.random.default_rng([seed, _HEAD])
    spacing = 0.5 / style.head_hz
    knots = rng.normal(size=(int(times[-1] / spacing) + 4, 3)) * np.asarray(style.head_std)
    # A uniform cubic B-spline of independent values: smooth, local, its spectrum ends near the rate of the knots.
    low, x = np.divmod(times / spacing, 1.0)
    weights = np.stack([(1 - x) ** 3, 3 * x**3 - 6 * x**2 + 4, 3 * (1 + x - x * x) * x + 1, x**3], axis=1) / 6
    rows = low.astype(int)[:, None] + np.arange(4)
    return np.einsum("tk,tki->ti", weights, knots[rows]) / SPLINE_STD
