"""A person's style is read back from motion that was made with it; little film changes little."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.config import from_dict, to_dict
from avatar.core import AudioTrack, MotionSequence
from avatar.errors import InputError
from avatar.speech.acoustics import acoustic_tables
from avatar.speech.adapt import fit_style
from avatar.speech.learned_motion import Heard, LearnedMotion
from avatar.speech.phones import Phone
from avatar.speech.rule_motion import RuleMotion, lips_of, prosody
from avatar.speech.style import SpeechStyle
from avatar.speech.visemes import ALIKE, ARKIT_INDEX, AVERAGE, LIP_GAP_MM, LIP_WIDTH_MM, VISEMES


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


def habits_of(**offsets: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """Millimetres of opening and width at the groups that hold these phones."""
    return tuple(next((offsets[s] for s in group if s in offsets), (0.0, 0.0)) for group in ALIKE)


HABITS = habits_of(AA=(5.0, 0.0), S=(3.0, 0.0), IY=(-4.0, 3.0), AO=(0.0, -3.0), EH=(0.0, 2.0))


def test_habits_at_single_phones_are_read_back_and_bring_the_lips_nearer():
    motion, audio, phones = film(60.0, SpeechStyle(habits=HABITS))
    found = fit_style(motion, audio, hear=lambda _: [phones])
    true, read = np.array(HABITS), np.array(found.habits)
    for channel in (0, 1):
        assert np.corrcoef(true[:, channel], read[:, channel])[0, 1] > 0.75
        assert 0.5 < (read[:, channel] @ true[:, channel]) / (true[:, channel] @ true[:, channel]) < 1.3

    def agreement(style: SpeechStyle, lips: np.ndarray) -> float:
        said = RuleMotion(style, hear=lambda _: [phones])(audio, 25.0).expression.numpy()
        return float(np.corrcoef(said @ lips, motion.expression.numpy() @ lips)[0, 1])

    for lips in (LIP_GAP_MM, LIP_WIDTH_MM):
        assert agreement(found, lips) > agreement(replace(found, habits=()), lips) + 0.005


def test_other_words_teach_no_habits():
    motion, audio, phones = film(60.0, SpeechStyle(habits=HABITS))
    other = replace(motion, expression=motion.expression.roll(len(motion) // 2, dims=0))
    assert fit_style(other, audio, hear=lambda _: [phones]).habits == ()


def test_a_little_film_teaches_no_habits():
    motion, audio, phones = film(5.0, SpeechStyle(habits=HABITS))
    assert fit_style(motion, audio, hear=lambda _: [phones]).habits == ()


@pytest.mark.parametrize("learned", [False, True])
def test_no_habit_opens_closed_lips_or_shuts_open_ones(learned):
    phones = [Phone("SIL", 0.0, 1.0), Phone("AA", 1.0, 1.3), Phone("M", 1.3, 1.4), Phone("AA", 1.4, 1.7)]
    phones += [Phone("SIL", 1.7, 3.0)]
    times, rate = np.arange(150) / 50, 16_000
    sound = np.sin(2 * np.pi * 150 * np.arange(3 * rate) / rate)
    sound[:rate] = sound[round(1.7 * rate) :] = 0.0
    audio = AudioTrack(samples=(0.1 * sound).astype(np.float32), rate=rate)
    lips = lips_of([phones], times, prosody(audio.samples, times, np.ones(300, bool)), AVERAGE)
    names = acoustic_tables().phones
    said = [names.index(next(p.symbol for p in phones if t < p.end)) for t in times]
    heard = Heard(hearings=[phones], phones=np.eye(len(names), dtype=np.float32)[said], shut=lips.shut, bite=lips.bite)

    def gap(habits: tuple[tuple[float, float], ...]) -> np.ndarray:
        style = SpeechStyle(habits=habits)
        model = LearnedMotion(style, lambda _: heard) if learned else RuleMotion(style, lambda _: [phones])
        return np.maximum(model(audio, 50.0).expression.numpy() @ LIP_GAP_MM, 0.0)

    usual, wide, narrow = (gap(((mm, mm),) * len(ALIKE) if mm else ()) for mm in (0.0, 20.0, -20.0))
    assert usual[60] > 5.0 and wide[60] > usual[60] + 2.0
    assert wide[66:70].min() < 0.5
    assert wide[:30].max() < 0.5 and wide[120:].max() < 0.5
    assert narrow[60] > 0.4 * usual[60]


def test_styles_that_know_no_habits_are_read_and_speak_as_before():
    data = to_dict(PERSON)
    del data["habits"]
    assert from_dict(SpeechStyle, data) == PERSON
    with_habits = replace(PERSON, habits=HABITS)
    assert from_dict(SpeechStyle, to_dict(with_habits)) == with_habits
    with pytest.raises(InputError, match="habits"):
        from_dict(SpeechStyle, {**data, "habits": [[1.0, 0.0]]})
