"""How long the neck is and how wide the shoulders are, from where the person's shoulders end in spread frames.

Landmarks lie on the face alone, so the body below a fitted head is the family's guess; shoulders of a drawn person sat
two centimetres too high, and everything on them at the wrong depth. A drop along the neck, a widening and the clothes'
thickness take the torso's rim to the person's edge, in all frames at once.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from avatar.core import Camera
from avatar.face.outline import Outline, Picture, outline
from avatar.face.rig import PersonalRig

_INWARD = 0.05
"""Metres over which the person's edge is looked for inside of the rig's."""
_DEVIATIONS = np.array([0.02, 0.10, 0.006])
"""Of the drop (metres), of the width (relative) and of the clothes' thickness (metres)."""
_CLOTH = 0.008
"""Usual thickness of clothes (metres), with the air under them."""
_EDGE, _LOOKS = 0.008, 12
"""Deviation (metres) of the edge at one point; neighbours and other frames repeat its error: all together count as so
many."""
_STRAYS = (0.04, 0.02, 0.01, 0.01)
"""Gap (metres) from which the edge is rather hair or an arm, in each round."""
_FEWEST = 50


def fit_shoulders(
    rig: PersonalRig, camera: Camera, pictures: Sequence[Picture], torso: Bool[np.ndarray, "f"]
) -> PersonalRig:
    """The rig with its torso where the pictures show it; the head stays. Unchanged where hardly any shoulder is seen.

    Args:
        torso: its triangles that do not touch an open edge of the mesh.
    """
    now, found = rig, np.zeros(3)
    for strays in _STRAYS:
        seen = [outline(now, camera, picture, torso, inward=_INWARD) for picture in pictures]
        if sum(len(part.gap) for part in seen) < _FEWEST:
            return rig
        found = _solved(rig, seen, found, strays)
        now = _moved(rig, found)
    return now


def _modes(rig: PersonalRig) -> Float[np.ndarray, "v 3 2"]:
    """What a metre of drop and a doubled width move."""
    below = rig.below_head.numpy()
    drop, width = np.zeros((2, *rig.neutral.shape))
    drop[:, 1] = below[:, 0]
    width[:, 0] = below[:, 0] * (rig.neutral - rig.neck_pivots[1])[:, 0].numpy()
    return np.stack([drop, width], 2)


def _solved(
    rig: PersonalRig, seen: Sequence[Outline], found: Float[np.ndarray, "3"], strays: float
) -> Float[np.ndarray, "3"]:
    """Drop, width and thickness of least squares about what was found so far."""
    modes, faces, rows, gaps = _modes(rig), rig.faces.numpy(), [], []
    for part in seen:
        moved = np.einsum("nk,nkcm->ncm", part.barycentric, modes[faces[part.triangle]])
        cloth = (~part.is_skin).astype(float)[:, None]
        rows.append(np.concatenate([np.einsum("nc,ncm->nm", part.outward, moved), cloth], 1))
        gaps.append(part.gap)
    slope, gap = np.concatenate(rows), np.concatenate(gaps)
    rest = gap - slope[:, 2] * (found[2] + _CLOTH)
    weight = 1 / (1 + (rest / strays) ** 2)
    weight *= min(1.0, _LOOKS / weight.sum()) / _EDGE**2
    # The gap is what is left of drop and width, but all of the thickness.
    wanted = gap - slope[:, 2] * _CLOTH + slope[:, :2] @ found[:2]
    matrix = slope.T @ (slope * weight[:, None]) + np.diag(_DEVIATIONS**-2)
    return np.linalg.solve(matrix, slope.T @ (weight * wanted))


def _moved(rig: PersonalRig, found: Float[np.ndarray, "3"]) -> PersonalRig:
    moves = torch.from_numpy(_modes(rig) @ found[:2]).to(rig.neutral)
    drop = torch.tensor([[0.0, 0.0, 0.0], [0.0, float(found[0]), 0.0]])
    return replace(rig, neutral=rig.neutral + moves, neck_pivots=rig.neck_pivots + drop)
