"""The rule model of speech: silence, contacts, seeds and length."""

import numpy as np
import pytest
import torch

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.face.arkit import INDEX, NAMES
from avatar.speech.features import voice_activity
from avatar.speech.phones import Phone
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.style import SpeechStyle
from avatar.speech.visemes import ARKIT_INDEX, LIP_GAP_MM, VISEMES

SYLLABLE = 0.16
MOUTH = [INDEX[n] for n in NAMES if n.startswith(("jaw", "mouth"))]


def buzz(seconds: float, rate: int = 16_000, level: float = 0.2) -> np.ndarray:
    """A voiced sound with the rhythm of syllables."""
    t = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 20))
    return (level * tone * (0.55 - 0.45 * np.cos(2 * np.pi * t / SYLLABLE))).astype(np.float32)


def spoken(symbols: str) -> tuple[AudioTrack, list[Phone]]:
    """Half a second of silence, the phones, half a second of silence."""
    names = symbols.split()
    middle = [Phone(s, 0.5 + i * 0.1, 0.6 + i * 0.1) for i, s in enumerate(names)]
    end = 0.5 + 0.1 * len(names)
    phones = [Phone("SIL", 0.0, 0.5), *middle, Phone("SIL", end, end + 0.5)]
    still = np.zeros(8000, np.float32)
    return AudioTrack(samples=np.concatenate([still, buzz(end - 0.5), still]), rate=16_000), phones


def move(symbols: str, fps: float = 25.0, seed: int = 0, style: SpeechStyle | None = None):
    audio, phones = spoken(symbols)
    return RuleMotion(style, hear=lambda _: [phones])(audio, fps, seed)


def opening(motion) -> torch.Tensor:
    """Millimetres between the lips of the average head beyond its rest; negative is pressed."""
    return motion.expression @ torch.from_numpy(LIP_GAP_MM)


def test_silence_closes_the_mouth():
    motion = move("AA K AE T AA L OW")
    assert opening(motion)[:5].max() < 0.7
    assert opening(motion)[-5:].max() < 0.7
    assert opening(motion)[14:30].max() > 7


def test_silent_audio_never_opens_the_mouth():
    phones = [Phone("AA", 0.0, 2.0)]
    audio = AudioTrack(samples=np.zeros(32_000, np.float32), rate=16_000)
    motion = RuleMotion(hear=lambda _: [phones])(audio, 25.0)
    assert motion.expression[:, MOUTH].max() == 0


@pytest.mark.parametrize("fps", [10.0, 25.0, 29.97, 60.0])
@pytest.mark.parametrize("labial", ["P", "B", "M"])
def test_lips_shut_at_every_bilabial(labial, fps):
    motion = move(f"AA {labial} AA {labial} AE {labial} IY", fps)
    for k in (1, 3, 5):
        start, end = 0.5 + 0.1 * k, 0.6 + 0.1 * k
        near = slice(int(np.floor((start - 0.02) * fps)), int(np.ceil(end * fps)) + 1)
        assert opening(motion)[near].min() < 0
        assert motion.expression[near, INDEX["mouthRollLower"]].max() > 0.15


def test_lower_lip_meets_the_teeth_at_labiodentals():
    motion, vowel = move("AA F AA V AA", 50.0), move("AA K AA K AA", 50.0)
    assert motion.expression[30:34, INDEX["mouthRollLower"]].max() > 0.25
    assert motion.expression[30:34, INDEX["mouthUpperUpLeft"]].max() > 0.3
    assert opening(motion)[30:34].min() < 0.5 * opening(vowel)[30:34].min()


def test_rounded_vowels_pucker_and_spread_vowels_smile():
    rounded, spread = move("UW W UW W UW"), move("IY Y IY S IY")
    middle = slice(14, 24)
    assert rounded.expression[middle, INDEX["mouthPucker"]].mean() > 0.4
    assert spread.expression[middle, INDEX["mouthSmileLeft"]].mean() > 0.1
    assert spread.expression[middle, INDEX["mouthPucker"]].mean() < 0.1


def test_seed_changes_blinks_and_head_but_not_lips():
    first, again, other = (move("AA T IY M OW " * 20, seed=s) for s in (1, 1, 2))
    torch.testing.assert_close(first.expression, again.expression, rtol=0, atol=0)
    torch.testing.assert_close(first.T_world_head, again.T_world_head, rtol=0, atol=0)
    torch.testing.assert_close(first.expression[:, MOUTH], other.expression[:, MOUTH], rtol=0, atol=0)
    assert (first.expression[:, INDEX["eyeBlinkLeft"]] - other.expression[:, INDEX["eyeBlinkLeft"]]).abs().max() > 0.5
    assert (first.neck - other.neck).abs().max() > 0.005


def test_blinks_come_at_the_asked_rate_and_are_short():
    audio = AudioTrack(samples=np.zeros(16_000 * 300, np.float32), rate=16_000)
    motion = RuleMotion(SpeechStyle(blink_hz=0.3), hear=lambda _: [[]])(audio, 25.0, seed=3)
    shut = motion.expression[:, INDEX["eyeBlinkLeft"]].numpy() > 0.5
    starts = np.flatnonzero(np.diff(shut.astype(int)) == 1)
    ends = np.flatnonzero(np.diff(shut.astype(int)) == -1)
    assert 65 <= len(starts) <= 115
    assert (ends - starts).max() <= 0.4 * 25


def test_motion_has_no_jump_and_a_longer_track_begins_like_a_shorter_one():
    long, short = move("AA T IY M OW S UW " * 90, seed=5), move("AA T IY M OW S UW " * 30, seed=5)
    assert long.neck.diff(dim=0).abs().max() < 0.02
    assert long.expression[:, MOUTH].diff(dim=0).abs().max() < 0.75
    same = 20 * 25
    torch.testing.assert_close(long.neck[:same, 1:], short.neck[:same, 1:], rtol=0, atol=1e-6)
    torch.testing.assert_close(long.gaze[:same], short.gaze[:same], rtol=0, atol=1e-6)


def test_voice_activity_ignores_gain_and_steady_noise():
    still = np.zeros(16_000, np.float32)
    clean = np.concatenate([still, buzz(2.0), still])
    noise = np.random.default_rng(0).normal(size=len(clean)).astype(np.float32) * 0.006
    truth = np.zeros(400, bool)
    truth[100:300] = True
    for sound in (clean, clean * 0.02, clean + noise, 0.05 * (clean + noise)):
        assert (voice_activity(sound.astype(np.float32)) == truth).mean() > 0.95
    assert voice_activity(noise).mean() < 0.02


def test_speech_agrees_with_the_face_on_the_names_of_coefficients():
    assert all(NAMES[index] == name for name, index in ARKIT_INDEX.items())
    assert all(0 <= value <= 1 for viseme in VISEMES.values() for value in viseme.target)


def test_frame_rate_must_be_positive():
    audio, phones = spoken("AA")
    with pytest.raises(InputError, match="frame rate"):
        RuleMotion(hear=lambda _: [phones])(audio, 0.0)
