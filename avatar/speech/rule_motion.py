"""Motion from a voice by rules alone: phones, dominance functions, contact gates and voice activity."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d

from avatar.core import AudioTrack, MotionSequence
from avatar.errors import InputError
from avatar.speech.articulation import BREATH_AFTER, BREATH_BEFORE, agreed, contact_gate, expected
from avatar.speech.base import AbstractSpeechMotion, frame_count
from avatar.speech.features import HOP, activity_gate, activity_near, loudness, speech_samples
from avatar.speech.habits import adapted
from avatar.speech.performance import Lips, Prosody, perform
from avatar.speech.phones import Phone, listen, spoken
from avatar.speech.style import SpeechStyle
from avatar.speech.visemes import AVERAGE, CLOSURES, CONTACTS, JAW, PART, Mouth

EFFORT_RANGE = (0.75, 1.25)
"""Limits of the factor by which a loud or faint syllable opens the mouth more or less."""


def prosody(samples: Float[np.ndarray, "s"], times: Float[np.ndarray, "t"], active: Bool[np.ndarray, "n"]) -> Prosody:
    """Voice activity and emphasis of 16 kHz sound at `times` (seconds); `active` is where somebody speaks (100 Hz)."""
    level = gaussian_filter1d(loudness(samples), 6.0, mode="nearest")
    weight = gaussian_filter1d(active.astype(np.float64), 150.0, mode="constant") + 1e-6
    mean = gaussian_filter1d(np.where(active, level, 0.0), 150.0, mode="constant") / weight
    square = gaussian_filter1d(np.where(active, (level - mean) ** 2, 0.0), 150.0, mode="constant") / weight
    score = np.where(active, (level - mean) / np.sqrt(square + 4.0), 0.0)
    grid = np.arange(len(level)) / 100
    smooth = gaussian_filter1d(np.clip(score, -2.0, 2.0), 8.0, mode="nearest")
    gate = activity_gate(active, BREATH_BEFORE, BREATH_AFTER)
    return Prosody(gate=np.interp(times, grid, gate), emphasis=np.interp(times, grid, smooth))


class RuleMotion(AbstractSpeechMotion):
    """Phones heard in the sound move the mouth; no training. Deterministic for one seed.

    The seed moves blinks, gaze and head only: lips depend on the sound alone.
    """

    def __init__(
        self,
        style: SpeechStyle | None = None,
        hear: Callable[[AudioTrack], Sequence[Sequence[Phone]]] = listen,
        mouth: Mouth = AVERAGE,
    ):
        """Args: `hear` finds the phones, once or several times; for known phones `lambda audio: [phones]`."""
        self.style = style or SpeechStyle()
        self.hear, self.mouth = hear, mouth

    def __call__(self, audio: AudioTrack, fps: float, seed: int = 0) -> MotionSequence:
        """See `AbstractSpeechMotion`."""
        if not fps > 0:
            raise InputError(f"frame rate {fps} must be positive; give for example 25")
        times = np.arange(frame_count(audio, fps)) / fps
        samples, hearings = speech_samples(audio), self.hear(audio)
        heard = prosody(samples, times, speech_activity(samples, hearings))
        lips = adapted(lips_of(hearings, times, heard, self.mouth), hearings, times, self.style.habits)
        return perform(lips, heard, self.style, fps, seed)


def speech_activity(samples: Float[np.ndarray, "s"], hearings: Sequence[Sequence[Phone]]) -> Bool[np.ndarray, "n"]:
    """Where somebody speaks, every 10 ms: what is loud near phones, and the phones themselves where noise is loud."""
    phones = spoken(hearings, max(-(-len(samples) // HOP), 1))
    return activity_near(samples, phones, phones)


def lips_of(hearings: Sequence[Sequence[Phone]], times: Float[np.ndarray, "t"], heard: Prosody, mouth: Mouth) -> Lips:
    """The mean of the hearings: dominance blend, effort, and the contacts that they agree on."""
    curves = expected(hearings, times, mouth)
    curves[:, [JAW, PART]] *= np.clip(1.0 + 0.08 * heard.emphasis, *EFFORT_RANGE)[:, None]
    bite = agreed([contact_gate(phones, CONTACTS, times) for phones in hearings])
    shut = agreed([contact_gate(phones, CLOSURES, times) for phones in hearings])
    return Lips(curves=curves, shut=shut, bite=bite, mouth=mouth)
