"""Which phones may have been spoken: a hidden Markov chain (Rabiner 1989) and courses of speech drawn from it.

A chain's best course says nothing about how sure it is. Courses drawn with their probability (forward filtering,
backward sampling) do: where the sound is clear they all agree, elsewhere their mean is what to expect.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from avatar.speech.acoustics import STATES, acoustic_tables

STAY = 0.65
"""Chance that a state of a phone lasts another frame."""
TRUST = 0.4
"""Exponent on the likelihood of a frame: neighbouring frames are not independent, so each counts less."""
_RARE = 0.002
"""Chance of a noise after any phone."""


@lru_cache(maxsize=1)
def followers() -> Float[np.ndarray, "p p"]:
    """Row by row, the chance of each phone after a phone, by the phone model of pocketsphinx's wheel (English).

    Noises (`+NSN+` and the like) come after anything, and anything comes after them as after silence.
    """
    from pocketsphinx import LogMath, NGramModel, get_model_path

    names, base = acoustic_tables().phones, LogMath()
    config: Any = None
    model = NGramModel(config, base, f"{get_model_path()}/en-us/en-us-phone.lm.bin")
    chance = np.array([[base.exp(model.prob([after, before])) for after in names] for before in names])
    noises = [i for i, name in enumerate(names) if not name.isalpha()]
    chance[:, noises] = _RARE
    chance[noises] = chance[names.index("SIL")]
    return chance / chance.sum(axis=1, keepdims=True)


def courses(
    likelihoods: Float[np.ndarray, "h n p 3"], count: int, rng: np.random.Generator
) -> list[list[tuple[int, int, int]]]:
    """`count` courses for each of several hearings: phone (number in the tables), first frame, frame after the last.

    Args:
        likelihoods: log density of each frame under each state, of every hearing.
    """
    forward = _filtered(likelihoods)
    frames, hearings, phones = forward.shape[:3]
    follow, own = followers().T.copy(), np.repeat(np.arange(hearings), count)
    draw = rng.random((2, frames, len(own)))
    last = np.cumsum(forward[-1].reshape(hearings, -1), axis=1)[own]
    phone, state = divmod((last < draw[0, -1][:, None] * last[:, -1:]).sum(axis=1), STATES)
    spoken, begins = np.empty((frames, len(own)), int), np.zeros((frames, len(own)), bool)
    for i in range(frames - 1, 0, -1):
        spoken[i] = phone
        before = forward[i - 1]
        stayed = STAY * before[own, phone, state]
        ended = before[own, :, STATES - 1] * follow[phone]
        summed = np.cumsum(ended, axis=1)
        entered = (1 - STAY) * np.where(state == 0, summed[:, -1], before[own, phone, np.maximum(state - 1, 0)])
        moved = draw[0, i - 1] * (stayed + entered) >= stayed
        begins[i] = moved & (state == 0)
        other = np.minimum((summed < (draw[1, i - 1] * summed[:, -1])[:, None]).sum(axis=1), phones - 1)
        phone = np.where(begins[i], other, phone)
        state = np.where(begins[i], STATES - 1, state - moved)
    spoken[0], begins[0] = phone, True
    return [_stretches(spoken[:, k], begins[:, k]) for k in range(len(own))]


def _filtered(likelihoods: Float[np.ndarray, "h n p 3"]) -> Float[np.ndarray, "n h p 3"]:
    """Chance of every state given all frames up to this one."""
    hearings, frames, phones = likelihoods.shape[:3]
    heard = np.exp(TRUST * (likelihoods - likelihoods.max(axis=(2, 3), keepdims=True))).astype(np.float64)
    follow, out = (1 - STAY) * followers(), np.empty((frames, hearings, phones, STATES))
    now = np.full((hearings, phones, STATES), 1.0)
    for i in range(frames):
        after = STAY * now
        after[..., 1:] += (1 - STAY) * now[..., :-1]
        after[..., 0] += now[..., -1] @ follow
        now = after * heard[:, i]
        now /= now.sum(axis=(1, 2), keepdims=True)
        out[i] = now
    return out


def _stretches(spoken: Int[np.ndarray, "n"], begins: np.ndarray) -> list[tuple[int, int, int]]:
    starts = np.flatnonzero(begins)
    return [(int(spoken[a]), int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(spoken)], strict=True)]
