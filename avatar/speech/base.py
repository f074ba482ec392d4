"""From sound to motion: the interface of every audio-driven model, with rules or learned."""

from abc import ABC, abstractmethod

from avatar.core import AudioTrack, MotionSequence


class AbstractSpeechMotion(ABC):
    """Turns a voice into the motion of a head.

    The motion is relative to the person's rest: `T_world_head` is a small rigid motion near the identity about the
    skull's joint (x_rest = T @ x_head), `neck` and `gaze` are near 0, and `expression` is absolute in [0, 1].
    `avatar.drive.retarget` puts it on top of an avatar's rest pose.
    """

    @abstractmethod
    def __call__(self, audio: AudioTrack, fps: float, seed: int = 0) -> MotionSequence:
        """Motion for the whole of `audio`: `frame_count(audio, fps)` frames, the same for the same seed.

        Raises:
            InputError: if `fps` is not positive or a needed optional package is missing.
        """


def frame_count(audio: AudioTrack, fps: float) -> int:
    """How many frames at `fps` cover the sound, at least one."""
    return max(round(audio.seconds * fps), 1)
