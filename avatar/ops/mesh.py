"""Draw a triangle mesh into a z-buffer. OpenCV camera axes, pixel centres at (column + 0.5, row + 0.5)."""

import math
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar.ops._backend import native

NEAR = 0.01


def rasterize_mesh(
    vertices_camera: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    focal: tuple[float, float],
    center: tuple[float, float],
    size: tuple[int, int],
) -> tuple[Int[Tensor, "h w"], Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """The triangle that each pixel sees, from either side; no gradient.

    A pixel's ray is intersected with the triangle in homogeneous coordinates (Olano and Greer 1997), so a triangle
    that crosses the near plane (0.01 m) is cut there exactly, without clipping.

    Args:
        vertices_camera: metres, camera frame.
        focal: fx, fy in pixels.
        center: cx, cy in pixels.
        size: height, width in pixels.

    Returns:
        Index of the triangle or -1; its perspective-correct barycentric coordinates (0 where there is none); depth
        along z in metres (0 where there is none). Of two triangles at the same depth, the first one is seen.

    Raises:
        ValueError: if shapes or devices do not fit, a face names a vertex that does not exist, or the camera is none.
    """
    if vertices_camera.device != faces.device:
        raise ValueError(f"vertices_camera is on {vertices_camera.device}, faces on {faces.device}")
    points, faces = vertices_camera.detach().cpu(), faces.detach().cpu()
    _check(points, faces, size)
    intrinsics = (float(focal[0]), float(focal[1]), float(center[0]), float(center[1]))
    if not all(map(math.isfinite, intrinsics)) or min(intrinsics[:2]) <= 0:
        raise ValueError(f"focal {intrinsics[:2]} must be positive and center {intrinsics[2:]} finite")
    module = native()
    if module is None or points.dtype != torch.float32:
        triangle, barycentric, depth = _reference(points.double().numpy(), faces.numpy(), intrinsics, size)
        out = torch.from_numpy(triangle), torch.from_numpy(barycentric), torch.from_numpy(depth)
    else:
        out = _native(module, points.contiguous(), faces.long().contiguous(), intrinsics, size)
    device, dtype = vertices_camera.device, vertices_camera.dtype
    there = {"device": device, "non_blocking": True}
    return out[0].to(**there), out[1].to(dtype=dtype, **there), out[2].to(dtype=dtype, **there)


def _native(
    module: ModuleType, points: Tensor, faces: Tensor, intrinsics: tuple[float, ...], size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    out = (torch.empty(size, dtype=torch.int64), torch.empty(*size, 3), torch.empty(size))
    pointers = [tensor.data_ptr() for tensor in out]
    module.mesh_draw(
        *(points.data_ptr(), len(points), faces.data_ptr(), len(faces), intrinsics, size, pointers),
        torch.get_num_threads(),
    )
    return out


def _check(vertices: Tensor, faces: Tensor, size: tuple[int, int]) -> None:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not vertices.is_floating_point():
        raise ValueError(f"vertices_camera must be float [v 3], is {vertices.dtype} {tuple(vertices.shape)}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point():
        raise ValueError(f"faces must be integers [f 3], is {faces.dtype} {tuple(faces.shape)}")
    if min(size) < 0 or max(size) > 16384:
        raise ValueError(f"size {tuple(size)} must be within 0 and 16384 pixels")
    if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= len(vertices)):
        raise ValueError(f"faces name vertices {int(faces.min())}..{int(faces.max())}, there are {len(vertices)}")


def _reference(
    points: np.ndarray, faces: np.ndarray, intrinsics: tuple[float, ...], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One triangle after the other, all pixels of its box at once."""
    height, width = size
    fx, fy, cx, cy = intrinsics
    triangle = np.full(size, -1, np.int64)
    barycentric = np.zeros((*size, 3))
    depth = np.full(size, np.inf)
    columns, rows = (np.arange(width) + 0.5 - cx) / fx, (np.arange(height) + 0.5 - cy) / fy
    for index, corners in enumerate(points[faces]):
        x0, x1, y0, y1 = _box(corners, intrinsics, size)
        volume = np.linalg.det(corners)
        if x0 >= x1 or y0 >= y1 or not np.isfinite(volume) or volume == 0:
            continue
        # ray * z = corners^T @ barycentric, hence barycentric / z = inverse(corners^T) @ ray
        inverse = np.stack([np.cross(corners[i - 2], corners[i - 1]) for i in range(3)]) / volume
        weights = columns[None, x0:x1, None] * inverse[:, 0] + rows[y0:y1, None, None] * inverse[:, 1] + inverse[:, 2]
        total = weights.sum(-1)
        z = np.divide(1.0, total, out=np.full_like(total, np.inf), where=total > 0)
        # The tolerance closes the cracks that rounding opens between neighbours.
        hit = (weights.min(-1) >= -1e-9 * total) & (z >= NEAR) & (z < depth[y0:y1, x0:x1])
        depth[y0:y1, x0:x1][hit] = z[hit]
        triangle[y0:y1, x0:x1][hit] = index
        barycentric[y0:y1, x0:x1][hit] = weights[hit] * z[hit][:, None]
    depth[triangle < 0] = 0
    return triangle, barycentric, depth


def _box(corners: np.ndarray, intrinsics: tuple[float, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Columns x0:x1 and rows y0:y1 that the triangle may touch; the whole picture if it crosses the near plane."""
    height, width = size
    if not np.isfinite(corners).all() or corners[:, 2].max() < NEAR:
        return 0, 0, 0, 0
    if corners[:, 2].min() < NEAR:
        return 0, width, 0, height
    fx, fy, cx, cy = intrinsics
    x = np.clip(corners[:, 0] / corners[:, 2] * fx + cx, -1, width + 1)
    y = np.clip(corners[:, 1] / corners[:, 2] * fy + cy, -1, height + 1)
    x0, y0 = max(int(np.floor(x.min() - 0.5)), 0), max(int(np.floor(y.min() - 0.5)), 0)
    return x0, min(int(np.ceil(x.max() + 0.5)), width), y0, min(int(np.ceil(y.max() + 0.5)), height)
