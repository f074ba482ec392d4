"""Where lids meet lids and lips meet lips on the Anny bust; closes the lips of every sampled head."""

import torch
from torch import Tensor

_COLUMN = 0.0015
_MOUTH = 0.0225
"""Half width of the part of the mouth (metres, middle adult) that is closed; the corners are one surface anyway."""
_OVERLAP = 0.0003
_REACH = 0.006


def _seam(faces: Tensor, piece: list[str], inner: str) -> Tensor:
    """Vertices shared by the head's surface and a cavity."""
    kinds = {name: torch.tensor([p == name for p in piece]) for name in ("head", inner)}
    inside, outside = faces[kinds[inner]].unique(), faces[kinds["head"]].unique()
    return inside[torch.isin(inside, outside)]


def lid_pairs(middle: Tensor, faces: Tensor, piece: list[str], blink: Tensor) -> tuple[Tensor, Tensor]:
    """Points of the upper lid's lowest edge and the two lower ones that they come down between, right and left eye.

    Args:
        blink: [v 3] displacement of both blinks together.

    Returns:
        Upper [2 m] and lower [2 m 2] vertices; the points near the corners of the eye are left out.
    """
    uppers, lowers = [], []
    for side in "RL":
        seam = _seam(faces, piece, f"eye_cavity.{side}")
        seam = seam[middle[seam, 0].argsort()]
        height = middle[seam, 1]
        falls = blink[seam, 1] > 0.25 * blink[seam, 1].max()
        upper, lower = seam[falls], seam[~falls & (height > middle[seam[falls], 1].mean())]
        upper = _lowest_edge(upper, middle, blink)
        right = torch.searchsorted(middle[lower, 0].contiguous(), middle[upper, 0].contiguous())
        right = right.clamp(1, len(lower) - 1)
        uppers.append(upper)
        lowers.append(torch.stack([lower[right - 1], lower[right]], 1))
    return torch.stack(uppers), torch.stack(lowers)


def _lowest_edge(seam: Tensor, middle: Tensor, blink: Tensor) -> Tensor:
    """The vertex of each column of the upper lid that reaches the lower lid first: lids have thickness."""
    out = []
    for vertex in seam:
        column = (middle[:, 0] - middle[vertex, 0]).abs() < 0.0022
        near = column & ((middle - middle[vertex]).norm(dim=1) < 0.007) & (blink[:, 1] > 0.7 * blink[vertex, 1])
        reach = torch.where(near, middle[:, 1] + 0.75 * blink[:, 1], -torch.inf)
        out.append(reach.argmax())
    return torch.stack(out)


class LipCloser:
    """Moves both lips so that they touch; measured in columns across the mouth, on points of the lips' surface."""

    def __init__(self, middle: Tensor, faces: Tensor, piece: list[str], jaw: Tensor):
        """Args: `jaw` [v 3] displacement of jawOpen, which tells the lower lip from the upper."""
        seam = _seam(faces, piece, "mouth_cavity")
        soft = torch.tensor([p in ("head", "mouth_cavity") for p in piece])
        moved = faces[soft].unique()
        distance = torch.full((len(middle),), torch.inf)
        distance[moved] = torch.cdist(middle[moved], middle[seam]).amin(1)
        # the corners of the mouth go halfway with the jaw
        corner = 0.5 * (jaw[seam, 1].amin() + jaw[seam, 1].amax()) * 0.72
        side = torch.tanh((jaw[:, 1] - corner) / 0.002)
        near = faces[soft][(distance[faces[soft]] < _REACH).all(1)]
        grid = torch.tensor([(a, b, 5 - a - b) for a in range(6) for b in range(6 - a)], dtype=middle.dtype) / 5
        self.corners = near[:, None].expand(-1, len(grid), -1).reshape(-1, 3)
        self.blend = grid[None].expand(len(near), -1, -1).reshape(-1, 3)
        points = (middle[self.corners] * self.blend[..., None]).sum(1)
        lower = (side[self.corners] * self.blend).sum(1)
        self.columns = torch.arange(-_MOUTH, _MOUTH + 1e-6, _COLUMN)
        here = (points[:, None, 0] - self.columns).abs() < 0.5 * _COLUMN
        self.upper = [(here[:, k] & (lower < -0.5)).nonzero()[:, 0] for k in range(len(self.columns))]
        self.lower = [(here[:, k] & (lower > 0.5)).nonzero()[:, 0] for k in range(len(self.columns))]
        across = torch.exp(-0.5 * ((middle[:, None, 0] - self.columns) / 0.002).square())
        across = across / across.sum(1, keepdim=True).clamp_min(1e-3)
        falloff = torch.exp(-(distance / _REACH).square())
        self.field = -0.5 * side[:, None] * falloff[:, None] * across
        """Downward motion [v c] for a gap of 1 in column c."""

    def gaps(self, vertices: Tensor) -> Tensor:
        """[n c] vertical opening (metres) of each column; negative where the lips overlap."""
        height = (vertices[..., 1][:, self.corners] * self.blend).sum(-1)
        return torch.stack(
            [height[:, low].amin(1) - height[:, up].amax(1) for up, low in zip(self.upper, self.lower, strict=True)], 1
        )

    def __call__(self, vertices: Tensor) -> Tensor:
        """The same heads [n v 3] with closed lips."""
        out = vertices.clone()
        for _ in range(2):
            excess = (self.gaps(out) + _OVERLAP).clamp_min(0)
            out[..., 1] += excess @ self.field.T
        return out
