"""From sliders, a performance and a viewpoint to a moment of the head and a camera."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from avatar.core import Camera, MotionFrame, MotionSequence
from avatar.drive.retarget import LARGEST_GAZE, seated
from avatar.models.avatar_model import AvatarModel
from avatar.ops.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from avatar.viewer.view import Pose, Viewpoint

FACE = (0.0, -0.02, -0.06)
"""Centre of the head in the head frame, metres: what a viewpoint turns about."""
SEEN_ANGLES = (math.radians(25.0), math.radians(15.0))
"""Yaw and pitch to either side of rest that a film of a speaker shows, where the film itself is not there to ask."""
FADE = math.radians(25.0)
"""Angle beyond what was seen over which a picture turns grey."""


def stood(camera: Camera, viewpoint: Viewpoint, rest: MotionFrame) -> Camera:
    """The camera of a viewpoint. The head's centre stays where it is in the picture, but for panning."""
    T_camera_head = camera.T_camera_world @ rest.T_world_head
    centre = T_camera_head[:3, :3] @ T_camera_head.new_tensor(FACE) + T_camera_head[:3, 3]
    turn = axis_angle_to_matrix(torch.tensor([0.0, viewpoint.yaw, 0.0])) @ axis_angle_to_matrix(
        torch.tensor([viewpoint.pitch, 0.0, 0.0])
    )
    moved = torch.eye(4)
    moved[:3, :3] = turn
    pan = torch.tensor([-viewpoint.pan[0], -viewpoint.pan[1], 0.0])
    moved[:3, 3] = centre + turn @ (pan - centre * viewpoint.distance)
    fx, fy = camera.focal
    return replace(
        camera, T_world_camera=camera.T_world_camera @ moved, focal=(fx * viewpoint.zoom, fy * viewpoint.zoom)
    )


def at_rest(avatar: AvatarModel) -> MotionSequence:
    """One relative frame of the face doing nothing."""
    return MotionSequence(
        expression=avatar.meta.rest.expression[None],
        T_world_head=torch.eye(4)[None],
        neck=torch.zeros(1, 3),
        gaze=torch.zeros(1, 2, 2),
        fps=avatar.meta.fps,
    )


def posed(avatar: AvatarModel, driven: MotionSequence, pose: Pose, camera: Camera) -> MotionFrame:
    """One relative frame with the pose on top, on the avatar's rest; the expression is in [0, 1]."""
    turn = _turn(pose.head)
    T = driven.T_world_head.clone()
    T[:, :3, :3] = T[:, :3, :3] @ _turn(pose.body) @ turn
    neck = matrix_to_axis_angle(axis_angle_to_matrix(driven.neck) @ turn)
    expression = (driven.expression + torch.tensor(pose.expression)).clamp(0, 1)
    moved = replace(driven, T_world_head=T, neck=neck, expression=expression)
    frame = seated(moved, avatar.meta.rest, avatar.rig.neck_pivots).frame(0)
    gaze = frame.gaze + torch.tensor(pose.gaze)
    target = _FOLLOWED[pose.follow](pose, camera, frame)
    if target is not None:
        gaze = _towards(target, avatar.rig.eye_pivots, frame) + torch.tensor(pose.gaze)
    return replace(frame, gaze=gaze.clamp(-LARGEST_GAZE, LARGEST_GAZE))


@lru_cache(maxsize=8)
def _turn(head: tuple[float, float, float]) -> Float[Tensor, "3 3"]:
    """Yaw to the person's left, then pitch down, then roll to the left shoulder."""
    yaw, pitch, roll = torch.tensor([[0.0, -head[0], 0.0], [head[1], 0.0, 0.0], [0.0, 0.0, head[2]]])
    return axis_angle_to_matrix(yaw) @ axis_angle_to_matrix(pitch) @ axis_angle_to_matrix(roll)


def _mouse_point(pose: Pose, camera: Camera, frame: MotionFrame) -> Float[Tensor, "3"]:
    """World point under the mouse, halfway between head and camera."""
    height, width = camera.size
    x = (pose.mouse[0] * width - camera.center[0]) / camera.focal[0]
    y = (pose.mouse[1] * height - camera.center[1]) / camera.focal[1]
    T = camera.T_world_camera
    distance = float((frame.T_world_head[:3, 3] - T[:3, 3]).norm()) / 2
    return T[:3, :3] @ (torch.tensor([x, y, 1.0]) * distance) + T[:3, 3]


_FOLLOWED: dict[str, Callable[[Pose, Camera, MotionFrame], Tensor | None]] = {
    "none": lambda pose, camera, frame: None,
    "mouse": _mouse_point,
    "camera": lambda pose, camera, frame: camera.T_world_camera[:3, 3],
}


def _towards(target: Float[Tensor, "3"], eyes: Float[Tensor, "2 3"], frame: MotionFrame) -> Float[Tensor, "2 2"]:
    """(yaw, pitch) of right and left eye that look at a world point."""
    T = frame.T_world_head
    local = T[:3, :3].T @ (target - T[:3, 3])
    x, y, z = (local - eyes).unbind(-1)
    yaw = torch.atan2(x, -z)
    return torch.stack([yaw, torch.atan2(y, torch.hypot(x, z))], -1)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """From where the film saw the head: ranges of the angles of `bearing`, radians."""

    yaw: tuple[float, float]
    pitch: tuple[float, float]

    @classmethod
    def usual(cls, avatar: AvatarModel) -> "Seen":
        """About the resting head, as far as people turn while they talk."""
        yaw, pitch = bearing(avatar.meta.camera, avatar.meta.rest)
        return cls(
            yaw=(yaw - SEEN_ANGLES[0], yaw + SEEN_ANGLES[0]), pitch=(pitch - SEEN_ANGLES[1], pitch + SEEN_ANGLES[1])
        )

    @classmethod
    def of(cls, camera: Camera, motion: MotionSequence) -> "Seen":
        """What a tracked film shows, without its rarest hundredth, and 5 degrees more."""
        found = torch.tensor([bearing(camera, motion.frame(i)) for i in range(0, len(motion), 5)])
        low, high = found.quantile(0.01, dim=0) - 0.087, found.quantile(0.99, dim=0) + 0.087
        return cls(yaw=(float(low[0]), float(high[0])), pitch=(float(low[1]), float(high[1])))

    def unseen(self, camera: Camera, motion: MotionFrame) -> float:
        """0 where the film saw the head from, growing to 1 within `FADE` beyond."""
        excess = 0.0
        for angle, (low, high) in zip(bearing(camera, motion), (self.yaw, self.pitch), strict=True):
            excess = max(excess, low - angle, angle - high)
        return min(max(excess / FADE, 0.0), 1.0)


def bearing(camera: Camera, motion: MotionFrame) -> tuple[float, float]:
    """Direction from the head to the camera in the head frame: yaw to the person's left, pitch down, radians."""
    T = motion.T_world_head
    centre = T[:3, :3] @ T.new_tensor(FACE) + T[:3, 3]
    x, y, z = (T[:3, :3].T @ (camera.T_world_camera[:3, 3] - centre)).tolist()
    return math.atan2(x, -z), math.atan2(y, math.hypot(x, z))
