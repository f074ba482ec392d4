"""Motion from a voice while it speaks: the rules on chances of phones (`blend`), with `DELAY` seconds of future.

Nothing has to be decided, so nothing has to be waited for. Acoustic tables and the network hear the phones, half and
half; of the last 50 ms only the tables have told yet.
"""

import numpy as np
from jaxtyping import Float

from avatar.core import MotionSequence
from avatar.speech.acoustics import acoustic_tables
from avatar.speech.articulation import AGREEMENT, RAMP, drawn_apart
from avatar.speech.blend import nearness, weighted_targets
from avatar.speech.features import HOP, RATE
from avatar.speech.habits import GROUP, moved
from avatar.speech.hearing import ACTIVITY, LOOK_AHEAD, PHONE, FeatureStream
from avatar.speech.lip_net import CURVES, GATES, STACK, shipped_net
from avatar.speech.lip_stream import FrameStream
from avatar.speech.performance import Lips, Prosody, perform
from avatar.speech.phones import LEAD, SILENCE
from avatar.speech.style import SpeechStyle
from avatar.speech.vad import CHUNK, SURE, VoiceDetector
from avatar.speech.visemes import ALIKE, CLOSURES, CONTACTS, DIPHTHONGS, JAW, PUCKER, VISEMES

AHEAD, BEHIND = 5, 20
"""Rows (10 ms) of the future and of the past that shape a moment."""
DELAY = LOOK_AHEAD + AHEAD / 100
"""Seconds of sound after a moment that its lips depend on (153 ms)."""
SHARE = 0.5
"""Part of the network in which phones are heard, and in the contacts."""
VOICE = 0.5
"""Activity from which the mouth is wholly free to move."""
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
        self._targets, self._strengths = weighted_targets()
        self._groups = _weighted_groups()
        names = acoustic_tables().phones
        self._shuts = np.array([name in CLOSURES for name in names])
        self._bites = np.array([name in CONTACTS for name in names])
        self._rows = np.zeros((BEHIND, self._features.push(np.zeros(0, np.float32)).shape[1]), np.float32)
        self._rows[:, PHONE] = still = [name == SILENCE for name in names]
        self._told_of = np.tile(np.array([0.0] * GATES + still, np.float32), (BEHIND, 1))
        """What the network says of those rows: the two contacts, chances of phones."""
        self._dropped = -BEHIND
        """Rows before those that are kept."""

    def push(self, samples: Float[np.ndarray, "s"]) -> MotionSequence | None:
        """Frames that can be told now; `samples` are the next ones."""
        self._voices.push(samples)
        rows = self._features.push(samples)
        said = self._frames.push(rows)[:, CURVES:]
        self._told_of = np.concatenate([self._told_of, np.repeat(said, STACK, axis=0)])
        first = self._dropped + len(self._rows)
        rows[:, ACTIVITY] *= [self._voices.near(first + i) for i in range(len(rows))]
        self._rows = np.concatenate([self._rows, rows])
        last = self._dropped + len(self._rows) - 1 - AHEAD
        count = int(last / 100 * self._fps + 1e-6) + 1 - self._told if last >= 0 else 0
        if count <= 0:
            return None
        parts = [self._moment(self._told + i) for i in range(count)]
        curves, own, shut, bite, gate = (np.array(part, np.float32) for part in zip(*parts, strict=True))
        lips, heard = Lips(curves=curves, shut=shut, bite=bite), Prosody(gate=gate, emphasis=np.zeros(count))
        lips = moved(lips, *own.T) if self.style.habits else lips
        motion = perform(lips, heard, self.style, self._fps, self._seed, first=self._told)
        self._told += count
        gone = max(round(self._told / self._fps * 100) - BEHIND - self._dropped - 1, 0)
        self._rows, self._told_of, self._dropped = self._rows[gone:], self._told_of[gone:], self._dropped + gone
        return motion

    @property
    def seconds(self) -> float:
        """The moment of the newest frame."""
        return (self._told - 1) / self._fps

    def _moment(self, frame: int) -> tuple[np.ndarray, np.ndarray, float, float, float]:
        """Articulators, what habits open and widen (mm), the two contacts, and how free the mouth is to move."""
        moment = round(frame / self._fps * 100)
        centre = moment - self._dropped
        rows, told = (kept[centre - BEHIND : centre + AHEAD + 1] for kept in (self._rows, self._told_of))
        chances = rows[:, PHONE].astype(np.float64)
        # Of what comes the network has said nothing yet.
        known = BEHIND + STACK - moment % STACK
        chances[:known] += SHARE * (told[:known, GATES:] - chances[:known])
        blend, weight = chances @ self._targets, chances @ self._strengths
        curves = (_NEAR.T * blend.T).sum(1) / ((_NEAR.T * weight.T).sum(1) + 1e-4)
        curves = drawn_apart(curves[None])[0]
        own = np.zeros(2)
        if self.style.habits:
            habits, kinds = np.array(self.style.habits), [JAW, PUCKER]
            offsets = chances @ np.einsum("cpk,kc->pc", self._groups, habits)
            own = (_NEAR[:, kinds] * offsets).sum(0) / ((_NEAR[:, kinds] * weight[:, kinds]).sum(0) + 1e-4)
        low, high = AGREEMENT
        shut, bite = (
            (1 - SHARE) * (np.clip((chances[:, which].sum(1) - low) / (high - low), 0, 1) * _TOUCH).max() + SHARE * said
            for which, said in zip((self._shuts, self._bites), told[BEHIND, :GATES], strict=True)
        )
        gate = min(float(rows[BEHIND:, ACTIVITY].mean()) / VOICE, 1.0)
        return curves.astype(np.float32), own, float(shut), float(bite), gate


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


def _weighted_groups() -> Float[np.ndarray, "2 p k"]:
    """Of each phone of the tables: its dominance over opening and shape, in the columns of `ALIKE` it belongs to."""
    names = acoustic_tables().phones
    out = np.zeros((2, len(names), len(ALIKE)))
    for p, name in enumerate(names):
        halves = DIPHTHONGS.get(name, (name,))
        for half in (h for h in halves if h in GROUP):
            out[:, p, GROUP[half]] += np.array(VISEMES[half].dominance)[[JAW, PUCKER]] / len(halves)
    return out


_AWAY = np.arange(-BEHIND, AHEAD + 1) / 100 - LEAD
"""Seconds from a moment of the lips to the rows about it."""
_NEAR = nearness(_AWAY)
_TOUCH = 0.5 + 0.5 * np.cos(np.pi * np.minimum(np.abs(_AWAY) / RAMP, 1.0))
