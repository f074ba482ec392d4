"""What lips do where only chances of phones are known: the targets of all phones at every moment, each as it was heard.

Where `articulate` blends the targets of decoded phones, nothing has to be decided here. As there, a phone counts once
however long it lasts: by the moment where it was heard best and is nearest. The halves of diphthongs are parted by how
much of them has passed.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from avatar.speech.acoustics import acoustic_tables
from avatar.speech.articulation import ANTICIPATION, CARRY_OVER, SHARP, drawn_apart
from avatar.speech.phones import SILENCE
from avatar.speech.visemes import ARTICULATORS, AVERAGE, BREATH, DIPHTHONGS, VISEMES

_SECONDS = 0.3
"""Time on both sides of a moment that shapes it."""
_HALF = 0.15
"""Seconds on both sides of a moment in which a diphthong is the same one."""
FAINT = 1e-4
"""Influence below which nothing moves the lips."""
_BLOCK = 1024
"""Moments blended at once: memory does not grow with the length of the sound by more than its curves."""


def sounds() -> list[str]:
    """Symbols of `VISEMES` that `halved` tells the chances of: phones of the tables, second halves of diphthongs.

    What is no speech is `SILENCE`.
    """
    names = acoustic_tables().phones
    first = [DIPHTHONGS[n][0] if n in DIPHTHONGS else n if n in VISEMES else SILENCE for n in names]
    return first + [DIPHTHONGS[n][1] for n in names if n in DIPHTHONGS]


def halved(chances: Float[np.ndarray, "*b n p"], hz: float) -> Float[np.ndarray, "*b n q"]:
    """Chances of `sounds` for chances of the phones of the tables, `hz` times a second."""
    which, reach, n = _diphthongs(), round(_HALF * hz), chances.shape[-2]
    either, i = chances[..., which], np.arange(n)
    until = np.zeros((*chances.shape[:-2], n + 1, len(which)))
    np.cumsum(either, axis=-2, out=until[..., 1:, :])
    passed = until[..., i, :] - until[..., np.maximum(i - reach, 0), :]
    left = until[..., np.minimum(i + reach + 1, n), :] - until[..., i + 1, :]
    second = either * (passed + either / 2) / (passed + either + left + 1e-9)
    out = np.concatenate([chances, second], axis=-1)
    out[..., which] -= second
    return out


@lru_cache(maxsize=1)
def _diphthongs() -> list[int]:
    return [i for i, name in enumerate(acoustic_tables().phones) if name in DIPHTHONGS]


@lru_cache(maxsize=1)
def weighted_targets() -> tuple[Float[np.ndarray, "q a"], Float[np.ndarray, "q a"]]:
    """Of each of `sounds`: targets times dominance, and dominance. What is no speech breathes."""
    visemes = [BREATH if symbol == SILENCE else VISEMES[symbol] for symbol in sounds()]
    strengths = np.array([v.dominance for v in visemes])
    return np.array([v.target for v in visemes]) * strengths, strengths


def nearness(away: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k a"]:
    """How much a moment that is so many seconds away counts for each articulator.

    What comes is anticipated, what was is carried over.
    """
    tau = np.where(away > 0, ANTICIPATION, CARRY_OVER)[:, None] * SHARP * AVERAGE.reach
    return np.exp(-np.abs(away)[:, None] / tau)


def kinds(away: Float[np.ndarray, "k"]) -> tuple[Float[np.ndarray, "k m"], Int[np.ndarray, "a"]]:
    """The columns of `nearness` without those that are alike, and which of them each articulator has."""
    near, alike = np.unique(nearness(away), axis=1, return_inverse=True)
    return near, alike.reshape(-1)  # numpy 2.0 gives a row


def weighed(most: Float[np.ndarray, "*b q m"], alike: Int[np.ndarray, "a"]) -> Float[np.ndarray, "*b a"]:
    """Articulators for how much each of `sounds` counts; `alike` as of `kinds`."""
    targets, strengths = weighted_targets()
    out = np.empty((*most.shape[:-2], len(ARTICULATORS)))
    for kind in range(most.shape[-1]):
        own = np.flatnonzero(alike == kind)
        out[..., own] = most[..., kind] @ targets[:, own] / (most[..., kind] @ strengths[:, own] + FAINT)
    return drawn_apart(out)


def blended(chances: Float[np.ndarray, "n p"], hz: float) -> Float[np.ndarray, "n a"]:
    """Articulator curves for chances of phones, `hz` times a second."""
    reach, out = round(_SECONDS * hz), [np.zeros((0, len(ARTICULATORS)), np.float32)]
    near, alike = kinds(np.arange(-reach, reach + 1) / hz)
    padded = np.pad(halved(chances, hz), ((reach, reach), (0, 0)))
    for first in range(0, len(chances), _BLOCK):
        count = min(_BLOCK, len(chances) - first)
        most = np.zeros((count, padded.shape[1], near.shape[1]))
        for i, weights in enumerate(near):
            np.maximum(most, padded[first + i : first + i + count, :, None] * weights, out=most)
        out.append(weighed(most, alike))
    return np.concatenate(out)
