"""Motion from a voice while it speaks: the rules on chances of phones (`blend`), with `DELAY` seconds of future.

Nothing has to be decided, so nothing has to be waited for. Acoustic tables and the network hear the phones. Of the last
50 ms only the tables have told yet, and of the 60 ms after these, whose sound was heard but not what follows it, they
have a first guess. The mouth is free to move a little before a voice is heard.
"""

import numpy as np
from jaxtyping import Float, Int

from avatar.core import MotionSequence
from avatar.speech.acoustics import acoustic_tables
from avatar.speech.articulation import AGREEMENT, RAMP
from avatar.speech.blend import FAINT, halved, kinds, sounds, weighed, weighted_targets
from avatar.speech.features import HOP, RATE, SILENCE_DB
from avatar.speech.habits import GROUP, moved
from avatar.speech.hearing import ACTIVITY, LAG, LOOK_AHEAD, PHONE, PHONES, REACH, FeatureStream
from avatar.speech.lip_net import CURVES, GATES, STACK, shipped_net
from avatar.speech.lip_stream import FrameStream
from avatar.speech.performance import Lips, Prosody, perform
from avatar.speech.phones import LEAD, SILENCE
from avatar.speech.style import SpeechStyle
from avatar.speech.vad import CHUNK, SURE, VoiceDetector
from avatar.speech.valleys import AROUND, valleys
from avatar.speech.visemes import ALIKE, CLOSURES, CONTACTS, JAW, PUCKER, VISEMES

AHEAD, BEHIND = 5, 20
"""Rows (10 ms) of the future and of the past that shape a moment, besides `LAG` that are guessed."""
DELAY = LOOK_AHEAD + AHEAD / 100
"""Seconds of sound after a moment that its lips depend on (153 ms)."""
SHARE = 0.6
"""Part of the network in which phones and contacts are heard: it hears them better (voices held out)."""
VOICE = 1 / 3
"""Mean activity, of a moment and of what is known of the time after it, from which the mouth is wholly free to move."""
_BLOCK = 64
"""Frames made at once: memory does not grow with the length of a piece."""
_RECENT = 22
"""Pieces of 32 ms (0.7 s), in one of which a voice was heard if what is loud now is one."""


class LiveMotion:
    """Push sound at 16 kHz, get relative motion; frame i belongs to the moment i / fps and comes `DELAY` later."""

    def __init__(self, style: SpeechStyle, fps: float, seed: int = 0) -> None:
        """Args: `style` may be exchanged at any time.

        Raises:
            InputError: if pocketsphinx or silero-vad is not installed.
        """
        self.style = style
        self._fps, self._seed, self._told = fps, seed, 0
        self._features, self._frames, self._voices = FeatureStream(), FrameStream(shipped_net()), _Voices()
        self._strengths, self._groups = weighted_targets()[1], _weighted_groups()
        names = acoustic_tables().phones
        self._touching = [[i for i, name in enumerate(names) if name in parts] for parts in (CLOSURES, CONTACTS)]
        """Phones at which the lips touch each other, and at which they touch the teeth."""
        self._rows = np.zeros((BEHIND, self._features.push(np.zeros(0, np.float32)).shape[1]), np.float32)
        self._rows[:, PHONE] = still = [name == SILENCE for name in names]
        self._told_of = np.tile(np.array([0.0] * GATES + still, np.float32), (BEHIND, 1))
        """What the network says of those rows: the two contacts, chances of phones."""
        self._coming = np.zeros((BEHIND, LAG, PHONES), np.float32)
        """Chances of phones after each of those rows."""
        self._active = np.zeros((BEHIND, REACH), np.float32)
        """Activity after each of those rows."""
        self._loud = np.full(BEHIND, SILENCE_DB, np.float32)
        """Loudness of those rows and of some after them."""
        self._dropped = -BEHIND
        """Rows before those that are kept."""

    def push(self, samples: Float[np.ndarray, "s"]) -> MotionSequence | None:
        """Frames that can be told now; `samples` are the next ones."""
        self._voices.push(samples)
        rows = self._features.push(samples)
        self._loud = np.concatenate([self._loud, self._features.louder])
        said = self._frames.push(rows)[:, CURVES:]
        self._told_of = np.concatenate([self._told_of, np.repeat(said, STACK, axis=0)])
        first = self._dropped + len(self._rows)
        near = np.array([self._voices.near(first + i) for i in range(len(rows))], np.float32)
        phones, active = self._features.coming()
        rows[:, ACTIVITY] *= near
        self._rows, self._coming = np.concatenate([self._rows, rows]), np.concatenate([self._coming, phones])
        self._active = np.concatenate([self._active, active * near[:, None]])
        last = self._dropped + len(self._rows) - 1 - AHEAD
        count = int(last / 100 * self._fps + 1e-6) + 1 - self._told if last >= 0 else 0
        if count <= 0:
            return None
        frames = np.arange(self._told, self._told + count)
        parts = [self._moments(frames[at : at + _BLOCK]) for at in range(0, count, _BLOCK)]
        curves, own, contacts, gate, depth = (np.concatenate(part) for part in zip(*parts, strict=True))
        shut, bite = contacts.T.astype(np.float32)
        lips = Lips(curves=curves, shut=shut, bite=bite, valley=depth)
        heard = Prosody(gate=gate, emphasis=np.zeros(count))
        lips = moved(lips, *own.T) if self.style.habits else lips
        motion = perform(lips, heard, self.style, self._fps, self._seed, first=self._told)
        self._told += count
        gone = max(round(self._told / self._fps * 100) - BEHIND - self._dropped - 1, 0)
        self._rows, self._told_of = self._rows[gone:], self._told_of[gone:]
        self._coming, self._active, self._loud = self._coming[gone:], self._active[gone:], self._loud[gone:]
        self._dropped += gone
        return motion

    @property
    def seconds(self) -> float:
        """The moment of the newest frame."""
        return (self._told - 1) / self._fps

    def _moments(self, frames: Int[np.ndarray, "t"]) -> tuple[np.ndarray, ...]:
        """Articulators, what habits open and widen (mm), the two contacts, how free the mouth is to move, valleys."""
        moments = np.round(frames / self._fps * 100).astype(int)
        at = moments[:, None] - self._dropped + np.arange(-BEHIND, AHEAD + 1)
        rows, told = self._rows[at], self._told_of[np.minimum(at, len(self._told_of) - 1)]
        # Of what comes the network has said nothing yet.
        known = (np.arange(-BEHIND, AHEAD + 1) < (STACK - moments % STACK)[:, None])[..., None]
        heard = rows[..., PHONE] + SHARE * known * (told[..., GATES:] - rows[..., PHONE])
        chances = halved(np.concatenate([heard, self._coming[at[:, -1]]], axis=1), 100.0)
        most = (chances[..., None] * _NEAR[:, None]).max(axis=1)
        own = np.zeros((len(frames), 2))
        if self.style.habits:
            for c, kind in enumerate((JAW, PUCKER)):
                most_of, offsets = most[..., _ALIKE[kind]], self._groups[c] @ np.array(self.style.habits)[:, c]
                own[:, c] = most_of @ offsets / (most_of @ self._strengths[:, kind] + FAINT)
        low, high = AGREEMENT
        contacts = [np.clip((heard[..., which].sum(2) - low) / (high - low), 0, 1) for which in self._touching]
        contacts = (np.stack(contacts, axis=2) * _TOUCH).max(axis=1)
        contacts += SHARE * (told[:, BEHIND, :GATES] - contacts)
        active = np.concatenate([rows[:, BEHIND:, ACTIVITY], self._active[at[:, -1]]], axis=1)
        near = self._loud[moments[:, None] - self._dropped + np.arange(-AROUND, AROUND + 1)]
        return weighed(most, _ALIKE), own, contacts, np.minimum(active.mean(axis=1) / VOICE, 1.0), valleys(near)


class _Voices:
    """Whether a voice is near each row of features: by as much sound as the row itself knows."""

    def __init__(self) -> None:
        self._detector, self._heard, self._gone, self._last = VoiceDetector(), np.zeros(0, bool), 0, 0.0

    def push(self, samples: Float[np.ndarray, "s"]) -> None:
        """Hear the next samples; of what was before, only as much is kept as rows that have yet to come need."""
        chances = self._detector.push(samples)
        before = np.concatenate([[self._last], chances])[:-1]
        self._last = float(chances[-1]) if len(chances) else self._last
        self._heard = np.concatenate([self._heard, np.minimum(chances, before) > SURE])  # clicks are shorter

    def near(self, row: int) -> bool:
        """Of rows in order."""
        known = (row * HOP + round(LOOK_AHEAD * RATE)) // CHUNK
        gone = max(known - _RECENT - self._gone, 0)
        self._heard, self._gone = self._heard[gone:], self._gone + gone
        return bool(self._heard[: max(known - self._gone, 0)].any())


def _weighted_groups() -> Float[np.ndarray, "2 q k"]:
    """Of each of `blend.sounds`: its dominance over opening and shape, in the column of `ALIKE` it belongs to."""
    names = sounds()
    out = np.zeros((2, len(names), len(ALIKE)))
    for q, name in enumerate(names):
        if name in GROUP:
            out[:, q, GROUP[name]] = np.array(VISEMES[name].dominance)[[JAW, PUCKER]]
    return out


_AWAY = np.arange(-BEHIND, AHEAD + LAG + 1) / 100 - LEAD
"""Seconds from a moment of the lips to the rows about it."""
_NEAR, _ALIKE = kinds(_AWAY)
_TOUCH = (0.5 + 0.5 * np.cos(np.pi * np.minimum(np.abs(_AWAY[: BEHIND + AHEAD + 1]) / RAMP, 1.0)))[:, None]
