"""The specification of the radiance field's operators in plain torch: any device, any floating type, slow and obvious.

Positions of the hash grid are in the unit cube, first axis x. Rays are origin + t * direction. Samples of all rays lie
one after the other ("packed"); ray i owns samples packed[i, 0] ... packed[i, 0] + packed[i, 1] - 1.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MIN_LIGHT = 1e-4
"""Behind less transmittance than this, samples do not count."""
MAX_STEPS = 2**20
"""Samples of a ray, those in empty cells counted too."""
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


def inside_box(
    origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"], low: Tensor, high: Tensor
) -> tuple[Float[Tensor, "r"], Float[Tensor, "r"]]:
    """Where rays enter and leave a box (slabs; Kay and Kajiya 1986); rays that miss it leave before they enter.

    Rays without a direction, and rays with coordinates that are not finite, miss it.
    """
    parallel = directions.abs() < 1e-30
    inverse = 1 / directions.masked_fill(parallel, 1.0)
    a, b = (low - origins) * inverse, (high - origins) * inverse
    entry = torch.minimum(a, b).masked_fill(parallel, -math.inf).amax(-1)
    leave = torch.maximum(a, b).masked_fill(parallel, math.inf).amin(-1)
    beside = parallel & ~((origins >= low) & (origins <= high))
    lost = beside.any(-1) | parallel.all(-1) | ~(origins.isfinite() & directions.isfinite()).all(-1)
    return entry.masked_fill(lost, 0.0), leave.masked_fill(lost, -1.0)


def march(  # noqa: PLR0917 - rays, grid and spacing, as the compiled operator takes them
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    occupied: Bool[Tensor, "x y z"],
    jitter: Float[Tensor, "r"],
    box: list[float],
    spacing: list[float],
) -> tuple[Int[Tensor, "r 2"], Int[Tensor, "s"], Float[Tensor, "s"], Float[Tensor, "s"]]:
    """Samples with their middle in an occupied cell, along rays from where they enter a box to where they leave it.

    Args:
        jitter: each ray's first sample starts this many steps behind the entry; clamped to [0, 1], NaN counts as 0.
        box: low x, y, z and high x, y, z.
        spacing: near, far, step, cone. Sample k follows on sample k - 1 and is `step` long while
            cone * start <= step; then each is 1 + cone times as long as the one before.

    Returns:
        Packed rays, the ray of each sample, and starts and ends in units of the direction's length.
    """
    low, high = origins.new_tensor(box[:3]), origins.new_tensor(box[3:])
    near, far, step, cone = spacing
    entry, leave = inside_box(origins, directions, low, high)
    hit = entry.clamp(min=near) < leave.clamp(max=far)
    first, last = entry.clamp(min=near) + jitter.nan_to_num(0.0).clamp(0, 1) * step, leave.clamp(max=far)
    even = ((step / cone - first) / step).ceil().clamp(min=0) if cone > 0 else torch.full_like(first, math.inf)

    def start(k: int) -> Tensor:
        return (first + even.clamp(max=k) * step) * (1 + cone) ** (k - even.clamp(max=k))

    cells = torch.tensor(occupied.shape, device=occupied.device)
    rays, numbers, starts, ends = [], [], [], []
    for k in range(MAX_STEPS):
        t0, t1 = start(k), start(k + 1)
        alive = (hit & ((t0 + t1) / 2 < last)).nonzero()[:, 0]
        if not len(alive):
            break
        middle = ((t0 + t1) / 2)[alive, None]
        points = origins[alive] + middle * directions[alive]
        cell = ((points - low) * (cells / (high - low))).floor().long().clamp(min=0).minimum(cells - 1)
        kept = alive[occupied[tuple(cell.T)]]
        found = (kept, torch.full_like(kept, k), t0[kept], t1[kept])
        for column, values in zip((rays, numbers, starts, ends), found, strict=True):
            column.append(values)
    if not rays:
        nothing = origins.new_empty(0)
        return torch.zeros(len(origins), 2, dtype=torch.long).to(origins.device), nothing.long(), nothing, nothing
    ray, number = torch.cat(rays), torch.cat(numbers)
    order = (ray * MAX_STEPS + number).argsort()
    counts = ray.bincount(minlength=len(origins))
    packed = torch.stack([counts.cumsum(0) - counts, counts], -1)
    return packed, ray[order], torch.cat(starts)[order], torch.cat(ends)[order]


def composite(
    densities: Float[Tensor, "s"],
    values: Float[Tensor, "s c"],
    starts: Float[Tensor, "s"],
    ends: Float[Tensor, "s"],
    packed: Int[Tensor, "r 2"],
) -> tuple[Float[Tensor, "r c"], Float[Tensor, "r"], Float[Tensor, "r"], Float[Tensor, "s"]]:
    """Emission and absorption along rays (Max 1995), front to back, each density constant over its sample.

    A sample takes 1 - exp(-density * length) of the light that reaches it; nothing counts once less than MIN_LIGHT is
    left. Densities below 0 and lengths below 0 count as 0. Rays are laid out as rows, as long as the longest.

    Returns:
        Values and middles (the depth) times weights, summed over each ray; the sum of weights (alpha); the weights.
    """
    first, count = packed.unbind(-1)
    most = int(count.max()) if len(count) else 0
    column = torch.arange(most, device=packed.device)
    there = column < count[:, None]
    at = (first[:, None] + column).where(there, 0)
    if not len(densities):
        at = at[:, :0]
        there = there[:, :0]
    depths = (densities.clamp(min=0) * (ends - starts).clamp(min=0))[at].where(there, 0)
    light = torch.exp(-(depths.cumsum(-1) - depths))
    weights = (light * (1 - torch.exp(-depths))).where(light.detach() >= MIN_LIGHT, 0)
    colour = (weights[..., None] * values[at]).sum(1)
    depth = (weights * ((starts + ends) / 2)[at]).sum(1)
    return colour, weights.sum(1), depth, torch.zeros_like(densities).index_put((at[there],), weights[there])
