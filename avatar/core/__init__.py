"""The nouns: frozen dataclasses with named shapes. Metres, seconds, radians; OpenCV axes."""

from avatar.core.camera import Camera
from avatar.core.clip import AudioTrack, Clip, Frames
from avatar.core.face import FaceTrack, ParsingMaps, Region
from avatar.core.gaussians import Gaussians
from avatar.core.motion import MotionFrame, MotionSequence
from avatar.core.render import RenderOutput, RenderRequest

__all__ = [
    "AudioTrack",
    "Camera",
    "Clip",
    "FaceTrack",
    "Frames",
    "Gaussians",
    "MotionFrame",
    "MotionSequence",
    "ParsingMaps",
    "Region",
    "RenderOutput",
    "RenderRequest",
]
