"""Which cells of the head's canonical space may hold anything: about the rig's coat, and where views show more beside.

Axes are those of the head frame in the neutral pose, metres; cells are cubes. The cells move with the head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avatar.face.rig import PersonalRig
from avatar.models.field_shell import ANYWHERE, CELL, DEEP, FAR_OUT, MARGIN, WITH_HEAD, WITH_TORSO, Rays, Shell
from avatar.models.gaussian_view import View, vertex_normals
from avatar.ops import raymarch
from avatar.ops.raymarch import Marching

_AROUND = 0.14
"""Metres beside the shell that hair and shoulders may reach."""
_FLAT = 0.02
"""Metres before and behind the nearest vertex in which what is seen beside the shell is looked for: one camera does not
tell its depth, so it hangs as a sheet, as thick as this to both sides."""
_SHOWN = 0.3
"""Share of the views, among those that have a cell in their picture, which must show the person there."""
_COARSE = 4
"""Cells along an axis that are first tried together."""


@dataclass(frozen=True)
class Cells:
    """Cells that may hold something, in a box."""

    low: Float[Tensor, "3"]
    """Corner of the box, metres."""
    shape: tuple[int, int, int]
    at: Int[Tensor, "n 3"]
    owner: Int[Tensor, "n"]
    """`ANYWHERE` in the shell, `WITH_HEAD` or `WITH_TORSO` beside it."""
    height: Float[Tensor, "n"]
    """Metres above the nearest part of the surface; `FAR_OUT` beside the shell."""


@dataclass(frozen=True)
class Samples:
    """Samples on rays, ray after ray."""

    packed: Int[Tensor, "m 2"]
    """(first sample, number of samples) of each ray."""
    ray: Int[Tensor, "s"]
    start: Float[Tensor, "s"]
    end: Float[Tensor, "s"]


class Space(nn.Module):
    """The occupancy grid."""

    low: Tensor
    owner: Tensor
    occupied: Tensor
    shown: Tensor

    def __init__(self, cells: Cells):
        """Args: the cells that are occupied until training knows better."""
        super().__init__()
        self.cells = cells
        owner = torch.zeros(cells.shape, dtype=torch.uint8)
        owner[tuple(cells.at.T)] = cells.owner.to(torch.uint8)
        self.register_buffer("low", cells.low)
        self.register_buffer("owner", owner)
        self.register_buffer("occupied", owner > 0)
        self.register_buffer("shown", torch.zeros(cells.shape, dtype=torch.bool))
        """Cells that had a part in some picture. Pictures are made of these alone, once there are any: what the others
        hold is what learned of its neighbours, or nobody."""
        high = cells.low + CELL * torch.tensor(cells.shape)
        self._corners = tuple(cells.low.tolist()), tuple(high.tolist())
        self.side = CELL * max(cells.shape)
        self.register_load_state_dict_post_hook(lambda module, keys: self.changed())
        self.changed()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Space":
        super()._apply(fn, recurse)
        names = ("low", "at", "owner", "height")
        self.cells = replace(self.cells, **{name: fn(getattr(self.cells, name)) for name in names})
        self.changed()
        return self

    def changed(self) -> None:
        """Look at `occupied` again."""
        self.lit = self.occupied & self.shown if bool(self.shown.any()) else self.occupied
        """What pictures are made of; while training, all that is occupied is looked at."""
        self._grids, self._beside = {}, {}
        for learns, grid in ((True, self.occupied), (False, self.lit)):
            self._grids[learns] = {ANYWHERE: grid, **{k: grid & (self.owner == k) for k in _BESIDE}}
            self._beside[learns] = [middles(self.low, self._grids[learns][k].nonzero()) for k in _BESIDE]

    @property
    def beside(self) -> list[Float[Tensor, "n 3"]]:
        """Middles of the cells beside the shell that go with the head, and with the torso."""
        return self._beside[self.training]

    def cell(self, points: Float[Tensor, "s 3"]) -> Int[Tensor, "s"]:
        """Cells of points in units of the longest side, counted as the grid lies in memory."""
        (x, y, z), at = self.occupied.shape, (points * (self.side / CELL)).long()
        columns = [at[:, i].clamp(0, n - 1) for i, n in enumerate((x, y, z))]
        return (columns[0] * y + columns[1]) * z + columns[2]

    def march(self, pieces: Sequence[Rays], *, jitter: bool) -> Samples:
        """Samples in the occupied cells of each piece's place, all pieces' rays one after the other."""
        packed, ray, spans, rays, count = [], [], [], 0, 0
        for piece in pieces:
            low, high = self._corners
            marching = Marching(step=1 / piece.steps, far=1.0, low=low, high=high)
            origin, direction = piece.origin.detach(), piece.direction.detach()
            shift = torch.rand(len(piece)) if jitter else torch.full((len(piece),), 0.5)
            shift = shift.to(origin, non_blocking=True)
            at, whose, start, end = raymarch.march(
                origin, direction, self._grids[self.training][piece.place], marching, shift
            )
            packed.append(torch.stack([at[:, 0] + count, at[:, 1]], 1))
            ray.append(whose + rays)
            spans.append(torch.stack([start, end]))
            rays, count = rays + len(piece), count + len(whose)
        start, end = torch.cat(spans, 1)
        return Samples(torch.cat(packed), torch.cat(ray), start, end)


_BESIDE = (WITH_HEAD, WITH_TORSO)


def middles(low: Float[Tensor, "3"], cells: Int[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Middles of cells, metres."""
    return low + CELL * (cells + 0.5)


@torch.no_grad()
def survey(rig: PersonalRig, shell: Shell, views: Sequence[View]) -> Cells:
    """The cells of a person."""
    surface = shell.inner.neutral
    around = _AROUND if views else 0.0
    low = surface.amin(0) - (MARGIN + 2 * CELL + around)
    shape = ((surface.amax(0) + MARGIN + 2 * CELL + around - low) / CELL).ceil().long()
    at = _near(low, shape, surface, around)
    points = middles(low, at)
    distance, vertex = _nearest(surface, points)
    normals = vertex_normals(surface, rig.faces)
    height = ((points - surface[vertex]) * normals[vertex]).sum(-1)
    # A cell more on either side, since vertices are apart.
    close = (distance < MARGIN + 0.008) & (height > -DEEP - CELL) & (height < MARGIN + CELL)
    owner = close.long() * ANYWHERE
    flat = (points[:, 2] - surface[vertex, 2]).abs() < _FLAT
    open_ = ((height > 0) & (distance < around) & flat & ~close).nonzero()[:, 0]
    with_torso = rig.skin[vertex[open_], 2] > 0.5
    for goes, anchor in zip(_BESIDE, shell.anchors, strict=True):
        index = open_[with_torso == (goes == WITH_TORSO)]
        owner[index[_seen(shell, views, points[index], anchor)]] = goes
    kept = owner > 0
    height = torch.where(owner > ANYWHERE, FAR_OUT, height)
    first, last = at[kept].amin(0), at[kept].amax(0)
    x, y, z = (last - first + 1).tolist()
    return Cells(low + CELL * first, (x, y, z), at[kept] - first, owner[kept], height[kept])


def _near(
    low: Float[Tensor, "3"], shape: Int[Tensor, "3"], surface: Float[Tensor, "v 3"], around: float
) -> Int[Tensor, "n 3"]:
    """Cells of which the block of `_COARSE` cells a side is near enough to the surface."""
    blocks = torch.cartesian_prod(*(torch.arange(-(-int(n) // _COARSE)) for n in shape))
    distance, _ = _nearest(surface, low + CELL * _COARSE * (blocks + 0.5))
    radius = CELL * _COARSE * 0.87
    blocks = blocks[distance < max(around, MARGIN + 0.008) + radius]
    inner = torch.cartesian_prod(*[torch.arange(_COARSE)] * 3)
    cells = (blocks[:, None] * _COARSE + inner).view(-1, 3)
    return cells[(cells < shape).all(1)]


def _nearest(known: Float[Tensor, "v 3"], asked: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    from scipy.spatial import cKDTree

    distance, index = cKDTree(known.numpy()).query(asked.numpy())
    return torch.from_numpy(distance).float(), torch.from_numpy(index).long()


def _seen(shell: Shell, views: Sequence[View], points: Float[Tensor, "n 3"], anchor: Tensor) -> Bool[Tensor, "n"]:
    """Points, carried by an anchor's triangle, that enough views show inside the person's outline."""
    shown, framed = torch.zeros(len(points)), torch.zeros(len(points))
    for view in views:
        world = shell.posed(view.motion, torch.zeros(6)).carried(points, anchor)
        xy, (h, w) = view.camera.project(world), view.camera.size
        column, row = xy[:, 0].floor().long(), xy[:, 1].floor().long()
        inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        covered = view.alpha[row.clamp(0, h - 1), column.clamp(0, w - 1)] > 0.1
        shown, framed = shown + (covered & inside), framed + inside
    return shown > _SHOWN * framed.clamp_min(1)
