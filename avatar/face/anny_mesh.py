"""Anny's full body turned into an upright bust in the head frame. Needs the `anny` package.

Anny's axes are z up, -y forward, metres; the head frame (`core.motion`) is x to the person's left, y down, z backward.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatar.face import arkit

PHENOTYPES = ("gender", "age", "muscle", "weight", "height", "proportions", "cupsize", "african", "asian", "caucasian")
_ARM_CHAIN = ("clavicle", "shoulder01", "upperarm01")
_ARM_ANGLES = (0.03, 0.17, 0.36)
"""Radians that lower clavicle, shoulder and upper arm: Anny's template holds the arms 42 degrees off the body."""
BUST_BOTTOM = 0.45
"""Metres below the skull's joint: above the elbow, well below the armpit."""
_EYE_RINGS = (6.0, 11.0, 16.0, 20.0, 23.0, 27.0, 33.0, 41.0, 51.0, 63.0, 78.0, 95.0, 115.0, 140.0)
"""Degrees from the pole; 22 is the edge of an iris of 11.7 mm."""
_EYE_SEGMENTS = 32


def to_head_axes(points: Tensor) -> Tensor:
    """Anny's axes to those of the head frame: a proper rotation."""
    return torch.stack([points[..., 0], -points[..., 2], points[..., 1]], -1)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Quads and texture coordinates of the pieces of MakeHuman's base mesh, vertex indices of the base mesh."""

    quads: dict[str, Tensor]
    quad_uv: dict[str, Tensor]


class AnnySource:
    """Blend shapes of the whole base mesh (body, eyes, teeth, tongue, lashes; 19158 vertices)."""

    def __init__(self) -> None:
        from anny.models import full_model
        from anny.models.model_data import RigConfig
        from anny.models.phenotype import make_phenotype_anchors
        from anny.paths import get_anny_root_dir
        from anny.utils.obj_utils import load_obj_file

        rig, weights = RigConfig.from_string("anny").resolve_filenames()
        assert rig is not None and weights is not None
        self.data: Any = full_model.load_data(rig_filename=rig, weights_filename=weights, eyes=True, tongue=True)
        self.shapes: Tensor = self.data.blendshapes.float().flatten(1)
        """All blend shapes, [k 19158*3]."""
        self.anchors = make_phenotype_anchors(torch.float64)
        self.root = Path(get_anny_root_dir()) / "data"
        mesh = load_obj_file(str(self.root / "mpfb2/3dobjs/base.obj"), dtype=torch.float64)
        groups: Any = mesh[2]
        texture: Any = mesh[1]
        body, body_uv = full_model.get_edited_mesh_faces(
            groups["body"]["face_vertex_indices"], groups["body"]["face_texture_coordinate_indices"]
        )
        names = {"tongue": "helper-tongue", "upper_teeth": "helper-upper-teeth", "lower_teeth": "helper-lower-teeth"}
        quads = {k: groups[g]["face_vertex_indices"] for k, g in names.items()}
        quad_uv = {k: texture[groups[g]["face_texture_coordinate_indices"]] for k, g in names.items()}
        self.parts = Parts(quads={"body": body, **quads}, quad_uv={"body": texture[body_uv], **quad_uv})
        listed = json.loads((self.root / "mpfb2/mesh_metadata/basemesh_vertex_groups.json").read_text())
        self.eyes = [torch.arange(listed[g][0][0], listed[g][0][1] + 1) for g in ("helper-r-eye", "helper-l-eye")]

    @property
    def labels(self) -> list[str]:
        return self.data.metadata.blendshape_labels

    def phenotype_weights(self, values: Tensor) -> Tensor:
        """[n 10] values of `PHENOTYPES` in [0, 1] to the coefficients [n k] of the phenotype blend shapes."""
        from anny.models.phenotype import phenotype_blendshape_weights

        mask = self.data.stacked_phenotype_blend_shapes_mask
        return phenotype_blendshape_weights(values.double(), list(PHENOTYPES), self.anchors, mask, False)

    def bone_weights(self, bones: set[str]) -> Tensor:
        """Summed skinning weights of some bones, [19158]."""
        labels = self.data.metadata.bone_labels
        chosen = torch.tensor([label in bones for label in labels])
        return (self.data.vertex_bone_weights * chosen[self.data.vertex_bone_indices]).sum(1)

    def subtree(self, root: str) -> set[str]:
        """A bone and all its descendants."""
        labels, parents = self.data.metadata.bone_labels, self.data.metadata.bone_parents
        inside = {labels.index(root)}
        for child, parent in enumerate(parents):
            if parent in inside:
                inside.add(child)
        return {labels[i] for i in inside}

    def actions(self) -> Tensor:
        """The 52 facial actions [52 19158 3] in the order of `arkit.NAMES`, head axes; the eyeballs hold still."""
        shapes = self.data.blendshapes
        actions = torch.stack([shapes[self.labels.index(f"facial_action:{name}")] for name in arkit.NAMES])
        for eye in self.eyes:
            actions[:, eye] = 0
        return to_head_axes(actions)


@dataclass(frozen=True, kw_only=True)
class Bust:
    """The piece of the body that is kept; its vertices are affine combinations of base-mesh vertices."""

    base: Tensor
    """Base-mesh vertex of each plain vertex [p]; the vertices of right and left eyeball follow them."""
    eyes: tuple[Tensor, Tensor]
    """New eyeball vertices from old ones [n 72]."""
    eye_centres: tuple[Tensor, Tensor]
    """Eyeball centres from old vertices [1 72]."""
    faces: Tensor
    uv: Tensor
    """In MakeHuman's layout."""
    piece: list[str]
    """Name of the piece of the base mesh that each triangle comes from."""

    def of(self, source: "AnnySource", full: Tensor) -> Tensor:
        """Base-mesh positions or displacements [*b 19158 3] to the bust's [*b v 3]."""
        eyes = [w.to(full) @ full[..., old, :] for w, old in zip(self.eyes, source.eyes, strict=True)]
        return torch.cat([full[..., self.base, :], *eyes], -2)

    def pivots(self, source: "AnnySource", full: Tensor) -> Tensor:
        """Centres of right and left eyeball [*b 2 3]."""
        centres = zip(self.eye_centres, source.eyes, strict=True)
        return torch.cat([w.to(full) @ full[..., old, :] for w, old in centres], -2)


def lower_arms(source: AnnySource, vertices: Tensor, joints: dict[str, Tensor]) -> Tensor:
    """Linear blend skinning of both arms down to the body; [n 19158 3], joints [n 3] by bone name, head axes."""
    out = vertices.clone()
    for side, sign in (("L", 1.0), ("R", -1.0)):
        chains = [source.subtree(f"{bone}.{side}") for bone in _ARM_CHAIN]
        inner = [*chains[1:], set()]
        rotation = torch.eye(3, dtype=vertices.dtype)
        shift = torch.zeros(len(vertices), 1, 3, dtype=vertices.dtype)
        for bone, bones, below, angle in zip(_ARM_CHAIN, chains, inner, _ARM_ANGLES, strict=True):
            c, s = np.cos(angle), np.sin(angle) * sign
            turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=vertices.dtype)
            pivot = joints[f"{bone}.{side}"][:, None].to(vertices)
            shift = (pivot - pivot @ turn.T) @ rotation.T + shift
            rotation = rotation @ turn
            weight = source.bone_weights(bones - below).to(vertices)[:, None]
            out += weight * (vertices @ rotation.T + shift - vertices)
    return out


def triangulate(quads: Tensor, uv: Tensor, vertices: Tensor) -> tuple[Tensor, Tensor]:
    """Split quads along their shorter diagonal: triangles [f 3] and their uv [f 3 2]."""
    a, b, c, d = vertices[quads].unbind(1)
    first = ((a - c).norm(dim=1) <= (b - d).norm(dim=1) + 1e-7)[:, None]
    one = torch.where(first, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 3]))
    two = torch.where(first, torch.tensor([0, 2, 3]), torch.tensor([1, 2, 3]))
    corners = torch.cat([one, two])
    twice = torch.cat([quads, quads])
    triangles = twice.gather(1, corners)
    triangle_uv = torch.cat([uv, uv]).gather(1, corners[..., None].expand(-1, -1, 2))
    # the mesh writes a triangle as a quad with a repeated corner
    real = (
        (triangles[:, 0] != triangles[:, 1])
        & (triangles[:, 1] != triangles[:, 2])
        & (triangles[:, 2] != triangles[:, 0])
    )
    return triangles[real], triangle_uv[real]


def eyeball(old: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A finer eyeball with a ring at the iris' edge in place of MakeHuman's, [72 3] head axes.

    Returns:
        Its vertices [n 72] and centre [1 72] as affine combinations of the old ones, triangles, uv (azimuthal).
    """
    sphere = torch.linalg.lstsq(torch.cat([2 * old, torch.ones(len(old), 1).to(old)], 1), old.square().sum(1)).solution
    centre = sphere[:3]
    radius = (sphere[3] + centre.square().sum()).sqrt()
    theta = torch.deg2rad(torch.tensor(_EYE_RINGS, dtype=old.dtype))[:, None]
    phi = (torch.arange(_EYE_SEGMENTS, dtype=old.dtype) * (2 * np.pi / _EYE_SEGMENTS))[None]
    ring = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), -theta.cos().expand(-1, _EYE_SEGMENTS)], -1)
    poles = torch.tensor([[0.0, 0, -1], [0, 0, 1]], dtype=old.dtype)
    directions = torch.cat([poles[:1], ring.flatten(0, 1), poles[1:]])
    angle = torch.rad2deg(torch.acos((-directions[:, 2]).clamp(-1, 1)))
    cornea = 0.0006 * (1 - (angle / 24).square()).clamp_min(0)
    new = centre + directions * (radius * 0.985 + cornea)[:, None]
    homogeneous = torch.cat([old, torch.ones(len(old), 1).to(old)], 1)
    new = torch.cat([new, centre[None]])
    weights = torch.cat([new, torch.ones(len(new), 1).to(new)], 1) @ torch.linalg.pinv(homogeneous)
    triangles = _sphere_triangles(len(_EYE_RINGS), _EYE_SEGMENTS)
    flat = directions[:, :2] / directions[:, :2].norm(dim=1, keepdim=True).clamp_min(1e-9)
    uv = 0.5 + 0.5 * torch.stack([flat[:, 0], -flat[:, 1]], 1) * (angle / 180)[:, None]
    return weights[:-1], weights[-1:], triangles, uv[triangles]


def _sphere_triangles(rings: int, segments: int) -> Tensor:
    """Fans at both poles (first and last vertex) and split quads between; outward when rings run from -z to +z."""

    def at(ring: int, k: int) -> int:
        return 1 + ring * segments + k % segments

    last = 1 + rings * segments
    out = []
    for k in range(segments):
        out.append((0, at(0, k + 1), at(0, k)))
        out.append((last, at(rings - 1, k), at(rings - 1, k + 1)))
        for r in range(rings - 1):
            out.append((at(r, k), at(r, k + 1), at(r + 1, k + 1)))
            out.append((at(r, k), at(r + 1, k + 1), at(r + 1, k)))
    return torch.tensor(out)


def above_bust_line(vertices: Tensor, faces: Tensor) -> Tensor:
    """Faces of the posed middle body (head frame) that belong to the bust."""
    return (vertices[faces][..., 1] < BUST_BOTTOM).any(1)
