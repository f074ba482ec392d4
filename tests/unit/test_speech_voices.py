"""A synthesised voice with known phones, and what the recogniser hears in it."""

import sys
from itertools import pairwise

import numpy as np
import pytest

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.speech.features import voice_activity
from avatar.speech.phones import HEARINGS, listen
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.visemes import LIP_GAP_MM
from avatar.speech.voices import EspeakVoice, arpabet

TEXT = "Papa bought my amazing purple bottle."


@pytest.fixture(scope="module")
def spoken():
    pytest.importorskip("espeakng_loader")
    return EspeakVoice().say(TEXT, "en-us")


def test_phones_touch_and_cover_the_sound(spoken):
    assert spoken.phones[0].start == 0 and spoken.phones[-1].end == pytest.approx(spoken.audio.seconds)
    assert all(a.end == b.start for a, b in pairwise(spoken.phones))
    assert [w.text for w in spoken.words] == TEXT.split()
    assert [p.symbol for p in spoken.phones][:4] == ["P", "AA", "P", "AH"]


def test_the_mouth_shuts_at_each_of_its_bilabials(spoken):
    motion = RuleMotion(hear=lambda _: [spoken.phones])(spoken.audio, 25.0)
    gap = (motion.expression.numpy() @ LIP_GAP_MM) < 0
    for phone in spoken.phones:
        if phone.symbol in ("P", "B", "M"):
            near = slice(int(phone.start * 25), int(np.ceil(phone.end * 25)) + 1)
            assert gap[near].any(), phone


@pytest.mark.parametrize("language", ["fr", "de", "cmn", "ja"])
def test_other_languages_speak_and_move(language):
    pytest.importorskip("espeakng_loader")
    text = {"fr": "Bonjour tout le monde", "de": "Guten Morgen", "cmn": "你好我们", "ja": "こんにちは"}[language]
    utterance = EspeakVoice().say(text, language)
    assert utterance.audio.seconds > 0.5 and len({p.symbol for p in utterance.phones}) > 3


def test_unknown_language_and_empty_text_are_refused():
    pytest.importorskip("espeakng_loader")
    with pytest.raises(InputError, match="no voice 'xx-none'"):
        EspeakVoice().say("hello", "xx-none")
    with pytest.raises(InputError, match="spoke nothing"):
        EspeakVoice().say("", "en")


def test_missing_packages_are_named(monkeypatch):
    from avatar.speech import acoustics, vad, voices

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    voices._engine.cache_clear()
    acoustics.acoustic_tables.cache_clear()
    noise = np.random.default_rng(0).normal(size=32_000) * np.repeat([0.0, 0.2, 0.0, 0.2], 8000)
    try:
        with pytest.raises(InputError, match=r"avatar\[demo\]"):
            EspeakVoice().say("hello")
        with pytest.raises(InputError, match=r"avatar\[preprocess\]"):
            listen(AudioTrack(samples=noise.astype(np.float32), rate=16_000))
        monkeypatch.undo()
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        vad._session.cache_clear()
        with pytest.raises(InputError, match=r"silero-vad.*avatar\[preprocess\]"):
            listen(AudioTrack(samples=noise.astype(np.float32), rate=16_000))
    finally:
        voices._engine.cache_clear()
        acoustics.acoustic_tables.cache_clear()
        vad._session.cache_clear()


def test_signs_of_ipa_have_the_nearest_lips():
    pairs = {"tʃ": "CH", "aɪ": "AY", "ɸ": "F", "ʔ": "HH", "ˈuː": "UW", "β": "V", "_:": "SIL", "œ": "ER"}
    assert {k: arpabet(k) for k in pairs} == pairs


def test_the_recogniser_hears_speech_and_silence_and_is_deterministic(spoken):
    pytest.importorskip("pocketsphinx")
    padded = spoken.audio.between(-1.0, spoken.audio.seconds + 1.0)
    hearings = listen(padded)
    assert hearings == listen(padded) and len(hearings) == HEARINGS
    for heard in hearings:
        assert heard[0].symbol == "SIL" and heard[0].end == pytest.approx(1.0, abs=0.15)
        assert heard[-1].symbol == "SIL" and heard[-1].end == pytest.approx(padded.seconds)
        assert sum(p.symbol != "SIL" for p in heard) > 12


def test_long_sound_is_decoded_in_pieces_without_a_seam(spoken):
    pytest.importorskip("pocketsphinx")
    repeats, still = 16, np.zeros(spoken.audio.rate // 2, np.float32)
    one = np.concatenate([spoken.audio.samples, still])
    audio = AudioTrack(samples=np.tile(one, repeats), rate=spoken.audio.rate)
    assert audio.seconds > 40
    heard = listen(audio)[0]
    assert heard[0].start == 0 and heard[-1].end == pytest.approx(audio.seconds)
    assert all(a.end == b.start for a, b in pairwise(heard))
    period = len(one) / audio.rate
    speech = [
        sum(p.symbol != "SIL" and k * period <= p.start < (k + 1) * period for p in heard) for k in range(repeats)
    ]
    assert min(speech) > 0.6 * max(speech)
    assert voice_activity(audio.samples[:0]).shape == (1,)
