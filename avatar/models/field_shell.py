"""The thin space about the posed rig in which a field is looked for, and the way from there into the neutral pose.

A pixel's ray meets the rig (grown by its coat of hair and cloth) at a triangle. That triangle's motion, from the
neutral pose to now, takes the ray back: a straight ray again, of the head's canonical space, exact wherever the head is
rigid. So a field in the canonical space opens its lips, shuts its lids and nods as the rig does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from avatar.core import Camera, MotionFrame
from avatar.face.rig import PersonalRig
from avatar.models.gaussian_view import vertex_normals
from avatar.ops.gaussians import triangle_frames
from avatar.ops.mesh import rasterize_mesh

CELL = 0.005
"""Metres, of the occupancy's cells. They need not be finer than what a ray's samples are apart."""
MARGIN = 0.012
"""Metres of the shell outside of the coat. At 4 mm, 4 to 17 % of the pixels of filmed people lay outside."""
DEEP = 0.010
"""Metres behind the surface that a ray is followed."""
_THICK = 0.045
"""A ray that is longer than this within the shell passes an edge, with another surface behind: it is cut in two."""
_LONGEST = 0.12
_BESIDE, _BESIDE_STEPS = 0.25, 100
"""Metres before and behind the head that are searched along rays that miss the shell, and in how many steps."""
FAR_OUT = 1.0
"""Metres above the surface that stand for everything beside the shell."""
_NEAR = 0.02
_WIDE = 50
"""Pixels: where cells are wider than this, close to the camera, it is not asked which rays may meet one."""
ANYWHERE, WITH_HEAD, WITH_TORSO = 1, 2, 3
"""Owners of the cells that a ray may find something in: all of them, or those beside the shell."""


@dataclass(frozen=True)
class Rays:
    """Straight pieces of camera rays in the canonical space: origin + t * direction with t in [0, 1]."""

    origin: Float[Tensor, "m 3"]
    direction: Float[Tensor, "m 3"]
    pixel: Int[Tensor, "m"]
    """Index of the pixel among those that were asked."""
    depth: Float[Tensor, "m 2"]
    """Along the camera's z axis, at t = 0 and at t = 1."""
    height: Float[Tensor, "m 2"]
    """Metres above the surface, at t = 0 and at t = 1."""
    length: Float[Tensor, "m"]
    """Metres from t = 0 to t = 1."""
    place: int = ANYWHERE
    """The owner of the cells in which something may be found."""
    steps: int = 0
    """How many samples fit between t = 0 and t = 1."""

    def __len__(self) -> int:
        return len(self.pixel)


@dataclass(frozen=True)
class _Hit:
    """What a surface shows in the pixels: -1 and infinity where nothing."""

    triangle: Int[Tensor, "p"]
    bary: Float[Tensor, "p 3"]
    depth: Float[Tensor, "p"]


@dataclass(frozen=True)
class Hits:
    """Where the pixels' rays meet the shell."""

    inner: _Hit
    front: _Hit
    back: _Hit


@dataclass(frozen=True, kw_only=True)
class ShellConfig:
    """How rays go through the shell."""

    steps: int = 6
    """Samples of a ray through the surface, in 22 mm."""
    edge_steps: int = 5
    """Samples before, and behind, an edge."""
    finer: int = 2
    """Times as many samples where nothing is learned: training takes them at other places each time, a picture only
    once, and with as few the pattern of the steps shows (0.2 dB)."""
    follows_face: bool = True
    """Whether the shell goes along with the rig's actions and eyes, or with its bones only."""
    torso: bool = True
    """Whether anything below the neck is drawn."""


class Shell(nn.Module):
    """The rig with its coat, and the layer about it."""

    coat: Tensor
    faces: Tensor
    anchors: Tensor
    frames: Tensor

    def __init__(self, rig: PersonalRig, coat: Float[Tensor, "v"], config: ShellConfig):
        """Args: `coat` in metres, how far hair and clothes stand off the rig along its normals."""
        super().__init__()
        self.rig, self.config = rig, config
        self.register_buffer("coat", coat)
        above = rig.skin[rig.faces, 2].amax(1) < 0.5
        self.register_buffer("faces", rig.faces if config.torso else rig.faces[above], persistent=False)
        normals = vertex_normals(rig.neutral, rig.faces)
        self.inner = replace(rig, neutral=rig.neutral + coat[:, None] * normals)
        self.outer = replace(rig, neutral=rig.neutral + (coat + MARGIN)[:, None] * normals)
        self.register_buffer("anchors", _anchors(rig, self.faces), persistent=False)
        # Axes of the triangles in the neutral pose; the last one is the normal.
        self.register_buffer("frames", triangle_frames(self.inner.neutral, self.faces)[1], persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Shell":
        super()._apply(fn, recurse)
        self.rig, self.inner, self.outer = (rig.each(fn) for rig in (self.rig, self.inner, self.outer))
        return self

    def posed(
        self, motion: MotionFrame, rigid: Float[Tensor, "6"], moved: Float[Tensor, "v 3"] | None = None
    ) -> "PosedShell":
        """The shell at a moment; `rigid` as in `PersonalRig.posed`, `moved` a displacement in the head's axes."""
        if not self.config.follows_face:
            still = torch.zeros_like(motion.expression)
            motion = replace(motion, expression=still, gaze=torch.zeros_like(motion.gaze))
        inner, outer = self.inner.posed(motion, rigid), self.outer.posed(motion, rigid)
        if moved is not None:
            world = moved @ motion.T_world_head[:3, :3].T
            inner, outer = inner + world, outer + world
        return PosedShell(self, inner, outer)


class PosedShell:
    """A shell at a moment, in the world."""

    def __init__(self, shell: Shell, inner: Float[Tensor, "v 3"], outer: Float[Tensor, "v 3"]):
        """Args: vertices of both surfaces."""
        self.shell, self.inner, self.outer = shell, inner, outer
        frames = triangle_frames(inner.detach(), shell.faces)[1]
        self.turn = shell.frames @ frames.transpose(1, 2)
        """Rotation of each triangle from now into the neutral pose; where it lies is what has a gradient."""

    def rays(
        self,
        camera: Camera,
        pixels: Int[Tensor, "r 2"] | None,
        beside: Sequence[Float[Tensor, "n 3"]],
        hits: Hits | None = None,
    ) -> list[Rays]:
        """Pieces of the pixels' rays, front to back: through the surface, before an edge, behind it, and beside
        the shell with the head and with the torso.

        Args:
            pixels: (row, column), or None for all of the picture.
            beside: middles of the cells beside the shell that go with the head, and with the torso.
            hits: of the same pixels, where they are known already.
        """
        hits = hits or self.hits(camera, pixels)
        inner, front, back = hits.inner, hits.front, hits.back
        view = _View(camera, pixels, self.inner.detach())
        start = torch.minimum(front.depth, inner.depth - MARGIN)
        struck, met = inner.triangle >= 0, (inner.triangle >= 0) | (front.triangle >= 0)
        end = torch.where(struck, inner.depth + DEEP, torch.minimum(back.depth, start + _LONGEST))
        thick = met & (~struck | (end - start > _THICK))
        plain = (met & ~thick).nonzero()[:, 0]
        edge = (thick & (end > start)).nonzero()[:, 0]
        far = edge[struck[edge]]
        middle = torch.where(struck, (start + end) / 2, end)
        config = self.shell.config
        times = 1 if self.shell.training else config.finer
        through, half = times * config.steps, times * config.edge_steps
        pieces = [
            replace(self._rays(view, plain, inner, (start, end)), steps=through),
            replace(self._rays(view, edge, _either(front, inner), (start, middle), grown=MARGIN), steps=half),
            replace(self._rays(view, far, inner, (middle, end)), steps=half),
        ]
        for anchor, cells, place in zip(self.shell.anchors, beside, (WITH_HEAD, WITH_TORSO), strict=True):
            shown = self._shown(camera, pixels, self.carried(cells, anchor))
            pieces.append(replace(self._beside(view, (~met & shown).nonzero()[:, 0], anchor), place=place))
        return pieces

    def carried(self, points: Float[Tensor, "n 3"], anchor: Tensor) -> Float[Tensor, "n 3"]:
        """Canonical points in the world, carried by an anchor's triangle."""
        corner = self.shell.faces[anchor]
        there, here = self.shell.inner.neutral[corner].mean(0), self.inner.detach()[corner].mean(0)
        return (points - there) @ self.turn[anchor] + here

    def _shown(
        self, camera: Camera, pixels: Int[Tensor, "r 2"] | None, points: Float[Tensor, "n 3"]
    ) -> Bool[Tensor, "p"]:
        """Pixels near to which a cell is drawn: no other ray can meet one."""
        (h, w), T = camera.size, camera.T_camera_world.to(points, non_blocking=True)
        local = points @ T[:3, :3].T + T[:3, 3]
        local = local[local[:, 2] > _NEAR]
        count = h * w if pixels is None else len(pixels)
        if not len(local):
            return torch.zeros(count, dtype=torch.bool, device=points.device)
        reach = int(CELL * max(camera.focal) / float(local[:, 2].min())) + 2
        if reach > _WIDE:
            return torch.ones(count, dtype=torch.bool, device=points.device)
        column = (local[:, 0] / local[:, 2] * camera.focal[0] + camera.center[0]).floor().long() + reach
        row = (local[:, 1] / local[:, 2] * camera.focal[1] + camera.center[1]).floor().long() + reach
        inside = (column >= 0) & (column < w + 2 * reach) & (row >= 0) & (row < h + 2 * reach)
        mask = points.new_zeros(h + 2 * reach, w + 2 * reach)
        mask[row[inside], column[inside]] = 1.0
        # Two passes of a row and a column: the square that a window of (2 reach + 1) pixels would find.
        wide = max_pool2d(mask[None, None], (1, 2 * reach + 1), stride=1)
        found = max_pool2d(wide, (2 * reach + 1, 1), stride=1)[0, 0] > 0
        return found.flatten() if pixels is None else found[pixels[:, 0], pixels[:, 1]]

    def sunk(self, depth: Float[Tensor, "v"]) -> Float[Tensor, "v 3"]:
        """Vertices as many metres below the surface, in the world."""
        return self.inner - (depth / MARGIN)[:, None] * (self.outer - self.inner)

    def flow(self, camera: Camera, hits: Hits) -> Float[Tensor, "p 2"]:
        """Zeros, of which the gradient is that of the columns and rows where the pixels' points of the surface lie."""
        hit = _either(hits.inner, hits.front)
        met = (hit.triangle >= 0).nonzero()[:, 0]
        corner = self.shell.faces[hit.triangle[met]]
        inside = (hits.inner.triangle[met] >= 0)[:, None, None]
        place = (torch.where(inside, self.inner[corner], self.outer[corner]) * hit.bary[met][..., None]).sum(1)
        T = camera.T_camera_world.to(place.detach(), non_blocking=True)
        local = place @ T[:3, :3].T + T[:3, 3]
        at = local[:, :2] / local[:, 2:] * local.new_tensor(camera.focal)  # the centre would not change it
        return at.new_zeros(len(hit.triangle), 2).index_put((met,), at - at.detach())

    def hits(self, camera: Camera, pixels: Int[Tensor, "r 2"] | None) -> Hits:
        """What the pixels show of the shell's inner and outer surface."""
        T, shell = camera.T_camera_world.to(self.inner.detach(), non_blocking=True), self.shell

        def drawn(vertices: Tensor, faces: Tensor) -> _Hit:
            local = vertices.detach() @ T[:3, :3].T + T[:3, 3]
            found = rasterize_mesh(local, faces, camera.focal, camera.center, camera.size)
            if pixels is None:
                triangle, bary, depth = found[0].flatten(), found[1].flatten(0, 1), found[2].flatten()
            else:
                triangle, bary, depth = (f[pixels[:, 0], pixels[:, 1]] for f in found)
            return _Hit(triangle, bary, depth.where(triangle >= 0, torch.inf))

        local = self.outer.detach() @ T[:3, :3].T + T[:3, 3]
        a, b, c = local[shell.faces].unbind(1)
        away = ((torch.linalg.cross(b - a, c - a) * a).sum(-1) > 0).nonzero()[:, 0]
        back = drawn(self.outer, shell.faces[away])
        return Hits(drawn(self.inner, shell.faces), drawn(self.outer, shell.faces), back)

    def _rays(
        self, view: "_View", at: Int[Tensor, "m"], hit: _Hit, span: tuple[Tensor, Tensor], grown: float = 0.0
    ) -> Rays:
        """Rays of some pixels between two depths, carried by the triangles that they hit; `grown` is how high above
        the surface these lie."""
        shell, triangle, bary = self.shell, hit.triangle[at], hit.bary[at]
        posed, rig = (self.outer, shell.outer) if grown else (self.inner, shell.inner)
        corner = shell.faces[triangle]
        here = (posed[corner] * bary[..., None]).sum(1)
        there = (rig.neutral[corner] * bary[..., None]).sum(1)
        return self._taken_back(view, at, (triangle, here, there), (span[0][at], span[1][at]), grown)

    def _beside(self, view: "_View", at: Int[Tensor, "m"], anchor: Tensor) -> Rays:
        corner = self.shell.faces[anchor]
        here, there = self.inner[corner].mean(0), self.shell.inner.neutral[corner].mean(0)
        depth = float(view.depth(here.detach()))
        near, far = max(depth - _BESIDE, _NEAR), max(depth + _BESIDE, 2 * _NEAR)
        span = (here.new_full((len(at),), near), here.new_full((len(at),), far))
        triangle = anchor.expand(len(at))
        rays = self._taken_back(view, at, (triangle, here.expand(len(at), 3), there.expand(len(at), 3)), span, 0.0)
        return replace(rays, height=here.new_full((len(at), 2), FAR_OUT), steps=_BESIDE_STEPS)

    def _taken_back(
        self, view: "_View", at: Int[Tensor, "m"], seat: tuple[Tensor, Tensor, Tensor], span: tuple[Tensor, Tensor],
        grown: float,
    ) -> Rays:  # fmt: skip
        (triangle, here, there), (start, end), way = seat, span, view.way[at]
        turn = self.turn[triangle]
        first = view.origin + start[:, None] * way
        reach = (end - start)[:, None] * way
        origin = there + (turn @ (first - here)[..., None])[..., 0]
        direction = (turn @ reach[..., None])[..., 0]
        normal = self.shell.frames[triangle][..., 2]
        low = ((origin - there).detach() * normal).sum(-1) + grown
        height = torch.stack([low, low + (direction * normal).sum(-1)], 1)
        depth = torch.stack([start, end], 1)
        return Rays(origin, direction, at, depth, height, reach.norm(dim=-1))


class _View:
    """The pixels' rays: world = origin + depth * way."""

    def __init__(self, camera: Camera, pixels: Int[Tensor, "r 2"] | None, like: Tensor):
        """Args: `like` is of the type and on the device that is wanted."""
        T = camera.T_world_camera.to(like, non_blocking=True)
        sides = [torch.arange(n, device=like.device) for n in camera.size]
        if pixels is None:
            pixels = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).view(-1, 2)
        x = (pixels[:, 1] + 0.5 - camera.center[0]) / camera.focal[0]
        y = (pixels[:, 0] + 0.5 - camera.center[1]) / camera.focal[1]
        self.way = torch.stack([x, y, torch.ones_like(x)], 1) @ T[:3, :3].T
        self.origin, self._axis = T[:3, 3], T[:3, 2]

    def depth(self, point: Float[Tensor, "3"]) -> Tensor:
        return (point - self.origin) @ self._axis


def _either(first: _Hit, second: _Hit) -> _Hit:
    """The first hit, or the second where the first missed."""
    missed = first.triangle < 0
    return _Hit(
        torch.where(missed, second.triangle, first.triangle),
        torch.where(missed[:, None], second.bary, first.bary),
        torch.where(missed, second.depth, first.depth),
    )


def _anchors(rig: PersonalRig, faces: Int[Tensor, "f 3"]) -> Int[Tensor, "2"]:
    """The triangles that move most as the head, and as the torso, does: full weight, no action, near their middle."""
    still = rig.actions.abs().sum((0, 2))
    found = []
    for joint in (0, 2):
        weight = rig.skin[:, joint] - rig.eye_weights.sum(1)
        middle = (rig.neutral * weight[:, None].clamp_min(0)).sum(0) / weight.clamp_min(0).sum().clamp_min(1e-6)
        far = (rig.neutral - middle).norm(dim=1)
        cost = 100 * still + far + 10 * (1 - weight)
        found.append(cost[faces].sum(1).argmin())
    return torch.stack(found)
