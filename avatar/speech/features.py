"""What is heard, 100 times a second: log-mel bands, loudness and voice activity. 16 kHz mono, numpy and scipy only."""

from math import gcd

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d, percentile_filter
from scipy.signal import resample_poly

from avatar.core import AudioTrack

RATE = 16_000
"""Samples a second of everything in this package."""
HOP = 160
"""Samples from one feature frame to the next (10 ms)."""
WINDOW = 400
"""Samples seen by one feature frame (25 ms), centred on it."""
SILENCE_DB = -85.0
"""Nothing quieter than this (re full scale) counts as sound, whatever the gain of the recording."""
_NOISY, _NEAR = 20.0, 70
"""dB from the noise to the speaker's level up to which loudness tells little of who speaks when; hundredths of a second
about a voice in which sound may be its own."""
BLOCK = 4096
"""Feature frames computed at once: memory does not grow with the length of the sound by more than its features."""


def speech_samples(audio: AudioTrack) -> Float[np.ndarray, "s"]:
    """The sound at 16 kHz, float32."""
    if audio.rate == RATE:
        return audio.samples
    divisor = gcd(RATE, audio.rate)
    return resample_poly(audio.samples, RATE // divisor, audio.rate // divisor).astype(np.float32)


def mel_filters(bands: int, low: float = 60.0, high: float = 7600.0) -> Float[np.ndarray, "b f"]:
    """Triangular filters on the mel scale (Davis and Mermelstein 1980) over the bins of a `WINDOW`-long spectrum."""
    mel = np.linspace(1127.0 * np.log1p(low / 700.0), 1127.0 * np.log1p(high / 700.0), bands + 2)
    edges = np.minimum(700.0 * np.expm1(mel / 1127.0), RATE / 2 - np.arange(bands + 2)[::-1] * 1e-3)
    frequency = np.fft.rfftfreq(512, 1.0 / RATE)
    up = (frequency - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - frequency) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(up, down)).astype(np.float32)


def log_mel(samples: Float[np.ndarray, "s"], bands: int = 80) -> Float[np.ndarray, "n b"]:
    """Mel-band power in dB re full scale, one row every 10 ms; row i is centred on sample i * HOP."""
    filters = mel_filters(bands).T
    window = np.hanning(WINDOW).astype(np.float32)
    count = max(-(-len(samples) // HOP), 1)
    padded = np.pad(samples, (WINDOW // 2, WINDOW + HOP))
    out = np.empty((count, bands), np.float32)
    for first in range(0, count, BLOCK):
        rows = np.arange(first, min(first + BLOCK, count))
        frames = padded[rows[:, None] * HOP + np.arange(WINDOW)] * window
        power = np.abs(np.fft.rfft(frames, 512)).astype(np.float32) ** 2 / (window.sum() / 2) ** 2
        out[rows] = 10.0 * np.log10(power @ filters + 1e-12)
    return out


def loudness(samples: Float[np.ndarray, "s"]) -> Float[np.ndarray, "n"]:
    """Energy of the bands of speech (60-7600 Hz, the lows weighted down) in dB re full scale, every 10 ms."""
    bands = log_mel(samples, 20)
    weight = np.ones(20, np.float32)
    weight[:2] = 0.1  # hum and rumble live below ~200 Hz
    power = (10.0 ** (bands / 10.0)) @ weight
    return np.maximum(10.0 * np.log10(power + 1e-12), SILENCE_DB).astype(np.float32)


def voice_activity(samples: Float[np.ndarray, "s"]) -> Bool[np.ndarray, "n"]:
    """Where somebody speaks, every 10 ms.

    The noise floor is the minimum of the smoothed loudness around each moment (minimum statistics, Martin 2001), the
    speaker's level a high percentile; both follow the recording, so a gain or steady noise changes nothing. Two
    thresholds (hysteresis) and a minimum length keep syllables together and drop clicks.
    """
    return _active(*_levels(samples))


def activity_near(
    samples: Float[np.ndarray, "s"], voice: Bool[np.ndarray, "n"], surely: Bool[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    """Where somebody speaks, every 10 ms: what is loud counts as speech where a voice is near.

    Loudness knows syllables and pauses to a hundredth of a second, whoever hears voices to some tenths. In loud noise,
    loudness knows less: there `surely`, where a voice is heard without doubt, is speech as well.
    """
    level, floor, speech = _levels(samples)
    noisy = (speech - floor < _NOISY) & (speech > SILENCE_DB + _NOISY)
    return (_active(level, floor, speech) | (noisy & surely)) & maximum_filter1d(voice, 2 * _NEAR + 1)


def activity_gate(active: Bool[np.ndarray, "n"], lead: float, tail: float) -> Float[np.ndarray, "n"]:
    """1 while the mouth may move, 0 in silence; opens `lead` seconds before the voice and shuts `tail` after it."""
    wide = np.zeros(len(active) + 1, np.float32)
    starts, ends = _runs(active)
    for start, end in zip(starts, ends, strict=True):
        wide[max(start - round(lead * 100), 0)] += 1
        wide[min(end + round(tail * 100), len(active))] -= 1
    gate = (np.cumsum(wide)[:-1] > 0).astype(np.float32)
    return np.clip(gaussian_filter1d(gate, 4.0, mode="nearest"), 0.0, 1.0)


def _levels(samples: Float[np.ndarray, "s"]) -> tuple[Float[np.ndarray, "n"], ...]:
    """Smoothed loudness, the noise's and the speaker's level around each moment, every 10 ms, dB re full scale."""
    level = gaussian_filter1d(loudness(samples), 2.0, mode="nearest")
    speech = percentile_filter(maximum_filter1d(level, 21, mode="nearest"), 80, 801, mode="nearest")
    return level, _noise_floor(level), speech


def _active(
    level: Float[np.ndarray, "n"], floor: Float[np.ndarray, "n"], speech: Float[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    span = speech - floor
    on = np.maximum(floor + np.maximum(9.0, 0.35 * span), speech - 22.0)
    off = np.maximum(floor + np.maximum(6.0, 0.22 * span), speech - 30.0)
    active = _hysteresis(level > on, level > off)
    return _without_short(_without_short(active, 15, value=False), 6, value=True)


def _noise_floor(level: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    lowest = minimum_filter1d(level, 601, mode="nearest")
    return gaussian_filter1d(lowest, 100.0, mode="nearest")


def _hysteresis(strong: Bool[np.ndarray, "n"], weak: Bool[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    starts, ends = _runs(weak)
    out = np.zeros(len(weak), bool)
    for start, end in zip(starts, ends, strict=True):
        out[start:end] = strong[start:end].any()
    return out


def _without_short(active: Bool[np.ndarray, "n"], shortest: int, *, value: bool) -> Bool[np.ndarray, "n"]:
    out = active.copy()
    starts, ends = _runs(active == value)
    for start, end in zip(starts, ends, strict=True):
        if end - start < shortest and (value or (start > 0 and end < len(active))):
            out[start:end] = not value
    return out


def _runs(active: Bool[np.ndarray, "n"]) -> tuple[np.ndarray, np.ndarray]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    return edges[::2], edges[1::2]
