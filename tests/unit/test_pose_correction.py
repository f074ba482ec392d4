"""What a training learns of the errors of a tracked head pose."""

from dataclasses import replace

import torch

from avatar.core import MotionSequence, Region, RenderRequest
from avatar.face import arkit
from avatar.models.conditioning import LATER
from avatar.models.gaussian_head import GaussianHead
from avatar.models.pose_correction import PoseCorrection, corrected, middle_of_face
from avatar.ops.optimize import SplatAdam
from avatar.ops.rotation import axis_angle_to_matrix
from tests.contract import toy


def test_a_corrected_head_turns_about_the_face_and_leaves_the_body_alone():
    rig, motion = toy.rig(), toy.motion().frame(5)
    body, head = torch.tensor([0.02, -0.01, 0.03, 0.004, 0.002, -0.003]), torch.tensor([0.0, 0.1, 0.0, 0.0, 0.0, 0.0])
    middle = middle_of_face(rig)
    still = rig.posed(motion, body)
    moved = rig.posed(*corrected(rig, motion, PoseCorrection(body=body, head=head), middle))
    torso, skull = rig.below_head[:, 0] > 0.999, rig.skin[:, 0] > 0.999
    torch.testing.assert_close(moved[torso], still[torso], atol=1e-5, rtol=0)
    assert (moved - still)[skull].norm(dim=1).max() > 3e-3
    center = motion.T_world_head[:3, :3] @ middle + motion.T_world_head[:3, 3]
    turn = motion.T_world_head[:3, :3] @ axis_angle_to_matrix(head[:3]) @ motion.T_world_head[:3, :3].T
    torch.testing.assert_close(moved[skull], (still[skull] - center) @ turn.T + center, atol=1e-5, rtol=0)


def nod(motion: MotionSequence) -> torch.Tensor:
    """Radians by which a jaw's opening misleads the tracker."""
    return 0.06 * (motion.expression[:, arkit.INDEX["jawOpen"]] - 0.5)


def crooked(motion: MotionSequence) -> MotionSequence:
    """As a tracker sees it that takes an open jaw for a nod (about the skull's joint)."""
    pose, turn = motion.T_world_head.clone(), torch.zeros(len(motion), 3)
    turn[:, 0] = nod(motion)
    pose[:, :3, :3] = pose[:, :3, :3] @ axis_angle_to_matrix(turn)
    return replace(motion, T_world_head=pose)


def talking(frames: int) -> MotionSequence:
    motion = toy.motion()
    motion = motion.select([i % len(motion) for i in range(frames)])
    expression = motion.expression.clone()
    expression[:, arkit.INDEX["jawOpen"]] = torch.rand(frames, generator=torch.Generator().manual_seed(0))
    return replace(motion, expression=expression)


def test_errors_of_the_tracked_head_that_go_with_its_motion_are_learned():
    true, camera = talking(40), toy.camera(32)
    tracked = crooked(true)
    head = toy.person()
    head.conditioning.fit(tracked)
    head.basis.data.zero_()
    head.opacity.data[head.rig.regions[head.triangle] == Region.TORSO] = -10.0
    with torch.no_grad():
        drawn = [head.render(RenderRequest(camera=camera, motion=true.frame(i))).rgb for i in range(40)]
    head.requires_grad_(False)
    head.conditioning.head.requires_grad_(True)
    optimizer = SplatAdam([{"params": [head.conditioning.head.weight], "lr": 0.01, "eps": 1e-12}])
    for step in range(160):
        out = head.render(RenderRequest(camera=camera, motion=tracked.frame(step % 40)))
        (out.rgb - drawn[step % 40]).abs().mean().backward()
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 160)
        optimizer.step()
        optimizer.zero_grad()
    found = torch.stack([head.conditioning(tracked.frame(i))[1].head[0] for i in range(40)]).detach()
    left = found + nod(true)
    assert left.std() < 0.4 * nod(true).std()


def test_avatars_from_before_the_correction_are_drawn_as_they_were():
    head, motion = toy.person(), toy.motion().frame(7)
    request = RenderRequest(camera=toy.camera(32), motion=motion)
    tensors = head.to_tensors()
    old = {k: v for k, v in tensors.items() if k.removeprefix("conditioning.") not in LATER}
    assert len(old) == len(tensors) - len(LATER)
    before, now = (GaussianHead.from_tensors(t, head.rig).render(request).rgb for t in (old, tensors))
    assert torch.equal(before, now)


def test_barycentric_shares_are_kept_exactly_and_read_from_files_that_hold_half_precision():
    head = toy.person()
    tensors = head.to_tensors()
    now = GaussianHead.from_tensors(tensors, head.rig)
    old = GaussianHead.from_tensors({**tensors, "bary": now.bary.half()}, head.rig)
    torch.testing.assert_close(now.bary, head.bary, atol=2e-5, rtol=0)
    torch.testing.assert_close(old.bary, now.bary, atol=5e-4, rtol=0)
