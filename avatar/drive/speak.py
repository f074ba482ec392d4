"""The main job: an avatar folder and a sound file or a text in, a talking film out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avatar.core import AudioTrack, MotionSequence
from avatar.drive.render import Shot, render_video
from avatar.drive.sources import SOUND_RATE, from_file, from_voice, placed, read_voice
from avatar.errors import InputError
from avatar.events import Notice, Sink, silent
from avatar.media import check_output
from avatar.media.audio import resampled
from avatar.models.avatar_model import AvatarModel
from avatar.speech.conversation import together
from avatar.speech.engines import voice_named
from avatar.speech.phones import Phone
from avatar.speech.style import Direction


@dataclass(frozen=True, kw_only=True)
class Script:
    """What an avatar says, whom it listens to, and how it does that."""

    audio: Path | None = None
    """A sound file to say."""
    text: str = ""
    """... or a text."""
    voice: str = "espeak"
    """Who reads the text, see `avatar.speech.engines.voice_named`."""
    language: str = "en"
    listen: Path | None = None
    """The voice of somebody else, in time with its own."""
    direction: Direction = field(default_factory=Direction)
    seed: int = 0
    """Of blinks, gaze and movements of the head."""

    def __post_init__(self) -> None:
        if self.audio is not None and self.text:
            raise InputError("both a sound and a text to say; give one of them")
        if self.audio is None and not self.text.strip() and self.listen is None:
            raise InputError("nothing to say and nobody to listen to; give a sound, a text or another's voice")


def speak(
    avatar: Path, audio: Path, out: Path, shot: Shot | None = None, *, seed: int = 0, sink: Sink = silent
) -> None:
    """Make the avatar in a folder say a sound file; see `enact`."""
    enact(avatar, Script(audio=audio, seed=seed), out, shot, sink=sink)


def enact(avatar: Path, script: Script, out: Path, shot: Shot | None = None, *, sink: Sink = silent) -> None:
    """Make the avatar in a folder perform a script.

    Args:
        out: .mp4, .mov, .webm, .mkv or .png; with a transparent background .mov, .webm or .png.

    Raises:
        InputError: on anything in the request that cannot be used; no file is left then.
    """
    check_output(out)
    model = AvatarModel.load(avatar)
    motion, sound = acted(script, model, sink)
    render_video(model, motion, out, shot, audio=sound, sink=sink)


def acted(script: Script, avatar: AvatarModel, sink: Sink = silent) -> tuple[MotionSequence, AudioTrack]:
    """The avatar's motion, on its rest pose, and what is heard: its own voice and the other's.

    Raises:
        InputError: if a sound cannot be read or the text cannot be spoken.
    """
    other = None if script.listen is None else read_voice(script.listen, sink)
    mine, phones = _said(script, other, sink)
    moves = from_voice(mine, avatar, seed=script.seed, direction=script.direction, other=other, phones=phones)
    return placed(moves, avatar, script.direction), mine if other is None else together(mine, other)


def _said(script: Script, other: AudioTrack | None, sink: Sink) -> tuple[AudioTrack, Sequence[Phone]]:
    if script.audio is not None:
        return read_voice(script.audio, sink), ()
    if not script.text.strip():
        assert other is not None
        return AudioTrack(samples=np.zeros_like(other.samples), rate=other.rate), (Phone("SIL", 0.0, other.seconds),)
    spoken = voice_named(script.voice).say(script.text, script.language)
    if not spoken.phones:
        sink(Notice(message="this voice does not tell when its sounds are, so the lips follow what is heard"))
    sound = resampled(spoken.audio, SOUND_RATE)
    return AudioTrack(samples=sound.samples.clip(-1, 1), rate=SOUND_RATE), spoken.phones


def perform(
    avatar: Path, motion: Path, out: Path, shot: Shot | None = None, *, audio: Path | None = None, sink: Sink = silent
) -> None:
    """Make the avatar in a folder perform a motion file, with a sound laid under it where there is one.

    Raises:
        InputError: on anything in the request that cannot be used; no file is left then.
    """
    check_output(out)
    model = AvatarModel.load(avatar)
    moves = placed(from_file(motion), model)
    voice = None if audio is None else read_voice(audio, sink)
    render_video(model, moves, out, shot, audio=voice, sink=sink)
