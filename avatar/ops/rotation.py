"""Rotations: quaternions (wxyz), matrices, axis-angle vectors (radians) and the 6-D form. Batched, differentiable."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


def quat_to_matrix(quat: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of a quaternion wxyz of any length but zero (a zero quaternion gives the identity)."""
    w, x, y, z = normalize(quat, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_quat(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternion wxyz with w >= 0 of a rotation matrix (Shepperd 1978: the largest component first)."""
    m00, m11, m22 = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 2, 2]
    d01, s01 = matrix[..., 1, 0] - matrix[..., 0, 1], matrix[..., 1, 0] + matrix[..., 0, 1]
    d20, s20 = matrix[..., 0, 2] - matrix[..., 2, 0], matrix[..., 0, 2] + matrix[..., 2, 0]
    d12, s12 = matrix[..., 2, 1] - matrix[..., 1, 2], matrix[..., 2, 1] + matrix[..., 1, 2]
    candidates = torch.stack(
        [
            torch.stack([1 + m00 + m11 + m22, d12, d20, d01], -1),
            torch.stack([d12, 1 + m00 - m11 - m22, s01, s20], -1),
            torch.stack([d20, s01, 1 - m00 + m11 - m22, s12], -1),
            torch.stack([d01, s20, s12, 1 - m00 - m11 + m22], -1),
        ],
        -2,
    )
    best = torch.stack([m00 + m11 + m22, m00 - m11 - m22, m11 - m00 - m22, m22 - m00 - m11], -1).argmax(-1)
    index = best[..., None, None].expand(*best.shape, 1, 4)
    quat = normalize(candidates.gather(-2, index).squeeze(-2), dim=-1)
    return torch.where(quat[..., :1] < 0, -quat, quat)


def quat_multiply(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Hamilton product: the rotation `b` first, then `a`."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def cross_matrix(vector: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The matrix K with K @ u = vector x u."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def axis_angle_to_matrix(vector: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation by |vector| radians about vector (Rodrigues); smooth at zero."""
    angle = (vector.square().sum(-1) + 1e-24).sqrt()[..., None, None]  # the square root has no derivative at 0
    K = cross_matrix(vector)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + torch.sinc(angle / math.pi) * K + 0.5 * torch.sinc(angle / (2 * math.pi)).square() * (K @ K)


def matrix_to_axis_angle(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Axis-angle vector (radians, length at most pi) of a rotation matrix."""
    quat = matrix_to_quat(matrix)
    w, xyz = quat[..., :1], quat[..., 1:]
    sine = (xyz.square().sum(-1, keepdim=True) + 1e-24).sqrt()
    return xyz * (2 * torch.atan2(sine, w) / sine)


def six_d_to_matrix(six: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix whose first two columns are the orthonormalised halves (Zhou et al. 2019)."""
    first = normalize(six[..., :3], dim=-1)
    second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first
    second = normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def matrix_to_six_d(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 6"]:
    """The first two columns of a rotation matrix."""
    return torch.cat([matrix[..., 0], matrix[..., 1]], -1)
