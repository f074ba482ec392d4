"""Which phones are spoken and when (ARPAbet, seconds), by the tables of pocketsphinx's small English acoustic model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import maximum_filter1d

from avatar.core import AudioTrack
from avatar.speech.acoustics import (
    LOOK_AHEAD,
    STATES,
    acoustic_tables,
    cepstra,
    frames_of,
    phone_likelihoods,
    spectra,
    with_slopes,
)
from avatar.speech.chain import courses
from avatar.speech.features import loudness, speech_samples
from avatar.speech.vad import speaking

SILENCE = "SIL"
CHUNK = 20.0
"""Longest piece (seconds) that is decoded at once."""
MARGIN = 1.0
"""Sound (seconds) heard on both sides of a piece so that phones at its ends are decoded in context."""
THROATS = (0.96, 1.05)
"""Factors on the frequencies of the filters that listen."""
HEARINGS = 6 * len(THROATS)
"""How many guesses are made."""
LEAD = 0.010
"""Seconds by which the lips are in place before their sound is heard."""
_NEAR_SPEECH = 10
"""Frames around a voice in which phones may be heard; beyond, nobody speaks."""
_CERTAIN = 30.0
"""Log density by which silence is likelier than any phone there."""
SEARCH = 6.0
"""A piece ends at the quietest moment of its last `SEARCH` seconds."""


@dataclass(frozen=True)
class Phone:
    """One speech sound."""

    symbol: str
    """ARPAbet without stress (AA, B, ...) or SIL."""
    start: float
    end: float
    """Seconds."""


def listen(audio: AudioTrack) -> list[list[Phone]]:
    """`HEARINGS` guesses of what was said: phones of a voice in order, without gaps, from 0 to the end of the sound.

    No words are needed. Courses are drawn from a chain of phones, in overlapping pieces that meet at quiet moments,
    as heard for several lengths of throat (the idea of Jaitly and Hinton 2013). Where they differ one is unsure, and
    their mean is a better guess of the lips. The model heard English only: in other languages the nearest English
    sound is reported, which is mostly right in what the lips do. The same sound is always heard alike.

    Raises:
        InputError: if pocketsphinx or silero-vad is not installed.
    """
    samples = speech_samples(audio)
    if not len(samples):
        return [[] for _ in range(HEARINGS)]
    acoustic_tables()  # what is missing is said of every sound, a still one too
    active = speaking(samples)
    heard: list[list[Phone]] = [[] for _ in range(HEARINGS)]
    for first, last in _pieces(loudness(samples)):
        for i, phones in enumerate(_hear_piece(samples, active, first, last)):
            heard[i] += phones
    return [contiguous(hearing, audio.seconds) for hearing in heard]


def _pieces(level: np.ndarray) -> list[tuple[int, int]]:
    """Feature-frame ranges [first, last) of at most CHUNK seconds that end at quiet moments."""
    longest, search = round(CHUNK * 100), round(SEARCH * 100)
    cuts = [0]
    while len(level) - cuts[-1] > longest:
        low = cuts[-1] + longest - search
        cuts.append(low + int(np.argmin(level[low : cuts[-1] + longest])))
    return list(zip(cuts, [*cuts[1:], len(level)], strict=True))


def _hear_piece(samples: np.ndarray, active: np.ndarray, first: int, last: int) -> list[list[Phone]]:
    start, end = first / 100, last / 100
    if not active[first:last].any():
        return [[Phone(SILENCE, start, end)]] * HEARINGS
    margin = round(MARGIN * 100)
    begin, until = max(first - margin, 0), min(last + margin, len(active))
    tables = acoustic_tables()
    power = spectra(frames_of(samples, until)[begin:])
    speech = active[begin:until]
    likelihoods = [_likelihoods(power, speech, warp) for warp in THROATS]
    heard = courses(np.stack(likelihoods), HEARINGS // len(THROATS), np.random.default_rng(first))
    out = []
    for course in heard:
        # A frame is the middle of its hundredth of a second.
        places = [(p, (begin + a - 0.5) / 100 - LEAD, (begin + b - 0.5) / 100 - LEAD) for p, a, b in course]
        cut = [(_symbol(tables.phones[p]), max(a, start), min(b, end)) for p, a, b in places]
        out.append([Phone(symbol, a, b) for symbol, a, b in cut if b > a])
    return out


def _likelihoods(power: np.ndarray, active: np.ndarray, warp: float) -> np.ndarray:
    rows, tables = cepstra(power, warp), acoustic_tables()
    # The mean of the speech is the microphone, the room and the voice's own colour.
    rows -= rows[active].mean(axis=0)
    edges = np.concatenate([rows[:1].repeat(LOOK_AHEAD, axis=0), rows, rows[-1:].repeat(LOOK_AHEAD, axis=0)])
    near = np.asarray(maximum_filter1d(active, 2 * _NEAR_SPEECH + 1), bool)
    out = np.zeros((len(rows), len(tables.phones), STATES), np.float32)
    out[near] = phone_likelihoods(with_slopes(edges)[near], tables)
    out[~near, tables.phones.index(SILENCE)] = _CERTAIN
    return out


def _symbol(word: str) -> str:
    # Noise, breath and unknown sounds (+NSN+, +SPN+, <sil>) do not move the lips.
    return word if word.isalpha() and word.isupper() else SILENCE


def spoken(hearings: Sequence[Sequence[Phone]], count: int) -> Bool[np.ndarray, "n"]:
    """Where most hearings have a phone, every 10 ms."""
    votes = np.zeros(count + 1)
    for phone in (phone for phones in hearings for phone in phones if phone.symbol != SILENCE):
        first, last = (min(round(second * 100), count) for second in (phone.start, phone.end))
        votes[first] += 1
        votes[last] -= 1
    return np.cumsum(votes)[:-1] > 0.5 * len(hearings)


def contiguous(phones: Sequence[Phone], seconds: float) -> list[Phone]:
    """The same phones, touching each other, equal silences merged, from 0 to the end."""
    out: list[Phone] = []
    for phone in [*phones, Phone(SILENCE, phones[-1].end if phones else 0.0, seconds)]:
        start = out[-1].end if out else 0.0
        if phone.end <= start:
            continue
        if out and phone.symbol == out[-1].symbol == SILENCE:
            start = out.pop().start
        out.append(Phone(phone.symbol, start, phone.end))
    return out
