"""What the lips do for each phone: targets and dominances of a few articulators, and what those are in ARKit's words.

Targets describe careful but relaxed speech; they come from the articulation of the sounds (place, height, rounding),
with the strengths of co-articulation ordered as in Cohen and Massaro (1993): labials, labiodentals, rounded and
hushing sounds impose themselves, velars and /h/ give way to their neighbours. A narrow slit between the
lips is what makes /w/, /u/ and /r/ (Browman and Goldstein 1989), so they pucker; a funnel would part the lips. In the
scanner (Birkholz 2013) o (as in AO) parts the lips half as far as a, i and I nearly as far; running speech is laxer, so
i goes part of that way, its lips no flatter than those of e. There sh comes forward by a third of what u does, and f
and v leave 1 to 4 mm between the lips, for teeth to show, under the highest jaw of all, with lips drawn back. Of all
consonants s, z, t and d hold the jaw highest and most firmly (Keating et al. 1994). How firmly consonants of the
tongue's tip stand against vowels was set with filmed lips in view.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ARTICULATORS = ("jaw", "part", "round", "pucker", "spread", "press", "bite", "close")
"""jaw: lowered jaw. part: lips drawn apart beyond the jaw. round: funnelled forward. pucker: narrowed to a small
hole. spread: corners drawn out. press: lips pressed and rolled in. bite: lower lip tucked under the teeth. close: lips
brought together over a lowered jaw (no phone asks for it, contacts do)."""
JAW, PART, ROUND, PUCKER, SPREAD, PRESS, BITE, CLOSE = range(len(ARTICULATORS))

ARKIT_INDEX = {
    "eyeBlinkLeft": 0,
    "eyeLookDownLeft": 1,
    "eyeLookInLeft": 2,
    "eyeLookOutLeft": 3,
    "eyeLookUpLeft": 4,
    "eyeSquintLeft": 5,
    "eyeWideLeft": 6,
    "eyeBlinkRight": 7,
    "eyeLookDownRight": 8,
    "eyeLookInRight": 9,
    "eyeLookOutRight": 10,
    "eyeLookUpRight": 11,
    "eyeSquintRight": 12,
    "eyeWideRight": 13,
    "jawOpen": 17,
    "mouthClose": 18,
    "mouthFunnel": 19,
    "mouthPucker": 20,
    "mouthSmileLeft": 23,
    "mouthSmileRight": 24,
    "mouthFrownLeft": 25,
    "mouthFrownRight": 26,
    "mouthDimpleLeft": 27,
    "mouthDimpleRight": 28,
    "mouthStretchLeft": 29,
    "mouthStretchRight": 30,
    "mouthRollLower": 31,
    "mouthRollUpper": 32,
    "mouthShrugLower": 33,
    "mouthShrugUpper": 34,
    "mouthPressLeft": 35,
    "mouthPressRight": 36,
    "mouthLowerDownLeft": 37,
    "mouthLowerDownRight": 38,
    "mouthUpperUpLeft": 39,
    "mouthUpperUpRight": 40,
    "browDownLeft": 41,
    "browDownRight": 42,
    "browInnerUp": 43,
    "browOuterUpLeft": 44,
    "browOuterUpRight": 45,
    "cheekSquintLeft": 47,
    "cheekSquintRight": 48,
    "noseSneerLeft": 49,
    "noseSneerRight": 50,
}
"""Where the coefficients that speech moves stand in `avatar.face.arkit.NAMES` (speech may not import face)."""

_ARKIT_OF_ARTICULATOR: dict[int, dict[str, float]] = {
    JAW: {"jawOpen": 1.0},
    PART: {"mouthLowerDown": 1.0, "mouthUpperUp": 0.7},
    ROUND: {"mouthFunnel": 1.0},
    PUCKER: {"mouthPucker": 1.0},
    SPREAD: {"mouthSmile": 0.35, "mouthStretch": 0.55, "mouthDimple": 0.2},
    # A sphincter shuts the lips (orbicularis oris, Gay et al. 1974): mouthPress would draw the corners out.
    PRESS: {"mouthPucker": 0.17, "mouthRollLower": 0.25, "mouthRollUpper": 0.2, "mouthClose": 0.03},
    BITE: {"mouthRollLower": 0.35, "mouthUpperUp": 0.4},
    CLOSE: {"mouthClose": 1.0},
}

_LIP_GAP_MM = {
    "jawOpen": 34.5, "mouthClose": -34.5, "mouthFunnel": 14.0, "mouthPucker": -0.9, "mouthSmile": -1.5,
    "mouthRollLower": -3.8, "mouthRollUpper": -2.8, "mouthShrugLower": -4.9, "mouthShrugUpper": 4.1,
    "mouthPress": -1.4, "mouthLowerDown": 1.9, "mouthUpperUp": 2.4, "mouthStretch": 0.2, "mouthDimple": 0.15,
    "mouthFrown": 0.1, "noseSneer": 0.1,
}  # fmt: skip
_LIP_WIDTH_MM = {
    "jawOpen": -3.8, "mouthClose": 4.0, "mouthFunnel": -5.9, "mouthPucker": -8.1, "mouthSmile": 6.3,
    "mouthDimple": 5.0, "mouthStretch": 5.0, "mouthPress": 5.5, "mouthFrown": 1.2,
}  # fmt: skip


def per_coefficient(values: Mapping[str, float]) -> Float[np.ndarray, "52"]:
    """Of ARKit's 52 coefficients those named, on both sides where there are two; 0 elsewhere."""
    out = np.zeros(52, np.float32)
    for name, value in values.items():
        for side in ("", "Left", "Right"):
            if name + side in ARKIT_INDEX:
                out[ARKIT_INDEX[name + side]] = value
    return out


LIP_GAP_MM: Float[np.ndarray, "52"] = per_coefficient(_LIP_GAP_MM)
"""Millimetres by which each coefficient at 1 parts the inner lips of the average head (linear, measured on the rig)."""
LIP_WIDTH_MM: Float[np.ndarray, "52"] = per_coefficient(_LIP_WIDTH_MM)
"""Millimetres by which each coefficient at 1 draws the corners of the mouth apart on the average head."""
ARKIT_FROM_ARTICULATORS: Float[np.ndarray, "a 52"] = np.stack(
    [per_coefficient(_ARKIT_OF_ARTICULATOR[a]) for a in range(len(ARTICULATORS))]
)


@dataclass(frozen=True)
class Viseme:
    """Target in [0, 1] and dominance (relative strength) of each articulator."""

    target: tuple[float, ...]
    dominance: tuple[float, ...]


def viseme(target: tuple[float, float, float, float, float], strength: tuple[float, float]) -> Viseme:
    """`target`: jaw, part, round, pucker, spread. `strength`: of the opening (jaw, part) and of the lips' shape."""
    opening, shape = strength
    return Viseme((*target, 0.0, 0.0, 0.0), (opening, opening, shape, shape, shape, 1.0, 1.0, 1.0))


#                 jaw   part  round pucker spread  opening, shape
_VOWELS = {
    "AA": viseme((0.42, 0.30, 0.03, 0.00, 0.05), (1.0, 0.7)),
    "AE": viseme((0.37, 0.40, 0.00, 0.00, 0.40), (1.0, 0.8)),
    "AH": viseme((0.24, 0.25, 0.03, 0.00, 0.10), (0.8, 0.5)),
    "AO": viseme((0.17, 0.10, 0.12, 0.45, 0.00), (1.0, 1.0)),
    "EH": viseme((0.27, 0.35, 0.00, 0.00, 0.35), (0.9, 0.8)),
    "ER": viseme((0.11, 0.12, 0.06, 0.30, 0.00), (1.1, 0.9)),
    "IH": viseme((0.19, 0.30, 0.00, 0.00, 0.35), (0.8, 0.7)),
    "IY": viseme((0.15, 0.38, 0.00, 0.00, 0.38), (0.9, 1.0)),
    "O": viseme((0.08, 0.05, 0.12, 0.62, 0.00), (1.0, 1.0)),  # how OW begins
    "UH": viseme((0.10, 0.05, 0.06, 0.50, 0.00), (0.8, 0.9)),
    "UW": viseme((0.04, 0.00, 0.02, 0.90, 0.00), (1.1, 1.2)),
}
_CONSONANTS = {
    "B": viseme((0.03, 0.00, 0.00, 0.00, 0.05), (1.2, 0.2)),
    "P": viseme((0.03, 0.00, 0.00, 0.00, 0.05), (1.2, 0.2)),
    "M": viseme((0.03, 0.00, 0.00, 0.00, 0.05), (1.2, 0.2)),
    "F": viseme((0.05, 0.10, 0.00, 0.00, 0.12), (1.1, 0.4)),
    "V": viseme((0.05, 0.10, 0.00, 0.00, 0.12), (1.1, 0.4)),
    "TH": viseme((0.09, 0.20, 0.00, 0.00, 0.18), (1.0, 0.4)),
    "DH": viseme((0.09, 0.18, 0.00, 0.00, 0.15), (0.85, 0.2)),
    "T": viseme((0.05, 0.15, 0.00, 0.00, 0.20), (1.0, 0.2)),
    "D": viseme((0.05, 0.15, 0.00, 0.00, 0.18), (1.0, 0.2)),
    "N": viseme((0.08, 0.22, 0.00, 0.00, 0.18), (0.7, 0.2)),
    "L": viseme((0.10, 0.22, 0.00, 0.00, 0.10), (0.85, 0.3)),
    "S": viseme((0.04, 0.26, 0.00, 0.00, 0.28), (1.4, 0.5)),
    "Z": viseme((0.04, 0.26, 0.00, 0.00, 0.28), (1.4, 0.5)),
    "SH": viseme((0.05, 0.20, 0.16, 0.27, 0.00), (0.9, 1.1)),
    "ZH": viseme((0.05, 0.20, 0.16, 0.27, 0.00), (0.9, 1.1)),
    "CH": viseme((0.05, 0.20, 0.14, 0.22, 0.00), (0.9, 1.1)),
    "JH": viseme((0.05, 0.20, 0.14, 0.22, 0.00), (0.9, 1.1)),
    "R": viseme((0.06, 0.05, 0.04, 0.50, 0.00), (1.0, 0.8)),
    "W": viseme((0.02, 0.00, 0.00, 0.95, 0.00), (1.3, 1.3)),
    "Y": viseme((0.12, 0.30, 0.00, 0.00, 0.40), (0.6, 0.6)),
    "K": viseme((0.11, 0.20, 0.00, 0.00, 0.10), (0.3, 0.1)),
    "G": viseme((0.11, 0.20, 0.00, 0.00, 0.10), (0.3, 0.1)),
    "NG": viseme((0.11, 0.20, 0.00, 0.00, 0.10), (0.3, 0.1)),
    "HH": viseme((0.15, 0.20, 0.00, 0.00, 0.10), (0.2, 0.1)),
}
BREATH = viseme((0.11, 0.16, 0.00, 0.00, 0.03), (0.5, 0.3))
"""Lips a little apart in short pauses: people breathe in through the mouth between phrases."""
REST = viseme((0.00, 0.00, 0.00, 0.00, 0.00), (0.8, 0.5))
VISEMES: dict[str, Viseme] = {**_VOWELS, **_CONSONANTS, "SIL": REST}


@dataclass(frozen=True, kw_only=True)
class Mouth:
    """What lips do for each phone, how it spreads, and what their articulators are in ARKit's words."""

    visemes: Mapping[str, Viseme]
    actions: Float[np.ndarray, "a 52"]
    reach: Float[np.ndarray, "a"]
    """How much further than that of the opening the influence of a phone on each articulator goes."""
    eased: Mapping[int, float]
    """Part of each articulator that gives in while the lower lip is on the teeth (f, v)."""


def per_articulator(values: Mapping[int, float]) -> Float[np.ndarray, "a"]:
    """Those that are named; 1 elsewhere."""
    return np.array([values.get(a, 1.0) for a in range(len(ARTICULATORS))])


AVERAGE = Mouth(
    visemes=VISEMES,
    actions=ARKIT_FROM_ARTICULATORS,
    # Rounding and spreading are one movement of the corners, and they spread further than opening.
    reach=per_articulator({ROUND: 1.4, PUCKER: 1.4, SPREAD: 1.4}),
    # In the scanner f and v have the highest jaw of all and draw back even the lips of an u.
    eased={JAW: 0.85, PART: 0.9, ROUND: 0.5, PUCKER: 0.5},
)
DIPHTHONGS = {"AW": ("AA", "UH"), "AY": ("AA", "IH"), "EY": ("EH", "IY"), "OW": ("O", "UW"), "OY": ("AO", "IH")}
"""Vowels that glide from one to the other, about half of the time each."""

CLOSURES = {"P": (0.00, 0.65), "B": (0.00, 0.80), "M": (0.05, 0.95)}
"""Which part of the phone the lips are shut; the rest of a stop is its burst."""
CONTACTS = {"F": (0.10, 0.90), "V": (0.10, 0.90)}
"""Which part of the phone the lower lip touches the upper teeth."""

ALIKE = (
    ("P", "B", "M"), ("F", "V"), ("W",), ("R", "ER"), ("SH", "ZH", "CH", "JH"), ("S", "Z"), ("T", "D"), ("N",), ("L",),
    ("TH", "DH"), ("K", "G", "NG"), ("HH",), ("Y",), ("IY", "IH"), ("EH",), ("AE",), ("AA",), ("AH",), ("AO", "O"),
    ("UW", "UH"),
)  # fmt: skip
"""Phones that the lips make alike, for what is particular to a person."""
