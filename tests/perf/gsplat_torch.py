"""gsplat 1.5.3's torch code as a judge on the CPU: pip install --no-deps gsplat==1.5.3.

As shipped it cannot rasterise there: `_rasterize_to_pixels` calls a CUDA function (`rasterize_to_indices_in_range`)
and two functions of nerfacc (`render_weight_from_alpha`, `accumulate_along_rays`). These are replaced by vectorised
torch, and so is the list of tiles, whose torch version is a Python loop over splats (`tile_list_of_gsplat` times it).
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tests.perf.splat_pairs import drawn_pairs, tile_lists

TILE = 16
REPLACED = (
    "gsplat 1.5.3's torch code; replaced by vectorised torch: rasterize_to_indices_in_range (CUDA only), "
    "nerfacc's weights and sums, _isect_tiles (a Python loop)"
)


def available() -> bool:
    return importlib.util.find_spec("gsplat") is not None


def _indices_in_range(
    start, end, transmittances, means2d, conics, opacities, width, height, tile, offsets, flatten_ids
) -> tuple[Tensor, Tensor, Tensor]:
    starts = torch.cat([offsets.flatten().long(), torch.tensor([len(flatten_ids)])])
    if int((starts[1:] - starts[:-1]).max()) > (end - start) * tile * tile or start:
        raise ValueError("a tile holds more splats than one batch of gsplat's torch code")
    splats, pixels = drawn_pairs(
        means2d[0], conics[0], opacities[0], starts, flatten_ids, tile, (height, width), transmittances[0]
    )
    return splats, pixels, torch.zeros_like(pixels)


def _weights(alphas: Tensor, *, ray_indices: Tensor, n_rays: int) -> tuple[Tensor, Tensor]:
    """alpha times what the samples before it on the same ray let through; the samples of a ray lie side by side."""
    logs = torch.log1p(-alphas).double()
    before = logs.cumsum(0) - logs
    begins = torch.ones_like(ray_indices, dtype=torch.bool)
    begins[1:] = ray_indices[1:] != ray_indices[:-1]
    first = begins.nonzero()[:, 0][begins.cumsum(0) - 1]
    through = torch.exp(before - before[first]).float()
    return alphas * through, through


def _sums(weights: Tensor, values: Tensor | None = None, *, ray_indices: Tensor, n_rays: int) -> Tensor:
    weighted = weights[:, None] if values is None else weights[:, None] * values
    return weighted.new_zeros(n_rays, weighted.shape[1]).index_add(0, ray_indices, weighted)


def _patched() -> Any:
    """gsplat's module of torch code, with what it lacks on a CPU put in."""
    from gsplat.cuda import _torch_impl, _wrapper

    _wrapper.rasterize_to_indices_in_range = _indices_in_range
    nerfacc: Any = ModuleType("nerfacc")
    nerfacc.render_weight_from_alpha, nerfacc.accumulate_along_rays = _weights, _sums
    sys.modules["nerfacc"] = nerfacc
    return _torch_impl


def _project(code: Any, splats: Sequence[Tensor], view: dict[str, Any]) -> tuple[Tensor, ...]:
    means, quats, scales = splats[:3]
    height, width = view["size"]
    (fx, fy), (cx, cy) = view["focal"], view["center"]
    K = torch.tensor([[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]], dtype=torch.float32)
    covariance, _ = code._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    return code._fully_fused_projection(means, covariance, view["T_camera_world"][None], K, width, height)


def rasterizer() -> Callable[[Sequence[Tensor], dict[str, Any]], tuple[Tensor, Tensor]]:
    """A function from splats and view to premultiplied colour [h w 3] and alpha [h w]; differentiable."""
    code = _patched()

    def draw(splats: Sequence[Tensor], view: dict[str, Any]) -> tuple[Tensor, Tensor]:
        height, width = view["size"]
        grid = (-(-height // TILE), -(-width // TILE))
        radii, means2d, depths, conics, _ = _project(code, splats, view)
        starts, ids = tile_lists(means2d[0].detach(), radii[0].float(), depths[0].detach(), TILE, grid)
        colours, opacities = splats[4][None], splats[3][None]
        offsets = starts[:-1].view(1, *grid).int()
        picture, alpha = code._rasterize_to_pixels(
            means2d, conics, colours, opacities, width, height, TILE, offsets, ids
        )
        return picture[0], alpha[0, ..., 0]

    return draw


def tile_list_of_gsplat(splats: Sequence[Tensor], view: dict[str, Any]) -> Callable[[], object]:
    """gsplat's own list of tiles in torch, ready to be timed."""
    code = _patched()
    height, width = view["size"]
    with torch.no_grad():
        radii, means2d, depths, *_ = _project(code, splats, view)
    return lambda: code._isect_tiles(means2d, radii, depths, TILE, -(-width // TILE), -(-height // TILE))
