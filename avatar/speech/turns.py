"""Whose turn it is: speaking, listening or waiting, and what happens in a voice that a head answers to. Causal."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

SPEAKING, LISTENING, WAITING = range(3)

ACCENT, ARMED = 0.8, 0.45
"""Emphasis at which a syllable is an accent, and below which the next one may be."""
ACCENT_PAUSE = 0.30
"""Seconds between two accents."""
PHRASE, PAUSE = 0.6, 0.20
"""Seconds of voice that make a phrase, and of silence that end it."""
KEEP_TURN, KEEP_LISTENING = 0.8, 2.5
"""Seconds of silence in which a speaker still holds the turn, and a listener still listens."""
SWITCH = 0.22
"""Time constant (seconds) of each of the two filters that turn a switch into a change without a jump of speed."""


@dataclass(frozen=True, kw_only=True)
class Prosody:
    """What loudness and voice say, on a frame grid."""

    gate: Float[np.ndarray, "t"]
    """1 where the mouth may move, 0 in silence."""
    emphasis: Float[np.ndarray, "t"]
    """Loudness against its surroundings, in standard deviations (about -2 to 2); 0 in silence."""

    def select(self, part: slice) -> "Prosody":
        """Some of the frames."""
        return Prosody(gate=self.gate[part], emphasis=self.emphasis[part])


@dataclass(frozen=True)
class Cue:
    """Something in a voice that a head answers to."""

    frame: int
    what: str
    """accent, begin or end (of a phrase)."""
    mine: bool
    """Of the own voice, not of the other's."""


@dataclass
class Ear:
    """Follows one voice, frame by frame."""

    fps: float
    mine: bool
    silent: float = 1e9
    """Seconds since the voice was last there; 0 while it is."""
    _spoken: float = 0.0
    _since_accent: float = 1e9
    _armed: bool = True

    def hear(self, frame: int, gate: float, emphasis: float) -> list[Cue]:
        """What happens in this frame."""
        cues, step, before = [], 1.0 / self.fps, self.silent
        self._since_accent += step
        if gate > 0.5:
            self._spoken = self._spoken + step if before < PAUSE else step
            self.silent = 0.0
            if before >= PAUSE:
                cues.append(Cue(frame, "begin", self.mine))
        else:
            self.silent = before + step
            if before < PAUSE <= self.silent and self._spoken >= PHRASE:
                cues.append(Cue(frame, "end", self.mine))
        if emphasis < ARMED:
            self._armed = True
        elif emphasis > ACCENT and self._armed and self._since_accent >= ACCENT_PAUSE:
            self._armed, self._since_accent = False, 0.0
            cues.append(Cue(frame, "accent", self.mine))
        return cues


@dataclass
class Turns:
    """The state of a conversation; what comes in pieces is as if it came at once."""

    fps: float
    _told: int = 0
    """Frames before the next one."""
    _mine: Ear = field(init=False)
    _other: Ear = field(init=False)
    _memory: "list[Float[np.ndarray, '1 3']] | None" = None

    def __post_init__(self) -> None:
        self._mine, self._other = Ear(self.fps, mine=True), Ear(self.fps, mine=False)

    def push(self, mine: Prosody, other: Prosody | None = None) -> tuple[Float[np.ndarray, "t 3"], list[Cue]]:
        """Shares of the three states, which add up to 1, and what happened, for the next frames."""
        count = len(mine.gate)
        wanted, cues = np.zeros((count, 3)), []
        for i in range(count):
            cues += self._mine.hear(self._told + i, mine.gate[i], mine.emphasis[i])
            if other is not None:
                cues += self._other.hear(self._told + i, other.gate[i], other.emphasis[i])
            wanted[i, self._state()] = 1.0
        self._told += count
        return self._smoothed(wanted), cues

    def _state(self) -> int:
        if self._mine.silent < KEEP_TURN:
            return SPEAKING
        return LISTENING if self._other.silent < KEEP_LISTENING else WAITING

    def _smoothed(self, wanted: Float[np.ndarray, "t 3"]) -> Float[np.ndarray, "t 3"]:
        if not len(wanted):
            return wanted
        keep = float(np.exp(-1.0 / (SWITCH * self.fps)))
        if self._memory is None:
            self._memory = [keep * wanted[:1], keep * wanted[:1]]
        for stage in range(2):
            wanted, self._memory[stage] = lfilter([1 - keep], [1, -keep], wanted, axis=0, zi=self._memory[stage])
        return wanted
