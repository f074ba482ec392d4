"""How much each frame of sound is like each phone: likelihoods under the Gaussian tables of pocketsphinx's wheel.

The tables (CMU Sphinx en-us, phonetically tied mixtures, trained on real speech) are read from the installed package.
Each of 42 phones has 128 diagonal Gaussians for each of three streams (cepstra, their slope, their curvature) and three
states that weigh them. The front end below is that of CMU Sphinx: 25 mel filters, 13 cepstra, 100 frames a second.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.fft import rfft

from avatar.errors import InputError
from avatar.speech.features import HOP, RATE

SPAN = 410
"""Samples of one frame (25.6 ms)."""
LOOK_AHEAD = 3
"""Frames of future that slope and curvature need."""
STREAMS, STATES, CEPSTRA = 3, 3, 13
_FILTERS, _LOW, _HIGH, _LIFTER = 25, 130.0, 6800.0, 22
_BLOCK = 64
"""Frames looked up at once: their densities stay in the processor's cache."""
_WEIGHT_STEP = 1024 * np.log(1.0001)
_WINDOW = np.float32(32768.0) * np.hamming(SPAN).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class AcousticTables:
    """Gaussians and their weights, ready for a matrix product."""

    phones: tuple[str, ...]
    quadratic: Float[np.ndarray, "3 p 27 k"]
    """Per stream and phone: coefficients of (x*x, x, 1) in the log density of every Gaussian."""
    weights: Float[np.ndarray, "3 p k 3"]
    """Per stream and phone: share of each Gaussian in each of the three states."""


@lru_cache(maxsize=1)
def acoustic_tables() -> AcousticTables:
    """The tables of the installed pocketsphinx.

    Raises:
        InputError: if pocketsphinx is not installed or carries other tables.
    """
    try:
        from pocketsphinx import get_model_path
    except ImportError:
        raise InputError(
            "driving by sound needs the package pocketsphinx, which is not installed; "
            'run: pip install "avatar[preprocess]"'
        ) from None
    folder = Path(get_model_path()) / "en-us" / "en-us"
    phones, senones = _phones(folder / "mdef")
    mean, variance = (_gaussians(folder / name) for name in ("means", "variances"))
    if mean.shape[:2] != (len(phones), STREAMS) or mean.shape[3] != CEPSTRA:
        raise InputError(f"{folder}: not the en-us tables of pocketsphinx 5; run: pip install 'pocketsphinx>=5,<6'")
    variance = np.maximum(variance, 1e-4)
    streams, precision = mean.transpose(1, 0, 3, 2), 1.0 / variance.transpose(1, 0, 3, 2)
    constant = -0.5 * (streams**2 * precision - np.log(precision)).sum(axis=2, keepdims=True)
    quadratic = np.concatenate([-0.5 * precision, streams * precision, constant], axis=2)
    return AcousticTables(
        phones=tuple(phones),
        quadratic=quadratic.astype(np.float32),
        weights=_weights(folder / "sendump", mean.shape[2])[:, :, senones].transpose(0, 2, 1, 3).astype(np.float32),
    )


def _gaussians(path: Path) -> Float[np.ndarray, "p 3 k 13"]:
    """Sphinx's `s3` format: text header, byte-order mark, counts of books, streams and densities, widths, floats."""
    raw = path.read_bytes()
    at = raw.index(b"endhdr\n") + len(b"endhdr\n") + 4
    books, streams, densities = struct.unpack_from("<3i", raw, at)
    at += 4 * (3 + streams + 1)
    values = np.frombuffer(raw, "<f4", books * streams * densities * CEPSTRA, at)
    return values.reshape(books, streams, densities, CEPSTRA).astype(np.float64)


def _phones(path: Path) -> tuple[list[str], np.ndarray]:
    """Names of the context-independent phones and the numbers of their three states' weight columns."""
    raw = path.read_bytes()
    at = 12 + struct.unpack_from("<i", raw, 8)[0]
    names, total, states, _, _, _, sequences, _, tree, _ = struct.unpack_from("<10i", raw, at)
    start = at + 40
    found = raw[start : start + 4096].split(b"\0")[:names]
    at = start + sum(len(name) + 1 for name in found)
    at += -(at - start) % 4
    entries = at + 8 * tree
    first = [struct.unpack_from("<i", raw, entries + 12 * i)[0] for i in range(names)]
    table = np.frombuffer(raw, "<u2", sequences * states, entries + 12 * total + 4).reshape(sequences, states)
    return [name.decode() for name in found], table[first].astype(int)


def _weights(path: Path, densities: int) -> Float[np.ndarray, "3 k s"]:
    """Mixture weights, stored as 8-bit negative logarithms behind a header of text."""
    raw, at = path.read_bytes(), 0
    while length := struct.unpack_from("<i", raw, at)[0]:
        at += 4 + length
    columns = struct.unpack_from("<i", raw, at + 8)[0]
    values = np.frombuffer(raw, np.uint8, STREAMS * densities * columns, at + 12)
    return np.exp(-_WEIGHT_STEP * values.reshape(STREAMS, densities, columns))


def phone_likelihoods(features: Float[np.ndarray, "n 3 13"], tables: AcousticTables) -> Float[np.ndarray, "n p 3"]:
    """Log density of each frame under each state of each phone."""
    out = np.zeros((len(features), tables.weights.shape[1], STATES), np.float32)
    for first in range(0, len(features), _BLOCK):
        rows = features[first : first + _BLOCK]
        for stream in range(STREAMS):
            x = rows[:, stream]
            known = np.concatenate([x * x, x, np.ones((len(x), 1), np.float32)], axis=1)
            density = known @ tables.quadratic[stream]
            top = density.max(axis=2, keepdims=True)
            np.exp(np.subtract(density, top, out=density), out=density)
            mixed = np.log(density @ tables.weights[stream] + 1e-30) + top
            out[first : first + _BLOCK] += mixed.transpose(1, 0, 2)
    return out


@lru_cache(maxsize=8)
def _filters(warp: float) -> Float[np.ndarray, "257 25"]:
    """Triangles with equal areas whose edges fall on bins."""
    mel = 1127.0 * np.log1p(np.array([_LOW, _HIGH]) / 700.0)
    edges = warp * 700.0 * np.expm1(np.linspace(mel[0], mel[1], _FILTERS + 2) / 1127.0)
    step = RATE / 512
    edges = np.round(edges / step) * step
    frequency = np.arange(257) * step
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    shape = np.minimum((frequency - low) / (middle - low), (high - frequency) / (high - middle))
    return (np.maximum(shape, 0.0) * 2.0 / (high - low)).T.astype(np.float32)


@lru_cache(maxsize=1)
def _cosines() -> Float[np.ndarray, "25 13"]:
    """Orthonormal cosine transform with the lifter in it."""
    order, place = np.arange(CEPSTRA), np.arange(_FILTERS) + 0.5
    basis = np.cos(np.pi * place[:, None] * order / _FILTERS) * np.sqrt(2.0 / _FILTERS)
    basis[:, 0] /= np.sqrt(2.0)
    return (basis * (1.0 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER))).astype(np.float32)


def spectra(frames: Float[np.ndarray, "n 411"]) -> Float[np.ndarray, "n 257"]:
    """Power of frames of `SPAN` samples, each after the one sample before it (for the emphasis of the highs)."""
    emphasised = (frames[:, 1:] - np.float32(0.97) * frames[:, :-1]) * _WINDOW
    return np.abs(np.asarray(rfft(emphasised, 512, overwrite_x=True))) ** 2


def cepstra(power: Float[np.ndarray, "n 257"], warp: float = 1.0) -> Float[np.ndarray, "n 13"]:
    """Cepstra of spectra.

    Args:
        warp: factor on the frequencies of the filters; below 1 they hear a voice as from a shorter throat.
    """
    return np.log(np.maximum(power @ _filters(warp), 1e-4)) @ _cosines()


def with_slopes(rows: Float[np.ndarray, "m 13"]) -> Float[np.ndarray, "n 3 13"]:
    """Cepstra, slope and curvature of all rows that have `LOOK_AHEAD` rows on both sides."""
    n = len(rows) - 2 * LOOK_AHEAD

    def at(shift: int) -> Float[np.ndarray, "n 13"]:
        return rows[LOOK_AHEAD + shift : LOOK_AHEAD + shift + n]

    slope = at(2) - at(-2)
    curvature = (at(3) - at(-1)) - (at(1) - at(-3))
    return np.stack([at(0), slope, curvature], axis=1)


def frames_of(samples: Float[np.ndarray, "s"], count: int) -> Float[np.ndarray, "n 411"]:
    """`count` frames; frame i begins one sample before i * HOP - SPAN / 2, silence around the sound."""
    padded = np.pad(samples, (SPAN // 2 + 1, SPAN + HOP))
    return np.lib.stride_tricks.sliding_window_view(padded, SPAN + 1)[: count * HOP : HOP]
