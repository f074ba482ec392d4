"""What a head does of its own accord: blinks, glances, changes of posture, breath. Random from a seed, at any moment.

Every process is cut into cells of time, and each cell draws from a stream of its own. So a moment costs the same after
an hour as at the start, needs no past, and is the same in whatever pieces motion is made.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from avatar.speech.style import SpeechStyle

REFRACTORY = 0.9
"""Seconds after a blink in which no other starts, but for double blinks."""
DOUBLE, DOUBLE_AFTER = 0.08, (0.36, 0.60)
"""Share of blinks that a second one follows at once, and after how many seconds."""
BLINK_CELL = 30.0
GLANCE_CELL = 2.4
"""Seconds in which the eyes may once leave the listener."""
FIXATION_CELL = 0.8
"""Seconds in which they look at one point of the listener's face, on average."""
SACCADE_SECONDS = 0.045
WIDEST_GLANCES = (0.030, 0.020)
"""Deviations (radians) of looking elsewhere: people whose eyes turn further in their heads turn the head by that."""
MOVE_SECONDS = (0.45, 0.95)
"""Shortest and longest change of posture."""
STILL = 0.15
"""Share of the moments for a change at which the head keeps its posture."""
BODY_CELL = 3.5
DRIFT_CELL, QUIVER_CELL = 4.0, 0.35
"""Spacing of the knots of what the head does slowly while it holds a posture, and of its small quick motion."""
_SHARES = np.sqrt([0.70, 0.25, 0.05])
"""Deviations of postures, drift and quiver: together 1."""
SPLINE_STD = 0.692
"""Mean deviation of a cubic B-spline through independent unit-normal values."""
BREATH_HZ, BREATH_METRES = 0.26, 0.0008
"""Breaths a second (12 to 20 a minute at rest) and how far the shoulders rise."""
_BLINKS, _GLANCES, _FIXATIONS, _POSTURE, _DRIFT, _QUIVER, _BODY, _BREATH = range(10, 18)
_BLOCK = 64
_BEFORE = 1 << 20
"""Cells before the first one also have numbers."""


@lru_cache(maxsize=512)
def _block(seed: int, process: int, block: int) -> tuple[Float[np.ndarray, "b 4"], Float[np.ndarray, "b 4"]]:
    rng = np.random.default_rng([seed, process, block])
    return rng.random((_BLOCK, 4)), rng.normal(size=(_BLOCK, 4))


def _drawn(seed: int, process: int, first: int, last: int) -> tuple[Float[np.ndarray, "c 4"], Float[np.ndarray, "c 4"]]:
    """Uniform and normal numbers of the cells `first` to `last`."""
    low, high = first + _BEFORE, last + _BEFORE
    blocks = [_block(seed, process, b) for b in range(low // _BLOCK, high // _BLOCK + 1)]
    cut = slice(low % _BLOCK, low % _BLOCK + high - low + 1)
    return np.concatenate([b[0] for b in blocks])[cut], np.concatenate([b[1] for b in blocks])[cut]


def eased(x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """From 0 to 1 as hands and heads move (minimum jerk, Flash and Hogan 1985)."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10.0 - 15.0 * x + 6.0 * x * x)


@dataclass(frozen=True)
class Blink:
    """One blink that would happen in conversation."""

    moment: float
    stretch: float
    depth: float
    mark: float
    """In [0, 1): it happens where the share of blinks that do is above."""


def blinks(start: float, end: float, style: SpeechStyle, seed: int) -> list[Blink]:
    """Blinks from `start` to before `end` (seconds): chance, but for a pause after each; some come in pairs."""
    if style.blink_hz <= 0 or end <= start:
        return []
    found: list[Blink] = []
    for cell in range(int(start // BLINK_CELL), int(end // BLINK_CELL) + 1):
        before = _blinks_of(seed, cell - 1, style.blink_hz, style.blink_depth)
        free = before[-1].moment + REFRACTORY if before else -np.inf
        found += [b for b in _blinks_of(seed, cell, style.blink_hz, style.blink_depth) if b.moment >= free]
    return [b for b in found if start <= b.moment < end]


@lru_cache(maxsize=64)
def _blinks_of(seed: int, cell: int, rate: float, depth: float) -> tuple[Blink, ...]:
    rng = np.random.default_rng([seed, _BLINKS, cell + _BEFORE])
    pause = max((1 + DOUBLE) / rate - REFRACTORY - DOUBLE * float(np.mean(DOUBLE_AFTER)), 0.05)
    # The cell begins somewhere in an interval, in its refractory time or after it.
    late = pause / (pause + REFRACTORY)
    rest = REFRACTORY * max(float(rng.random()) - late, 0.0) / (1.0 - late)
    moment = cell * BLINK_CELL + rest + float(rng.exponential(pause))
    out: list[Blink] = []

    def add(at: float, mark: float) -> None:
        out.append(Blink(at, float(rng.uniform(0.75, 1.35)), depth * float(rng.uniform(0.92, 1.0)), mark))

    while moment < (cell + 1) * BLINK_CELL:
        mark = float(rng.random())
        add(moment, mark)
        if rng.random() < DOUBLE:
            moment += float(rng.uniform(*DOUBLE_AFTER))
            add(moment, mark)
        moment += REFRACTORY + float(rng.exponential(pause))
    return tuple(b for b in out if b.moment < (cell + 1) * BLINK_CELL)


@dataclass(frozen=True)
class Glance:
    """A look away from the listener and back."""

    moment: float
    seconds: float
    angles: tuple[float, float]
    """Yaw and pitch, radians."""
    mark: float
    """In [0, 1): it happens where the share of glances that do is above."""


def glances(start: float, end: float, style: SpeechStyle, seed: int) -> list[Glance]:
    """Glances from `start` to before `end` (seconds), at most one in each `GLANCE_CELL`."""
    if end <= start:
        return []
    first, last = int(start // GLANCE_CELL), int(end // GLANCE_CELL)
    even, normal = _drawn(seed, _GLANCES, first, last)
    angles = normal[:, :2] * fixation_std(style) * 1.5
    moments = (np.arange(first, last + 1) + 0.3 * even[:, 0]) * GLANCE_CELL
    seconds = 0.4 + np.minimum(-0.55 * np.log1p(-even[:, 1]), 1.1)
    rows = zip(moments, seconds, angles, even[:, 2], strict=True)
    return [Glance(float(m), float(s), (float(a[0]), float(a[1])), float(k)) for m, s, a, k in rows if start <= m < end]


def fixation_std(style: SpeechStyle) -> Float[np.ndarray, "2"]:
    """Deviations (yaw, pitch) of where the eyes look at, without what they do to stay there while the head turns."""
    total, head = np.asarray(style.gaze_std), style.gaze_hold * np.asarray(style.head_std)[[1, 0]]
    return np.minimum(np.sqrt(np.maximum(total**2 - head**2, (0.4 * total) ** 2)), WIDEST_GLANCES)


def fixations(times: Float[np.ndarray, "t"], style: SpeechStyle, seed: int) -> Float[np.ndarray, "t 2"]:
    """(yaw, pitch) in radians of small saccades between points of the listener's face."""
    cells = _cells(times, FIXATION_CELL)
    if cells is None:
        return np.zeros((0, 2))
    even, normal = _drawn(seed, _FIXATIONS, cells[0] - 1, cells[1])
    moments = (np.arange(cells[0] - 1, cells[1] + 1) + 0.9 * even[:, 0]) * FIXATION_CELL
    points = normal[:, :2] * fixation_std(style) * 0.3
    return _steps(times, moments, np.full(len(moments), SACCADE_SECONDS), points)


def head_sway(times: Float[np.ndarray, "t"], style: SpeechStyle, seed: int) -> Float[np.ndarray, "t 3"]:
    """Rotation vector (radians): postures joined by smooth moves, a slow drift while they are held, a small quiver.

    Heads hold and move rather than float: steps at random moments give the fall of the spectrum with the square of the
    frequency that filmed heads have, and its end where a move cannot be quicker.
    """
    cell = 0.5 / style.head_hz
    cells = _cells(times, cell)
    if cells is None:
        return np.zeros((0, 3))
    first = (cells[0] - 2) // 8 * 8  # every eighth cell has a new posture, whatever was before
    even, normal = _drawn(seed, _POSTURE, first, cells[1])
    numbers = np.arange(first, cells[1] + 1)
    moved = (even[:, 0] >= STILL) | (numbers % 8 == 0)
    targets = normal[np.maximum.accumulate(np.where(moved, np.arange(len(moved)), 0)), :3]
    seconds = np.minimum(MOVE_SECONDS[0] + np.ptp(MOVE_SECONDS) * even[:, 2], 0.9 * cell)
    out = _SHARES[0] * _steps(times, (numbers + 0.7 * even[:, 1]) * cell, seconds, targets)
    out += _SHARES[1] * _spline(times, DRIFT_CELL, seed, _DRIFT) + _SHARES[2] * _spline(
        times, QUIVER_CELL, seed, _QUIVER
    )
    return out * np.asarray(style.head_std)


def body_sway(times: Float[np.ndarray, "t"], style: SpeechStyle, seed: int) -> Float[np.ndarray, "t 3"]:
    """Metres by which the whole person shifts from one seat to another."""
    cells = _cells(times, BODY_CELL)
    if cells is None:
        return np.zeros((0, 3))
    even, normal = _drawn(seed, _BODY, cells[0] - 2, cells[1])
    moments = (np.arange(cells[0] - 2, cells[1] + 1) + 0.6 * even[:, 0]) * BODY_CELL
    steps = _steps(times, moments, 1.2 + 1.3 * even[:, 1], normal[:, :3])
    return (0.9 * steps + 0.435 * _spline(times, DRIFT_CELL, seed, _BODY)) * np.asarray(style.body_std)


def breath(times: Float[np.ndarray, "t"], seed: int) -> Float[np.ndarray, "t"]:
    """Metres by which the shoulders rise, at a rate that wanders."""
    wander = _spline(times, DRIFT_CELL, seed, _BREATH)
    depth = 1.0 + 0.2 * wander[:, 1]
    return BREATH_METRES * depth * np.sin(2 * np.pi * BREATH_HZ * times + 1.2 * wander[:, 0])


def _cells(times: Float[np.ndarray, "t"], length: float) -> tuple[int, int] | None:
    """The cells of the first and the last moment; moments ascend."""
    return (int(np.floor(times[0] / length)), int(np.floor(times[-1] / length))) if len(times) else None


def _steps(
    times: Float[np.ndarray, "t"],
    moments: Float[np.ndarray, "c"],
    seconds: Float[np.ndarray, "c"],
    targets: Float[np.ndarray, "c k"],
) -> Float[np.ndarray, "t k"]:
    """From each target to the next, beginning at its moment; the first one is reached before `times` begin."""
    done = eased((times[:, None] - moments[1:]) / seconds[1:])
    return targets[0] + done @ np.diff(targets, axis=0)


def _spline(times: Float[np.ndarray, "t"], spacing: float, seed: int, process: int) -> Float[np.ndarray, "t 3"]:
    """Smooth noise of deviation 1: a uniform cubic B-spline of independent values."""
    cells = _cells(times, spacing)
    if cells is None:
        return np.zeros((0, 3))
    _, knots = _drawn(seed, process, cells[0], cells[1] + 3)
    low, x = np.divmod(times / spacing, 1.0)
    weights = x[:, None] ** np.arange(4) @ _SPLINE
    rows = low.astype(int)[:, None] - cells[0] + np.arange(4)
    return (weights[:, None] @ knots[rows, :3])[:, 0] / SPLINE_STD


_SPLINE = np.array([[1.0, 4.0, 1.0, 0.0], [-3.0, 0.0, 3.0, 0.0], [3.0, -6.0, 3.0, 0.0], [-1.0, 3.0, -3.0, 1.0]]) / 6
"""Row by row, what each power of the place between two knots adds to the weights of four knots."""
