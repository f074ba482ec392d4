"""Voices of other engines: what they tell of their sounds becomes phones, and what is missing is named.

Piper's and Kokoro's files are not here, so small stand-ins with their interfaces (piper-tts 1.8, kokoro-onnx 0.6)
speak; with real files both were heard by hand.
"""

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from avatar.errors import InputError
from avatar.speech.engines import Espeak, Kokoro, Piper, timed_phones, voice_named

RATE = 22_050


def symbols(utterance) -> list[str]:
    return [phone.symbol for phone in utterance.phones]


@dataclass
class Chunk:
    sample_rate: int
    audio_float_array: np.ndarray
    phoneme_alignments: list | None


def chunk(written: str, *, aligned: bool = True, each: int = RATE // 10) -> Chunk:
    sound = 0.1 * np.ones(each * len(written), np.float32)
    parts = [SimpleNamespace(phoneme=c, phoneme_ids=[1], num_samples=each) for c in written]
    return Chunk(RATE, sound, parts if aligned else None)


def piper_of(*chunks: Chunk) -> ModuleType:
    """The package `piper`, whose voices say the chunks whatever the text."""

    class PiperVoice:
        @staticmethod
        def load(model_path, config_path=None, use_cuda=False, include_alignments=False):
            assert Path(model_path).exists()
            return PiperVoice()

        def synthesize(self, text, syn_config=None, include_alignments=False):
            assert include_alignments
            yield from chunks

    package = ModuleType("piper")
    package.PiperVoice = PiperVoice  # type: ignore[attr-defined]
    return package


def kokoro_of(timings: list) -> ModuleType:
    class Engine:
        def __init__(self, model_path, voices_path):
            self.voices = {"af_heart": 0, "bm_george": 0}

        def create_timed(self, text, voice, speed=1.0, lang="en-us"):
            if lang == "xx":
                raise RuntimeError("language not supported")
            return 0.1 * np.ones(24_000, np.float32), 24_000, timings

    package = ModuleType("kokoro_onnx")
    package.Kokoro = Engine  # type: ignore[attr-defined]
    return package


@pytest.fixture
def model(tmp_path) -> Path:
    for name in ("voice.onnx", "voice.onnx.json", "voices.bin"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path / "voice.onnx"


def test_pipers_alignment_becomes_phones_that_cover_the_sound(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "piper", piper_of(chunk("^ˈmaːm$"), chunk("pa")))
    spoken = Piper(model).say("Mam. Pa.")
    assert symbols(spoken) == ["SIL", "M", "AA", "M", "SIL", "P", "AA"]
    assert spoken.phones[0].start == 0 and spoken.phones[-1].end == pytest.approx(spoken.audio.seconds)
    assert all(a.end == b.start for a, b in pairwise(spoken.phones))
    first, vowel = spoken.phones[1:3]
    assert (first.start, first.end) == (pytest.approx(0.1), pytest.approx(0.3)), "the stress belongs to what follows"
    assert vowel.end - vowel.start == pytest.approx(0.2), "the sign of length belongs to the vowel"
    assert spoken.phones[5].start == pytest.approx(0.7 + 0.25, abs=1e-3), "sentences are apart"


def test_a_piper_voice_without_alignment_has_no_phones(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "piper", piper_of(chunk("ma"), chunk("pa", aligned=False)))
    spoken = Piper(model).say("Ma. Pa.")
    assert spoken.phones == () and spoken.audio.seconds == pytest.approx(0.65, abs=1e-3)


def test_kokoros_timings_become_phones(model, monkeypatch):
    timings = [SimpleNamespace(phoneme=p, start=s, end=s + 0.2) for p, s in (("b", 0.1), ("o", 0.3), ("m", 0.6))]
    monkeypatch.setitem(sys.modules, "kokoro_onnx", kokoro_of(timings))
    spoken = Kokoro(model, model.with_name("voices.bin"), "af_heart").say("Bom")
    assert symbols(spoken) == ["SIL", "B", "AO", "SIL", "M", "SIL"]
    assert spoken.audio.rate == 24_000


def test_kokoro_names_the_voices_that_there_are_and_what_it_cannot_speak(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "kokoro_onnx", kokoro_of([]))
    with pytest.raises(InputError, match="no voice 'nobody'; it has af_heart, bm_george"):
        Kokoro(model, model.with_name("voices.bin"), "nobody").say("Bom")
    with pytest.raises(InputError, match="language not supported"):
        Kokoro(model, model.with_name("voices.bin"), "af_heart").say("Bom", "xx")


@pytest.mark.parametrize(
    ("package", "wanted"), [("piper", "pip install piper-tts"), ("kokoro_onnx", "pip install kokoro-onnx")]
)
def test_an_engine_that_is_not_installed_says_what_to_install(model, monkeypatch, package, wanted):
    monkeypatch.setitem(sys.modules, package, None)
    voice = Piper(model) if package == "piper" else Kokoro(model, model.with_name("voices.bin"), "af_heart")
    with pytest.raises(InputError, match=wanted):
        voice.say("hello")


def test_files_that_are_missing_are_named(tmp_path, model):
    with pytest.raises(InputError, match=r"no\.onnx: file is missing"):
        Piper(tmp_path / "no.onnx").say("hello")
    (tmp_path / "voice.onnx.json").unlink()
    with pytest.raises(InputError, match=r"voice\.onnx\.json: file is missing"):
        Piper(model).say("hello")
    with pytest.raises(InputError, match=r"no\.bin: file is missing"):
        Kokoro(model, tmp_path / "no.bin", "af_heart").say("hello")


def test_a_file_that_is_no_voice_is_refused(model, monkeypatch):
    package = piper_of()

    def load(model_path, **_):
        raise RuntimeError("INVALID_PROTOBUF")

    package.PiperVoice.load = staticmethod(load)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "piper", package)
    with pytest.raises(InputError, match="INVALID_PROTOBUF"):
        Piper(model).say("hello")


def test_a_voice_that_says_nothing_is_refused(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "piper", piper_of())
    with pytest.raises(InputError, match="spoke nothing"):
        Piper(model).say("...")


def test_voices_are_chosen_by_name():
    assert isinstance(voice_named("espeak"), Espeak)
    assert voice_named("piper:a/b.onnx") == Piper(Path("a/b.onnx"))
    assert voice_named("kokoro:k.onnx:v.bin:af_heart") == Kokoro(Path("k.onnx"), Path("v.bin"), "af_heart")


@pytest.mark.parametrize("written", ["", "piper", "piper:", "piper:a:b", "kokoro:k.onnx", "espeak:en", "siri"])
def test_a_voice_that_is_written_otherwise_is_refused(written):
    with pytest.raises(InputError, match="write espeak, piper:"):
        voice_named(written)


def test_a_short_space_between_words_is_no_pause_and_a_long_one_is():
    marks = [("m", 0.0, 0.1), (" ", 0.1, 0.15), ("m", 0.15, 0.3), (" ", 0.3, 0.6), ("ɑ", 0.6, 0.8)]
    assert [(p.symbol, p.end) for p in timed_phones(marks, 0.8)] == [("M", 0.15), ("M", 0.3), ("SIL", 0.6), ("AA", 0.8)]
