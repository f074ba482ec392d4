"""What recordings do to a voice: other throats, rooms, microphones, noise, music, telephones, clipping. From a seed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.signal import butter, fftconvolve, firwin2, resample_poly, sosfilt

from avatar.speech.features import RATE

Sound = Float[np.ndarray, "s"]


def degraded(sound: Sound, others: Sequence[Sound], rng: np.random.Generator) -> Sound:
    """`sound` (16 kHz) as some phone, room or street would give it, equally long and in time with it.

    Args:
        others: voices for a murmur in the background.
    """
    sound = _equalised(sound, rng)
    if rng.random() < 0.35:
        sound = _in_a_room(sound, rng)
    if rng.random() < 0.7:
        sound = _with(sound, noise(len(sound), rng), rng.uniform(8, 40))
    if rng.random() < 0.15:
        sound = _with(sound, music(len(sound), rng), rng.uniform(8, 25))
    if others and rng.random() < 0.1:
        murmur = sum(np.resize(other, len(sound)) for other in others)
        sound = _with(sound, np.asarray(murmur, np.float32), rng.uniform(12, 25))
    kind = rng.random()
    if kind < 0.08:
        sound = _telephone(sound)
    elif kind < 0.25:
        sound = np.asarray(sosfilt(butter(6, rng.uniform(3000, 7500), fs=RATE, output="sos"), sound))
    sound = sound / max(float(np.abs(sound).max()), 1e-6)
    sound = sound * 10 ** (rng.uniform(-24, 0) / 20) if rng.random() < 0.95 else np.clip(3 * sound, -1, 1)
    return np.asarray(sound, np.float32)


def throat(sound: Sound, percent: int) -> Sound:
    """The sound played at `percent` of its speed, and so of its pitch and its resonances: another throat."""
    return resample_poly(sound, 100, percent).astype(np.float32) if percent != 100 else sound


def noise(count: int, rng: np.random.Generator) -> Sound:
    """Noise of a random colour whose strength comes and goes."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    colour = np.maximum(np.arange(len(spectrum)), 20.0) ** -rng.uniform(0.0, 1.2)
    hiss = np.fft.irfft(spectrum * colour, count)
    knots = rng.uniform(0.3, 1.0, count // RATE + 2)
    return (hiss * np.interp(np.arange(count) / RATE, np.arange(len(knots)), knots)).astype(np.float32)


def music(count: int, rng: np.random.Generator) -> Sound:
    """Chords of decaying harmonic notes over a drum of noise."""
    out, at = np.zeros(count + 2 * RATE), 0
    beat = int(rng.uniform(0.2, 0.6) * RATE)
    key, timbre = rng.uniform(80, 200), rng.uniform(0.5, 1.5)
    time = np.arange(2 * RATE) / RATE
    while at < count:
        for step in rng.choice([0, 2, 4, 5, 7, 9, 11, 12, 16, 19, 24], int(rng.integers(1, 4))):
            pitch = key * 2 ** (step / 12)
            harmonics = np.arange(1, int(min(12, 7000 // pitch)) + 1)
            tone = (np.sin(2 * np.pi * pitch * harmonics[:, None] * time) * harmonics[:, None] ** -timbre).sum(0)
            out[at : at + len(time)] += tone * np.exp(-time / rng.uniform(0.1, 0.8))
        if rng.random() < 0.7:
            out[at : at + 2000] += rng.normal(size=2000) * np.exp(-np.arange(2000) / 400) * 1.5
        at += beat * int(rng.integers(1, 3))
    return out[:count].astype(np.float32)


def _with(sound: Sound, other: Sound, decibels: float) -> Sound:
    """The sum, with the loudest half of `sound` so much above `other`."""
    loud = np.sort(sound**2)[len(sound) // 2 :].mean() / 2
    return sound + other * np.sqrt(loud / max(float((other**2).mean()), 1e-12)) * 10 ** (-decibels / 20)


def _equalised(sound: Sound, rng: np.random.Generator) -> Sound:
    gains = 10 ** (rng.normal(0, 5.0, 8).clip(-10, 10) / 20)
    taps = firwin2(257, [0, 150, 400, 1000, 2000, 3500, 5500, RATE / 2], gains, fs=RATE)
    return fftconvolve(sound, taps, mode="same")


def _in_a_room(sound: Sound, rng: np.random.Generator) -> Sound:
    """Direct sound first, so that nothing is delayed, then decaying echoes."""
    seconds = rng.uniform(0.15, 0.6)
    length = int(seconds * RATE)
    tail = rng.normal(size=length) * np.exp(-6.9 * np.arange(length) / length)
    tail[: int(rng.uniform(0.002, 0.01) * RATE)] = 0.0
    tail *= 10 ** (rng.uniform(-14, -2) / 20) / max(float(np.sqrt((tail**2).sum())), 1e-9)
    tail[0] = 1.0
    return fftconvolve(sound, tail)[: len(sound)]


def _telephone(sound: Sound) -> Sound:
    """300 to 3400 Hz and eight bits on a logarithmic scale (G.711's law)."""
    band = np.asarray(sosfilt(butter(4, [300, 3400], "bandpass", fs=RATE, output="sos"), sound))
    level = band / max(float(np.abs(band).max()), 1e-6)
    coded = np.round(np.sign(level) * np.log1p(255 * np.abs(level)) / np.log(256) * 127) / 127
    return np.sign(coded) * (256 ** np.abs(coded) - 1) / 255
