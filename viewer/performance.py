"""What an avatar performs: a sound with the motion that was made of it, or a recorded motion. All of it is relative."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from avatar.core import AudioTrack, MotionSequence
from avatar.drive.retarget import limited, relative
from avatar.drive.sources import from_file, looking, read_voice, speech_style
from avatar.errors import InputError
from avatar.events import Notice, Sink
from avatar.face.track_io import load_track
from avatar.media import Workspace
from avatar.media.audio import resampled
from avatar.models.avatar_model import AvatarModel
from avatar.speech.conversation import Lipsync, converse
from avatar.speech.learned_motion import LearnedMotion, hear_lips
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.style import SpeechStyle
from avatar.speech.voices import EspeakVoice

LONGEST = 300.0
"""Seconds of a performance."""
LONGEST_RECORDING = 180.0
"""Seconds of what the record button keeps."""
SOUND_RATE = 48_000

STYLES: dict[str, Callable[[SpeechStyle], SpeechStyle]] = {
    "own": lambda style: style,
    "average": lambda style: SpeechStyle(rest=style.rest, ceiling=style.ceiling),
    "lively": lambda style: replace(
        style, opening_gain=style.opening_gain * 1.3, width_gain=style.width_gain * 1.25, brow_gain=2.0,
        head_std=tuple(1.6 * s for s in style.head_std), nod_gain=1.5, ceiling=(1.0,) * len(style.ceiling),
    ),
    "calm": lambda style: replace(
        style, opening_gain=style.opening_gain * 0.75, brow_gain=0.4, head_std=tuple(0.4 * s for s in style.head_std),
        nod_gain=0.4,
    ),
}  # fmt: skip
"""Ways of speaking, made of the person's own."""


class Voice:
    """What a microphone heard, at `SOUND_RATE`; what is older than any recording may be is forgotten."""

    def __init__(self) -> None:
        self._pieces: deque[np.ndarray] = deque()
        self._kept = self._forgotten = 0
        self._lock = threading.Lock()

    def add(self, samples: Float[np.ndarray, "s"]) -> None:
        """The next samples."""
        with self._lock:
            self._pieces.append((samples.clip(-1, 1) * 32767).astype(np.int16))
            self._kept += len(samples)
            while self._kept - len(self._pieces[0]) > LONGEST_RECORDING * SOUND_RATE:
                gone = len(self._pieces.popleft())
                self._kept, self._forgotten = self._kept - gone, self._forgotten + gone

    def between(self, start: float, end: float) -> AudioTrack:
        """From `start` to `end` in seconds; what is not there (any more) is silence."""
        with self._lock:
            pieces, before = [np.zeros(0, np.int16), *self._pieces], self._forgotten / SOUND_RATE
        samples = np.concatenate(pieces).astype(np.float32) / 32767
        return AudioTrack(samples=samples, rate=SOUND_RATE).between(start - before, end - before)


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Something to play."""

    name: str
    motion: MotionSequence
    """Relative to rest, see `avatar.drive.retarget`."""
    sound: AudioTrack | None = None
    lips: Lipsync | None = None
    """What moves the lips, by what was heard in the sound; None where the motion does not come of it."""
    is_source: bool = False
    """Frame i is frame i of the film that the avatar was made of."""
    voice: "Voice | None" = None
    """Who moves the lips at this moment, while it speaks; `motion` is this one moment then."""
    voice_at: float = 0.0
    """The moment, in seconds of the voice."""

    @property
    def seconds(self) -> float:
        return max(len(self.motion) / self.motion.fps, self.sound.seconds if self.sound else 0.0)

    def driven(self, seconds: float) -> MotionSequence:
        """One frame, the motion at a moment."""
        index = min(max(int(seconds * self.motion.fps + 0.5), 0), len(self.motion) - 1)
        return self.motion.select(slice(index, index + 1))


def of_voice(path: Path, name: str, avatar: AvatarModel, style: str, sink: Sink) -> Performance:
    """The avatar saying a sound file.

    Raises:
        InputError: if there is no sound, too little or too much of it.
    """
    return of_sound(read_voice(path, sink), name, avatar, style)


def of_text(text: str, language: str, avatar: AvatarModel, style: str) -> Performance:
    """The avatar saying a text with espeak-ng's voice; its phones are known and need not be heard.

    Raises:
        InputError: if the voice is not installed, does not know the language or has nothing to say.
    """
    spoken = EspeakVoice().say(text, language)
    sound = resampled(spoken.audio, SOUND_RATE)
    clipped = AudioTrack(samples=sound.samples.clip(-1, 1), rate=sound.rate)
    return _spoken(clipped, text[:40], avatar, style, lambda way: RuleMotion(way, lambda _: [spoken.phones]))


def of_sound(sound: AudioTrack, name: str, avatar: AvatarModel, style: str) -> Performance:
    """The avatar saying a sound."""
    _check_length(sound.seconds, name)
    heard = hear_lips(sound)
    return _spoken(sound, name, avatar, style, lambda way: LearnedMotion(way, lambda _: heard))


def restyled(performance: Performance, avatar: AvatarModel, style: str) -> Performance:
    """The same words in another style; what does not come of a sound stays as it is."""
    if performance.sound is None or performance.lips is None:
        return performance
    return _spoken(performance.sound, performance.name, avatar, style, performance.lips)


def _spoken(sound: AudioTrack, name: str, avatar: AvatarModel, style: str, lips: Lipsync) -> Performance:
    if style not in STYLES:
        raise InputError(f"style {style!r} is unknown; choose one of {', '.join(STYLES)}")
    way = STYLES[style](speech_style(avatar))
    moves = converse(sound, way, avatar.meta.fps, model=lips)
    motion = looking(moves, avatar)
    return Performance(name=name, motion=limited(motion, torch.tensor(way.ceiling)), sound=sound, lips=lips)


def of_motion(path: Path, name: str, avatar: AvatarModel, sound: AudioTrack | None) -> Performance:
    """A motion file, with the sound that plays already where there is one.

    Raises:
        InputError: if the file is damaged, of another kind or too long.
    """
    motion = from_file(path)
    _check_length(len(motion) / motion.fps, name)
    motion = limited(motion, torch.tensor(speech_style(avatar).ceiling))
    return Performance(name=name, motion=motion, sound=sound)


def of_film(path: Path, name: str, avatar: AvatarModel, sink: Sink) -> Performance:
    """Another film's face, followed picture by picture as a camera's would be, with its sound.

    Raises:
        InputError: if the film cannot be read, shows no face or is too long.
    """
    from avatar.media import open_clip
    from avatar.preprocess import Tools
    from avatar.preprocess.live import record

    clip = open_clip(path, sink)
    _check_length(clip.seconds, name)
    pictures = ((i / clip.fps, clip.frames[i]) for i in range(len(clip.frames)))
    found = record(pictures, Tools(), fps=clip.fps, total=len(clip.frames), sink=sink)
    motion = relative(found.motion, found.rest, found.rig.neck_pivots)
    motion = limited(motion, torch.tensor(speech_style(avatar).ceiling))
    return Performance(name=name, motion=motion, sound=_at_sound_rate(clip.audio))


def of_source(workspace: Workspace, avatar: AvatarModel, sink: Sink) -> Performance:
    """The film that the avatar was made of, as it was tracked.

    Raises:
        InputError: if the workspace lacks its track.
    """
    track = load_track(workspace.path("track.safetensors"))
    count = min(len(track.motion), int(LONGEST * track.motion.fps))
    if count < len(track.motion):
        sink(Notice(message=f"only the first {LONGEST:g} s of the film are played"))
    motion = relative(track.motion.select(slice(0, count)), avatar.meta.rest, avatar.rig.neck_pivots)
    sound = workspace.audio()
    cut = None if sound is None else sound.between(0.0, count / motion.fps)
    return Performance(name="the film", motion=motion, sound=_at_sound_rate(cut), is_source=True)


def _at_sound_rate(sound: AudioTrack | None) -> AudioTrack | None:
    if sound is None:
        return None
    high = resampled(sound, SOUND_RATE)
    return AudioTrack(samples=high.samples.clip(-1, 1), rate=SOUND_RATE)


def _check_length(seconds: float, name: str) -> None:
    if seconds > LONGEST:
        raise InputError(f"{name}: is {seconds:.0f} s long; the viewer plays at most {LONGEST:.0f} s, cut it")
