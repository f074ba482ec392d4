"""Rigid corrections of a tracked pose: of the head, and of all that is below it."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar.core import MotionFrame, Region
from avatar.face.rig import PersonalRig
from avatar.ops.rotation import axis_angle_to_matrix, matrix_to_axis_angle

_FACE = (Region.SKIN, Region.BROWS, Region.NOSE, Region.LIPS)


@dataclass(frozen=True, kw_only=True)
class PoseCorrection:
    """Axis-angle in radians, then a shift in metres; axes of the head frame. Zero changes nothing."""

    body: Float[Tensor, "6"]
    """Of all below the head, about the base of the neck."""
    head: Float[Tensor, "6"]
    """Of the head alone, about the middle of the face, which landmarks hold in its place whatever the turn is. About
    the skull's joint each turn would need a shift of its own, and gradient descent hardly finds pairs of the two."""


def corrected(
    rig: PersonalRig, motion: MotionFrame, correction: PoseCorrection, middle: Float[Tensor, "3"]
) -> tuple[MotionFrame, Float[Tensor, "6"]]:
    """Move the head; what is below it stays where the tracked pose and `correction.body` put it.

    Args:
        middle: of the face, in the head frame; see `middle_of_face`.

    Returns:
        The motion of the moved head, and the correction of the body against it, for `rig.posed`.
    """
    body, head, base = correction.body, correction.head, rig.neck_pivots[1]
    turn, pose = axis_angle_to_matrix(head[:3]), motion.T_world_head
    way = head[3:] + middle - turn @ middle
    moved = torch.cat([pose[:3, :3] @ turn, (pose[:3, :3] @ way + pose[:3, 3])[:, None]], 1)
    # Against the moved head the body moves by x -> turn^-1 (B x - way): again a turn about the base, and a shift.
    shift = turn.T @ (base + body[3:] - way) - base
    axis = matrix_to_axis_angle(turn.T @ axis_angle_to_matrix(body[:3]))
    return replace(motion, T_world_head=torch.cat([moved, pose[3:]])), torch.cat([axis, shift])


def middle_of_face(rig: PersonalRig) -> Float[Tensor, "3"]:
    """Mean vertex of the neutral face, in the head frame; of all, if the rig has no face."""
    face = torch.isin(rig.regions.long(), torch.tensor([int(r) for r in _FACE]))
    used = rig.faces[face].unique() if bool(face.any()) else torch.arange(len(rig.neutral))
    return rig.neutral[used].mean(0)
