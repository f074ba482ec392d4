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
    """Neither voice nor music: hiss of a random colour that comes and goes, often with clicks or a motor."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    colour = np.maximum(np.arange(len(spectrum)), 20.0) ** -rng.uniform(0.0, 1.2)
    hiss = np.fft.irfft(spectrum * colour, count)
    knots = rng.uniform(0.3, 1.0, count // RATE + 2)
    out = hiss / hiss.std() * np.interp(np.arange(count) / RATE, np.arange(len(knots)), knots)
    if rng.random() < 0.3:
        out += rng.uniform(1, 8) * _clicks(count, rng)
    if rng.random() < 0.3:
        out += rng.uniform(0.3, 3) * _motor(count, rng)
    return out.astype(np.float32)


def _clicks(count: int, rng: np.random.Generator) -> Sound:
    """Keys, steps, dishes: short bursts with a resonance."""
    out = np.zeros(count + RATE)
    time = np.arange(RATE // 4) / RATE
    for at in np.cumsum(rng.exponential(rng.uniform(0.1, 0.6), 400)):
        if at * RATE >= count:
            break
        ring = np.sin(2 * np.pi * rng.uniform(200, 5000) * time) + rng.normal(size=len(time))
        first = int(at * RATE)
        out[first : first + len(time)] += rng.uniform(0.2, 1) * ring * np.exp(-time / rng.uniform(0.003, 0.04))
    return out[:count].astype(np.float32)


def _motor(count: int, rng: np.random.Generator) -> Sound:
    """A hum with harmonics whose pitch wanders a little."""
    pitch = rng.uniform(25, 180) * np.exp(np.interp(np.arange(count) / RATE, np.arange(40), rng.normal(0, 0.03, 40)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tilt = rng.uniform(0.5, 2)
    return sum(np.sin(k * phase + rng.uniform(0, 6)) * k**-tilt for k in range(1, 9)).astype(np.float32)


_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 6, 7, 10))


def music(count: int, rng: np.random.Generator) -> Sound:
    """A few instruments that play random notes of a scale in time: plucked or held, chords or a melody, with drums."""
    beat, key = rng.uniform(0.12, 0.55), rng.uniform(40, 220)
    scale = np.array(_SCALES[int(rng.integers(len(_SCALES)))])
    out = np.zeros(count)
    for _ in range(int(rng.integers(1, 4))):
        part = _part(count, beat * rng.choice([0.5, 1, 1, 2, 4]), key * 2.0 ** rng.integers(0, 4), scale, rng)
        out += part / max(float(part.std()), 1e-6) * rng.uniform(0.3, 1)
    if rng.random() < 0.5:
        drums = _drums(count, beat, rng)
        out += drums / max(float(drums.std()), 1e-6) * rng.uniform(0.2, 1)
    return out.astype(np.float32)


def _part(count: int, step: float, key: float, scale: np.ndarray, rng: np.random.Generator) -> Sound:
    """One instrument."""
    out = np.zeros(count + 8 * RATE)
    held, chord = rng.random() < 0.5, int(rng.choice([1, 1, 2, 3, 4]))
    timbre, decay = rng.uniform(0.3, 2.0), rng.uniform(0.08, 1.2)
    odd, vibrato = rng.random() < 0.2, rng.uniform(0, 0.012) * (rng.random() < 0.5)
    rise = rng.uniform(0.002, 0.15 if held else 0.02)
    brightness = 2.0 ** rng.uniform(9, 13)
    at, degree = 0.0, 0
    while at * RATE < count:
        length = step * int(rng.choice([1, 1, 2, 3]))
        degree = int(np.clip(degree + rng.integers(-3, 4), -4, 9))
        time = np.arange(int(min(length if held else max(length, 3 * decay), 7.0) * RATE)) / RATE
        sway = 1 + vibrato * np.sin(2 * np.pi * 5.5 * time)
        fade = np.minimum(time / rise, 1) * (np.minimum((time[-1] - time) / 0.03, 1) if held else np.exp(-time / decay))
        for voice in range(chord):
            octave, place = divmod(degree + 2 * voice, len(scale))
            pitch = key * 2 ** (octave + scale[place] / 12)
            phase = 2 * np.pi * np.cumsum(pitch * sway) / RATE
            harmonics = np.arange(1, int(min(16, 7500 // pitch)) + 1, 2 if odd else 1)
            tones = (np.sin(k * phase) * k**-timbre / (1 + (k * pitch / brightness) ** 2) for k in harmonics)
            first = int(at * RATE)
            out[first : first + len(time)] += sum(tones) * fade
        at += length if rng.random() < 0.9 else 2 * length
    return out[:count].astype(np.float32)


def _drums(count: int, beat: float, rng: np.random.Generator) -> Sound:
    """Kick, snare and hat on a random pattern of sixteen steps."""
    out = np.zeros(count + RATE)
    time = np.arange(RATE // 3) / RATE
    sounds = [
        np.sin(2 * np.pi * (50 * time + 6 * (1 - np.exp(-time / 0.02)))) * np.exp(-time / 0.1),
        rng.normal(size=len(time)) * np.exp(-time / rng.uniform(0.03, 0.12)),
        np.diff(rng.normal(size=len(time) + 1)) * np.exp(-time / rng.uniform(0.01, 0.05)),
    ]
    pattern = rng.random((3, 16)) < np.array([[0.25], [0.2], [0.6]])
    for step in range(int(count / RATE / beat * 2)):
        first = int(step * beat / 2 * RATE)
        for sound, hits in zip(sounds, pattern, strict=True):
            if hits[step % 16]:
                out[first : first + len(time)] += sound * rng.uniform(0.5, 1)
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
