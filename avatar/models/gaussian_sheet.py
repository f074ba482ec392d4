"""Splats on pixels of the person beside the rig, hair and clothes: sheets that hang from its nearest part."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar.core import Region
from avatar.models.gaussian_state import PARTS, Splats
from avatar.models.gaussian_view import SOLID, Scene, View, grown, nearest
from avatar.ops.rotation import matrix_to_quat

# A pixel of the left kind may hang from triangles of the right kinds.
_FACE = (Region.SKIN, Region.BROWS, Region.EYES, Region.NOSE, Region.LIPS, Region.MOUTH, Region.EARS)
_ANCHORS = {
    **{region: _FACE for region in _FACE},
    Region.HAIR: (Region.HAIR, Region.SKIN, Region.EARS, Region.BROWS, Region.NECK),
    Region.NECK: (Region.NECK, Region.TORSO, Region.SKIN),
    Region.TORSO: (Region.TORSO, Region.NECK),
}
_VIEWS = 6
"""Views that add to the sheets; each later one adds what none before has."""
_SHEET = 4.0
"""Splats over which the depth of a sheet is smoothed (standard deviation)."""
_COVER = 0.6
"""Standard deviation of a splat relative to the spacing of its neighbours."""
_SLIVER = 7
"""Uncovered strips narrower than this many pixels are errors of tracking, not clothes."""


def free(scenes: Sequence[Scene], most: int) -> list[Splats]:
    """One splat for every few pixels of the person that lie beside the projected rig, view after view."""
    found: list[Splats] = []
    left = most
    for number, scene in enumerate(scenes[:_VIEWS]):
        share = most if number == 0 else min(left, most // _VIEWS)
        part = _uncovered(scene, found, share)
        found.append(part)
        left -= len(part.triangle)
    return found


def _uncovered(scene: Scene, found: Sequence[Splats], most: int) -> Splats:
    view, stride = scene.view, 1
    asked = (view.alpha > 0.6) & ~_covered(scene, found)
    if found:
        asked = _opened(asked, _SLIVER)
    h, w = asked.shape
    while int(asked[::stride, ::stride].sum()) > most:
        stride += 1
    row, column = torch.meshgrid(torch.arange(0, h, stride), torch.arange(0, w, stride), indexing="ij")
    keep = asked[row, column]
    row, column = row[keep], column[keep]
    label = view.labels[row, column].long()
    xy = torch.stack([column + 0.5, row + 0.5], 1)
    triangle = _anchors(scene, xy, label)
    # Unproject at the depth of the anchor: a sheet through the silhouette of the nearest part.
    T = view.camera.T_camera_world
    depth = _smooth(scene.local(scene.origin[triangle])[:, 2], xy / stride, label)
    ray = (xy - torch.tensor(view.camera.center)) / torch.tensor(view.camera.focal)
    local = torch.cat([ray, torch.ones(len(ray), 1)], 1) * depth[:, None]
    point = (local - T[:3, 3]) @ T[:3, :3]
    axes = scene.rotation[triangle]
    offset = ((point - scene.seat[triangle])[:, None, :] @ axes)[:, 0]
    sigma = stride * _COVER * depth / view.camera.focal[0]
    to_camera = axes.transpose(-1, -2) @ T[:3, :3].T
    reach = torch.tensor([PARTS[Region(r)].reach for r in range(len(Region))])[label]
    return Splats(
        triangle=triangle,
        bary=torch.full((len(row), 3), 1 / 3),
        offset=offset,
        quats=matrix_to_quat(to_camera),
        log_scales=torch.stack([sigma, sigma, sigma * 0.5], 1).log(),
        raw_opacity=torch.full((len(row),), 1.5),
        raw_colour=torch.logit(_sure_colour(view, row, column).clamp(0.02, 0.98)),
        reach=torch.maximum(reach, 1.3 * offset.norm(dim=-1)),
        shown=torch.ones(len(row)),
    )


def _sure_colour(view: View, row: Int[Tensor, "n"], column: Int[Tensor, "n"]) -> Float[Tensor, "n 3"]:
    """Colour of the nearest pixel that the background does not shine through."""
    sure = (view.alpha > SOLID).nonzero()
    if len(sure) == 0:
        return view.rgb[row, column]
    at = sure[nearest(sure.float(), torch.stack([row, column], 1).float())]
    return view.rgb[at[:, 0], at[:, 1]]


def _smooth(depth: Float[Tensor, "n"], cells: Float[Tensor, "n 2"], label: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Depth averaged over neighbouring pixels of the same label, so that a sheet holds together from the side."""
    from scipy.ndimage import gaussian_filter

    column, row = cells.long().unbind(1)
    out = depth.clone()
    for kind in label.unique():
        here = label == kind
        grid = np.zeros((2, int(row.max()) + 1, int(column.max()) + 1))
        grid[:, row[here].numpy(), column[here].numpy()] = np.stack([depth[here].numpy(), np.ones(int(here.sum()))])
        total, weight = (gaussian_filter(plane, _SHEET) for plane in grid)
        mean = total[row[here].numpy(), column[here].numpy()] / weight[row[here].numpy(), column[here].numpy()]
        out[here] = torch.from_numpy(mean).float()
    return out


def _covered(scene: Scene, found: Sequence[Splats]) -> Bool[Tensor, "h w"]:
    """Pixels where the rig is drawn, or an earlier view already put splats."""
    cover = scene.triangle >= 0
    for splats in found:
        points = scene.seat[splats.triangle] + (scene.rotation[splats.triangle] @ splats.offset[..., None])[..., 0]
        row, column, inside = scene.pixels(points)
        cover[row[inside], column[inside]] = True
    return _closed(cover, _SLIVER)


def _closed(mask: Bool[Tensor, "h w"], width: int) -> Bool[Tensor, "h w"]:
    """Without holes narrower than `width`."""
    return ~grown(~grown(mask, width), width)


def _opened(mask: Bool[Tensor, "h w"], width: int) -> Bool[Tensor, "h w"]:
    """Without strips narrower than `width`."""
    return grown(~grown(~mask, width), width) & mask


def _anchors(scene: Scene, xy: Float[Tensor, "n 2"], label: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The triangle each pixel hangs from: nearest in the picture among the parts that fit its label."""
    flat = scene.view.camera.project(scene.origin)
    out = torch.zeros(len(xy), dtype=torch.long)
    usable = scene.facing > -0.2
    for kind in label.unique():
        allowed = _ANCHORS.get(Region(int(kind)), tuple(PARTS))
        fits = usable & torch.isin(scene.rig.regions.long(), torch.tensor([int(a) for a in allowed]))
        candidates = (fits if bool(fits.any()) else usable | True).nonzero()[:, 0]
        here = label == kind
        out[here] = candidates[nearest(flat[candidates], xy[here])]
    return out
