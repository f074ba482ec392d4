"""Moves of head, eyes and face that begin, last and end: nods, glances, raised brows, small smiles, blinks.

Sizes and times are those that the literature reports of people in conversation: nods of a few degrees with the stress
of a phrase (Hadar et al. 1983, 1984), lids that fall in 75 ms and rise in 170 (Trutoiu et al. 2011), speakers that look
away as they begin and back as they end (Kendon 1967), listeners that nod at 1.7 to 2.6 Hz in the other's pauses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from avatar.speech.idle import SACCADE_SECONDS, Blink, Glance, eased, fixation_std
from avatar.speech.style import SpeechStyle
from avatar.speech.turns import LISTENING, Cue
from avatar.speech.visemes import ARKIT_INDEX

CLOSE_SECONDS, OPEN_SECONDS = 0.075, 0.17
"""Of the lids at a blink."""
NOD = 0.048
"""Radians of a middling nod with the voice..."""
AGREE = 0.060
"""... and in answer to another's."""
HEAD_SHARE = 0.3
"""How much of a glance the head goes along with."""


@dataclass(frozen=True, kw_only=True)
class Gesture:
    """Up, held, and down again, smoothly."""

    start: float
    rise: float
    hold: float
    fall: float
    """Seconds."""
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation vector of the head at its height, radians."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """Yaw and pitch, radians."""
    lids: float = 0.0
    """How far the lids close."""
    face: dict[str, float] = field(default_factory=dict)
    """Offsets of coefficients; a name without its side stands for both."""
    beat_hz: float = 0.0
    """Nods a second within the gesture; 0 is a single move."""
    state: int | None = None
    """Only as far as the head is in this state of `turns`."""

    @property
    def end(self) -> float:
        return self.start + self.rise + self.hold + self.fall

    def strength(self, times: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
        """In [0, 1]."""
        since = times - self.start
        out = eased(since / self.rise) * (1.0 - eased((since - self.rise - self.hold) / self.fall))
        if self.beat_hz:
            out *= 0.5 - 0.5 * np.cos(2 * np.pi * self.beat_hz * since)
        return out


@dataclass(frozen=True, kw_only=True)
class Moves:
    """Gestures put together, for each frame."""

    turn: Float[np.ndarray, "t 3"]
    gaze: Float[np.ndarray, "t 2"]
    lids: Float[np.ndarray, "t"]
    face: Float[np.ndarray, "t 52"]


def played(gestures: Sequence[Gesture], times: Float[np.ndarray, "t"], states: Float[np.ndarray, "t 3"]) -> Moves:
    """All gestures at `times` (seconds), with the shares of the states there."""
    count = len(times)
    out = Moves(turn=np.zeros((count, 3)), gaze=np.zeros((count, 2)), lids=np.zeros(count), face=np.zeros((count, 52)))
    for gesture in gestures:
        low, high = np.searchsorted(times, [gesture.start, gesture.end])
        strength = gesture.strength(times[low:high])
        if gesture.state is not None:
            strength = strength * states[low:high, gesture.state]
        out.turn[low:high] += strength[:, None] * np.asarray(gesture.turn)
        out.gaze[low:high] += strength[:, None] * np.asarray(gesture.gaze)
        out.lids[low:high] = np.maximum(out.lids[low:high], strength * gesture.lids)
        for part, amount in gesture.face.items():
            for name in (part, f"{part}Left", f"{part}Right"):
                if name in ARKIT_INDEX:
                    out.face[low:high, ARKIT_INDEX[name]] += strength * amount
    return out


def blink(drawn: Blink, step: float) -> Gesture:
    """A blink; on a coarse grid of `step` seconds it still reaches its depth on one frame."""
    return Gesture(
        start=drawn.moment,
        rise=CLOSE_SECONDS * drawn.stretch,
        hold=max(0.03 * drawn.stretch, 1.004 * step),
        fall=OPEN_SECONDS * drawn.stretch,
        lids=drawn.depth,
        face={"eyeSquint": 0.25 * drawn.depth},
    )


def glance(drawn: Glance, style: SpeechStyle) -> list[Gesture]:
    """Eyes leave the listener at once, the head follows a little."""
    yaw, pitch = drawn.angles
    share = HEAD_SHARE * min(style.nod_gain, 1.0)
    eyes = Gesture(
        start=drawn.moment, rise=SACCADE_SECONDS, hold=drawn.seconds, fall=SACCADE_SECONDS, gaze=drawn.angles
    )
    head = Gesture(
        start=drawn.moment,
        rise=0.4,
        hold=max(drawn.seconds - 0.3, 0.05),
        fall=0.5,
        turn=(share * pitch, -share * yaw, 0),
    )
    return [eyes, head]


def answers(cue: Cue, listening: bool, style: SpeechStyle, fps: float, seed: int) -> list[Gesture]:
    """What the head does at a cue; chance decides, the same for the same seed and frame."""
    rng = np.random.default_rng([seed, 30 + cue.mine, cue.frame])
    if not cue.mine and not listening:
        return []
    out = _ANSWERS[cue.mine, cue.what](cue.frame / fps, style, rng)
    return out + _blink_at_pause(cue.frame / fps, style, rng, 1.0 / fps) if cue.what == "end" else out


def _accent(start: float, style: SpeechStyle, rng: np.random.Generator) -> list[Gesture]:
    out = []
    chance, size = rng.random(), NOD * style.nod_gain * rng.uniform(0.5, 1.4)
    aside, tilt = rng.normal(size=2) * 0.6
    if chance < 0.75:
        down = size if chance < 0.55 else -0.6 * size
        rise, fall = rng.uniform(0.17, 0.26), rng.uniform(0.35, 0.6)
        out.append(Gesture(start=start, rise=rise, hold=0.02, fall=fall, turn=(down, aside * size, tilt * size)))
    if rng.random() < 0.4:
        amount, hold = style.brow_gain * rng.uniform(0.8, 1.6), rng.uniform(0.05, 0.35)
        raised = {"browInnerUp": 0.16 * amount, "browOuterUp": 0.10 * amount}
        out.append(Gesture(start=start, rise=0.18, hold=hold, fall=0.4, face=raised))
    return out


def _begin(start: float, style: SpeechStyle, rng: np.random.Generator) -> list[Gesture]:
    up, tilt = -0.012 * style.nod_gain * rng.uniform(0.5, 1.5), 0.01 * style.nod_gain * rng.normal()
    out = [Gesture(start=start, rise=0.35, hold=0.3, fall=0.9, turn=(up, 0.0, tilt))]
    if rng.random() < 0.4:
        aside, high = rng.normal(size=2) * fixation_std(style) * 1.7
        out += glance(Glance(start + 0.1, float(rng.uniform(0.5, 1.1)), (float(aside), -abs(float(high))), 0.0), style)
    return out


def _end(start: float, style: SpeechStyle, rng: np.random.Generator) -> list[Gesture]:
    out = []
    if rng.random() < 0.65:
        down, tilt = style.nod_gain * rng.uniform(0.012, 0.04), style.nod_gain * 0.012 * rng.normal()
        out.append(Gesture(start=start, rise=0.45, hold=0.4, fall=1.1, turn=(down, 0.0, tilt)))
    return out


def _heard_begin(start: float, style: SpeechStyle, rng: np.random.Generator) -> list[Gesture]:
    side, forward = 0.03 * style.nod_gain * rng.normal(), 0.015 * style.nod_gain * rng.uniform(0, 1)
    hold = float(rng.uniform(3.0, 8.0))
    return [Gesture(start=start, rise=0.9, hold=hold, fall=1.4, turn=(forward, 0.0, side), state=LISTENING)]


def _heard_accent(start: float, style: SpeechStyle, rng: np.random.Generator) -> list[Gesture]:
    if rng.random() > 0.14:
        return []
    down = 0.6 * AGREE * style.nod_gain * rng.uniform(0.5, 1.2)
    return [Gesture(start=start, rise=0.22, hold=0.02, fall=0.45, turn=(down, 0.0, 0.0), state=LISTENING)]


def _heard_end(start: float, style: SpeechStyle, rng: np.random.Generator) -> list[Gesture]:
    out, gain = [], style.smile_gain
    if rng.random() < 0.65:
        beats, rate = int(rng.integers(1, 4)), float(rng.uniform(1.7, 2.6))
        down = AGREE * style.nod_gain * rng.uniform(0.5, 1.3)
        length = beats / rate
        out.append(
            Gesture(
                start=start, rise=0.3 * length, hold=0.2 * length, fall=0.5 * length + 0.1, turn=(down, 0, 0),
                beat_hz=rate, state=LISTENING,
            )
        )  # fmt: skip
    if rng.random() < 0.4:
        amount, hold = gain * rng.uniform(0.16, 0.34), float(rng.uniform(0.5, 1.5))
        smile = {"mouthSmile": amount, "cheekSquint": 0.4 * amount, "eyeSquint": 0.2 * amount}
        out.append(Gesture(start=start, rise=0.5, hold=hold, fall=0.9, face=smile, state=LISTENING))
    if rng.random() < 0.2:
        raised = {"browInnerUp": 0.22 * gain, "browOuterUp": 0.16 * gain}
        out.append(Gesture(start=start, rise=0.2, hold=0.4, fall=0.5, face=raised, state=LISTENING))
    return out


def _blink_at_pause(start: float, style: SpeechStyle, rng: np.random.Generator, step: float) -> list[Gesture]:
    """Speakers and their listeners blink together in pauses (Nakano and Kitazawa 2010)."""
    chance, stretch, depth = rng.random(), rng.uniform(0.75, 1.35), rng.uniform(0.92, 1.0)
    if style.blink_hz <= 0 or chance > min(1.4 * style.blink_hz, 0.6):
        return []
    return [blink(Blink(start, float(stretch), float(style.blink_depth * depth), 0.0), step)]


_ANSWERS = {
    (True, "accent"): _accent, (True, "begin"): _begin, (True, "end"): _end,
    (False, "accent"): _heard_accent, (False, "begin"): _heard_begin, (False, "end"): _heard_end,
}  # fmt: skip
