"""Disk and codecs: the only place that knows file formats of pictures, sound and films."""

from avatar.media.audio import is_silent, read_audio, resampled, write_audio
from avatar.media.files import replacing, write_json
from avatar.media.image import read_image, write_image
from avatar.media.tensors import read_tensors, write_tensors
from avatar.media.video import open_clip
from avatar.media.workspace import Workspace
from avatar.media.writer import VideoWriter, check_output

__all__ = [
    "VideoWriter",
    "Workspace",
    "check_output",
    "is_silent",
    "open_clip",
    "read_audio",
    "read_image",
    "read_tensors",
    "replacing",
    "resampled",
    "write_audio",
    "write_image",
    "write_json",
    "write_tensors",
]
