"""A microphone that is open: sound comes in pieces, and the lips of this moment go to the picture."""

import threading
import time

import numpy as np
import torch

from avatar.core import AudioTrack
from avatar.drive.retarget import limited
from avatar.drive.sources import speech_style
from avatar.media.audio import SoundStream
from avatar.models.avatar_model import AvatarModel
from avatar.speech.features import RATE
from avatar.speech.live_motion import LiveMotion
from avatar.viewer.performance import LONGEST, SOUND_RATE, STYLES, Performance, Voice
from avatar.viewer.posing import at_rest
from avatar.viewer.session import Session

_MOST_WAITING = 1.0
"""Seconds of sound that wait; of more only the newest are heard."""


class Ear:
    """Listens for one session from when it is made until `close`, or until the session performs something else.

    `hear` and `work` may run in different threads.
    """

    def __init__(self, avatar: AvatarModel, session: Session) -> None:
        self._avatar, self._session = avatar, session
        self._style = speech_style(avatar)
        self._stream, self._kept, self._voice = SoundStream(RATE), SoundStream(SOUND_RATE), Voice()
        self._motion: LiveMotion | None = None
        self._waiting: list[AudioTrack] = []
        self._lock = threading.Lock()
        self._before = self._own = session.performance
        self._heard = 0.0

    def hear(self, piece: AudioTrack) -> bool:
        """Take a piece of sound; gives whether `work` has to be called for it."""
        with self._lock:
            starts = not self._waiting
            self._waiting.append(piece)
            while len(self._waiting) > 1 and sum(p.seconds for p in self._waiting) > _MOST_WAITING:
                self._waiting.pop(0)
            return starts

    def work(self) -> bool:
        """Move the lips by all that waits; gives whether the picture changed.

        Raises:
            InputError: if pocketsphinx is not installed.
        """
        with self._lock:
            pieces, self._waiting = self._waiting, []
        self._heard += sum(piece.seconds for piece in pieces)
        if self._heard > LONGEST:
            return False
        self._motion = self._motion or LiveMotion(self._style, self._avatar.meta.fps)
        way = self._motion.style = STYLES[self._session.style](self._style)
        self._voice.add(np.concatenate([self._kept.push(piece) for piece in pieces]))
        motion = self._motion.push(np.concatenate([self._stream.push(piece) for piece in pieces]))
        if motion is None:
            return False
        now = limited(motion.select(slice(len(motion) - 1, len(motion))), torch.tensor(way.ceiling))
        return self._perform(
            Performance(name="the microphone", motion=now, voice=self._voice, voice_at=self._motion.seconds)
        )

    def _perform(self, performance: Performance | None) -> bool:
        with self._lock:
            if self._session.performance is not self._own:
                return False
            self._own = performance
            self._session.perform(performance, time.monotonic())
            return True

    def close(self) -> None:
        """What was performed before comes back."""
        self._perform(self._before)
        self._own = Performance(name="nothing", motion=at_rest(self._avatar))  # nothing is performed any more
