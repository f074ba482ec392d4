"""Thickness of hair and clothes: found again where a person of known thickness was drawn, none where skin shows."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import max_pool2d

from avatar.core import Camera, MotionFrame, Region
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.models.gaussian_coat import coat
from avatar.models.gaussian_seed import seed
from avatar.models.gaussian_view import Scene, View, vertex_normals
from avatar.ops.rotation import axis_angle_to_matrix

SIZE = 192
HAIR, CLOTH = 0.025, 0.008


@pytest.fixture(scope="module")
def rig() -> PersonalRig:
    family = AnnyRig.load()
    return family.personal(torch.zeros(family.identity_size))


def within(rig: PersonalRig, *parts: Region) -> torch.Tensor:
    """Vertices of triangles of these parts only."""
    fits = torch.isin(rig.regions.long(), torch.tensor([int(p) for p in parts]))
    out = torch.ones(len(rig.neutral), dtype=torch.bool)
    out[rig.faces[~fits].flatten()] = False
    return out


@pytest.fixture(scope="module")
def views(rig: PersonalRig) -> list[View]:
    """A person with hair and a shirt of even thickness, who turns the head; hair ends at the hairline."""
    dressed = torch.zeros(len(rig.neutral))
    dressed[within(rig, Region.HAIR)], dressed[within(rig, Region.TORSO)] = HAIR, CLOTH
    labels = torch.cat([rig.regions, torch.zeros(1, dtype=torch.uint8)])
    out = []
    for yaw in (-20, -10, 0, 10, 20, 0):
        pose = torch.eye(4)
        pose[:3, :3] = axis_angle_to_matrix(torch.tensor([0.0, math.radians(yaw), 0.0]))
        pose[2, 3] = 1.2
        neck = torch.tensor([0.0, math.radians(yaw), 0.0])
        motion = MotionFrame(expression=torch.zeros(52), T_world_head=pose, neck=neck, gaze=torch.zeros(2, 2))
        focal = 2.5 * SIZE
        camera = Camera(
            T_world_camera=torch.eye(4), focal=(focal, focal), center=(SIZE / 2, SIZE / 2), size=(SIZE, SIZE)
        )
        blank = View(
            rgb=torch.full((SIZE, SIZE, 3), 0.5), alpha=torch.zeros(SIZE, SIZE),
            labels=torch.zeros(SIZE, SIZE, dtype=torch.uint8), camera=camera, motion=motion,
        )  # fmt: skip
        seen = Scene(rig, blank, dressed).triangle
        out.append(replace(blank, alpha=(seen >= 0).float(), labels=labels[seen]))
    return out


@pytest.fixture(scope="module")
def thick(rig: PersonalRig, views: list[View]) -> torch.Tensor:
    return coat([Scene(rig, view) for view in views])


def test_thickness_of_hair_is_found_where_outlines_tell(rig, thick):
    crown = within(rig, Region.HAIR)
    crown &= rig.neutral[:, 1] < rig.neutral[crown, 1].quantile(0.3)  # y points down
    assert thick[crown].median() == pytest.approx(HAIR, abs=0.004)
    assert (thick[crown] < HAIR + 0.006).all()


def test_a_shirt_stands_off_the_chest_as_far_as_off_the_shoulders(rig, thick):
    torso = within(rig, Region.TORSO)
    assert thick[torso].median() == pytest.approx(CLOTH, abs=0.003)


def test_nothing_stands_off_the_face_and_the_bare_neck(rig, thick):
    assert (thick[within(rig, Region.SKIN, Region.NOSE, Region.LIPS, Region.EYES)] == 0).all()
    neck = within(rig, Region.NECK)
    front = neck & (vertex_normals(rig.neutral, rig.faces)[:, 2] < -0.5)
    assert thick[front].abs().median() < 0.002


def test_a_person_without_hair_and_shirt_has_no_thickness(rig, views):
    labels = torch.cat([rig.regions, torch.zeros(1, dtype=torch.uint8)])
    bare = []
    for view in views:
        seen = Scene(rig, view).triangle
        bare.append(replace(view, alpha=(seen >= 0).float(), labels=labels[seen]))
    found = coat([Scene(rig, view) for view in bare])
    assert found.abs().max() < 0.01 and found.abs().mean() < 0.001


def test_no_outline_in_the_picture_tells_nothing(rig, views):
    full = [replace(view, alpha=torch.ones(SIZE, SIZE)) for view in views]
    assert (coat([Scene(rig, view) for view in full]).abs() < 1e-6).all()


def test_splats_of_hair_start_on_its_surface(rig, views, thick):
    splats = seed(rig, views, 4000)
    hair = (rig.regions[splats.triangle] == Region.HAIR) & (splats.shown == 1) & (splats.bary.min(1).values > 0)
    wanted = (thick[rig.faces[splats.triangle]] * splats.bary).sum(1)
    sheet = (splats.bary == 1 / 3).all(1)
    bound = hair & ~sheet
    torch.testing.assert_close(splats.offset[bound].norm(dim=1), wanted[bound], atol=0.004, rtol=0)
    assert splats.offset[bound, 2].quantile(0.8) > 0.6 * HAIR
    assert (splats.reach[bound] >= splats.offset[bound].norm(dim=1)).all()


def test_what_bleeds_in_from_behind_colours_nobody(rig: PersonalRig, views: list[View]):
    blue, grey = torch.tensor([0.0, 0.2, 1.0]), torch.full((SIZE, SIZE, 3), 0.5)
    stained = []
    for view in views:
        person, dressed = view.alpha > 0, view.labels == Region.TORSO
        near = [
            max_pool2d((~part).float()[None, None], 3, 1, 1)[0, 0] > 0 for part in (person & dressed, person & ~dressed)
        ]
        fringe = (near[0] & near[1])[..., None]  # a pixel along every edge between person, clothes and background
        stained.append(replace(view, rgb=torch.where(fringe, blue, grey)))
    splats = seed(rig, stained, 4000)
    bare = torch.isin(rig.regions[splats.triangle].long(), torch.tensor([int(Region.SKIN), int(Region.NECK)]))
    colour = splats.raw_colour[bare & (splats.bary < 0.999).all(1)].sigmoid()
    assert ((colour[:, 2] - colour[:, 0]) > 0.1).float().mean() < 0.02
