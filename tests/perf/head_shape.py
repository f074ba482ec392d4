"""A fitted head against the true one beside the face: distances by region, and its outline seen from the side."""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from avatar.core import MotionFrame, Region
from avatar.face import AnnyRig, PersonalRig
from avatar.ops.mesh import rasterize_mesh
from avatar.synthetic.clip import Truth, side_camera
from avatar.synthetic.surface import vertex_normals

_YAWS = (0, 15, 30)
"""Degrees to both sides."""
_SKULL = 0.05
"""Metres from the uppermost and rearmost point of the skull that count as its top and back."""


def head_errors(fitted: PersonalRig, truth: Truth, rig: AnnyRig) -> dict[str, float]:
    """Mean distance (mm) along the true normals by region, and overlap of the heads' outlines by angle.

    The fitted head is put on the true one by the similarity of the face's points (Umeyama 1991) first.
    """
    true = truth.rig
    vertices = _placed(fitted, true, rig)
    normals = vertex_normals(true.neutral, true.faces)
    away = 1e3 * ((vertices - true.neutral) * normals).sum(1).abs().numpy()
    out = {f"{name}_mm": float(away[where].mean()) for name, where in _parts(true, rig).items()}
    frame = truth.motion.frame(len(truth.motion) // 2)
    for yaw in _YAWS:
        overlaps = [_overlap(vertices, truth, frame, math.radians(side * yaw)) for side in (-1, 1)]
        out[f"outline_iou_{yaw}deg"] = sum(overlaps) / 2
    return out


def _placed(fitted: PersonalRig, true: PersonalRig, rig: AnnyRig) -> Float[torch.Tensor, "v 3"]:
    usable = rig.landmarks.usable
    a, b = (rig.landmarks.points(p.neutral, p.faces)[usable].double() for p in (fitted, true))
    u, s, vt = torch.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    sign = torch.tensor([1.0, 1.0, float(torch.linalg.det(u @ vt).sign())], dtype=torch.double)
    scale = (s * sign).sum() / (a - a.mean(0)).square().sum()
    turn = scale * (u * sign) @ vt
    return ((fitted.neutral.double() - a.mean(0)) @ turn.T + b.mean(0)).float()


def _parts(true: PersonalRig, rig: AnnyRig) -> dict[str, Bool[np.ndarray, "v"]]:
    def of(*regions: Region) -> np.ndarray:
        out = np.zeros(len(true.neutral), bool)
        out[true.faces[torch.isin(true.regions.long(), torch.tensor(regions))].flatten().numpy()] = True
        return out

    x, y, z = true.neutral.numpy().T
    corners = rig.landmarks.points(true.neutral, true.faces)[[61, 291]].numpy()
    inner, head = of(Region.MOUTH, Region.EYES), true.skin[:, 0].numpy() > 0.9
    skull = of(Region.HAIR) & ~inner
    top = skull & (y < y[skull].min() + _SKULL)
    return {
        "jaw": of(Region.SKIN) & head & ~inner & (y > corners[:, 1].mean()) & (np.abs(x) > np.abs(corners[:, 0]).max()),
        "ears": of(Region.EARS),
        "skull_top": top,
        "skull_back": skull & ~top & (z > z[skull].max() - _SKULL),
        "neck": of(Region.NECK) & (true.skin[:, 2].numpy() < 0.5),
    }


def _overlap(vertices: Float[torch.Tensor, "v 3"], truth: Truth, frame: MotionFrame, yaw: float) -> float:
    """Of both heads without necks, from a camera carried around the speaker by `yaw` radians."""
    camera, covered = side_camera(truth.camera, yaw), []
    T = camera.T_camera_world
    for head in (replace(truth.rig, neutral=vertices), truth.rig):
        local = head.posed(frame) @ T[:3, :3].T + T[:3, 3]
        faces = head.faces[(head.regions != int(Region.TORSO)) & (head.regions != int(Region.NECK))]
        covered.append(rasterize_mesh(local, faces, camera.focal, camera.center, camera.size)[0] >= 0)
    return float((covered[0] & covered[1]).sum() / (covered[0] | covered[1]).sum())
