"""What is heard, 100 times a second, as a stream: log-mel bands, phone posteriors, pitch, voicing and voice activity.

Causal but for `LOOK_AHEAD`: rows come out as sound goes in, and the same rows whatever the size of the pieces.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.fft import irfft, rfft

from avatar.speech.acoustics import LOOK_AHEAD as SLOPE_FRAMES
from avatar.speech.acoustics import (
    SPAN,
    AcousticTables,
    acoustic_tables,
    cepstra,
    phone_likelihoods,
    spectra,
    with_slopes,
)
from avatar.speech.chain import STAY, TRUST, followers
from avatar.speech.features import HOP, RATE, WINDOW, mel_filters

LAG = 6
"""Frames after a moment that its phone posterior takes into account."""
REACH = LAG + SLOPE_FRAMES
"""Frames that a row waits for."""
LOOK_AHEAD = REACH * HOP / RATE + SPAN / 2 / RATE
"""Seconds of sound after a row's moment that it depends on (103 ms)."""
MEL_LEAD = 8
"""The mel bands of a row are of this many frames later: as little delay as the phones allow."""
BANDS, PHONES = 80, 42
COLUMNS = BANDS + PHONES + 4
"""Bands, phones, then loudness, voicing, pitch, activity."""
MEL, PHONE = slice(0, BANDS), slice(BANDS, BANDS + PHONES)
LOUDNESS, VOICING, PITCH, ACTIVITY = range(BANDS + PHONES, COLUMNS)
_SIDE = 480
"""Samples on both sides of a frame's centre that its pitch sees; the other features see `SPAN` / 2, and come sooner."""
_PRIOR_CEPSTRUM = np.array([55.0, 2.0, 3.0, 3.0, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.float32)
_PRIOR_FRAMES, _MEAN_FRAMES = 25, 400
_QUIET = -85.0
_PERIODS = round(RATE / 400.0), round(RATE / 60.0)
"""Samples of the shortest and the longest period of a voice."""


@dataclass
class _Level:
    """Loudness that follows the speaker (peak) and the room (floor), dB re full scale."""

    peak: float = -30.0
    floor: float = -70.0
    active: float = 0.0
    frames: int = 0

    def follow(self, level: float) -> None:
        self.frames += 1
        self.peak = max(level, self.peak - (0.3 if level < self.peak - 25 and self.frames < 100 else 0.015), -75.0)
        rise = 0.05 if self.frames > 100 else 0.4
        self.floor = min(level, self.floor + rise) if level > _QUIET else max(self.floor - 0.1, _QUIET)
        margin = max(8.0, 0.3 * (self.peak - self.floor)) * (1.0 if self.active < 0.5 else 0.7)
        on = level > self.floor + margin and level > self.peak - 30.0
        self.active += (float(on) - self.active) * (0.5 if on else 0.15)


class FeatureStream:
    """Push sound, get rows of `COLUMNS` features; row i belongs to the moment i * 10 ms."""

    def __init__(self, tables: AcousticTables | None = None):
        """Raises: InputError if no tables are given and pocketsphinx is not installed."""
        self._tables, self._bands = tables or acoustic_tables(), mel_filters(BANDS).T
        self._samples = np.zeros(_SIDE, np.float32)
        self._heard, self._frames, self._rows = 0, 0, 0
        self._level = _Level()
        self._mean, self._counted = _PRIOR_CEPSTRUM.copy(), _PRIOR_FRAMES
        self._cepstra: list[np.ndarray] = []
        self._plain = np.zeros((0, BANDS + 4), np.float32)
        self._likelihood = np.zeros((0, 3 * PHONES), np.float32)
        self._now = np.full(3 * PHONES, 1.0 / (3 * PHONES))
        self._known = np.zeros((0, 3 * PHONES))
        """Chances of states by all that came before, of rows that are not told yet."""
        self._likely = np.zeros((0, LAG, 3 * PHONES))
        """Chances of states in the rows after each that was told last, not yet summed."""
        self._active = np.zeros((0, REACH), np.float32)
        """Activity in the rows after each that was told last."""
        self.louder = np.zeros(0, np.float32)
        """Loudness (dB re full scale) of the rows that the last `push` heard: it is known `REACH` rows ahead."""

    def push(self, samples: Float[np.ndarray, "s"]) -> Float[np.ndarray, "n c"]:
        """Rows that can be told now; `samples` are the next ones at 16 kHz."""
        self._heard += len(samples)
        self._samples = np.concatenate([self._samples, samples.astype(np.float32)])
        self._likely, self._active, self.louder = self._likely[:0], self._active[:0], self.louder[:0]
        centre = _SIDE + (self._level.frames - self._rows) * HOP
        count = (len(self._samples) - centre - SPAN // 2) // HOP + 1
        if count <= 0:
            return np.zeros((0, COLUMNS), np.float32)
        self._hear(self._samples[centre - SPAN // 2 - 1 :], count)
        return self._told()

    def coming(self) -> tuple[Float[np.ndarray, "n l p"], Float[np.ndarray, "n r"]]:
        """Of each row that the last `push` told, by the sound that the row knows: chances of phones in the `LAG` rows
        after it, and activity in the `REACH` rows after it.

        The row after is nearly as sure as the row itself, the last one knows nothing of what follows it.
        """
        share = self._likely.reshape(-1, LAG, PHONES, 3).sum(3)
        return (share / share.sum(2, keepdims=True)).astype(np.float32), self._active

    def finish(self) -> Float[np.ndarray, "n c"]:
        """The last rows, as if silence followed: in all one for every 10 ms begun."""
        missing = max(-(-self._heard // HOP), 1) - self._rows
        heard = self._heard
        rows = self.push(np.zeros((missing + REACH + 1) * HOP + 2 * _SIDE, np.float32))
        self._heard = heard
        return rows[:missing]

    def _hear(self, samples: Float[np.ndarray, "s"], count: int) -> None:
        """Features of the next `count` frames that need no frame after them, but for pitch."""
        windows = np.lib.stride_tricks.sliding_window_view(samples, SPAN + 1)[: count * HOP : HOP]
        plain = np.empty((count, BANDS + 4), np.float32)
        first = SPAN // 2 + 1 - WINDOW // 2
        middle = windows[:, first : first + WINDOW] * np.hanning(WINDOW).astype(np.float32)
        power = np.abs(np.asarray(rfft(middle, 512))) ** 2 / (WINDOW / 4) ** 2
        plain[:, :BANDS] = 10.0 * np.log10(power @ self._bands + 1e-12)
        loud = np.maximum(10.0 * np.log10(power @ _SPEECH + 1e-12), _QUIET)
        cepstrum, self.louder = cepstra(spectra(windows)), loud
        peaks = np.empty((count, 1), np.float32)
        for i, level in enumerate(loud.tolist()):
            self._level.follow(level)
            peaks[i], plain[i, -1] = self._level.peak, self._level.active
            if level > max(self._level.peak - 35.0, -75.0):
                self._counted = min(self._counted + 1, _MEAN_FRAMES)
                self._mean += (cepstrum[i] - self._mean) / self._counted
            fresh = cepstrum[i] - self._mean
            self._cepstra += [fresh] * (1 if self._level.frames > 1 else 1 + SLOPE_FRAMES)
        plain[:, BANDS] = loud
        plain[:, : BANDS + 1] = np.maximum((plain[:, : BANDS + 1] - peaks) / 20.0 + 1.0, -3.0)
        plain[:, :BANDS] = np.minimum(plain[:, :BANDS], 2.0)
        self._plain = np.concatenate([self._plain, plain])

    def _told(self) -> Float[np.ndarray, "n c"]:
        if len(self._cepstra) > 2 * SLOPE_FRAMES:
            rows = np.stack(self._cepstra)
            fresh = phone_likelihoods(with_slopes(rows), self._tables).reshape(-1, 3 * PHONES) * TRUST
            fresh = np.exp(fresh - fresh.max(axis=1, keepdims=True))
            self._likelihood = np.concatenate([self._likelihood, fresh])
            self._cepstra = self._cepstra[-2 * SLOPE_FRAMES :]
        count = len(self._likelihood) - LAG
        if count <= 0:
            return np.zeros((0, COLUMNS), np.float32)
        out = np.empty((count, COLUMNS), np.float32)
        out[:, PHONE] = self._smoothed(count)
        out[:, MEL] = self._plain[MEL_LEAD : MEL_LEAD + count, :BANDS]
        out[:, LOUDNESS:] = self._plain[:count, BANDS:]
        windows = np.lib.stride_tricks.sliding_window_view(self._samples, 2 * _SIDE)[: count * HOP : HOP]
        out[:, VOICING : PITCH + 1] = pitch(windows)
        self._active = np.lib.stride_tricks.sliding_window_view(self._plain[1 : count + REACH, -1], REACH)
        self._likelihood, self._plain = self._likelihood[count:], self._plain[count:]
        self._samples = self._samples[count * HOP :]
        self._rows += count
        return out

    def _smoothed(self, count: int) -> Float[np.ndarray, "n p"]:
        """Phone posteriors by the forward-backward algorithm (Rabiner 1989) with `LAG` frames of future.

        States run left to right through a phone, phones follow each other as in `avatar.speech.chain`.
        """
        fresh = self._likelihood[len(self._known) :]
        known = np.empty((len(fresh), 3 * PHONES))
        for i, likelihood in enumerate(fresh):
            self._now = self._now @ _step() * likelihood
            self._now /= np.add.reduce(self._now)
            known[i] = self._now
        known = np.concatenate([self._known, known])
        future, self._likely = np.ones((count, 3 * PHONES)), np.empty((count, LAG, 3 * PHONES))
        for ahead in range(LAG, 0, -1):
            self._likely[:, ahead - 1] = known[ahead : ahead + count] * future
            future = (future * self._likelihood[ahead : ahead + count]) @ _step().T
            future /= future.max(axis=1, keepdims=True)
        share = (known[:count] * future).reshape(count, PHONES, 3).sum(2)
        self._known = known[count:]
        return (share / share.sum(axis=1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=1)
def _step() -> Float[np.ndarray, "q q"]:
    """Row by row, the chances of the states a frame after a state."""
    out = STAY * np.eye(3 * PHONES)
    within = np.arange(0, 3 * PHONES, 3)
    out[within, within + 1] = out[within + 1, within + 2] = 1 - STAY
    out[2::3, 0::3] += (1 - STAY) * followers()
    return out


def pitch(windows: Float[np.ndarray, "n w"]) -> Float[np.ndarray, "n 2"]:
    """Voicing (height of the normalised autocorrelation's peak) and pitch in octaves above 100 Hz (0 if unvoiced)."""
    hann, whole, dear = _pitch_weights(windows.shape[1])
    centred = (windows - windows.sum(axis=1, keepdims=True) / len(hann)) * hann
    size = 2 * len(hann)  # nothing wraps around
    spectrum = np.asarray(rfft(centred, size))
    power = spectrum.real**2 + spectrum.imag**2
    power[:, round(1500 / RATE * size) :] = 0.0
    correlation = np.asarray(irfft(power, size))
    first, last = _PERIODS
    shape = correlation[:, first:last] / np.maximum(correlation[:, :1], 1e-9) * whole
    # The shortest lag of several alike is the period; longer ones are its multiples.
    best = (shape - dear).argmax(axis=1)
    voicing = np.clip(shape[np.arange(len(shape)), best], 0.0, 1.0)
    octaves = np.log2(RATE / (first + best) / 100.0) * (voicing > 0.5)
    return np.stack([voicing, octaves], axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def _pitch_weights(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A window, and for each period what the window's own correlation takes from it, and how dear it is."""
    window = np.hanning(count)
    own, (first, last) = np.correlate(window, window, "full")[count - 1 :], _PERIODS
    return window.astype(np.float32), own[0] / own[first:last], 0.02 * np.log2(np.arange(first, last) / first)


_SPEECH = mel_filters(BANDS).sum(axis=0)
_SPEECH[: round(200 / RATE * 512)] *= 0.1


def hear(samples: Float[np.ndarray, "s"]) -> Float[np.ndarray, "n c"]:
    """All rows of a sound at once; the same as those of the stream.

    Raises:
        InputError: if pocketsphinx is not installed.
    """
    stream = FeatureStream()
    block = 20 * RATE
    rows = [stream.push(samples[at : at + block]) for at in range(0, len(samples), block)]
    return np.concatenate([*rows, stream.finish()])
