"""From lips to a whole head: a person's way, contacts, silence, emotion, and life. Shared by all models."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from avatar.core import MotionSequence
from avatar.speech.articulation import close_contacts
from avatar.speech.life import Life, LifeStream
from avatar.speech.style import SpeechStyle
from avatar.speech.turns import Prosody
from avatar.speech.valleys import narrowed
from avatar.speech.visemes import (
    ARKIT_INDEX,
    AVERAGE,
    BITE,
    JAW,
    LIP_GAP_MM,
    PART,
    PRESS,
    PUCKER,
    ROUND,
    SPREAD,
    Mouth,
)

_BLINKS = [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]
_WIDE = [ARKIT_INDEX["eyeWideLeft"], ARKIT_INDEX["eyeWideRight"]]
_PARTS, _PARTS_LITTLE = LIP_GAP_MM > 1.0, (LIP_GAP_MM > 0) & (LIP_GAP_MM <= 1.0)
"""Coefficients that part the lips, and such that do so only a little."""
APART, _LITTLE = (0.4, 3.4), 0.1
"""Millimetres between the lips from which an emotion parts them further, and at which it does so in full; by how much
it may part lips that touch."""
_PARTED = (0.5, 3.0)
"""Millimetres by which speech parts the lips from which a person's own way with parted lips shows, and in full."""


@dataclass(frozen=True, kw_only=True)
class Lips:
    """What the lips of an average speaker do, on a frame grid, before any contact is made."""

    curves: Float[np.ndarray, "t a"]
    """Articulators in [0, 1]."""
    shut: Float[np.ndarray, "t"]
    """1 where the lips touch (p, b, m)."""
    bite: Float[np.ndarray, "t"]
    """1 where the lower lip touches the teeth (f, v)."""
    mouth: Mouth = AVERAGE
    valley: Float[np.ndarray, "t"] | None = None
    """How deep in a valley of the loudness the voice is, 0 to 1; None is nowhere."""


def perform(lips: Lips, heard: Prosody, style: SpeechStyle, fps: float, seed: int, *, first: int = 0) -> MotionSequence:
    """The motion of a head; the seed moves blinks, gaze, brows and head only: lips depend on the sound alone.

    Args:
        first: frames of the same head that came before these.
    """
    life = LifeStream(style, fps, seed, first=first, talking=True).push(heard)
    return enlivened(_expression(lips, heard, style), life, fps)


def enlivened(expression: Float[np.ndarray, "t 52"], life: Life, fps: float) -> MotionSequence:
    """Lips on a head that lives; `expression` is that of a still one."""
    out = expression + life.face
    lids = life.lids[:, None]
    out[:, _BLINKS] = np.maximum(out[:, _BLINKS], lids)
    out[:, _WIDE] *= 1.0 - np.minimum(lids, 1.0)
    pose = np.zeros((len(out), 4, 4))
    pose[:, :3, :3] = Rotation.from_rotvec(life.turn).as_matrix()
    pose[:, :3, 3], pose[:, 3, 3] = life.body, 1.0
    rise = np.zeros((len(out), 3))
    rise[:, 1] = -life.breath
    return MotionSequence(
        expression=torch.from_numpy(np.clip(out, 0.0, 1.0).astype(np.float32)),
        T_world_head=torch.from_numpy(pose).float(),
        neck=torch.from_numpy(life.turn).float(),
        gaze=torch.from_numpy(np.repeat(life.gaze[:, None], 2, axis=1)).float(),
        torso=torch.from_numpy(rise).float(),
        fps=fps,
    )


def articulators(lips: Lips, heard: Prosody, style: SpeechStyle) -> Float[np.ndarray, "t a"]:
    """Articulator curves of the person: style, contacts, and silence last."""
    curves = lips.curves.copy()
    curves[:, [JAW, PART]] *= style.opening_gain
    curves[:, [ROUND, PUCKER, SPREAD]] *= style.width_gain
    curves = close_contacts(np.clip(curves, 0.0, 1.0), lips.bite, lips.shut, lips.mouth)
    if lips.valley is not None:
        curves = narrowed(curves, lips.mouth, lips.valley, style.opening_gain)
    # The upper lip is lifted off the teeth by as much as the mouth opens.
    curves[:, BITE] *= min(style.opening_gain, 1.0)
    return curves * heard.gate[:, None].astype(np.float32)


def _expression(lips: Lips, heard: Prosody, style: SpeechStyle) -> Float[np.ndarray, "t 52"]:
    curves = articulators(lips, heard, style)
    rest = np.asarray(style.rest, np.float32)
    contact = np.zeros_like(curves)
    contact[:, [PRESS, BITE]] = curves[:, [PRESS, BITE]]
    moved = (curves - contact) @ lips.mouth.actions
    # The resting lips touch already; a contact presses them as far as it asks, not on top of that.
    out = np.maximum(rest, contact @ lips.mouth.actions) + moved
    free = _smooth(moved @ LIP_GAP_MM, _PARTED) * (1.0 - np.maximum(lips.shut, lips.bite))[:, None] ** 2
    out += free * np.asarray(style.apart, np.float32)
    out = np.clip(out, 0.0, np.asarray(style.ceiling))
    return np.clip(out + _mood(style, (out - rest) @ LIP_GAP_MM), 0.0, 1.0).astype(np.float32)


def _mood(style: SpeechStyle, gap: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t 52"]:
    """Offsets of the emotion. What parts the lips acts on lips that are apart only, not at p, b, m nor in silence.

    Args:
        gap: millimetres between the lips.
    """
    mood, free = np.asarray(style.mood), _smooth(gap, APART)
    kept = min(_LITTLE / max(float((mood * LIP_GAP_MM)[_PARTS_LITTLE].sum()), 1e-9), 1.0)
    return mood * np.where(_PARTS, free, np.where(_PARTS_LITTLE, kept + (1.0 - kept) * free, 1.0))


def _smooth(gap: Float[np.ndarray, "t"], limits: tuple[float, float]) -> Float[np.ndarray, "t 1"]:
    """0 up to the first limit, 1 from the second on, smooth in between."""
    free = np.clip((gap - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)[:, None]
    return free * free * (3.0 - 2.0 * free)
