"""From lips to a whole head: a person's way, contacts, silence, blinks, gaze, sway and brows. Shared by all models."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from avatar.core import MotionSequence
from avatar.speech import idle
from avatar.speech.articulation import close_contacts
from avatar.speech.style import SpeechStyle
from avatar.speech.visemes import (
    ARKIT_FROM_ARTICULATORS,
    ARKIT_INDEX,
    BITE,
    JAW,
    PART,
    PRESS,
    PUCKER,
    ROUND,
    SPREAD,
)

NOD = 0.030
"""Radians by which the head nods at a strong emphasis."""


@dataclass(frozen=True, kw_only=True)
class Prosody:
    """What loudness and voice say, on a frame grid."""

    gate: Float[np.ndarray, "t"]
    """1 where the mouth may move, 0 in silence."""
    emphasis: Float[np.ndarray, "t"]
    """Loudness against its surroundings, in standard deviations (about -2 to 2); 0 in silence."""


@dataclass(frozen=True, kw_only=True)
class Lips:
    """What the lips of an average speaker do, on a frame grid, before any contact is made."""

    curves: Float[np.ndarray, "t a"]
    """Articulators in [0, 1]."""
    shut: Float[np.ndarray, "t"]
    """1 where the lips touch (p, b, m)."""
    bite: Float[np.ndarray, "t"]
    """1 where the lower lip touches the teeth (f, v)."""


def perform(lips: Lips, heard: Prosody, style: SpeechStyle, fps: float, seed: int, *, first: int = 0) -> MotionSequence:
    """The motion of a head; the seed moves blinks, gaze and head only: lips depend on the sound alone.

    Args:
        first: frames of the same head that came before these.
    """
    times = (first + np.arange(len(lips.curves))) / fps
    expression = _expression(articulators(lips, heard, style), heard, style, idle.blinks(times, style, seed))
    gaze = idle.gaze_shifts(times, style, seed)
    sway = idle.head_sway(times, style, seed)
    sway[:, 0] += NOD * _emphasis_pulse(heard.emphasis, fps)
    pose = np.tile(np.eye(4), (len(times), 1, 1))
    pose[:, :3, :3] = Rotation.from_rotvec(sway).as_matrix()
    return MotionSequence(
        expression=torch.from_numpy(expression),
        T_world_head=torch.from_numpy(pose).float(),
        neck=torch.from_numpy(sway).float(),
        gaze=torch.from_numpy(np.repeat(gaze[:, None], 2, axis=1)).float(),
        fps=fps,
    )


def articulators(lips: Lips, heard: Prosody, style: SpeechStyle) -> Float[np.ndarray, "t a"]:
    """Articulator curves of the person: style, contacts, and silence last."""
    curves = lips.curves.copy()
    curves[:, [JAW, PART]] *= style.opening_gain
    curves[:, [ROUND, PUCKER, SPREAD]] *= style.width_gain
    curves = close_contacts(np.clip(curves, 0.0, 1.0), lips.bite, lips.shut)
    return curves * heard.gate[:, None].astype(np.float32)


def _expression(
    lips: Float[np.ndarray, "t a"], heard: Prosody, style: SpeechStyle, lids: Float[np.ndarray, "t"]
) -> Float[np.ndarray, "t 52"]:
    rest = np.asarray(style.rest, np.float32)
    contact = np.zeros_like(lips)
    contact[:, [PRESS, BITE]] = lips[:, [PRESS, BITE]]
    # The resting lips touch already; a contact presses them as far as it asks, not on top of that.
    out = np.maximum(rest, contact @ ARKIT_FROM_ARTICULATORS) + (lips - contact) @ ARKIT_FROM_ARTICULATORS
    for side in ("Left", "Right"):
        blink = ARKIT_INDEX[f"eyeBlink{side}"]
        out[:, blink] = np.maximum(out[:, blink], lids)
        squint = ARKIT_INDEX[f"eyeSquint{side}"]
        out[:, squint] = np.maximum(out[:, squint], 0.25 * lids)
    raised = style.brow_gain * np.maximum(heard.emphasis - 0.5, 0.0)
    for name, weight in (("browInnerUp", 0.16), ("browOuterUpLeft", 0.10), ("browOuterUpRight", 0.10)):
        out[:, ARKIT_INDEX[name]] += weight * gaussian_filter1d(raised, 3.0, mode="nearest")
    return np.clip(out, 0.0, np.asarray(style.ceiling)).astype(np.float32)


def _emphasis_pulse(emphasis: Float[np.ndarray, "t"], fps: float) -> Float[np.ndarray, "t"]:
    """Slow, one-sided version of the emphasis, between 0 and about 1, that a head can follow."""
    return gaussian_filter1d(np.maximum(emphasis, 0.0), 0.25 * fps, mode="nearest")
