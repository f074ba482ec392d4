"""Motion from one head to another: relative to rest here, put on an avatar's own rest there.

Relative motion is what `speech` makes and what motion files hold: `T_world_head` turns the head about the skull's
joint and carries the whole person by its translation, `neck` turns the head against the torso; these, `gaze` and
`torso` are 0 at rest. Expressions are absolute.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar.core import MotionFrame, MotionSequence
from avatar.face.arkit import INDEX
from avatar.ops.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from avatar.speech.visemes import LIP_GAP_MM

LARGEST_GAZE = 0.6
"""Radians; beyond it the iris leaves the eye's opening."""


def seated(motion: MotionSequence, rest: MotionFrame, neck_pivots: Float[Tensor, "2 3"]) -> MotionSequence:
    """Relative motion on top of an avatar's rest pose.

    The base of the neck stays where it is at rest (plus the motion's translation), so an idle head does not drag the
    shoulders about; where `neck` equals the head's rotation the torso does not turn either.

    Args:
        neck_pivots: of the avatar's rig.
    """
    T_rest, neck_rest = rest.T_world_head.double(), axis_angle_to_matrix(rest.neck.double())
    turn = motion.T_world_head.double()
    rotation = T_rest[:3, :3] @ turn[:, :3, :3]
    neck = matrix_to_axis_angle(neck_rest @ axis_angle_to_matrix(motion.neck.double()))
    base = T_rest[:3, :3] @ _neck_base(rest.neck.double(), neck_pivots) + T_rest[:3, 3]
    moved = base + turn[:, :3, 3] @ T_rest[:3, :3].T
    T = torch.eye(4, dtype=torch.float64).repeat(len(motion), 1, 1)
    T[:, :3, :3] = rotation
    T[:, :3, 3] = moved - (rotation @ _neck_base(neck, neck_pivots)[..., None])[..., 0]
    gaze, torso = rest.gaze + motion.gaze, rest.torso + motion.torso
    return replace(motion, T_world_head=T.float(), neck=neck.float(), gaze=gaze, torso=torso)


def relative(motion: MotionSequence, rest: MotionFrame, neck_pivots: Float[Tensor, "2 3"]) -> MotionSequence:
    """The inverse of `seated`: a tracked motion as seen from the person's own rest pose."""
    T_rest, neck_rest = rest.T_world_head.double(), axis_angle_to_matrix(rest.neck.double())
    T = motion.T_world_head.double()
    base_rest = T_rest[:3, :3] @ _neck_base(rest.neck.double(), neck_pivots) + T_rest[:3, 3]
    base = (T[:, :3, :3] @ _neck_base(motion.neck.double(), neck_pivots)[..., None])[..., 0] + T[:, :3, 3]
    turn = torch.eye(4, dtype=torch.float64).repeat(len(motion), 1, 1)
    turn[:, :3, :3] = T_rest[:3, :3].T @ T[:, :3, :3]
    turn[:, :3, 3] = (base - base_rest) @ T_rest[:3, :3]
    neck = matrix_to_axis_angle(neck_rest.T @ axis_angle_to_matrix(motion.neck.double()))
    gaze, torso = motion.gaze - rest.gaze, motion.torso - rest.torso
    clothes = torch.zeros_like(motion.clothes)  # how they lie is no motion of the person
    return replace(motion, T_world_head=turn.float(), neck=neck.float(), gaze=gaze, torso=torso, clothes=clothes)


def limited(motion: MotionSequence, ceiling: Float[Tensor, "52"]) -> MotionSequence:
    """Expressions kept within what the person's film has shown.

    Lips that come together are not held back: with smaller openings than asked they would otherwise fail to meet, so
    coefficients that close the mouth pass unchanged and the ratio of jawOpen to mouthClose is kept.
    """
    limit = torch.where(torch.from_numpy(LIP_GAP_MM) >= 0, ceiling, torch.ones_like(ceiling))
    asked = motion.expression.clamp(0, 1)
    expression = torch.minimum(asked, limit)
    jaw, close = INDEX["jawOpen"], INDEX["mouthClose"]
    expression[:, close] *= expression[:, jaw] / asked[:, jaw].clamp_min(1e-6)
    return replace(motion, expression=expression, gaze=motion.gaze.clamp(-LARGEST_GAZE, LARGEST_GAZE))


def _neck_base(neck: Float[Tensor, "*b 3"], neck_pivots: Float[Tensor, "2 3"]) -> Float[Tensor, "*b 3"]:
    """Where the base of the neck is in the head frame: half of the neck's turn happens above it."""
    upper, lower = neck_pivots.double()
    half = axis_angle_to_matrix(-neck / 2)
    return upper + (half @ (lower - upper)[:, None])[..., 0]
