"""Relative motion is put on another person's rest without moving what should stay."""

from dataclasses import replace

import torch

from avatar.core import MotionSequence
from avatar.drive.retarget import limited, relative, seated
from avatar.face.arkit import INDEX
from avatar.ops.rotation import axis_angle_to_matrix
from tests.contract import toy


def nod(angles: torch.Tensor) -> MotionSequence:
    """A head that turns on a still body by rotation vectors [t 3]."""
    count = len(angles)
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, :3, :3] = axis_angle_to_matrix(angles)
    zero = torch.zeros(count, 2, 2)
    return MotionSequence(expression=torch.zeros(count, 52), T_world_head=pose, neck=angles, gaze=zero, fps=25.0)


def test_an_idle_head_leaves_the_torso_where_it_was():
    rig, rest = toy.rig(), replace(toy.motion().frame(5), expression=torch.zeros(52))
    motion = seated(nod(torch.tensor([[0.2, 0.0, 0.0], [0.1, -0.3, 0.05]])), rest, rig.neck_pivots)
    torso, head, still = rig.skin[:, 2] > 0.999, rig.skin[:, 0] > 0.999, rig.posed(rest)
    for frame in (motion.frame(0), motion.frame(1)):
        moved = rig.posed(frame)
        torch.testing.assert_close(moved[torso], still[torso], atol=2e-6, rtol=0)
        assert (moved[head] - still[head]).norm(dim=1).mean() > 0.01


def test_no_motion_is_the_rest_pose():
    rest = toy.motion().frame(9)
    frame = seated(nod(torch.zeros(1, 3)), rest, toy.rig().neck_pivots).frame(0)
    torch.testing.assert_close(frame.T_world_head, rest.T_world_head, atol=1e-6, rtol=0)
    torch.testing.assert_close(frame.neck, rest.neck, atol=1e-6, rtol=0)
    torch.testing.assert_close(frame.gaze, rest.gaze)


def test_seated_undoes_relative():
    rig, tracked = toy.rig(), replace(toy.motion(), torso=torch.linspace(0, 0.02, 120).reshape(40, 3))
    rest = tracked.frame(7)
    back = seated(relative(tracked, rest, rig.neck_pivots), rest, rig.neck_pivots)
    torch.testing.assert_close(back.T_world_head, tracked.T_world_head, atol=1e-6, rtol=0)
    torch.testing.assert_close(back.neck, tracked.neck, atol=1e-6, rtol=0)
    torch.testing.assert_close(back.torso, tracked.torso, atol=1e-6, rtol=0)


def test_expressions_stay_within_what_the_person_has_shown_but_lips_still_meet():
    motion = nod(torch.zeros(2, 3))
    expression = motion.expression.clone()
    for name, value in (("jawOpen", 0.8), ("mouthClose", 0.8), ("mouthRollLower", 0.9), ("browInnerUp", 0.7)):
        expression[:, INDEX[name]] = value
    ceiling = torch.ones(52)
    ceiling[INDEX["jawOpen"]], ceiling[INDEX["browInnerUp"]], ceiling[INDEX["mouthRollLower"]] = 0.4, 0.3, 0.1
    out = limited(replace(motion, expression=expression), ceiling).expression[0]
    assert out[INDEX["jawOpen"]] == 0.4 and out[INDEX["browInnerUp"]] == 0.3
    torch.testing.assert_close(out[INDEX["mouthClose"]], out[INDEX["jawOpen"]])
    assert out[INDEX["mouthRollLower"]] == 0.9
