"""Binding of Gaussians to a triangle mesh (GaussianAvatars, Qian et al. 2024): local frames of triangles."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def triangle_frames(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]
) -> tuple[Float[Tensor, "f 3"], Float[Tensor, "f 3 3"], Float[Tensor, "f"]]:
    """A rigid frame and a size for each triangle; differentiable in the vertices.

    Returns:
        The centroid; the rotation whose columns are the first edge, the bitangent and the normal
        (x_mesh = R @ x_local); the mean of the first edge's length and the height over it, in the unit of the
        vertices. A triangle without area gets finite values, but its columns may have length zero.

    Raises:
        ValueError: if a face names a vertex that does not exist.
    """
    if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= len(vertices)):
        raise ValueError(f"faces name vertices {int(faces.min())}..{int(faces.max())}, there are {len(vertices)}")
    a, b, c = vertices[faces].unbind(1)
    edge, side = b - a, c - a
    normal = torch.linalg.cross(edge, side)
    length = _length(edge)
    height = _length(normal) / length
    tangent = edge / length[:, None]
    upright = normal / _length(normal)[:, None]
    rotation = torch.stack([tangent, torch.linalg.cross(upright, tangent), upright], -1)
    return (a + b + c) / 3, rotation, (length + height) / 2


def _length(vector: Float[Tensor, "f 3"]) -> Float[Tensor, "f"]:
    # A triangle of a head is ~1 mm: its edges are 1e-3, its doubled area 1e-6 m^2. The bound is far below both.
    return (vector.square().sum(-1) + 1e-24).sqrt()
