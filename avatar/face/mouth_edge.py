"""Where the seen edges of the mouth lie on the rig's surface.

A detector's inner lips are the line at which the lips end in the picture. That line lies inside the lips, where a
calibration by what most pictures show of each vertex never looks: its points came out 1.5 mm outside on both lips, so
that a mesh that followed them was closed where the mouth was a little open. Here the edges are read off drawn meshes.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from avatar.face.arkit import INDEX
from avatar.face.calibration import LOWER_INNER, UPPER_INNER
from avatar.face.correspondence import mirror_point, outer_corners
from avatar.face.natural import natural
from avatar.face.rig import AnnyRig, LandmarkTable, Piece
from avatar.ops.mesh import rasterize_mesh

_FACES, _OPEN = 6, 0.5
"""Faces of each random head, of which every second one opens the jaw by up to so much."""
_TURNS_DEG = (8.0, 15.0)
"""Deviations of nodding and turning."""
_SIZE, _WIDE, _AWAY = 256, 0.72, 8.0
"""Pixels of the drawing across so many eye distances, and its distance from the camera."""
_NEAR, _DIVIDED = 0.010, 4
"""Points this near (metres) to where lips become mouth are tried, on a grid in each triangle."""
_ROBUST = 0.01
_JAW_SHARE = 0.36
"""Vertices that go with more of the jaw than this belong to the lower lip: corners go a little less than halfway."""
_PAIRS = len(UPPER_INNER)


@dataclass(frozen=True, kw_only=True)
class _Spots:
    """Points of the right half of the lips that may be a landmark, and their mirror images."""

    triangles: Int[Tensor, "2 c"]
    barycentric: Float[Tensor, "2 c 3"]
    is_lower: Bool[np.ndarray, "c"]
    is_middle: Bool[np.ndarray, "c"]

    def on(self, vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "2 c 3"]:
        """Their places on a posed surface."""
        return (vertices[faces[self.triangles]] * self.barycentric[..., None]).sum(-2)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One drawing, in distances of the outer eye corners."""

    spots: Float[np.ndarray, "2 c 2"]
    edges: Float[np.ndarray, "2 9 2"]
    """Of the upper and the lower lip, across the mouth; not finite where no lip is seen."""


def on_mouth_edges(rig: AnnyRig, table: LandmarkTable, *, heads: int = 24, seed: int = 5) -> LandmarkTable:
    """The table with the inner lips where the edges of both lips are seen, over random heads and natural faces."""
    spots, rng = _spots(rig), np.random.default_rng(seed)
    seen: list[_Seen] = []
    for identity in rig.sample(heads, seed=seed):
        person = rig.personal(identity)
        for index in range(_FACES):
            expression = rng.multivariate_normal(natural().mean, natural().covariance).clip(0, 1)
            if index % 2:
                expression[INDEX["jawOpen"]] = rng.uniform(0, _OPEN)
            posed = person.vertices(torch.from_numpy(expression).float(), torch.zeros(3), torch.zeros(2, 2))
            turn = Rotation.from_euler("xy", rng.normal(size=2) * _TURNS_DEG, degrees=True).as_matrix()
            unit = float(person.neutral[outer_corners(rig)].diff(dim=0).norm())
            seen.append(_look(rig, table, posed @ torch.from_numpy(turn).float().T / unit, spots))
    points, edges = np.stack([s.spots for s in seen], 1), np.stack([s.edges for s in seen], 1)
    triangles, barycentric = table.triangles.clone(), table.barycentric.clone()
    for row, landmarks in enumerate((UPPER_INNER, LOWER_INNER)):
        right_lip = spots.is_lower == bool(row)
        for k in range(_PAIRS // 2 + 1):
            other = _PAIRS - 1 - k
            cost = _cost(points[0], edges[row, :, k]) + _cost(points[1], edges[row, :, other])
            allowed = right_lip & (spots.is_middle == (k == other))
            best = int(np.where(allowed, cost, np.inf).argmin())
            for side, landmark in ((1, landmarks[other]), (0, landmarks[k])):
                triangles[landmark], barycentric[landmark] = spots.triangles[side, best], spots.barycentric[side, best]
    return replace(table, triangles=triangles, barycentric=barycentric)


def _cost(spots: Float[np.ndarray, "n c 2"], edge: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "c"]:
    """Mean Huber loss of the distances from the edge."""
    known = np.isfinite(edge).all(1)
    far = np.linalg.norm(spots[known] - edge[known, None], axis=-1)
    return np.where(far < _ROBUST, 0.5 * far**2, _ROBUST * (far - 0.5 * _ROBUST)).mean(0)


def _soft(rig: AnnyRig) -> tuple[Bool[Tensor, "f"], Bool[Tensor, "f"], Float[Tensor, "v"]]:
    """The triangles of the skin and of the cavity, and how much each vertex goes down with the jaw, 1 the most."""
    seam = _seam(rig)
    drop = rig.personal(torch.zeros(rig.identity_size)).actions[INDEX["jawOpen"]][:, 1]
    low, high = drop[seam].aminmax()
    return rig.pieces == int(Piece.SKIN), rig.pieces == int(Piece.MOUTH_CAVITY), drop / (low + high).clamp_min(1e-6)


def _seam(rig: AnnyRig) -> Int[Tensor, "s"]:
    skin, cavity = (rig.faces[rig.pieces == int(piece)].unique() for piece in (Piece.SKIN, Piece.MOUTH_CAVITY))
    return skin[torch.isin(skin, cavity)]


def _spots(rig: AnnyRig) -> _Spots:
    skin, cavity, drop = _soft(rig)
    near = torch.cdist(rig.mean, rig.mean[_seam(rig)]).amin(1) < _NEAR
    some = ((skin | cavity) & near[rig.faces].all(1)).nonzero()[:, 0]
    steps = range(_DIVIDED + 1)
    grid = torch.tensor([(a, b, _DIVIDED - a - b) for a in steps for b in steps if a + b <= _DIVIDED]) / _DIVIDED
    triangles = some.repeat_interleave(len(grid))
    barycentric = grid.repeat(len(some), 1)
    x = (rig.mean[rig.faces[triangles], 0] * barycentric).sum(1)
    keep = x < 2e-4
    triangles, barycentric, x = triangles[keep], barycentric[keep], x[keep]
    lookup = {tuple(sorted(face)): index for index, face in enumerate(rig.faces.tolist())}
    pairs = zip(triangles.tolist(), barycentric, strict=True)
    mirrored = [mirror_point(rig, lookup, triangle, weights) for triangle, weights in pairs]
    return _Spots(
        triangles=torch.stack([triangles, torch.tensor([t for t, _ in mirrored])]),
        barycentric=torch.stack([barycentric, torch.stack([b for _, b in mirrored])]),
        is_lower=((drop[rig.faces[triangles]] * barycentric).sum(1) > _JAW_SHARE).numpy(),
        is_middle=(x.abs() < 2e-4).numpy(),
    )


def _look(rig: AnnyRig, table: LandmarkTable, vertices: Float[Tensor, "v 3"], spots: _Spots) -> _Seen:
    """Draw the mouth and find the edges of both lips above and below the landmarks that there were.

    Args:
        vertices: in distances of the outer eye corners.
    """
    points = table.points(vertices, rig.faces)
    middle = points[[61, 291]].mean(0)
    focal, center = _SIZE / _WIDE * _AWAY, _SIZE / 2

    def project(where: Tensor) -> np.ndarray:
        away = where - middle + torch.tensor([0.0, 0.0, _AWAY])
        return (away[..., :2] / away[..., 2:] * focal + center).numpy()

    near = (vertices - middle).norm(dim=1) < _WIDE
    shown = near[rig.faces].all(1).nonzero()[:, 0]
    placed = vertices - middle + torch.tensor([0.0, 0.0, _AWAY])
    drawn, _, _ = rasterize_mesh(placed, rig.faces[shown], (focal, focal), (center, center), (_SIZE, _SIZE))
    skin, _, drop = _soft(rig)
    is_lower = drop[rig.faces].mean(1) > _JAW_SHARE
    shows = (drawn >= 0) & skin[shown][drawn.clamp_min(0)]
    lower = (shows & is_lower[shown][drawn.clamp_min(0)]).numpy()
    upper = shows.numpy() & ~lower
    edges = np.full((2, _PAIRS, 2), np.nan)
    edges[..., 0] = project(points[torch.from_numpy(np.stack([UPPER_INNER, LOWER_INNER]))])[..., 0].mean(0)
    for k, column in enumerate(np.clip(np.round(edges[0, :, 0]).astype(int), 0, _SIZE - 1)):
        above, below = np.flatnonzero(upper[:, column]), np.flatnonzero(lower[:, column])
        if len(above) and len(below):
            edges[:, k, 1] = above.max() + 1, below.min()
    scale = _WIDE / _SIZE
    return _Seen(spots=project(spots.on(vertices, rig.faces)) * scale, edges=edges * scale)
