"""Where motion comes from: a voice or a motion file. All of it is relative."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from avatar.config import from_dict
from avatar.core import AudioTrack, FaceTrack, MotionFrame, MotionSequence
from avatar.drive.motion_gltf import read_motion_glb
from avatar.drive.motion_io import read_motion
from avatar.drive.retarget import limited, relative, seated
from avatar.errors import InputError
from avatar.events import Notice, Sink, silent
from avatar.face.arkit import INDEX
from avatar.face.gaze import with_looks
from avatar.media import is_silent, read_audio
from avatar.models.avatar_model import AvatarModel
from avatar.speech.conversation import converse
from avatar.speech.learned_motion import LearnedMotion
from avatar.speech.phones import Phone
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.style import Direction, SpeechStyle, directed

SOUND_RATE = 48_000
"""Of the films that are made."""
LEAST_SECONDS = 0.1
"""Shorter sound makes no film."""


def speech_style(avatar: AvatarModel) -> SpeechStyle:
    """The avatar's way of speaking; without one the average speaker with the avatar's rest face.

    Raises:
        InputError: if the avatar's style is damaged.
    """
    if avatar.meta.speech:
        return from_dict(SpeechStyle, avatar.meta.speech, where="avatar.json: speech")
    rest = [min(max(value, 0.0), 1.0) for value in avatar.meta.expression]
    for side in ("Left", "Right"):
        rest[INDEX[f"eyeBlink{side}"]] = min(rest[INDEX[f"eyeBlink{side}"]], 0.3)
    return SpeechStyle(rest=tuple(rest))


def read_voice(path: Path, sink: Sink = silent) -> AudioTrack:
    """The sound that an avatar is to say, at 48 kHz as it goes into the film.

    Raises:
        InputError: if the file has no sound or is shorter than `LEAST_SECONDS`.
    """
    audio = read_audio(path, SOUND_RATE)
    if audio.seconds < LEAST_SECONDS:
        raise InputError(f"{path}: the sound is only {audio.seconds:.3f} s long; give at least {LEAST_SECONDS} s")
    if is_silent(audio):
        sink(Notice(message=f"{Path(path).name}: nothing is heard, so the mouth stays closed"))
    return audio


def from_voice(
    audio: AudioTrack,
    avatar: AvatarModel,
    *,
    fps: float | None = None,
    seed: int = 0,
    direction: Direction | None = None,
    other: AudioTrack | None = None,
    phones: Sequence[Phone] = (),
) -> MotionSequence:
    """Motion of the avatar saying `audio`, on its own frame rate unless another is given.

    Args:
        other: the voice of somebody whom it listens to meanwhile.
        phones: what is said, where that is known; else it is heard.

    Raises:
        InputError: if pocketsphinx is not installed and the phones are not known.
    """
    style = directed(speech_style(avatar), direction or Direction())
    model = LearnedMotion if not phones else lambda way: RuleMotion(way, lambda _: [phones])
    return looking(converse(audio, style, fps or avatar.meta.fps, seed, other=other, model=model), avatar)


def looking(motion: MotionSequence, avatar: AvatarModel) -> MotionSequence:
    """The same relative motion with lids that follow the eyes, as they do in the film that the avatar learned from."""
    return replace(motion, expression=with_looks(motion.expression, avatar.meta.rest.gaze + motion.gaze))


def from_file(path: Path) -> MotionSequence:
    """A motion file as `avatar export` or Live Link Face leaves it.

    Raises:
        InputError: if it is missing, damaged or of another kind.
    """
    if Path(path).suffix.lower() != ".glb":
        return read_motion(path)
    filed = read_motion_glb(Path(path))
    return relative(filed.motion, filed.rest, filed.neck_pivots)


def resting(track: FaceTrack) -> MotionFrame:
    """The frame of a track whose head pose is most usual."""
    seen = track.confidence > 0
    if not seen.any():
        raise InputError("the track holds no face; prepare the clip again")
    poses = track.motion.T_world_head.flatten(1)
    centre = poses[seen].median(dim=0).values
    scale = poses[seen].std(dim=0).clamp_min(1e-4)
    distance = ((poses - centre) / scale).square().sum(1).masked_fill(~seen, torch.inf)
    frame = track.motion.frame(int(distance.argmin()))
    return replace(frame, gaze=track.motion.gaze[seen].median(dim=0).values)


def placed(motion: MotionSequence, avatar: AvatarModel, direction: Direction | None = None) -> MotionSequence:
    """Relative motion made the avatar's own: within what its film has shown or was asked for, on its rest pose."""
    style = directed(speech_style(avatar), direction or Direction())
    ceiling = (torch.tensor(style.ceiling) + torch.tensor(style.mood)).clamp(max=1.0)
    return seated(limited(motion, ceiling), avatar.meta.rest, avatar.rig.neck_pivots)
