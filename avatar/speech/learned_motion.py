"""Motion from a voice by a trained network together with phones and rules.

Three judges of equal weight: the network's curves; dominance functions on the phones that network and acoustic tables
name together (a product of experts); and the rule model's, on the phones that pocketsphinx decodes. They err in
different places, so their mean is nearer to filmed lips than each. All hear three lengths of throat (Jaitly and
Hinton 2013).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.ndimage import binary_closing, binary_opening, maximum_filter1d, uniform_filter1d

from avatar.core import AudioTrack, MotionSequence
from avatar.errors import InputError
from avatar.speech.acoustics import acoustic_tables
from avatar.speech.articulation import BREATH_BEFORE, agreed, contact_gate, expected
from avatar.speech.base import AbstractSpeechMotion, frame_count
from avatar.speech.features import RATE, activity_gate, speech_samples, voice_activity
from avatar.speech.lip_net import CURVES, FRAME_HZ, GATES, LipNet
from avatar.speech.lip_stream import LipStream
from avatar.speech.performance import Lips, perform
from avatar.speech.phones import SILENCE, Phone, listen
from avatar.speech.rule_motion import prosody
from avatar.speech.style import SpeechStyle
from avatar.speech.visemes import ARTICULATORS, CLOSURES, CONTACTS

THROATS = (0.90, 1.0, 1.12)
"""Factors on the frequencies of the filters that listen."""
TABLES_TRUST = 0.5
"""Exponent on the chances by the acoustic tables, which are a part of what the network has heard already."""
VOICE = 0.5
"""Chance of a voice above which somebody speaks."""
WORD = 0.2
"""Seconds that a voice has to last."""
PAUSE = 0.6
"""Seconds without a voice from which the mouth rests."""
BLOCK = 20 * RATE
"""Samples heard at once: memory does not grow with the length of the sound by more than what is kept of it."""


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """A voice as heard for one length of throat."""

    phones: tuple[Phone, ...]
    curves: Float[np.ndarray, "n a"]
    """The network's articulators, 50 frames a second."""
    shut: Float[np.ndarray, "n"]
    bite: Float[np.ndarray, "n"]
    """Chances that the lips touch each other or the teeth."""
    voice: Float[np.ndarray, "n"]
    """Chance that somebody speaks: music and noise are no voice."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """All that is heard of a voice."""

    hearings: Sequence[Hearing]
    """By network and tables, one for each of `THROATS`."""
    decoded: Sequence[Sequence[Phone]]
    """Phones as of `avatar.speech.phones.listen`."""


def hear_lips(audio: AudioTrack, net: LipNet) -> Heard:
    """Listen to a voice in every way.

    Raises:
        InputError: if pocketsphinx is not installed.
    """
    samples = speech_samples(audio)
    hearings = [_hear(samples, LipStream(net, warp)) for warp in THROATS]
    return Heard(hearings=hearings, decoded=listen(audio))


def _hear(samples: Float[np.ndarray, "s"], stream: LipStream) -> Hearing:
    parts = [stream.push(samples[at : at + BLOCK]) for at in range(0, len(samples), BLOCK)]
    frames = np.concatenate([*parts, stream.finish()])
    curves = np.zeros((len(frames), len(ARTICULATORS)), np.float32)
    curves[:, :CURVES] = frames[:, :CURVES]
    chances = frames[:, CURVES + GATES :]
    return Hearing(
        phones=tuple(named(np.concatenate(stream.posteriors), chances)),
        curves=curves,
        shut=frames[:, CURVES],
        bite=frames[:, CURVES + 1],
        voice=chances[:, [name.isalpha() and name != SILENCE for name in acoustic_tables().phones]].sum(axis=1),
    )


def named(tables: Float[np.ndarray, "n p"], network: Float[np.ndarray, "m p"]) -> list[Phone]:
    """The likeliest phone of every moment, by the tables (100 Hz) and the network (50 Hz), as stretches."""
    names = [name if name.isalpha() else SILENCE for name in acoustic_tables().phones]
    moments = np.arange(len(tables)) * FRAME_HZ / 100
    grid = np.arange(len(network))
    own = np.stack([np.interp(moments, grid, column) for column in network.T], axis=1)
    best = (TABLES_TRUST * np.log(tables + 1e-3) + np.log(own + 1e-3)).argmax(axis=1)
    spoken = np.array([names[i] for i in best])
    starts = np.flatnonzero(np.concatenate([[True], spoken[1:] != spoken[:-1]]))
    # A row is the middle of its hundredth of a second.
    edges = np.concatenate([[0.0], starts[1:] / 100 - 0.005, [len(tables) / 100]])
    return [Phone(str(spoken[s]), float(a), float(b)) for s, a, b in zip(starts, edges[:-1], edges[1:], strict=True)]


class LearnedMotion(AbstractSpeechMotion):
    """A network and rules. Deterministic for one seed, which moves blinks, gaze and head only."""

    def __init__(self, hear: Callable[[AudioTrack], Heard], style: SpeechStyle | None = None):
        """Args: `hear` listens: `lambda audio: hear_lips(audio, net)`, or what was heard before."""
        self.style = style or SpeechStyle()
        self.hear = hear

    def __call__(self, audio: AudioTrack, fps: float, seed: int = 0) -> MotionSequence:
        """See `AbstractSpeechMotion`."""
        if not fps > 0:
            raise InputError(f"frame rate {fps} must be positive; give for example 25")
        times = np.arange(frame_count(audio, fps)) / fps
        heard, samples = self.hear(audio), speech_samples(audio)
        voice = prosody(samples, times, voice_activity(samples))
        voice = replace(voice, gate=voice.gate * voice_gate(times, heard.hearings))
        return perform(lips_at(times, heard), voice, self.style, fps, seed)


def lips_at(times: Float[np.ndarray, "t"], heard: Heard) -> Lips:
    """The mean of the judges at `times` (seconds, evenly spaced)."""
    step = times[1] - times[0] if len(times) > 1 else 0.0
    # A contact between two frames is shown on one of them.
    wide = 2 * round(step / 2 * FRAME_HZ) + 1

    def told(gates: Sequence[Float[np.ndarray, "n"]]) -> Float[np.ndarray, "t"]:
        return _sampled(maximum_filter1d(np.mean(gates, axis=0), wide)[:, None], times)[:, 0]

    by_network = Lips(
        curves=_sampled(np.mean([hearing.curves for hearing in heard.hearings], axis=0), times),
        shut=told([hearing.shut for hearing in heard.hearings]),
        bite=told([hearing.bite for hearing in heard.hearings]),
    )
    judges = [by_network, _spoken([hearing.phones for hearing in heard.hearings], times), _spoken(heard.decoded, times)]
    return Lips(
        curves=np.mean([judge.curves for judge in judges], axis=0).astype(np.float32),
        shut=np.mean([judge.shut for judge in judges], axis=0).astype(np.float32),
        bite=np.mean([judge.bite for judge in judges], axis=0).astype(np.float32),
    )


def _spoken(hearings: Sequence[Sequence[Phone]], times: Float[np.ndarray, "t"]) -> Lips:
    """What the phones do by the rules, and the contacts on which the hearings agree."""
    return Lips(
        curves=expected(hearings, times),
        shut=agreed([contact_gate(phones, CLOSURES, times) for phones in hearings]),
        bite=agreed([contact_gate(phones, CONTACTS, times) for phones in hearings]),
    )


def voice_gate(times: Float[np.ndarray, "t"], hearings: Sequence[Hearing]) -> Float[np.ndarray, "t"]:
    """1 where somebody speaks, 0 from a tenth of a second after the last word until a quarter before the next.

    In shorter pauses the lips stay free: people breathe through them.
    """
    chance = np.mean([hearing.voice for hearing in hearings], axis=0)
    spoken = uniform_filter1d(chance, round(0.2 * FRAME_HZ), mode="nearest") > VOICE
    # Music has moments that sound like a voice, but no words.
    spoken = binary_opening(spoken, np.ones(round(WORD * FRAME_HZ)))
    joined = binary_closing(np.pad(spoken, FRAME_HZ), np.ones(round(PAUSE * FRAME_HZ)))[FRAME_HZ:-FRAME_HZ]
    gate = activity_gate(np.repeat(joined, 100 // FRAME_HZ), BREATH_BEFORE, 0.05)
    return np.interp(times, np.arange(len(gate)) / 100, gate)


def _sampled(values: Float[np.ndarray, "n k"], times: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t k"]:
    grid = np.arange(len(values)) / FRAME_HZ
    return np.stack([np.interp(times, grid, column) for column in values.T], axis=1).astype(np.float32)
