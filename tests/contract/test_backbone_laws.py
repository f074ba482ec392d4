"""The laws of `avatar.models.base`, held against every backbone, fresh and after upkeep."""

import inspect
import re
from dataclasses import replace

import pytest
import torch

from avatar.core import RenderRequest
from avatar.models.avatar_model import BACKBONES
from avatar.models.base import AbstractBackbone
from avatar.models.field_head import FieldConfig, FieldHead
from avatar.models.field_net import EncodingConfig, NetConfig
from avatar.models.field_upkeep import OccupancyConfig
from avatar.models.gaussian_head import GaussianConfig, GaussianHead
from avatar.models.gaussian_upkeep import UpkeepConfig
from avatar.train import loop
from tests.contract import toy

SIZE = 48


def gaussian() -> GaussianHead:
    """A small head in the middle of its training: nothing at zero that a real one has not."""
    config = GaussianConfig(
        splats=500, seeded=0.8, basis=4, hidden=8, upkeep=UpkeepConfig(every=1, first=0.0, last=1.0)
    )
    torch.manual_seed(0)
    head = GaussianHead.from_views(toy.rig(10), [], toy.motion(), config)
    with torch.no_grad():
        head.basis.normal_(0, 0.3)
        head.conditioning.rigid.weight.normal_(0, 0.2)
        head.colour.add_(torch.randn_like(head.colour))
    return head.eval()


def field(net: NetConfig | None = None) -> FieldHead:
    """A small field in the middle of its training."""
    config = FieldConfig(
        encoding=EncodingConfig(levels=4, log2_rows=12, finest=64, plane_levels=2, plane_log2_rows=10),
        net=net or NetConfig(hidden=8), occupancy=OccupancyConfig(every=1, first=0.0, opaque=1e-3), code=4,
        motion_hidden=8,
    )  # fmt: skip
    torch.manual_seed(0)
    head = config.begin(toy.rig(10), [], toy.motion())
    with torch.no_grad():
        for table in head.encoding.tables:
            table.normal_(0, 0.05)
        head.conditioning.rigid.weight.normal_(0, 0.2)
    return head.eval()


def field_of_samples() -> FieldHead:
    """One with a network for each sample, and everything that published systems condition it with."""
    return field(NetConfig(sample_layers=1, hidden=8, geometry=4, view_degree=2, ambient=2))


def after_upkeep(backbone: AbstractBackbone) -> AbstractBackbone:
    """The same backbone after a few steps of training with upkeep at each."""
    backbone.train()
    upkeep = backbone.upkeep(4)
    optimizer = torch.optim.Adam(backbone.parameter_groups())
    for step in range(4):
        out = backbone.render(RenderRequest(camera=toy.camera(SIZE), motion=toy.motion().frame(step)))
        ((out.rgb - 0.5).square().mean() + upkeep.before_backward(step, out)).backward()
        optimizer.step()
        upkeep.after_step(step, out, optimizer)
        optimizer.zero_grad(set_to_none=True)
    return backbone.eval()


MAKERS = {
    "gaussian": gaussian,
    "gaussian after upkeep": lambda: after_upkeep(gaussian()),
    "field": field,
    "field after upkeep": lambda: after_upkeep(field()),
    "field of samples": field_of_samples,
}


@pytest.fixture(scope="module", params=list(MAKERS))
def backbone(request) -> AbstractBackbone:
    return MAKERS[request.param]()


@pytest.fixture
def asked() -> RenderRequest:
    return RenderRequest(camera=toy.camera(SIZE), motion=toy.motion().frame(7))


def test_every_backbone_is_held_to_the_laws():
    assert {name.split()[0] for name in MAKERS} == set(BACKBONES)


def test_the_training_loop_has_no_word_of_any():
    text = inspect.getsource(loop).lower()
    assert not [word for word in (*BACKBONES, "splat", "ray") if re.search(rf"\b{word}", text)]


@torch.no_grad()
def test_subset_equals_the_pixels_of_the_whole(backbone, asked):
    whole = backbone.render(asked)
    pixels = torch.tensor([[5, 9], [20, 24], [40, 3], [21, 30], [47, 47]])
    part = backbone.render(replace(asked, pixels=pixels))
    torch.testing.assert_close(part.rgb, whole.rgb[pixels[:, 0], pixels[:, 1]], atol=1e-5, rtol=0)
    torch.testing.assert_close(part.alpha, whole.alpha[pixels[:, 0], pixels[:, 1]], atol=1e-5, rtol=0)
    assert backbone.render(replace(asked, pixels=pixels[:0])).rgb.shape == (0, 3)


@torch.no_grad()
def test_window_equals_slice_of_image(backbone, asked):
    whole = backbone.render(asked)
    part = backbone.render(replace(asked, camera=asked.camera.crop(4, 8, 30, 22)))
    torch.testing.assert_close(part.rgb, whole.rgb[4:34, 8:30], atol=1e-5, rtol=0)
    torch.testing.assert_close(part.alpha, whole.alpha[4:34, 8:30], atol=1e-5, rtol=0)


@torch.no_grad()
def test_pixels_stay_in_bounds(backbone, asked):
    out = backbone.render(asked)
    assert out.rgb.shape == (SIZE, SIZE, 3) and out.alpha.shape == (SIZE, SIZE)
    assert torch.isfinite(out.rgb).all() and out.alpha.min() >= 0 and out.alpha.max() <= 1
    assert out.rgb.min() >= 0 and (out.rgb <= out.alpha[..., None] + 1e-5).all()
    assert out.alpha.max() > 0.9  # the person is there


@torch.no_grad()
def test_motion_far_outside_of_training_stays_finite(backbone, asked):
    wild = replace(asked.motion, expression=torch.full((52,), 3.0), neck=torch.tensor([1.0, -1.0, 1.0]))
    out = backbone.render(replace(asked, motion=wild))
    assert torch.isfinite(out.rgb).all() and (out.rgb <= out.alpha[..., None] + 1e-5).all()


@torch.no_grad()
def test_render_is_pure(backbone, asked):
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    motion = asked.motion.expression.clone()
    first, second = backbone.render(asked), backbone.render(asked)
    assert torch.equal(first.rgb, second.rgb) and torch.equal(first.alpha, second.alpha)
    assert torch.equal(asked.motion.expression, motion)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_picture_is_driven_by_the_expression(backbone, asked):
    expression = asked.motion.expression.clone().requires_grad_()
    out = backbone.render(replace(asked, motion=replace(asked.motion, expression=expression)))
    (gradient,) = torch.autograd.grad((out.rgb * torch.linspace(0, 1, SIZE)[:, None, None]).sum(), expression)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 1e-3


@torch.no_grad()
def test_picture_is_driven_by_the_pose_of_the_head(backbone, asked):
    moved = asked.motion.T_world_head.clone()
    moved[0, 3] += 0.05
    out = backbone.render(replace(asked, motion=replace(asked.motion, T_world_head=moved)))
    assert (out.alpha - backbone.render(asked).alpha).abs().mean() > 0.01


@torch.no_grad()
def test_round_trip_draws_the_same(backbone, asked):
    loaded = type(backbone).from_tensors(backbone.to_tensors(), backbone.rig)
    error = (loaded.render(asked).rgb - backbone.render(asked).rgb).abs()
    assert error.mean() < 1e-3 and (error > 0.03).float().mean() < 1e-2  # half precision, 8 bit basis
    again = type(backbone).from_tensors(loaded.to_tensors(), backbone.rig)
    assert (loaded.render(asked).rgb - again.render(asked).rgb).abs().mean() < 5e-4


def test_facts_are_plain_and_name_the_kind(backbone):
    facts = backbone.facts()
    assert facts["kind"] in BACKBONES and all(isinstance(v, str | int | float) for v in facts.values())


def test_parameter_groups_hold_every_trained_parameter_once(backbone):
    grouped = [id(p) for group in backbone.parameter_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in backbone.parameters())
