"""The drawn person: what the picture shows agrees with what is said to be true of it."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_fill_holes
from scipy.spatial.transform import Rotation

from avatar.core import MotionFrame, Region
from avatar.face.arkit import INDEX
from avatar.synthetic.clip import front_camera, side_camera
from avatar.synthetic.performance import HOME, perform
from avatar.synthetic.speaker import Speaker
from avatar.synthetic.spec import random_spec

SIZE = 192


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker(strands=1500, texture=256)


def moment(**expression: float) -> MotionFrame:
    coefficients, pose = torch.zeros(52), torch.eye(4)
    pose[:3, 3] = torch.tensor(HOME)
    for name, value in expression.items():
        for key in (name, f"{name}Left", f"{name}Right"):
            if key in INDEX:
                coefficients[INDEX[key]] = value
    return MotionFrame(expression=coefficients, T_world_head=pose, neck=torch.zeros(3), gaze=torch.zeros(2, 2))


def count(speaker: Speaker, region: Region, frame: MotionFrame) -> int:
    return int((speaker.draw(frame, front_camera((SIZE, SIZE))).labels == region).sum())


@pytest.mark.parametrize("yaw", [-30, 0, 30])
def test_the_person_has_no_holes_and_no_cut_edge_inside_of_the_picture(speaker: Speaker, yaw: int) -> None:
    drawing = speaker.draw(moment(), side_camera(front_camera((SIZE, SIZE)), math.radians(yaw)))
    solid = (drawing.alpha > 0.99).numpy()
    holes = np.asarray(binary_fill_holes(solid)) & ~solid
    loose = np.asarray(binary_dilation(drawing.labels.numpy() == Region.HAIR, iterations=2), bool)
    assert not holes[np.logical_not(loose)].any(), "daylight may show between strands of hair only"
    shoulders = solid[-1]
    assert shoulders.sum() > 0.5 * SIZE, "the torso reaches the lower edge of the picture"
    assert int(np.abs(np.diff(shoulders.astype(int))).sum()) <= 2, "in one piece"


def test_blinking_closes_the_eyes(speaker: Speaker) -> None:
    lashes = 0.35
    assert count(speaker, Region.EYES, moment(eyeBlink=1.0)) < lashes * count(speaker, Region.EYES, moment())


def test_opening_the_jaw_shows_the_inside_of_the_mouth(speaker: Speaker) -> None:
    assert count(speaker, Region.MOUTH, moment()) <= 3
    assert count(speaker, Region.MOUTH, moment(jawOpen=0.6)) > 40


def test_depth_and_labels_agree_with_the_rig(speaker: Speaker) -> None:
    camera = front_camera((SIZE, SIZE))
    drawing = speaker.draw(moment(), camera)
    tip = speaker.body.anatomy.nose + torch.tensor(HOME)
    column, row = camera.project(tip).long().tolist()
    assert drawing.labels[row, column] in (Region.NOSE, Region.SKIN)
    assert abs(float(drawing.depth[row, column]) - float(tip[2])) < 0.003
    assert torch.equal(drawing.labels == Region.BACKGROUND, drawing.alpha == 0)
    assert {Region.SKIN, Region.HAIR, Region.LIPS, Region.BROWS, Region.EYES, Region.NECK, Region.TORSO} <= set(
        drawing.labels.unique().tolist()
    )


def test_pixels_are_the_same_for_the_same_seed_and_others_for_another(speaker: Speaker) -> None:
    camera = front_camera((64, 64))
    first, again = (Speaker(random_spec(5), strands=300, texture=128).render(moment(), camera) for _ in range(2))
    assert torch.equal(first, again)
    assert (first.float() - speaker.render(moment(), camera).float()).abs().mean() > 2


def test_picture_of_a_crop_is_the_crop_of_the_picture(speaker: Speaker) -> None:
    camera = front_camera((SIZE, SIZE))
    whole = speaker.draw(moment(), camera, torch.zeros(SIZE, SIZE, 3, dtype=torch.uint8))
    part = speaker.draw(moment(), camera.crop(40, 60, 64, 48), torch.zeros(64, 48, 3, dtype=torch.uint8))
    differing = (part.rgb.int() - whole.rgb[40:104, 60:108].int()).abs().amax(-1) > 3
    assert differing.float().mean() < 0.01  # the rim of the eyes' shading window may differ


def test_torso_stands_while_the_head_turns(speaker: Speaker) -> None:
    played = perform(speaker.rig, seconds=8, fps=5, sound=False)
    motion, torso = played.motion, (speaker.rig.skin[:, 2] > 0.999).nonzero()[::50, 0]
    places = torch.stack([speaker.rig.posed(motion.frame(i))[torso] for i in range(len(motion))])
    assert (places - places.mean(0)).norm(dim=-1).max() < 0.03
    face = torch.stack([speaker.rig.posed(motion.frame(i))[0] for i in range(len(motion))])
    forward = -motion.T_world_head[:, :3, 2]
    assert forward[:, 0].max() - forward[:, 0].min() > math.sin(math.radians(20)), "the head turns"
    assert torch.isfinite(face).all()


def test_a_body_that_turns_shows_both_sides_and_then_the_front_again(speaker: Speaker) -> None:
    front, turned = (perform(speaker.rig, seconds=8, fps=5, sound=False, turn_deg=d).motion for d in (0, 30))
    pose = turned.T_world_head[:, :3, :3].double().numpy()
    torso = Rotation.from_matrix(pose) * Rotation.from_rotvec(-turned.neck.double().numpy())
    yaw = np.degrees(torso.as_rotvec()[:, 1])
    assert yaw.max() > 28 and yaw.min() < -28
    for there in (slice(0, len(front) // 4), slice(2 * len(front) // 3 + 1, None)):
        torch.testing.assert_close(turned.T_world_head[there], front.T_world_head[there], atol=1e-5, rtol=0)


def test_lips_follow_the_made_up_phones(speaker: Speaker) -> None:
    played = perform(speaker.rig, seconds=6, fps=50, sound=False)
    jaw = played.motion.expression[:, INDEX["jawOpen"]]

    def mean_at(symbols: set[str]) -> float:
        middles = [round((p.start + p.end) / 2 * 50) for p in played.phones if p.symbol in symbols]
        return float(jaw[[i for i in middles if i < len(jaw)]].mean())

    assert mean_at({"AA", "AE"}) > 2 * mean_at({"M", "B", "P"})
    assert played.audio is None
