"""Lips that move while somebody speaks: the same in any pieces, of no later sound, and like those of the whole."""

import numpy as np
import pytest
import torch

pytest.importorskip("pocketsphinx", reason="the acoustic tables come with pocketsphinx")

from avatar.core import AudioTrack
from avatar.media.audio import SoundStream
from avatar.speech import live_motion
from avatar.speech.features import RATE, speech_samples
from avatar.speech.lip_net import CURVES, WEIGHTS, load_net
from avatar.speech.live_motion import DELAY, LiveMotion
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.style import SpeechStyle
from avatar.speech.visemes import ALIKE, LIP_GAP_MM
from avatar.speech.voices import EspeakVoice, Utterance
from tests.unit.test_speech_vad import chords


@pytest.fixture(scope="module")
def said() -> Utterance:
    """A sentence by a voice, whose phones are known."""
    pytest.importorskip("espeakng_loader", reason="a voice is needed")
    return EspeakVoice().say("My mother bought a big umbrella before the movie.", "en+f3")


@pytest.fixture(scope="module")
def spoken(said) -> np.ndarray:
    """Its sound, 16 kHz."""
    return speech_samples(said.audio)


def expression(
    samples: np.ndarray, size: int = 640, fps: float = 25.0, style: SpeechStyle | None = None
) -> torch.Tensor:
    live = LiveMotion(style or SpeechStyle(), fps)
    parts = [live.push(samples[at : at + size]) for at in range(0, len(samples), size)]
    return torch.cat([part.expression for part in parts if part is not None])


@pytest.mark.parametrize("size", [160, 1777, 10**6])
def test_the_size_of_the_pieces_changes_nothing(size, spoken) -> None:
    samples = spoken[: round(1.2 * RATE)]
    torch.testing.assert_close(expression(samples, size), expression(samples), atol=1e-4, rtol=0)


@pytest.mark.parametrize("fps", [23.976, 30.0])
def test_frames_come_as_soon_as_their_delay_was_heard_and_depend_on_nothing_later(fps, spoken) -> None:
    samples, moment = spoken[: round(1.5 * RATE)], 0.8
    other = samples.copy()
    other[round((moment + DELAY) * RATE) + 1 :] = 0.0
    a, b = expression(samples, fps=fps), expression(other, fps=fps)
    assert len(a) >= int((1.5 - DELAY - 0.01) * fps) + 1
    last = int(moment * fps)
    torch.testing.assert_close(a[: last + 1], b[: last + 1])
    assert (a[last + 1 :] - b[last + 1 :]).abs().max() > 1e-3


def test_a_voice_moves_the_lips_as_the_phones_that_it_says_and_silence_does_not(said, spoken) -> None:
    samples = np.concatenate([spoken, np.zeros(RATE, np.float32)])
    live = expression(samples).numpy() @ LIP_GAP_MM
    known = RuleMotion(hear=lambda _: [said.phones])(AudioTrack(samples=samples, rate=RATE), 25.0)
    wanted = (known.expression.numpy() @ LIP_GAP_MM)[: len(live)]
    assert np.corrcoef(live, wanted)[0, 1] > 0.8
    assert np.abs(live[-12:]).max() < 0.5
    assert np.abs(expression(0.0005 * np.random.default_rng(0).normal(size=RATE).astype(np.float32))[-1, 17]) < 0.02


@pytest.mark.parametrize("voice", ["en", "en+f3"])
def test_lips_move_about_as_far_as_for_known_phones(voice) -> None:
    """Over three sentences: of one, the breath of the second voice changes the ratio by 0.01 from saying to saying."""
    pytest.importorskip("espeakng_loader", reason="a voice is needed")
    text = (
        "My mother bought a big umbrella before the movie. They walked along the river all afternoon, and we talked "
        "about the farm. Nobody wanted to open the door, so the children waited outside for an hour."
    )
    said = EspeakVoice().say(text, voice)
    live = expression(speech_samples(said.audio)).numpy() @ LIP_GAP_MM
    wanted = RuleMotion(hear=lambda _: [said.phones])(said.audio, 25.0).expression.numpy()[: len(live)] @ LIP_GAP_MM
    assert 0.68 < live.std() / wanted.std() < 1.4


def test_habits_move_the_lips_as_in_the_rules_and_leave_silence_alone(spoken) -> None:
    samples = np.concatenate([spoken, np.zeros(RATE, np.float32)])
    alternating = SpeechStyle(habits=tuple((4.0 * (-1) ** k, 0.0) for k in range(len(ALIKE))))

    def change(motions: list[np.ndarray]) -> np.ndarray:
        plain, own = (np.maximum(motion @ LIP_GAP_MM, 0.0) for motion in motions)
        return own - plain

    sound = AudioTrack(samples=samples, rate=RATE)
    live = change([expression(samples, style=style).numpy() for style in (None, alternating)])
    rule = change([RuleMotion(style)(sound, 25.0).expression.numpy() for style in (None, alternating)])[: len(live)]
    assert np.corrcoef(live, rule)[0, 1] > 0.7
    assert 0.5 < live.std() / rule.std() < 2.0
    assert np.abs(live[-12:]).max() < 0.1


def test_lips_shut_where_the_network_hears_a_closure(spoken, monkeypatch) -> None:
    sure = load_net(WEIGHTS)
    with torch.no_grad():
        sure.leave.bias[CURVES] += 20.0
    gap = expression(spoken).numpy() @ LIP_GAP_MM
    monkeypatch.setattr(live_motion, "shipped_net", lambda: sure)
    shut = expression(spoken).numpy() @ LIP_GAP_MM
    assert (shut <= gap + 1e-3).all()
    assert np.maximum(shut, 0.0).mean() < 0.7 * np.maximum(gap, 0.0).mean()


def test_music_does_not_move_the_lips_and_a_voice_after_it_does(spoken) -> None:
    live = expression(np.concatenate([chords(3.0), spoken])) @ torch.from_numpy(LIP_GAP_MM).float()
    assert live[: round(2.9 * 25)].abs().max() < 0.3
    alone = expression(spoken) @ torch.from_numpy(LIP_GAP_MM).float()
    assert live[round(3.3 * 25) :].max() > 0.8 * alone.max()


def test_a_stream_of_sound_at_another_rate_is_the_sound() -> None:
    times = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * times).astype(np.float32)
    stream = SoundStream(RATE)
    pieces = [stream.push(AudioTrack(samples=tone[at : at + 1411], rate=44_100)) for at in range(0, len(tone), 1411)]
    found = np.concatenate(pieces)
    assert len(found) > RATE - 200
    wanted = np.sin(2 * np.pi * 440 * np.arange(len(found)) / RATE)
    assert np.abs(found - wanted)[100:-100].max() < 0.02
