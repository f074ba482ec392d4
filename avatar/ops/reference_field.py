"""The specification of the radiance field's operators in plain torch: any device, any floating type, slow and obvious.

Positions of the hash grid are in the unit cube, first axis x. Rays are origin + t * direction. Samples of all rays lie
one after the other ("packed"); ray i owns samples packed[i, 0] ... packed[i, 0] + packed[i, 1] - 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

PRIMES = (1, 2654435761, 805459861)
"""Multipliers of the spatial hash (Teschner et al. 2003; the 1 is by Müller et al. 2022)."""


def encode(
    positions: Float[Tensor, "n d"], table: Float[Tensor, "rows f"], resolutions: list[int], log2_rows: int
) -> Float[Tensor, "n levels*f"]:
    """Multiresolution hash encoding (Müller et al. 2022): each level interpolates the rows at its cell's corners.

    A level of resolution r has vertices at 0/r ... r/r on each axis. It is stored densely, x fastest, if that takes at
    most 2^log2_rows rows; else a vertex is hashed to one of 2^log2_rows rows. Coordinates are clamped to [0, 1], and
    NaN counts as 0.
    """
    unit = positions.nan_to_num(0.0).clamp(0, 1)
    dimensions = positions.shape[1]
    bits = torch.arange(2**dimensions, device=positions.device)[:, None] >> torch.arange(dimensions).to(
        positions.device
    )
    ends = (bits & 1).bool()  # of each corner: at which end of the cell it is, along each axis
    encoded, first = [], 0
    for resolution in resolutions:
        scaled = unit * resolution
        cell = scaled.detach().floor().clamp(max=resolution - 1)
        fraction = (scaled - cell)[:, None]
        vertices = cell.long()[:, None] + ends
        rows = (resolution + 1) ** dimensions
        if rows <= 2**log2_rows:
            index = (vertices * vertices.new_tensor([(resolution + 1) ** d for d in range(dimensions)])).sum(-1)
        else:
            rows = 2**log2_rows
            x, *others = (vertices * vertices.new_tensor(PRIMES[:dimensions])).unbind(-1)
            for other in others:
                x = x ^ other
            index = x % rows
        weights = torch.where(ends, fraction, 1 - fraction).prod(-1)
        encoded.append((weights[..., None] * table[first + index]).sum(1))
        first += rows
    return torch.cat(encoded, -1)
