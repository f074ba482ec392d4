"""What one person's lips do otherwise than others' at some phones: offsets in millimetres on the targets of `ALIKE`.

They are blended as the targets themselves are, by dominance, and come before gains and contacts: a closure stays shut.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from avatar.speech.articulation import SHARP, WIDE, influences
from avatar.speech.performance import Lips
from avatar.speech.phones import Phone
from avatar.speech.visemes import ALIKE, JAW, LIP_GAP_MM, LIP_WIDTH_MM, PART, PUCKER, SPREAD

LEAST_OPENING = 0.5
"""Part of an opening that habits leave: they shut no mouth that the sound opens."""
GROUP = {symbol: k for k, group in enumerate(ALIKE) for symbol in group}
"""Which of `ALIKE` a phone belongs to."""


def shares(hearings: Sequence[Sequence[Phone]], times: Float[np.ndarray, "t"]) -> Float[np.ndarray, "2 t k"]:
    """How much each of `ALIKE` has to say at `times` about the opening and about the lips' shape, in [0, 1].

    Opening and shape differ in dominance. What silence has to say is left out.
    """
    out = np.zeros((2, len(times), len(ALIKE)))
    for phones in hearings:
        total, own = np.full((2, len(times)), 1e-4), np.zeros_like(out)
        for symbol, _, where, influence in influences(phones, times, SHARP if len(hearings) > 1 else 1.0):
            both = influence[:, [JAW, PUCKER]].T
            total[:, where] += both
            if symbol in GROUP:
                own[:, where, GROUP[symbol]] += both
        out += own / total[..., None] / len(hearings)
    return out


def adapted(
    lips: Lips,
    hearings: Sequence[Sequence[Phone]],
    times: Float[np.ndarray, "t"],
    habits: Sequence[tuple[float, float]],
) -> Lips:
    """The same lips with a person's habits (`SpeechStyle.habits`); where they touch nothing is added."""
    if not habits:
        return lips
    opening, width = np.einsum("ctk,kc->ct", shares(hearings, times), np.asarray(habits))
    return moved(lips, opening, width)


def moved(lips: Lips, opening: Float[np.ndarray, "t"], width: Float[np.ndarray, "t"]) -> Lips:
    """The same lips opened and widened by so many millimetres more."""
    opening, width = opening * (1 - lips.shut), width * (1 - lips.shut)
    curves = lips.curves.copy()
    # Openings grow as those of a wide vowel do.
    way, gap, wide = (
        np.array([WIDE[JAW], WIDE[PART]]),
        lips.mouth.actions @ LIP_GAP_MM,
        lips.mouth.actions @ LIP_WIDTH_MM,
    )
    curves[:, [JAW, PART]] += opening[:, None] * way / (way @ gap[[JAW, PART]])
    curves[:, [JAW, PART]] = np.maximum(curves[:, [JAW, PART]], LEAST_OPENING * lips.curves[:, [JAW, PART]])
    # What draws the corners the other way gives in first.
    for more, less, by in ((SPREAD, PUCKER, np.maximum(width, 0.0)), (PUCKER, SPREAD, np.maximum(-width, 0.0))):
        eased = np.minimum(by / abs(wide[less]), curves[:, less])
        curves[:, less] -= eased
        curves[:, more] += (by - eased * abs(wide[less])) / abs(wide[more])
    return replace(lips, curves=np.clip(curves, 0.0, 1.0).astype(np.float32))
