"""A voice, and that of another who is listened to, in; the motion of a head that lives, out. For all models of lips."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from avatar.core import AudioTrack, MotionSequence
from avatar.speech import vad
from avatar.speech.base import AbstractSpeechMotion
from avatar.speech.features import speech_samples, voice_activity
from avatar.speech.learned_motion import LearnedMotion
from avatar.speech.life import LifeStream
from avatar.speech.performance import Prosody, enlivened
from avatar.speech.rule_motion import prosody
from avatar.speech.style import SpeechStyle, lips_only

Lipsync: TypeAlias = Callable[[SpeechStyle], AbstractSpeechMotion]
"""Makes the model of the lips for a way of speaking."""


def converse(
    mine: AudioTrack,
    style: SpeechStyle,
    fps: float,
    seed: int = 0,
    *,
    other: AudioTrack | None = None,
    model: Lipsync = LearnedMotion,
) -> MotionSequence:
    """Relative motion of a head that says `mine` and listens to `other`, for as long as the longer of them.

    Raises:
        InputError: if `fps` is not positive or a package that the model needs is missing.
    """
    if other is not None:
        seconds = max(mine.seconds, other.seconds)
        mine, other = mine.between(0.0, seconds), other.between(0.0, seconds)
    still = model(lips_only(style))(mine, fps, seed)
    times = np.arange(len(still)) / fps
    heard = None if other is None else _prosody(other, times)
    life = LifeStream(style, fps, seed).push(_prosody(mine, times), heard)
    return enlivened(still.expression.numpy(), life, fps)


def _prosody(voice: AudioTrack, times: Float[np.ndarray, "t"]) -> Prosody:
    samples = speech_samples(voice)
    active = vad.speaking if vad.is_installed() else voice_activity  # a text is said, and listened to, without it too
    return prosody(samples, times, active(samples))


def together(mine: AudioTrack, other: AudioTrack) -> AudioTrack:
    """Both voices as one sound; they have the same rate."""
    assert mine.rate == other.rate
    seconds = max(mine.seconds, other.seconds)
    a, b = (voice.between(0.0, seconds).samples for voice in (mine, other))
    return AudioTrack(samples=np.clip(a + b, -1.0, 1.0), rate=mine.rate)
