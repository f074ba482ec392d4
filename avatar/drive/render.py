"""Motion to film, one frame at a time: memory does not grow with the length."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from avatar.core import AudioTrack, Camera, MotionFrame, MotionSequence, RenderRequest
from avatar.drive.backgrounds import PLATE, Background, choose_background
from avatar.drive.cameras import camera_move, sized
from avatar.errors import InputError
from avatar.events import Done, Progress, Sink, silent
from avatar.media import VideoWriter, check_output
from avatar.models.avatar_model import AvatarModel

STAGE = "drive"


@dataclass(frozen=True, kw_only=True)
class Shot:
    """How a film looks."""

    camera: str = "front"
    """A name in `cameras.MOVES`."""
    background: str = PLATE
    """See `backgrounds.choose_background`."""
    size: int | None = None
    """Height in pixels; None is the avatar's own."""


def render_video(
    avatar: AvatarModel,
    motion: MotionSequence,
    out: Path,
    shot: Shot | None = None,
    *,
    audio: AudioTrack | None = None,
    sink: Sink = silent,
) -> None:
    """Draw every frame of a motion (in the world frame, see `retarget.seated`) and write the film.

    Raises:
        InputError: on a bad camera, background, size or file name, before anything is drawn; or when the disk is full.
    """
    shot = shot or Shot()
    camera = sized(avatar.meta.camera, shot.size)
    move = camera_move(shot.camera, camera, avatar.meta.rest)
    background = choose_background(shot.background, camera)
    check_output(out, alpha=background.transparent)
    if not len(motion):
        raise InputError(f"{out}: the motion has no frames; give a longer sound or motion")
    started = time.monotonic()
    sink(Progress(stage=STAGE, done=0, total=len(motion)))
    with VideoWriter(out, camera.size, motion.fps, audio, alpha=background.transparent) as film:
        for i in range(len(motion)):
            film.write(draw_frame(avatar, motion.frame(i), move(i / motion.fps), background))
            sink(Progress(stage=STAGE, done=i + 1, total=len(motion)))
    seconds = time.monotonic() - started
    facts = {"frames": len(motion), "fps": round(len(motion) / max(seconds, 1e-9), 2)}
    sink(Done(stage=STAGE, seconds=seconds, outputs=(Path(out),), facts=facts))


def draw_frame(
    avatar: AvatarModel, motion: MotionFrame, camera: Camera, background: Background
) -> UInt8[np.ndarray, "h w c"]:
    """One picture, sRGB; with straight (not premultiplied) opacity as fourth channel when transparent."""
    request = RenderRequest(camera=camera, motion=motion)
    if not background.transparent:
        rgb = avatar.render(request, background.pixels).rgb
        return _bytes(rgb)
    drawn = avatar.draw(request)
    straight = drawn.rgb / drawn.alpha[..., None].clamp_min(1e-4)
    return _bytes(torch.cat([straight, drawn.alpha[..., None]], dim=-1))


def _bytes(pixels: torch.Tensor) -> UInt8[np.ndarray, "h w c"]:
    return (pixels.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
