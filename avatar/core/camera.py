"""Pinhole camera. OpenCV axes (+x right, +y down, +z forward), pixels, scene units are metres."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One calibrated view: x_world = T_world_camera @ x_camera.

    A pixel's integer index is its upper left corner: the centre of pixel (row r, column c) is (c + 0.5, r + 0.5).
    """

    T_world_camera: Float[Tensor, "4 4"]
    focal: tuple[float, float]
    """fx, fy in pixels."""
    center: tuple[float, float]
    """cx, cy in pixels."""
    size: tuple[int, int]
    """height, width in pixels."""

    def __post_init__(self) -> None:
        if self.T_world_camera.shape != (4, 4):
            raise ValueError(f"T_world_camera has shape {tuple(self.T_world_camera.shape)}, not (4, 4)")
        if min(self.focal) <= 0 or min(self.size) < 0:
            raise ValueError(f"focal {self.focal} must be positive and size {self.size} not negative")

    @property
    def T_camera_world(self) -> Float[Tensor, "4 4"]:
        """The inverse rigid transform."""
        rotation, position = self.T_world_camera[:3, :3], self.T_world_camera[:3, 3]
        inverse = torch.eye(4, dtype=rotation.dtype, device=rotation.device)
        inverse[:3, :3] = rotation.T
        inverse[:3, 3] = -rotation.T @ position
        return inverse

    def crop(self, top: int, left: int, height: int, width: int) -> "Camera":
        """The same camera seeing only a window of its picture."""
        cx, cy = self.center
        return replace(self, center=(cx - left, cy - top), size=(height, width))

    def resized(self, height: int, width: int) -> "Camera":
        """The same view drawn with another number of pixels."""
        sy, sx = height / self.size[0], width / self.size[1]
        (fx, fy), (cx, cy) = self.focal, self.center
        return replace(self, focal=(fx * sx, fy * sy), center=(cx * sx, cy * sy), size=(height, width))

    def project(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 2"]:
        """World points (metres) to pixels (x, y). Points at or behind the camera give meaningless pixels."""
        T = self.T_camera_world.to(points)
        local = points @ T[:3, :3].T + T[:3, 3]
        focal, center = local.new_tensor(self.focal), local.new_tensor(self.center)
        return local[..., :2] / local[..., 2:].clamp_min(1e-6) * focal + center
