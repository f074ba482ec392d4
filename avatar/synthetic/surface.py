"""Triangle meshes as the synthetic speaker needs them: smooth subdivision, normals, components, attachment points."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar.ops.mesh import rasterize_mesh


@dataclass(frozen=True, kw_only=True)
class Subdivision:
    """One split of each triangle into four. Old vertices keep their index and place; edge midpoints follow."""

    edges: Int[Tensor, "e 2"]
    faces: Int[Tensor, "g 3"]
    """g = 4 f; fine face i belongs to coarse face i % f."""

    def linear(self, values: Float[Tensor, "v c"]) -> Float[Tensor, "w c"]:
        """Values at old vertices, and their means at midpoints."""
        return torch.cat([values, values[self.edges].mean(1)])

    def curved(self, vertices: Float[Tensor, "v 3"], normals: Float[Tensor, "v 3"]) -> Float[Tensor, "w 3"]:
        """Midpoints bulge as on a curved PN triangle (Vlachos et al. 2001); old vertices stay exactly."""
        (a, b), (na, nb) = vertices[self.edges].unbind(1), normals[self.edges].unbind(1)
        along = b - a
        bulge = (along * na).sum(1, keepdim=True) * na - (along * nb).sum(1, keepdim=True) * nb
        return torch.cat([vertices, (a + b) / 2 - bulge / 8])


def subdivide(faces: Int[Tensor, "f 3"], vertex_count: int) -> Subdivision:
    """Split every triangle at the middles of its sides."""
    sides = torch.stack([faces[:, [1, 2]], faces[:, [2, 0]], faces[:, [0, 1]]], 1).sort(-1).values
    edges, index = sides.flatten(0, 1).unique(dim=0, return_inverse=True)
    a, b, c = faces.unbind(1)
    bc, ca, ab = (index.view(-1, 3) + vertex_count).unbind(1)
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return Subdivision(edges=edges, faces=torch.cat([torch.stack(part, 1) for part in parts]))


def vertex_normals(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "v 3"]:
    """Unit normals, weighted by triangle area."""
    a, b, c = vertices[faces].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    out = torch.zeros_like(vertices)
    for k in range(3):
        out.index_add_(0, faces[:, k], normal)
    return torch.nn.functional.normalize(out, dim=1)


def neighbours(faces: Int[Tensor, "f 3"], vertex_count: int) -> Tensor:
    """Sparse [v v] matrix that averages each vertex with its neighbours (weight 1/2 on itself)."""
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = torch.cat([sides, sides.flip(1)]).unique(dim=0)
    degree = torch.bincount(pairs[:, 0], minlength=vertex_count).clamp_min(1)
    own = torch.arange(vertex_count)
    index = torch.cat([pairs.T, torch.stack([own, own])], 1)
    value = torch.cat([0.5 / degree[pairs[:, 0]], torch.full((vertex_count,), 0.5)])
    return torch.sparse_coo_tensor(index, value, (vertex_count, vertex_count), check_invariants=False).coalesce()


def smooth(values: Float[Tensor, "v c"], matrix: Tensor, rounds: int) -> Float[Tensor, "v c"]:
    """Diffuse values over the surface."""
    for _ in range(rounds):
        values = torch.sparse.mm(matrix, values)
    return values


def components(faces: Int[Tensor, "f 3"], vertex_count: int) -> Int[Tensor, "f"]:
    """A number for each face that is equal exactly for faces connected through shared vertices."""
    label = torch.arange(vertex_count)
    while True:
        low = label[faces].amin(1)
        new = label.clone()
        for k in range(3):
            new.scatter_reduce_(0, faces[:, k], low, "amin")
        new = new[new]
        if torch.equal(new, label):
            return label[faces[:, 0]]
        label = new


@dataclass(frozen=True, kw_only=True)
class FrontMap:
    """The surface seen along +z by a parallel projection; finds the point of the skin in front of any (x, y)."""

    triangle: Int[Tensor, "h w"]
    barycentric: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    """z in metres; large where nothing is."""
    corner: tuple[float, float]
    """x, y of the upper left corner."""
    step: float
    """Metres a pixel."""

    def pixels(self, points: Float[Tensor, "*b 2"]) -> tuple[Tensor, Tensor]:
        """Row and column of points (x, y), held inside of the map."""
        h, w = self.triangle.shape
        spot = ((points - points.new_tensor(self.corner)) / self.step).long()
        return spot[..., 1].clamp(0, h - 1), spot[..., 0].clamp(0, w - 1)

    def attach(self, points: Float[Tensor, "*b 2"]) -> tuple[Int[Tensor, "*b"], Float[Tensor, "*b 3"]]:
        """Triangle and barycentric coordinates of the surface in front of each (x, y); triangle -1 where none."""
        row, column = self.pixels(points)
        return self.triangle[row, column], self.barycentric[row, column]


def front_map(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], box: tuple[float, float, float, float], step: float
) -> FrontMap:
    """Project along +z; `box` is (left, top, right, bottom) in metres."""
    left, top, right, bottom = box
    size = (round((bottom - top) / step), round((right - left) / step))
    # A camera far away with a long lens is parallel to better than a hundredth of a pixel.
    far = 200.0
    shifted = vertices - vertices.new_tensor([left, top, -far])
    triangle, barycentric, depth = rasterize_mesh(shifted, faces, (far / step, far / step), (0.0, 0.0), size)
    depth = torch.where(triangle >= 0, depth - far, torch.full_like(depth, 10.0))
    return FrontMap(triangle=triangle, barycentric=barycentric, depth=depth, corner=(left, top), step=step)


def at(values: Float[Tensor, "v c"], faces: Int[Tensor, "f 3"], triangle: Tensor, barycentric: Tensor) -> Tensor:
    """Interpolate vertex values at surface points [*b] -> [*b c]."""
    return (values[faces[triangle]] * barycentric[..., None]).sum(-2)
