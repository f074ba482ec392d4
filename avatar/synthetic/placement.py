"""Films with faces where one wants them: small, two at once, missing for a while. For tests of bad input."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar.core import AudioTrack, Camera
from avatar.media import VideoWriter
from avatar.synthetic.clip import make_speaker
from avatar.synthetic.performance import HOME, Performance, perform

STRANDS, TEXTURE = 1500, 384
"""Detail enough for small pictures."""
_FACE_METRES = 0.22
"""Height of a face with forehead and chin, roughly."""


@dataclass(frozen=True, kw_only=True)
class PlacedFace:
    """One speaker somewhere in the picture."""

    seed: int = 0
    height: float = 0.45
    """Of the face, in picture heights."""
    centre: tuple[float, float] = (0.5, 0.45)
    """Of the face, in picture widths and heights."""
    hidden: tuple[tuple[float, float], ...] = ()
    """(start, end) in seconds of the times without this person."""


def placed_camera(face: PlacedFace, size: tuple[int, int]) -> Camera:
    """The camera that shows the resting face at its place.

    Args:
        size: height, width in pixels.
    """
    focal = face.height * size[0] / _FACE_METRES * HOME[2]
    middle = (HOME[1] - 0.035) / HOME[2] * focal
    center = (face.centre[0] * size[1], face.centre[1] * size[0] - middle)
    return Camera(T_world_camera=torch.eye(4), focal=(focal, focal), center=center, size=size)


def draw_frames(
    faces: Sequence[PlacedFace], played: Sequence[Performance], size: tuple[int, int], index: int
) -> np.ndarray:
    """Frame `index` with all faces, uint8 [h w 3]; later faces are in front."""
    picture: Tensor = make_speaker(0, STRANDS, TEXTURE).backdrop(size)
    for face, performance in zip(faces, played, strict=True):
        moment = index / performance.motion.fps
        if any(start <= moment < end for start, end in face.hidden):
            continue
        speaker = make_speaker(face.seed, STRANDS, TEXTURE)
        frame = performance.motion.frame(min(index, len(performance.motion) - 1))
        picture = speaker.draw(frame, placed_camera(face, size), picture).rgb
    return picture.numpy()


def draw_clip(
    path: Path,
    faces: Sequence[PlacedFace],
    *,
    size: tuple[int, int] = (160, 160),
    seconds: float = 2.0,
    fps: float = 25.0,
    audio: AudioTrack | None = None,
) -> Path:
    """Write a film of speakers at given places (lips babble without a voice).

    Args:
        size: height, width in pixels.
        audio: any sound to go with it; None writes a film without a sound track.

    Raises:
        InputError: if the file cannot be written.
    """
    played = [
        perform(make_speaker(f.seed, STRANDS, TEXTURE).rig, seconds=seconds, fps=fps, seed=f.seed, sound=False)
        for f in faces
    ]
    with VideoWriter(path, size, fps, audio) as writer:
        for index in range(max(round(seconds * fps), 1)):
            writer.write(draw_frames(faces, played, size, index))
    return path
