"""The commands' flow: which part runs after which, on one workspace folder."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avatar.errors import InputError
from avatar.events import Notice, Sink

if TYPE_CHECKING:
    from avatar.drive.render import Shot
    from avatar.drive.speak import Script
    from avatar.ops.parallel import Team
    from avatar.preprocess.config import PreprocessConfig
    from avatar.train.distil import Loss

_CAMERA_FPS = 30.0
_TURN_DEG, _TURN_SECONDS = 30.0, 15.0
"""How far the drawn speaker of the demo turns to both sides, as README tells those who film themselves, and the length
of a film in which that is slow enough."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How an avatar is learned."""

    recipe: str
    """A name in `avatar.recipes`."""
    device: str = "auto"
    """As `avatar.ops.device` takes it."""


def build(
    video: Path, out: Path, *, learning: Learning, config: "PreprocessConfig", sink: Sink, truth: Path | None = None
) -> None:
    """Video to workspace, workspace to avatar, avatar to report; a drawn speaker's `truth` is scored too."""
    from avatar.preprocess.background import return_freed_memory

    team = _team(learning, sink)
    if team.leads:
        preprocess_video(video, out, config, sink)
    team.wait()
    train_workspace(out, learning, sink)
    return_freed_memory()
    if team.leads:
        evaluate_workspace(out, copy_to=None, sink=sink, truth=truth)


def _team(learning: Learning, sink: Sink) -> "Team":
    """The processes that learn together, and where; asked first, since a wrong device is the user's to mend."""
    import torch

    from avatar import ops
    from avatar.ops import parallel

    team = parallel.join(learning.device)
    if learning.device == "auto" and torch.cuda.is_available() and (why := ops.without_gpu()):
        sink(Notice(message=f"the GPU is not used: {why}"))
    return team


def preprocess_video(video: Path, out: Path, config: "PreprocessConfig", sink: Sink) -> None:
    """Everything that is known of the person, on disk."""
    from avatar.preprocess import preprocess

    if not 128 <= config.size <= 2048:
        raise InputError(f"--size {config.size}: choose 128 to 2048 pixels")
    preprocess(video, out, config, sink=sink)


def train_workspace(workspace: Path, learning: Learning, sink: Sink) -> None:
    """The avatar, from what preprocessing left."""
    from avatar.recipes import recipe
    from avatar.train.loop import train

    _team(learning, sink)
    train(workspace, recipe(learning.recipe), sink, device=learning.device)


def distil_workspace(workspace: Path, out: Path, learning: Learning, sink: Sink) -> "Loss":
    """A Gaussian avatar from the workspace's field, and what that lost."""
    from avatar.recipes import recipe
    from avatar.train.distil import distil

    _team(learning, sink)
    return distil(workspace, out, recipe(learning.recipe), sink, device=learning.device)


def evaluate_workspace(workspace: Path, *, copy_to: Path | None, sink: Sink, truth: Path | None = None) -> None:
    """The report; its numbers also to `copy_to`."""
    from avatar.evaluate import evaluate
    from avatar.media import write_json

    report = evaluate(workspace, sink, truth=truth)
    if copy_to is not None:
        write_json(copy_to, report)


def drive_avatar(avatar: Path, script: "Script", out: Path, *, shot: "Shot", sink: Sink) -> None:
    """A talking film."""
    from avatar.drive.speak import enact

    enact(avatar, script, out, shot, sink=sink)


def perform_motion(avatar: Path, motion: Path, out: Path, *, audio: Path | None, shot: "Shot", sink: Sink) -> None:
    """A film of the avatar moving as a motion file says."""
    from avatar.drive.speak import perform

    perform(avatar, motion, out, shot, audio=audio, sink=sink)


def export(source: Path, out: Path, *, motion: Path | None, at: float | None = None) -> list[Path]:
    """Motion, the rig with its motion, or the splats of a moment, for other programs; gives the files."""
    from avatar.drive import export as files

    return files.export(source, out, motion, at)


def record_live(source: str, out: Path, *, seconds: float, sink: Sink) -> None:
    """Motion of the person before a camera, or in a film that stands in for one, as `out`'s suffix says.

    Raises:
        InputError: when source or folder cannot be used, or hardly a face is seen.
    """
    from avatar.drive.motion_io import check_suffix, write_motion
    from avatar.drive.retarget import relative
    from avatar.media import open_clip
    from avatar.media.camera import camera_pictures
    from avatar.preprocess import Tools
    from avatar.preprocess.live import record

    check_suffix(out)
    if seconds <= 0:
        raise InputError(f"--seconds {seconds:g}: give more than 0")
    if source.isdecimal():
        shown = camera_pictures(int(source), seconds)
        found = record(shown, Tools(), fps=_CAMERA_FPS, total=round(seconds * _CAMERA_FPS), sink=sink)
    else:
        clip = open_clip(Path(source), sink, with_audio=False)
        count = min(len(clip.frames), max(round(seconds * clip.fps), 1))
        pictures = ((i / clip.fps, clip.frames[i]) for i in range(count))
        found = record(pictures, Tools(), fps=clip.fps, total=count, sink=sink)
    write_motion(relative(found.motion, found.rest, found.rig.neck_pivots), out)


def demo(out: Path, *, seconds: float, size: int, recipe: str, sink: Sink) -> None:
    """Draw a speaker, build the avatar, let it say a sentence that it never said, from the front and in an orbit.

    Raises:
        InputError: when the folder cannot be written or the voice is missing.
    """
    from avatar.drive.render import Shot
    from avatar.drive.speak import Script
    from avatar.preprocess import PreprocessConfig
    from avatar.synthetic.clip import ClipSettings, write_clip

    settings = ClipSettings(seconds=seconds, size=size, turn_deg=_TURN_DEG if seconds >= _TURN_SECONDS else 0.0)
    drawn = write_clip(out / "speaker", settings, workers=_cores(), sink=sink)
    config = PreprocessConfig(size=size)
    build(drawn.video, out / "me", learning=Learning(recipe=recipe), config=config, sink=sink, truth=out / "speaker")
    assert drawn.hello is not None
    for name, camera in (("talking.mp4", "front"), ("orbit.mp4", "orbit")):
        script = Script(audio=drawn.hello)
        drive_avatar(out / "me" / "avatar", script, out / name, shot=Shot(camera=camera), sink=sink)


def _cores() -> int:
    return min(os.cpu_count() or 1, 8)
