"""Where MediaPipe's 478 landmarks lie on the rig's surface, found without any data of people.

Random painted heads of known geometry are shown to the detector; each landmark becomes the surface point that
explains its detections best over all pictures. Left and right are solved together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from avatar.core import Region
from avatar.events import Metric, Progress, Sink, silent
from avatar.face.arkit import INDEX
from avatar.face.painted import HeadPainter, PaintedHead
from avatar.face.rig import AnnyRig, LandmarkTable, Piece

COUNT = 478
_IRISES = (range(468, 473), range(473, 478))
"""The person's right and left."""
_SIDES = ([33, 133, 61, 234, 70], [263, 362, 291, 454, 300])
"""A few points of the right side and theirs of the left, which tell the plane of symmetry."""
_CLIP = 0.06
"""Errors beyond this part of the inter-ocular distance all count the same."""
_WORST = 0.05
"""Landmarks with a larger held-out error (mean distance, both sides) are not usable."""
GROUPS: dict[str, tuple[int, ...]] = {
    "lips": (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    "inner_lips": (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
    "lids": (
        *(33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
        *(263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    ),
    "brows": (46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336),
    "nose": (1, 2, 4, 5, 6, 19, 94, 98, 97, 168, 195, 197, 326, 327),
    "oval": (
        *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152),
        *(148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    ),
    "irises": tuple(range(468, 478)),
}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the detector said about `n` pictures."""

    detected: Float[Tensor, "n l 3"]
    """In units of the inter-ocular distance of each picture; the third number is the detector's relative depth."""
    projected: Float[Tensor, "n v 2"]
    """All vertices of the rig, in the same units."""
    facing: Float[Tensor, "n v"]
    """How much a vertex looks at the camera, 0 to 1, by normals of the smoothed surface."""
    open_eyes: Bool[Tensor, "n"]

    def part(self, index: Tensor) -> "Evidence":
        """Some of the pictures."""
        return Evidence(
            detected=self.detected[index],
            projected=self.projected[index],
            facing=self.facing[index],
            open_eyes=self.open_eyes[index],
        )


def calibrate(rig: AnnyRig, *, pictures: int = 320, seed: int = 7, sink: Sink = silent) -> LandmarkTable:
    """Calibrate MediaPipe's refined face mesh on painted heads; a fifth of the pictures measures the error.

    Reports the held-out error (mean distance, % of the distance between the outer eye corners) by group.
    """
    evidence = gather(rig, pictures, seed, sink)
    count = len(evidence.detected)
    fit, test = evidence.part(torch.arange(count) % 5 != 0), evidence.part(torch.arange(count) % 5 == 0)
    triangles, barycentric = solve(rig, fit)
    error, weight = residuals(rig, test, triangles, barycentric)
    inlier, inlier_weight = residuals(rig, fit, triangles, barycentric)
    sigma = _weighted_median(inlier, inlier_weight) / 1.1774  # median of a Rayleigh distribution
    other = partners(evidence.detected)
    held_out = (error * weight).sum(0) / weight.sum(0).clamp_min(1e-6)
    held_out, sigma = (0.5 * (held_out + held_out[other])), (0.5 * (sigma + sigma[other]))
    for name, members in GROUPS.items():
        index = torch.tensor(members)
        mean = (error[:, index] * weight[:, index]).sum() / weight[:, index].sum()
        sink(Metric(stage="calibrate", name=f"held_out_{name}_percent", value=100 * float(mean), step=count))
    sink(Metric(stage="calibrate", name="pictures_detected", value=count, step=pictures))
    usable = held_out < _WORST
    sink(Metric(stage="calibrate", name="usable", value=int(usable.sum()), step=COUNT))
    return LandmarkTable(triangles=triangles, barycentric=barycentric, sigma=sigma.clamp_min(0.004), usable=usable)


def gather(rig: AnnyRig, pictures: int, seed: int, sink: Sink) -> Evidence:
    """Paint, detect, project."""
    from mediapipe.python.solutions import face_mesh

    painter = HeadPainter(rig)
    found: list[tuple[Tensor, ...]] = []
    options: dict[str, Any] = {"static_image_mode": True, "max_num_faces": 1, "refine_landmarks": True}
    with face_mesh.FaceMesh(**options) as mesh:
        for index in range(pictures):
            sink(Progress(stage="calibrate", done=index, total=pictures, unit="pictures"))
            painted = painter.paint(np.random.default_rng((seed, index)))
            result: Any = mesh.process(painted.image)
            if not result.multi_face_landmarks:
                continue
            points = torch.tensor([(p.x, p.y, p.z) for p in result.multi_face_landmarks[0].landmark])
            height, width = painted.image.shape[:2]
            found.append(_observe(painter, painted, points * torch.tensor([width, height, width])))
    sink(Progress(stage="calibrate", done=pictures, total=pictures, unit="pictures"))
    detected, projected, facing, open_eyes = (torch.stack(column) for column in zip(*found, strict=True))
    return Evidence(detected=detected, projected=projected, facing=facing, open_eyes=open_eyes)


def _observe(painter: HeadPainter, painted: PaintedHead, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    smooth = painter.smoothed(painted.vertices, 12)
    view = -torch.nn.functional.normalize(smooth, dim=1)
    facing = ((painter.normals(smooth) * view).sum(1) * 1.5 - 0.1).clamp(0, 1)
    corners = painted.vertices[outer_corners(painter.rig)]
    unit = painted.camera.focal[0] * float(corners.diff(dim=0).norm() / corners[:, 2].mean())
    blink = painted.motion.expression[[INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]].max()
    return points / unit, painted.camera.project(painted.vertices) / unit, facing, blink < 0.3


def outer_corners(rig: AnnyRig) -> Int[Tensor, "2"]:
    """The vertices at the outer corners of the right and left eye's sockets."""
    out = []
    for socket, sign in ((Piece.RIGHT_SOCKET, 1.0), (Piece.LEFT_SOCKET, -1.0)):
        seam = rig.faces[rig.pieces == int(socket)].unique()
        seam = seam[torch.isin(seam, rig.faces[rig.pieces == int(Piece.SKIN)])]
        out.append(seam[(sign * rig.mean[seam, 0]).argmin()])
    return torch.stack(out)


def solve(rig: AnnyRig, evidence: Evidence) -> tuple[Int[Tensor, "l"], Float[Tensor, "l 3"]]:
    """Triangle and barycentric coordinates of every landmark, mirror images of each other on the resting face."""
    allowed = _allowed(rig)
    cost = _vertex_costs(evidence, allowed)
    partner = partners(evidence.detected)
    triangles, barycentric = torch.zeros(COUNT, dtype=torch.long), torch.zeros(COUNT, 3)
    lookup = {tuple(sorted(face)): index for index, face in enumerate(rig.faces.tolist())}
    for landmark in range(COUNT):
        other = int(partner[landmark])
        if other < landmark:
            continue
        here = allowed[_kind(landmark)]
        joint = torch.full((len(rig.mean),), torch.inf)
        joint[here] = cost[landmark, here] + cost[other, rig.mirror[here]]
        triangle, weights = _refine(rig, evidence, (landmark, other), joint)
        if other == landmark:
            triangle, weights = _onto_middle(rig, triangle, weights)
        triangles[landmark], barycentric[landmark] = triangle, weights
        if other != landmark:
            triangles[other], barycentric[other] = mirror_point(rig, lookup, triangle, weights)
    return triangles, barycentric


def residuals(
    rig: AnnyRig, evidence: Evidence, triangles: Tensor, barycentric: Tensor
) -> tuple[Float[Tensor, "n l"], Float[Tensor, "n l"]]:
    """Distance of each detection from its surface point (inter-ocular distances) and its weight."""
    corners = rig.faces[triangles]
    points = (evidence.projected[:, corners] * barycentric[..., None]).sum(2)
    weight = (evidence.facing[:, corners] * barycentric).sum(2)
    weight[:, 468:] = evidence.open_eyes[:, None].float()
    return (points - evidence.detected[..., :2]).norm(dim=2), weight


def _kind(landmark: int) -> int:
    return 0 if landmark < 468 else 1 if landmark in _IRISES[0] else 2


def _allowed(rig: AnnyRig) -> list[Int[Tensor, "a"]]:
    """Vertices that may carry a landmark: the face's skin; right eyeball; left eyeball."""
    skin = rig.pieces == int(Piece.SKIN)
    for region in (Region.EARS, Region.TORSO, Region.NECK):
        skin &= rig.regions != int(region)
    face = rig.faces[skin].unique()
    front = rig.mean[face, 2] < 0.03
    return [face[front], *(rig.eye_weights[:, side].nonzero()[:, 0] for side in (0, 1))]


def _vertex_costs(evidence: Evidence, allowed: list[Tensor]) -> Float[Tensor, "l v"]:
    """Mean clipped squared distance of each landmark from each allowed vertex."""
    cost = torch.full((COUNT, evidence.projected.shape[1]), torch.inf)
    for landmark in range(COUNT):
        here = allowed[_kind(landmark)]
        squared = (evidence.projected[:, here] - evidence.detected[:, landmark, None, :2]).square().sum(2)
        weight = evidence.facing[:, here] if landmark < 468 else evidence.open_eyes[:, None].float()
        total = weight.sum(0)
        mean = (squared.clamp_max(_CLIP**2) * weight).sum(0) / total.clamp_min(1e-6)
        # a vertex that is hardly ever seen can't be judged
        cost[landmark, here] = torch.where(total > 0.15 * len(squared), mean, torch.inf)
    return cost.nan_to_num(posinf=1e3)


def partners(detected: Float[Tensor, "n l 3"]) -> Int[Tensor, "l"]:
    """The landmark on the other side of each landmark: the mean of all detections is a symmetric mesh."""
    shape = detected - detected[:, :468].mean(1, keepdim=True)
    mean = shape[shape[..., 2].var(1).argmin()]
    for _ in range(4):
        u, _, vh = torch.linalg.svd(shape.transpose(1, 2) @ mean)
        u[..., -1] *= torch.linalg.det(u @ vh)[:, None]
        mean = (shape @ (u @ vh)).mean(0)
    flat = mean - mean.mean(0)
    plane = torch.nn.functional.normalize((flat[_SIDES[1]] - flat[_SIDES[0]]).mean(0), dim=0)
    mirrored = flat - 2 * (flat @ plane)[:, None] * plane
    distance = torch.cdist(mirrored, flat).numpy()
    distance[:468, 468:] = distance[468:, :468] = 1.0
    return torch.from_numpy(linear_sum_assignment((distance + distance.T) ** 2)[1])


def _refine(rig: AnnyRig, evidence: Evidence, pair: tuple[int, int], cost: Tensor) -> tuple[int, Tensor]:
    """Best point on the triangles around the best vertices, by robust least squares (Huber weights)."""
    start = cost.topk(6, largest=False).indices
    candidates = torch.isin(rig.faces, start).any(1).nonzero()[:, 0]
    candidates = candidates[(cost[rig.faces[candidates]] < 900).all(1)]
    corners = rig.faces[candidates]
    observed = torch.cat([evidence.detected[:, pair[0], :2], evidence.detected[:, pair[1], :2]])
    points = torch.cat([evidence.projected[:, corners], evidence.projected[:, rig.mirror[corners]]])
    if pair[0] < 468:
        seen = torch.cat([evidence.facing[:, corners], evidence.facing[:, rig.mirror[corners]]]).mean(2)
    else:
        seen = torch.cat([evidence.open_eyes] * 2).float()[:, None].expand(-1, len(candidates))
    origin, edges = points[:, :, 0], points[:, :, 1:] - points[:, :, :1]
    weights = torch.full((len(candidates), 3), 1 / 3)
    error = torch.full((len(observed), len(candidates)), 0.02)
    for _ in range(5):
        robust = seen * (0.02 / error.clamp_min(0.02))
        target = observed[:, None] - origin
        normal = torch.einsum("nc,ncip,ncjp->cij", robust, edges, edges) + 1e-8 * torch.eye(2)
        side = torch.einsum("nc,ncip,ncp->ci", robust, edges, target)
        weights = _into_simplex(torch.linalg.solve(normal, side[..., None])[..., 0], normal)
        error = ((points * weights[None, :, :, None]).sum(2) - observed[:, None]).norm(dim=2)
    huber = torch.where(error < 0.02, 0.5 * error.square(), 0.02 * (error - 0.01))
    best = int(((huber * seen).sum(0) / seen.sum(0).clamp_min(1e-6)).argmin())
    return int(candidates[best]), weights[best]


def _into_simplex(inner: Float[Tensor, "c 2"], normal: Float[Tensor, "c 2 2"]) -> Float[Tensor, "c 3"]:
    """The barycentric point nearest in the metric `normal` to the free optimum (b, c): itself, or on an edge."""
    b, c = inner.unbind(1)
    inside = (b >= 0) & (c >= 0) & (b + c <= 1)
    starts = torch.tensor([[0.0, 0], [0, 0], [1, 0]])
    steps = torch.tensor([[1.0, 0], [0, 1], [-1, 1]])
    delta = inner[:, None] - starts
    along = torch.einsum("ei,cij,cej->ce", steps, normal, delta) / torch.einsum("ei,cij,ej->ce", steps, normal, steps)
    on_edge = starts + along.clamp(0, 1)[..., None] * steps
    off = inner[:, None] - on_edge
    nearest = torch.einsum("cei,cij,cej->ce", off, normal, off).argmin(1)
    edge = on_edge[torch.arange(len(inner)), nearest]
    chosen = torch.where(inside[:, None], inner, edge)
    return torch.cat([1 - chosen.sum(1, keepdim=True), chosen], 1)


def _onto_middle(rig: AnnyRig, triangle: int, weights: Tensor) -> tuple[int, Tensor]:
    """A landmark that is its own mirror image slides along its triangle to the face's middle plane."""
    x = rig.mean[rig.faces[triangle], 0]
    slope = x - x.mean()
    moved = (weights - slope * (weights @ x) / slope.square().sum().clamp_min(1e-12)).clamp_min(0)
    return triangle, moved / moved.sum()


def mirror_point(
    rig: AnnyRig, lookup: dict[tuple[int, ...], int], triangle: int, weights: Tensor
) -> tuple[int, Tensor]:
    """The same point on the other half; on the eyeballs, whose triangles have no mirror image, the nearest one."""
    wanted = rig.mirror[rig.faces[triangle]]
    index = lookup.get(tuple(sorted(wanted.tolist())))
    if index is not None:
        order = (rig.faces[index][:, None] == wanted).float()
        return index, order @ weights
    point = weights @ rig.mean[wanted]
    near = torch.isin(rig.faces, wanted).any(1).nonzero()[:, 0]
    corners = rig.mean[rig.faces[near]]
    edges = corners[:, 1:] - corners[:, :1]
    normal = edges @ edges.transpose(1, 2)
    inner = torch.linalg.solve(normal, (edges @ (point - corners[:, 0])[..., None]))[..., 0]
    blend = _into_simplex(inner, normal)
    best = int(((blend[..., None] * corners).sum(1) - point).norm(dim=1).argmin())
    return int(near[best]), blend[best]


def _weighted_median(values: Float[Tensor, "n l"], weights: Float[Tensor, "n l"]) -> Float[Tensor, "l"]:
    order = values.argsort(0)
    heap = weights.gather(0, order).cumsum(0)
    middle = (heap >= 0.5 * heap[-1:]).float().argmax(0)
    return values.gather(0, order).gather(0, middle[None])[0]
