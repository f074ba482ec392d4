"""Which phones are spoken and when, heard by pocketsphinx's small English acoustic model (ARPAbet symbols, seconds)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.speech.features import HOP, loudness, speech_samples, voice_activity

SILENCE = "SIL"
CHUNK = 20.0
"""Longest piece (seconds) that is decoded at once."""
MARGIN = 1.0
"""Sound (seconds) heard on both sides of a piece so that phones at its ends are decoded in context."""
PITCH_SHIFTS = (1.0, 0.92, 1.09)
"""How the sound is stretched for each hearing."""
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


def decode_phones(audio: AudioTrack, pitch_shift: float = 1.0) -> list[Phone]:
    """Phones of a voice in order, without gaps, from 0 to the end of the sound.

    Phones are decoded freely under a phone trigram (no words are needed), in overlapping pieces that meet at quiet
    moments. The model heard English only: in other languages the nearest English sound is reported, which is mostly
    right in what the lips do.

    Args:
        pitch_shift: the sound is played this much slower before listening (times are those of the original).

    Raises:
        InputError: if pocketsphinx is not installed.
    """
    samples = speech_samples(audio)
    if not len(samples):
        return []
    if pitch_shift != 1.0:
        samples = resample_poly(samples, round(100 * pitch_shift), 100).astype(np.float32)
    level = loudness(samples)
    active = voice_activity(samples)
    phones: list[Phone] = []
    for first, last in _pieces(level):
        phones += _decode_piece(samples, active, first, last)
    scaled = [Phone(p.symbol, p.start / pitch_shift, p.end / pitch_shift) for p in phones]
    return contiguous(scaled, audio.seconds)


def listen(audio: AudioTrack) -> list[list[Phone]]:
    """Several hearings of the same voice, each as of `decode_phones`.

    The sound is also played a little slower and faster: a longer and a shorter vocal tract (the idea of Jaitly and
    Hinton 2013). Where the hearings differ the recogniser is unsure, and their mean is a better guess of the lips.

    Raises:
        InputError: if pocketsphinx is not installed.
    """
    return [decode_phones(audio, shift) for shift in PITCH_SHIFTS]


def _pieces(level: np.ndarray) -> list[tuple[int, int]]:
    """Feature-frame ranges [first, last) of at most CHUNK seconds that end at quiet moments."""
    longest, search = round(CHUNK * 100), round(SEARCH * 100)
    cuts = [0]
    while len(level) - cuts[-1] > longest:
        low = cuts[-1] + longest - search
        cuts.append(low + int(np.argmin(level[low : cuts[-1] + longest])))
    return list(zip(cuts, [*cuts[1:], len(level)], strict=True))


def _decode_piece(samples: np.ndarray, active: np.ndarray, first: int, last: int) -> list[Phone]:
    start, end = first / 100, last / 100
    if not active[first:last].any():
        return [Phone(SILENCE, start, end)]
    margin = round(MARGIN * 100)
    begin = max(first - margin, 0)
    sound = samples[begin * HOP : (last + margin) * HOP]
    # Level does not matter to the features (cepstral mean is removed) but rounding to 16 bit does.
    peak = float(np.percentile(np.abs(sound), 99.9))
    pcm = np.clip(sound * (0.5 / max(peak, 1e-5)) * 32767, -32767, 32767).astype(np.int16)
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), full_utt=True)
    decoder.end_utt()
    phones = []
    for segment in decoder.seg() or ():
        a = max((begin + segment.start_frame) / 100, start)
        b = min((begin + segment.end_frame + 1) / 100, end)
        if b > a:
            phones.append(Phone(_symbol(segment.word), a, b))
    return phones


def _symbol(word: str) -> str:
    # Noise, breath and unknown sounds (+NSN+, +SPN+, <sil>) do not move the lips.
    return word if word.isalpha() and word.isupper() else SILENCE


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


@lru_cache(maxsize=1)
def _decoder() -> Any:
    try:
        from pocketsphinx import Decoder, get_model_path
    except ImportError:
        raise InputError(
            "driving by sound needs the package pocketsphinx, which is not installed; "
            'run: pip install "avatar[preprocess]"'
        ) from None
    model = get_model_path()
    return Decoder(
        hmm=f"{model}/en-us/en-us",
        allphone=f"{model}/en-us/en-us-phone.lm.bin",
        lw=1.0,
        pip=0.3,
        beam=1e-12,
        pbeam=1e-12,
        dither=False,
        cmn="batch",
        loglevel="FATAL",
    )
