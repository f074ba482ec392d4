"""Motion from a voice by rules alone: phones, dominance functions, contact gates, voice activity; blinks and sway."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from avatar.core import AudioTrack, MotionSequence
from avatar.errors import InputError
from avatar.speech import idle
from avatar.speech.articulation import BREATH_AFTER, BREATH_BEFORE, agreed, articulate, close_contacts, contact_gate
from avatar.speech.base import AbstractSpeechMotion, frame_count
from avatar.speech.features import activity_gate, loudness, speech_samples, voice_activity
from avatar.speech.phones import Phone, listen
from avatar.speech.style import SpeechStyle
from avatar.speech.visemes import (
    ARKIT_FROM_ARTICULATORS,
    ARKIT_INDEX,
    BITE,
    CLOSURES,
    CONTACTS,
    JAW,
    PART,
    PRESS,
    PUCKER,
    ROUND,
    SPREAD,
)

EFFORT_RANGE = (0.75, 1.25)
"""Limits of the factor by which a loud or faint syllable opens the mouth more or less."""
NOD = 0.030
"""Radians by which the head nods at a strong emphasis."""


@dataclass(frozen=True)
class Prosody:
    """What the loudness says, on a frame grid."""

    gate: Float[np.ndarray, "t"]
    """1 where the mouth may move, 0 in silence."""
    emphasis: Float[np.ndarray, "t"]
    """Loudness against its surroundings, in standard deviations (about -2 to 2); 0 in silence."""


def prosody(samples: Float[np.ndarray, "s"], times: Float[np.ndarray, "t"]) -> Prosody:
    """Voice activity and emphasis of 16 kHz sound at `times` (seconds)."""
    level = gaussian_filter1d(loudness(samples), 6.0, mode="nearest")
    active = voice_activity(samples)
    weight = gaussian_filter1d(active.astype(np.float64), 150.0, mode="constant") + 1e-6
    mean = gaussian_filter1d(np.where(active, level, 0.0), 150.0, mode="constant") / weight
    square = gaussian_filter1d(np.where(active, (level - mean) ** 2, 0.0), 150.0, mode="constant") / weight
    score = np.where(active, (level - mean) / np.sqrt(square + 4.0), 0.0)
    grid = np.arange(len(level)) / 100
    smooth = gaussian_filter1d(np.clip(score, -2.0, 2.0), 8.0, mode="nearest")
    return Prosody(
        np.interp(times, grid, activity_gate(active, BREATH_BEFORE, BREATH_AFTER)), np.interp(times, grid, smooth)
    )


class RuleMotion(AbstractSpeechMotion):
    """Phones heard in the sound move the mouth; no training. Deterministic for one seed.

    The seed moves blinks, gaze and head only: lips depend on the sound alone.
    """

    def __init__(
        self,
        style: SpeechStyle | None = None,
        hear: Callable[[AudioTrack], Sequence[Sequence[Phone]]] = listen,
    ):
        """Args: `hear` finds the phones, once or several times; for known phones `lambda audio: [phones]`."""
        self.style = style or SpeechStyle()
        self.hear = hear

    def __call__(self, audio: AudioTrack, fps: float, seed: int = 0) -> MotionSequence:
        """See `AbstractSpeechMotion`."""
        if not fps > 0:
            raise InputError(f"frame rate {fps} must be positive; give for example 25")
        times = np.arange(frame_count(audio, fps)) / fps
        heard = prosody(speech_samples(audio), times)
        lips = self.articulators(self.hear(audio), times, heard)
        expression = self._expression(lips, heard, idle.blinks(times, self.style, seed))
        gaze = idle.gaze_shifts(times, self.style, seed)
        sway = idle.head_sway(times, self.style, seed)
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

    def articulators(
        self, hearings: Sequence[Sequence[Phone]], times: Float[np.ndarray, "t"], heard: Prosody
    ) -> Float[np.ndarray, "t a"]:
        """Articulator curves of the person: dominance blend, style, effort, silence, and contacts last."""
        style = self.style
        curves = np.mean([articulate(phones, times) for phones in hearings], axis=0)
        effort = np.clip(1.0 + 0.08 * heard.emphasis, *EFFORT_RANGE)[:, None]
        curves[:, [JAW, PART]] *= style.opening_gain * effort
        curves[:, [ROUND, PUCKER, SPREAD]] *= style.width_gain
        bite = agreed([contact_gate(phones, CONTACTS, times) for phones in hearings])
        shut = agreed([contact_gate(phones, CLOSURES, times) for phones in hearings])
        curves = close_contacts(np.clip(curves, 0.0, 1.0), bite, shut)
        return curves * heard.gate[:, None].astype(np.float32)

    def _expression(
        self, lips: Float[np.ndarray, "t a"], heard: Prosody, lids: Float[np.ndarray, "t"]
    ) -> Float[np.ndarray, "t 52"]:
        rest = np.asarray(self.style.rest, np.float32)
        contact = np.zeros_like(lips)
        contact[:, [PRESS, BITE]] = lips[:, [PRESS, BITE]]
        # The resting lips touch already; a contact presses them as far as it asks, not on top of that.
        out = np.maximum(rest, contact @ ARKIT_FROM_ARTICULATORS) + (lips - contact) @ ARKIT_FROM_ARTICULATORS
        for side in ("Left", "Right"):
            blink = ARKIT_INDEX[f"eyeBlink{side}"]
            out[:, blink] = np.maximum(out[:, blink], lids)
            squint = ARKIT_INDEX[f"eyeSquint{side}"]
            out[:, squint] = np.maximum(out[:, squint], 0.25 * lids)
        raised = self.style.brow_gain * np.maximum(heard.emphasis - 0.5, 0.0)
        for name, weight in (("browInnerUp", 0.16), ("browOuterUpLeft", 0.10), ("browOuterUpRight", 0.10)):
            out[:, ARKIT_INDEX[name]] += weight * gaussian_filter1d(raised, 3.0, mode="nearest")
        return np.clip(out, 0.0, np.asarray(self.style.ceiling)).astype(np.float32)


def _emphasis_pulse(emphasis: Float[np.ndarray, "t"], fps: float) -> Float[np.ndarray, "t"]:
    """Slow, one-sided version of the emphasis, between 0 and about 1, that a head can follow."""
    return gaussian_filter1d(np.maximum(emphasis, 0.0), 0.25 * fps, mode="nearest")
