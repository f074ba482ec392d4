"""Consonants in the loudness: where a voice is fainter than shortly before and shortly after, the mouth is narrower.

Openings of the lips follow the energy of the voice (Yehia et al. 1998, Grant and Seitz 2000). The phones that were
heard know most of it; what they miss are lips that nearly meet at t, d, n, s, z, r or l, as filmed ones do. Valleys
narrow an opening and shut none: lips that touch are up to p, b and m.
"""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from avatar.speech.visemes import JAW, LIP_GAP_MM, PART, Mouth

SHORTLY = 8
"""Rows (10 ms) before and after a moment in which it is louder at a valley."""
_CALM, _SIDE = 2.0, 4
"""Standard deviation (rows) by which loudness is smoothed, and rows to both sides that count in it."""
AROUND = SHORTLY + _SIDE
"""Rows before and after a moment that tell its valley."""
_QUIET_DB = -50.0
"""What is fainter is no deeper valley: rooms differ."""
_DEEP_DB = 12.0
_PART = 0.3
"""How much of an opening is lost in a deep valley."""
_WIDER = 1.02
"""Factor on openings with which the mean of those in speech stays as it was without valleys (eleven films: 0.98)."""
_MOVABLE = [JAW, PART]
_APART_MM = 1.6
"""Articulators that give in; millimetres between the lips below which they do not."""


def valleys(windows: Float[np.ndarray, "t w"]) -> Float[np.ndarray, "t"]:
    """How deep in a valley moments are, 0 to 1.

    Args:
        windows: loudness (dB re full scale) of the rows `AROUND` before each moment to `AROUND` after it.
    """
    level = gaussian_filter1d(np.maximum(windows, _QUIET_DB), _CALM, axis=1, radius=_SIDE)
    now = level[:, AROUND]
    before, after = level[:, _SIDE : AROUND + 1].max(axis=1), level[:, AROUND : len(level[0]) - _SIDE].max(axis=1)
    return np.clip((np.minimum(before, after) - now) / _DEEP_DB, 0.0, 1.0)


def valleys_at(level: Float[np.ndarray, "n"], times: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """The same at `times` (seconds) of a whole sound with this loudness every 10 ms."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(level, AROUND, mode="edge"), 2 * AROUND + 1)
    return np.interp(times, np.arange(len(level)) / 100, valleys(windows))


def narrowed(
    curves: Float[np.ndarray, "t a"], mouth: Mouth, depth: Float[np.ndarray, "t"], gain: float = 1.0
) -> Float[np.ndarray, "t a"]:
    """Articulators of a mouth that is less open in valleys of the loudness.

    Args:
        gain: of the person's openings.
    """
    gaps = (mouth.actions @ LIP_GAP_MM).astype(np.float32)
    opening, movable = curves @ gaps, curves[:, _MOVABLE] @ gaps[_MOVABLE]
    wanted = np.maximum(_WIDER * (1 - _PART * depth) * opening, np.minimum(opening, _APART_MM * gain))
    left = 1 + np.where(opening > 0, wanted - opening, 0.0) / np.maximum(movable, 1e-3)
    out = curves.copy()
    out[:, _MOVABLE] = np.clip(out[:, _MOVABLE] * np.clip(left, 0.0, _WIDER)[:, None], 0.0, 1.0)
    return out
