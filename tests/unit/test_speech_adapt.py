"""A person's style is read back from motion that was made with it; little film changes little."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.config import from_dict, to_dict
from avatar.core import AudioTrack, MotionSequence
from avatar.errors import InputError
from avatar.speech.adapt import fit_style
from avatar.speech.phones import Phone
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.style import SpeechStyle
from avatar.speech.visemes import ARKIT_INDEX, LIP_GAP_MM, VISEMES


def rest_face() -> tuple[float, ...]:
    values = [0.0] * 52
    values[ARKIT_INDEX["mouthSmileLeft"]] = values[ARKIT_INDEX["mouthSmileRight"]] = 0.15
    values[ARKIT_INDEX["browInnerUp"]] = 0.1
    values[ARKIT_INDEX["eyeBlinkLeft"]] = values[ARKIT_INDEX["eyeBlinkRight"]] = 0.08
    return tuple(values)


PERSON = SpeechStyle(
    rest=rest_face(),
    opening_gain=1.6,
    width_gain=0.6,
    blink_hz=0.5,
    head_std=(0.035, 0.03, 0.02),
    gaze_std=(0.05, 0.03),
)


def film(seconds: float, style: SpeechStyle) -> tuple[MotionSequence, AudioTrack, list[Phone]]:
    """Phrases of random phones with pauses, moved by the rule model with noise on top."""
    rng = np.random.default_rng(4)
    names = [s for s in VISEMES if s != "SIL"]
    phones, now = [], 0.0
    while now < seconds:
        for _ in range(25):
            length = rng.uniform(0.06, 0.16)
            phones.append(Phone(str(rng.choice(names)), now, now + length))
            now += length
        phones.append(Phone("SIL", now, now + 1.2))
        now += 1.2
    t = np.arange(round(seconds * 16_000)) / 16_000
    tone = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 5 * t))
    for phone in phones:
        if phone.symbol == "SIL":
            tone[round(phone.start * 16_000) : round(phone.end * 16_000)] = 0.0
    audio = AudioTrack(samples=(0.1 * tone).astype(np.float32), rate=16_000)
    motion = RuleMotion(style, hear=lambda _: [phones])(audio, 25.0, seed=9)
    noise = torch.from_numpy(rng.normal(size=tuple(motion.expression.shape))).float() * 0.01
    return replace(motion, expression=(motion.expression + noise).clamp(0, 1)), audio, phones


def test_style_is_read_back_from_a_minute_of_film():
    motion, audio, phones = film(60.0, PERSON)
    found = fit_style(motion, audio, hear=lambda _: [phones])
    assert found.opening_gain == pytest.approx(1.6, rel=0.12)
    assert found.width_gain == pytest.approx(0.6, rel=0.2)
    assert np.abs(np.array(found.rest) - np.array(PERSON.rest)).max() < 0.04
    assert found.blink_hz == pytest.approx(0.5, abs=0.15)
    assert found.head_std == pytest.approx(PERSON.head_std, rel=0.5)
    assert RuleMotion(found, hear=lambda _: [phones])(audio, 25.0).expression.shape == motion.expression.shape


def pressed() -> SpeechStyle:
    """Presses the lips at rest, and holds them apart while speaking."""
    rest, apart = np.array(rest_face()), np.zeros(52)
    for name, at_rest, speaking in (
        ("mouthRollLower", 0.3, -0.3),
        ("mouthClose", 0.06, -0.06),
        ("mouthLowerDownLeft", 0.0, 0.2),
        ("mouthLowerDownRight", 0.0, 0.2),
    ):
        rest[ARKIT_INDEX[name]], apart[ARKIT_INDEX[name]] = at_rest, speaking
    return replace(PERSON, rest=tuple(rest.tolist()), apart=tuple(apart.tolist()), opening_gain=1.2)


def test_lips_that_are_pressed_at_rest_let_go_in_speech_and_meet_again():
    style = pressed()
    motion, audio, phones = film(40.0, style)
    found = fit_style(motion, audio, hear=lambda _: [phones])
    gap = {}
    for name, way in (("film", style), ("found", found), ("rest alone", replace(found, apart=(0.0,) * 52))):
        spoken = RuleMotion(way, hear=lambda _: [phones])(audio, 25.0).expression.numpy()
        gap[name] = np.maximum(spoken @ LIP_GAP_MM, 0.0)
    assert np.quantile(gap["found"], (0.5, 0.9)) == pytest.approx(np.quantile(gap["film"], (0.5, 0.9)), rel=0.2)
    assert np.median(gap["rest alone"]) < 0.6 * np.median(gap["film"])
    shut = gap["film"] < 0.2
    assert shut.mean() > 0.1
    assert (gap["found"][shut] < 0.5).mean() > 0.9


def test_a_style_from_before_lips_were_held_apart_is_read():
    data = to_dict(PERSON)
    del data["apart"]
    assert from_dict(SpeechStyle, data) == PERSON


def test_two_seconds_of_film_keep_the_average_speakers_gains():
    motion, audio, phones = film(2.0, PERSON)
    found = fit_style(motion, audio, hear=lambda _: [phones])
    assert found.opening_gain == found.width_gain == 1.0
    assert abs(found.blink_hz - SpeechStyle().blink_hz) < 0.1


def test_gains_that_do_not_hold_across_the_film_are_not_believed():
    motion, audio, phones = film(40.0, SpeechStyle())
    factor = torch.where(torch.arange(len(motion)) < len(motion) // 2, 2.2, 0.4)[:, None]
    mouth = torch.from_numpy(LIP_GAP_MM != 0)
    erratic = torch.where(mouth, motion.expression * factor, motion.expression).clamp(0, 1)
    found = fit_style(replace(motion, expression=erratic), audio, hear=lambda _: [phones])
    assert 0.6 < found.opening_gain < 1.7


def test_frames_without_confidence_do_not_count():
    motion, audio, phones = film(30.0, PERSON)
    confidence = np.ones(len(motion))
    confidence[200:260] = 0.0
    spoiled = motion.expression.clone()
    spoiled[200:260] = 1.0
    clean = fit_style(motion, audio, confidence=confidence, hear=lambda _: [phones])
    dirty = fit_style(replace(motion, expression=spoiled), audio, confidence=confidence, hear=lambda _: [phones])
    assert clean == dirty


def test_contacts_are_never_limited_by_the_ceiling():
    motion, audio, phones = film(40.0, PERSON)
    ceiling = np.array(fit_style(motion, audio, hear=lambda _: [phones]).ceiling)
    for name in ("mouthClose", "mouthRollLower", "mouthRollUpper", "mouthPressLeft", "eyeBlinkLeft"):
        assert ceiling[ARKIT_INDEX[name]] == 1.0
    assert ceiling[ARKIT_INDEX["jawOpen"]] < 1.0


def test_style_survives_json_and_a_damaged_one_is_refused():
    data = to_dict(PERSON)
    assert from_dict(SpeechStyle, data) == PERSON
    with pytest.raises(InputError, match="ceiling"):
        from_dict(SpeechStyle, {**data, "ceiling": "high"})
    with pytest.raises(InputError, match="52"):
        from_dict(SpeechStyle, {**data, "rest": [0.0] * 3})
