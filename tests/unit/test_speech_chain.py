"""Courses of speech drawn from the chain of phones: where the sound is clear they agree, elsewhere they differ."""

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("pocketsphinx", reason="the phone model comes with pocketsphinx")

from avatar.speech.acoustics import acoustic_tables
from avatar.speech.chain import courses, followers

NAMES = acoustic_tables().phones


def likelihoods(spoken: str, clear: float, frames: int = 12) -> np.ndarray:
    """Log densities of one hearing in which each phone lasts `frames` and stands out by `clear`."""
    symbols = spoken.split()
    out = np.zeros((1, frames * len(symbols), len(NAMES), 3), np.float32)
    for i, symbol in enumerate(symbols):
        for state in range(3):
            part = slice(frames * i + state * frames // 3, frames * i + (state + 1) * frames // 3)
            out[0, part, NAMES.index(symbol), state] = clear
    return out


def drawn(spoken: str, clear: float, count: int = 200) -> list[list[tuple[int, int, int]]]:
    return courses(likelihoods(spoken, clear), count, np.random.default_rng(0))


def test_chances_of_followers_are_chances():
    np.testing.assert_allclose(followers().sum(axis=1), 1.0)
    after_ng = followers()[NAMES.index("NG")]
    assert after_ng[NAMES.index("K")] > 5 * after_ng[NAMES.index("NG")]


def test_clear_speech_is_heard_alike_in_all_courses():
    for course in drawn("SIL M AA P IY SIL", clear=60.0):
        assert [NAMES[p] for p, _, _ in course] == ["SIL", "M", "AA", "P", "IY", "SIL"]
        assert [start for _, start, _ in course] == [0, 12, 24, 36, 48, 60]


def test_courses_have_no_gap_and_no_phone_shorter_than_its_states():
    for course in drawn("SIL M AA P IY SIL", clear=3.0):
        assert course[0][1] == 0 and course[-1][2] == 72
        assert all(before[2] == after[1] for before, after in pairwise(course))
        assert all(end - start >= 3 for _, start, end in course[1:-1])


def test_two_phones_that_sound_alike_share_the_courses_by_their_chances():
    densities = likelihoods("AA B AA", clear=60.0)
    densities[0, 12:24, NAMES.index("P")] = densities[0, 12:24, NAMES.index("B")]
    heard = [NAMES[course[1][0]] for course in courses(densities, 1000, np.random.default_rng(0))]
    chance = {name: followers()[NAMES.index("AA"), NAMES.index(name)] for name in ("B", "P")}
    chance = {name: value * followers()[NAMES.index(name), NAMES.index("AA")] for name, value in chance.items()}
    assert set(heard) == {"B", "P"}
    assert heard.count("B") / 1000 == pytest.approx(chance["B"] / sum(chance.values()), abs=0.05)
