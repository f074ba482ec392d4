"""Labels of a posed rig drawn in flat colours."""

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")

from avatar.core import Camera, MotionFrame, Region
from avatar.face.parsing import INNER_LIPS, Parser
from avatar.face.rig import AnnyRig
from avatar.ops.mesh import rasterize_mesh

SIZE = (192, 192)
COLOURS = np.full((11, 3), 0, np.uint8)
COLOURS[:] = (220, 170, 150)
COLOURS[Region.BACKGROUND] = (40, 120, 60)
COLOURS[Region.HAIR] = (50, 35, 25)
COLOURS[Region.TORSO] = (60, 70, 160)


class Scene:
    """A person with hair that stands out from the skull, in front of a wall."""

    def __init__(self):
        family = AnnyRig.load()
        self.rig = family.personal(torch.zeros(family.identity_size))
        self.points = family.landmarks
        self.camera = Camera(T_world_camera=torch.eye(4), focal=(400.0, 400.0), center=(96.0, 96.0), size=SIZE)
        self.motions = [self.motion(x) for x in np.linspace(-0.04, 0.04, 6)]

    def motion(self, x, jaw=0.6):
        pose = torch.eye(4)
        pose[:3, 3] = torch.tensor([x, 0.02, 0.95])
        expression = torch.zeros(52)
        expression[17] = jaw  # jawOpen
        return MotionFrame(expression=expression, T_world_head=pose, neck=torch.zeros(3), gaze=torch.zeros(2, 2))

    def draw(self, motion):
        """frame, person mask, true labels, landmarks."""
        vertices, camera = self.rig.posed(motion), self.camera
        triangle, _, _ = rasterize_mesh(vertices, self.rig.faces, camera.focal, camera.center, camera.size)
        regions = np.append(self.rig.regions.numpy(), 0)[triangle.numpy()]
        centre = camera.project(motion.T_world_head[:3, 3] + torch.tensor([0.0, -0.06, -0.02]))
        y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
        cap = (np.hypot((x - float(centre[0])) / 40, (y - float(centre[1])) / 50) < 1) & (y < float(centre[1]))
        labels = np.where((regions == 0) & cap, int(Region.HAIR), regions).astype(np.uint8)
        noise = np.random.default_rng(int(centre[0])).normal(0, 4, (*SIZE, 3))
        frame = np.clip(COLOURS[labels] + noise, 0, 255).astype(np.uint8)
        points = camera.project(self.points.points(vertices, self.rig.faces)).numpy()
        return frame, (labels > 0).astype(np.uint8) * 255, labels, points


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.fixture(scope="module")
def parser(scene):
    parser = Parser(scene.rig, scene.camera, len(scene.motions))
    for index in parser.survey_indices:
        frame, mask, _, _ = scene.draw(scene.motions[index])
        parser.survey(index, frame, mask, scene.motions[index])
    return parser


def share(found, true, *regions):
    """Intersection over union of some regions."""
    a, b = np.isin(found, regions), np.isin(true, regions)
    return (a & b).sum() / max((a | b).sum(), 1)


def test_regions_of_a_known_person_are_found(scene, parser):
    frame, mask, labels, _ = scene.draw(scene.motions[3])
    found = parser.parse(frame, mask, scene.motions[3], None)
    assert share(found.labels, labels, Region.HAIR) > 0.8
    assert share(found.labels, labels, Region.TORSO) > 0.9
    assert share(found.labels, labels, Region.SKIN, Region.NOSE, Region.EARS) > 0.8
    assert np.abs(found.alpha / 255.0 - (labels > 0)).mean() < 0.02
    assert ((found.labels == Region.BACKGROUND) == (found.alpha < 128)).mean() > 0.99


def test_landmarks_draw_lips_eyes_brows_and_the_open_mouth(scene, parser):
    if not bool(scene.points.usable.any()):
        pytest.skip("the baked rig has no landmark table")
    for jaw, opened in ((0.7, True), (0.0, False)):
        motion = scene.motion(0.0, jaw)
        frame, mask, _, points = scene.draw(motion)
        if not opened:
            points[INNER_LIPS, 1] = points[INNER_LIPS, 1].mean()  # as a detector sees closed lips
        labels = parser.parse(frame, mask, motion, points).labels
        assert bool((labels == Region.MOUTH).sum() > 20) == opened
        for region in (Region.LIPS, Region.EYES, Region.BROWS):
            rows = np.flatnonzero((labels == region).any(1))
            assert len(rows), region
        eyes = np.argwhere(labels == Region.EYES).mean(0)[::-1]
        np.testing.assert_allclose(eyes, points[[33, 133, 263, 362]].mean(0), atol=4)


def test_other_people_in_the_mask_are_background(scene, parser):
    frame, mask, labels, _ = scene.draw(scene.motions[2])
    mask[60:120, 2:22] = 255
    found = parser.parse(frame, mask, scene.motions[2], None)
    assert found.alpha[70:110, 4:20].max() < 10
    assert share(found.labels, labels, Region.TORSO) > 0.85
