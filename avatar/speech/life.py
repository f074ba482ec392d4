"""A head that lives: while it speaks, listens or waits. Random from a seed, causal, as a stream of any length.

Postures, glances, blinks and breath go on by themselves (`idle`), nods, brows and smiles answer to voices (`gestures`),
and whose turn it is says how much of each (`turns`). What comes in pieces is what would have come at once; memory holds
the gestures that are not over yet, and nothing else.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from avatar.speech import idle
from avatar.speech.gestures import Gesture, answers, blink, glance, played
from avatar.speech.style import SpeechStyle
from avatar.speech.turns import LISTENING, SPEAKING, Cue, Prosody, Turns

HEAD_MOTION = np.array([1.0, 0.5, 0.6])
"""How much the head moves by itself while speaking, listening and waiting: speakers move most (Hadar et al. 1984)."""
BLINKS = np.array([0.74, 0.70, 0.65])
"""Share of the blinks of conversation that come by themselves; speaking and listening add those in pauses. At rest
people blink 17 times a minute, in conversation 26 (Bentivoglio et al. 1997)."""
GLANCES = np.array([0.45, 0.18, 0.50])
"""Chance to look away, each `idle.GLANCE_CELL`: listeners look at speakers more than these back (Kendon 1967)."""
SHORTEST_PAUSE = 0.3
"""Seconds from the start of a blink to that of the next."""
PIECE = 512
"""Frames made at once: so the effort of a moment does not depend on the length of the whole."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """What a head does besides moving its lips, on a frame grid."""

    turn: Float[np.ndarray, "t 3"]
    """Rotation vector of the head, radians."""
    body: Float[np.ndarray, "t 3"]
    """Metres by which the whole person is shifted."""
    breath: Float[np.ndarray, "t"]
    """Metres by which the shoulders are raised."""
    gaze: Float[np.ndarray, "t 2"]
    """Yaw and pitch of both eyes in the head, radians."""
    lids: Float[np.ndarray, "t"]
    """How far the lids close."""
    face: Float[np.ndarray, "t 52"]
    """Offsets of coefficients; none of them parts the lips."""
    states: Float[np.ndarray, "t 3"]
    """Shares of speaking, listening and waiting."""


class LifeStream:
    """Push what is heard, get as many frames of a living head."""

    def __init__(self, style: SpeechStyle, fps: float, seed: int = 0, *, first: int = 0, talking: bool = False):
        """Args:
        first: frames of the same head that came before.
        talking: it is always this head's turn, and pauses mean nothing: for a voice of which only a moment is known.
        """
        self.style = style
        self._fps, self._seed, self._told, self._talking = fps, seed, first, talking
        self._turns = Turns(fps, first)
        self._active: list[Gesture] = []
        self._last_blink = -idle.REFRACTORY
        if first:
            self._begin(first / fps)

    def push(self, mine: Prosody, other: Prosody | None = None) -> Life:
        """The next frames. `mine` is the own voice, `other` that of whom the head listens to, of the same length."""
        count = len(mine.gate)
        parts = [slice(at, at + PIECE) for at in range(0, max(count, 1), PIECE)]
        done = [self._piece(mine.select(part), other and other.select(part)) for part in parts]
        return Life(**{f.name: np.concatenate([getattr(piece, f.name) for piece in done]) for f in fields(Life)})

    def _begin(self, now: float) -> None:
        """What began before the first frame may still go on."""
        for drawn in idle.blinks(now - 1.0, now, self.style, self._seed):
            if drawn.mark < BLINKS[SPEAKING]:
                self._blink(blink(drawn, 1.0 / self._fps))
        for drawn in idle.glances(now - 3.0, now, self.style, self._seed):
            if drawn.mark < GLANCES[SPEAKING]:
                self._active += glance(drawn, self.style)

    def _piece(self, mine: Prosody, other: Prosody | None) -> Life:
        count, style = len(mine.gate), self.style
        times = (self._told + np.arange(count)) / self._fps
        states, cues = self._heard(mine, other)
        for _, what in sorted([*self._answered(cues, states), *self._spontaneous(count, states)], key=lambda x: x[0]):
            for gesture in what:
                if gesture.lids:
                    self._blink(gesture)
                else:
                    self._active.append(gesture)
        moves = played(self._active, times, states)
        moving = (states @ HEAD_MOTION)[:, None]
        turn = moves.turn + moving * idle.head_sway(times, style, self._seed)
        gaze = moves.gaze + idle.fixations(times, style, self._seed)
        self._told += count
        now = self._told / self._fps
        self._active = [gesture for gesture in self._active if gesture.end > now - 1.0 / self._fps]
        return Life(
            turn=turn,
            body=moving * idle.body_sway(times, style, self._seed),
            breath=idle.breath(times, self._seed) * min(sum(style.body_std) * 1e3, 1.0),
            # The eyes stay with what they look at while the head turns.
            gaze=gaze + style.gaze_hold * turn[:, [1, 0]] * np.array([1.0, -1.0]),
            lids=moves.lids,
            face=moves.face,
            states=states,
        )

    def _heard(self, mine: Prosody, other: Prosody | None) -> tuple[Float[np.ndarray, "t 3"], list[Cue]]:
        if not self._talking:
            return self._turns.push(mine, other)
        _, cues = self._turns.push(mine)
        states = np.zeros((len(mine.gate), 3))
        states[:, SPEAKING] = 1.0
        return states, [cue for cue in cues if cue.what == "accent"]

    def _answered(self, cues: list[Cue], states: Float[np.ndarray, "t 3"]) -> list[tuple[int, list[Gesture]]]:
        listening = states[:, LISTENING] > 0.5
        return [
            (cue.frame, answers(cue, bool(listening[cue.frame - self._told]), self.style, self._fps, self._seed))
            for cue in cues
        ]

    def _spontaneous(self, count: int, states: Float[np.ndarray, "t 3"]) -> list[tuple[int, list[Gesture]]]:
        """Blinks and glances that begin in these frames, as often as the states have them."""
        fps, style, seed = self._fps, self.style, self._seed
        start, end = (self._told - 1) / fps, (self._told + count + 1) / fps
        drawn = [
            *((b, [blink(b, 1.0 / fps)], BLINKS) for b in idle.blinks(start, end, style, seed)),
            *((g, glance(g, style), GLANCES) for g in idle.glances(start, end, style, seed)),
        ]
        placed = [(int(d.moment * fps + 1e-6), d.mark, gestures, shares) for d, gestures, shares in drawn]
        return [
            (frame, gestures)
            for frame, mark, gestures, shares in placed
            if 0 <= frame - self._told < count and mark < states[frame - self._told] @ shares
        ]

    def _blink(self, gesture: Gesture) -> None:
        """Two blinks at once are one."""
        if gesture.start >= self._last_blink + SHORTEST_PAUSE:
            self._active.append(gesture)
            self._last_blink = gesture.start
