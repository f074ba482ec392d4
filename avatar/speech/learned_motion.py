"""Motion from a voice by a trained network and by the rules, half and half: how avatars speak what is heard.

The network heard only synthesisers but knows phones in noise and between others; the acoustic tables heard people, and
whole courses of phones. They err in different places, so the mean of what the lips do for both is nearer to filmed lips
than each. What lips do for a phone is up to the rules in both. Loudness narrows the mouth in between (`valleys`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.ndimage import maximum_filter1d

from avatar.core import AudioTrack, MotionSequence
from avatar.errors import InputError
from avatar.speech.base import AbstractSpeechMotion, frame_count
from avatar.speech.blend import blended
from avatar.speech.features import RATE, loudness, speech_samples
from avatar.speech.habits import adapted
from avatar.speech.lip_net import CURVES, FRAME_HZ, GATES, LipNet, shipped_net
from avatar.speech.lip_stream import LipStream
from avatar.speech.performance import Lips, Prosody, perform
from avatar.speech.phones import LEAD, Phone, listen
from avatar.speech.rule_motion import lips_of, prosody, speech_activity
from avatar.speech.style import SpeechStyle
from avatar.speech.valleys import valleys_at
from avatar.speech.visemes import AVERAGE

SHARE = 0.5
"""Part of the network in what the lips do."""
FLAT = 0.96
"""Part of the rules' amplitude that is left to the mean of both (synthesised voices that no weight was fitted to)."""
BLOCK = 20 * RATE
"""Samples heard at once: memory does not grow with the length of the sound by more than what is kept of it."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """All that is heard of a voice."""

    hearings: Sequence[Sequence[Phone]]
    """Phones as of `avatar.speech.phones.listen`."""
    phones: Float[np.ndarray, "n p"]
    """The network's chances of the phones of `acoustics.acoustic_tables`, 50 frames a second."""
    shut: Float[np.ndarray, "n"]
    bite: Float[np.ndarray, "n"]
    """Chances that the lips touch each other or the teeth."""


def hear_lips(audio: AudioTrack, net: LipNet | None = None) -> Heard:
    """Listen to a voice, by the network that is shipped unless another is given.

    Raises:
        InputError: if pocketsphinx or silero-vad is not installed.
    """
    samples, stream = speech_samples(audio), LipStream(net or shipped_net())
    parts = [stream.push(samples[at : at + BLOCK]) for at in range(0, len(samples), BLOCK)]
    frames = np.concatenate([*parts, stream.finish()])
    shut, bite = frames[:, CURVES : CURVES + GATES].T
    return Heard(hearings=listen(audio), phones=frames[:, CURVES + GATES :], shut=shut, bite=bite)


class LearnedMotion(AbstractSpeechMotion):
    """A network and rules. Deterministic for one seed, which moves blinks, gaze and head only."""

    def __init__(self, style: SpeechStyle | None = None, hear: Callable[[AudioTrack], Heard] = hear_lips):
        """Args: `hear` listens; for what was heard before `lambda audio: heard`."""
        self.style = style or SpeechStyle()
        self.hear = hear

    def __call__(self, audio: AudioTrack, fps: float, seed: int = 0) -> MotionSequence:
        """See `AbstractSpeechMotion`."""
        if not fps > 0:
            raise InputError(f"frame rate {fps} must be positive; give for example 25")
        times = np.arange(frame_count(audio, fps)) / fps
        heard, samples = self.hear(audio), speech_samples(audio)
        voice = prosody(samples, times, speech_activity(samples, heard.hearings))
        lips = replace(lips_at(times, heard, voice), valley=valleys_at(loudness(samples), times))
        lips = adapted(lips, heard.hearings, times, self.style.habits)
        return perform(lips, voice, self.style, fps, seed)


def lips_at(times: Float[np.ndarray, "t"], heard: Heard, voice: Prosody) -> Lips:
    """The mean of the network and the rules at `times` (seconds, evenly spaced)."""
    rules = lips_of(heard.hearings, times, voice, AVERAGE)
    step = times[1] - times[0] if len(times) > 1 else 0.0
    # A contact between two frames is shown on one of them.
    wide, early = 2 * round(step / 2 * FRAME_HZ) + 1, times + LEAD

    def both(own: Float[np.ndarray, "t k"], told: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "t k"]:
        return ((1 - SHARE) * own + SHARE * _sampled(told, early)).astype(np.float32)

    def gate(own: Float[np.ndarray, "t"], told: Float[np.ndarray, "n"]) -> Float[np.ndarray, "t"]:
        return both(own[:, None], maximum_filter1d(told, wide)[:, None])[:, 0]

    return Lips(
        curves=np.clip(both(rules.curves, blended(heard.phones, FRAME_HZ)) / FLAT, 0.0, 1.0),
        shut=gate(rules.shut, heard.shut),
        bite=gate(rules.bite, heard.bite),
    )


def _sampled(values: Float[np.ndarray, "n k"], times: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t k"]:
    grid = np.arange(len(values)) / FRAME_HZ
    return np.stack([np.interp(times, grid, column) for column in values.T], axis=1).astype(np.float32)
