"""What is heard as a stream: the same in any pieces, from no later sound than is said, and right about known sounds."""

import numpy as np
import pytest

pytest.importorskip("pocketsphinx", reason="the acoustic tables come with pocketsphinx")

from avatar.speech.acoustics import acoustic_tables, phone_likelihoods
from avatar.speech.features import RATE
from avatar.speech.hearing import (
    ACTIVITY,
    COLUMNS,
    LAG,
    LOOK_AHEAD,
    MEL,
    PHONE,
    PHONES,
    PITCH,
    REACH,
    VOICING,
    FeatureStream,
    hear,
)


def voice(seconds: float, pitch: float = 200.0, seed: int = 0) -> np.ndarray:
    """A buzz whose loudness and colour change, in a little noise."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 15))
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 3.0 * t)
    return (0.1 * buzz * swell + 0.001 * rng.normal(size=len(t))).astype(np.float32)


def test_stream_hears_what_is_heard_at_once():
    samples, stream, rng = voice(2.0), FeatureStream(), np.random.default_rng(1)
    rows, at = [], 0
    while at < len(samples):
        size = int(rng.integers(1, 1500))
        rows.append(stream.push(samples[at : at + size]))
        at += size
    pieces, whole = np.concatenate([*rows, stream.finish()]), hear(samples)
    assert whole.shape == (200, COLUMNS)
    np.testing.assert_allclose(pieces, whole, atol=1e-4)


def test_row_depends_on_no_sound_after_its_look_ahead():
    samples = voice(1.5)
    other = samples.copy()
    moment = 0.8
    other[round((moment + LOOK_AHEAD) * RATE) + 1 :] = voice(3.0, 90.0, seed=5)[: len(other)][
        round((moment + LOOK_AHEAD) * RATE) + 1 :
    ]
    last = round(moment * 100)
    np.testing.assert_array_equal(hear(samples)[: last + 1], hear(other)[: last + 1])
    assert np.abs(hear(samples)[last + 1 : last + 4] - hear(other)[last + 1 : last + 4]).max() > 1e-3


def test_stream_tells_rows_as_soon_as_their_look_ahead_was_heard():
    stream = FeatureStream()
    told = len(stream.push(voice(1.0)))
    assert told == int((1.0 - LOOK_AHEAD) * 100) + 1


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 161, 1000])
def test_short_sounds_have_a_row_for_every_hundredth_begun(samples):
    rows = hear(voice(1.0)[:samples])
    assert rows.shape == (max(-(-samples // 160), 1), COLUMNS)
    assert np.isfinite(rows).all()


def test_pitch_and_voicing_of_a_buzz_and_of_noise():
    rows = hear(voice(1.0, 200.0))[20:80]
    assert np.median(rows[:, PITCH]) == pytest.approx(1.0, abs=0.03)
    assert np.median(rows[:, VOICING]) > 0.9
    hiss = hear(0.1 * np.random.default_rng(0).normal(size=RATE).astype(np.float32))
    assert np.median(hiss[:, VOICING]) < 0.5


def test_activity_follows_the_voice_and_ignores_steady_noise():
    rng = np.random.default_rng(0)
    quiet = 0.002 * rng.normal(size=2 * RATE).astype(np.float32)
    samples = np.concatenate([quiet, voice(1.0) + quiet[:RATE], quiet])
    active = hear(samples)[:, ACTIVITY]
    assert active[150:190].max() < 0.3
    assert np.median(active[220:290]) > 0.9
    assert active[360:].max() < 0.3


def test_gain_changes_the_bands_of_speech_little():
    samples = voice(4.0)
    loud, faint = hear(samples)[250:], hear(0.2 * samples)[250:]
    assert np.abs(loud[:, MEL] - faint[:, MEL]).mean() < 0.1


def test_what_comes_is_guessed_from_what_was_heard_and_nearly_as_it_turns_out():
    samples, stream = voice(1.5), FeatureStream()
    rows = stream.push(samples)
    phones, active = stream.coming()
    other, last = FeatureStream(), round(0.8 * 100)
    known = other.push(np.concatenate([samples[: round((0.8 + LOOK_AHEAD) * RATE) + 1], voice(0.5, 90.0, seed=5)]))
    np.testing.assert_array_equal(known[last], rows[last])
    for guess, same in zip(other.coming(), (phones, active), strict=True):
        np.testing.assert_array_equal(guess[last], same[last])
    assert phones.shape == (len(rows), LAG, PHONES) and active.shape == (len(rows), REACH)
    np.testing.assert_allclose(phones.sum(2), 1.0, atol=1e-5)
    np.testing.assert_array_equal(active[:-REACH, 2], rows[3 : 3 + len(rows) - REACH, ACTIVITY])
    errors = [np.abs(phones[:-LAG, i] - rows[i + 1 : len(rows) - LAG + i + 1, PHONE]).mean() for i in (0, LAG - 1)]
    assert errors[0] < errors[1]


def test_posteriors_are_shares_of_all_phones():
    rows = hear(voice(0.5))
    np.testing.assert_allclose(rows[:, PHONE].sum(1), 1.0, atol=1e-5)
    assert (rows[:, PHONE] >= 0).all()


def test_lips_are_heard_to_close_where_a_voice_closes_them():
    pytest.importorskip("espeakng_loader")
    from avatar.speech.features import speech_samples
    from avatar.speech.voices import EspeakVoice

    said = EspeakVoice().say("Maybe papa met Bob and mama by the big map.", "en-us")
    names = acoustic_tables().phones
    labial = hear(speech_samples(said.audio))[:, PHONE][:, [names.index(p) for p in "PBM"]].sum(1)
    inside = np.zeros(len(labial), bool)
    for phone in said.phones:
        if phone.symbol in ("P", "B", "M"):
            inside[round(phone.start * 100) : round(phone.end * 100)] = True
    assert labial[inside].mean() > 2.5 * labial[~inside].mean()


def test_likelihood_is_highest_at_the_mean_of_a_phone_own_gaussians():
    tables = acoustic_tables()
    for name in ("IY", "S", "AA", "UW"):
        phone = tables.phones.index(name)
        best = tables.weights[:, phone, :, 1].argmax(1)
        own = [tables.quadratic[i, phone, :, best[i]] for i in range(3)]
        # From the coefficients of (x*x, x): the mean is where the density is highest.
        means = [-row[13:26] / (2 * row[:13]) for row in own]
        found = phone_likelihoods(np.stack(means)[None].astype(np.float32), tables).max(2)[0]
        found[[not other.isalpha() for other in tables.phones]] = -np.inf
        assert tables.phones[int(found.argmax())] == name
