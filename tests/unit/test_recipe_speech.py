"""The recipe of the lips: a corpus from voices, the same for the same seed, and a network that learns from it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("pocketsphinx", reason="the acoustic tables come with pocketsphinx")

from avatar.errors import InputError
from avatar.events import Event, Notice, silent
from avatar.recipes import speech, speech_corpus, speech_voices
from avatar.recipes.speech_sound import degraded, music, throat
from avatar.recipes.speech_voices import Espeak, foreign, words
from avatar.speech.acoustics import acoustic_tables
from avatar.speech.features import RATE
from avatar.speech.hearing import COLUMNS, LOUDNESS, PHONE
from avatar.speech.lip_net import CURVES, GATES, PHONES, load_net
from avatar.speech.phones import Phone
from tests.unit.test_speech_hearing import voice


def test_degraded_voice_stays_in_time():
    for seed in range(6):
        clean = voice(1.0)
        dirty = degraded(clean, [], np.random.default_rng(seed))
        assert dirty.shape == clean.shape and np.abs(dirty).max() <= 1.0
        fit = np.correlate(dirty, clean, "full")
        assert abs(int(np.abs(fit).argmax()) - (len(clean) - 1)) <= 80 + 1, seed


def test_degraded_voice_is_the_same_for_the_same_seed():
    one, two, other = (degraded(voice(0.5), [voice(0.3)], np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 0.01


def test_other_throat_changes_length_and_pitch_alike():
    assert len(throat(voice(1.0), 80)) == pytest.approx(1.25 * RATE, abs=2)


def test_music_has_notes_and_an_end():
    sound = music(RATE, np.random.default_rng(0))
    assert len(sound) == RATE and np.isfinite(sound).all() and np.abs(sound).max() > 0.1


def test_examples_close_the_lips_at_a_bilabial_only():
    phones = [Phone("SIL", 0.0, 0.3), Phone("AA", 0.3, 0.6), Phone("M", 0.6, 0.7), Phone("AA", 0.7, 1.0)]
    rows = speech_corpus.examples(voice(1.0), phones, reach=1.0)
    lips = speech_corpus.lips_of(rows["phone"], rows["reach"])
    assert rows["features"].shape == (100, COLUMNS) and lips.shape == (100, CURVES + GATES)
    shut = lips[:, CURVES]
    assert shut[65] == 1.0 and shut[:50].max() == 0.0 and shut[80:].max() == 0.0
    assert lips[45, 0] > 0.25 > lips[5, 0]


def test_slurred_speech_moves_less_than_clear_speech():
    phones = [
        Phone(s, 0.1 * i, 0.1 * i + 0.1) for i, s in enumerate(["AA", "T", "IY", "T", "AA", "T", "IY", "T", "AA", "T"])
    ]
    spoken = speech_corpus.examples(voice(1.0), phones, 1.0)["phone"]
    # Both in one part: a part holds recordings of several speakers.
    reach = np.repeat(np.log([0.7, 1.5]), len(spoken)).astype(np.float16)
    clear, slurred = np.split(speech_corpus.lips_of(np.tile(spoken, 2), reach)[:, 0], 2)
    assert clear.std() > 1.2 * slurred.std()


def test_marks_without_sound_are_no_pauses():
    phones = [Phone("P", 0.0, 0.1), Phone("SIL", 0.1, 0.13), Phone("IY", 0.13, 0.3), Phone("SIL", 0.3, 0.6)]
    assert speech_corpus.without_marks(phones) == [
        Phone("P", 0.0, 0.13),
        Phone("IY", 0.13, 0.3),
        Phone("SIL", 0.3, 0.6),
    ]


@pytest.mark.parametrize("language", ["en-us", "de", "ru", "el", "cmn", "ja"])
def test_sentences_are_words_of_their_script(language):
    text = words(np.random.default_rng(0), language)
    assert text[-1] in ".?!" and 2 <= len(text.split()) <= 12
    assert text == words(np.random.default_rng(0), language)


def test_segments_of_other_languages_have_the_nearest_lips():
    assert [foreign(name) for name in ("tS", "a1", "s~", "o:", "pau", "m")] == ["CH", "AA", "SH", "AO", "SIL", "M"]


def test_plan_asks_for_an_engine(monkeypatch):
    monkeypatch.setattr(speech_corpus, "ENGINES", ())
    with pytest.raises(InputError, match="no text-to-speech engine"):
        speech_corpus.plan(1.0, 0)


def test_corpus_says_whose_voices_are_missing_and_how_to_get_them(monkeypatch, tmp_path):
    class Dumb(Espeak):
        name, install = "dumb", "pip install dumb"

        def voices(self) -> list[str]:
            return []

    monkeypatch.setattr(speech_corpus, "ENGINES", (Dumb(), Espeak()))
    monkeypatch.setattr(speech_corpus, "plan", lambda hours, seed: [])
    heard: list[Event] = []
    speech_corpus.build(tmp_path, 1.0, heard.append)
    told = [event.message for event in heard if isinstance(event, Notice) and "dumb" in event.message]
    assert len(told) == 1 and "pip install dumb" in told[0]


def test_corpus_resumes_and_says_what_it_is(monkeypatch, tmp_path):
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(speech_corpus, "ENGINES", (Espeak(),))
    monkeypatch.setattr(speech_corpus, "PART_SECONDS", 9.0)
    manifest = speech_corpus.build(tmp_path, 27.0 / 3600, seed=3)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 3 and json.loads((tmp_path / "manifest.json").read_text()) == manifest
    whole = {path: path.stat().st_mtime_ns for path in files}
    kept = load_file(files[0])
    files[0].unlink()
    assert speech_corpus.build(tmp_path, 27.0 / 3600, seed=3) == manifest
    assert {p: p.stat().st_mtime_ns for p in files[1:]} == {p: whole[p] for p in files[1:]}
    again = load_file(files[0])
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def drawn_corpus(folder: Path) -> None:
    """A voice that says AA where it is loud, else W."""
    rng = np.random.default_rng(0)
    for name in ("espeak-ng_en", "flite_awb"):
        features = rng.normal(size=(3000, COLUMNS)).astype(np.float32)
        slow = np.convolve(rng.normal(size=3000), np.ones(20), "same") / 20**0.5
        features[:, LOUDNESS] = slow
        features[:, PHONE] = 1 / PHONES
        spoken = np.where(slow > 0, *(acoustic_tables().phones.index(phone) for phone in ("AA", "W")))
        rows = {"features": features, "reach": np.zeros(3000, np.float32)}
        halves = {key: torch.from_numpy(value).half() for key, value in rows.items()}
        save_file(halves | {"phone": torch.from_numpy(spoken.astype(np.uint8))}, folder / f"{name}_0.safetensors")


def test_training_learns_what_the_corpus_shows_and_goes_on_from_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(speech, "BATCH", 3)
    monkeypatch.setattr(speech, "SECONDS", 1.0)
    monkeypatch.setattr(speech, "WARM_UP", 5)
    drawn_corpus(tmp_path)
    weights = tmp_path / "lips.bin"
    figures = speech.train(tmp_path, weights, speech.Plan(steps=60), silent)
    assert figures["r_gap"] > 0.5
    speech.train(tmp_path, weights, speech.Plan(steps=1, start=weights), silent)
    assert load_net(weights).enter.weight.isfinite().all()


def test_training_without_a_corpus_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="speech_corpus"):
        speech.train(tmp_path, tmp_path / "w", speech.Plan(), silent)


def test_frequent_words_are_said_by_the_dictionary():
    assert {"the", "people", "before"} <= set(speech_voices.frequent_words())
