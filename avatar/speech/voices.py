"""Voices that read a text aloud and say when each phone and word sounds. For the demo and tests: espeak-ng.

The engine is not part of this library: it is found in the optional package espeakng-loader and talked to by ctypes.
"""

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.speech.phones import SILENCE, Phone, contiguous

EVENT_DELAY = 0.020
"""Seconds by which espeak's events come after the sound (measured by correlation with the energy)."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """One spoken word."""

    text: str
    start: float
    """Seconds."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """A spoken text with its timing."""

    audio: AudioTrack
    phones: tuple[Phone, ...]
    """ARPAbet classes, touching, from 0 to the end of the sound; none where the engine does not tell."""
    words: tuple[Word, ...]


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_WORD, _PHONEME, _END_OF_EVENTS = 1, 7, 0
_SYNCHRONOUS, _PHONEME_EVENTS, _IPA_EVENTS, _DONT_EXIT = 2, 0x0001, 0x0002, 0x8000
_UTF8, _RATE_PARAMETER, _PITCH_PARAMETER = 1, 1, 3


class EspeakVoice:
    """espeak-ng (formant synthesis, robotic but exact in time), about a hundred languages."""

    def say(self, text: str, language: str = "en", *, words_per_minute: int = 160, pitch: int = 50) -> Utterance:
        """Speak a text.

        Args:
            language: espeak's voice name, for example "en-us", "fr", "de", or with a variant "en+f3".
            pitch: 0 (low) to 100, 50 is the voice's own.

        Raises:
            InputError: if espeakng-loader is missing, the language is unknown or nothing was spoken.
        """
        library, rate = _engine()
        if library.espeak_SetVoiceByName(language.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {language!r}; try for example en, fr, de, ja or cmn")
        library.espeak_SetParameter(_RATE_PARAMETER, words_per_minute, 0)
        library.espeak_SetParameter(_PITCH_PARAMETER, pitch, 0)
        pieces: list[np.ndarray] = []
        events: list[tuple[int, float, str, int]] = []

        def collect(sound: Any, count: int, event: Any) -> int:
            if count > 0 and sound:
                pieces.append(np.ctypeslib.as_array(sound, (count,)).copy())
            i = 0
            while event and event[i].type != _END_OF_EVENTS:
                name = event[i].id.string.decode("utf-8", "replace") if event[i].type == _PHONEME else ""
                events.append((event[i].type, event[i].audio_position / 1000, name, event[i].text_position))
                i += 1
            return 0

        callback = _Callback(collect)
        library.espeak_SetSynthCallback(callback)
        data = text.encode()
        library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        if not any(kind == _PHONEME for kind, *_ in events) or not any(piece.any() for piece in pieces):
            raise InputError(f"espeak-ng spoke nothing for {text[:40]!r}; give a text with words")
        samples = np.concatenate(pieces).astype(np.float32) / 32768
        audio = AudioTrack(samples=samples, rate=rate)
        return Utterance(audio=audio, phones=_phones(events, audio.seconds), words=_words(events, text))


@lru_cache(maxsize=1)
def _engine() -> tuple[Any, int]:
    try:
        import espeakng_loader
    except ImportError:
        raise InputError(
            "reading a text aloud needs the package espeakng-loader, which is not installed; "
            'run: pip install "avatar[demo]"'
        ) from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    options = _PHONEME_EVENTS | _IPA_EVENTS | _DONT_EXIT
    # Synchronous: with espeak's own thread, waiting for it ended now and then before it had begun to speak.
    rate = library.espeak_Initialize(_SYNCHRONOUS, 200, espeakng_loader.get_data_path().encode(), options)
    if rate <= 0:
        raise InputError("espeak-ng did not start; install espeakng-loader again")
    return library, rate


def _phones(events: list[tuple[int, float, str, int]], seconds: float) -> tuple[Phone, ...]:
    marks = [(max(time - EVENT_DELAY, 0.0), arpabet(name)) for kind, time, name, _ in events if kind == _PHONEME]
    ends = [time for time, _ in marks[1:]] + [seconds]
    return tuple(contiguous([Phone(s, t, end) for (t, s), end in zip(marks, ends, strict=True)], seconds))


def _words(events: list[tuple[int, float, str, int]], text: str) -> tuple[Word, ...]:
    marks = [(time, position - 1) for kind, time, _, position in events if kind == _WORD]
    return tuple(
        Word(text=(text[position:].split() or [""])[0], start=max(time - EVENT_DELAY, 0.0)) for time, position in marks
    )


_IPA = {
    "p": "P", "b": "B", "m": "M", "f": "F", "v": "V", "ɸ": "F", "β": "V", "ʋ": "V", "θ": "TH", "ð": "DH",
    "t": "T", "d": "D", "n": "N", "l": "L", "ɫ": "L", "ɾ": "D", "ʔ": "HH", "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH",
    "ɕ": "SH", "ʑ": "ZH", "ʂ": "SH", "ʐ": "R", "ç": "HH", "x": "HH", "χ": "HH", "ɣ": "G", "h": "HH", "ɦ": "HH",
    "k": "K", "ɡ": "G", "g": "G", "ŋ": "NG", "ɲ": "N", "ɳ": "N", "ʎ": "L", "ɭ": "L", "r": "D", "ʀ": "HH", "ʁ": "HH",
    "ɹ": "R", "ɻ": "R", "j": "Y", "w": "W", "ɥ": "W", "ʈ": "T", "ɖ": "D", "c": "K", "ɟ": "G", "q": "K",
    "a": "AA", "ɑ": "AA", "ɐ": "AH", "ɒ": "AO", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɜ": "ER", "ɚ": "ER", "ɝ": "ER",
    "ɛ": "EH", "e": "EH", "ɘ": "IH", "ɪ": "IH", "i": "IY", "ɨ": "IH", "ᵻ": "IH", "y": "UW", "ʏ": "UH", "ø": "ER",
    "œ": "ER", "ɔ": "AO", "o": "AO", "ɤ": "AH", "ʊ": "UH", "u": "UW", "ɯ": "IH", "ʉ": "UW",
}  # fmt: skip
"""The ARPAbet phone with the nearest lips for the first letter of an IPA symbol."""
_IPA_PAIRS = {
    "aɪ": "AY", "aʊ": "AW", "eɪ": "EY", "oʊ": "OW", "əʊ": "OW", "ɔɪ": "OY", "tʃ": "CH", "dʒ": "JH",
    "tɕ": "CH", "dʑ": "JH", "ts": "S", "ɑɪ": "AY", "ɔø": "OY", "ɔʏ": "OY",
}  # fmt: skip


def arpabet(ipa: str) -> str:
    """The ARPAbet phone whose lips are nearest to an IPA symbol; silence for pauses and unknown signs."""
    bare = "".join(c for c in ipa if c not in "ˈˌː̃ʰʲ_|‿.ˑ̩'")
    if bare[:2] in _IPA_PAIRS:
        return _IPA_PAIRS[bare[:2]]
    return _IPA.get(bare[:1], SILENCE)
