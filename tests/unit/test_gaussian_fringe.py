"""Colours at the outline lose the background that the film mixed into them, and no other colour changes."""

from dataclasses import replace

import torch
from torch import Tensor

from avatar.core import MotionFrame, Region, RenderRequest
from avatar.models.gaussian_fringe import Fringe
from avatar.models.gaussian_head import GaussianConfig, GaussianHead
from avatar.models.gaussian_upkeep import UpkeepConfig
from avatar.models.gaussian_view import View
from tests.contract import toy

SKIN, STUDIO = torch.tensor([0.8, 0.55, 0.45]), torch.tensor([0.05, 0.4, 0.95])
MIXED = 0.6 * SKIN + 0.4 * STUDIO
SIZE = 128


def filmed(studio: Tensor = STUDIO) -> View:
    """A person of one colour before a studio of another."""
    camera, motion = toy.camera(SIZE), toy.motion().frame(3)
    with torch.no_grad():
        alpha = toy.person().render(RenderRequest(camera=camera, motion=motion)).alpha
    labels = torch.where(alpha > 0.5, int(Region.SKIN), int(Region.BACKGROUND)).to(torch.uint8)
    rgb = alpha[..., None] * SKIN + (1 - alpha[..., None]) * studio
    return View(rgb=rgb, alpha=alpha, labels=labels, camera=camera, motion=motion)


def points(view: View) -> tuple[Tensor, Tensor, Tensor]:
    """Middles of the triangles that face the camera, and which lie at the outline and which well inside."""
    rig = toy.rig()
    middle = rig.posed(view.motion)[rig.faces].mean(1)
    pixel = view.camera.project(middle).long()
    near = (middle[:, 2] < middle[:, 2].median()) & (pixel == pixel.clamp(0, SIZE - 1)).all(1)
    pixel = pixel.clamp(0, SIZE - 1)
    solid = (view.alpha > 0.97).float()[None, None]
    depth = [-torch.nn.functional.max_pool2d(-solid, 2 * k + 1, 1, k)[0, 0][pixel[:, 1], pixel[:, 0]] for k in (1, 8)]
    return middle, near & (depth[0] < 0.5), near & (depth[1] > 0.5)


def cleaned(view: View, colour: Tensor, region: Region = Region.SKIN) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is mixed and the new colours, then which splats lie at the outline and which inside."""
    middle, rim, inside = points(view)

    def means(_: MotionFrame) -> Tensor:
        return middle

    regions = torch.full((len(middle),), int(region))
    mixed, own = Fringe(toy.rig(), [view]).cleaned(means, regions, colour.expand(len(middle), 3))
    return mixed, own, rim, inside


def test_at_the_outline_the_studio_goes_out_of_a_colour_and_inside_it_stays():
    mixed, own, rim, inside = cleaned(filmed(), MIXED)
    assert rim.sum() > 10 and inside.sum() > 50
    assert mixed[rim].float().mean() > 0.95 and not mixed[inside].any()
    assert (own[mixed] - SKIN).abs().max() < 0.1
    assert (own[inside] == MIXED).all()


def test_the_persons_own_colours_and_those_that_no_background_explains_stay():
    for colour in (SKIN, 0.95 * SKIN, torch.tensor([0.1, 0.9, 0.1])):
        mixed, own, *_ = cleaned(filmed(), colour)
        assert not mixed.any() and (own == colour).all()


def test_a_background_like_the_person_takes_nothing():
    mixed, *_ = cleaned(filmed(studio=SKIN + 0.02), 0.9 * SKIN)
    assert not mixed.any()


def test_eyes_lips_and_parts_that_were_hardly_seen_are_left_alone():
    for region in (Region.EYES, Region.LIPS, Region.MOUTH):
        assert not cleaned(filmed(), MIXED, region)[0].any()
    view = filmed()
    unseen = replace(view, labels=torch.zeros_like(view.labels))
    assert not cleaned(unseen, MIXED)[0].any()


def test_upkeep_holds_cleaned_colours_from_the_middle_of_the_training_on():
    view = filmed()
    config = GaussianConfig(splats=2000, basis=2, hidden=4, upkeep=UpkeepConfig(every=10_000))
    head = GaussianHead.from_views(toy.rig(), [view], toy.motion(), config)
    head.colour.data[:] = torch.logit(MIXED)
    keeper = head.upkeep(100)
    loose = keeper.homeward.clone()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.0)
    with torch.no_grad():
        out = head.render(RenderRequest(camera=view.camera, motion=view.motion))
    for step in range(50):
        keeper.after_step(step, out, optimizer)
    assert (keeper.homeward == loose).all()
    for step in range(50, 100):
        keeper.after_step(step, out, optimizer)
    held = (keeper.homeward == 1) & (loose == 0)
    assert 20 < held.sum() < 0.9 * len(head)
    assert (head.colour.data[held].sigmoid() - SKIN).abs().max() < 0.12
    assert set(keeper.to_tensors()) >= {"own", "homeward"}


def test_upkeep_without_cleaning_does_not_look_for_fringes():
    config = GaussianConfig(splats=500, basis=2, hidden=4, upkeep=UpkeepConfig(clean=0.0))
    assert GaussianHead.from_views(toy.rig(), [filmed()], toy.motion(), config).fringe is None
