"""Where a voice is fainter for a moment the mouth is narrower, and nowhere else."""

import numpy as np
import pytest

from avatar.speech.valleys import AROUND, narrowed, valleys, valleys_at
from avatar.speech.visemes import ARTICULATORS, AVERAGE, JAW, LIP_GAP_MM, PRESS


def level(*parts: tuple[float, int]) -> np.ndarray:
    """Loudness (dB) held for so many rows each."""
    return np.concatenate([np.full(rows, db, np.float32) for db, rows in parts])


def depth(loud: np.ndarray) -> np.ndarray:
    return valleys_at(loud, np.arange(len(loud)) / 100)


def test_a_dip_between_two_vowels_is_a_valley_as_deep_as_it_is_faint():
    deep = depth(level((-20, 40), (-45, 7), (-20, 40)))
    half = depth(level((-20, 40), (-28, 7), (-20, 40)))
    assert deep[43] == pytest.approx(1.0)
    assert 0.2 < half[43] < 0.7
    assert deep[:30].max() == deep[60:].max() == 0.0


def test_beginning_end_pause_and_steady_sounds_are_none():
    assert depth(level((-20, 100))).max() == 0.0
    assert depth(level((-80, 50), (-20, 50))).max() < 1e-6
    assert depth(level((-20, 50), (-80, 50))).max() < 1e-6
    assert depth(level((-20, 50), (-80, 60), (-20, 50)))[80] == 0.0


def test_a_noise_that_nobody_hears_has_no_valleys():
    assert depth(np.random.default_rng(0).uniform(-85, -51, 200).astype(np.float32)).max() == 0.0


def test_a_moment_knows_what_is_around_it_only():
    loud = np.random.default_rng(1).uniform(-50, -10, 200).astype(np.float32)
    window = loud[100 - AROUND : 100 + AROUND + 1]
    assert valleys(window[None])[0] == pytest.approx(depth(loud)[100], abs=1e-6)
    assert len(window) == 2 * AROUND + 1


def opened(jaw: float, press: float = 0.0) -> np.ndarray:
    curves = np.zeros((1, len(ARTICULATORS)), np.float32)
    curves[0, [JAW, PRESS]] = jaw, press
    return curves


def gap(curves: np.ndarray) -> float:
    return float((curves @ AVERAGE.actions @ LIP_GAP_MM)[0])


def test_valleys_narrow_an_opening_and_shut_none():
    wide = opened(0.8)
    assert gap(narrowed(wide, AVERAGE, np.zeros(1))) == pytest.approx(gap(wide), rel=0.03)
    inside = gap(narrowed(wide, AVERAGE, np.ones(1)))
    assert 0.6 * gap(wide) < inside < 0.8 * gap(wide)
    little = opened(0.8 * 2.0 / gap(wide))
    assert gap(narrowed(little, AVERAGE, np.ones(1))) == pytest.approx(1.6, abs=0.02)
    for shut in (opened(0.8 * 1.0 / gap(wide)), opened(0.0, 1.0)):
        assert gap(narrowed(shut, AVERAGE, np.ones(1))) == pytest.approx(gap(shut), abs=1e-5)


def test_a_person_who_opens_half_as_far_is_narrowed_to_half():
    wide = opened(0.8)
    little = opened(0.8 * 1.0 / gap(wide))
    assert gap(narrowed(little, AVERAGE, np.ones(1), gain=0.5)) == pytest.approx(0.8, abs=0.02)
