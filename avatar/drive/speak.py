"""The main job: an avatar folder and a sound file in, a talking film out."""

from pathlib import Path

from avatar.drive.render import Shot, render_video
from avatar.drive.sources import from_file, from_voice, placed, read_voice
from avatar.events import Sink, silent
from avatar.media import check_output
from avatar.models.avatar_model import AvatarModel


def speak(
    avatar: Path, audio: Path, out: Path, shot: Shot | None = None, *, seed: int = 0, sink: Sink = silent
) -> None:
    """Make the avatar in a folder say a sound file.

    Args:
        out: .mp4, .mov, .webm, .mkv or .png; with a transparent background .mov, .webm or .png.
        seed: of blinks, gaze and small head movements.

    Raises:
        InputError: on anything in the request that cannot be used; no file is left then.
    """
    check_output(out)
    model = AvatarModel.load(avatar)
    voice = read_voice(audio, sink)
    motion = placed(from_voice(voice, model, seed=seed), model)
    render_video(model, motion, out, shot, audio=voice, sink=sink)


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
