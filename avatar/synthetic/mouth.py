"""How drawn people speak: as the rules of speech did when they were first measured on (November 2026).

Benchmarks of tracking and of whole avatars are read on drawn films: better rules must not make these other films.
"""

import numpy as np

from avatar.speech.visemes import (
    AVERAGE,
    BITE,
    JAW,
    PART,
    PRESS,
    PUCKER,
    ROUND,
    Mouth,
    per_articulator,
    per_coefficient,
    viseme,
)

_OTHER_THEN = {
    "AO": viseme((0.25, 0.12, 0.22, 0.40, 0.00), (1.0, 1.0)),
    "O": viseme((0.25, 0.12, 0.22, 0.40, 0.00), (1.0, 1.0)),
    "IH": viseme((0.16, 0.28, 0.00, 0.00, 0.35), (0.8, 0.7)),
    "IY": viseme((0.10, 0.30, 0.00, 0.00, 0.55), (0.9, 1.0)),
    "ER": viseme((0.11, 0.12, 0.06, 0.30, 0.00), (0.8, 0.9)),
    "TH": viseme((0.09, 0.20, 0.00, 0.00, 0.18), (0.7, 0.4)),
    "DH": viseme((0.09, 0.18, 0.00, 0.00, 0.15), (0.6, 0.2)),
    "N": viseme((0.08, 0.22, 0.00, 0.00, 0.18), (0.5, 0.2)),
    "L": viseme((0.10, 0.22, 0.00, 0.00, 0.10), (0.6, 0.3)),
    "R": viseme((0.06, 0.05, 0.04, 0.50, 0.00), (0.7, 0.8)),
    "T": viseme((0.08, 0.22, 0.00, 0.00, 0.20), (0.5, 0.2)),
    "D": viseme((0.08, 0.22, 0.00, 0.00, 0.18), (0.5, 0.2)),
    "S": viseme((0.05, 0.30, 0.00, 0.00, 0.28), (0.9, 0.5)),
    "Z": viseme((0.05, 0.28, 0.00, 0.00, 0.28), (0.9, 0.5)),
    "SH": viseme((0.05, 0.20, 0.24, 0.40, 0.00), (0.9, 1.1)),
    "ZH": viseme((0.05, 0.20, 0.24, 0.40, 0.00), (0.9, 1.1)),
    "CH": viseme((0.05, 0.20, 0.22, 0.35, 0.00), (0.9, 1.1)),
    "JH": viseme((0.05, 0.20, 0.22, 0.35, 0.00), (0.9, 1.1)),
    "Y": viseme((0.08, 0.25, 0.00, 0.00, 0.40), (0.6, 0.6)),
}


def _actions() -> np.ndarray:
    out = AVERAGE.actions.copy()
    out[PRESS] = per_coefficient({"mouthPress": 0.15, "mouthRollLower": 0.5, "mouthRollUpper": 0.4})
    out[BITE] = per_coefficient({"mouthRollLower": 0.8, "mouthUpperUp": 0.3})
    return out


DRAWN = Mouth(
    visemes={**AVERAGE.visemes, **_OTHER_THEN},
    actions=_actions(),
    reach=per_articulator({ROUND: 1.4, PUCKER: 1.4}),
    eased={JAW: 0.65, PART: 0.75, ROUND: 0.7},
)
"""The lips of everybody that is drawn."""
