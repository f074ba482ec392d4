"""What lips do where only chances of phones are known: the targets of all phones at every moment, each as it was heard.

Where `articulate` blends the targets of decoded phones, each counted once, nothing has to be decided here.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from avatar.speech.acoustics import acoustic_tables
from avatar.speech.articulation import ANTICIPATION, CARRY_OVER, SHARP, drawn_apart
from avatar.speech.phones import SILENCE
from avatar.speech.visemes import AVERAGE, BREATH, DIPHTHONGS, VISEMES

_SECONDS = 0.3
"""Time on both sides of a moment that shapes it."""


@lru_cache(maxsize=1)
def weighted_targets() -> tuple[Float[np.ndarray, "p a"], Float[np.ndarray, "p a"]]:
    """Of each phone of the tables: targets times dominance, and dominance. What is no speech breathes."""
    parts = [
        [VISEMES[v] for v in DIPHTHONGS.get(n, (n,))]
        if n in DIPHTHONGS or (n in VISEMES and n != SILENCE)
        else [BREATH]
        for n in acoustic_tables().phones
    ]
    strengths = [np.mean([v.dominance for v in visemes], axis=0) for visemes in parts]
    targets = [np.mean([np.multiply(v.target, v.dominance) for v in visemes], axis=0) for visemes in parts]
    return np.array(targets), np.array(strengths)


def nearness(away: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k a"]:
    """How much a moment that is so many seconds away counts for each articulator.

    What comes is anticipated, what was is carried over.
    """
    tau = np.where(away > 0, ANTICIPATION, CARRY_OVER)[:, None] * SHARP * AVERAGE.reach
    return np.exp(-np.abs(away)[:, None] / tau)


def blended(chances: Float[np.ndarray, "n p"], hz: float) -> Float[np.ndarray, "n a"]:
    """Articulator curves for chances of phones, `hz` times a second."""
    reach = round(_SECONDS * hz)
    near = nearness(np.arange(reach, -reach - 1, -1) / hz)
    targets, strengths = weighted_targets()

    def near_by(values: Float[np.ndarray, "n a"]) -> Float[np.ndarray, "n a"]:
        columns = [np.convolve(value, weight)[reach:-reach] for value, weight in zip(values.T, near.T, strict=True)]
        return np.stack(columns, axis=1)

    return drawn_apart(near_by(chances @ targets) / (near_by(chances @ strengths) + 1e-4))
