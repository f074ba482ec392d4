"""What one client wants to see: viewpoint, pose and look. Plain numbers, checked once when they arrive."""

import math
from dataclasses import dataclass, field
from typing import Literal

from avatar.errors import InputError

Drawing = Literal["picture", "ellipses", "mesh", "depth", "regions"]
Part = Literal["head", "hair", "mouth", "torso"]
Follow = Literal["none", "mouse", "camera"]

LONGEST_BACKGROUND = 40
"""Characters of a colour's name."""


def _within(name: str, values: tuple[float, ...], low: float, high: float) -> None:
    for value in values:
        if not (math.isfinite(value) and low <= value <= high):
            raise InputError(f"{name}: {value} is outside {low:g} to {high:g}; reload the page")


@dataclass(frozen=True, kw_only=True)
class Viewpoint:
    """Where the camera is, against the one that filmed the person: an orbit about the head."""

    yaw: float = 0.0
    """Radians about the vertical axis."""
    pitch: float = 0.0
    distance: float = 1.0
    """To the head, over the filmed distance."""
    zoom: float = 1.0
    """Of the focal length."""
    pan: tuple[float, float] = (0.0, 0.0)
    """Metres to the right and down in the picture's plane."""

    def __post_init__(self) -> None:
        _within("yaw", (self.yaw,), -math.tau, math.tau)
        _within("pitch", (self.pitch,), -1.5, 1.5)
        _within("distance", (self.distance,), 0.2, 8.0)
        _within("zoom", (self.zoom,), 0.2, 8.0)
        _within("pan", self.pan, -2.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """What the sliders add to the face that speech or a recording makes."""

    expression: tuple[float, ...] = (0.0,) * 52
    """Added to the ARKit coefficients."""
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Yaw to the person's left, pitch down, roll to the left shoulder, radians; the neck bends, the torso stays."""
    body: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The same of the whole person."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """Yaw to the person's left, pitch down, radians."""
    follow: Follow = "none"
    """What the eyes follow on top of it."""
    mouse: tuple[float, float] = (0.5, 0.5)
    """Where the mouse is, in widths and heights of the picture from its upper left corner."""

    def __post_init__(self) -> None:
        if len(self.expression) != 52:
            raise InputError(f"expression: {len(self.expression)} numbers, not 52; reload the page")
        _within("expression", self.expression, -1.0, 1.0)
        _within("head", self.head, -1.0, 1.0)
        _within("body", self.body, -1.0, 1.0)
        _within("gaze", self.gaze, -1.0, 1.0)
        _within("mouse", self.mouse, -4.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is drawn, and on what."""

    background: str = "plate"
    """plate, transparent, picture (the one that was uploaded last) or a CSS colour."""
    drawing: Drawing = "picture"
    hidden: tuple[Part, ...] = ()
    shade: bool = True
    """Grey where the film never saw the person from."""

    def __post_init__(self) -> None:
        if len(self.background) > LONGEST_BACKGROUND:
            raise InputError(f"background: {len(self.background)} characters; give a colour such as white or #20a060")


@dataclass(frozen=True, kw_only=True)
class KeyFrame:
    """A viewpoint at a moment of the performance."""

    seconds: float
    viewpoint: Viewpoint

    def __post_init__(self) -> None:
        _within("key frame", (self.seconds,), 0.0, 3600.0)


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything that a picture depends on, besides the moment of the performance."""

    version: int = 0
    """Counts up with every change; pictures carry it back."""
    viewpoint: Viewpoint = field(default_factory=Viewpoint)
    pose: Pose = field(default_factory=Pose)
    look: Look = field(default_factory=Look)
    path: tuple[KeyFrame, ...] = ()
    """If any: the camera's way while a performance plays, in order of time."""

    def __post_init__(self) -> None:
        if not 0 <= self.version < 2**32:
            raise InputError(f"version {self.version} is no count; reload the page")
        if len(self.path) > 64:
            raise InputError(f"{len(self.path)} key frames are more than 64; remove some")
        times = [key.seconds for key in self.path]
        if times != sorted(times):
            raise InputError("key frames are not in order of time; reload the page")

    def viewpoint_at(self, seconds: float) -> Viewpoint:
        """The viewpoint on the path at a moment, eased between key frames; without a path the chosen one."""
        if not self.path:
            return self.viewpoint
        after = next((i for i, key in enumerate(self.path) if key.seconds > seconds), len(self.path))
        if after in (0, len(self.path)):
            return self.path[min(after, len(self.path) - 1)].viewpoint
        a, b = self.path[after - 1], self.path[after]
        x = (seconds - a.seconds) / (b.seconds - a.seconds)
        return _between(a.viewpoint, b.viewpoint, x * x * (3 - 2 * x))


def _between(a: Viewpoint, b: Viewpoint, x: float) -> Viewpoint:
    def mixed(low: float, high: float) -> float:
        return low + (high - low) * x

    def scaled(low: float, high: float) -> float:
        return low * (high / low) ** x

    return Viewpoint(
        yaw=mixed(a.yaw, b.yaw), pitch=mixed(a.pitch, b.pitch), distance=scaled(a.distance, b.distance),
        zoom=scaled(a.zoom, b.zoom), pan=(mixed(a.pan[0], b.pan[0]), mixed(a.pan[1], b.pan[1])),
    )  # fmt: skip
