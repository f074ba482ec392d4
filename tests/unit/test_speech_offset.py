"""The offset between sound and mouth is found, or honestly refused."""

import numpy as np
import pytest

from avatar.core import AudioTrack
from avatar.speech.offset import estimate
from avatar.speech.phones import Phone
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.visemes import LIP_GAP_MM, LIP_WIDTH_MM, VISEMES

FPS = 25.0


def talk(seconds: float, seed: int = 0) -> tuple[AudioTrack, RuleMotion]:
    """A rhythmic sound and a model that hears random phones in it."""
    rng = np.random.default_rng(seed)
    names = [s for s in VISEMES if s != "SIL"]
    phones, now = [], 0.0
    while now < seconds:
        length = rng.uniform(0.06, 0.16)
        phones.append(Phone(str(rng.choice(names)), now, now + length))
        now += length
    t = np.arange(round(seconds * 16_000)) / 16_000
    tone = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 5 * t))
    return AudioTrack(samples=(0.1 * tone).astype(np.float32), rate=16_000), RuleMotion(hear=lambda _: [phones])


def measured(audio: AudioTrack, model: RuleMotion, shift: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """What a detector would see of a mouth that moves `shift` seconds after its sound."""
    fine = model(audio, 500.0).expression.numpy()
    at = np.arange(round(audio.seconds * FPS)) / FPS - shift
    rng = np.random.default_rng(1)
    out = []
    for weights in (LIP_GAP_MM, LIP_WIDTH_MM):
        curve = np.interp(at, np.arange(len(fine)) / 500.0, fine @ weights)
        out.append(curve + noise * curve.std() * rng.normal(size=len(curve)))
    return out[0], out[1]


@pytest.mark.parametrize("shift", [-0.18, -0.047, 0.0, 0.023, 0.21])
def test_offset_of_a_noisy_mouth_is_found_within_20_ms(shift):
    audio, model = talk(10.0)
    found = estimate(audio, *measured(audio, model, shift, 1.0), FPS, model)
    assert found.seconds == pytest.approx(shift, abs=0.02)
    assert found.confidence > 0.6


def test_missing_frames_do_not_matter():
    audio, model = talk(10.0)
    opening, width = measured(audio, model, 0.1, 0.3)
    opening[40:90], width[40:90] = np.nan, np.nan
    assert estimate(audio, opening, width, FPS, model).seconds == pytest.approx(0.1, abs=0.02)


def test_corrected_sound_is_in_sync():
    audio, model = talk(10.0)
    found = estimate(audio, *measured(audio, model, 0.12, 0.2), FPS, model)
    moved = found.corrected(audio)
    assert len(moved.samples) == len(audio.samples)
    late = round(found.seconds * 16_000)
    np.testing.assert_array_equal(moved.samples[late:], audio.samples[:-late])


def test_channels_that_disagree_are_refused():
    audio, model = talk(10.0)
    opening, _ = measured(audio, model, 0.15, 0.1)
    _, width = measured(audio, model, -0.10, 0.1)
    found = estimate(audio, opening, width, FPS, model)
    assert found.seconds == 0 and found.confidence < 0.5 and "disagree" in found.reason


def test_channels_whose_broad_peaks_lie_a_little_apart_are_believed():
    audio, model = talk(8.0)
    opening, _ = measured(audio, model, 0.17, 1.5)
    _, width = measured(audio, model, 0.10, 1.5)
    found = estimate(audio, opening, width, FPS, model)
    assert abs(found.channels["opening"] - found.channels["width"]) > 0.05
    assert 0.10 <= found.seconds <= 0.17 and found.confidence >= 0.5


def test_a_mouth_that_does_not_speak_is_refused():
    audio, model = talk(10.0)
    other_audio, other = talk(10.0, seed=7)
    found = estimate(audio, *measured(other_audio, other, 0.0, 0.5), FPS, model)
    assert found.seconds == 0 and found.confidence < 0.5 and found.reason
    still = np.zeros(250)
    assert estimate(audio, still, still, FPS, model).confidence == 0


def test_a_clip_of_one_second_is_refused():
    audio, model = talk(1.0)
    assert "shorter" in estimate(audio, np.zeros(25), np.zeros(25), FPS, model).reason
