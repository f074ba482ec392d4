"""A head that lives: any length and pieces, seeds, rates, answers to voices, and no jump when turns change."""

from dataclasses import fields, replace

import numpy as np
import pytest

from avatar.speech import idle
from avatar.speech.life import Life, LifeStream
from avatar.speech.style import SpeechStyle
from avatar.speech.turns import LISTENING, SPEAKING, WAITING, Cue, Prosody, Turns

FPS = 25.0


def voice(
    seconds: float, *, phrase: float = 2.4, pause: float = 0.8, accents: bool = True, late: float = 0.0
) -> Prosody:
    """Phrases with pauses and an accent every 0.7 s; nothing is said before `late`."""
    times = np.arange(round(seconds * FPS)) / FPS
    gate = ((times - late) % (phrase + pause) < phrase) & (times >= late)
    emphasis = np.where(gate & accents, 1.6 * np.sin(2 * np.pi * times / 0.7), 0.0)
    return Prosody(gate=gate.astype(float), emphasis=emphasis)


def silence(seconds: float) -> Prosody:
    count = round(seconds * FPS)
    return Prosody(gate=np.zeros(count), emphasis=np.zeros(count))


def starts(lids: np.ndarray) -> np.ndarray:
    """Frames at which blinks begin."""
    return np.flatnonzero(np.diff((lids > 0.5).astype(int)) == 1)


def rate(life: Life) -> float:
    """Blinks a minute."""
    return 60 * len(starts(life.lids)) / (len(life.lids) / FPS)


def alive(mine: Prosody, other: Prosody | None = None, seed: int = 0, **style) -> Life:
    return LifeStream(replace(SpeechStyle(), **style), FPS, seed).push(mine, other)


@pytest.mark.parametrize("size", [1, 7, 250, 1000])
def test_the_size_of_the_pieces_changes_nothing(size):
    mine, other = voice(70, phrase=9, pause=9), voice(70, phrase=5, pause=3, late=10)
    whole = alive(mine, other, seed=3)
    stream = LifeStream(SpeechStyle(), FPS, 3)
    cuts = [slice(at, at + size) for at in range(0, len(mine.gate), size)]
    parts = [stream.push(mine.select(cut), other.select(cut)) for cut in cuts]
    for field in fields(Life):
        joined = np.concatenate([getattr(part, field.name) for part in parts])
        np.testing.assert_allclose(joined, getattr(whole, field.name), atol=1e-9, err_msg=field.name)


def test_nothing_depends_on_what_is_heard_later():
    mine, other = voice(40), voice(40, late=20, pause=1.5)
    cut = slice(0, 30 * 25)
    changed = Prosody(gate=np.where(np.arange(1000) < 750, other.gate, 1 - other.gate), emphasis=other.emphasis)
    a, b = alive(mine, other), alive(mine, changed)
    for field in fields(Life):
        np.testing.assert_array_equal(getattr(a, field.name)[cut], getattr(b, field.name)[cut])


def test_an_hour_goes_on_as_it_began_and_keeps_nothing():
    stream, minute = LifeStream(SpeechStyle(), FPS, 1), voice(60)
    kept, deviations, blinks = [], [], []
    for _ in range(60):
        life = stream.push(minute)
        kept.append(len(stream._active))
        deviations.append(life.turn.std(axis=0))
        blinks.append(rate(life))
    first, last = np.array(deviations[:20]).mean(0), np.array(deviations[-20:]).mean(0)
    np.testing.assert_allclose(last, first, rtol=0.07)  # by chance 0.065 for this seed, which every machine draws alike
    assert np.mean(blinks[-20:]) == pytest.approx(np.mean(blinks[:20]), rel=0.1)
    assert max(kept) < 30


def test_later_frames_are_the_same_when_the_earlier_were_not_made():
    mine = voice(300, accents=False)
    whole = LifeStream(SpeechStyle(), FPS, 2, talking=True).push(mine)
    late = LifeStream(SpeechStyle(), FPS, 2, first=5000, talking=True).push(mine.select(slice(5000, 7500)))
    np.testing.assert_allclose(late.turn, whole.turn[5000:], atol=1e-9)
    np.testing.assert_allclose(late.gaze, whole.gaze[5000:], atol=1e-9)
    np.testing.assert_allclose(late.lids, whole.lids[5000:], atol=1e-9)


def test_seeds_give_other_heads_and_blinks_of_the_same_kind():
    lives = [alive(voice(300), seed=seed) for seed in range(5)]
    for i in range(5):
        for j in range(i):
            assert abs(np.corrcoef(lives[i].turn[:, 1], lives[j].turn[:, 1])[0, 1]) < 0.35
            together = np.isin(starts(lives[i].lids), starts(lives[j].lids)).mean()
            assert together < 0.5, "only those at the ends of phrases may agree"
    spread = np.array([life.turn.std(axis=0) for life in lives])
    assert (spread.std(axis=0) / spread.mean(axis=0)).max() < 0.25
    again = alive(voice(300), seed=4)
    np.testing.assert_array_equal(again.turn, lives[4].turn)


@pytest.mark.parametrize("hz", [0.15, 0.28, 0.45, 0.66])
def test_people_who_speak_blink_as_often_as_their_style_says(hz):
    found = np.mean([rate(alive(voice(600), seed=seed, blink_hz=hz)) for seed in range(3)])
    assert found == pytest.approx(60 * hz, rel=0.2)


def test_people_blink_less_at_rest_than_in_conversation():
    talking, resting = (np.mean([rate(alive(v, seed=s)) for s in range(4)]) for v in (voice(600), silence(600)))
    assert 0.5 < resting / talking < 0.85


def test_pauses_between_blinks_are_skewed_as_people_s():
    pauses = np.diff(starts(alive(silence(3000), blink_hz=0.4).lids)) / FPS
    assert pauses.mean() > 1.1 * np.median(pauses)
    assert 0.5 < pauses.std() / pauses.mean() < 1.1
    assert pauses.min() > 0.25


@pytest.mark.parametrize("fps", [8.0, 25.0, 60.0])
def test_every_blink_shuts_the_eye_on_some_frame_and_is_short(fps):
    count = round(120 * fps)
    still = Prosody(gate=np.zeros(count), emphasis=np.zeros(count))
    lids = LifeStream(SpeechStyle(blink_hz=0.5), fps, 0).push(still).lids
    inside = lids > 0.01
    begins, ends = (np.flatnonzero(np.diff(inside.astype(int)) == sign) for sign in (1, -1))
    for begin, end in zip(begins, ends, strict=False):
        assert lids[begin : end + 1].max() > 0.85
    assert len(begins) > 20
    lengths = (ends[: len(begins)] - begins[: len(ends)]) / fps
    assert np.median(lengths) < 0.55 and lengths.max() < 1.1, "two in a row may touch"


def test_speech_moves_the_head_more_than_silence_and_accents_make_nods():
    speaking, plain, waiting = (
        alive(v, seed=1) for v in (voice(600), voice(600, accents=False), silence(600))
    )  # fmt: skip
    assert waiting.turn[:, 1].std() < 0.8 * speaking.turn[:, 1].std()
    assert np.abs(np.diff(speaking.turn[:, 0])).mean() > 1.5 * np.abs(np.diff(plain.turn[:, 0])).mean()


def test_nods_come_with_the_accents():
    mine = voice(600, phrase=600)
    turn = alive(mine, seed=1, head_std=(0.0, 0.0, 0.0), gaze_std=(0.0, 0.0)).turn[:, 0]
    mean = turn[: len(turn) // 35 * 35].reshape(-1, 35).mean(axis=0)  # two accents in 35 frames
    crest = np.flatnonzero(mine.emphasis[:35] > 0.8)
    assert np.ptp(mean) > 0.004
    assert (int(mean.argmax()) - crest[0]) % 17.5 < 12, "a nod is at its deepest soon after the accent begins"


def test_eyes_stay_with_the_listener_while_the_head_turns():
    life = alive(silence(300), gaze_std=(0.0, 0.0), nod_gain=0.0)
    np.testing.assert_allclose(life.gaze[:, 0], 0.8 * life.turn[:, 1])
    np.testing.assert_allclose(life.gaze[:, 1], -0.8 * life.turn[:, 0])


def test_listeners_nod_and_smile_in_the_others_pauses_and_look_at_them():
    other = voice(600, phrase=4.0, pause=1.5)
    listening, waiting = alive(silence(600), other, seed=1), alive(silence(600), seed=1)
    smiles = listening.face.max(axis=1) > 0.1
    assert 0.02 < smiles.mean() < 0.5
    assert not waiting.face.any() or waiting.face[:, 14:].max() == 0
    quick = [np.abs(np.diff(life.turn[:, 0])).max() for life in (listening, waiting)]
    assert quick[0] > 1.4 * quick[1]
    away = [(np.abs(life.gaze[:, 0] - 0.8 * life.turn[:, 1]) > 0.03).mean() for life in (listening, waiting)]
    assert away[0] < 0.7 * away[1]


def test_answers_come_after_a_pause_of_the_other_not_before():
    other = voice(300, phrase=4.0, pause=1.5, accents=False)
    life = alive(silence(300), other, seed=2, head_std=(0.0,) * 3, gaze_std=(0.0, 0.0))
    nods = starts(np.abs(np.diff(life.turn[:, 0], prepend=0.0)) / 0.003)
    since = (nods / FPS) % 5.5
    assert len(nods) > 20
    assert ((since > 4.0) | (since < 1.0)).mean() > 0.8


def test_turns_change_without_a_jump():
    mine, other = voice(600, phrase=6, pause=7), voice(600, phrase=5, pause=8, late=6.5)
    shares, cues = Turns(FPS).push(mine, other)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert {SPEAKING, LISTENING} <= set(shares.argmax(axis=1))
    assert np.abs(np.diff(shares, n=2, axis=0)).max() < 0.06
    life = alive(mine, other, seed=5)
    speed = np.abs(np.diff(life.turn, axis=0)) * FPS
    switch = np.abs(np.diff(shares[:, SPEAKING])) > 0.02
    assert speed[switch].max() <= 1.1 * speed[~switch].max()
    assert cues[0] == Cue(0, "begin", True)


def test_a_silent_conversation_becomes_a_wait():
    shares, _ = Turns(FPS).push(voice(12, phrase=3, pause=20), voice(12, phrase=2, pause=20, late=4))
    found = shares.argmax(axis=1)
    assert [found[int(s * FPS)] for s in (1.0, 5.0, 11.0)] == [SPEAKING, LISTENING, WAITING]


def test_a_person_who_is_still_by_style_is_still():
    style = {"head_std": (0.0,) * 3, "body_std": (0.0,) * 3, "gaze_std": (0.0, 0.0), "nod_gain": 0.0, "blink_hz": 0.0}
    life = alive(voice(60), voice(60, late=3), brow_gain=0.0, smile_gain=0.0, **style)
    for name in ("turn", "body", "breath", "gaze", "lids", "face"):
        assert np.abs(getattr(life, name)).max() < 1e-12, name


def test_a_moment_costs_the_same_after_days():
    style = SpeechStyle()
    times = 3e5 + np.arange(25) / FPS
    for made in (idle.head_sway(times, style, 0), idle.fixations(times, style, 0), idle.body_sway(times, style, 0)):
        assert np.isfinite(made).all() and np.abs(np.diff(made, axis=0)).max() < 0.05
    assert idle.blinks(3e5, 3e5 + 60, style, 0)
