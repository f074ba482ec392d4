"""The nearest points of a triangle mesh. numpy, any unit of length; triangles counter-clockwise seen from outside."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

_CANDIDATES = 24
"""Triangles, by the distance of their centres, that are looked at exactly."""


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """For each point the nearest one on a surface."""

    triangle: Int[np.ndarray, "n"]
    barycentric: Float[np.ndarray, "n 3"]
    point: Float[np.ndarray, "n 3"]
    distance: Float[np.ndarray, "n"]


class Surface:
    """A mesh that answers where its nearest point is.

    Sheets that lie close to each other (lips, lids) are told apart by their normals: a triangle that looks elsewhere
    than the point counts as `turned` further away.
    """

    def __init__(
        self,
        vertices: Float[np.ndarray, "v 3"],
        faces: Int[np.ndarray, "f 3"],
        *,
        allowed: Bool[np.ndarray, "f"] | None = None,
        turned: float = 0.008,
    ) -> None:
        self._index = np.arange(len(faces)) if allowed is None else np.flatnonzero(allowed)
        self._corners = vertices[faces[self._index]]
        cross = np.cross(self._corners[:, 1] - self._corners[:, 0], self._corners[:, 2] - self._corners[:, 0])
        self._normals = cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-12)
        self._tree = cKDTree(self._corners.mean(1))
        self._turned = turned

    def nearest(self, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]) -> Nearest:
        """The nearest surface points of `points` whose outward normals are `normals`."""
        count = min(_CANDIDATES, len(self._index))
        _, near = self._tree.query(points, k=count)
        near = near.reshape(len(points), count)
        weights = _closest(self._corners[near], points[:, None])
        on = (self._corners[near] * weights[..., None]).sum(2)
        distance = np.linalg.norm(on - points[:, None], axis=-1)
        agree = (self._normals[near] * normals[:, None]).sum(-1)
        best = (distance + self._turned * np.maximum(0.5 - agree, 0)).argmin(1)
        row = np.arange(len(points))
        return Nearest(
            triangle=self._index[near[row, best]],
            barycentric=weights[row, best],
            point=on[row, best],
            distance=distance[row, best],
        )

    def normal(self, triangle: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n 3"]:
        """Outward normals of triangles that `nearest` gave."""
        return self._normals[np.searchsorted(self._index, triangle)]


def vertex_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 3"]:
    """Outward, unit length, weighted by area."""
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    out = np.zeros_like(vertices)
    np.add.at(out, faces.reshape(-1), cross.repeat(3, 0))
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-15)


def rim(faces: Int[np.ndarray, "f 3"], count: int) -> Bool[np.ndarray, "v"]:
    """Vertices of edges that belong to one triangle only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    unique, uses = np.unique(edges, axis=0, return_counts=True)
    out = np.zeros(count, bool)
    out[unique[uses == 1]] = True
    return out


def _closest(corners: Float[np.ndarray, "n k 3 3"], points: Float[np.ndarray, "n 1 3"]) -> Float[np.ndarray, "n k 3"]:
    """Barycentric coordinates of the closest points: inside, or on the nearest of the three edges."""
    a, ab, ac = corners[..., 0, :], corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    ap = points - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inside = np.stack([1 - v - w, v, w], -1)
    options, lengths = [], []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, along = corners[..., i, :], corners[..., j, :] - corners[..., i, :]
        share = ((points - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-30)
        share = share.clip(0, 1)
        weights = np.zeros(inside.shape)
        weights[..., i], weights[..., j] = 1 - share, share
        options.append(weights)
        lengths.append(np.linalg.norm(start + share[..., None] * along - points, axis=-1))
    which = np.stack(lengths).argmin(0)
    edge = np.take_along_axis(np.stack(options), which[None, ..., None], 0)[0]
    return np.where((inside >= 0).all(-1, keepdims=True), inside, edge)
