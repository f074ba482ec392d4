"""Which splat draws at which pixel, in plain torch and on any device: tile lists and pairs, front to back.

This stands in for the CUDA functions that gsplat's torch code calls, and counts the work of the roofline.
"""

import torch
from torch import Tensor

from avatar.ops.reference import MIN_ALPHA, MIN_LIGHT


@torch.no_grad()
def tile_lists(mean: Tensor, reach: Tensor, depth: Tensor, tile: int, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The splats of each tile by growing depth: first entry of each tile [tiles + 1], and splats.

    Args:
        mean: [n 2] px.
        reach: [n 2] px, half width and height; 0 is not drawn.
        depth: [n].
        tile: side in px.
        grid: rows and columns of tiles.
    """
    rows, columns = grid
    limit = torch.tensor([columns, rows])
    first = torch.floor((mean - reach) / tile).clamp(min=torch.zeros(2), max=limit).long()
    last = torch.ceil((mean + reach) / tile).clamp(min=torch.zeros(2), max=limit).long()
    span = (last - first) * (reach > 0).all(-1, keepdim=True)
    count = span.prod(-1)
    splat = torch.repeat_interleave(torch.arange(len(mean)), count)
    within = torch.arange(len(splat)) - (count.cumsum(0) - count)[splat]
    x = first[splat, 0] + within % span[splat, 0]
    y = first[splat, 1] + within // span[splat, 0]
    rank = torch.empty(len(mean), dtype=torch.long)
    rank[depth.argsort(stable=True)] = torch.arange(len(mean))
    order = ((y * columns + x) * len(mean) + rank[splat]).argsort()
    starts = torch.zeros(rows * columns + 1, dtype=torch.long)
    starts[1:] = torch.bincount(y * columns + x, minlength=rows * columns).cumsum(0)
    return starts, splat[order]


@torch.no_grad()
def drawn_pairs(
    mean: Tensor,
    conic: Tensor,
    opacity: Tensor,
    starts: Tensor,
    splats: Tensor,
    tile: int,
    size: tuple[int, int],
    light: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Splat and pixel (row-major) of each pair that draws: alpha at least 1/255, and light is left before it.

    Args:
        conic: [n 3], the inverse of the covariance: xx, xy, yy.
        light: [h w] that reaches the first splat; 1 unless told.
    """
    height, width = size
    columns = -(-width // tile)
    found_splats, found_pixels = [], []
    for index, (begin, end) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
        top, left = index // columns * tile, index % columns * tile
        here = splats[begin:end]
        y, x = torch.meshgrid(
            torch.arange(top, min(top + tile, height)), torch.arange(left, min(left + tile, width)), indexing="ij"
        )
        y, x = y.reshape(-1, 1), x.reshape(-1, 1)
        dx, dy = x + 0.5 - mean[here, 0], y + 0.5 - mean[here, 1]
        a, b, c = conic[here].unbind(-1)
        power = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
        alpha = (opacity[here] * torch.exp(-power)).clamp_max(0.999)
        alpha = torch.where((power >= 0) & (alpha >= MIN_ALPHA), alpha, 0.0)
        left_over = torch.cumprod(1 - alpha, 1)
        if light is not None:
            left_over = left_over * light[y, x]
        pixel, entry = ((alpha > 0) & (left_over > MIN_LIGHT)).nonzero(as_tuple=True)
        found_splats.append(here[entry])
        found_pixels.append((y * width + x)[pixel, 0])
    return torch.cat(found_splats), torch.cat(found_pixels)
