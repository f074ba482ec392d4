"""Where splats start: on the rig's triangles, coloured from the pictures, and on the sheets of `gaussian_sheet`."""

from collections.abc import Sequence
from dataclasses import fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar.core import Region
from avatar.face.rig import PersonalRig
from avatar.models.gaussian_coat import coat
from avatar.models.gaussian_sheet import free
from avatar.models.gaussian_state import PARTS, Splats
from avatar.models.gaussian_strands import palette, strands
from avatar.models.gaussian_view import SOLID, Scene, View, vertex_normals
from avatar.ops.gaussians import triangle_frames

_FREE_SHARE = 0.45
"""At most this share of the seed hangs free beside the rig."""
_COVER = 0.7
"""Standard deviation of a splat relative to the spacing of its neighbours."""
_SUNK = 0.4
"""Standard deviations by which hidden splats lie deeper: about what the outline of a cloud of them stands out."""
_FACING = 0.4
"""Cosine from which a triangle is shown well."""
_BLEED = 0.008
"""Of the picture's height, inside of the person's outline."""
_FEW = 16
"""Seen neighbours that tell an unseen splat's colour."""
_BACKED = (Region.SKIN, Region.EARS, Region.NECK, Region.HAIR)
_BACKING_SHARE = 0.06
"""Of the seed's count, which it adds to: from the front nothing is lost by it."""
_BACKING_DEPTH = 0.007
"""Metres: deeper than the outline is wrong, and not so deep that it comes out on the other side of an ear."""
_BACKING_SIZE = 0.004
"""Largest standard deviation in metres: none may stand out at the outline."""
_BACKING_FACING = 0.75
"""Mean cosine below which a triangle may become the outline."""
_BEHIND = 0.006
"""Metres behind the drawn surface at which a point still counts as seen."""


@torch.no_grad()
def seed(rig: PersonalRig, views: Sequence[View], count: int) -> Splats:
    """Splats on the rig by area (denser at eyes and lips, thinner where no view looks) and beside it by pixels.

    Args:
        views: a few varied pictures of the person; the first ones matter most.
        count: number of splats; those of the closed layer below (`_backing`) are more.
    """
    thick = coat([Scene(rig, view) for view in views]) if views else torch.zeros(len(rig.neutral))
    scenes = [Scene(rig, view, thick) for view in views]
    sheets = free(scenes, round(count * _FREE_SHARE))
    backing = _backing(rig, scenes, thick, round(count * _BACKING_SHARE))
    parts = [_bound(rig, scenes, thick, count - sum(len(s.triangle) for s in sheets)), *sheets, *backing]
    return Splats(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Splats)})


def _density(rig: PersonalRig, scenes: Sequence[Scene]) -> Float[Tensor, "f"]:
    """Splats a square metre of each triangle, relative to plain skin."""
    density = torch.tensor([PARTS[Region(int(r))].density for r in rig.regions])
    if not scenes:
        return density
    facing = torch.stack([s.facing for s in scenes]).amax(0)
    shown = torch.stack([s.shown for s in scenes]).any(0)
    inside = (rig.regions == Region.MOUTH) | (rig.regions == Region.EYES)
    # What no view sees still needs a thin cover, or the head is hollow from the side. Mouth and eyes are deep inside.
    hidden = torch.where(inside, 0.08, torch.where(facing > -0.4, 0.4, 0.15))
    framed = torch.stack([_near_picture(s) for s in scenes]).any(0)
    hidden = torch.where(framed, hidden, 0.1)
    return density * torch.where(shown, 1.0, hidden)


def _near_picture(scene: Scene) -> Bool[Tensor, "f"]:
    """Triangles in the picture or less than a tenth of it beside it."""
    w, h = scene.view.camera.size[::-1]
    size = torch.tensor([w, h])
    return ((scene.view.camera.project(scene.origin) / size - 0.5).abs() < 0.6).all(1)


def _shown(rig: PersonalRig, scenes: Sequence[Scene]) -> Float[Tensor, "f"]:
    """How well the views show each triangle; eyes, lips and the mouth count as shown, since they open and turn."""
    if not scenes:
        return torch.ones(len(rig.faces))
    inside = (rig.regions == Region.MOUTH) | (rig.regions == Region.EYES) | (rig.regions == Region.LIPS)
    facing = torch.stack([torch.where(_clear(s), s.facing, 0.0) for s in scenes]).amax(0)
    return torch.where(inside, 1.0, (facing / _FACING).clamp(0, 1))


def _clear(scene: Scene) -> Bool[Tensor, "f"]:
    """Triangles that show in a solid pixel, themselves or a neighbour."""
    faces, seen = scene.rig.faces, scene.triangle[_solid(scene.view) & (scene.triangle >= 0)]
    touched = torch.zeros(len(scene.rig.neutral), dtype=torch.bool)
    touched[faces[seen.long()].flatten()] = True
    return touched[faces].any(1)


def _solid(view: View) -> Bool[Tensor, "h w"]:
    """Pixels farther from what is behind - the background, clothes behind the jaw - than its colour bleeds (coarse
    chroma of films, errors of matte and parsing)."""
    width = 2 * max(round(_BLEED * view.alpha.shape[0]), 1) + 1
    covered, dressed = view.alpha > SOLID, view.labels == Region.TORSO
    layers = torch.stack([covered & dressed, covered & ~dressed])
    return torch.nn.functional.max_pool2d((~layers).float()[None], width, 1, width // 2)[0].amin(0) < 0.5


def _bound(rig: PersonalRig, scenes: Sequence[Scene], thick: Float[Tensor, "v"], count: int) -> Splats:
    """Splats evenly spread over the coat of the triangles, in proportion to area and density."""
    corners, area = _coated(rig, thick)
    density = _density(rig, scenes)
    parts = [PARTS[Region(int(r))] for r in rig.regions]
    total = (area * density).cumsum(0)
    at = (torch.arange(count) + 0.5) / count * total[-1]
    triangle = torch.searchsorted(total, at).clamp_max(len(area) - 1)
    bary = _spread(count)
    spacing = (total[-1] / count / density[triangle]).sqrt()
    scale = torch.stack([spacing * _COVER, spacing * _COVER, (spacing * 0.15).clamp_min(3e-4)], 1)
    shown = _shown(rig, scenes)[triangle]
    colour = observed_colour(rig, scenes, triangle, bary, rim=shown < 1)
    offset = _lifted(rig, corners, triangle, bary)
    # What is not trained must not stand out: a splat covers more than its middle.
    offset[:, 2] -= _SUNK * spacing * _COVER * (1 - shown)
    return Splats(
        triangle=triangle,
        bary=bary,
        offset=offset,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        log_scales=scale.clamp_min(2e-4).log(),
        raw_opacity=torch.full((count,), 2.0),
        raw_colour=torch.logit(colour.clamp(0.02, 0.98)),
        reach=torch.maximum(torch.tensor([p.reach for p in parts])[triangle], 1.3 * offset.norm(dim=-1)),
        shown=shown,
    )


def _backing(rig: PersonalRig, scenes: Sequence[Scene], thick: Float[Tensor, "v"], count: int) -> list[Splats]:
    """A closed layer below what is seen at a grazing angle; one or no entry.

    The training thins the surface there to draw the outline as it is filmed, and one would look through it from aside,
    at the background or into the collar.
    """
    if not scenes:
        return []
    corners, area = _coated(rig, thick)
    facing = torch.stack([s.facing for s in scenes]).mean(0)
    framed = torch.stack([_near_picture(s) for s in scenes]).any(0)
    backed = torch.isin(rig.regions.long(), torch.tensor([int(r) for r in _BACKED]))
    total = (area * (backed & framed & (facing < _BACKING_FACING) & (facing > -_FACING))).cumsum(0)
    if total[-1] == 0:
        return []
    at = (torch.arange(count) + 0.5) / count * total[-1]
    triangle = torch.searchsorted(total, at).clamp_max(len(area) - 1)
    bary, size = _spread(count), min(_COVER * float((total[-1] / count).sqrt()), _BACKING_SIZE)
    offset = _lifted(rig, corners, triangle, bary)
    offset[:, 2] -= _BACKING_DEPTH
    colour = observed_colour(rig, scenes, triangle, bary, rim=torch.ones(count, dtype=torch.bool))
    return [
        Splats(
            triangle=triangle,
            bary=bary,
            offset=offset,
            quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
            log_scales=torch.tensor([size, size, size * 0.2]).log().repeat(count, 1),
            raw_opacity=torch.full((count,), 3.0),
            raw_colour=torch.logit(colour.clamp(0.02, 0.98)),
            reach=1.3 * offset.norm(dim=-1),
            shown=torch.zeros(count),
        )
    ]


def _coated(rig: PersonalRig, thick: Float[Tensor, "v"]) -> tuple[Float[Tensor, "f 3 3"], Float[Tensor, "f"]]:
    """Corners of the coat's triangles at rest in metres, and their areas."""
    corners = (rig.neutral + thick[:, None] * vertex_normals(rig.neutral, rig.faces))[rig.faces]
    return corners, torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1) / 2


def _lifted(
    rig: PersonalRig, corners: Float[Tensor, "f 3 3"], triangle: Int[Tensor, "n"], bary: Float[Tensor, "n 3"]
) -> Float[Tensor, "n 3"]:
    """From points of the rig to the same points of the coat, in the triangles' frames."""
    _, axes, _ = triangle_frames(rig.neutral, rig.faces)
    lifted = ((corners - rig.neutral[rig.faces])[triangle] * bary[..., None]).sum(1)
    return (axes[triangle].transpose(-1, -2) @ lifted[..., None])[..., 0]


def _spread(count: int) -> Float[Tensor, "n 3"]:
    """Barycentric points of low discrepancy (R2 sequence, Roberts 2018), folded into the triangle."""
    i = torch.arange(count, dtype=torch.float64)
    u, v = (i * 0.7548776662466927) % 1, (i * 0.5698402909980532) % 1
    flip = u + v > 1
    u, v = torch.where(flip, 1 - u, u), torch.where(flip, 1 - v, v)
    return torch.stack([1 - u - v, u, v], 1).float()


def observed_colour(
    rig: PersonalRig,
    scenes: Sequence[Scene],
    triangle: Int[Tensor, "n"],
    bary: Float[Tensor, "n 3"],
    *,
    rim: Bool[Tensor, "n"],
) -> Float[Tensor, "n 3"]:
    """Mean colour of the pixels where a splat is seen; unseen ones, and those at the `rim`, take the median of the
    nearest seen ones of their part: some may have been seen through an error of the parsing. Unseen hair gets
    `strands`.

    Seen means: drawn in front by the rig, facing the camera, and of a label that agrees; hair over the forehead is no
    skin. Pixels that what is behind may shine through do not count.
    """
    region = rig.regions[triangle].long()
    total, weight = torch.zeros(len(triangle), 3), torch.zeros(len(triangle))
    for scene in scenes:
        points = (scene.surface[rig.faces[triangle]] * bary[..., None]).sum(1)
        row, column, inside = scene.pixels(points)
        agrees = (scene.view.labels[row, column].long() == region) & _solid(scene.view)[row, column]
        front = scene.local(points)[:, 2] < scene.depth[row, column] + _BEHIND
        w = (scene.facing[triangle] - 0.15).clamp_min(0) ** 2 * (inside & agrees & front)
        total += w[:, None] * scene.view.rgb[row, column]
        weight += w
    seen = weight > 0.05
    colour = torch.tensor([PARTS[Region(r)].colour for r in range(len(Region))])[region]
    colour[seen] = total[seen] / weight[seen, None]
    rest = (rig.neutral[rig.faces[triangle]] * bary[..., None]).sum(1)
    tones = palette(scenes)
    for part in region.unique():
        here, known = (region == part) & (~seen | rim), (region == part) & seen
        if part == Region.HAIR:
            here &= ~seen
        if part == Region.HAIR and tones is not None:
            colour[here] = strands(rest[here], tones, _crown(rig))
        elif int(known.sum()) > 20 and part != Region.MOUTH:
            colour[here] = colour[known][_neighbours(rest[known], rest[here])].median(1).values
    return colour


def _crown(rig: PersonalRig) -> Float[Tensor, "3"]:
    return rig.neutral[rig.faces[rig.regions == Region.HAIR]].mean((0, 1))


def _neighbours(known: Float[Tensor, "m 3"], asked: Float[Tensor, "n 3"]) -> Int[Tensor, "n k"]:
    """Indices of the nearest known points."""
    from scipy.spatial import cKDTree

    return torch.from_numpy(cKDTree(known.numpy()).query(asked.numpy(), k=_FEW)[1]).long()
