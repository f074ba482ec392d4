"""Emotions on a speaking face: where they act, how they grow, and that the lips still meet."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.face.arkit import INDEX, NAMES
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.speech.emotion import EMOTIONS, REGIONS, Feeling, mood, offsets
from avatar.speech.phones import Phone
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.style import Direction, SpeechStyle, directed
from avatar.speech.visemes import ARKIT_INDEX, LIP_GAP_MM
from tests.unit.test_speech_lips_on_rig import lips
from tests.unit.test_speech_rule_motion import move, spoken

WORDS = "AA P AA B IY M AE F OW M UW"
UPPER = np.array([name.startswith(("brow", "eye")) for name in NAMES])


@pytest.fixture(scope="module")
def head() -> PersonalRig:
    rig = AnnyRig.load()
    return rig.personal(torch.zeros(rig.identity_size))


def said(feeling: Feeling | None, fps: float = 25.0, **gains: float):
    direction = replace(Direction(feelings=(feeling,) if feeling else ()), **gains)
    return move(WORDS, fps, style=directed(SpeechStyle(blink_hz=0.0), direction))


def test_every_part_of_every_emotion_is_an_action_of_the_face():
    for emotion, parts in EMOTIONS.items():
        named = {n for part in parts for n in (part, f"{part}Left", f"{part}Right") if n in INDEX}
        assert all({part, f"{part}Left"} & named or part in named for part in parts), emotion
        assert {NAMES[i] for i in np.flatnonzero(offsets(emotion))} == named


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_intensity_moves_each_of_its_coefficients_one_way(emotion):
    steps = np.stack([said(Feeling(emotion=emotion, intensity=i)).expression.numpy() for i in np.linspace(0.0, 1.0, 6)])
    assert np.diff(steps, axis=0).min() >= 0
    moved = offsets(emotion) > 0
    assert ((steps[-1] - steps[0]).max(axis=0)[moved] > 0.04).all()
    assert not (steps[-1] - steps[0])[:, ~moved].any()


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_lips_meet_at_bilabials_and_in_silence_whatever_is_felt(emotion, head):
    motion, plain = said(Feeling(emotion=emotion)), said(None)
    upper, lower, *_ = lips(head)

    def gap(expression: torch.Tensor) -> torch.Tensor:
        still = torch.zeros(len(expression), 3), torch.zeros(len(expression), 2, 2)
        posed = head.vertices(expression, *still)
        return 1000 * (posed[:, lower, 1] - posed[:, upper, 1])

    shut = gap(plain.expression) < 0.2
    assert shut[13:].sum() > 8, "the plain words have closures"
    assert gap(motion.expression)[shut].max() < 0.3


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("region", ["upper", "lower"])
def test_a_region_keeps_an_emotion_to_itself(emotion, region):
    change = (said(Feeling(emotion=emotion, region=region)).expression - said(None).expression).numpy()
    outside = ~UPPER if region == "upper" else UPPER
    assert not change[:, outside].any()


def test_regions_split_the_face_and_a_mix_is_the_sum_of_its_parts():
    for emotion in EMOTIONS:
        whole = offsets(emotion)
        np.testing.assert_allclose(offsets(emotion, "upper") + offsets(emotion, "lower"), whole)
        np.testing.assert_allclose(sum(offsets(emotion, r) for r in ("brows", "eyes", "cheeks", "mouth")), whole)
    mixed = mood([Feeling(emotion="joy", intensity=0.5, region="lower"), Feeling(emotion="anger", region="upper")])
    assert mixed[INDEX["mouthSmileLeft"]] == pytest.approx(0.4)
    assert mixed[INDEX["browDownLeft"]] == pytest.approx(0.9)
    assert mixed[INDEX["mouthPressLeft"]] == 0


def test_feelings_are_read_as_they_are_written():
    assert Feeling.read("joy") == Feeling(emotion="joy")
    assert Feeling.read("Surprise=.5@upper") == Feeling(emotion="surprise", intensity=0.5, region="upper")
    assert set(REGIONS) > {"upper", "lower"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bliss", "choose one of joy"),
        ("joy=2", "outside 0 to 1"),
        ("joy=much", "cannot be read"),
        ("joy=0.5@nose", "choose one of face"),
        ("joy=nan", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_feelings_that_there_are_not_are_refused(text, complaint):
    with pytest.raises(InputError, match=complaint):
        Feeling.read(text)


def test_a_wider_mouth_is_asked_for_and_no_mouth_stays_shut():
    def opening(mouth: float) -> np.ndarray:
        return said(None, mouth=mouth).expression.numpy() @ LIP_GAP_MM

    none, half, own, wide = (opening(mouth) for mouth in (0.0, 0.5, 1.0, 1.5))
    assert none.max() <= 0.01
    open_ = own > 2.0
    assert (half[open_] < own[open_]).all() and (own[open_] < wide[open_]).all()
    assert wide[own < -0.5].max() < 0.2, "closures stay"


def test_the_gain_of_the_mouth_reaches_beyond_what_the_film_has_shown():
    ceiling = tuple(0.2 for _ in NAMES)
    audio, phones = spoken("AA AA AA")

    def jaw(mouth: float) -> float:
        style = directed(SpeechStyle(ceiling=ceiling), Direction(mouth=mouth))
        return float(RuleMotion(style, hear=lambda _: [phones])(audio, 25.0).expression[:, INDEX["jawOpen"]].max())

    assert jaw(1.0) == pytest.approx(0.2)
    assert jaw(1.5) == pytest.approx(0.3, abs=0.01)


def test_the_gain_of_the_head_moves_head_and_body_and_nothing_else():
    calm, own = said(None, head=0.0), said(None)
    assert calm.neck.abs().max() == 0 and calm.T_world_head[:, :3, 3].abs().max() == 0 and calm.torso.abs().max() == 0
    assert own.neck.abs().max() > 0.005
    mouth = [INDEX[n] for n in NAMES if n.startswith(("jaw", "mouth"))]
    torch.testing.assert_close(calm.expression[:, mouth], own.expression[:, mouth], rtol=0, atol=0)


def test_the_gain_of_the_expression_scales_an_emotion():
    half = said(Feeling(emotion="joy", intensity=0.5)).expression
    torch.testing.assert_close(said(Feeling(emotion="joy"), expression=0.5).expression, half, atol=0.05, rtol=0)


@pytest.mark.parametrize("gain", ["mouth", "head", "expression"])
def test_gains_out_of_range_are_refused(gain):
    with pytest.raises(InputError, match=f"{gain} gain -1 is outside"):
        replace(Direction(), **{gain: -1.0})


def test_an_eye_that_blinks_is_not_wide():
    audio = AudioTrack(samples=np.zeros(16_000 * 60, np.float32), rate=16_000)
    style = replace(SpeechStyle(), mood=mood([Feeling(emotion="fear")]))
    motion = RuleMotion(style, hear=lambda _: [[Phone("SIL", 0.0, 60.0)]])(audio, 25.0).expression
    shut = motion[:, INDEX["eyeBlinkLeft"]] > 0.9
    assert shut.sum() > 5
    assert motion[shut, INDEX["eyeWideLeft"]].max() < 0.1
    assert all(ARKIT_INDEX[name] == INDEX[name] for name in ("eyeWideLeft", "eyeWideRight"))
