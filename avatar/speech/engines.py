"""Natural voices that read a text aloud, for those who have their files: Piper and Kokoro. Nothing is downloaded.

Both tell when each of their phonemes sounds, if the voice's file was made for it; then lips need not be heard.
"""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.speech.phones import SILENCE, Phone, contiguous
from avatar.speech.voices import EspeakVoice, Utterance, arpabet

Mark = tuple[str, float, float]
"""A phoneme as the engine writes it (IPA), its start and end in seconds."""
_STRESS, _SIGNS = "ˈˌ", "ː̃ʰʲˑ̩'_^$"
"""Marks before and after a sound, which have none of their own."""
_SHORT = 0.10
"""Seconds of a space between words that are no pause: the sound before goes on."""
_SENTENCE_PAUSE = 0.25
"""Seconds between the sentences that an engine gives one by one."""


class AbstractVoice(ABC):
    """Reads a text aloud."""

    @abstractmethod
    def say(self, text: str, language: str = "en") -> Utterance:
        """Speak a text; the utterance has no phones where the engine cannot tell them.

        Raises:
            InputError: if the engine, its files or the language are missing, or nothing was spoken.
        """


class Espeak(AbstractVoice):
    """espeak-ng: always there, exact in time, and sounds like a machine."""

    def say(self, text: str, language: str = "en") -> Utterance:
        return EspeakVoice().say(text, language)


@dataclass(frozen=True)
class Piper(AbstractVoice):
    """A voice of Piper, which speaks the one language that it was made for."""

    model: Path
    """.onnx, with its .onnx.json beside it."""

    def say(self, text: str, language: str = "en") -> Utterance:
        del language
        for path in (self.model, self.model.with_name(self.model.name + ".json")):
            _check_there(path, "a voice of Piper is a .onnx with its .onnx.json beside it")
        piper = _package("piper", "piper-tts")
        timed = "include_alignments" in inspect.signature(piper.PiperVoice.load).parameters
        told = "include_alignments" in inspect.signature(piper.PiperVoice.synthesize).parameters
        try:
            voice = piper.PiperVoice.load(self.model, **({"include_alignments": True} if timed else {}))
            chunks = list(voice.synthesize(text, **({"include_alignments": True} if told else {})))
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(f"{self.model}: Piper cannot speak with this file ({error}); get it again") from error
        return _piper_utterance(chunks, text)


def _piper_utterance(chunks: Iterable[Any], text: str) -> Utterance:
    pieces, marks, now, rate, timed = [], [], 0.0, 0, True
    for chunk in chunks:
        rate = int(chunk.sample_rate)
        if pieces:
            pieces.append(np.zeros(round(_SENTENCE_PAUSE * rate), np.float32))
            now = sum(map(len, pieces)) / rate
        sound = np.asarray(chunk.audio_float_array, np.float32).ravel()
        at, aligned = now, getattr(chunk, "phoneme_alignments", None)
        timed = timed and bool(aligned)
        for part in aligned or ():
            end = at + float(part.num_samples) / rate
            marks.append((part.phoneme, at, end))
            at = end
        pieces.append(sound)
    return _utterance(np.concatenate(pieces) if pieces else np.zeros(0), rate, marks if timed else [], text)


@dataclass(frozen=True)
class Kokoro(AbstractVoice):
    """A voice of Kokoro."""

    model: Path
    """.onnx; one that gives durations (its outputs name `duration`) tells when each phoneme sounds."""
    voices: Path
    """Their file, .bin or .npz."""
    name: str
    """Of one of the voices, for example af_heart."""

    def say(self, text: str, language: str = "en") -> Utterance:
        for path in (self.model, self.voices):
            _check_there(path, "Kokoro needs its .onnx and the file of its voices")
        package = _package("kokoro_onnx", "kokoro-onnx")
        spoken = "en-us" if language == "en" else language
        try:
            engine = package.Kokoro(str(self.model), str(self.voices))
            if self.name not in engine.voices:
                known = ", ".join(sorted(engine.voices)[:12])
                raise InputError(f"{self.voices}: holds no voice {self.name!r}; it has {known}")
            if hasattr(engine, "create_timed"):
                samples, rate, timings = engine.create_timed(text, voice=self.name, lang=spoken)
            else:
                (samples, rate), timings = engine.create(text, voice=self.name, lang=spoken), []
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise InputError(f"{self.model}: Kokoro cannot speak {text[:40]!r} ({error})") from error
        return _utterance(samples, int(rate), [(t.phoneme, float(t.start), float(t.end)) for t in timings], text)


def voice_named(written: str) -> AbstractVoice:
    """The voice of `espeak`, `piper:VOICE.onnx` or `kokoro:MODEL.onnx:VOICES.bin:NAME`.

    Raises:
        InputError: if it is written otherwise.
    """
    engine, _, rest = written.partition(":")
    parts = rest.split(":") if rest else []
    if engine == "espeak" and not parts:
        return Espeak()
    if engine == "piper" and len(parts) == 1:
        return Piper(Path(parts[0]))
    if engine == "kokoro" and len(parts) == 3:
        return Kokoro(Path(parts[0]), Path(parts[1]), parts[2])
    raise InputError(f"voice {written!r}: write espeak, piper:VOICE.onnx or kokoro:MODEL.onnx:VOICES.bin:NAME")


def _utterance(samples: np.ndarray, rate: int, marks: list[Mark], text: str) -> Utterance:
    sound = np.asarray(samples, np.float32).ravel().clip(-1, 1)
    if not sound.any():
        raise InputError(f"the voice spoke nothing for {text[:40]!r}; give a text with words")
    audio = AudioTrack(samples=sound, rate=rate)
    return Utterance(audio=audio, phones=timed_phones(marks, audio.seconds), words=())


def timed_phones(marks: list[Mark], seconds: float) -> tuple[Phone, ...]:
    """Classes of phones that cover a sound; signs without a sound of their own belong to the phone beside them."""
    phones: list[Phone] = []
    stressed: float | None = None
    for written, start, end in marks:
        if written and all(c in _STRESS for c in written):
            stressed = start if stressed is None else stressed
            continue
        begin, stressed = (start if stressed is None else stressed), None
        symbol = arpabet(written)
        last = phones[-1].end if phones else 0.0
        if begin > last + 1e-3:
            phones.append(Phone(SILENCE, last, begin))
        goes_on = all(c in _SIGNS for c in written) or (written == " " and end - begin < _SHORT)
        if goes_on and phones:
            phones[-1] = Phone(phones[-1].symbol, phones[-1].start, end)
        elif end > begin:
            phones.append(Phone(symbol, begin, end))
    return tuple(contiguous(phones, seconds)) if phones else ()


def _package(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"this voice needs the package {name}, which is not installed; run: pip install {name}"
        ) from None


def _check_there(path: Path, wanted: str) -> None:
    if not path.is_file():
        raise InputError(f"{path}: file is missing; {wanted}, and is not downloaded by this program")
