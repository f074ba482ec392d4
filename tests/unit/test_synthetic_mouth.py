"""Drawn people speak as they did when they were first measured on, whatever becomes of the rules of speech."""

import numpy as np

from avatar.core import AudioTrack
from avatar.speech.phones import SILENCE, Phone
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.style import SpeechStyle, lips_only
from avatar.speech.visemes import AVERAGE, LIP_GAP_MM, LIP_WIDTH_MM, VISEMES
from avatar.synthetic.mouth import DRAWN

GAP = [14.801, 8.661, 2.211, -2.497, 4.248, 4.525, 5.835, 1.703, 5.682]
WIDTH = [0.984, -0.366, -5.067, 2.258, 1.762, 1.523, -4.539, -3.549, 0.591]
"""Millimetres, every 0.4 s."""


def _spoken(mouth, symbols: list[str]) -> np.ndarray:
    """ARKit coefficients every 20 ms of a sound in which a phone lasts 0.1 s, after 0.3 s of silence."""
    phones = [Phone(SILENCE, 0.0, 0.3)]
    phones += [Phone(s, 0.3 + 0.1 * i, 0.4 + 0.1 * i) for i, s in enumerate(symbols)]
    seconds = phones[-1].end
    time = np.arange(round(seconds * 16_000)) / 16_000
    tone = 0.1 * np.sign(np.sin(2 * np.pi * 120 * time)) * (time > 0.3)
    audio = AudioTrack(samples=tone.astype(np.float32), rate=16_000)
    return RuleMotion(lips_only(SpeechStyle()), lambda _: [phones], mouth)(audio, 50.0).expression.numpy()


def test_drawn_people_speak_as_they_did_when_they_were_measured_on():
    spoken = _spoken(DRAWN, [s for s in VISEMES if s not in (SILENCE, "O")])
    gap, width = spoken @ LIP_GAP_MM, spoken @ LIP_WIDTH_MM
    # Read on 30 November 2026; whoever changes these changes the films of every benchmark with drawn people.
    np.testing.assert_allclose(gap[20::20], GAP, atol=2e-3)
    np.testing.assert_allclose(width[20::20], WIDTH, atol=2e-3)


def test_lips_that_shut_do_not_draw_the_corners_of_the_mouth_out():
    spoken = _spoken(AVERAGE, ["AH", "B", "AH", "AH"])
    shut, width = spoken @ LIP_GAP_MM < -1.0, spoken @ LIP_WIDTH_MM
    closure = np.flatnonzero(shut[20:32]) + 20
    assert len(closure) and width[closure].max() <= width[15]


def test_o_is_half_as_open_as_a_and_i_more_than_u():
    gap = {s: float((_spoken(AVERAGE, ["HH", s, s, s]) @ LIP_GAP_MM)[28]) for s in ("AA", "AO", "IY", "UW")}
    assert 0.4 < gap["AO"] / gap["AA"] < 0.6 and gap["IY"] > 3 * gap["UW"]
