"""Voices are told from music and noise, in pieces of any size, also where noise is loud."""

import numpy as np
import pytest

from avatar.core import AudioTrack
from avatar.speech.features import RATE, speech_samples, voice_activity
from avatar.speech.phones import listen
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.vad import CHUNK, VoiceDetector, is_installed, speaking, voice_chances
from avatar.speech.visemes import LIP_GAP_MM

if not is_installed():
    pytest.skip("the network comes with silero-vad and is run by onnxruntime", allow_module_level=True)


def chords(seconds: float) -> np.ndarray:
    """Music: two strings struck twice a second."""
    rng, count = np.random.default_rng(0), round(seconds * RATE)
    time, out = np.arange(count) / RATE, np.zeros(count)
    for start in range(0, count, RATE // 2):
        after = time[: count - start]
        for pitch in 220.0 * 2 ** (rng.choice([0, 4, 7, 12], 2) / 12):
            out[start:] += np.exp(-3 * after) * sum(np.sin(2 * np.pi * pitch * k * after) / k for k in range(1, 8))
    return (0.2 * out / np.abs(out).max()).astype(np.float32)


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    pytest.importorskip("espeakng_loader", reason="a voice is needed")
    from avatar.speech.voices import EspeakVoice

    return speech_samples(EspeakVoice().say("My mother bought a big umbrella before the movie.", "en").audio)


def test_pieces_of_any_size_give_the_same_chances(spoken):
    detector = VoiceDetector()
    parts = [detector.push(spoken[at : at + 777]) for at in range(0, len(spoken), 777)]
    found = np.concatenate(parts)
    assert len(found) == len(spoken) // CHUNK
    np.testing.assert_allclose(found, VoiceDetector().push(spoken), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 159, 160, 161, 512, 16_000])
def test_there_is_a_chance_for_every_hundredth_of_a_second(count):
    assert voice_chances(np.zeros(count, np.float32)).shape == voice_activity(np.zeros(count, np.float32)).shape


def test_a_voice_counts_and_music_and_steps_do_not(spoken):
    assert (speaking(spoken) == voice_activity(spoken)).mean() > 0.99
    assert voice_activity(chords(6.0)).mean() > 0.5 and not speaking(chords(6.0)).any()


def test_a_voice_in_noise_is_heard_where_loudness_knows_nothing(spoken):
    padded = np.pad(spoken, RATE)
    noise = np.random.default_rng(1).normal(size=len(padded)) * np.sqrt((spoken**2).mean())
    loud = (padded + noise).astype(np.float32)
    clean = voice_activity(padded)
    found = speaking(loud)
    assert (found & clean).sum() > 0.8 * clean.sum()
    assert (found & ~clean).sum() < 0.1 * clean.sum()
    assert (voice_activity(loud) & clean).sum() < 0.6 * clean.sum()


def test_lips_rest_while_music_plays_and_move_with_the_voice_after_it(spoken):
    pytest.importorskip("pocketsphinx", reason="the acoustic tables come with pocketsphinx")
    audio = AudioTrack(samples=np.concatenate([chords(4.0), np.zeros(RATE, np.float32), spoken]), rate=RATE)
    assert all(phone.symbol == "SIL" for phones in listen(audio) for phone in phones if phone.end < 4.0)
    gap = RuleMotion()(audio, 25.0).expression.numpy() @ LIP_GAP_MM
    assert np.abs(gap[:100]).max() < 0.3
    assert gap[125:].max() > 3.0
