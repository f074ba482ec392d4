"""Bind splats to the triangles of a moving surface and blend them by motion, in one pass.

A splat sits at a fixed barycentric point of a triangle, moved by an offset in the triangle's frame; offsets and sizes
grow with the triangle (GaussianAvatars, Qian et al. 2024). Thirteen numbers of it - offset, turn, log scale, opacity,
colour - add a sum of K basis values times the K weights of the motion (reduced Gaussian blendshapes, Ma et al. 2024).

float32 tensors go through the compiled kernel (registered as `torch.ops.avatar.bind_gaussians`), everything else
through the plain torch version below, which says what is computed.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar.ops import _binding_native  # registers the compiled operator
from avatar.ops._backend import compiled_for
from avatar.ops.gaussians import triangle_frames
from avatar.ops.rotation import matrix_to_quat, quat_multiply, quat_to_matrix

UNIT = 0.01
"""Offsets are stored in centimetres: one learning rate fits triangles of every size."""
NUMBERS = 13
BASIS_UNITS = (0.2,) * 9 + (1.0,) + (0.5,) * 3
"""What one unit of a basis value is: 2 mm, 0.2 rad, 20 % of size, raw units of opacity and of colour."""
GROWTH = (0.3, 3.0)
"""Lids and lips fold triangles almost to nothing; their splats must neither vanish nor explode."""

assert _binding_native.NUMBERS == NUMBERS


class Surface(NamedTuple):
    """A posed triangle mesh."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    rest_size: Float[Tensor, "f"]
    """Size of each triangle at rest, as `gaussians.triangle_frames` gives it; no gradient."""


class Seats(NamedTuple):
    """Where splats sit; no gradient."""

    triangle: Int[Tensor, "n"]
    bary: Float[Tensor, "n 3"]
    live: Bool[Tensor, "n"] | None = None
    """False keeps a splat at rest: motion adds nothing, and of its rest state only the opacity has a gradient."""


class Rest(NamedTuple):
    """The rest state of splats, raw parameters."""

    offset: Float[Tensor, "n 3"]
    """In the triangle's frame, in `UNIT`s."""
    turn: Float[Tensor, "n 4"]
    """wxyz, any length but zero, in the triangle's frame."""
    log_scale: Float[Tensor, "n 3"]
    """Natural logarithm of metres."""
    opacity: Float[Tensor, "n"]
    """Before the sigmoid."""
    colour: Float[Tensor, "n 3"]
    """Before the sigmoid."""


class Blend(NamedTuple):
    """What motion adds."""

    basis: Float[Tensor, "n 13 k"]
    """In `BASIS_UNITS`."""
    weights: Float[Tensor, "k"]
    extra: Float[Tensor, "n 13"] | None = None
    """Added to basis @ weights. Its gradient times the weights, as an outer product, is that of the basis."""


class Drawn(NamedTuple):
    """Splats in the frame of the surface's vertices."""

    means: Float[Tensor, "n 3"]
    quats: Float[Tensor, "n 4"]
    scales: Float[Tensor, "n 3"]
    """Metres; their logarithm if not activated."""
    opacities: Float[Tensor, "n"]
    """In [0, 1]; before the sigmoid if not activated."""
    colours: Float[Tensor, "n 3"]
    """In [0, 1]."""


def bind_gaussians(surface: Surface, seats: Seats, rest: Rest, blend: Blend, *, activate: bool = True) -> Drawn:
    """Splats of a moment; differentiable in the vertices, the rest state, the basis, its weights and `extra`.

    Raises:
        ValueError: if shapes, types or devices do not fit together, or an index leads out of its tensor (on a GPU,
            splats of triangles that do not exist become NaN instead).
    """
    _check(surface, seats, rest, blend)
    if not compiled_for(surface.vertices):
        return _reference(surface, seats, rest, blend, activate)
    return Drawn(*torch.ops.avatar.bind_gaussians(*surface, *seats, *rest, *blend, activate)[:5])


def _reference(surface: Surface, seats: Seats, rest: Rest, blend: Blend, activate: bool) -> Drawn:
    added = blend.basis @ blend.weights
    if blend.extra is not None:
        added = added + blend.extra
    added = added * added.new_tensor(BASIS_UNITS)
    if seats.live is not None:
        live = seats.live[:, None]
        added = torch.where(live, added, 0.0)
        opacity = rest.opacity
        rest = Rest(*(part if part is opacity else torch.where(live, part, part.detach()) for part in rest))
    offset, turn, log_scale, opacity, colour = added.split([3, 3, 3, 1, 3], -1)

    faces, triangle = surface.faces.long(), seats.triangle.long()
    if len(triangle) and (int(triangle.min()) < 0 or int(triangle.max()) >= len(faces)):
        raise ValueError(f"splats sit on triangles {int(triangle.min())}..{int(triangle.max())} of {len(faces)}")
    _, rotation, size = triangle_frames(surface.vertices, faces)
    growth = (size / surface.rest_size).clamp(*GROWTH)[triangle]
    frame = matrix_to_quat(rotation)[triangle]
    base = (surface.vertices[faces[triangle]] * seats.bary[..., None]).sum(1)
    arm = (quat_to_matrix(frame) @ (rest.offset + offset)[..., None])[..., 0]
    twist = torch.cat([torch.ones_like(turn[:, :1]), 0.5 * turn], 1)
    scales, opacities = rest.log_scale + log_scale + growth.log()[:, None], rest.opacity + opacity[:, 0]
    return Drawn(
        means=base + UNIT * growth[:, None] * arm,
        quats=quat_multiply(frame, quat_multiply(rest.turn, twist)),
        scales=scales.exp() if activate else scales,
        opacities=opacities.sigmoid() if activate else opacities,
        colours=(rest.colour + colour).sigmoid(),
    )


def _check(surface: Surface, seats: Seats, rest: Rest, blend: Blend) -> None:
    vertices = surface.vertices
    for name, tensor, ndim in (("vertices", vertices, 2), ("faces", surface.faces, 2), ("triangle", seats.triangle, 1)):
        if tensor.ndim != ndim:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {ndim} axes")
    n, faces = len(seats.triangle), len(surface.faces)
    wanted = {
        "vertices": (vertices, (len(vertices), 3)),
        "rest_size": (surface.rest_size, (faces,)),
        "bary": (seats.bary, (n, 3)),
        "offset": (rest.offset, (n, 3)),
        "turn": (rest.turn, (n, 4)),
        "log_scale": (rest.log_scale, (n, 3)),
        "opacity": (rest.opacity, (n,)),
        "colour": (rest.colour, (n, 3)),
        "basis": (blend.basis, (n, NUMBERS, *blend.weights.shape[:1])),
        "weights": (blend.weights, (*blend.weights.shape[:1],)),
        "extra": (vertices.new_zeros(n, NUMBERS) if blend.extra is None else blend.extra, (n, NUMBERS)),
    }
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {shape}")
        if tensor.dtype != vertices.dtype or tensor.device != vertices.device or not tensor.is_floating_point():
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}, vertices {vertices.dtype} {vertices.device}"
            )
    live = seats.triangle if seats.live is None else seats.live
    for name, tensor, shape in (
        ("faces", surface.faces, (faces, 3)),
        ("triangle", seats.triangle, (n,)),
        ("live", live, (n,)),
    ):
        kind = torch.bool if live is tensor and seats.live is not None else torch.int64
        if tuple(tensor.shape) != shape or tensor.dtype != kind or tensor.device != vertices.device:
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}, not {kind} {shape}")
