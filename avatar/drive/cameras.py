"""Camera moves: a camera for every moment of a film."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import torch

from avatar.core import Camera, MotionFrame
from avatar.errors import InputError
from avatar.ops.rotation import axis_angle_to_matrix

CameraMove: TypeAlias = Callable[[float], Camera]
"""Seconds to camera."""

ORBIT_ANGLE = math.radians(30.0)
"""How far an orbit swings to either side."""
ORBIT_SECONDS = 8.0
"""Time of a full swing: left, right and back."""
SIZES = (64, 4096)
"""Smallest and largest picture height in pixels."""
_FACE = (0.0, -0.02, -0.06)
"""Centre of the head in the head frame, metres: an orbit turns about it."""


def sized(camera: Camera, height: int | None) -> Camera:
    """The same view at another height in pixels; the width follows, both are even.

    Raises:
        InputError: if the height is outside of `SIZES`.
    """
    if height is None:
        return camera
    if not SIZES[0] <= height <= SIZES[1]:
        raise InputError(f"picture height {height} is outside {SIZES[0]} to {SIZES[1]} pixels; give for example 512")
    h, w = camera.size
    even = max(round(height / 2) * 2, 2)
    return camera.resized(even, max(round(w * even / h / 2) * 2, 2))


def front(camera: Camera, rest: MotionFrame) -> CameraMove:
    """The camera that filmed the person, still."""
    del rest
    return lambda seconds: camera


def orbit(camera: Camera, rest: MotionFrame) -> CameraMove:
    """Swings about the head to both sides, starting and ending in front."""
    T_world_head = rest.T_world_head
    centre = T_world_head[:3, :3] @ T_world_head.new_tensor(_FACE) + T_world_head[:3, 3]

    def at(seconds: float) -> Camera:
        angle = ORBIT_ANGLE * math.sin(2 * math.pi * seconds / ORBIT_SECONDS)
        turn = axis_angle_to_matrix(torch.tensor([0.0, angle, 0.0]))
        pose = camera.T_world_camera.clone()
        pose[:3, :3] = turn @ pose[:3, :3]
        pose[:3, 3] = centre + turn @ (pose[:3, 3] - centre)
        return replace(camera, T_world_camera=pose)

    return at


MOVES: dict[str, Callable[[Camera, MotionFrame], CameraMove]] = {"front": front, "orbit": orbit}


def camera_move(name: str, camera: Camera, rest: MotionFrame) -> CameraMove:
    """The move called `name`.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in MOVES:
        raise InputError(f"camera {name!r} is unknown; choose one of {', '.join(MOVES)}")
    return MOVES[name](camera, rest)
