"""A sound whose motion is known: irregular pulses of a tone, and a jaw that opens in proportion to its loudness."""

import numpy as np
import torch

from avatar.core import AudioTrack, MotionSequence
from avatar.face.arkit import INDEX

RATE = 48_000
_PEAKS = (0.55, 0.95, 1.6, 2.0, 2.75, 3.1, 3.45, 4.2, 4.6, 5.4)
OPEN = 0.4
"""jawOpen at a peak: what every speaker's film has shown, so that nothing is held back."""
_HALF = 0.16
"""Seconds from a pulse's start to its peak."""


def loudness(times: np.ndarray) -> np.ndarray:
    """In [0, 1] at seconds."""
    return np.clip(1 - np.abs(times[:, None] - np.array(_PEAKS)) / _HALF, 0, 1).max(axis=1)


def sound(seconds: float) -> AudioTrack:
    times = np.arange(round(seconds * RATE)) / RATE
    return AudioTrack(samples=(0.8 * loudness(times) * np.sin(2 * np.pi * 330 * times)).astype(np.float32), rate=RATE)


def motion(seconds: float, fps: float = 25.0) -> MotionSequence:
    """Relative, as motion files hold it."""
    times = np.arange(round(seconds * fps)) / fps
    expression = torch.zeros(len(times), 52)
    expression[:, INDEX["jawOpen"]] = torch.from_numpy(OPEN * loudness(times)).float()
    count = len(times)
    return MotionSequence(
        expression=expression, T_world_head=torch.eye(4).repeat(count, 1, 1), neck=torch.zeros(count, 3),
        gaze=torch.zeros(count, 2, 2), fps=fps,
    )  # fmt: skip


def envelope(samples: np.ndarray, rate: int, times: np.ndarray) -> np.ndarray:
    """Loudness of a recorded sound at `times`: the root of the power within 10 ms."""
    half = rate // 200
    power = np.cumsum(np.concatenate([[0.0], samples.astype(np.float64) ** 2]))
    middle = np.round(times * rate).astype(int)
    first, last = np.clip(middle - half, 0, len(samples)), np.clip(middle + half, 0, len(samples))
    return np.sqrt((power[last] - power[first]) / np.maximum(last - first, 1))


def delay(times: np.ndarray, seen: np.ndarray, samples: np.ndarray, rate: int) -> tuple[float, float]:
    """By how many seconds what is seen comes after what is heard, and how well the two agree (correlation)."""
    tried = np.arange(-0.3, 0.3, 0.004)
    fits = [abs(float(np.corrcoef(seen, envelope(samples, rate, times - late))[0, 1])) for late in tried]
    best = int(np.nanargmax(fits))
    return float(tried[best]), fits[best]
